"""Overrides as users write them, in Hydra's grammar: file names without quotes, and keyword arguments of Python."""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from nst.errors import UserError, problem
from nst.files import paths

#: Keys that name a file or a folder, besides those that end in one of ``_ENDINGS``.
_KEYS = ("encoder.weights", "encoder.normalize_on", "resume", "rerun", "hydra.run.dir", "hydra.sweep.dir")
_ENDINGS = ("path", "mask", "region")

#: What Hydra's grammar reads as it stands, strings in quotes, and functions of a sweep.
_PLAIN = re.compile(r"[\w./:@%+-]*", re.ASCII)
_QUOTED = re.compile(r"'([^'\\]|\\.)*'|\"([^\"\\]|\\.)*\"")
#: Texts that Hydra's grammar reads as texts without quotes, except for the constants.
_WORD = re.compile(r"(?!(null|true|false|inf|nan)$)[a-z_][\w./-]*", re.ASCII | re.IGNORECASE)
_FUNCTION = re.compile(r"(choice|range|interval|glob|shuffle|sort|tag|extend_list)\(.*\)", re.DOTALL)


def command(words: Sequence[str], *flags: str) -> str:
    """Return the command of a run for a shell. ``hydra.searchpath`` is written as ``--config-dir``."""
    shown: list[str] = []
    for word in words:
        place = re.fullmatch(r"hydra\.searchpath=\['?file://(.*?)'?\]", word)
        shown += ["--config-dir", place[1]] if place is not None else [word]
    return " ".join(["python -m nst.train", *flags, *map(_for_shell, shown)])


def searched(words: Sequence[str]) -> list[str]:
    """Return the overrides that add the folder of ``--config-dir``."""
    return [word for word in words if word.startswith("hydra.searchpath=") and str(paths.configs()) not in word]


def _for_shell(word: str) -> str:
    """Return a word as it is typed in a shell: in double quotes if it has single ones."""
    plain = "'" not in word or any(character in word for character in '"$`\\!')
    return shlex.quote(word) if plain else f'"{word}"'


def quoted(value: object) -> str:
    """Return a value as a string that Hydra's grammar and OmegaConf read back unchanged, whatever characters it has."""
    escaped = re.sub(r"(\\*)('|$)", lambda found: 2 * found[1] + ("\\'" if found[2] else ""), literal(str(value)))
    return f"'{escaped}'"


def literal(value: Any) -> Any:
    """Return a resolved value so that OmegaConf reads its strings back unchanged, at any depth: ``${x}`` as text."""
    if isinstance(value, Mapping):
        return {key: literal(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [literal(each) for each in value]
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", value) if isinstance(value, str) else value


def from_keywords(settings: Mapping[str, object]) -> list[str]:
    """Return keyword arguments as overrides. A double underscore stands for the dot or the slash.

    ``weights__style=1e5`` is ``weights.style=100000.0``, ``objective__style=["gram"]`` is ``objective/style=[gram]``.
    A text is never read as a number, a constant or an interpolation.

    Raise UserError for values that Hydra's grammar doesn't have.
    """
    return [f"{_key(name)}={_value(name, value)}" for name, value in settings.items()]


def _key(name: str) -> str:
    group = name.replace("__", "/")
    return group if (paths.configs() / group).is_dir() else name.replace("__", ".")


def _value(name: str, value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case Integral():
            return str(int(value))
        case Real():
            return repr(float(value))
        case str() if _WORD.fullmatch(value):
            return value
        case str() | Path():
            return quoted(value)
        case list() | tuple():
            return f"[{','.join(_value(name, each) for each in value)}]"
        case Mapping():
            why = f"give a mapping by its keys, such as {name}__{next(iter(value), 'KEY')}=…"
        case _:
            why = f"{type(value).__name__}; choices: None, a bool, a number, a text, a path, or a list of these"
    raise UserError(problem(name, value, why))


def with_quoted_paths(words: Sequence[str], *, sweep: bool) -> list[str]:
    """Return overrides in which the values of keys that name files are quoted where Hydra's grammar needs it.

    In a sweep commas separate values, unless there is a file of that whole name.
    """
    return [_with_quoted_path(word, sweep=sweep) for word in words]


def names_file(key: str) -> bool:
    """Return whether the value of a key is the name of a file or a folder."""
    return key in _KEYS or key.rpartition(".")[2] in _ENDINGS


def _with_quoted_path(word: str, *, sweep: bool) -> str:
    key, equals, value = word.partition("=")
    name = key.lstrip("+")
    if not equals or not names_file(name):
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
