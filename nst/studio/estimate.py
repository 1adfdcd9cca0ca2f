"""Estimates of what a run will take, from its plan and from the speed of earlier runs on this machine."""

import math
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nst.errors import UserError
from nst.files.run_folder import RunFolder, run_folders
from nst.live.progress import stand_ins, work
from nst.run import single

if TYPE_CHECKING:
    from nst.plan.planning import Plan  # imports torch, for which the page need not wait

#: Number of the newest runs whose speed is looked at.
_NEWEST = 100

#: Overrides of the short run that measures the speed if no earlier run tells it.
TRIAL = (
    "size=128", "evaluations=24", "metrics=null", "logger=none", "callbacks.film=null", "callbacks.snapshot=null",
    "callbacks.checkpoint=null",
)  # fmt: skip


@dataclass(frozen=True)
class Estimate:
    """What a run will take.

    Attributes:
        shape: width and height of the picture in px.
        evaluations: the number of evaluations.
        memory: bytes.
        seconds: seconds of optimization; None if the speed isn't known.
        stand_ins: the inputs that a bundled stand-in replaces.
    """

    shape: tuple[int, int]
    evaluations: int
    memory: int
    seconds: float | None
    stand_ins: Sequence[str]


class Speeds:
    """The speed of this machine by what is computed: seconds for an evaluation of a picture of one pixel.

    Args:
        outputs: folder of the runs from whose summaries it is known.
    """

    def __init__(self, outputs: Path) -> None:
        self.outputs = outputs
        self._trials: set[subprocess.Popen[bytes]] = set()
        self._tried: dict[tuple[Any, ...], float] = {}

    def estimate(self, words: Sequence[str], *, measure: bool = True) -> Estimate:
        """Return what the run of some overrides will take. Raise UserError with all problems found.

        If no earlier run tells the speed, a small run of a few evaluations measures it, unless ``measure`` is false.
        """
        plan, chosen = single.planned(words)
        scales = [(stage.shape[1], stage.shape[0], stage.end) for stage in plan.schedule.stages]
        height, width = plan.layout.shape
        kind = _kind(plan, chosen)
        speed = self._known(kind, width * height)
        if speed is None and measure:
            speed = self._trial(words)
            if speed is not None:
                self._tried[kind] = speed
        return Estimate(
            (width, height),
            plan.schedule.evaluations,
            plan.forecast.total,
            None if speed is None else speed * work(scales),
            stand_ins(plan.files.provenance()),
        )

    def _known(self, kind: tuple[Any, ...], pixels: int) -> float | None:
        """Return the speed of the run that is nearest in size, as a pixel of a small picture takes longer."""
        alike = (summary for summary in self._newest() if _kind_in(summary) == kind)
        speeds = [(_pixels(each), speed) for each in alike if (speed := _speed_in(each)) is not None]
        nearest = min(speeds, key=lambda known: abs(math.log(known[0] / pixels)), default=None)
        return self._tried.get(kind) if nearest is None else nearest[1]

    def close(self) -> None:
        """End the runs that measure the speed."""
        for process in list(self._trials):
            process.kill()

    def _trial(self, words: Sequence[str]) -> float | None:
        """Make a small run in a folder that is removed afterwards; return its speed, or None if it fails."""
        with tempfile.TemporaryDirectory(prefix="nst-") as folder:
            command = [sys.executable, "-m", "nst.train", *words, *TRIAL, f"hydra.run.dir={folder}/run"]
            nothing = subprocess.DEVNULL
            process = subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing)
            self._trials.add(process)
            process.wait()
            self._trials.discard(process)
            return _speed_in(RunFolder(Path(folder, "run")).read_summary())

    def _newest(self) -> Iterator[Mapping[str, Any]]:
        """Yield the summaries of runs, the newest first."""
        try:
            folders, _ = run_folders([self.outputs])
        except UserError:  # there is none yet
            return
        dated = sorted(((RunFolder(folder).changed(), folder) for folder in folders), reverse=True)
        for _, folder in dated[:_NEWEST]:
            try:
                yield RunFolder(folder).read_summary()
            except UserError:
                continue


def _pixels(summary: Mapping[str, Any]) -> int:
    return int(summary["width"]) * int(summary["height"])


def _kind(plan: "Plan", chosen: Mapping[str, str]) -> tuple[Any, ...]:
    from nst.run import provenance

    processor = provenance.processor()
    return (chosen["encoder"], chosen["objective"], str(plan.config.precision), plan.device.type, processor)


def _kind_in(summary: Mapping[str, Any]) -> tuple[Any, ...]:
    chosen = summary.get("choices") or {}
    device = str(summary.get("device", "")).partition(":")[0]
    processor = str(summary.get("processor", "")).rpartition(" (")[0]
    return (chosen.get("encoder"), chosen.get("objective"), str(summary.get("precision")), device, processor)


def _speed_in(summary: Mapping[str, Any]) -> float | None:
    """Return the speed of a finished run; None if its summary doesn't tell it."""
    try:
        scales = [(each["width"], each["height"], each["end"]) for each in summary["scales"]]
        done = work([(width, height, min(end, summary["evaluations"])) for width, height, end in scales])
        return float(summary["seconds"]) / done if summary["status"] == "completed" and done else None
    except (KeyError, TypeError, ValueError):
        return None
