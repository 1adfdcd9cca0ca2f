"""The files in a run's folder: their names, and atomic writing."""

import itertools
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import Timeout

from nst.errors import UserError, folder_problem, problem
from nst.files.atomic import UNFINISHED, sha256, write_text
from nst.files.lock import locked


class RunFolder:
    """The files of one run. No other module has the names of these files.

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
        self.inputs = path / "inputs"  # pictures that were not given as files
        self.snapshots = path / "snapshots"
        self.frames = path / "frames"  # frames of the film, until it is written
        self.checkpoints = path / "checkpoints"
        self.metrics = path / "metrics.json"
        self.profile = path / "profile"
        self._tensorboard = path / "tensorboard"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Make the folder, lock it against other processes, and remove unfinished files of a killed process.

        Raise UserError if another process holds the lock.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(self.path / ".lock", timeout=0))
            except Timeout:
                raise UserError(problem("resume", self.path, "another process is using this folder")) from None
            for left in self.path.rglob(f"{UNFINISHED}*"):
                left.unlink()
            yield

    def events(self, name: str) -> Path:
        """Return the folder of the event files. TensorBoard shows its path as the name of the run.

        So it is named after the run, unless the run's folder is, as NAME or NAME-IDENTITY. A resumed run keeps its
        folder.
        """
        for earlier in sorted(self._tensorboard.rglob("events.*")):
            return earlier.parent
        named = name in (self.path.name, self.path.name.rpartition("-")[0])
        return self._tensorboard if named else self._tensorboard / name

    def logs(self, logger: str) -> Path:
        """Return the folder of a logger other than TensorBoard's, by its name: ``csv/``."""
        return self.path / logger

    def snapshot(self, evaluation: int) -> Path:
        """Return the path of the snapshot after a number of evaluations."""
        return self.snapshots / f"{evaluation:06d}.png"

    def saved_snapshots(self) -> list[Path]:
        """Return the existing snapshots, oldest first."""
        return sorted(self.snapshots.glob("[0-9]*.png"))

    def frame(self, evaluation: int) -> Path:
        """Return the path of the film's frame after a number of evaluations."""
        return self.frames / f"{evaluation:06d}.png"

    def saved_frames(self) -> list[Path]:
        """Return the existing frames of the film, oldest first."""
        return sorted(self.frames.glob("[0-9]*.png"))

    def copy(self, suffix: str) -> Path:
        """Return the path of the result in another format."""
        return self.result.with_suffix(suffix)

    def film(self, format: str) -> Path:  # noqa: A002
        """Return the path of the film: ``progress.mp4`` or ``progress.gif``."""
        return self.path / f"progress.{format}"

    def films(self) -> list[Path]:
        """Return the paths that a film may have."""
        return [self.film(each) for each in ("mp4", "gif")]

    def film_pictures(self) -> list[Path]:
        """Return the pictures of the film, in order; snapshots replace frames that an earlier film has used up."""
        frames = self.saved_frames()
        earlier = [path for path in self.saved_snapshots() if path.name < frames[0].name]
        return earlier + frames

    def checkpoint(self, evaluation: int) -> Path:
        """Return the path of the checkpoint after a number of evaluations."""
        return self.checkpoints / f"{evaluation:06d}.ckpt"

    def saved_checkpoints(self) -> list[Path]:
        """Return the existing checkpoints, oldest first."""
        return sorted(self.checkpoints.glob("[0-9]*.ckpt"))

    def parts_without_checkpoint(self) -> list[Path]:
        """Return the parts of checkpoints that were removed, or never completed."""
        whole = {path.stem for path in self.saved_checkpoints()}
        return [path for path in self.checkpoints.glob("[0-9]*.part[0-9]*") if path.stem not in whole]

    def newest_checkpoint(self) -> Path | None:
        """Return the checkpoint to resume from; None if the run was stopped before its first checkpoint."""
        return next(reversed(self.saved_checkpoints()), None)

    def read_summary(self) -> dict[str, Any]:
        """Return the summary so far; empty if it doesn't exist. Raise UserError if it is damaged."""
        if not self.summary.is_file():
            return {}
        try:
            summary = json.loads(self.summary.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise UserError(problem("summary", self.summary, f"this file is damaged: {error}")) from error
        if not isinstance(summary, dict):
            raise UserError(problem("summary", self.summary, "this file is damaged: it contains no keys"))
        return summary

    def changed(self) -> float:
        """Return when the summary was last written: as the run began, was resumed or ended; 0 if there is none."""
        try:
            return self.summary.stat().st_mtime
        except OSError:
            return 0.0

    def read_metrics(self) -> dict[str, Any]:
        """Return the measures of the picture by the name of their observer (``nst.metrics``).

        Empty if there are none, if they are of a picture that was replaced since, or if the file is damaged.
        """
        try:
            kept = json.loads(self.metrics.read_text(encoding="utf-8"))
            observers = {name: {**held, "values": dict(held["values"])} for name, held in kept["observers"].items()}
            return observers if kept["picture_sha256"] == sha256(self.result) else {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return {}

    def write_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Keep the measures of the picture, by the name of their observer. Numbers must be finite."""
        kept = {"picture_sha256": sha256(self.result), "observers": metrics}
        write_text(self.metrics, json.dumps(kept, indent=2, allow_nan=False) + "\n")

    def update_summary(self, values: Mapping[str, Any]) -> None:
        """Add values to the summary, or replace those of the same names."""
        summary = {**self.read_summary(), **values}
        write_text(self.summary, json.dumps(summary, indent=2, ensure_ascii=False) + "\n")


def run_folders(folders: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """Return the run folders in and below ``folders``, once each, and a line for each folder that can't be read.

    Raise UserError for a missing folder, and if there is no run at all.
    """
    wrong = [problem("FOLDER", path, why) for path in folders if (why := folder_problem(path)) is not None]
    if wrong:
        raise UserError(wrong)
    failures: list[OSError] = []
    found = {path.resolve(): path for top in folders for path in _below(top, failures.append)}
    if not found:
        why = "there is no run in this folder or below it; give a folder that nst.train made"
        raise UserError([problem("FOLDER", path, why) for path in folders])
    return list(found.values()), [f"{error.filename} can't be read: {error.strerror}" for error in failures]


def _below(top: Path, on_error: Callable[[OSError], None]) -> list[Path]:
    """Return the run folders in and below ``top``. Follow links, visit each folder once, and skip hidden folders."""
    marks = {RunFolder(top).config.name, RunFolder(top).summary.name}
    found, seen = [], set()
    for name, folders, files in os.walk(top, onerror=on_error, followlinks=True):
        real = os.path.realpath(name)
        folders[:] = [] if real in seen else sorted(folder for folder in folders if not folder.startswith("."))
        if real not in seen and marks & set(files):
            found.append(Path(name))
        seen.add(real)
    return found


def name_problem(key: str, folder: Path) -> str | None:
    """Return the line about a folder that ``key`` names, if its name can't be used; None if it can."""
    why = "Hydra reads ${ in a folder's name as an interpolation; choose another"
    return problem(key, folder, why) if "${" in str(folder) else None


def make_folder(key: str, folder: Path, *, chosen: bool) -> Path:
    """Make the folder that ``key`` names; one that was not ``chosen`` gets a number if the name is taken.

    Raise UserError if that can't be done.
    """
    try:
        if chosen:
            folder.mkdir(parents=True, exist_ok=True)
            return folder
        for number in itertools.count(1):
            numbered = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
            with suppress(FileExistsError):
                numbered.mkdir(parents=True)
                return numbered
    except OSError as error:
        raise UserError(problem(key, folder, f"can't be written: {error.strerror}")) from error
    raise AssertionError


class LossTable:
    """The table ``losses.csv``, with a row for each evaluation.

    The table is kept in memory and rewritten whole, at most every ``interval`` seconds and at ``flush``.

    Args:
        path: the file.
        kept: rows of an interrupted run are kept up to the evaluation of this number.
    """

    interval = 5.0

    def __init__(self, path: Path, *, kept: int = 0) -> None:
        self.path = path
        self._lines = self._read(kept)
        self._written = time.monotonic()

    def add(self, evaluation: int, values: Mapping[str, float]) -> None:
        """Add the row of an evaluation; every row has the columns of the first."""
        row = {"evaluation": evaluation, **values}
        if not self._lines:
            self._lines.append(",".join(row))
        self._lines.append(",".join(repr(value) for value in row.values()))
        if time.monotonic() - self._written >= self.interval:
            self.flush()

    def flush(self) -> None:
        """Write the table."""
        write_text(self.path, "".join(f"{line}\n" for line in self._lines))
        self._written = time.monotonic()

    def _read(self, kept: int) -> list[str]:
        if kept == 0 or not self.path.is_file():
            return []
        header, *rows = self.path.read_text(encoding="utf-8", errors="replace").splitlines() or [""]
        numbered = [(row.partition(",")[0], row) for row in rows]
        whole = [row for number, row in numbered if number.isdecimal() and int(number) <= kept]
        return [header, *whole] if header.startswith("evaluation,") else []
