"""Overrides as users type them: the value of a key that names a file needs no quotes for Hydra's grammar."""

import re
from collections.abc import Iterator, Sequence

from nst import paths
from nst.config.hydra_edge import quoted

#: Keys that name a file or a folder, besides those that end in one of ``_ENDINGS``.
_KEYS = ("encoder.weights", "encoder.normalize_on", "resume", "rerun", "hydra.run.dir", "hydra.sweep.dir")
_ENDINGS = ("path", "mask", "region")

#: What Hydra's grammar reads as it stands, strings in quotes, and functions of a sweep.
_PLAIN = re.compile(r"[\w./:@%+-]*", re.ASCII)
_QUOTED = re.compile(r"'([^'\\]|\\.)*'|\"([^\"\\]|\\.)*\"")
_FUNCTION = re.compile(r"(choice|range|interval|glob|shuffle|sort|tag|extend_list)\(.*\)", re.DOTALL)


def with_quoted_paths(words: Sequence[str], *, sweep: bool) -> list[str]:
    """Return overrides in which the values of keys that name files are quoted where Hydra's grammar needs it.

    In a sweep commas separate values, unless there is a file of that whole name.
    """
    return [_with_quoted_path(word, sweep=sweep) for word in words]


def _with_quoted_path(word: str, *, sweep: bool) -> str:
    key, equals, value = word.partition("=")
    name = key.lstrip("+")
    if not equals or not (name in _KEYS or name.rpartition(".")[2] in _ENDINGS):
        return word
    swept = sweep and not name.startswith("hydra.") and not _exists(value)
    values = _split(value) if swept else [value]
    return f"{key}={','.join(map(_quoted, values))}"


def _quoted(value: str) -> str:
    if _PLAIN.fullmatch(value) or _QUOTED.fullmatch(value):
        return value
    if ("${" in value or value.startswith("{") or _FUNCTION.fullmatch(value)) and not _exists(value):
        return value
    return quoted(value)


def _split(value: str) -> list[str]:
    """Return the values between commas outside of quotes and of a function's parentheses."""
    if _FUNCTION.fullmatch(value):
        return [value]
    return list(_parts(value))


def _parts(value: str) -> Iterator[str]:
    start = place = 0
    while place < len(value):
        string = _QUOTED.match(value, place) if place == start else None
        if string is not None:
            place = string.end()
        elif value[place] == ",":
            yield value[start:place]
            start = place = place + 1
        else:
            place += 1
    yield value[start:]


def _exists(value: str) -> bool:
    try:
        return paths.of_user(value).exists()
    except (OSError, RuntimeError, ValueError):  # too long a name, no home folder, a null byte
        return False
