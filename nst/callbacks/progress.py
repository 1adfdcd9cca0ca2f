"""The progress bar."""

import multiprocessing

import pytorch_lightning as pl
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column

from nst.errors import written
from nst.files.run_folder import RunFolder
from nst.optimizer.module import StyleTransfer


class ProgressBar(pl.Callback):
    """A progress bar with the number of evaluations, the losses and the remaining time.

    Without a terminal, and in processes that a launcher has started beside each other, it prints a line for each tenth
    of the evaluations.

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
            TimeRemainingColumn(),
            TextColumn("left"),
            console=self.console,
            expand=True,
            disable=not self.shows_bar,
        )
        self.task = TaskID(0)

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, StyleTransfer)
        done = module.evaluation.number
        self.task = self.progress.add_task("evaluations", total=module.schedule.evaluations, completed=done, losses="")
        self.progress.start()

    def on_after_backward(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, StyleTransfer)
        number, total = module.evaluation.number, module.schedule.evaluations
        losses = " ".join(f"{k} {written(v, 4)}" for k, v in module.evaluation.losses.items() if k != "tv" or v)
        self.progress.update(self.task, completed=number, losses=losses)
        if not self.shows_bar and number * 10 // total > (number - 1) * 10 // total:
            self.console.print(f"{self.name}evaluation {number}/{total}: {losses}", soft_wrap=True, highlight=False)

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.progress.stop()

    def on_exception(self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException) -> None:
        self.progress.stop()
