"""Seconds, with everything done that was asked of the device."""

import time
from collections.abc import Callable

import torch


def now(device: torch.device) -> float:
    """Seconds, once the device is idle."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def seconds(action: Callable[[], object], device: torch.device) -> float:
    """How long an action takes."""
    began = now(device)
    action()
    return now(device) - began
