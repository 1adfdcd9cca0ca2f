"""The command line around a Hydra job: mistakes first, all at once, before anything is written; exit status 2.

Hydra writes its folder before a job starts and ends with status 1 and part of a traceback. So a plain run is composed
and checked here beforehand, and Hydra's own errors are put into words that name key, value and choices.
"""

import argparse
import difflib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import yaml
from hydra import compose
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nst import multirun, paths, torchrun
from nst.errors import DivergedError, UserError, choices, of_disk, one_line, problem
from nst.run_folder import RunFolder
from nst.source import PRESETS, make_folder, parse, quoted, resumed_folder, source_of

_AGAINST_DIVERGENCE = "Try a smaller optimizer.lr or weights.style, optimizer=lbfgs, or precision=32."


def run(task: Callable[[], Any]) -> int:
    """Runs a ``hydra.main`` task with the process's arguments and returns the exit status.

    0: done; 1: the run failed or diverged; 2: the user's mistake, told in one message.
    """
    arguments, options = _arguments(sys.argv[1:])
    logging.raiseExceptions = False  # what can't be logged, as on a full disk, is no reason for a traceback
    threading.excepthook = _leave_to_main_thread
    tracebacks = os.environ.get("HYDRA_FULL_ERROR") == "1"  # Hydra's own way to ask for them
    os.environ["HYDRA_FULL_ERROR"] = "1"  # so that exceptions reach us instead of Hydra's own report
    try:
        sys.argv[1:] = [*options, *arguments.overrides]  # Hydra itself wants them in this order
        _check_groups(arguments.overrides)
        kind = _kind(arguments)
        if kind != "plain" and torchrun.started():
            raise UserError("torchrun: starts a single run's processes; without it, trainer.devices=N starts its own")
        if kind == "plain":
            sys.argv[1:] = _check(arguments)
        elif resumed_folder(arguments.overrides) is not None:
            raise UserError("resume: goes on with a single run; leave out -m (--multirun), --cfg and the like")
        if kind == "sweep":
            return multirun.run(source_of(arguments), arguments.overrides, task)
        if kind == "other":
            sys.argv[1:] = [*options, *source_of(arguments).overrides]
        task()
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except (UserError, HydraException, OmegaConfBaseException, yaml.YAMLError, DivergedError, OSError) as error:
        if tracebacks:
            raise
        if isinstance(error, DivergedError):
            print(f"error: the run diverged: {error}. {_AGAINST_DIVERGENCE}", file=sys.stderr)
            return 1
        if isinstance(error, OSError) and not isinstance(error, HydraException):  # some of Hydra's are both
            print(f"error: the run failed: {of_disk(error)}", file=sys.stderr)
            return 1
        return _report(error.problems if isinstance(error, UserError) else _explain(error, arguments))
    finally:
        if not tracebacks:
            del os.environ["HYDRA_FULL_ERROR"]
    return 0


def _leave_to_main_thread(failure: threading.ExceptHookArgs) -> None:
    """A logger's own thread that can't write says so to the main thread, which ends the run."""
    if not issubclass(failure.exc_type, OSError):
        threading.__excepthook__(failure)


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
    for override in parse(overrides):
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


def _kind(arguments: argparse.Namespace) -> Literal["plain", "sweep", "other"]:
    """Whether a run, a sweep, or one of the things that Hydra only shows is asked for."""
    others = ("help", "hydra_help", "version", "cfg", "info", "shell_completion", "experimental_rerun")
    if any(getattr(arguments, name, None) for name in others):
        return "other"
    multirun = arguments.multirun or any(o.lower() == "hydra.mode=multirun" for o in arguments.overrides)
    return "sweep" if multirun else "plain"


def _check(arguments: argparse.Namespace) -> list[str]:
    """The arguments for Hydra, once the configuration that they make was found right and its folder made."""
    from nst.build import prepare  # imports torch, which --help need not wait for

    source = source_of(arguments)
    cfg = source.compose()
    params = OmegaConf.select(cfg, "hydra.sweeper.params")
    if params:
        named = OmegaConf.select(cfg, "hydra.runtime.choices.experiment")
        raise UserError(problem("experiment", named, f"a study, which sweeps {', '.join(params)}; run it with -m"))
    folder = Path(str(OmegaConf.select(cfg, "hydra.run.dir"))).absolute()
    problems = list(_folder_problems(folder, fresh=source.resumed is None))
    try:
        prepare(OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"]))
    except UserError as error:
        problems = [*error.problems, *problems]
    if problems:
        raise UserError(problems)
    folder = make_folder("hydra.run.dir", folder, source.overrides)
    # Hydra composes again, maybe a second later: it must not think of another folder.
    return [*source.flags, *source.overrides, f"hydra.run.dir={quoted(folder)}"]


def _folder_problems(folder: Path, *, fresh: bool) -> Iterator[str]:
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
