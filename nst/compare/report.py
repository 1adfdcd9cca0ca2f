"""A comparison from its folders to its files: find, compare, lay out, write, print."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from nst.compare import page, selection, table
from nst.compare.comparison import compare
from nst.compare.runs import common, find
from nst.compare.sheet import layout, tiles
from nst.compare.sheet.drawing import Sheet
from nst.errors import UserError, problem


def report(
    folders: Sequence[Path],
    *,
    conditions: Sequence[str] = (),
    latest: int | None = None,
    metrics: str | None = None,
    sort: str | None = None,
    rows: str | None = None,
    columns: str | None = None,
    cell: int = 256,
    out: Path | None = None,
) -> None:
    """Write the comparison of the runs in and below ``folders`` that meet the conditions, and print its table.

    Args:
        folders: where the runs are.
        conditions: what the runs must meet; several may be joined by ``and``.
        latest: how many of them are compared, those that were started last; None for all.
        metrics: the results in the table, separated by commas; None for suitable ones.
        sort, rows, columns, cell, out: see ``--help``.

    Raise UserError if there are no runs, for a key or a value that no run has, and if ``out`` can't be written.
    """
    if latest is not None and latest < 1:
        raise UserError(problem("--latest", latest, "must be above 0"))
    runs, unread = find(folders, side=max(cell, page.SIDE))
    if conditions:
        count, runs = len(runs), selection.fitting(compare(runs), conditions)
        unread = [f"{len(runs)} of {count} runs, those with {' and '.join(conditions)}", *unread]
    if latest is not None and latest < len(runs):
        unread = [f"the latest {latest} of {len(runs)} runs", *unread]
        runs = selection.latest(runs, latest)
    comparison = compare(runs, unread, sort=sort)
    chosen = comparison.foremost_results if metrics is None else metrics.split(",")
    for key in chosen:
        comparison.check_result("--metrics", key)
    grid = layout.chosen(comparison, rows, columns)
    sheet = Sheet(tiles.arranged(comparison, grid), tiles.caption(comparison, grid), cell=cell)
    out = common(folders) / "compare" if out is None else out
    try:
        out.mkdir(parents=True, exist_ok=True)
        sheet.save(out / "sheet.png")
        page.write(comparison, out / "index.html")
        table.write_csv(comparison, out / "runs.csv")
        table.write_json(comparison, out / "runs.json")
    except OSError as error:
        raise UserError(problem("--out", out, f"can't be written: {error.strerror}; choose another folder")) from error
    console = Console(highlight=False, width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 1000)
    console.print(table.terminal(comparison, chosen, console.width))
    for notice in comparison.notices:
        console.print(Text(f"! {notice}", style="yellow"), soft_wrap=True)
    print(f"The page is at {out / 'index.html'}, the contact sheet at {out / 'sheet.png'}", flush=True)
