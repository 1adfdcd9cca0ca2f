"""Where and with what a run was made: versions, commit, device, threads, memory."""

import platform
import resource
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from nst import paths

_PACKAGES = ("torch", "torchvision", "pytorch-lightning", "hydra-core", "omegaconf", "tensorboard", "pillow", "numpy")


def of_machine(device: torch.device) -> dict[str, Any]:
    """What is known before the first evaluation, for the summary."""
    name = f" ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else ""
    return {
        "device": f"{device}{name}",
        "threads": torch.get_num_threads(),
        "git_commit": _git_commit(),
        "versions": {
            "nst": _own_version(),
            "python": platform.python_version(),
            **{package: version(package) for package in _PACKAGES},
        },
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def forget_peak_memory(device: torch.device) -> None:
    """Begins anew where that can be done: on CUDA. A process can't forget its peak."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> int:
    """Bytes: of the device on CUDA, of the process elsewhere."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _own_version() -> str | None:
    try:
        return version("nst")
    except PackageNotFoundError:  # run from a checkout that isn't installed
        return None


def _git_commit() -> str | None:
    """The commit of the checkout that runs, with ``-dirty`` where files differ from it; None when installed."""
    top = paths.checkout()
    if top is None:
        return None
    command = ["git", "-C", str(top), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
