"""The command line around a Hydra job: mistakes first, all at once, before anything is written; exit status 2."""

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any, Literal

import yaml
from hydra._internal.utils import get_args_parser
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from nst import multirun, torchrun
from nst.check import check_groups, checked, explain
from nst.errors import DivergedError, UserError, of_disk
from nst.source import quoted, resumed_folder, source_of

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
        check_groups(arguments.overrides)
        kind = _kind(arguments)
        if kind != "plain" and torchrun.started():
            raise UserError("torchrun: starts a single run's processes; without it, trainer.devices=N starts its own")
        if kind == "plain":
            source, folder = checked(arguments)
            # Hydra composes again, maybe a second later: it must not think of another folder.
            sys.argv[1:] = [*source.flags, *source.overrides, f"hydra.run.dir={quoted(folder)}"]
        elif resumed_folder(arguments.overrides) is not None:
            raise UserError("resume: goes on with a single run; leave out -m (--multirun), --cfg and the like")
        if kind == "sweep":
            return multirun.run(source_of(arguments), arguments.overrides, task)
        if kind == "other":
            source = source_of(arguments)
            flags = source.flags if arguments.config_path is None and arguments.config_name is None else []
            sys.argv[1:] = [*options, *flags, *source.overrides]
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
        return _report(error.problems if isinstance(error, UserError) else explain(error, arguments))
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
