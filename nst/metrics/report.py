"""Measurement of all runs in and below some folders, and a line for each."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nst.errors import UserError, choices, count, problem, written
from nst.files.run_folder import RunFolder, run_folders
from nst.metrics.measure import measure
from nst.metrics.names import OBSERVERS, PIXELS, named
from nst.metrics.observer import observer


def report(folders: Sequence[Path], name: str) -> int:
    """Measure the runs in and below ``folders`` by an observer, and print each one's measures.

    Return 0; 1 if a run can't be measured. Raise UserError for a missing folder, for one without runs, and for an
    observer that isn't there.
    """
    kind = next((each for each in OBSERVERS if each == name), None)
    if kind is None:
        raise UserError(problem("--observer", name, f"there is no such observer; {choices(name, OBSERVERS)}"))
    seen_by = observer(kind)
    found, unread = run_folders(folders)
    failed = 0
    for path in found:
        try:
            metrics = measure(RunFolder(path), seen_by)
        except UserError as error:
            failed += 1
            print(f"{path}: can't be measured: {'; '.join(error.problems)}", file=sys.stderr, flush=True)
            continue
        print(f"{path}: {told(metrics, kind)}", flush=True)
    for line in unread:
        print(line, file=sys.stderr)
    print(f"{count(len(found) - failed, 'run')} measured by {seen_by.name}, at {PIXELS}", flush=True)
    return 1 if failed or unread else 0


def told(metrics: dict[str, Any], kind: str) -> str:
    """Return the measures of a picture by an observer as a line."""
    return "  ".join(f"{name} {written(value, 4)}" for name, value in named(metrics, kind).items())
