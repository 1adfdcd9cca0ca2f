"""What happens during a run besides the optimization. All of it counts evaluations."""

import math
import shutil
import signal
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

import pytorch_lightning as pl
from PIL import Image
from pytorch_lightning.loggers import TensorBoardLogger
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from torch import Tensor

from nst import film, output
from nst import image as images
from nst.errors import UserError
from nst.module import StyleTransfer
from nst.optimizer import LBFGS
from nst.run_folder import LossTable, RunFolder


class Record(pl.Callback):
    """Every evaluation's losses, to ``losses.csv`` and to every logger; and the seconds spent, over all sittings.

    Attributes:
        begun: whether the optimization began (or went on from a checkpoint), so that there is something to report.
    """

    def __init__(self, *, folder: RunFolder) -> None:
        self.folder = folder
        self.begun = False
        self._earlier = 0.0
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds of optimization, those before a resumed checkpoint included."""
        return self._earlier + time.monotonic() - self._started

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._earlier = state_dict["seconds"]

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, StyleTransfer)
        self._started = time.monotonic()
        self.table = LossTable(self.folder.losses, kept=module.evaluation.number)
        self.begun = True

    def on_after_backward(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, StyleTransfer)
        evaluation = module.evaluation
        shares = {f"share/{name}": share for name, share in evaluation.shares.items()}
        rest = {"gradient_norm": evaluation.gradient_norm, "size": max(module.stage.shape), **shares}
        self.table.add(evaluation.number, {**evaluation.losses, **rest})
        scalars = {**{f"loss/{name}": loss for name, loss in evaluation.losses.items()}, **rest}
        for logger in trainer.loggers:
            logger.log_metrics(scalars, step=evaluation.number)

    def on_save_checkpoint(self, trainer: pl.Trainer, module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """What a run that goes on won't compute again must be on disk when its checkpoint is."""
        self.table.flush()
        for logger in trainer.loggers:
            logger.save()

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.table.flush()

    def on_exception(self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException) -> None:
        if self.begun:
            with suppress(OSError):  # which may be why the run ends; Lightning has still to clean up
                self.table.flush()


#: TensorBoard's page of custom scalars: charts of several curves each, by regular expressions of their tags.
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
    """What TensorBoard shows once: the pictures that went in, the configuration, and the final losses by HParams.

    Args:
        pictures: image tensors by name.
        config: the resolved configuration, as YAML.
        assets: where the pictures and the weights came from, as YAML.
        hyperparameters: the ones that mean something, as plain values.
    """

    def __init__(
        self, *, pictures: dict[str, Tensor], config: str, assets: str, hyperparameters: dict[str, str | float]
    ) -> None:
        self.pictures = pictures
        self.texts = {"configuration": config, "assets": assets}
        self.hyperparameters = hyperparameters

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, StyleTransfer)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger) and module.evaluation.number == 0:
                for name, picture in self.pictures.items():
                    logger.experiment.add_image(f"input/{name}", images.to_bytes(picture), 0)
                logger.experiment.add_custom_scalars(LAYOUT)
                # Four spaces make it a block of code in Markdown, whatever it holds.
                for name, text in self.texts.items():
                    logger.experiment.add_text(name, textwrap.indent(text, "    "), 0)

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, StyleTransfer)
        metrics = {f"final/{name}": loss for name, loss in module.best.losses.items()}
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.log_hyperparams(self.hyperparameters, metrics, step=module.evaluation.number)


class Snapshot(pl.Callback):
    """The best picture so far, every so many evaluations, to ``snapshots/`` and to TensorBoard.

    It is what a run of so many evaluations would have saved.

    Args:
        folder: where.
        every_evaluations: how often.
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
            for logger in trainer.loggers:
                if isinstance(logger, TensorBoardLogger):
                    logger.experiment.add_image("picture", images.to_bytes(module.picture), number)


class Preview(pl.Callback):
    """The best picture so far, in a notebook, where it replaces the one before.

    Args:
        every_evaluations: how often.
    """

    def __init__(self, *, every_evaluations: int) -> None:
        try:
            from IPython.display import DisplayHandle  # an extra
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
    """The best picture so far as a film, ``progress.mp4`` or ``progress.gif``, as the seed makes one.

    Its frames lie on disk until the run is complete, so that they outlive an interruption and take no memory.

    Args:
        folder: where.
        frames: about how many pictures it shows, dense at first, where most changes.
        fps: pictures a second.
        hold: seconds that the first and the last picture stand.
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
            output.save(module.picture, self.folder.frame(module.evaluation.number))  # it may have ended early
            pictures, path = self.folder.film_pictures(), self.folder.film(self.format)
            film.write(pictures, path, fps=self.fps, hold=self.hold, format=self.format)
            shutil.rmtree(self.folder.frames)


class Checkpoint(pl.Callback):
    """All that it takes to go on, every so many evaluations or seconds, at the end of an iteration.

    The last two are kept, of a finished run the last.

    Args:
        folder: where.
        every_evaluations: how often; an iteration with a line search takes several evaluations.
        every_seconds: how often, where the evaluations take longer; None for however long they take.
        keep_history: whether the last one of a finished run has the history of L-BFGS, which is most of it. Without,
            more evaluations begin with a fresh optimizer.
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

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(module, StyleTransfer)
        waited = module.evaluation.number - self.saved_at
        if waited >= self.every_evaluations or (waited and time.monotonic() - self._saved >= self.every_seconds):
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


#: The signals that ask a process to end.
ENDINGS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


def _ends(number: int) -> bool:
    """Whether a signal asks this process to end; a hangup doesn't where it is ignored (nohup)."""
    heard = number in (signal.SIGINT, signal.SIGTERM) or signal.getsignal(number) != signal.SIG_IGN
    return number in ENDINGS and heard


class Stop(pl.Callback):
    """Lets Ctrl-C and SIGTERM end a run between two iterations, where its checkpoint can be taken.

    So does SIGHUP, of a terminal that is closed, where nobody asked to ignore it (nohup), and SIGUSR2 where a launcher
    listens to it: submitit's jobs get it before their time is over. A second Ctrl-C ends a run at once; what was
    reached since the last checkpoint is then to be computed again.

    Attributes:
        signal: the signal that came, or None.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        def stop(number: int, frame: object) -> None:
            if self.signal is not None:
                if number == signal.SIGINT:
                    raise KeyboardInterrupt
                return  # Slurm sends SIGTERM to a job's processes more than once
            self.signal = signal.Signals(number)
            if trainer.is_global_zero:
                with suppress(OSError):  # of a terminal that is gone
                    print("Stopping after this iteration; Ctrl-C to stop at once.", file=sys.stderr, flush=True)

        if threading.current_thread() is threading.main_thread():  # Lightning puts back the handlers it found
            for number in (*ENDINGS, signal.SIGUSR2):
                if _ends(number) or callable(signal.getsignal(number)):
                    signal.signal(number, stop)

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        if self.signal is not None:
            trainer.should_stop = True

    @contextmanager
    def later(self) -> Iterator[None]:
        """Keeps signals from cutting short what is written at a run's end; one that is the first comes after it."""
        came: list[int] = []
        earlier = {}
        if threading.current_thread() is threading.main_thread():
            for number in filter(_ends, ENDINGS):
                earlier[number] = signal.signal(number, lambda number, frame: came.append(number))
        try:
            yield
        finally:
            for number, handler in earlier.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)
            if came and self.signal is None:
                signal.raise_signal(came[0])

    def pass_on(self) -> None:
        """Gives the launcher the signal that it listens to, once the checkpoint is saved: submitit requeues the job."""
        if self.signal == signal.SIGUSR2:
            signal.raise_signal(self.signal)


class Unfailing:
    """A text file to which writing is no failure when nobody reads it any more."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._file.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._file.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class ProgressBar(pl.Callback):
    """Evaluations done and to do, the losses and the time left; a line for each tenth where there is no terminal."""

    def __init__(self) -> None:
        self.console = Console(file=cast(TextIO, Unfailing(sys.stderr)))
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
