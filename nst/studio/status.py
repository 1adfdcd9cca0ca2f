"""What a run does now, by its summary and by the studio's queue, as the page says it."""

import time
from contextlib import suppress
from pathlib import Path

import yaml

from nst.errors import UserError
from nst.files.run_folder import RunFolder
from nst.live.view import duration
from nst.metrics.names import full_name
from nst.studio.queue import Job


def job_status(job: Job | None, told: str) -> str:
    """Return the status that the text and the buttons show for a job, whose run's summary has ``told`` a status.

    Until its process has begun to write, the summary tells how the run ended before it was continued.
    """
    if job is None or job.error is not None:
        return told
    if job.process is None:
        return "starting"
    if job.running() is None:
        return "finishing"
    if job.stopped:
        return "stopping"
    if told in ("running", "paused"):
        return told
    if not _writes(job):
        return "starting"
    return "measuring" if told == "completed" and measuring(job.folder) else "finishing"


def status_text(folder: Path, status: str) -> str | None:
    """Return what is known of a run that is measured, as the text of its status; None for any other status."""
    if status != "measuring":
        return None
    names, seconds = ", ".join(measuring(folder)), time.time() - RunFolder(folder).changed()
    return f"Measuring the picture by {names}, for {duration(max(0, seconds))} so far; metrics=null skips this"


def measuring(folder: Path) -> list[str]:
    """Return the names in a run's ``metrics`` by which its picture isn't measured yet."""
    run = RunFolder(folder)
    with suppress(OSError, ValueError, yaml.YAMLError, AttributeError):
        config = yaml.safe_load(run.config.read_text(encoding="utf-8"))
        measured = run.read_metrics()
        return [name for name in config.get("metrics") or [] if full_name(name) not in measured]
    return []


def _writes(job: Job) -> bool:
    """Return whether the job's process has written the summary of its run."""
    with suppress(UserError, OSError):
        writer = RunFolder(job.folder).read_summary().get("process") or {}
        return job.process is not None and writer.get("id") == job.process[0]
    return False
