"""Comparison of runs: the keys that vary, the results, and notices on runs that are not comparable."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from nst.compare.runs import SILENCE, Run, section
from nst.compare.values import ABSENT, INPUTS, Value, digest_of, order, shown, values_of, weights_of
from nst.errors import UserError, choices, problem

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


@dataclass(frozen=True)
class Mark:
    """A fact about a run that matters for comparing it, as a short text and as a sentence."""

    kind: Literal["status", "stand-in", "weights", "damage"]
    short: str
    text: str


@dataclass(frozen=True)
class Entry:
    """A run in a comparison."""

    run: Run
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
        return shown(self.key(key)) if key in self.values or key in ("run", "status") else ABSENT

    def label(self, keys: Sequence[str]) -> str:
        """Return a label such as ``weights.style=1e5, seed=2``. Inputs have only their name."""
        return ", ".join(self.text(key) if key in INPUTS else f"{key}={self.text(key)}" for key in keys)


@dataclass(frozen=True)
class Comparison:
    """A comparison of runs.

    Attributes:
        entries: the runs, sorted.
        varied: the keys that distinguish the runs, without those that follow from a group's option.
        differing: every key that differs.
        shared: the keys that don't differ, with their value.
        notices: facts that matter for the comparison, one sentence each.
    """

    entries: list[Entry]
    varied: list[str]
    differing: list[str]
    shared: dict[str, Value]
    notices: list[str]

    @property
    def results(self) -> list[str]:
        """The results that get a column: those that are neither missing nor 0 in every run."""
        return [key for key in RESULTS if any(entry.results[key] for entry in self.entries)]

    def label(self, entry: Entry) -> str:
        """Return the label that distinguishes a run, or its name if nothing does."""
        return entry.label([key for key in self.varied if key in entry.values]) or entry.run.name


def compare(runs: Sequence[Run], unread: Sequence[str] = (), *, sort: str | None = None) -> Comparison:
    """Compare runs, sorted by the key ``sort``, in descending order if it begins with ``-``."""
    values = [values_of(run) for run in runs]
    _tell_namesakes_apart(runs, values)
    differing = [key for key in _keys(values) if _differs(key, values)]
    varied = [key for key in differing if not _follows(key, values, differing)]
    shared = {key: value for held in values for key, value in held.items() if key not in differing}
    usual = _usual([weights_of(run) for run in runs])
    entries = [Entry(run, held, run.results(), _marks(run, usual)) for run, held in zip(runs, values, strict=True)]
    notices = [*_notices(entries, varied), *unread]
    return Comparison(_sorted(entries, varied, sort), varied, differing, shared, notices)


def _keys(values: Sequence[dict[str, Value]]) -> list[str]:
    """Return every key once: the inputs first, then the others in the order of the configurations."""
    return list(dict.fromkeys([*INPUTS, *(key for held in values for key in held)]))


def _differs(key: str, values: Sequence[dict[str, Value]]) -> bool:
    """Return whether runs differ in the key. A run with an unknown configuration differs from none."""
    return len({_identity(held[key]) if key in held else None for held in values if held}) > 1


def _identity(value: Value) -> tuple[bool, Value]:
    return isinstance(value, bool), value


def _follows(key: str, values: Sequence[dict[str, Value]], differing: Sequence[str]) -> bool:
    """Return whether a key follows from the option of its group, which also differs.

    For an option itself, return whether no key of its group differs.
    """
    group, dot, _ = key.partition(".")
    if key in INPUTS:
        return False
    if not dot:  # a group's option, if no key of the group differs
        nested = [other for other in differing if other.startswith(f"{key}.")]
        return any(other.startswith(f"{key}.") for held in values for other in held) and not nested
    if group not in differing:
        return False
    options = {held.get(group) for held in values}
    return not any(_differs(key, [held for held in values if held.get(group) == option]) for option in options)


def _tell_namesakes_apart(runs: Sequence[Run], values: Sequence[dict[str, Value]]) -> None:
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
                held[key] = f"{held[key]} ({_short(digest)})"


def _short(digest: str) -> str:
    return digest if " " in digest else digest[:6]


def _usual(weights: Sequence[str | None]) -> str | None:
    known = [item for item in weights if item is not None]
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
        text = f"Other weights than most of these runs have ({_short(str(weights_of(run)))}): losses don't compare."
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
        named = ", ".join(f"{_short(str(digest))} ({count})" for digest, count in weights.most_common())
        notices.append(f"{len(weights)} different sets of weights, whose losses don't compare: {named}")
    apart = [key for key in varied if key.partition(".")[0] in ("weights", "layers", "objective")]
    if apart:
        notices.append(f"total is not the same sum for every run: {', '.join(apart)} differ")
    seen = [key for key in varied if key.partition(".")[0] in ("encoder", "pooling") and key != "encoder"]
    if seen:
        notices.append(f"the features are not the same for every run, so that losses don't compare: {', '.join(seen)}")
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


def _sorted(entries: list[Entry], varied: Sequence[str], sort: str | None) -> list[Entry]:
    entries = sorted(entries, key=lambda entry: [(key not in entry.values, order(entry.key(key))) for key in varied])
    if sort is None:
        return entries
    key = sort.removeprefix("-")
    check("--sort", key, ["run", "status", *varied, *RESULTS], entries)
    known = [entry for entry in entries if entry.key(key) is not None]
    known.sort(key=lambda entry: order(entry.key(key)), reverse=sort.startswith("-"))
    return [*known, *(entry for entry in entries if entry.key(key) is None)]


def check(option: str, key: str, offered: Sequence[str], entries: Sequence[Entry]) -> None:
    """Raise UserError for a key that no run has. Keys that don't vary are allowed, but not offered."""
    if key not in offered and not any(key in entry.values for entry in entries):
        raise UserError(problem(option, key, f"there is no such key; {choices(key, offered)}"))
