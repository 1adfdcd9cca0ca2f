"""Readable messages for Hydra's errors about a command line, with the key, the value and the choices."""

import argparse
import difflib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nst import paths
from nst.config import hydra_edge
from nst.config.hydra_edge import parse
from nst.config.source import PRESETS, Source, source_of
from nst.errors import UserError, choices, one_line, problem

#: Groups of which several options can be chosen at once.
SEVERAL = ("objective/style", "style/more")


def check_groups(given: list[Override]) -> None:
    """Raise UserError for values that can't be an option's name, for which Hydra would fail with a traceback."""
    lines = []
    for override in given:
        group = paths.configs() / override.key_or_group
        if not override.is_delete() and not override.is_sweep_override() and group.is_dir():
            value = override.value()
            if isinstance(value, list) and override.key_or_group not in SEVERAL:
                swept = f"{override.key_or_group}={','.join(map(str, value))}"
                further = "; further styles: style/more=[…]" if override.key_or_group == "style" else ""
                lines.append(f"{override.input_line}: takes one option, or several with -m: {swept}{further}")
            elif not isinstance(value, str | list):
                why = "there is no such option; " + choices(value, sorted(path.stem for path in group.glob("*.yaml")))
                lines.append(problem(override.key_or_group, value, why))
    if lines:
        raise UserError(lines)


def explain(error: Exception, arguments: argparse.Namespace) -> list[str]:
    """Return Hydra's error as readable lines: unreadable overrides, else unknown options and keys, else the error."""
    unreadable = list(_unreadable(arguments.overrides))
    if unreadable:
        return unreadable
    try:
        source = source_of(arguments)
        with hydra_edge.loader(source.folder) as options:
            lines = list(_override_problems(options, source))
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


def _override_problems(loader: ConfigLoader, source: Source) -> Iterator[str]:
    texts = source.overrides
    refused: list[str] = []
    right, values = [], []
    for text, override in zip(texts, parse(texts), strict=True):
        options = loader.get_group_options(override.key_or_group)
        if not options:
            values.append(override)
            right += [text] if override.key_or_group == "hydra.searchpath" else []  # groups may be missing without it
            continue
        wrong = [value for value in _values(override) if value not in (*options, "null")]
        if wrong:
            refused += wrong
            for value in wrong:
                yield problem(override.key_or_group, value, _why_no_option(override.key_or_group, value, options))
        elif not override.is_sweep_override() and not set(_values(override)) & set(refused):  # nor its preset
            right.append(text)
    cfg = replace(source, overrides=right).compose().cfg
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
