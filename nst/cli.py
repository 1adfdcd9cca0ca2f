"""The command line around a Hydra job: mistakes first, all at once, before anything is written; exit status 2.

Hydra writes its folder before a job starts and ends with status 1 and part of a traceback. So a plain run is composed
and checked here beforehand, and Hydra's own errors are put into words that name key, value and choices.
"""

import argparse
import contextlib
import difflib
import itertools
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nst import paths
from nst.errors import DivergedError, UserError, choices, one_line, problem

#: The keys, or the groups of keys, that a run may change when it goes on.
MAY_CHANGE = ("evaluations", "threads", "assets", "trainer", "callbacks")


def run(task: Callable[[], Any]) -> int:
    """Runs a ``hydra.main`` task with the process's arguments and returns the exit status.

    0: done; 1: the run failed or diverged; 2: the user's mistake, told in one message.
    """
    arguments, options = _arguments(sys.argv[1:])
    tracebacks = os.environ.get("HYDRA_FULL_ERROR") == "1"  # Hydra's own way to ask for them
    os.environ["HYDRA_FULL_ERROR"] = "1"  # so that exceptions reach us instead of Hydra's own report
    try:
        sys.argv[1:] = [*options, *arguments.overrides]  # Hydra itself wants them in this order
        _check_groups(arguments.overrides)
        if _is_plain_run(arguments):
            sys.argv[1:] = _check(arguments)
        elif _resumed_folder(arguments.overrides) is not None:
            raise UserError("resume: goes on with a single run; leave out -m (--multirun), --cfg and the like")
        task()
    except KeyboardInterrupt:
        print("error: interrupted before the run began; nothing was painted", file=sys.stderr)
        return 128 + signal.SIGINT
    except (UserError, HydraException, OmegaConfBaseException, yaml.YAMLError, DivergedError) as error:
        if tracebacks:
            raise
        if isinstance(error, DivergedError):
            print(f"error: the run diverged: {error}. Try a smaller optimizer.lr or weights.style.", file=sys.stderr)
            return 1
        return _report(error.problems if isinstance(error, UserError) else _explain(error, arguments))
    finally:
        if not tracebacks:
            del os.environ["HYDRA_FULL_ERROR"]
    return 0


def _arguments(words: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """What Hydra's parser makes of the words, and those words that are options, not overrides."""
    arguments = get_args_parser().parse_intermixed_args(words)
    options: list[str] = []
    overrides = list(arguments.overrides)
    for word in reversed(words):  # overrides and options keep their order, so the last of each match first
        if overrides and word == overrides[-1]:
            overrides.pop()
        else:
            options.insert(0, word)
    return arguments, options


def _check_groups(overrides: list[str]) -> None:
    """Refuses values that can't be the name of an option, which Hydra ends on with a traceback."""
    lines = []
    for override in _parse(overrides):
        group = paths.configs() / override.key_or_group
        if not override.is_delete() and not override.is_sweep_override() and group.is_dir():
            value = override.value()
            if not isinstance(value, str | list):
                why = "there is no such option; " + choices(value, sorted(path.stem for path in group.glob("*.yaml")))
                lines.append(problem(override.key_or_group, value, why))
    if lines:
        raise UserError(lines)


def _report(problems: list[str]) -> int:
    for line in problems:
        print(f"error: {line}", file=sys.stderr)
    return 2


def _is_plain_run(arguments: argparse.Namespace) -> bool:
    others = (
        "help",
        "hydra_help",
        "version",
        "multirun",
        "cfg",
        "info",
        "shell_completion",
        "experimental_rerun",
    )
    multirun = any(override.lower() == "hydra.mode=multirun" for override in arguments.overrides)
    return not multirun and not any(getattr(arguments, name, None) for name in others)


def _check(arguments: argparse.Namespace) -> list[str]:
    """The arguments for Hydra, once the configuration that they make was found right and its folder made."""
    from nst.build import prepare  # imports torch, which --help need not wait for

    source = _source(arguments)
    cfg = source.compose()
    folder = Path(str(OmegaConf.select(cfg, "hydra.run.dir"))).absolute()
    problems = list(_folder_problems(folder, fresh=source.resumed is None))
    try:
        prepare(OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"]))
    except UserError as error:
        problems = [*error.problems, *problems]
    if problems:
        raise UserError(problems)
    chosen = source.resumed is not None or any(o.key_or_group == "hydra.run.dir" for o in _parse(arguments.overrides))
    try:
        folder = _made(folder, chosen=chosen)
    except OSError as error:
        raise UserError(problem("hydra.run.dir", folder, f"can't be written: {error.strerror}")) from error
    # Hydra composes again, maybe a second later: it must not think of another folder.
    return [*source.flags, *source.overrides, f"hydra.run.dir={_quoted(folder)}"]


def _made(folder: Path, *, chosen: bool) -> Path:
    """Makes the folder; one that is named by the clock gets a number where another run has the same second."""
    if chosen:
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    for number in itertools.count(1):
        numbered = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        with contextlib.suppress(FileExistsError):
            numbered.mkdir(parents=True)
            return numbered
    raise AssertionError


@dataclass(frozen=True)
class _Source:
    """Where a configuration is composed from."""

    folder: Path
    name: str
    overrides: list[str]
    flags: list[str]
    resumed: Path | None = None

    def compose(self) -> DictConfig:
        """The configuration, Hydra's own part included."""
        with initialize_config_dir(str(self.folder), job_name="train", version_base="1.3"):
            return compose(self.name, self.overrides, return_hydra_config=True)


def _source(arguments: argparse.Namespace) -> _Source:
    """The project's configurations, or what an earlier run saved when it is to go on."""
    overrides = list(arguments.overrides)
    resumed = _resumed_folder(overrides)
    if resumed is not None:
        return _resumed(resumed, overrides)
    if arguments.config_dir is not None:  # Hydra's compose() knows it by this name only
        if not Path(arguments.config_dir).is_dir():
            raise UserError(f"--config-dir={arguments.config_dir}: there is no such folder")
        overrides.append(_search(Path(arguments.config_dir).absolute()))
    folder = Path(arguments.config_path).absolute() if arguments.config_path is not None else paths.configs()
    name = arguments.config_name if arguments.config_name is not None else "train"
    return _Source(folder, name, overrides, ["--config-path", str(folder), "--config-name", name])


def _resumed(folder: Path, overrides: list[str]) -> _Source:
    from nst.run_folder import RunFolder

    saved = RunFolder(folder).config
    if not saved.is_file():
        why = f"this folder is no run: it has no {saved.name}" if folder.is_dir() else "there is no such folder"
        raise UserError(problem("resume", folder, f"{why}; give a folder that nst.train made"))
    lines = [
        problem(
            "resume", folder, f"goes on with the {key} that the run began with; may change: {', '.join(MAY_CHANGE)}"
        )
        for key in (override.key_or_group for override in _parse(overrides))
        if key != "resume" and key.partition(".")[0] not in MAY_CHANGE
    ]
    if lines:
        raise UserError(lines)
    hydra = [
        _search(paths.configs()),
        "hydra/job_logging=nst",
        "hydra.output_subdir=null",  # .hydra/ keeps what the run began with
        f"hydra.run.dir={_quoted(folder)}",
    ]
    flags = ["--config-path", str(folder), "--config-name", saved.stem]
    return _Source(folder, saved.stem, [*overrides, *hydra], flags, folder)


def _resumed_folder(overrides: list[str]) -> Path | None:
    """The folder that ``resume`` names, however it is spelled; None for a new run."""
    with contextlib.suppress(HydraException):
        named = [override.value() for override in _parse(overrides) if override.key_or_group == "resume"]
        if named and named[-1] is not None:
            return paths.of_user(str(named[-1])).absolute()
    return None


def _folder_problems(folder: Path, *, fresh: bool) -> Iterator[str]:
    from nst.run_folder import RunFolder

    if fresh and RunFolder(folder).config.is_file():
        why = "this folder already holds a run"
        yield problem("hydra.run.dir", folder, f"{why}; go on with it by resume={folder}, or choose another")
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir():
        yield problem("hydra.run.dir", folder, f"can't be written: {existing} is not a folder")
    elif not os.access(existing, os.W_OK | os.X_OK):
        yield problem("hydra.run.dir", folder, f"can't be written: no permission in {existing}")


def _explain(error: Exception, arguments: argparse.Namespace) -> list[str]:
    """Hydra's complaint in our words: every unknown option and every unknown key among the overrides."""
    unreadable = list(_unreadable(arguments.overrides))
    if unreadable:
        return unreadable
    try:
        source = _source(arguments)
        with initialize_config_dir(str(source.folder), job_name="train", version_base="1.3"):
            lines = list(_override_problems(source.name, source.overrides))
    except (UserError, HydraException, OmegaConfBaseException):
        lines = []
    return lines or [one_line(error)]


def _unreadable(overrides: list[str]) -> Iterator[str]:
    for text in overrides:
        try:
            _parse([text])
        except HydraException as error:
            hint = f"a value with special characters needs quotes within the shell's: \"{text.partition('=')[0]}='…'\""
            yield f"{text}: this override can't be read ({str(error).splitlines()[0]}); {hint}"


def _override_problems(config_name: str, texts: list[str]) -> Iterator[str]:
    loader = GlobalHydra.instance().config_loader()
    right, values = [], []
    for text, override in zip(texts, _parse(texts), strict=True):
        options = loader.get_group_options(override.key_or_group)
        if not options:
            values.append(override)
            continue
        wrong = [value for value in _values(override) if value not in (*options, "null")]
        if wrong:
            for value in wrong:
                yield problem(override.key_or_group, value, f"there is no such option; {choices(value, options)}")
        elif not override.is_sweep_override():
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


def _parse(overrides: list[str]) -> list[Override]:
    return OverridesParser.create().parse_overrides(overrides)


def _search(folder: Path) -> str:
    return f"hydra.searchpath=[{_quoted(f'file://{folder}')}]"


def _quoted(value: object) -> str:
    """A value as Hydra's grammar reads it back, whatever characters it has."""
    escaped = str(value).replace("'", "\\'")
    return f"'{escaped}'"
