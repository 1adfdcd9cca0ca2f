"""Runs that differ in ``seed`` alone, as one row: the mean of their results, and the range."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from nst.compare.values import ABSENT, Value, shown


@dataclass(frozen=True)
class Spread:
    """The results of several seeds.

    Attributes:
        mean: their arithmetic mean.
        lowest, highest: their range.
    """

    mean: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Return the spread of at least one value."""
        return cls(sum(values) / len(values), min(values), max(values))

    def differs_from(self, other: "Spread") -> bool:
        """Return whether the means are farther apart than each of the two ranges is wide."""
        return abs(self.mean - other.mean) > max(self.highest - self.lowest, other.highest - other.lowest)

    def __str__(self) -> str:
        mean, lowest, highest = (shown(value, 3) for value in (self.mean, self.lowest, self.highest))
        return mean if lowest == highest else f"{mean} ({lowest} to {highest})"


def alike(values: Mapping[str, Value], status: str) -> object:
    """Return what runs that differ in ``seed`` alone have in common; a new object for a run that isn't completed."""
    if status != "completed" or "seed" not in values:
        return object()
    return frozenset((key, isinstance(value, bool), value) for key, value in values.items() if key != "seed")


def seeds_text(values: Sequence[Value]) -> str:
    """Return the seeds of some runs, as ``0 to 4`` or ``1, 5, 7``."""
    numbers = sorted({value for value in values if isinstance(value, int)})
    if len(numbers) > 2 and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]} to {numbers[-1]}"
    return ", ".join(map(str, numbers)) or ABSENT


#: Whether a result of several seeds is the best of a column, as good as the best by its spread, or worse.
Standing = Literal["best", "same", "worse"]


def standing(spreads: Sequence[Spread | None], *, higher_is_better: bool) -> list[Standing | None]:
    """Return the standing of each of a column's results; None for an unknown one."""
    known = [spread for spread in spreads if spread is not None]
    if not known:
        return [None] * len(spreads)
    best = (max if higher_is_better else min)(known, key=lambda spread: spread.mean)
    return [
        None if spread is None else "best" if spread is best else "worse" if spread.differs_from(best) else "same"
        for spread in spreads
    ]
