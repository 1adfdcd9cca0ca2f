"""The callback that ends a run on a signal."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytorch_lightning as pl

from nst.files.signals import ENDINGS, REQUEUE


def _ends(number: int) -> bool:
    """Return whether a signal asks this process to end; a hangup that is ignored (nohup) doesn't."""
    heard = number in (signal.SIGINT, signal.SIGTERM) or signal.getsignal(number) != signal.SIG_IGN
    return number in ENDINGS and heard


@contextmanager
def ended_at_once() -> Iterator[None]:
    """Raise SystemExit in the block for the signals that ask this process to end, as Ctrl-C raises KeyboardInterrupt.

    A signal that the program handles itself, and during the evaluations ``Stop``, come before this.
    """

    def end(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    numbers: list[int] = []
    if threading.current_thread() is threading.main_thread():
        numbers = [number for number in ENDINGS if signal.getsignal(number) == signal.SIG_DFL]
    for number in numbers:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


class Stop(pl.Callback):
    """A callback that ends a run between two iterations on Ctrl-C or SIGTERM, when a checkpoint can be saved.

    SIGHUP (SIGBREAK on Windows), sent when the terminal is closed, does the same unless it is ignored (nohup). So does
    SIGUSR2 if a launcher handles it: submitit's jobs receive it before their time is over. A second Ctrl-C ends a run
    at once; evaluations since the last checkpoint must then be computed again.

    Attributes:
        signal: the signal received, or None.
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
                with suppress(OSError):  # the terminal may be gone
                    print("Stopping after this iteration; Ctrl-C to stop at once.", file=sys.stderr, flush=True)

        if threading.current_thread() is threading.main_thread():  # Lightning restores the handlers it found
            for number in (*ENDINGS, *REQUEUE):
                if _ends(number) or callable(signal.getsignal(number)):
                    signal.signal(number, stop)

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        if self.signal is not None:
            trainer.should_stop = True

    @contextmanager
    def later(self) -> Iterator[None]:
        """Defer signals until the block, which writes the results of a run, has ended.

        Then raise the first of them, unless a signal had come before the block.
        """
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
        """Raise SIGUSR2 again for the launcher, after the checkpoint is saved: submitit then requeues the job."""
        if self.signal in REQUEUE:
            signal.raise_signal(self.signal)
