"""The results of runs: what they mean, which are better, and their spread over runs that differ in ``seed`` alone."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from nst.compare.runs import Run
from nst.compare.values import ABSENT, Value, shown
from nst.metrics.names import MEASURES, Measure

#: The keys of a run's results, and what they mean.
RESULTS = {
    "total": "total loss: the sum that the run minimizes, with all weights",
    "content_loss": "content loss, before its weight",
    "style_loss": "style loss, before its weight",
    "tv_loss": "total variation: how much neighbouring pixels differ, before its weight",
    "best_evaluation": "evaluation with the lowest total loss, whose picture was kept",
    "evaluations_done": "evaluations that the run made",
    "seconds": "seconds of optimization",
}

#: The losses that are minimized.
LOSSES = ("total", "content_loss", "style_loss")


def measures_of(runs: Sequence[Run]) -> tuple[dict[str, str], dict[str, dict[str, float | None]]]:
    """Return the meanings of all results, and each run's measures.

    A measure has the observer in its key if another observer has measured the same; without the observer's version if
    there is only one.
    """
    found = {run.name: run.measures() for run in runs}
    observers: dict[str, list[str]] = {}
    for observer, name in dict.fromkeys(pair for measures in found.values() for pair in measures):
        observers.setdefault(name, []).append(observer)

    versions = {observer for held in observers.values() for observer in held}
    kinds = Counter(observer.partition("-")[0] for observer in versions)

    def key(observer: str, name: str) -> str:
        kind = observer.partition("-")[0]
        return name if len(observers[name]) == 1 else f"{kind if kinds[kind] == 1 else observer}/{name}"

    told = {
        key(observer, name): _meaning(measure, observer)
        for name, measure in MEASURES.items()
        for observer in observers.get(name, [])
    }
    values: dict[str, dict[str, float | None]] = {
        run: {key(*pair): value for pair, value in measures.items()} for run, measures in found.items()
    }
    return {**RESULTS, **told}, values


def _meaning(measure: Measure, observer: str) -> str:
    """Return what a measure means, what has measured it, and which values are better."""
    by = f"without a network ({observer})" if measure.by == "pixels" else f"by {observer}"
    return f"{measure.meaning}, {by}; {'higher' if measure.higher_is_better else 'lower'} is better"


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
