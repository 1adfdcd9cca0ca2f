"""Callbacks that save and show intermediate pictures."""

import shutil
from typing import Any

import pytorch_lightning as pl
from PIL import Image
from torch import Tensor

from nst import image as images
from nst.callbacks.record import Record
from nst.errors import UserError
from nst.files.run_folder import RunFolder
from nst.image import film, output
from nst.optimizer.module import StyleTransfer


class Snapshot(pl.Callback):
    """A callback that saves the best picture so far to ``snapshots/`` and to the loggers, at regular intervals.

    With one stage, a snapshot is the picture that a run of that many evaluations would have saved.

    Args:
        folder: folder of the run.
        every_evaluations: evaluations between snapshots.
    """

    def __init__(self, *, folder: RunFolder, every_evaluations: int) -> None:
        self.folder = folder
        self.every_evaluations = every_evaluations

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.folder.snapshots.mkdir(exist_ok=True)

    def on_after_backward(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, StyleTransfer)
        number = module.evaluation.number
        if number % self.every_evaluations == 0:
            output.save(module.picture, self.folder.snapshot(number))
            for callback in trainer.callbacks:  # type: ignore[attr-defined]
                if isinstance(callback, Record):
                    callback.show(trainer, module)


class Preview(pl.Callback):
    """A callback that shows the best picture so far in a notebook, in place of the one before.

    Args:
        every_evaluations: evaluations between updates.
    """

    def __init__(self, *, every_evaluations: int) -> None:
        try:
            from IPython.display import DisplayHandle  # an optional dependency
        except ImportError:
            raise UserError("callbacks.preview: needs an extra: pip install 'nst[notebook]'") from None
        self.every_evaluations = every_evaluations
        self.place: Any = DisplayHandle()  # type: ignore[no-untyped-call]
        self.begun = False

    def on_after_backward(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, StyleTransfer)
        if module.evaluation.number % self.every_evaluations == 0:
            self._show(module.picture)

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, StyleTransfer)
        if module.best.number:
            self._show(module.picture)

    def _show(self, picture: Tensor) -> None:
        shown = Image.fromarray(images.to_bytes(picture).permute(1, 2, 0).numpy())
        (self.place.update if self.begun else self.place.display)(shown)
        self.begun = True


class Film(pl.Callback):
    """A callback that makes a film of the best picture so far, ``progress.mp4`` or ``progress.gif``.

    The baseline makes one, too. The frames stay on disk until the run is complete, so they survive an
    interruption and take no memory.

    Args:
        folder: folder of the run.
        frames: approximate number of pictures in the film, dense at first, when most changes.
        fps: pictures a second.
        hold: seconds for which the first and the last picture are shown.
        format: ``mp4`` or ``gif``.
    """

    def __init__(self, *, folder: RunFolder, frames: int, fps: int, hold: float, format: film.Format) -> None:  # noqa: A002
        self.folder = folder
        self.frames = frames
        self.fps = fps
        self.hold = hold
        self.format = format
        self.shown: set[int] = set()

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, StyleTransfer)
        self.shown = film.schedule(module.schedule.evaluations, self.frames)
        if not module.finished:
            self.folder.frames.mkdir(exist_ok=True)

    def on_after_backward(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, StyleTransfer)
        if module.evaluation.number in self.shown:
            output.save(module.picture, self.folder.frame(module.evaluation.number))

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, StyleTransfer)
        if module.finished and self.folder.frames.is_dir():
            output.save(module.picture, self.folder.frame(module.evaluation.number))  # the run may have ended early
            pictures, path = self.folder.film_pictures(), self.folder.film(self.format)
            film.write(pictures, path, fps=self.fps, hold=self.hold, format=self.format)
            shutil.rmtree(self.folder.frames)
