"""Comparison of runs: the keys that vary, the results, and notices on runs that are not comparable."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from nst.compare import keys
from nst.compare.notices import Mark, comparable, marks_of, notices, totals_compare, usual_weights
from nst.compare.results import LOSSES, Spread, alike, measures_of, seeds_text
from nst.compare.runs import Run
from nst.compare.values import (
    ABSENT,
    INPUTS,
    Value,
    few,
    names_of,
    order,
    pair,
    shown,
    values_of,
)
from nst.config.identity import names_picture
from nst.metrics.names import MEASURES, REPORTED, directions

#: At most so many results are shown first.
FIRST = 4

#: At most so many keys get a column and a list to choose from, and are part of a label. The others are listed.
FOREMOST, LABELLED = 6, 5


@dataclass(frozen=True)
class Entry:
    """A run in a comparison. Its name is as short as the names of the others allow."""

    run: Run
    name: str
    values: dict[str, Value]
    results: dict[str, float | None]
    marks: list[Mark]

    def key(self, key: str) -> Value:
        """Return the run's value of ``key``: a value of the configuration, a result, ``run`` or ``status``."""
        if key in self.results:
            return self.results[key]
        return {"run": self.run.name, "status": self.run.status}.get(key, self.values.get(key))

    def text(self, key: str) -> str:
        """Return the run's value of ``key`` as text; ``ABSENT`` if there is none."""
        if key in self.results:
            value = self.results[key]
            return ABSENT if value is None else shown(float(value), 4)
        if key in ("run", "status"):
            return self.name if key == "run" else self.run.status
        return shown(self.values[key]) if key in self.values else ABSENT

    def label(self, key: str) -> str:
        """Return a label such as ``weights.style=1e5``; of an input, only its name. A long value loses its middle."""
        text = self.text(key)
        text = text if len(text) <= 60 else f"{text[:29]}…{text[-30:]}"
        return text if key in INPUTS else f"{key}={text}"


@dataclass(frozen=True)
class Row:
    """A row of a table: a run, or several that differ in ``seed`` alone."""

    entries: list[Entry]

    def spread(self, key: str) -> Spread | None:
        """Return the mean and the range of a result; None if it isn't known of every run."""
        values = [entry.results[key] for entry in self.entries]
        known = [float(value) for value in values if value is not None]
        return Spread.of(known) if len(known) == len(values) else None

    def text(self, key: str) -> str:
        """Return the value of ``key`` as text: of several runs, how many, their seeds, or a result's spread."""
        first = self.entries[0]
        if len(self.entries) == 1:
            return first.text(key)
        if key == "run":
            return f"{len(self.entries)} seeds"
        if key == "seed":
            return seeds_text([entry.key(key) for entry in self.entries])
        return str(self.spread(key) or ABSENT) if key in first.results else first.text(key)


@dataclass(frozen=True)
class Comparison:
    """A comparison of runs.

    Attributes:
        entries: the runs, sorted.
        varied: the keys that distinguish the runs, without those that follow from a group's option.
        ranked: the same keys, those first in which the most runs differ from the most common value.
        usual: the values that more than half of the runs have, as text; of these keys, and of no others.
        differing: every key that differs.
        titles: the results by key, and what each is.
        shared: the keys that don't differ, with their value.
        notices: facts that matter for the comparison, one sentence each.
    """

    entries: list[Entry]
    varied: list[str]
    ranked: list[str]
    usual: dict[str, str]
    differing: list[str]
    titles: dict[str, str]
    shared: dict[str, Value]
    notices: list[str]

    @property
    def runs(self) -> list[Run]:
        """The runs, in the order of the entries."""
        return [entry.run for entry in self.entries]

    @property
    def results(self) -> list[str]:
        """The results that get a column: those that are neither missing nor 0 in every run."""
        return [key for key in self.titles if any(entry.results[key] for entry in self.entries)]

    @cached_property
    def totals_compare(self) -> bool:
        """Whether the totals are the same sum in all runs, so that the lowest of the same pictures is the best."""
        return totals_compare(self.runs, self.varied)

    @cached_property
    def losses(self) -> list[str]:
        """The losses that can be compared between all runs."""
        return [key for key in LOSSES if key.removesuffix("_loss") in comparable(self.runs, self.varied)]

    @cached_property
    def foremost_results(self) -> list[str]:
        """The results that are shown first: the total if it compares, the measures to report, and the losses."""
        wanted = [*(LOSSES[:1] if "total" in self.losses else ()), *REPORTED, *LOSSES]
        by_name = [[key for key in self.results if key.rpartition("/")[2] == name] for name in dict.fromkeys(wanted)]
        return [key for held in list(filter(None, by_name))[:FIRST] for key in held]

    @cached_property
    def captions(self) -> list[str]:
        """The results below a picture of the sheet, two of the measures to report and the total, if it compares."""
        left_out = LOSSES[1:] if self.totals_compare else LOSSES
        return [key for key in self.foremost_results if key not in left_out][:2]

    def ordered(self, keys: Iterable[str]) -> list[str]:
        """Return which of the results can be better or worse: the losses that compare, the measures and the seconds."""
        return [key for key in keys if key.rpartition("/")[2] in {*self.losses, *MEASURES, "seconds"}]

    def directions(self, keys: Iterable[str]) -> str:
        """Return which values of results are better, as one line."""
        return directions(self.ordered(keys))

    @cached_property
    def marks_of_all(self) -> set[str]:
        """The marks, in short, that each of several runs has. The notices tell them once."""
        marks = [{mark.short for mark in entry.marks} for entry in self.entries]
        return set.intersection(*marks) if len(marks) > 1 else set()

    @cached_property
    def rows(self) -> list[Row]:
        """The runs, those that differ in ``seed`` alone together, in the order of the first of them."""
        together: dict[object, list[Entry]] = {}
        for entry in self.entries:
            together.setdefault(alike(entry.values, entry.run.status), []).append(entry)
        rows = []
        for entries in together.values():
            again = len({entry.key("seed") for entry in entries}) < len(entries)  # the same run, made twice
            rows += [Row([entry]) for entry in entries] if again else [Row(entries)]
        place = {entry.run.name: number for number, entry in enumerate(self.entries)}
        return sorted(rows, key=lambda row: place[row.entries[0].run.name])

    def usual_pairs(self, besides: Sequence[str] = ()) -> list[str]:
        """Return the usual values of the keys that aren't in ``besides``, each as ``key=value``."""
        return [pair(key, text) for key, text in self.usual.items() if key not in besides and text != ABSENT]

    @property
    def offered(self) -> list[str]:
        """The keys to sort and filter by. Those that don't vary are allowed, too."""
        return ["run", "status", *self.varied, *self.titles]

    @property
    def foremost(self) -> list[str]:
        """The keys that distinguish the runs best, at most ``FOREMOST``, in the order of ``varied``."""
        return [key for key in self.varied if key in self.ranked[:FOREMOST]]

    def check(self, option: str, key: str, offered: Sequence[str]) -> None:
        """Raise UserError for a key that no run has."""
        keys.check(option, key, offered, [key for entry in self.entries for key in entry.values])

    def check_result(self, option: str, key: str) -> None:
        """Raise UserError for a key that is no result of any run."""
        keys.check(option, key, list(self.titles), ())

    def values(self, key: str) -> dict[str, Value]:
        """Return the runs' values of a key by their texts, in order, a missing one last."""
        values = {entry.text(key): entry.key(key) for entry in self.entries}
        return dict(sorted(values.items(), key=lambda item: (item[0] == ABSENT, order(item[1]))))

    def sorted_by(self, sort: str) -> "Comparison":
        """Return the comparison sorted by a key, unknown values last; in descending order if it begins with ``-``."""
        key = sort.removeprefix("-")
        self.check("--sort", key, self.offered)
        known = [entry for entry in self.entries if entry.key(key) is not None]
        known.sort(key=lambda entry: order(entry.key(key)), reverse=sort.startswith("-"))
        return replace(self, entries=[*known, *(entry for entry in self.entries if entry.key(key) is None)])

    def unusual(self, entry: Entry, besides: Sequence[str] = ()) -> list[str]:
        """Return the keys, in the order of ``varied``, whose value in a run isn't the usual one."""
        return [
            key for key in self.varied
            if key in entry.values and key not in besides and entry.text(key) != self.usual.get(key)
        ]  # fmt: skip

    def own(self, entry: Entry, besides: Sequence[str] = ()) -> list[str]:
        """Return labels of a run's unusual values: pictures, the keys that distinguish best, and how many are left."""
        unusual = self.unusual(entry, besides)
        labelled = sorted(unusual, key=lambda key: (not names_picture(key), self.ranked.index(key)))[:LABELLED]
        return few([entry.label(key) for key in sorted(unusual, key=lambda key: key not in labelled)], LABELLED)

    def label(self, entry: Entry) -> str:
        """Return the label that distinguishes a run: its unusual values, and its name if they aren't enough."""
        return ", ".join(self.labels[entry.run.name])

    @cached_property
    def labels(self) -> dict[str, list[str]]:
        """The parts of each run's label, by the run's name."""
        own = {entry.run.name: self.own(entry) for entry in self.entries}
        counts = Counter(map(tuple, own.values()))
        for entry in self.entries:
            parts = own[entry.run.name]
            if not parts or counts[tuple(parts)] > 1:
                own[entry.run.name] = [*parts, entry.name]
        return own


def compare(runs: Sequence[Run], unread: Sequence[str] = (), *, sort: str | None = None) -> Comparison:
    """Compare runs, sorted by the key ``sort``, in descending order if it begins with ``-``."""
    values = [values_of(run) for run in runs]
    keys.share_names(runs, values)
    keys.share_options(runs, values)
    keys.tell_namesakes_apart(runs, values)
    differing = keys.differing(values)
    varied = keys.varied(values, differing)
    shared = {key: value for held in values for key, value in held.items() if key not in differing}
    weights = usual_weights(runs)
    titles, measures = measures_of(runs)
    entries = [
        Entry(run, name, held, {**dict.fromkeys(titles), **run.results(), **measures[run.name]}, marks_of(run, weights))
        for run, name, held in zip(runs, names_of(runs), values, strict=True)
    ]
    entries.sort(key=lambda entry: [(key not in entry.values, order(entry.key(key))) for key in varied])
    comparison = Comparison(
        entries,
        varied,
        keys.ranked(values, varied),
        keys.usual(values, varied),
        differing,
        titles,
        shared,
        [*notices([entry.run for entry in entries], [entry.marks for entry in entries], varied), *unread],
    )
    return comparison if sort is None else comparison.sorted_by(sort)
