"""Isolation of a run within another program: ``nst.stylize`` leaves its host as it was."""

import logging
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFile

from nst.files.streams import unfailing_streams

#: Hydra, Lightning and torch keep state for the whole process, so one run at a time has it.
_ALONE = threading.RLock()

#: The loggers whose levels a run changes, and the root logger, to which it adds a handler.
_LOGGERS = ("", "pytorch_lightning", "lightning_fabric", "lightning.pytorch")


@contextmanager
def untouched() -> Iterator[None]:
    """Execute the block alone in this process, then restore the process-wide state that a run changes.

    Blocks of other threads wait. Restored are the random states of Python, NumPy and torch, torch's threads and
    settings, the environment, the working directory, ``sys.argv``, logging, warnings filters, signal handlers and
    Pillow's limits. Within the block gradients are computed, even if the caller is in ``torch.inference_mode``.
    """
    with _ALONE, ExitStack() as stack:
        for keep in _KEEPERS:
            stack.callback(keep())
        stack.enter_context(unfailing_streams())
        stack.enter_context(warnings.catch_warnings())
        stack.enter_context(torch.inference_mode(mode=False))
        stack.enter_context(torch.enable_grad())
        yield


def _random() -> Callable[[], None]:
    python, arrays, tensors = random.getstate(), np.random.get_state(), torch.get_rng_state()
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None  # type: ignore[no-untyped-call]

    def restore() -> None:
        random.setstate(python)
        np.random.set_state(arrays)
        torch.set_rng_state(tensors)
        if gpus is not None:
            torch.cuda.set_rng_state_all(gpus)

    return restore


def _torch() -> Callable[[], None]:
    threads, dtype, cudnn = torch.get_num_threads(), torch.get_default_dtype(), torch.backends.cudnn
    strict = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    chosen = cudnn.benchmark, cudnn.deterministic

    def restore() -> None:
        torch.set_num_threads(threads)
        torch.set_default_dtype(dtype)
        torch.use_deterministic_algorithms(strict[0], warn_only=strict[1])
        cudnn.benchmark, cudnn.deterministic = chosen

    return restore


def _process() -> Callable[[], None]:
    environment, folder, words, path = dict(os.environ), Path.cwd(), sys.argv[:], sys.path[:]

    def restore() -> None:
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)
        os.chdir(folder)
        sys.argv[:], sys.path[:] = words, path

    return restore


def _logging() -> Callable[[], None]:
    loggers: list[Any] = [logging.getLogger(name) for name in _LOGGERS]
    before = [(each.level, each.handlers[:], each.propagate, each.disabled) for each in loggers]

    def restore() -> None:
        for each, (level, handlers, propagate, disabled) in zip(loggers, before, strict=True):
            each.setLevel(level)
            each.handlers[:], each.propagate, each.disabled = handlers, propagate, disabled

    return restore


def _signals() -> Callable[[], None]:
    if threading.current_thread() is not threading.main_thread():  # only the main thread can set them
        return lambda: None
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}

    def restore() -> None:
        for number, handler in handlers.items():
            if handler is not None and signal.getsignal(number) != handler:
                signal.signal(number, handler)

    return restore


def _pillow() -> Callable[[], None]:
    limit, truncated = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES

    def restore() -> None:
        Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = limit, truncated

    return restore


#: Each reads some state and returns the function that restores it.
_KEEPERS = (_random, _torch, _process, _logging, _signals, _pillow)
