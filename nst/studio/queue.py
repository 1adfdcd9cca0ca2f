"""The runs that the studio starts: one at a time, in the order in which they were added, each in its own process.

The queue is a folder of files, so that nothing is lost when the server ends: a run that was started goes on without it,
and the next server finds that run and those that wait.
"""

import json
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from nst.errors import UserError
from nst.files.atomic import write_text
from nst.files.run_folder import RunFolder, make_folder
from nst.files.signals import APART, ASK
from nst.live.progress import Progress, progress
from nst.studio.uploads import Uploads

log = logging.getLogger(__name__)

#: Number of jobs that the queue holds at most.
MOST = 50

#: Seconds until the queue tries again after a failure of the disk or of the system.
AGAIN = 5.0


@dataclass(frozen=True)
class Job:
    """A run that waits, is optimized, or ended with an error.

    Attributes:
        file: its file in the queue.
        words: the overrides, as the user gave them; for a run that is resumed, those beside ``resume``.
        folder: the run's folder.
        resumes: whether the run is resumed.
        process: number and creation time of its process; None while it waits.
        stopped: whether the user has stopped it.
        error: why it ended, if it did.
    """

    file: Path
    words: Sequence[str]
    folder: Path
    resumes: bool = False
    process: tuple[int, float] | None = None
    stopped: bool = False
    error: str | None = None

    @property
    def log(self) -> Path:
        """The file with the output of its process."""
        return self.file.with_suffix(".log")

    @property
    def command(self) -> list[str]:
        """The arguments of ``python -m nst.train``."""
        return [f"{'resume' if self.resumes else 'hydra.run.dir'}={self.folder}", *self.words]

    def running(self) -> psutil.Process | None:
        """Return the job's process; None if it hasn't begun, or has ended."""
        if self.process is None:
            return None
        try:
            found = psutil.Process(self.process[0])
            same = abs(found.create_time() - self.process[1]) < 1
            return found if same and found.status() != psutil.STATUS_ZOMBIE else None
        except psutil.Error:
            return None


class Queue:
    """The queue of a folder of outputs. Only one server may use it.

    Args:
        outputs: the folder of the runs.
    """

    def __init__(self, outputs: Path) -> None:
        self.outputs = outputs
        self.folder = outputs / ".studio" / "queue"
        self.uploads = Uploads(outputs / ".studio" / "uploads")
        self._changed = threading.Condition()
        self._closed = False
        self._last = 0
        self._thread = threading.Thread(target=self._work, name="nst-queue", daemon=True)

    def start(self) -> None:
        """Begin to start runs."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._thread.start()

    def close(self) -> None:
        """Start no more runs. A run that was begun goes on."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def jobs(self) -> list[Job]:
        """Return the jobs that wait, are running, or ended with an error, in their order."""
        found = (_read(file) for file in sorted(self.folder.glob("[0-9]*.json")))
        return [job for job in found if job is not None]

    def busy(self) -> bool:
        """Return whether a run is optimized."""
        return any(job.running() is not None for job in self.jobs())

    def add(self, words: Sequence[str]) -> Job:
        """Add a run with some overrides, whose pictures are copied into its folder; return its job.

        Raise UserError if too many runs wait, or if its folder can't be made, and OSError if the disk is full.
        """
        with self._changed:
            self._check_room()
            dated = self.outputs / datetime.now().strftime("%Y-%m-%d/%H-%M-%S")
            folder = RunFolder(make_folder("hydra.run.dir", dated, chosen=False))
            return self._add(self.uploads.move_into(list(words), folder.inputs), folder.path, resumes=False)

    def resume(self, folder: Path, evaluations: int | None = None) -> Job:
        """Add a run that goes on in its folder, up to another number of evaluations if one is given; return its job.

        Raise UserError if too many runs wait, and OSError if the disk is full.
        """
        with self._changed:
            self._check_room()
            os.utime(RunFolder(folder).summary)  # the run is the newest from now on
            return self._add([] if evaluations is None else [f"evaluations={evaluations}"], folder, resumes=True)

    def stop(self, job: Job) -> None:
        """Stop a run and keep its picture; take one that waits, or has failed, out of the queue."""
        with self._changed:
            now = _read(job.file)
            if now is None:
                return
            process = now.running()
            if process is None:
                if now.process is None or now.error is not None:
                    _discard(now)
                return
            _write(replace(now, stopped=True))
        with suppress(psutil.Error):
            process.resume()  # a paused process receives no signal
            process.send_signal(ASK)

    def pause(self, job: Job) -> None:
        """Pause a run, or let a paused one go on."""
        process = job.running()
        if process is not None:
            with suppress(psutil.Error):
                (process.resume if process.status() == psutil.STATUS_STOPPED else process.suspend)()

    def shown(self) -> tuple[Job | None, Progress | None]:
        """Return the job that is running, or else the first, with the progress of its run, if there is any."""
        jobs = self.jobs()
        job = next((job for job in jobs if job.running() is not None), jobs[0] if jobs else None)
        return job, None if job is None else progress(job.folder)

    def _check_room(self) -> None:
        if len(self.jobs()) >= MOST:
            raise UserError(f"{MOST} runs are already waiting; stop some of them on the tab Watch")

    def _add(self, words: Sequence[str], folder: Path, *, resumes: bool) -> Job:
        self._last = max([self._last, *(int(job.file.stem) for job in self.jobs())]) + 1  # no number is used twice
        job = Job(self.folder / f"{self._last:06d}.json", words, folder, resumes)
        _write(job)
        self._changed.notify_all()
        return job

    def _work(self) -> None:
        while True:
            with self._changed:
                if self._closed:
                    return
                due = [job for job in self.jobs() if job.error is None]
                if not due:
                    self._changed.wait()
                    continue
            job = next((job for job in due if job.process is not None), due[0])
            try:
                self._end(job, self._run(job))
            except (OSError, psutil.Error):
                log.exception("The queue can't continue with %s", job.file)
                time.sleep(AGAIN)

    def _run(self, job: Job) -> int | None:
        """Start a job, unless an earlier server has, and wait until it has ended. Return its exit status, if known."""
        earlier = job.running() or (_process_of(job) if job.process is None else None)
        if earlier is not None:
            _write(replace(job, process=(earlier.pid, earlier.create_time())))
            earlier.wait()
        if earlier is not None or job.process is not None:
            return None
        with self._changed:
            if not job.file.is_file():  # it was removed since
                return None
            environment = {**os.environ, "COLUMNS": "1000", "PYTHONUNBUFFERED": "1"}  # its lines stay whole
            with job.log.open("wb") as output:
                process = subprocess.Popen(
                    [sys.executable, "-m", "nst.train", *job.command],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=environment,
                    **APART,
                )
            try:
                _write(replace(job, process=(process.pid, psutil.Process(process.pid).create_time())))
            except (OSError, psutil.Error):
                log.exception("%s can't be written", job.file)
        return process.wait()

    def _end(self, job: Job, status: int | None) -> None:
        """Take a job that has ended out of the queue; keep it, with the reason, if it has failed."""
        with self._changed:
            now = _read(job.file)
            if now is None:
                return
            error = None if now.stopped else _error(now, status)
            if error is None:
                if now.stopped:
                    _note_stop(RunFolder(now.folder))
                _discard(now)
            else:
                _write(replace(now, error=error))


def _error(job: Job, status: int | None) -> str | None:
    """Return why a process has failed: what it says, or how it ended if it has left no run; None if it hasn't."""
    try:
        lines = job.log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    said = [line for line in lines if line.startswith("error: ")]
    if said:
        return "\n".join(said)
    if status in (1, 2):
        return "\n".join(lines[-1:]) or f"the run ended with the status {status}"
    if RunFolder(job.folder).summary.is_file():  # which says how it ended
        return None
    how = f"was ended by the signal {-status}" if status is not None and status < 0 else "ended"
    return f"the run's process {how} before its first evaluation"


def _process_of(job: Job) -> psutil.Process | None:
    """Return the process of a job that a server has started without having noted it, as it was killed then."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if job.command[0] in process.cmdline():
                return process
    return None


def _note_stop(folder: RunFolder) -> None:
    """Note in the summary that the user has stopped a run whose process ended before it could do so itself."""
    with suppress(UserError):  # a damaged summary
        if folder.read_summary().get("status") == "running":
            kept = folder.newest_checkpoint()
            done = 0 if kept is None else int(kept.stem)
            folder.update_summary({"status": "interrupted", "evaluations": done})


def _discard(job: Job) -> None:
    """Remove a job's folder if it holds no run, and its files."""
    if not (job.resumes or RunFolder(job.folder).summary.exists()):
        shutil.rmtree(job.folder, ignore_errors=True)
    for file in (job.file, job.log):
        file.unlink(missing_ok=True)


def _read(file: Path) -> Job | None:
    try:
        held: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        process = None if held["process"] is None else tuple(held.pop("process"))
        return Job(**{**held, "file": file, "folder": Path(held["folder"]), "process": process})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(job: Job) -> None:
    held = {
        "words": list(job.words),
        "folder": str(job.folder),
        "resumes": job.resumes,
        "process": job.process,
        "stopped": job.stopped,
        "error": job.error,
    }
    write_text(job.file, json.dumps(held, indent=2) + "\n")
