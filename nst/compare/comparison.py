"""Comparison of runs: the keys that vary, the results, and notices on runs that are not comparable."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Literal

from nst.compare import keys
from nst.compare.keys import Condition
from nst.compare.runs import SILENCE, Run, section
from nst.compare.values import (
    ABSENT,
    INPUTS,
    Value,
    few,
    is_picture,
    order,
    short,
    short_name,
    shown,
    values_of,
    weights_of,
)
from nst.errors import UserError, attempt, choices, problem

#: The keys of a run's results, and their names. The losses of content, style and tv are before their weights.
RESULTS = {
    "total": "total loss",
    "content_loss": "content loss",
    "style_loss": "style loss",
    "tv_loss": "total variation",
    "best_evaluation": "best at evaluation",
    "evaluations_done": "evaluations done",
    "seconds": "seconds",
}

#: Keys of a summary, or of its versions, for the machine and the software of a run that may affect the last bits.
MADE_WITH = (
    "device", "devices", "processor", "threads", "git_commit", "nst", "torch", "torchvision", "pillow", "numpy",
)  # fmt: skip


#: At most so many keys get a column and a list to choose from, and are part of a label. The others are listed.
FOREMOST, LABELLED = 6, 5


@dataclass(frozen=True)
class Mark:
    """A fact about a run that matters for comparing it, as a short text and as a sentence."""

    kind: Literal["status", "stand-in", "weights", "damage"]
    short: str
    text: str


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
class Comparison:
    """A comparison of runs.

    Attributes:
        entries: the runs, sorted.
        varied: the keys that distinguish the runs, without those that follow from a group's option.
        ranked: the same keys, those first in which the most runs differ from the most common value.
        usual: the values that more than half of the runs have, as text; of these keys, and of no others.
        differing: every key that differs.
        shared: the keys that don't differ, with their value.
        notices: facts that matter for the comparison, one sentence each.
    """

    entries: list[Entry]
    varied: list[str]
    ranked: list[str]
    usual: dict[str, str]
    differing: list[str]
    shared: dict[str, Value]
    notices: list[str]

    @property
    def results(self) -> list[str]:
        """The results that get a column: those that are neither missing nor 0 in every run."""
        return [key for key in RESULTS if any(entry.results[key] for entry in self.entries)]

    @property
    def offered(self) -> list[str]:
        """The keys to sort and filter by. Those that don't vary are allowed, too."""
        return ["run", "status", *self.varied, *RESULTS]

    @property
    def foremost(self) -> list[str]:
        """The keys that distinguish the runs best, at most ``FOREMOST``, in the order of ``varied``."""
        return [key for key in self.varied if key in self.ranked[:FOREMOST]]

    def check(self, option: str, key: str, offered: Sequence[str]) -> None:
        """Raise UserError for a key that no run has."""
        keys.check(option, key, offered, [key for entry in self.entries for key in entry.values])

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
        labelled = sorted(unusual, key=lambda key: (not is_picture(key), self.ranked.index(key)))[:LABELLED]
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
    keys.tell_namesakes_apart(runs, values)
    differing = keys.differing(values)
    varied = keys.varied(values, differing)
    shared = {key: value for held in values for key, value in held.items() if key not in differing}
    weights = _usual_weights(runs)
    entries = [
        Entry(run, name, held, run.results(), _marks(run, weights))
        for run, name, held in zip(runs, _names(runs), values, strict=True)
    ]
    entries.sort(key=lambda entry: [(key not in entry.values, order(entry.key(key))) for key in varied])
    comparison = Comparison(
        entries,
        varied,
        keys.ranked(values, varied),
        keys.usual(values, varied),
        differing,
        shared,
        [*_notices(entries, varied), *unread],
    )
    return comparison if sort is None else comparison.sorted_by(sort)


def fitting(comparison: Comparison, words: Sequence[str]) -> list[Run]:
    """Return the runs that meet every condition. Raise UserError for a mistake in one, and if no run meets them all."""
    lines: list[str] = []
    conditions = [attempt(lines, partial(_condition, word, comparison)) for word in words]
    if lines:
        raise UserError(lines)
    found = [
        entry.run
        for entry in comparison.entries
        if all(each.is_met(entry.key(each.key), entry.text(each.key)) for each in conditions if each)
    ]
    if not found:
        raise UserError(problem("--filter", " ".join(words), "no run meets all of these conditions; leave one out"))
    return found


def _condition(word: str, comparison: Comparison) -> Condition:
    """Return a condition on the runs. Raise UserError for a key or a value that no run has."""
    condition = Condition.parse("--filter", word)
    comparison.check("--filter", condition.key, comparison.offered)
    values = comparison.values(condition.key)
    if condition.sign == "=" and not any(condition.is_met(value, text) for text, value in values.items()):
        raise UserError(problem("--filter", word, f"no run has it; {choices(condition.wanted, values)}"))
    return condition


def _names(runs: Sequence[Run]) -> list[str]:
    """Return the names of the runs, short ones where no other run has the same."""
    counts = Counter(short_name(run.name) for run in runs)
    return [name if counts[name := short_name(run.name)] == 1 else run.name for run in runs]


def _usual_weights(runs: Sequence[Run]) -> str | None:
    known = [weights for run in runs if (weights := weights_of(run)) is not None]
    return Counter(known).most_common(1)[0][0] if known else None


def _marks(run: Run, usual: str | None) -> list[Mark]:
    marks = []
    if run.status != "completed":
        marks.append(Mark("status", run.status, _why(run)))
    pictures = [name for name in ("content", "style") if run.asset(name).get("source") == "stand-in"]
    if pictures:
        text = f"A bundled stand-in, not the real picture: {' and '.join(pictures)}."
        marks.append(Mark("stand-in", f"stand-in {' and '.join(pictures)}", text))
    if run.asset("weights").get("source") == "stand-in":
        marks.append(Mark("stand-in", "stand-in weights", "The encoder's weights are a bundled stand-in."))
    if run.asset("weights").get("source") == "random":
        marks.append(Mark("weights", "random weights", "The encoder's weights are random."))
    if weights_of(run) not in (None, usual):
        text = f"Other weights than most of these runs have ({short(str(weights_of(run)))}): losses don't compare."
        marks.append(Mark("weights", "other weights", text))
    if run.problems:
        marks.append(Mark("damage", "incomplete folder", "; ".join(run.problems)))
    return marks


def _why(run: Run) -> str:
    reasons = {
        "running": "The run was still running when its folder was read.",
        "stale": f"The run's status is running, but it has written nothing for over {SILENCE / 60:.0f} minutes.",
        "interrupted": "The run was stopped before its last evaluation; it can be resumed.",
        "unknown": "How the run ended is not known.",
    }
    error = run.summary.get("error")
    return " ".join([reasons.get(run.status, f"The run {run.status}."), *([str(error)] if error else [])])


def _notices(entries: Sequence[Entry], varied: Sequence[str]) -> list[str]:
    notices = []
    marks = Counter(mark.short for entry in entries for mark in entry.marks)
    if marks:
        counts = ", ".join(f"{count} {short}" for short, count in marks.items())
        notices.append(f"of {len(entries)} run{'s' * (len(entries) > 1)}: {counts}")
    weights = Counter(weights_of(entry.run) for entry in entries if weights_of(entry.run) is not None)
    if len(weights) > 1:
        named = ", ".join(f"{short(str(digest))} ({count})" for digest, count in weights.most_common())
        notices.append(f"{len(weights)} different sets of weights, whose losses don't compare: {named}")
    apart = [key for key in varied if key.partition(".")[0] in ("weights", "layers", "objective")]
    if apart:
        notices.append(f"total is not the same sum for every run: {', '.join(few(apart, FOREMOST))} differ")
    seen = [key for key in varied if key.partition(".")[0] in ("encoder", "pooling") and key != "encoder"]
    if seen:
        named = ", ".join(few(seen, FOREMOST))
        notices.append(f"the features are not the same for every run, so that losses don't compare: {named}")
    made = list(_made_differently([entry.run for entry in entries]))
    if made:
        notices.append(
            f"made with other hardware or software, so equal runs may differ in the last bits: {'; '.join(made)}"
        )
    return notices


def _made_differently(runs: Sequence[Run]) -> Iterator[str]:
    """Yield the machine and software facts in which the runs differ: each value with its number of runs."""
    summaries = [{**run.summary, **section(run.summary, "versions")} for run in runs]
    for key in MADE_WITH:
        counts = Counter(shown(summary[key]) for summary in summaries if key in summary)
        if len(counts) > 1:
            values = ", ".join(f"{value} ({count})" for value, count in counts.most_common())
            yield f"{key.replace('_', ' ')} {values}"
