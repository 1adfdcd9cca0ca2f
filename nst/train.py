"""The command line: ``python -m nst.train style=starry_night optimizer=lbfgs``.

The user's mistakes are reported all at once, before anything is written, with the exit status 2.
"""

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import hydra
import yaml
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from nst.config import hydra_edge
from nst.config.mistakes import check_groups, explain
from nst.config.overrides import with_quoted_paths
from nst.config.source import source_of
from nst.errors import DivergedError, UserError, check_encoding, of_disk
from nst.files import paths
from nst.files.streams import unfailing_streams
from nst.plan import torchrun

_AGAINST_DIVERGENCE = "Try a smaller optimizer.lr or weights.style, optimizer=lbfgs, or precision=32."


@unfailing_streams()
def main(words: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status.

    0: done; 1: the run failed or diverged; 2: the user made a mistake, reported in one message.
    """
    if not torchrun.is_first():
        from nst.run.follow import follow

        return follow(torchrun.hear())
    words = _with_help(sys.argv[1:] if words is None else words)
    try:
        check_encoding(words)
        arguments = hydra_edge.arguments(words)
    except UserError as error:
        return _print(error.problems)
    others = [word for word in words if word not in arguments.overrides]
    arguments.overrides = with_quoted_paths(arguments.overrides, sweep=_kind(arguments) == "sweep")
    logging.raiseExceptions = False  # no traceback if logging fails, e.g. on a full disk
    threading.excepthook = _leave_to_main_thread
    try:
        return _run(arguments, others)
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except (UserError, HydraException, OmegaConfBaseException, yaml.YAMLError, DivergedError, OSError) as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":  # Hydra's switch for tracebacks
            raise
        return _report(error, arguments)


def _with_help(words: Sequence[str]) -> list[str]:
    """Return the command line with ``--help-all`` replaced by Hydra's own help, which configs/hydra/help/ shortens."""
    if "--help-all" not in words:
        return list(words)
    return [*(word for word in words if word != "--help-all"), "--help", "hydra/help=default"]


def _run(arguments: argparse.Namespace, others: Sequence[str]) -> int:
    check_encoding([str(Path.cwd())])
    given = hydra_edge.parse(arguments.overrides)
    check_groups(given)
    kind = _kind(arguments)
    if kind != "plain" and torchrun.started():
        raise UserError("torchrun: can only start a single run; without it, trainer.devices=N starts its own processes")
    if kind == "plain":
        from nst.run import single  # --help needs neither this nor a sweep's

        single.run(arguments)
        return 0
    if any(override.key_or_group == "resume" for override in given):
        raise UserError("resume: continues a single run; leave out -m (--multirun), --cfg and similar flags")
    source = source_of(arguments)
    if kind == "sweep":
        from nst.sweep import command

        return command.run(source, arguments.overrides)
    flags = source.flags if arguments.config_path is None and arguments.config_name is None else []
    with _complaining(), hydra_edge.shared_store(), source.readable():
        sys.argv[1:] = [*others, *flags, *source.overrides]
        _shown()
    return 0


@hydra.main(version_base="1.3", config_path=str(paths.configs()), config_name="train")
def _shown(cfg: DictConfig) -> None:
    """Let Hydra print the requested output: its help, the configuration or completions."""


@contextmanager
def _complaining() -> Iterator[None]:
    """Let Hydra raise its exceptions instead of reporting them."""
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = before


def _report(error: Exception, arguments: argparse.Namespace) -> int:
    """Print what went wrong; return the exit status."""
    if isinstance(error, DivergedError):
        print(f"error: the run diverged: {error}. {_AGAINST_DIVERGENCE}", file=sys.stderr)
        return 1
    if isinstance(error, OSError) and not isinstance(error, HydraException):  # some of Hydra's exceptions are both
        print(f"error: the run failed: {of_disk(error)}", file=sys.stderr)
        return 1
    return _print(error.problems if isinstance(error, UserError) else explain(error, arguments))


def _print(problems: Sequence[str]) -> int:
    """Print the lines of a user's mistakes; return the exit status."""
    for line in problems:
        print(f"error: {line}", file=sys.stderr)
    return 2


def _leave_to_main_thread(failure: threading.ExceptHookArgs) -> None:
    """Ignore an OSError in a logger's thread, which passes it to the main thread, where it ends the run."""
    if not issubclass(failure.exc_type, OSError):
        threading.__excepthook__(failure)


def _kind(arguments: argparse.Namespace) -> Literal["plain", "sweep", "other"]:
    """Return whether the command line requests a run, a sweep, or output that Hydra only prints."""
    others = ("help", "hydra_help", "version", "cfg", "info", "shell_completion", "experimental_rerun")
    if any(getattr(arguments, name, None) for name in others):
        return "other"
    multirun = arguments.multirun or any(word.lower() == "hydra.mode=multirun" for word in arguments.overrides)
    return "sweep" if multirun else "plain"


if __name__ == "__main__":
    sys.exit(main())
