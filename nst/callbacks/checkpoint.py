"""The callback that saves checkpoints during a run."""

import logging
import math
import time
from typing import Any

import pytorch_lightning as pl

from nst.files.run_folder import RunFolder
from nst.optimizer.lbfgs import LBFGS
from nst.optimizer.module import StyleTransfer

log = logging.getLogger(__name__)

#: The override that keeps the history.
KEEP_HISTORY = "callbacks.checkpoint.keep_history=true"


class Checkpoint(pl.Callback):
    """A callback that saves the state for resuming after a number of evaluations or seconds, between iterations.

    If several processes compute the run, each has this callback, and saves its part of the optimizer's state.

    The last two checkpoints are kept; after the end of the fit, only the last one.

    Args:
        folder: folder of the run.
        every_evaluations: evaluations between checkpoints; an iteration with a line search takes several evaluations.
        every_seconds: seconds between checkpoints, if the evaluations take longer; None for no limit on the time.
        keep_history: whether the last checkpoint of a finished run has the history of L-BFGS, which is most of its
            size. Without the history, further evaluations begin with a fresh optimizer.
    """

    def __init__(
        self,
        *,
        folder: RunFolder,
        every_evaluations: int,
        every_seconds: float | None,
        keep_history: bool,
    ) -> None:
        self.folder = folder
        self.every_evaluations = every_evaluations
        self.every_seconds = math.inf if every_seconds is None else every_seconds
        self.keep_history = keep_history
        self.saved_at = 0
        self._saved = time.monotonic()

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, StyleTransfer)
        self.saved_at = module.evaluation.number
        self._saved = time.monotonic()
        optimizer = module.optimizers(use_pl_optimizer=False)
        if self.saved_at and isinstance(optimizer, LBFGS) and not (optimizer.has_history or module.finished):
            log.info("L-BFGS begins with an empty history: a complete run keeps it only with %s", KEEP_HISTORY)

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(module, StyleTransfer)
        waited = module.evaluation.number - self.saved_at
        due = waited >= self.every_evaluations or (waited > 0 and time.monotonic() - self._saved >= self.every_seconds)
        if trainer.strategy.reduce_boolean_decision(due, all=False):  # clocks differ, but each process saves its part
            self._save(trainer, module)
            self._prune(trainer, keep=2)

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, StyleTransfer)
        optimizer = module.optimizers(use_pl_optimizer=False)
        changed = module.evaluation.number > self.saved_at
        if isinstance(optimizer, LBFGS) and module.finished and not self.keep_history:
            optimizer.forget()
            changed = True
        if changed:
            self._save(trainer, module)
        self._prune(trainer, keep=1)

    def _save(self, trainer: pl.Trainer, module: StyleTransfer) -> None:
        self.saved_at = module.evaluation.number
        trainer.save_checkpoint(self.folder.checkpoint(self.saved_at))
        self._saved = time.monotonic()

    def _prune(self, trainer: pl.Trainer, *, keep: int) -> None:
        if trainer.is_global_zero:
            for old in self.folder.saved_checkpoints()[:-keep]:
                old.unlink(missing_ok=True)
            for part in self.folder.parts_without_checkpoint():
                part.unlink(missing_ok=True)
