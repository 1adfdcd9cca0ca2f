"""Provenance of a run: versions, commit, processor, device, threads, memory."""

import os
import platform
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
import torch

from nst.files import paths

_PACKAGES = ("torch", "torchvision", "pytorch-lightning", "hydra-core", "omegaconf", "tensorboard", "pillow", "numpy")


def of_machine(device: torch.device) -> dict[str, Any]:
    """Return the provenance that is known before the first evaluation, for the summary."""
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
        "process": {"id": os.getpid(), "host": platform.node()},
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def forget_peak_memory() -> None:
    """Reset the peak memory, which is possible on CUDA and for a process on Linux."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        for device in range(torch.cuda.device_count()):
            torch.cuda.reset_peak_memory_stats(device)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory(device: torch.device) -> int:
    """Return the peak memory in bytes: of the device on CUDA, of the process elsewhere."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    with suppress(OSError):  # getrusage starts from the peak of the parent process
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        for kilobytes in (line.split()[1] for line in lines if line.startswith("VmHWM:")):
            return int(kilobytes) * 1024
    try:
        import resource
    except ImportError:  # on Windows
        return int(getattr(psutil.Process().memory_info(), "peak_wset"))  # noqa: B009 # no attribute elsewhere
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def processor() -> str:
    """Return the name of the processor."""
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
    """Return the commit of the running checkout, with ``-dirty`` if files differ from it; None if installed."""
    top = paths.checkout()
    if top is None:
        return None
    command = ["git", "-C", str(top), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        # Within a hook of git, variables such as GIT_DIR name another repository.
        own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        return subprocess.run(command, env=own, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
