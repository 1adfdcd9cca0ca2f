"""Callbacks that write losses and pictures to the loggers."""

import time
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from statistics import median
from typing import Any

import pytorch_lightning as pl
from torch import Tensor

from nst.errors import DivergedError
from nst.files.run_folder import LossTable, RunFolder
from nst.logger import RunLogger
from nst.optimizer.module import StyleTransfer
from nst.optimizer.schedule import Schedule


class Record(pl.Callback):
    """A callback that writes every evaluation's losses to ``losses.csv`` and to every logger.

    It also shows the picture to the loggers when the run ends, and measures the seconds spent, over all sessions of a
    run.

    Attributes:
        begun: whether the optimization has begun or resumed, so that results can be reported.
    """

    def __init__(self, *, folder: RunFolder) -> None:
        self.folder = folder
        self.begun = False
        self._shown = 0
        self._earlier = 0.0
        self._started = self._latest = time.monotonic()
        self._taken: dict[int, list[float]] = defaultdict(list)  # by position of the scale: seconds of each evaluation

    @property
    def seconds(self) -> float:
        """Seconds of optimization, including those before a resumed checkpoint."""
        return self._earlier + time.monotonic() - self._started

    def scales(self, schedule: Schedule) -> list[dict[str, Any]]:
        """Return width, height and end of each scale, and the median time of an evaluation if this session made any.

        The median leaves out the time for which the process was paused.
        """
        return [
            {
                "width": width,
                "height": height,
                "end": end,
                "evaluation_seconds": round(median(taken), 6) if (taken := self._taken.get(position)) else None,
            }
            for position, (width, height, end) in enumerate(schedule.scales)
        ]

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._earlier = state_dict["seconds"]

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, StyleTransfer)
        self._started = self._latest = time.monotonic()
        self._shown = module.evaluation.number  # by the session that made this evaluation
        self.table = LossTable(self.folder.losses, kept=module.evaluation.number)
        self.begun = True

    def on_after_backward(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, StyleTransfer)
        evaluation, before, self._latest = module.evaluation, self._latest, time.monotonic()
        self._taken[module.position].append(self._latest - before)
        shares = {f"share/{name}": share for name, share in evaluation.shares.items()}
        norm, rest = evaluation.gradient_norm, {"size": max(module.stage.shape), **shares}
        self.table.add(evaluation.number, {**evaluation.losses, "gradient_norm": norm, **rest})
        losses = {f"loss/{name}": loss for name, loss in evaluation.losses.items()}
        scalars = {**losses, "optimizer/gradient_norm": norm, **rest}  # by name, so that the losses are shown first
        for logger in trainer.loggers:
            logger.log_metrics(scalars, step=evaluation.number)

    def show(self, trainer: pl.Trainer, module: StyleTransfer) -> None:
        """Show the loggers the best picture so far, unless the latest evaluation has been shown."""
        if self._shown < module.evaluation.number and module.best.number:
            self._shown = module.evaluation.number
            for logger in trainer.loggers:
                if isinstance(logger, RunLogger):
                    logger.picture("picture", module.picture, self._shown)

    def on_save_checkpoint(self, trainer: pl.Trainer, module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        self._flush(trainer)

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, StyleTransfer)
        self.show(trainer, module)
        self._flush(trainer)

    def on_exception(self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException) -> None:
        assert isinstance(module, StyleTransfer)
        if self.begun:
            with suppress(OSError):  # may be why the run ends, and Lightning must still clean up
                self.table.flush()
                if isinstance(exception, DivergedError | KeyboardInterrupt):
                    self.show(trainer, module)

    def _flush(self, trainer: pl.Trainer) -> None:
        """Flush the table and the loggers.

        A resumed run doesn't compute these values again, so they must be on disk together with the checkpoint.
        """
        self.table.flush()
        for logger in trainer.loggers:
            logger.save()


class Overview(pl.Callback):
    """A callback that begins the loggers with what doesn't change: the input pictures, the configuration and its files.

    Args:
        pictures: image tensors by name.
        texts: YAML by name: the configuration, and the sources of the pictures and the weights.
        hyperparameters: what distinguishes the run from others.
    """

    def __init__(
        self, *, pictures: Mapping[str, Tensor], texts: Mapping[str, str], hyperparameters: Mapping[str, str | float]
    ) -> None:
        self.pictures = pictures
        self.texts = texts
        self.hyperparameters = hyperparameters

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, StyleTransfer)
        for logger in trainer.loggers:
            if isinstance(logger, RunLogger):
                logger.begin(self.hyperparameters, self.texts)
                for name, picture in self.pictures.items() if module.evaluation.number == 0 else ():
                    logger.picture(f"input/{name}", picture, 0)
