"""The tiles of the contact sheet: pictures with their texts, and inputs and labels at the edges."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from PIL import Image

from nst.compare.comparison import Comparison, Entry
from nst.compare.sheet.layout import Grid, Place
from nst.compare.values import shown

#: A single row of more pictures than this is wrapped.
PER_LINE = 8

Tone = Literal["plain", "faint", "warning"]


@dataclass(frozen=True)
class Tile:
    """A picture, or a text in place of it, above lines of text with their tones. A label has no room for a picture."""

    picture: Image.Image | None
    instead: str
    lines: list[tuple[str, Tone]]
    is_label: bool = False


Tiles = list[list[Tile | None]]


def arranged(comparison: Comparison, grid: Grid) -> Tiles:
    """Return the sheet's tiles, line by line; None is an empty corner. An input that all runs share comes first."""
    inputs = _shared_inputs(comparison)
    body: Tiles = [
        [_cell(comparison, grid, grid.cells.get((row, column), [])) for column in grid.columns] for row in grid.rows
    ]
    if _flows(grid):
        return _wrapped([*inputs, *body[0]])
    if grid.row_keys:
        body = [[_edge(grid, 0, place), *row] for place, row in zip(grid.rows, body, strict=True)]
    if grid.column_keys:
        corner: list[Tile | None] = [None] if grid.row_keys else []
        body.insert(0, [*corner, *(_edge(grid, 1, place) for place in grid.columns)])
    return [[*([None] if grid.row_keys else []), *inputs], *body] if inputs else body


def caption(comparison: Comparison, grid: Grid) -> list[str]:
    """Return the caption: what the sheet shows, and notices about it, one line each."""
    axes = [
        f"; {name}: {', '.join(keys)}"
        for name, keys in (("rows", grid.row_keys), ("columns", grid.column_keys))
        if keys and not _flows(grid)
    ]
    count = len(comparison.entries)
    notes = [f"{count} run{'s' * (count > 1)}{''.join(axes)}"]
    notes += [better] if (better := comparison.directions(comparison.captions)) else []
    usual = comparison.usual_pairs([*grid.row_keys, *grid.column_keys])
    notes += [f"unless a picture says otherwise: {'  '.join(usual)}"] if usual else []
    if grid.crowded:
        which = "the run with the lowest total" if comparison.totals_compare else "the first of them"
        cells = "1 cell has" if len(grid.crowded) == 1 else f"{len(grid.crowded)} cells have"
        notes.append(f"{cells} several runs; each shows {which}")
    if grid.left_out:
        notes.append(f"not shown here: {', '.join(entry.run.name for entry in grid.left_out)}")
    return [*notes, *comparison.notices]


def _flows(grid: Grid) -> bool:
    """Return whether the runs are shown one after another, each with its name."""
    return not grid.row_keys and (len(grid.columns) > PER_LINE or grid.column_keys == ("run",))


def _cell(comparison: Comparison, grid: Grid, entries: Sequence[Entry]) -> Tile:
    """Return the tile of the first of the runs in a cell, with what its row and column don't say."""
    if not entries:
        return Tile(None, "no run", [])
    first = entries[0]
    if _flows(grid):
        own = comparison.labels[first.run.name]
    else:
        own = comparison.own(first, besides=(*grid.row_keys, *grid.column_keys))
    lines: list[tuple[str, Tone]] = []
    if len(entries) > 1:
        rank = "best of {} by total" if comparison.totals_compare else "first of {}"
        lines.append((rank.format(len(entries)), "faint"))
    lines += [(text, "plain") for text in own or ([first.name] if len(entries) > 1 else [])]
    known = [f"{key} {first.text(key)}" for key in comparison.captions if first.results[key] is not None]
    lines += [(text, "faint") for text in known]
    lines += [(mark.short, "warning") for mark in first.marks if mark.short not in comparison.marks_of_all]
    return Tile(first.run.picture, f"{first.run.status}, no picture", lines)


def _edge(grid: Grid, axis: Literal[0, 1], place: Place) -> Tile:
    """Return the label of a row (axis 0) or a column (axis 1), below the input picture that it stands for, if any."""
    keys = grid.column_keys if axis else grid.row_keys
    entries = [entry for at, cell in grid.cells.items() if at[axis] == place for entry in cell]
    lines: list[tuple[str, Tone]] = [(entries[0].label(key), "plain") for key in keys]
    pictured = next((key for key in keys if key in ("content", "style")), None)
    return Tile(None, "", lines, is_label=True) if pictured is None else _input(entries, pictured, lines)


def _input(entries: Sequence[Entry], key: str, lines: list[tuple[str, Tone]]) -> Tile:
    """Return the content or the style picture of some runs, above these lines."""
    knowing = next((entry for entry in entries if entry.run.asset(key).get("path")), entries[0])
    if knowing.run.asset(key).get("source") == "stand-in":
        lines = [*lines, ("stand-in", "warning")]
    return Tile(*knowing.run.input(key, side=512), lines)


def _shared_inputs(comparison: Comparison) -> list[Tile | None]:
    """Return the content and the style picture, each if all runs share it and it can be read."""
    keys = [key for key in ("content", "style") if key in comparison.shared]
    found = [_input(comparison.entries, key, [(f"{key}: {shown(comparison.shared[key])}", "plain")]) for key in keys]
    return [tile for tile in found if tile.picture is not None]


def _wrapped(tiles: Sequence[Tile | None]) -> Tiles:
    """Return the tiles in lines of equal length."""
    per_line = max(min(PER_LINE, len(tiles)), math.ceil(math.sqrt(len(tiles))))
    return [list(tiles[start : start + per_line]) for start in range(0, len(tiles), per_line)]
