"""Exceptions for the user's mistakes and for diverged runs, and functions that format messages."""

import contextlib
import difflib
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TypeVar

T = TypeVar("T")


class UserError(Exception):
    """One or several mistakes of the user, each one line with the key, the value and the valid choices.

    The command line prints the lines, without a traceback, and exits with status 2.
    """

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class DivergedError(Exception):
    """The error of a run with an exploding loss, or with a loss or a gradient that is infinite or NaN."""


def say_what_is_missing(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print one line, without a traceback, if a package that nst needs is not installed; exit with status 2.

    This is the ``sys.excepthook`` of nst's commands. Other errors have their traceback, as all do with
    ``HYDRA_FULL_ERROR=1``.
    """
    name = error.name if isinstance(error, ModuleNotFoundError) else None
    ours = name is None or "." in name or name == "nst" or name in sys.stdlib_module_names
    if ours or os.environ.get("HYDRA_FULL_ERROR") == "1":
        sys.__excepthook__(kind, error, trace)
        return
    line = (
        f"{name} is not installed for {sys.executable}; in a checkout: run make setup, then source .venv/bin/activate; "
        "in an environment of your own: pip install '.[studio]'"
    )
    print(f"error: {line}", file=sys.stderr)
    raise SystemExit(2)


def attempt(lines: list[str], action: Callable[[], T]) -> T | None:
    """Return the action's result; None if it is the user's mistake, whose lines are added to ``lines``."""
    try:
        return action()
    except UserError as error:
        lines += error.problems
        return None


def of_disk(error: OSError) -> str:
    """Return the file that can't be read or written, if known, and the reason."""
    reason = error.strerror or str(error)
    return reason if error.filename is None else f"{error.filename}: {reason}"


def problem(key: str, value: object, why: str) -> str:
    """Return one line about one mistake: ``key=value: why``."""
    text = "null" if value is None else written(value) if isinstance(value, float) else str(value)
    if isinstance(value, float) and text.lstrip("-").isdigit():
        text += ".0"  # or the value would look like an integer
    return f"{key}={text}: {why}"


def written(value: float, digits: int = 6) -> str:
    """Return a number as written on the command line, with at most ``digits`` digits: ``1e5``, ``0.25``."""
    plain = f"{value:.{digits}g}"
    mantissa, e, exponent = f"{value:.{digits - 1}e}".partition("e")
    if not e or ("e" not in plain and abs(int(exponent)) < 4):
        return plain
    mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    return min(plain, f"{mantissa}e{int(exponent)}", key=len)


def typed(word: str) -> str:
    """Return an override with its number as it is typed: ``weights.style=1e5``, which Hydra writes as 100000.0."""
    key, _, value = word.partition("=")
    try:
        short = value if value.lstrip("-").isdigit() else written(float(value))
        return f"{key}={short}" if float(short) == float(value) else word
    except ValueError:
        return word


def count(number: int, noun: str) -> str:
    """Return a number with its noun: ``1 evaluation``, ``2 evaluations``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def one_line(error: Exception) -> str:
    """Return a multi-line error of Hydra or OmegaConf as one line: the key, if there is one, and the reason."""
    reason, *details = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    reason = reason.removesuffix(", set env var HYDRA_FULL_ERROR=1 to see chained exception.")
    cause = error.__cause__
    while cause is not None and cause.__cause__ is not None:
        cause = cause.__cause__
    if cause is not None and str(cause) and str(cause).splitlines()[0] not in reason:
        reason = f"{reason}: {str(cause).splitlines()[0]}"
    keys = [line.removeprefix("full_key:").strip() for line in details if line.startswith("full_key:")]
    return f"{keys[0]}: {reason}" if keys else reason


def check_encoding(texts: Iterable[str]) -> None:
    """Raise UserError for names that can't be written as text, into the configuration for example."""
    for text in texts:
        if any("\udc80" <= character <= "\udcff" for character in text):
            why = "this name isn't in your locale's encoding; rename the file, or set a UTF-8 locale (LC_ALL=C.UTF-8)"
            raise UserError(f"{text}: {why}")


def choices(value: object, valid: Iterable[object], *, noun: str = "choices") -> str:
    """Return the valid choices, after a suggestion if one is close to ``value``: ``did you mean …? choices: …``."""
    names = [str(name) for name in valid]
    near = difflib.get_close_matches(str(value).lower(), names, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"{hint}{noun}: {listed(names)}"


def no_file(path: Path, noun: str = "file") -> str:
    """Return why a missing file can't be used, after it the name in its folder that is most like the given one."""
    why = f"there is no such {noun}"
    names: dict[str, str] = {}
    with contextlib.suppress(OSError):
        names = {name.lower(): name for name in sorted(each.name for each in path.parent.iterdir())}
    near = difflib.get_close_matches(path.name.lower(), names, n=1, cutoff=0.75)
    return f"{why}; did you mean {names[near[0]]}?" if near else why


def file_problem(path: Path) -> str | None:
    """Return why a path can't be read as a file: it is missing, or something else; None for a file."""
    if path.is_file():
        return None
    if path.is_dir():
        return "this is a folder, not a file"
    return "this is not a file" if path.exists() else no_file(path)


def folder_problem(path: Path) -> str | None:
    """Return why a path can't be used as a folder: it is missing, or something else; None for a folder."""
    if path.is_dir():
        return None
    if path.is_file():
        return "this is a file, not a folder"
    return "this is not a folder" if path.exists() else no_file(path, "folder")


def listed(names: Sequence[str]) -> str:
    """Return the names, separated by commas. Of more than 40, return the first and the last few."""
    some = names if len(names) <= 40 else [*names[:15], f"… ({len(names) - 20} more)", *names[-5:]]
    return ", ".join(some)
