"""What a user can do wrong, told so that it can be mended."""

import difflib
from collections.abc import Iterable, Sequence


class UserError(Exception):
    """One or several mistakes of the user, each a line that names key, value and valid choices.

    The command line prints the lines, without a traceback, and exits with status 2.
    """

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class DivergedError(Exception):
    """A loss exploded, or a loss or a gradient became infinite or not a number."""


def of_disk(error: OSError) -> str:
    """What can't be read or written, and why."""
    reason = error.strerror or str(error)
    return reason if error.filename is None else f"{error.filename}: {reason}"


def problem(key: str, value: object, why: str) -> str:
    """One line about one mistake: ``key=value: why``."""
    return f"{key}={'null' if value is None else value}: {why}"


def one_line(error: Exception) -> str:
    """What Hydra and OmegaConf tell in several lines: the key, where there is one, and the reason."""
    reason, *details = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    reason = reason.removesuffix(", set env var HYDRA_FULL_ERROR=1 to see chained exception.")
    cause = error.__cause__
    while cause is not None and cause.__cause__ is not None:
        cause = cause.__cause__
    if cause is not None and str(cause) and str(cause).splitlines()[0] not in reason:
        reason = f"{reason}: {str(cause).splitlines()[0]}"
    keys = [line.removeprefix("full_key:").strip() for line in details if line.startswith("full_key:")]
    return f"{keys[0]}: {reason}" if keys else reason


def choices(value: object, valid: Iterable[object], *, noun: str = "choices") -> str:
    """The valid choices, the nearest to ``value`` first where one is near: ``did you mean …? choices: …``."""
    names = [str(name) for name in valid]
    near = difflib.get_close_matches(str(value), names, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"{hint}{noun}: {', '.join(names)}"
