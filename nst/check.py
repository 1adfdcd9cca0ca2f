"""What is wrong with what a user asks for, found before anything is written, and told so that it can be mended.

Hydra writes its folder before a job starts. So a single run is composed and checked here beforehand, and Hydra's own
errors are put into words that name key, value and choices.
"""

import argparse
import difflib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nst import paths
from nst.errors import UserError, choices, one_line, problem
from nst.run_folder import RunFolder
from nst.source import PRESETS, Source, make_folder, parse, source_of


def checked(arguments: argparse.Namespace) -> tuple[Source, Path]:
    """Where a single run is composed from, once its configuration was found right, and its folder, which is made.

    ``arguments`` are the command line's, as Hydra parses them. Raises UserError with all that is wrong.
    """
    from nst.build import prepare  # imports torch, which --help need not wait for

    source = source_of(arguments)
    cfg = source.compose()
    params = OmegaConf.select(cfg, "hydra.sweeper.params")
    if params:
        named = OmegaConf.select(cfg, "hydra.runtime.choices.experiment")
        raise UserError(problem("experiment", named, f"a study, which sweeps {', '.join(params)}; run it with -m"))
    folder = Path(str(OmegaConf.select(cfg, "hydra.run.dir"))).absolute()
    chosen = any(override.key_or_group == "hydra.run.dir" for override in parse(arguments.overrides))
    problems = list(_folder_problems(folder, fresh=chosen and source.resumed is None))
    try:
        prepare(OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"]))
    except UserError as error:
        problems = [*error.problems, *problems]
    if problems:
        raise UserError(problems)
    return source, make_folder("hydra.run.dir", folder, source.overrides)


def check_groups(overrides: list[str]) -> None:
    """Refuses values that can't be the name of an option, which Hydra ends on with a traceback."""
    lines = []
    for override in parse(overrides):
        group = paths.configs() / override.key_or_group
        if not override.is_delete() and not override.is_sweep_override() and group.is_dir():
            value = override.value()
            if not isinstance(value, str | list):
                why = "there is no such option; " + choices(value, sorted(path.stem for path in group.glob("*.yaml")))
                lines.append(problem(override.key_or_group, value, why))
    if lines:
        raise UserError(lines)


def _folder_problems(folder: Path, *, fresh: bool) -> Iterator[str]:
    if fresh and RunFolder(folder).config.is_file():
        why = "this folder already holds a run"
        yield problem("hydra.run.dir", folder, f"{why}; go on with it by resume={folder}, or choose another")
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir():
        yield problem("hydra.run.dir", folder, f"can't be written: {existing} is not a folder")
    elif not os.access(existing, os.W_OK | os.X_OK):
        yield problem("hydra.run.dir", folder, f"can't be written: no permission in {existing}")


def explain(error: Exception, arguments: argparse.Namespace) -> list[str]:
    """Hydra's complaint in our words: every unknown option and every unknown key among the overrides."""
    unreadable = list(_unreadable(arguments.overrides))
    if unreadable:
        return unreadable
    try:
        source = source_of(arguments)
        with source.initialized():
            lines = list(_override_problems(source.name, source.overrides))
    except (UserError, HydraException, OmegaConfBaseException):
        lines = []
    return lines or [one_line(error)]


def _unreadable(overrides: list[str]) -> Iterator[str]:
    for text in overrides:
        try:
            parse([text])
        except HydraException as error:
            hint = f"a value with special characters needs quotes within the shell's: \"{text.partition('=')[0]}='…'\""
            yield f"{text}: this override can't be read ({str(error).splitlines()[0]}); {hint}"


def _override_problems(config_name: str, texts: list[str]) -> Iterator[str]:
    loader = GlobalHydra.instance().config_loader()
    refused: list[str] = []
    right, values = [], []
    for text, override in zip(texts, parse(texts), strict=True):
        options = loader.get_group_options(override.key_or_group)
        if not options:
            values.append(override)
            right += [text] if override.key_or_group == "hydra.searchpath" else []  # without which groups are missing
            continue
        wrong = [value for value in _values(override) if value not in (*options, "null")]
        if wrong:
            refused += wrong
            for value in wrong:
                yield problem(override.key_or_group, value, _why_no_option(override.key_or_group, value, options))
        elif not override.is_sweep_override() and not set(_values(override)) & set(refused):  # nor the preset of one
            right.append(text)
    cfg = compose(config_name, right, return_hydra_config=True)
    known = list(_keys(cfg))
    groups = [group for group in loader.list_groups("") if group != "hydra"]
    for override in values:
        key = override.key_or_group
        if not override.is_add() and not override.is_force_add() and key not in known:
            near = difflib.get_close_matches(key, known, n=3)
            roots = [root for root in known if "." not in root and root not in (*groups, "hydra")]
            hint = f"did you mean {', '.join(near)}?" if near else f"groups and keys: {', '.join([*groups, *roots])}"
            yield f"{override.input_line}: there is no key {key}; {hint}"


def _why_no_option(group: str, value: str, options: list[str]) -> str:
    if group in ("hydra/launcher", "hydra/sweeper") and (paths.configs() / PRESETS / f"{value}.yaml").is_file():
        return f"needs an extra: pip install 'nst[{value.partition('_')[0]}]'"
    return f"there is no such option; {choices(value, options)}"


def _values(override: Override) -> list[str]:
    if override.is_sweep_override():
        return [str(value) for value in override.sweep_string_iterator()]
    value = override.value()
    return [str(item) for item in value] if isinstance(value, list) else ["null" if value is None else str(value)]


def _keys(node: Any, prefix: str = "") -> Iterator[str]:
    for key in map(str, node):
        yield f"{prefix}{key}"
        if OmegaConf.is_missing(node, key) or OmegaConf.is_interpolation(node, key):
            continue
        if isinstance(node[key], DictConfig):
            yield from _keys(node[key], f"{prefix}{key}.")
