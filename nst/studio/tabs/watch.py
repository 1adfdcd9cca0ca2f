"""The tab that shows the run that is optimized, and the runs that wait."""

import html
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from nst.config.overrides import command
from nst.errors import UserError, problem
from nst.live.progress import Progress, progress
from nst.live.view import run_html
from nst.studio import gallery
from nst.studio.mistakes import shown
from nst.studio.queue import Job, Queue
from nst.studio.status import job_status, status_text

#: Seconds between two looks at a run.
INTERVAL = 1.0

_EMPTY = '<div class="nst-run"><div class="nst-empty">{}</div></div>'
_NONE = _EMPTY.format("No run is active. Start a run on the tab Paint.")
_UNBEGUN = _EMPTY.format(
    "Stopped before the first evaluation, so there is no picture. Start it again on the tab Paint."
)

#: The folder of a run, and the number of evaluations that it makes at most; None if there is no run, or it isn't known.
Budget = tuple[Path, int] | None


class Watch:
    """The tab that shows the run that is optimized, and the runs that wait.

    Args:
        queue: the runs.
    """

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self._last: Path | None = None
        self._stopped: Path | None = None
        self.job = gr.State(None)  # the file of the job that is shown, which the buttons mean
        self.budget = gr.State(None)  # the folder and the number of evaluations of the run that is shown
        self.run = gr.HTML(_NONE)
        with gr.Row():
            self.pause = gr.Button("Pause", interactive=False)
            self.stop = gr.Button("Stop and keep the picture", variant="stop", interactive=False)
            self.resume = gr.Button("Continue", interactive=False)
            self.evaluations = gr.Number(
                label="Evaluations in total",
                info="Continue goes on until the run has made this many; raise it to continue a complete run",
                precision=0,
            )
        self.waiting = gr.HTML()
        self.remove = gr.Button("Remove waiting runs", visible=False, size="sm")
        self.timer = gr.Timer(INTERVAL, active=False)
        buttons = [self.pause, self.stop, self.resume, self.evaluations]
        self.outputs = [self.job, self.budget, self.run, *buttons, self.waiting, self.remove, self.timer]
        private: Any = {"show_progress": "hidden", "api_visibility": "private"}
        self.timer.tick(self.show, self.budget, self.outputs, **private)
        self.pause.click(self._pause, [self.job, self.budget], self.outputs, **private)
        self.stop.click(self._stop, [self.job, self.budget], self.outputs, **private)
        self.resume.click(self._resume, [self.evaluations, self.budget], self.outputs, **private)
        self.remove.click(self._remove, [self.job, self.budget], self.outputs, **private)

    def show(self, before: Budget = None) -> tuple[object, ...]:
        """Return the run that is optimized, or that was last, and what can be done with it.

        ``before`` is what the page shows: a number of evaluations that was typed in for the same run stays.
        """
        job, found = self._current()
        if found is not None:
            found = replace(found, status=job_status(job, found.status))
        others = [each for each in self.queue.jobs() if each != job]
        active = any(each.error is None for each in [*others, *([] if job is None else [job])])
        text = _UNBEGUN if self._unbegun() else _NONE
        if found is not None:
            text = run_html(found, status=status_text(found.folder, found.status))
        failed = job is not None and job.error is not None
        if job is not None and failed:
            text = f'<p class="nst-error" role="alert">{html.escape(str(job.error))}</p>{text}'
        budget = None if found is None or not found.budget else (found.folder, found.budget)
        status = None if found is None else found.status
        return (
            None if job is None else job.file,
            budget,
            text,
            gr.Button("Go on" if status == "paused" else "Pause", interactive=status in ("running", "paused")),
            gr.Button(
                "Dismiss" if failed else "Stop and keep the picture",
                interactive=job is not None and status not in ("stopping", "measuring", "finishing"),
            ),
            gr.Button(interactive=job is None and found is not None and found.resumable),
            gr.skip() if budget == before else budget and budget[1],
            _waiting(others),
            gr.Button(visible=bool(others)),
            gr.Timer(active=active),
        )

    def _current(self) -> tuple[Job | None, Progress | None]:
        job, found = self.queue.shown()
        if job is not None:
            self._last = job.folder
            return job, found
        if not self._unbegun() and (self._last is None or not self._last.is_dir()):
            newest = gallery.entries(self.queue.outputs)
            self._last = newest[0].folder if newest else None
        return None, None if self._last is None or self._unbegun() else progress(self._last)

    def _unbegun(self) -> bool:
        """Return whether the user has stopped the last run before it had anything to keep."""
        return self._last is not None and self._last == self._stopped and not self._last.is_dir()

    def _meant(self, file: Path | None) -> Job | None:
        """Return the job of a file that was shown; None if it has left the queue since."""
        return next((job for job in self.queue.jobs() if job.file == file), None)

    def _pause(self, file: Path | None, budget: Budget) -> tuple[object, ...]:
        job = self._meant(file)
        if job is not None:
            self.queue.pause(job)
        return self.show(budget)

    def _stop(self, file: Path | None, budget: Budget) -> tuple[object, ...]:
        job = self._meant(file)
        if job is not None:
            self._stopped = job.folder if job.error is None else None
            self.queue.stop(job)
        return self.show(budget)

    def _resume(self, evaluations: float | None, budget: Budget) -> tuple[object, ...]:
        job, found = self._current()
        if job is None and found is not None and (budget is None or budget[0] == found.folder):  # the run that is shown
            more = None if evaluations is None or evaluations == found.budget else int(evaluations)
            try:
                if found.status == "completed" and (more is None or more < found.budget):
                    why = f"the run is complete; more than {found.budget} continue it"
                    raise UserError(problem("Evaluations in total", more or found.budget, why))
                self.queue.resume(found.folder, more)
            except (UserError, OSError) as error:
                raise shown(error) from None
        return self.show(budget)

    def _remove(self, file: Path | None, budget: Budget) -> tuple[object, ...]:
        for job in self.queue.jobs():
            if job.file != file and job.running() is None:
                self.queue.stop(job)
        return self.show(budget)


def _waiting(jobs: list[Job]) -> str:
    if not jobs:
        return ""
    texts = [command(job.command) + (f": {job.error}" if job.error else "") for job in jobs]
    lines = "".join(f"<li><code>{html.escape(text)}</code></li>" for text in texts)
    return f"<h3>Next</h3><ol>{lines}</ol>"
