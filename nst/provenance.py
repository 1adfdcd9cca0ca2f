"""Where and with what a run was made: versions, commit, processor, device, threads, memory."""

import platform
import resource
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from nst import paths

_PACKAGES = ("torch", "torchvision", "pytorch-lightning", "hydra-core", "omegaconf", "tensorboard", "pillow", "numpy")


def of_machine(device: torch.device) -> dict[str, Any]:
    """What is known before the first evaluation, for the summary."""
    name = f" ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else ""
    return {
        "device": f"{device}{name}",
        "processor": f"{processor()} ({torch.backends.cpu.get_cpu_capability()})",
        "threads": torch.get_num_threads(),
        "git_commit": _git_commit(),
        "versions": {
            "nst": _own_version(),
            "python": platform.python_version(),
            **{package: version(package) for package in _PACKAGES},
        },
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def forget_peak_memory() -> None:
    """Begins anew where that can be done: on CUDA, and with a process of Linux."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        for device in range(torch.cuda.device_count()):
            torch.cuda.reset_peak_memory_stats(device)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory(device: torch.device) -> int:
    """Bytes: of the device on CUDA, of the process elsewhere."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    with suppress(OSError):  # what getrusage says begins with the peak of the process that started this one
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        for kilobytes in (line.split()[1] for line in lines if line.startswith("VmHWM:")):
            return int(kilobytes) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def processor() -> str:
    """What the processor is called."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


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
