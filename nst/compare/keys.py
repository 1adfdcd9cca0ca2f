"""The keys that distinguish runs: which differ, which follow from others, which come first; conditions on them."""

import difflib
import operator
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from nst.compare.runs import Run, section
from nst.compare.values import ABSENT, INPUTS, Value, digest_of, short, shown
from nst.config.identity import names_picture
from nst.errors import UserError, listed, problem

#: The values of one run, by key. A run with an unknown configuration has none.
Values = Mapping[str, Value]

_SIGNS: dict[str, Callable[[float, float], bool]] = {
    "=": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
}


@dataclass(frozen=True)
class Condition:
    """A condition on a run: ``KEY=VALUE``, ``KEY<NUMBER`` and the like. ``page.filter.js`` knows the same ones."""

    key: str
    sign: str
    wanted: str

    @classmethod
    def parse(cls, option: str, text: str) -> "Condition":
        """Return the condition in a text of the command line. Raise UserError if it is none."""
        match = re.fullmatch(r"\s*([^<>=]+?)\s*(<=|>=|<|>|=)\s*(.+?)\s*", text, re.DOTALL)
        if match is None:
            raise UserError(problem(option, text, "must be KEY=VALUE, or KEY<NUMBER with <, >, <= or >="))
        key, sign, wanted = match.groups()
        quoted = re.fullmatch(r'"((?:[^"\\]|\\.)*)"', wanted, re.DOTALL)
        condition = cls(key, sign, re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else wanted)
        if condition.sign != "=" and condition._number is None:
            raise UserError(problem(option, text, f"{condition.wanted} must be a number"))
        return condition

    def is_met(self, value: Value, text: str) -> bool:
        """Return whether a run's value, which is shown as ``text``, meets the condition."""
        number = self._number
        if number is not None and isinstance(value, int | float) and not isinstance(value, bool):
            return _SIGNS[self.sign](value, number) or (self.sign == "=" and self.wanted == text)
        whole = value if isinstance(value, str) else text  # a run's name, which is shown shortened
        return self.sign == "=" and self.wanted.lower() in (text.lower(), whole.lower())

    @property
    def _number(self) -> float | None:
        try:
            return float(self.wanted)
        except ValueError:
            return None


def conditions_in(text: str) -> list[str]:
    """Return the conditions that a text joins by ``and``. An ``and`` within a value is no such one."""
    return re.split(r"\s+and\s+(?=[^<>=\s]+\s*[<>=])", text)


def differing(values: Sequence[Values]) -> list[str]:
    """Return every key in which runs differ: the inputs first, then in the order of the configurations."""
    keys = dict.fromkeys([*INPUTS, *(key for held in values for key in held)])
    return [key for key in keys if _differs(key, values)]


def varied(values: Sequence[Values], differing: Sequence[str]) -> list[str]:
    """Return the keys that distinguish the runs, without those that follow from other keys."""
    return [key for key in differing if not _is_spelled_out(key, values, differing) and not _follows(key, values)]


def usual(values: Sequence[Values], keys: Sequence[str]) -> dict[str, str]:
    """Return the value that more than half of the runs have, as text, for each of the keys that has one."""
    known = [held for held in values if held]
    common = {key: _common(key, known) for key in keys}
    return {key: text for key, (text, count) in common.items() if 2 * count > len(known)}


def ranked(values: Sequence[Values], keys: Sequence[str]) -> list[str]:
    """Return the keys, those first in which the most runs differ from the most common value."""
    known = [held for held in values if held]
    return sorted(keys, key=lambda key: _common(key, known)[1])


def check(option: str, key: str, offered: Sequence[str], known: Iterable[str]) -> None:
    """Raise UserError for an unknown key. ``known`` are keys that are allowed, but not offered."""
    known = dict.fromkeys([*offered, *known])
    if key not in known:
        ends = [each for each in known if each.endswith(f".{key}")]
        near = (ends or difflib.get_close_matches(key.lower(), known, cutoff=0.7))[:3]
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise UserError(problem(option, key, f"there is no such key; {hint}choices: {listed(offered)}"))


def share_names(runs: Sequence[Run], values: Sequence[dict[str, Value]]) -> None:
    """Give equal files the same name, the one that most runs have for them; the shortest of equally common ones.

    An uploaded picture, for example, is a copy with another name.
    """
    for key in ("content", "style"):
        names: dict[str, list[str]] = {}
        for run, held in zip(runs, values, strict=True):
            if key in held and (digest := digest_of(run, key)) is not None:
                names.setdefault(digest, []).append(str(held[key]))
        for run, held in zip(runs, values, strict=True):
            if key in held and (digest := digest_of(run, key)) in names:
                held[key] = min(names[digest], key=lambda name: (-names[digest].count(name), len(name), name))


def share_options(runs: Sequence[Run], values: Sequence[dict[str, Value]]) -> None:
    """Name the options of runs that were made from a picture's configuration, which has no names of options.

    The option of a group is that of another run with the same keys in the group.
    """
    known: dict[tuple[str, frozenset[tuple[str, Value]]], Value] = {}
    for run, held in zip(runs, values, strict=True):
        for group in section(run.summary, "choices"):
            if group in held and group not in INPUTS:  # an input has the name of its own file
                known.setdefault((group, _within(group, held)), held[group])
    for run, held in zip(runs, values, strict=True):
        for group in {group for group, _ in known} - section(run.summary, "choices").keys():
            if (group, inner := _within(group, held)) in known and inner:
                held[group] = known[group, inner]


def _within(group: str, held: Values) -> frozenset[tuple[str, Value]]:
    """Return the keys below a group, with their values."""
    return frozenset((key, value) for key, value in held.items() if key.startswith(f"{group}."))


def tell_namesakes_apart(runs: Sequence[Run], values: Sequence[dict[str, Value]]) -> None:
    """Add the first digits of the SHA-256 to the names of inputs that share a name but are different files."""
    for key in INPUTS:
        digests: dict[Value, set[str]] = {}
        for run, held in zip(runs, values, strict=True):
            digest = digest_of(run, key)
            if key in held and digest is not None:
                digests.setdefault(held[key], set()).add(digest)
        for run, held in zip(runs, values, strict=True):
            digest = digest_of(run, key)
            if key in held and digest is not None and len(digests[held[key]]) > 1:
                held[key] = f"{held[key]} ({short(digest)})"


def _common(key: str, values: Sequence[Values]) -> tuple[str, int]:
    """Return the most common value of a key, as text, and how many runs have it."""
    return Counter(shown(held[key]) if key in held else ABSENT for held in values).most_common(1)[0]


def _differs(key: str, values: Sequence[Values]) -> bool:
    """Return whether runs differ in the key. A run with an unknown configuration differs from none."""
    return len({_state(key, held) for held in values if held}) > 1


def _state(key: str, held: Values) -> tuple[bool, Value] | None:
    return (isinstance(held[key], bool), held[key]) if key in held else None


def _is_spelled_out(key: str, values: Sequence[Values], differing: Sequence[str]) -> bool:
    """Return whether a key is the option of a group all of whose keys are equal, so that it makes no difference."""
    if "." in key or key in INPUTS:
        return False
    within = f"{key}."
    has_keys = any(other.startswith(within) for held in values for other in held)
    return has_keys and not any(other.startswith(within) for other in differing)


def _follows(key: str, values: Sequence[Values]) -> bool:
    """Return whether a key is equal wherever the key above it is: an option, or the presence of a further style."""
    return any(_decides(above, key, values) for above in _above(key) if _differs(above, values))


def _decides(above: str, key: str, values: Sequence[Values]) -> bool:
    by_state: dict[object, list[Values]] = {}
    for held in values:  # a picture's name says nothing about how it is used
        state = above in held if names_picture(above) else _state(above, held)
        by_state.setdefault(state, []).append(held)
    return not any(_differs(key, alike) for alike in by_state.values())


def _above(key: str) -> Iterator[str]:
    """Yield the keys above a key: ``a`` and ``a.b`` of ``a.b.c``. An input is below none."""
    if key in INPUTS or names_picture(key):
        return
    parts = key.split(".")
    for length in range(1, len(parts)):
        yield ".".join(parts[:length])
