"""Facts about runs that matter before they are compared: a mark on a run, and sentences about all of them."""

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from nst.compare.runs import SILENCE, Run, common, section
from nst.compare.values import few, short, shown, weights_of
from nst.config.identity import incomparable, names_picture, of_encoder
from nst.config.keys import LOSSES, Loss
from nst.metrics.names import PIXELS

#: At most so many keys are named in a sentence.
NAMED = 6

#: At most so many folders are named in a command. It has the folder that contains them instead.
COMMANDED = 3

#: Keys of a summary, or of its versions, for the machine and the software of a run that may affect the last bits.
MADE_WITH = (
    "device", "devices", "processor", "threads", "git_commit", "nst", "torch", "torchvision", "pillow", "numpy",
)  # fmt: skip


@dataclass(frozen=True)
class Mark:
    """A fact about a run that matters for comparing it, as a short text and as a sentence."""

    kind: Literal["status", "stand-in", "weights", "judge", "damage"]
    short: str
    text: str


def usual_weights(runs: Sequence[Run]) -> str | None:
    """Return the identity of the weights that most runs have; None if none is known."""
    known = _weights(runs)
    return known.most_common(1)[0][0] if known else None


def marks_of(run: Run, usual: str | None) -> list[Mark]:
    """Return the marks of a run; ``usual`` is the identity of the weights that most runs have."""
    marks = []
    if run.status != "completed":
        marks.append(Mark("status", run.status, _why(run)))
    pictures = [name for name in ("content", "style") if run.asset(name).get("source") == "stand-in"]
    if pictures:
        text = f"The run used a bundled stand-in instead of the real picture: {' and '.join(pictures)}."
        marks.append(Mark("stand-in", f"stand-in {' and '.join(pictures)}", text))
    if run.asset("weights").get("source") == "stand-in":
        marks.append(Mark("stand-in", "stand-in weights", "The encoder's weights are a bundled stand-in."))
    if run.asset("weights").get("source") == "random":
        marks.append(Mark("weights", "random weights", "The encoder's weights are random."))
    if weights_of(run) not in (None, usual):
        text = f"The weights ({short(str(weights_of(run)))}) are not those of most runs: its losses can't be compared."
        marks.append(Mark("weights", "other weights", text))
    judges = run.own_judges()
    if judges:
        text = f"The network that painted the picture has also measured it: {', '.join(judges)}."
        marks.append(Mark("judge", "measured by own network", text))
    if run.problems:
        marks.append(Mark("damage", "incomplete folder", "; ".join(run.problems)))
    return marks


def _why(run: Run) -> str:
    reasons = {
        "running": "The run was still running when its folder was read.",
        "stale": f"The run's status is running, but it has written nothing for over {SILENCE / 60:.0f} minutes.",
        "interrupted": "The run was stopped before its last evaluation; it can be resumed.",
        "unknown": "It is not known how the run ended.",
    }
    error = run.summary.get("error")
    return " ".join([reasons.get(run.status, f"The run {run.status}."), *([str(error)] if error else [])])


def notices(runs: Sequence[Run], marks: Sequence[Sequence[Mark]], varied: Sequence[str]) -> list[str]:
    """Return what matters for comparing the runs, which have these marks and differ in these keys."""
    notices = []
    counted = Counter(mark.short for each in marks for mark in each if mark.kind != "judge")
    if counted:
        notices.append("; ".join(f"{_share(count, runs)}: {short}" for short, count in counted.items()))
    judged = sum(mark.kind == "judge" for each in marks for mark in each)
    if judged:
        notices.append(
            f"{_share(judged, runs)}: measured by the network that painted the picture, which rates it too well and "
            f"may change the order; {_other_opinion(runs)}"
        )
    weights = _weights(runs)
    if len(weights) > 1:
        named = ", ".join(f"{short(digest)} ({count})" for digest, count in weights.most_common())
        notices.append(f"{len(weights)} different sets of weights, whose losses can't be compared: {named}")
    apart = apart_by(varied)
    if apart:
        named = ", ".join(few(apart, NAMED))
        notices.append(f"the totals are different sums, so they can't be compared: the runs differ in {named}")
    unlike = unlike_by(varied)
    if unlike:
        named = ", ".join(few(unlike, NAMED))
        notices.append(f"the features are different ones, so the losses can't be compared: the runs differ in {named}")
    pictures = [key for key in ("content", "style") if key in varied]
    if pictures and totals_compare(runs, varied):  # of a cell of the sheet, for example
        named = " and ".join(pictures)
        notices.append(f"the runs differ in {named}: only losses of runs with the same pictures can be compared")
    unmeasured = [run for run in runs if run.folder.result.is_file() and not run.measures()]
    if unmeasured:
        command = _measuring(unmeasured)
        notices.append(f"{_share(len(unmeasured), runs)}: no measures; to add them: {command}")
    made = list(_made_differently(runs))
    if made:
        notices.append(
            f"the hardware or the software differs, so equal runs may differ in the last bits: {'; '.join(made)}"
        )
    return notices


def _share(count: int, runs: Sequence[Run]) -> str:
    """Return how many of the runs: ``2 of 4 runs``, ``all runs``, ``the run``."""
    if count == len(runs):
        return "all runs" if count > 1 else "the run"
    return f"{count} of {len(runs)} runs"


def _other_opinion(runs: Sequence[Run]) -> str:
    """Return which other observer has measured all runs, or the command for it."""
    judges = {judge for run in runs for judge in run.own_judges()}
    others = set.intersection(*(set(run.metrics) for run in runs)) - judges - {PIXELS}
    if others:
        return f"{' and '.join(sorted(others))}, which has measured them, too, is another opinion"
    other = "oxford_vgg19" if any("slim" in judge for judge in judges) else "slim"
    return f"for another opinion: {_measuring(runs)} --observer {other}"


def _measuring(runs: Sequence[Run]) -> str:
    """Return the command that measures runs, by their folders or by the folder that contains them."""
    folders = [str(run.folder.path) for run in runs]
    if len(folders) > COMMANDED:
        folders = [str(common(folders))]
    return shlex.join(["python", "-m", "nst.metrics", *folders])


def comparable(runs: Sequence[Run], varied: Sequence[str]) -> set[Loss]:
    """Return the losses (``total``, ``content``, ``style``, ``tv``) that can be compared between all of the runs."""
    if len(_weights(runs)) > 1 or any(map(names_picture, varied)):
        return set()
    return set(LOSSES) - {loss for key in varied if key != "encoder" for loss in incomparable(key)}


def totals_compare(runs: Sequence[Run], varied: Sequence[str]) -> bool:
    """Return whether the totals are the same sum of the same features, though perhaps of other pictures."""
    return "total" in comparable(runs, [key for key in varied if key not in ("content", "style")])


def _weights(runs: Sequence[Run]) -> Counter[str]:
    """Return the identities of the weights that are known, with the number of runs."""
    return Counter(weights for run in runs if (weights := weights_of(run)) is not None)


def apart_by(varied: Sequence[str]) -> list[str]:
    """Return the keys that change the terms of the totals, their weights, or how a style's picture is used."""
    return [key for key in varied if "total" in incomparable(key) and not of_encoder(key)]


def unlike_by(varied: Sequence[str]) -> list[str]:
    """Return the keys that make features different ones, without the weights, which ``weights_of`` identifies."""
    return [key for key in varied if "total" in incomparable(key) and of_encoder(key) and key != "encoder"]


def _made_differently(runs: Sequence[Run]) -> Iterator[str]:
    """Yield the machine and software facts in which the runs differ: each value with its number of runs."""
    summaries = [{**run.summary, **section(run.summary, "versions")} for run in runs]
    for key in MADE_WITH:
        counts = Counter(shown(summary[key]) for summary in summaries if summary.get(key) is not None)
        if len(counts) > 1:
            values = ", ".join(f"{value} ({count})" for value, count in counts.most_common())
            yield f"{key.replace('_', ' ')} {values}"
