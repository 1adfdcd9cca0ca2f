"""The comparison as a table: for the terminal, as CSV and as JSON."""

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from nst.compare.comparison import RESULTS, Comparison, Entry
from nst.files.atomic import write_text

#: Keys of a run's summary that are exported.
PROVENANCE = (
    "git_commit", "versions", "device", "devices", "processor", "precision", "threads", "seed", "started",
    "peak_memory_bytes", "predicted_memory_bytes", "assets",
)  # fmt: skip


def terminal(comparison: Comparison) -> Table:
    """Return the table of the terminal: the keys that vary and the results, one line for each run."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    numbers = [key for key in comparison.results if key != "evaluations_done"]
    for key in ("run", *comparison.varied):
        table.add_column(key, overflow="fold")
    for key in numbers:
        table.add_column(key.replace("_", " "), justify="right")
    table.add_column("status")
    table.add_column("")
    for entry in comparison.entries:
        marks = ", ".join(mark.short for mark in entry.marks if mark.kind != "status")
        texts = [short_name(entry.run.name), *(entry.text(key) for key in (*comparison.varied, *numbers))]
        table.add_row(*map(Text, texts), Text(entry.run.status), Text(marks, style="yellow"))
    return table


def short_name(name: str) -> str:
    """Return the end of the name of a sweep's run, which identifies the run; any other name unchanged."""
    start, _, identity = name.rpartition("-")
    return identity if start and len(identity) == 10 and set(identity) <= set("0123456789abcdef") else name


def write_csv(comparison: Comparison, path: Path) -> None:
    """Write one line for each run: name, status, varying keys, results, marks, and source and SHA-256 of its inputs."""
    inputs = ("content", "style", "weights")
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    header = ["run", "status", *comparison.varied, *RESULTS, "marks"]
    writer.writerow([*header, *(f"{name}_{what}" for name in inputs for what in ("source", "sha256"))])
    for entry in comparison.entries:
        assets = [entry.run.asset(name).get(what) for name in inputs for what in ("source", "sha256")]
        marks = "; ".join(mark.short for mark in entry.marks)
        values = [entry.values.get(key, "") for key in comparison.varied]
        writer.writerow([entry.run.name, entry.run.status, *values, *entry.results.values(), marks, *assets])
    write_text(path, file.getvalue())


def write_json(comparison: Comparison, path: Path) -> None:
    """Write everything known about each run except its pictures and curves."""
    whole = {
        "varied": comparison.varied,
        "shared": comparison.shared,
        "notices": comparison.notices,
        "runs": [_record(entry) for entry in comparison.entries],
    }
    write_text(path, json.dumps(finite(whole), indent=2, ensure_ascii=False, allow_nan=False, default=str) + "\n")


def finite(value: Any) -> Any:
    """Return ``value`` with None in place of infinities and NaN, which JSON can't represent."""
    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _record(entry: Entry) -> dict[str, Any]:
    run = entry.run
    return {
        "run": run.name,
        "folder": str(run.folder.path.absolute()),
        "status": run.status,
        "error": run.summary.get("error"),
        "marks": [{"kind": mark.kind, "short": mark.short, "text": mark.text} for mark in entry.marks],
        "values": entry.values,
        "results": entry.results,
        **{key: run.summary.get(key) for key in PROVENANCE},
    }
