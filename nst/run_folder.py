"""A run's folder: the names of its files, and their writing, whole or not at all."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from nst.errors import UserError, problem
from nst.file import UNFINISHED, write_text


class RunFolder:
    """The files of one run. Nothing else in the project knows their names.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.result = path / "result.png"
        self.config = path / "config.yaml"
        self.losses = path / "losses.csv"
        self.summary = path / "summary.json"
        self.log = path / "train.log"
        self.inputs = path / "inputs"  # pictures that were no files
        self.snapshots = path / "snapshots"
        self.frames = path / "frames"  # of the film, until it is made
        self.checkpoints = path / "checkpoints"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Makes the folder, keeps other processes out, and removes what a killed one was still writing.

        Raises UserError where another process is at work here.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / ".lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise UserError(problem("resume", self.path, "another process is at work in this folder")) from None
        try:
            for left in self.path.rglob(f"{UNFINISHED}*"):
                left.unlink()
            yield
        finally:
            lock.release()

    def logs(self, name: str) -> Path:
        """The logger's folder; TensorBoard shows its path, and so the run's name."""
        return self.path / "tensorboard" / name

    def snapshot(self, evaluation: int) -> Path:
        """The name of the picture after so many evaluations."""
        return self.snapshots / f"{evaluation:06d}.png"

    def saved_snapshots(self) -> list[Path]:
        """The snapshots there are, oldest first."""
        return sorted(self.snapshots.glob("[0-9]*.png"))

    def frame(self, evaluation: int) -> Path:
        """The name of the film's picture after so many evaluations."""
        return self.frames / f"{evaluation:06d}.png"

    def copy(self, suffix: str) -> Path:
        """The name of the picture once more, in another format."""
        return self.result.with_suffix(suffix)

    def film(self, format: str) -> Path:  # noqa: A002
        """The name of the film: ``progress.mp4`` or ``progress.gif``."""
        return self.path / f"progress.{format}"

    def film_pictures(self) -> list[Path]:
        """The pictures of the film, in order; snapshots stand in for frames that an earlier film has used up."""
        frames = sorted(self.frames.glob("[0-9]*.png"))
        earlier = [path for path in self.saved_snapshots() if path.name < frames[0].name]
        return earlier + frames

    def checkpoint(self, evaluation: int) -> Path:
        """The name of the checkpoint after so many evaluations."""
        return self.checkpoints / f"{evaluation:06d}.ckpt"

    def saved_checkpoints(self) -> list[Path]:
        """The checkpoints there are, oldest first."""
        return sorted(self.checkpoints.glob("[0-9]*.ckpt"))

    def newest_checkpoint(self) -> Path | None:
        """What a run goes on from; None where it was stopped before its first checkpoint."""
        return next(reversed(self.saved_checkpoints()), None)

    def read_summary(self) -> dict[str, Any]:
        """The summary so far; empty where there is none. Raises UserError where it is damaged."""
        if not self.summary.is_file():
            return {}
        try:
            summary = json.loads(self.summary.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise UserError(problem("summary", self.summary, f"this file is damaged: {error}")) from error
        if not isinstance(summary, dict):
            raise UserError(problem("summary", self.summary, "this file is damaged: it holds no keys"))
        return summary

    def update_summary(self, values: Mapping[str, Any]) -> None:
        """Adds to the summary, or replaces what it has under the same names."""
        summary = {**self.read_summary(), **values}
        write_text(self.summary, json.dumps(summary, indent=2, ensure_ascii=False) + "\n")


class LossTable:
    """``losses.csv``: a row for each evaluation.

    The table is kept in memory and rewritten whole, at most every ``interval`` seconds and at ``flush``.

    Args:
        path: the file.
        kept: rows of an interrupted run that stay: those of evaluations up to this number.
    """

    interval = 5.0

    def __init__(self, path: Path, *, kept: int = 0) -> None:
        self.path = path
        self._lines = self._read(kept)
        self._written = time.monotonic()

    def add(self, evaluation: int, values: Mapping[str, float]) -> None:
        """Adds the row of an evaluation; every row has the columns of the first."""
        row = {"evaluation": evaluation, **values}
        if not self._lines:
            self._lines.append(",".join(row))
        self._lines.append(",".join(repr(value) for value in row.values()))
        if time.monotonic() - self._written >= self.interval:
            self.flush()

    def flush(self) -> None:
        """Writes the table."""
        write_text(self.path, "".join(f"{line}\n" for line in self._lines))
        self._written = time.monotonic()

    def _read(self, kept: int) -> list[str]:
        if kept == 0 or not self.path.is_file():
            return []
        header, *rows = self.path.read_text(encoding="utf-8", errors="replace").splitlines() or [""]
        numbered = [(row.partition(",")[0], row) for row in rows]
        whole = [row for number, row in numbered if number.isdecimal() and int(number) <= kept]
        return [header, *whole] if header.startswith("evaluation,") else []
