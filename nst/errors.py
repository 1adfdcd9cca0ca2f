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
    """A loss or a gradient became infinite or not a number."""


def problem(key: str, value: object, why: str) -> str:
    """One line about one mistake: ``key=value: why``."""
    return f"{key}={'null' if value is None else value}: {why}"


def choices(value: object, valid: Iterable[object], *, noun: str = "choices") -> str:
    """The valid choices, the nearest to ``value`` first where one is near: ``did you mean …? choices: …``."""
    names = [str(name) for name in valid]
    near = difflib.get_close_matches(str(value), names, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"{hint}{noun}: {', '.join(names)}"
