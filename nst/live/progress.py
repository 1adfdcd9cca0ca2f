"""The progress of a run, read from the files in its folder."""

import csv
import math
import platform
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from nst.errors import UserError
from nst.files.run_folder import RunFolder

#: Rows of ``losses.csv`` that a curve has at most.
POINTS = 400

#: The columns of ``losses.csv`` that are shown.
CURVES = ("total", "content", "style")


#: Statuses with which the results in the folder are those of an earlier session of the run, if there are any.
UNFINISHED = ("running", "paused", "killed")


@dataclass(frozen=True)
class Progress:
    """What is known of a run.

    Attributes:
        folder: the run's folder.
        status: ``running``, ``paused``, ``completed``, ``interrupted``, ``diverged`` or ``failed``; ``killed`` if its
            process ended without having said so; ``unknown`` without a summary.
        evaluations: the number of evaluations so far.
        budget: the number of evaluations that the run makes at most.
        shape: width and height in px, of the scale that is optimized now.
        scale: number of this scale, from 1, and the number of scales.
        rate: evaluations a second at present; None if it isn't known.
        left: estimated seconds to the end; None if they aren't known.
        seconds: seconds of optimization of a run that has ended; None if they aren't known.
        memory: bytes that the process has, or had at most if the run has ended.
        losses: evaluations and values of each of CURVES, at most POINTS.
        picture: the newest picture file; None if there is none yet.
        error: why the run failed, if it did.
        resumable: whether ``resume`` can go on with the run.
        stand_ins: what the run replaced by a bundled stand-in: ``content``, ``style``, ``weights``.
        kept: the losses of the picture of a run that has ended, which are not those of the last evaluation.
    """

    folder: Path
    status: str
    evaluations: int = 0
    budget: int = 0
    shape: tuple[int, int] | None = None
    scale: tuple[int, int] = (1, 1)
    rate: float | None = None
    left: float | None = None
    seconds: float | None = None
    memory: int | None = None
    losses: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)
    picture: Path | None = None
    error: str | None = None
    resumable: bool = False
    stand_ins: Sequence[str] = ()
    kept: Mapping[str, float] = field(default_factory=dict)


def progress(path: Path) -> Progress:
    """Return the progress of the run in a folder. Missing and half-written files count as not yet written."""
    folder = RunFolder(path)
    try:
        summary = folder.read_summary()
    except (UserError, OSError):
        summary = {}
    rows = list(_rows(folder))
    process = _process(summary)
    status = status_of(summary)
    marks = _marks(folder, rows, summary)
    kept = [int(row["evaluation"]) for row in rows[-1:]]  # of a resumed run, which has not written any yet
    done = max([int(summary.get("evaluations") or 0), *(number for _, number in marks), *kept])
    scales = [(each["width"], each["height"], each["end"]) for each in summary.get("scales", ())]
    ends = [end for _, _, end in scales]
    place = min(bisect_right(ends, done), len(ends) - 1) if ends else 0
    rate = _rate(marks) if status == "running" else None
    return Progress(
        path,
        status,
        done,
        ends[-1] if ends else done,
        scales[place][:2] if scales else None,
        (place + 1, max(1, len(scales))),
        rate,
        seconds_left(scales, _rates(scales, marks, place, rate), since=done) if rate and scales else None,
        None if status in UNFINISHED else summary.get("seconds"),
        _memory(process) or summary.get("peak_memory_bytes"),
        _curves(rows),
        newest_picture(folder, status),
        summary.get("error"),
        status in ("interrupted", "killed", "failed", "completed") and folder.config.is_file(),
        stand_ins(summary.get("assets")),
        {} if status in UNFINISHED else summary.get("losses") or {},
    )


def work(scales: Sequence[tuple[int, int, int]], *, since: int = 0) -> int:
    """Return the evaluations after the first ``since``, each times the pixels of its scale.

    Scales are width, height and the number of evaluations at their end.
    """
    begin, total = 0, 0
    for width, height, end in scales:
        total += max(0, end - max(begin, since)) * width * height
        begin = end
    return total


def seconds_left(scales: Sequence[tuple[int, int, int]], rates: Sequence[tuple[int, float]], *, since: int) -> float:
    """Return the seconds that the evaluations after the first ``since`` take.

    An evaluation takes a constant time and a time that grows with the pixels, as the last two rates tell. With one
    rate, all of it grows with the pixels.

    Args:
        scales: as for ``work``.
        rates: numbers of pixels, and the seconds of an evaluation of such a picture; of the current scale at the end.
    """
    *earlier, (pixels, seconds) = rates[-2:]
    slope = seconds / pixels
    for fewer, less in earlier:
        if fewer < pixels:
            slope = min(slope, max(0.0, seconds - less) / (pixels - fewer))
    return (seconds - slope * pixels) * (scales[-1][2] - since) + slope * work(scales, since=since)


def status_of(summary: Mapping[str, Any]) -> str:
    """Return the status of a run by its summary and by its process: ``Progress.status``."""
    told = str(summary.get("status", "unknown"))
    if told != "running":
        return told
    process = _process(summary)
    if process is None:
        here = (summary.get("process") or {}).get("host") == platform.node()
        return "killed" if here else "running"  # on another machine
    try:
        return "paused" if process.status() == psutil.STATUS_STOPPED else "running"
    except psutil.Error:
        return "killed"


def stand_ins(assets: object) -> list[str]:
    """Return the names of those inputs of a run that a bundled stand-in replaces, from the summary's ``assets``."""
    found = assets if isinstance(assets, Mapping) else {}
    return [name for name, each in found.items() if each.get("source") == "stand-in"]


def newest_picture(folder: RunFolder, status: object) -> Path | None:
    """Return the result of a run that has ended, else its newest frame or snapshot; None if there is none."""
    if status not in UNFINISHED and folder.result.is_file():
        return folder.result
    saved = [*folder.saved_frames(), *folder.saved_snapshots()]
    newest = max(saved, key=lambda path: path.name, default=None)
    return newest or (folder.result if folder.result.is_file() else None)


def _process(summary: Mapping[str, Any]) -> psutil.Process | None:
    """Return the process of a run, if it runs on this machine. A later process with the same number isn't it."""
    known = summary.get("process") or {}
    if known.get("host") != platform.node():
        return None
    try:
        found = psutil.Process(known["id"])
        began = datetime.fromisoformat(summary["started"]).timestamp()
        alive = found.create_time() <= began + 1 and found.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, KeyError, ValueError, TypeError):
        return None
    return found if alive else None


def _memory(process: psutil.Process | None) -> int | None:
    try:
        return None if process is None else int(process.memory_info().rss)
    except psutil.Error:
        return None


def _rows(folder: RunFolder) -> Iterator[dict[str, float]]:
    try:
        with folder.losses.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                yield {name: float(row[name]) for name in ("evaluation", *CURVES)}
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        return


def _marks(
    folder: RunFolder, rows: Sequence[Mapping[str, float]], summary: Mapping[str, Any]
) -> list[tuple[float, int]]:
    """Return when a number of evaluations was known to be done, in order, in this session of the run."""
    marks = []
    try:
        began = datetime.fromisoformat(summary["started"]).timestamp()
    except (KeyError, ValueError, TypeError):
        began = 0.0
    for path in [*folder.saved_frames(), *folder.saved_snapshots(), *folder.saved_checkpoints()]:
        try:
            marks.append((path.stat().st_mtime, int(path.stem)))
        except (OSError, ValueError):
            continue
    if rows:
        marks.append((folder.losses.stat().st_mtime, int(rows[-1]["evaluation"])))
    return sorted(mark for mark in marks if mark[0] >= began)


def _rate(marks: Sequence[tuple[float, int]], *, over: float = 5.0) -> float | None:
    """Return evaluations a second over at least the last ``over`` seconds, if there are so many."""
    if len(marks) < 2:
        return None
    last, done = marks[-1]
    before = next((mark for mark in reversed(marks) if mark[0] <= last - over), marks[0])
    return (done - before[1]) / (last - before[0]) if last > before[0] and done > before[1] else None


def _rates(
    scales: Sequence[tuple[int, int, int]], marks: Sequence[tuple[float, int]], place: int, rate: float
) -> list[tuple[int, float]]:
    """Return pixels and seconds of an evaluation of the scale before the current one, if known, and of the current."""
    begin = scales[place - 2][2] if place > 1 else 0
    inside = [mark for mark in marks if place and begin < mark[1] <= scales[place - 1][2]]
    rates = [(math.prod(scales[place][:2]), 1 / rate)]
    if len(inside) > 1 and (before := _rate(inside)):
        rates.insert(0, (math.prod(scales[place - 1][:2]), 1 / before))
    return rates


def _curves(rows: Sequence[Mapping[str, float]]) -> dict[str, list[tuple[int, float]]]:
    kept = rows[:: max(1, len(rows) // POINTS)] or rows
    return {name: [(int(row["evaluation"]), row[name]) for row in kept if 0 < row[name] < math.inf] for name in CURVES}
