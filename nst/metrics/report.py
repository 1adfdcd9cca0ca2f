"""Measurement of all runs in and below some folders, and a line for each."""

import itertools
import multiprocessing
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch

from nst.errors import UserError, choices, count, problem, written
from nst.files.run_folder import RunFolder, run_folders
from nst.metrics.measure import measure
from nst.metrics.names import OBSERVERS, ObserverName, directions, full_name, measured_by, named
from nst.metrics.observer import observer


def report(folders: Sequence[Path], name: str, *, jobs: int) -> int:
    """Measure the runs in and below ``folders`` by an observer, and print each one's measures.

    Args:
        folders: where the runs are.
        name: the observer.
        jobs: how many runs are measured at a time, each in a process of its own.

    Return 0; 1 if a run can't be measured. Raise UserError for a missing folder, for one without runs, and for an
    observer that isn't there.
    """
    kind = next((each for each in OBSERVERS if each == name), None)
    if kind is None:
        raise UserError(problem("--observer", name, f"there is no such observer; {choices(name, OBSERVERS)}"))
    if jobs < 1:
        raise UserError(problem("--jobs", jobs, "must be above 0"))
    observer(kind)
    found, unread = run_folders(folders)
    failed = 0
    for path, metrics in zip(found, _measured(found, kind, min(jobs, len(found))), strict=True):
        if isinstance(metrics, UserError):
            failed += 1
            print(f"{path}: can't be measured: {'; '.join(metrics.problems)}", file=sys.stderr, flush=True)
        else:
            print(f"{path}: {told(metrics, kind)}", flush=True)
    for line in unread:
        print(line, file=sys.stderr)
    print(
        f"{count(len(found) - failed, 'run')} measured by {full_name(kind)}; {directions(measured_by(kind))}",
        flush=True,
    )
    print(f"To compare them: {shlex.join(['python', '-m', 'nst.compare', *map(str, folders)])}", flush=True)
    return 1 if failed or unread else 0


def _measured(found: Sequence[Path], kind: ObserverName, jobs: int) -> Iterator[dict[str, Any] | UserError]:
    """Yield the measures of each run, or why it can't be measured, in order."""
    if jobs == 1:
        yield from (_measure(path, kind) for path in found)
        return
    threads = max(1, (os.cpu_count() or 1) // jobs)
    spawning = multiprocessing.get_context("spawn")  # torch's threads don't survive a fork
    with ProcessPoolExecutor(jobs, spawning, torch.set_num_threads, (threads,)) as pool:
        yield from pool.map(_measure, found, itertools.repeat(kind))


def _measure(path: Path, kind: ObserverName) -> dict[str, Any] | UserError:
    try:
        return measure(RunFolder(path), observer(kind))
    except UserError as error:
        return error


def told(metrics: dict[str, Any], kind: str) -> str:
    """Return the measures of a picture by an observer as a line."""
    return "  ".join(f"{name} {written(value, 4)}" for name, value in named(metrics, kind).items())
