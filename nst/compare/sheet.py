"""The contact sheet: the pictures in rows and columns, with the inputs along the edges."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from nst.compare.comparison import Comparison, Entry
from nst.compare.layout import Grid, Place
from nst.compare.runs import load_picture
from nst.file import replacing, sha256

PAPER, INK, FAINT, EMPTY, WARNING = "white", "#1b1b1b", "#6a6a6a", "#ececec", "#a34400"
#: px: between two pictures, around the sheet, and from one line of text to the next in units of its size.
GAP, MARGIN, LEADING = 10, 20, 1.35
#: More pictures than this in a single row go on below, and the sheet's area in px stays below that.
PER_LINE, AREA = 8, 80e6


@dataclass(frozen=True)
class Tile:
    """A picture, or a word in place of it, over lines of text, each with its colour."""

    picture: Image.Image | None
    instead: str
    lines: list[tuple[str, str]]


class Sheet:
    """A contact sheet, drawn when it is made.

    Args:
        comparison: the runs.
        grid: where each stands.
        cell: a picture's longest side in px; less where the sheet would become too large.
    """

    def __init__(self, comparison: Comparison, grid: Grid, *, cell: int) -> None:
        self.comparison = comparison
        self.grid = grid
        self.flows = not grid.row_keys and (len(grid.columns) > PER_LINE or grid.column_keys == ("run",))
        tiles = self._tiles()
        places = sum(len(row) for row in tiles)
        self.asked, self.cell = cell, min(cell, int(math.sqrt(AREA / places)))
        self.font_size = max(11, min(18, self.cell // 14))
        self.font = ImageFont.load_default(self.font_size)
        self.box = self._box([tile.picture for row in tiles for tile in row if tile and tile.picture])
        self.image = self._draw(tiles)

    def save(self, path: Path) -> None:
        """Writes the sheet as a PNG, whole or not at all."""
        with replacing(path) as temporary:
            self.image.save(temporary)

    def origin(self, row: int, column: int) -> tuple[int, int]:
        """The upper left corner of a picture in px; edges with inputs or labels count as row or column 0."""
        width, height = self.box
        x = MARGIN + column * (width + GAP)
        return x, self.top + sum(self.heights[:row]) + row * (height + GAP)

    def caption(self) -> list[str]:
        """What the sheet shows, and what must be known about it."""
        axes = [
            f"{name}: {', '.join(keys)}"
            for name, keys in (("rows", self.grid.row_keys), ("columns", self.grid.column_keys))
            if keys and not self.flows
        ]
        several = len(self.grid.crowded)
        notes = [
            f"{len(self.comparison.entries)} runs" + "".join(f"; {axis}" for axis in axes),
            f"{several} cells stand for several runs; each shows the one with the lowest total" if several else "",
            *self.comparison.notices,
        ]
        if self.cell < self.asked:
            notes.append(f"the pictures have {self.cell} px, not {self.asked}, or the sheet would be too large")
        if self.grid.left_out:
            names = ", ".join(entry.run.name for entry in self.grid.left_out)
            notes.append(f"without a place here: {names}")
        return [note for note in notes if note]

    def _tiles(self) -> list[list[Tile | None]]:
        grid = self.grid
        body: list[list[Tile | None]] = [[self._cell(row, column) for column in grid.columns] for row in grid.rows]
        if self.flows:
            return _wrapped([tile for tile in body[0] if tile])
        if grid.row_keys:
            body = [[self._edge(grid.row_keys, place), *row] for place, row in zip(grid.rows, body, strict=True)]
        if grid.column_keys:
            corner: list[Tile | None] = [None] if grid.row_keys else []
            body.insert(0, [*corner, *(self._edge(grid.column_keys, place) for place in grid.columns)])
        return body

    def _cell(self, row: Place, column: Place) -> Tile:
        entries = self.grid.cells.get((row, column), [])
        if not entries:
            return Tile(None, "no run", [])
        best = entries[0]
        own = [key for key in self.comparison.varied if key not in (*self.grid.row_keys, *self.grid.column_keys)]
        lines = [(text, INK) for text in self._name(best)] if self.flows else []
        if best.results["total"] is not None:
            lines.append((f"total {best.text('total')}", FAINT))
        if len(entries) > 1:
            lines.append((f"best of {len(entries)}: {best.label(own) or best.run.name}", FAINT))
        lines += [(mark.short, WARNING) for mark in best.marks]
        return Tile(best.run.picture, f"{best.run.status}, no picture", lines)

    def _name(self, entry: Entry) -> list[str]:
        """What tells a run apart, in a line for each key."""
        varied = [key for key in self.comparison.varied if key in entry.values]
        return [entry.label([key]) for key in varied] or [entry.run.name]

    def _edge(self, keys: Sequence[str], place: Place) -> Tile:
        """The label of a row or a column, below the input that it stands for."""
        axis = 0 if keys == self.grid.row_keys else 1
        entries = [entry for at, cell in self.grid.cells.items() if at[axis] == place for entry in cell]
        texts = [entries[0].label([key]) for key in keys]
        pictured = next((key for key in keys if key in ("content", "style")), None)
        if pictured is None:
            return Tile(None, "\n".join(texts), [])
        picture, missing = _input(entries, pictured)
        lines = [(text, INK) for text in texts]
        if any(entry.run.asset(pictured).get("source") == "stand-in" for entry in entries):
            lines.append(("stand-in", WARNING))
        return Tile(picture, missing, lines)

    def _box(self, pictures: Sequence[Image.Image]) -> tuple[int, int]:
        """The width and height in px that hold every picture with its longest side at ``cell``."""
        sizes = [_fitted(picture, self.cell) for picture in pictures]
        widest, highest = max((w for w, _ in sizes), default=0), max((h for _, h in sizes), default=0)
        return max(widest, self.cell // 2), max(highest, self.cell // 3)

    def _draw(self, tiles: list[list[Tile | None]]) -> Image.Image:
        line = int(self.font_size * LEADING)
        self.top = MARGIN
        self.heights = [line * max(len(tile.lines) if tile else 0 for tile in row) + GAP for row in tiles]
        columns = max(len(row) for row in tiles)
        width = max(2 * MARGIN + columns * (self.box[0] + GAP) - GAP, 480)
        caption = [text for note in self.caption() for text in self._wrap(note, width - 2 * MARGIN)]
        bottom = self.origin(len(tiles), 0)[1]
        canvas = Image.new("RGB", (width, bottom + line * len(caption) + MARGIN), PAPER)
        draw = ImageDraw.Draw(canvas)
        for row, tiles_of_row in enumerate(tiles):
            for column, tile in enumerate(tiles_of_row):
                if tile is not None:
                    self._paste(canvas, draw, tile, self.origin(row, column))
        for number, text in enumerate(caption):
            draw.text((MARGIN, bottom + number * line), text, INK if number == 0 else FAINT, self.font)
        return canvas

    def _paste(self, canvas: Image.Image, draw: ImageDraw.ImageDraw, tile: Tile, at: tuple[int, int]) -> None:
        (x, y), (width, height) = at, self.box
        if tile.picture is not None:
            shown = tile.picture.resize(_fitted(tile.picture, self.cell), Image.Resampling.LANCZOS)
            canvas.paste(shown, (x + (width - shown.width) // 2, y + height - shown.height))
        else:
            if tile.lines or not tile.instead or tile.instead == "no run":
                draw.rectangle((x, y, x + width - 1, y + height - 1), EMPTY)
            text = "\n".join(piece for part in tile.instead.split("\n") for piece in self._wrap(part, width - GAP))
            draw.multiline_text((x + width / 2, y + height / 2), text, INK, self.font, "mm", align="center")
        for number, (words, colour) in enumerate(tile.lines):
            place = x, y + height + GAP // 3 + number * int(self.font_size * LEADING)
            draw.text(place, self._cut(words, width), colour, self.font)

    def _cut(self, text: str, width: int) -> str:
        """The text in one line of ``width`` px, with an ellipsis where it is longer."""
        text = " ".join(text.split())
        if self.font.getlength(text) <= width:
            return text
        while text and self.font.getlength(text + "…") > width:
            text = text[:-1]
        return text + "…"

    def _wrap(self, text: str, width: int) -> list[str]:
        """The text in lines of ``width`` px."""
        lines = [""]
        for word in text.split():
            longer = f"{lines[-1]} {word}".strip()
            if lines[-1] and self.font.getlength(longer) > width:
                lines.append(word)
            else:
                lines[-1] = longer
        return [self._cut(line, width) for line in lines]


def _wrapped(tiles: Sequence[Tile]) -> list[list[Tile | None]]:
    """One tile after another, in lines of about equal number."""
    per_line = max(min(PER_LINE, len(tiles)), math.ceil(math.sqrt(len(tiles))))
    return [list(tiles[start : start + per_line]) for start in range(0, len(tiles), per_line)]


def _fitted(picture: Image.Image, side: int) -> tuple[int, int]:
    scale = side / max(picture.size)
    return max(1, round(picture.width * scale)), max(1, round(picture.height * scale))


def _input(entries: Sequence[Entry], key: str) -> tuple[Image.Image | None, str]:
    """The picture that runs took as content or style, or why it can't be shown."""
    asset = next((asset for entry in entries if (asset := entry.run.asset(key)).get("path")), None)
    if asset is None:
        return None, f"{key} not known"
    path = Path(str(asset["path"]))
    picture = load_picture(path, 512, [])
    if picture is None:
        return None, f"{path.name} is missing"
    return (picture, "") if sha256(path) == asset.get("sha256") else (None, f"{path.name} was changed since")
