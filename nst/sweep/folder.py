"""The folder of a sweep: a folder for each run, identified by what the run computes, and ``.jobs/`` for the jobs.

``.jobs/`` holds, by job number, the files that Hydra writes for each job, and the outcome of each job of the last
command.
"""

import hashlib
import json
import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from rich.markup import escape
from rich.table import Table

from nst.config.identity import incomparable, names_picture
from nst.config.keys import Loss
from nst.errors import typed, written
from nst.files.atomic import write_text
from nst.files.lock import locked
from nst.files.run_folder import RunFolder
from nst.metrics.names import OBSERVERS, REPORTED, directions, full_name, named

#: The losses in the table of a sweep.
_SHOWN: tuple[Loss, ...] = ("total", "content", "style")

State = Literal["running", "ran", "kept", "continued", "failed", "interrupted"]


@dataclass(frozen=True)
class Outcome:
    """The outcome of a job: its overrides, its state, the folder of its run, and its error, if any."""

    number: int
    overrides: list[str]
    state: State
    folder: str | None = None
    error: str | None = None


class Sweep:
    """The folder of a sweep.

    Args:
        path: the folder; it is made when the first file is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._jobs = path / ".jobs"
        self._varied = self._jobs / "varied"
        self._expected = self._jobs / "expected"
        self._said = self._jobs / "said"

    @contextmanager
    def claim(self, identity: str, name: str) -> Iterator[RunFolder]:
        """Yield the folder of the run with this ``identity``, ``NAME-IDENTITY`` for a new one.

        If another job is computing the same run, even on another machine, wait for it first.
        """
        lock = self._jobs / "locks" / identity
        lock.parent.mkdir(parents=True, exist_ok=True)
        with locked(lock):
            existing = sorted(self.path.glob(f"*-{identity}"))
            folder = existing[0] if existing else self.path / f"{name}-{identity}"
            folder.mkdir(exist_ok=True)
            yield RunFolder(folder)

    def record(self, outcome: Outcome) -> None:
        """Write the outcome of a job, or that it has begun."""
        self._jobs.mkdir(exist_ok=True)
        write_text(self._jobs / f"{outcome.number}.json", json.dumps(asdict(outcome), indent=2) + "\n")

    def begin(self, varied: Sequence[str], expected: int | None) -> None:
        """Write the keys that this command varies and its number of runs, if it is known.

        Delete the outcomes of an earlier command, but not its runs.
        """
        self._jobs.mkdir(parents=True, exist_ok=True)
        for path in self._jobs.glob("*.json"):
            path.unlink()
        shutil.rmtree(self._said, ignore_errors=True)
        write_text(self._varied, "".join(f"{key}\n" for key in dict.fromkeys(varied)))
        write_text(self._expected, "" if expected is None else f"{expected}\n")

    def varied(self) -> list[str]:
        """Return the keys and groups that differ from run to run."""
        return self._varied.read_text(encoding="utf-8").split() if self._varied.is_file() else []

    def place(self, number: int) -> str:
        """Return which of the runs a job is: ``2 of 4`` for the number 1, or ``2`` if their number isn't known."""
        expected = self._expected.read_text(encoding="utf-8").strip() if self._expected.is_file() else ""
        return f"{number + 1} of {expected}" if expected else f"{number + 1}"

    def is_new(self, text: str) -> bool:
        """Return whether no run of this command has said a text before. It is said from now on."""
        self._said.mkdir(exist_ok=True)
        try:
            (self._said / hashlib.sha256(text.encode()).hexdigest()[:16]).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def outcomes(self) -> list[Outcome]:
        """Return the outcomes of the last command's jobs, by number."""
        found = [Outcome(**json.loads(path.read_text(encoding="utf-8"))) for path in self._jobs.glob("*.json")]
        return sorted(found, key=lambda outcome: outcome.number)

    def table(self, outcomes: Sequence[Outcome]) -> Table:
        """Return a table of the outcomes: the overrides that not all runs share, the state, results and error.

        The results are the losses that compare, and the measures to report. Runs that share all their overrides have
        all of them.
        """
        results = [self._results(outcome) for outcome in outcomes]
        losses = [name for name in _SHOWN if not any(name in incomparable(key) for key in self.varied())]
        columns = [name for name in (*losses, *REPORTED) if any(name in each for each in results)]
        pictures = losses and any(map(names_picture, self.varied()))
        compared = [name for name in columns if not (pictures and name in losses)]
        notes = [directions(compared)] if compared else []
        notes += ["losses compare only between runs with the same pictures"] if pictures else []
        table = Table(
            "",
            "run",
            "outcome",
            *columns,
            box=None,
            pad_edge=False,
            caption="; ".join(notes) or None,
            caption_justify="left",
        )
        for outcome, found in zip(outcomes, results, strict=True):
            own = [word for word in outcome.overrides if not all(word in other.overrides for other in outcomes)]
            own = own or outcome.overrides
            state = "ended without a result" if outcome.state == "running" else outcome.state
            shown = [written(found[name], 4) if name in found else "" for name in columns]
            table.add_row(str(outcome.number), escape(" ".join(map(typed, own))), state, *shown)
            if outcome.error is not None:
                table.add_row("", escape(textwrap.indent(outcome.error, "  ")))
        return table

    def _results(self, outcome: Outcome) -> dict[str, float]:
        """Return the losses of a run, and its measures by the first of the observers that measured it."""
        if outcome.folder is None or outcome.state in ("failed", "running"):
            return {}
        folder = RunFolder(Path(outcome.folder))
        metrics = folder.read_metrics()
        observer = next((kind for kind in OBSERVERS if full_name(kind) in metrics), None)
        measures: Mapping[str, float] = {} if observer is None else named(metrics, observer)
        return {**folder.read_summary().get("losses", {}), **measures}
