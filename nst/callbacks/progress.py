"""The progress bar."""

import pytorch_lightning as pl
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from nst.optimizer.module import StyleTransfer


class ProgressBar(pl.Callback):
    """A progress bar with the number of evaluations, the losses and the remaining time.

    Without a terminal, it prints a line for each tenth of the evaluations.
    """

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[losses]}"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
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
        losses = " ".join(f"{k} {v:.4g}" for k, v in module.evaluation.losses.items() if k != "tv" or v)
        self.progress.update(self.task, completed=number, losses=losses)
        if not self.console.is_terminal and number * 10 // total > (number - 1) * 10 // total:
            self.console.print(f"evaluation {number}/{total}: {losses}", soft_wrap=True, highlight=False)

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.progress.stop()

    def on_exception(self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException) -> None:
        self.progress.stop()
