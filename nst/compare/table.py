"""The comparison as a table: for the terminal, as CSV and as JSON."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from rich.console import Group, JustifyMethod
from rich.table import Table
from rich.text import Text

from nst.compare.comparison import Comparison, Entry, Row
from nst.compare.values import pair
from nst.files.atomic import write_text

#: In characters: the space between two columns.
GAP = 2

#: Keys of a run's summary that are exported.
PROVENANCE = (
    "git_commit", "versions", "device", "devices", "processor", "precision", "threads", "seed", "started",
    "peak_memory_bytes", "predicted_memory_bytes", "assets",
)  # fmt: skip


def terminal(comparison: Comparison, results: Sequence[str], width: int) -> Group:
    """Return the table of the terminal, in columns that fit into ``width`` characters.

    Each run has a row, and those that differ in ``seed`` alone have one together. The ``results`` and the keys that
    distinguish the runs best are columns, and what else is unusual about a run is listed. A line below says whether
    lower or higher results are better.
    """
    columns = _columns(comparison, results, width)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for key in ("run", *columns):
        justify: JustifyMethod = "right" if key in comparison.titles else "left"
        table.add_column(key, justify=justify, overflow="fold", width=_width(comparison, key, width))
    also = _also(comparison, columns)
    if any(also):
        table.add_column("also", overflow="fold")
    for row, text in zip(comparison.rows, also, strict=True):
        table.add_row(*(Text(row.text(key)) for key in ("run", *columns)), *([text] if any(also) else []))
    usual = comparison.usual_pairs(columns)
    notes = [f"unless the table says otherwise: {'  '.join(usual)}"] if usual else []
    notes += [better] if (better := comparison.directions([key for key in columns if key in results])) else []
    return Group(table, *(Text(note, style="dim") for note in notes))


def _columns(comparison: Comparison, results: Sequence[str], width: int) -> list[str]:
    """Return the keys of the columns that fit: the first result, the foremost keys, and the other results."""
    wanted = [*results[:1], *sorted(comparison.foremost, key=comparison.ranked.index), *results[1:]]
    room = width - _width(comparison, "run", width)
    widths = {key: GAP + _width(comparison, key, width) for key in wanted}
    fitting = _fitting(widths, room)
    if any(_also(comparison, fitting)):
        fitting = _fitting(widths, room - _list_width(width))
    return [key for key in (*comparison.varied, *results) if key in fitting]


def _fitting(widths: Mapping[str, int], room: int) -> list[str]:
    """Return the keys whose columns fit, each if there is still room for it."""
    fitting = []
    for key, needed in widths.items():
        if needed <= room:
            fitting.append(key)
            room -= needed
    return fitting


def _width(comparison: Comparison, key: str, width: int) -> int:
    """Return the width of a column. Longer texts are folded: a run's name to leave room for the list, others sooner."""
    widest = max(cell_len(row.text(key)) for row in comparison.rows)
    most = max(12, width - _list_width(width)) if key == "run" else max(24, width // 6)
    return max(cell_len(key), min(widest, most))


def _list_width(width: int) -> int:
    """Return the least width of the list beside the columns, with its gap."""
    return GAP + max(28, width // 4)


def _also(comparison: Comparison, columns: Sequence[str]) -> list[Text]:
    """Return each run's unusual values that have no column, and its marks, but for those that every run has."""
    marks = [{mark.short: None for entry in row.entries for mark in entry.marks} for row in comparison.rows]
    everywhere = comparison.marks_of_all
    found = []
    for row, shorts in zip(comparison.rows, marks, strict=True):
        unusual = dict.fromkeys(key for entry in row.entries for key in comparison.unusual(entry, besides=columns))
        pairs = [Text(pair(key, row.text(key))) for key in unusual]
        warnings = [Text(short, style="yellow") for short in shorts if short not in everywhere]
        found.append(Text("  ").join([*pairs, *warnings]))
    return found


def write_csv(comparison: Comparison, path: Path) -> None:
    """Write one line for each run: name, status, varying keys, results, marks, and source and SHA-256 of its inputs."""
    inputs = ("content", "style", "weights")
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    header = ["run", "status", *comparison.varied, *comparison.titles, "marks"]
    writer.writerow([*header, *(f"{name}_{what}" for name in inputs for what in ("source", "sha256"))])
    for entry in comparison.entries:
        assets = [entry.run.asset(name).get(what) for name in inputs for what in ("source", "sha256")]
        marks = "; ".join(mark.short for mark in entry.marks)
        values = [entry.values.get(key, "") for key in comparison.varied]
        results = [entry.results[key] for key in comparison.titles]
        writer.writerow([entry.run.name, entry.run.status, *values, *results, marks, *assets])
    write_text(path, file.getvalue())


def write_json(comparison: Comparison, path: Path) -> None:
    """Write everything known about each run except its pictures and curves."""
    whole = {
        "varied": comparison.varied,
        "shared": comparison.shared,
        "notices": comparison.notices,
        "seeds": [_seeds(comparison, row) for row in comparison.rows if len(row.entries) > 1],
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


def _seeds(comparison: Comparison, row: Row) -> dict[str, Any]:
    spreads = {key: row.spread(key) for key in comparison.results}
    return {
        "runs": [entry.run.name for entry in row.entries],
        "results": {key: None if spread is None else vars(spread) for key, spread in spreads.items()},
    }


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
