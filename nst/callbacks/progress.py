"""The progress bar."""

import multiprocessing
import time

import pytorch_lightning as pl
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Column

from nst.errors import written
from nst.files.run_folder import RunFolder
from nst.live.progress import seconds_left
from nst.optimizer.module import StyleTransfer

#: Without a bar, a line says how long the run takes if that is more than so many seconds, once so many have passed.
LONG, PASSED = 60, 5


class Clock:
    """The time that a run still needs, from the evaluations of its scales so far and the pixels of those to come.

    It counts the mean time of a scale's evaluations, with the snapshots and checkpoints between them.
    """

    def __init__(self) -> None:
        self.begun = time.monotonic()
        self._first = (-1, 0, 0.0)  # of the scale: its position, the number of its first evaluation, and when it was
        self._rates: dict[int, tuple[int, float]] = {}  # by position: pixels, and seconds of an evaluation

    def left(self, module: StyleTransfer) -> float | None:
        """Return the seconds that a run still needs after its latest evaluation; None after a scale's first one.

        What an objective draws takes the same time at each size: its first scale doesn't tell the time of larger ones.
        """
        number, now = module.evaluation.number, time.monotonic()
        if self._first[0] != module.position:
            self._first = (module.position, number, now)
        _, first, since = self._first
        if number == first:
            return None
        height, width = module.stage.shape
        self._rates[module.position] = (height * width, (now - since) / (number - first))
        scales = module.schedule.scales
        if module.draws and len(self._rates) == 1 and module.position < len(scales) - 1:
            return None
        return seconds_left(scales, list(self._rates.values()), since=number)


def told(seconds: float) -> str:
    """Return a time as text: ``42 s``, ``12 min``, ``3 h 5 min``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


class ProgressBar(pl.Callback):
    """A progress bar with the number of evaluations, the losses and an estimate of the remaining time.

    It moves without a number until the first evaluation is done, which may take minutes.

    Without a terminal, and in processes that a launcher has started beside each other, it prints a line for each tenth
    of the evaluations, and soon after the start one with the estimate if the run takes longer than a minute.

    Args:
        folder: folder of the run, whose name begins the lines of processes beside each other.
    """

    def __init__(self, *, folder: RunFolder | None = None) -> None:
        alone = multiprocessing.parent_process() is None
        self.console = Console(stderr=True)
        self.shows_bar = self.console.is_terminal and alone
        self.name = "" if alone or folder is None else f"{folder.path.name}: "
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=12),
            MofNCompleteColumn(),
            TextColumn("{task.fields[losses]}", table_column=Column(ratio=1, no_wrap=True)),
            TextColumn("{task.fields[left]}"),
            console=self.console,
            expand=True,
            disable=not self.shows_bar,
        )
        self.task = TaskID(0)

    def on_fit_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, StyleTransfer)
        self.task = self.progress.add_task("preparing", total=None, losses="", left="")
        self.progress.start()

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, StyleTransfer)
        self.clock, self.announced = Clock(), False
        self.progress.update(self.task, description="evaluations", completed=module.evaluation.number)

    def on_after_backward(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, StyleTransfer)
        number, total = module.evaluation.number, module.schedule.evaluations
        losses = " ".join(f"{k} {written(v, 4)}" for k, v in module.evaluation.losses.items() if k != "tv" or v)
        seconds = self.clock.left(module)
        if seconds is not None:
            self.progress.update(self.task, left=f"{told(seconds)} left")
        self.progress.update(self.task, completed=number, total=total, losses=losses)
        long = seconds is not None and seconds > LONG
        soon = not self.announced and long and time.monotonic() - self.clock.begun > PASSED
        if not self.shows_bar and (soon or number * 10 // total > (number - 1) * 10 // total):
            self.announced = self.announced or long
            left = f"; about {told(seconds)} left" if seconds is not None and long else ""
            line = f"{self.name}evaluation {number}/{total}: {losses}{left}"
            self.console.print(line, soft_wrap=True, highlight=False)

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.progress.stop()

    def on_exception(self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException) -> None:
        self.progress.stop()
