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
from nst.live.progress import seconds_left, stand_ins
from nst.run import single

if TYPE_CHECKING:
    from nst.plan.planning import Plan  # imports torch, for which the page need not wait

#: Numbers of pixels, and the seconds of an evaluation of such a picture, of the scales of a run.
Rates = list[tuple[int, float]]

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
    """The speed of this machine by what is computed: the time of an evaluation at the scales of earlier runs.

    Args:
        outputs: folder of the runs from whose summaries it is known.
    """

    def __init__(self, outputs: Path) -> None:
        self.outputs = outputs
        self._trials: set[subprocess.Popen[bytes]] = set()
        self._tried: dict[tuple[Any, ...], Rates] = {}

    def estimate(self, words: Sequence[str], *, measure: bool = True) -> Estimate:
        """Return what the run of some overrides will take. Raise UserError with all problems found.

        If no earlier run tells the speed, a small run of a few evaluations measures it, unless ``measure`` is false.
        """
        plan, chosen = single.planned(words)
        height, width = plan.layout.shape
        kind = _kind(plan, chosen)
        rates = self._known(kind, width * height)
        if not rates and measure:
            rates = self._tried[kind] = self._trial(words)
        return Estimate(
            (width, height),
            plan.schedule.evaluations,
            plan.forecast.total,
            seconds_left(plan.schedule.scales, rates, since=0) if rates else None,
            stand_ins(plan.files.provenance()),
        )

    def _known(self, kind: tuple[Any, ...], pixels: int) -> Rates:
        """Return the rates of the run that is nearest in size, as a pixel of a small picture takes longer."""
        alike = (_rates_in(summary) for summary in self._newest() if _kind_in(summary) == kind)
        known = [rates for rates in alike if rates]
        return min(known, key=lambda rates: abs(math.log(rates[-1][0] / pixels)), default=self._tried.get(kind, []))

    def close(self) -> None:
        """End the runs that measure the speed."""
        for process in list(self._trials):
            process.kill()

    def _trial(self, words: Sequence[str]) -> Rates:
        """Make a small run in a folder that is removed afterwards; return its rates, none if it fails."""
        with tempfile.TemporaryDirectory(prefix="nst-") as folder:
            command = [sys.executable, "-m", "nst.train", *words, *TRIAL, f"hydra.run.dir={folder}/run"]
            nothing = subprocess.DEVNULL
            process = subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing)
            self._trials.add(process)
            process.wait()
            self._trials.discard(process)
            return _rates_in(RunFolder(Path(folder, "run")).read_summary())

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


def _kind(plan: "Plan", chosen: Mapping[str, str]) -> tuple[Any, ...]:
    from nst.run import provenance

    processor = provenance.processor()
    return (chosen["encoder"], chosen["objective"], str(plan.config.precision), plan.device.type, processor)


def _kind_in(summary: Mapping[str, Any]) -> tuple[Any, ...]:
    chosen = summary.get("choices") or {}
    device = str(summary.get("device", "")).partition(":")[0]
    processor = str(summary.get("processor", "")).rpartition(" (")[0]
    return (chosen.get("encoder"), chosen.get("objective"), str(summary.get("precision")), device, processor)


def _rates_in(summary: Mapping[str, Any]) -> Rates:
    """Return the rates of a completed run, none if its summary doesn't tell them."""
    try:
        return [
            (int(each["width"]) * int(each["height"]), float(each["evaluation_seconds"]))
            for each in summary["scales"]
            if summary["status"] == "completed" and each["evaluation_seconds"]
        ]
    except (KeyError, TypeError, ValueError):
        return []
