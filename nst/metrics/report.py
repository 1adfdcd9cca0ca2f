"""Measurement of all runs in and below some folders, and a line for each."""

import sys
from collections.abc import Sequence
from pathlib import Path

from nst.errors import UserError, count, written
from nst.files.run_folder import RunFolder, run_folders
from nst.metrics.measure import MEANINGS, measure
from nst.metrics.observer import PIXELS, observer


def report(folders: Sequence[Path], kind: str) -> int:
    """Measure the runs in and below ``folders`` by an observer, and print each one's measures.

    Return 0; 1 if a run can't be measured. Raise UserError for a missing folder, for one without runs, and for an
    observer that isn't there.
    """
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
        values = {**metrics[PIXELS]["values"], **metrics[seen_by.name]["values"]}
        shown = [f"{name} {_text(values[name])}" for name in MEANINGS if name in values]
        print(f"{path}: {'  '.join(shown)}", flush=True)
    for line in unread:
        print(line, file=sys.stderr)
    print(f"{count(len(found) - failed, 'run')} measured by {seen_by.name}, at {PIXELS}", flush=True)
    return 1 if failed or unread else 0


def _text(value: float | None) -> str:
    return "unknown" if value is None else written(value, 4)
