"""Callbacks that write losses and pictures to the loggers."""

import textwrap
import time
from contextlib import suppress
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor

from nst import image as images
from nst.errors import DivergedError
from nst.files.run_folder import LossTable, RunFolder
from nst.optimizer.module import StyleTransfer


class Record(pl.Callback):
    """A callback that writes every evaluation's losses to ``losses.csv`` and to every logger.

    It also writes the picture to TensorBoard when the run ends, and measures the seconds spent, over all sessions of a
    run.

    Attributes:
        begun: whether the optimization has begun or resumed, so that results can be reported.
    """

    def __init__(self, *, folder: RunFolder) -> None:
        self.folder = folder
        self.begun = False
        self._shown = 0
        self._earlier = 0.0
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds of optimization, including those before a resumed checkpoint."""
        return self._earlier + time.monotonic() - self._started

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._earlier = state_dict["seconds"]

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, StyleTransfer)
        self._started = time.monotonic()
        self._shown = module.evaluation.number  # by the session that made this evaluation
        self.table = LossTable(self.folder.losses, kept=module.evaluation.number)
        self.begun = True

    def on_after_backward(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, StyleTransfer)
        evaluation = module.evaluation
        shares = {f"share/{name}": share for name, share in evaluation.shares.items()}
        norm, rest = evaluation.gradient_norm, {"size": max(module.stage.shape), **shares}
        self.table.add(evaluation.number, {**evaluation.losses, "gradient_norm": norm, **rest})
        losses = {f"loss/{name}": loss for name, loss in evaluation.losses.items()}
        scalars = {**losses, "optimizer/gradient_norm": norm, **rest}  # by name, so that the losses are shown first
        for logger in trainer.loggers:
            logger.log_metrics(scalars, step=evaluation.number)

    def show(self, trainer: pl.Trainer, module: StyleTransfer) -> None:
        """Write the best picture so far to TensorBoard, unless the latest evaluation has been shown."""
        if self._shown < module.evaluation.number and module.best.number:
            self._shown = module.evaluation.number
            for logger in trainer.loggers:
                if isinstance(logger, TensorBoardLogger):
                    logger.experiment.add_image("picture", images.to_bytes(module.picture), self._shown)

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


#: Layout of TensorBoard's page of custom scalars: charts of several curves, given as regular expressions of tags.
LAYOUT = {
    "losses": {
        "total": ["Multiline", ["loss/total"]],
        "content, before its weight": ["Multiline", ["loss/content"]],
        "style, before its weight": ["Multiline", ["loss/style"]],
    },
    "shares of the total": {
        "content layers": ["Multiline", ["share/content/.*"]],
        "style layers": ["Multiline", ["share/style/.*"]],
    },
}


class Overview(pl.Callback):
    """A callback that writes to TensorBoard once: the input pictures, the configuration and the layout of its page.

    Args:
        pictures: image tensors by name.
        config: the resolved configuration, as YAML.
        assets: the sources of the pictures and the weights, as YAML.
    """

    def __init__(self, *, pictures: dict[str, Tensor], config: str, assets: str) -> None:
        self.pictures = pictures
        self.texts = {"configuration": config, "assets": assets}

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, StyleTransfer)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger) and module.evaluation.number == 0:
                for name, picture in self.pictures.items():
                    logger.experiment.add_image(f"input/{name}", images.to_bytes(picture), 0)
                logger.experiment.add_custom_scalars(LAYOUT)
                # Four spaces make any text a code block in Markdown.
                for name, text in self.texts.items():
                    logger.experiment.add_text(name, textwrap.indent(text, "    "), 0)
