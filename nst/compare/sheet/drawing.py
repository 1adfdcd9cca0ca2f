"""The contact sheet as a picture: tiles in rows and columns, and a caption below."""

import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from nst.compare.sheet.tiles import Tile, Tiles, Tone
from nst.files.atomic import replacing

PAPER, EMPTY = "white", "#ececec"
INKS = {"plain": "#1b1b1b", "faint": "#6a6a6a", "warning": "#a34400"}
#: Fonts of Linux, macOS and Windows for characters that Pillow's own doesn't have.
FONTS = (
    "DejaVuSans.ttf", "NotoSans-Regular.ttf", "arial.ttf", "Arial Unicode.ttf", "NotoSansCJK-Regular.ttc",
    "PingFang.ttc", "Hiragino Sans GB.ttc", "msyh.ttc", "msgothic.ttc", "malgun.ttf", "wqy-zenhei.ttc",
    "wqy-microhei.ttc", "DroidSansFallbackFull.ttf", "unifont.otf", "unifont.ttf",
)  # fmt: skip
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
#: In px: the space between two pictures, and around the sheet. In px²: the maximum area of all pictures together.
GAP, MARGIN, AREA = 12, 20, 80e6


class Sheet:
    """A contact sheet, drawn when the object is made.

    Args:
        tiles: the tiles, line by line.
        caption: lines of text below.
        cell: a picture's longest side in px, reduced if the sheet would become too large.
    """

    def __init__(self, tiles: Tiles, caption: Sequence[str], *, cell: int) -> None:
        self.cell = min(cell, int(math.sqrt(AREA / sum(map(len, tiles)))))
        if self.cell < cell:
            caption = [*caption, f"the pictures have {self.cell} px, not {cell}, or the sheet would be too large"]
        size = max(11, min(18, self.cell // 14))
        texts = [text for line in tiles for tile in line if tile for text in (*dict(tile.lines), tile.instead)]
        self.font, self.escapes = _font_for("".join([*texts, *caption]), size)
        self.leading = size * 27 // 20
        columns = list(itertools.zip_longest(*tiles))
        pictures = [tile.picture.size for line in tiles for tile in line if tile and tile.picture]
        widest = max([self.cell // 2, *(self._fitted(size)[0] for size in pictures)])
        self.widths = [self._label_width(line) if _only_labels(line) else widest for line in columns]
        self.heights = [0 if _only_labels(line) else self._height(line) for line in tiles]
        self.texts = [
            self.leading
            * max((len(self._lines(t, w)) for t, w in zip(line, self.widths, strict=False) if t), default=0)
            for line in tiles
        ]
        self.image = self._draw(tiles, caption)

    def save(self, path: Path) -> None:
        """Write the sheet as a PNG, atomically."""
        with replacing(path) as temporary:
            self.image.save(temporary)

    def box(self, row: int, column: int) -> tuple[int, int, int, int]:
        """Return the left, upper, right and lower edge in px of a tile's room for its picture; its text is below."""
        x = MARGIN + sum(self.widths[:column]) + column * GAP
        y = MARGIN + sum(self.heights[:row]) + sum(self.texts[:row]) + row * GAP
        return x, y, x + self.widths[column], y + self.heights[row]

    def _height(self, line: Sequence[Tile | None]) -> int:
        """Return the height in px of a line's pictures: that of the highest, and room for a text in place of one."""
        return max(self._fitted(tile.picture.size)[1] if tile.picture else self.cell // 2 for tile in line if tile)

    def _label_width(self, line: Sequence[Tile | None]) -> int:
        """Return the width in px of a column of labels."""
        lengths = [self.font.getlength(text.translate(self.escapes)) for tile in line if tile for text, _ in tile.lines]
        return min(2 * self.cell, math.ceil(max(lengths)) + GAP)

    def _fitted(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the size in px of a picture with its longest side at ``cell``."""
        scale = self.cell / max(size)
        return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))

    def _draw(self, tiles: Tiles, caption: Sequence[str]) -> Image.Image:
        width = max(2 * MARGIN + sum(self.widths) + GAP * (len(self.widths) - 1), 480)
        words = [text for note in caption for text in self._wrap(note, width - 2 * MARGIN)]
        bottom = MARGIN + sum(self.heights) + sum(self.texts) + GAP * len(tiles)
        canvas = Image.new("RGB", (width, bottom + self.leading * len(words) + MARGIN), PAPER)
        draw = ImageDraw.Draw(canvas)
        for row, line in enumerate(tiles):
            for column, tile in enumerate(line):
                if tile is not None:
                    self._paste(canvas, draw, tile, self.box(row, column))
        for number, text in enumerate(words):
            ink = INKS["faint" if number else "plain"]
            draw.text((MARGIN, bottom + number * self.leading), text, ink, self.font)
        return canvas

    def _paste(
        self, canvas: Image.Image, draw: ImageDraw.ImageDraw, tile: Tile, box: tuple[int, int, int, int]
    ) -> None:
        left, top, right, bottom = box
        if tile.is_label:  # in the middle of a row's height, at the lower end of a column's head
            bottom = (top + bottom) // 2
        elif tile.picture is not None:
            shown = tile.picture.resize(self._fitted(tile.picture.size), Image.Resampling.LANCZOS)
            canvas.paste(shown, ((left + right - shown.width) // 2, bottom - shown.height))
        else:
            draw.rectangle((left, top, right - 1, bottom - 1), EMPTY)
            text, middle = "\n".join(self._wrap(tile.instead, right - left - GAP)), (left + right) / 2
            draw.multiline_text((middle, (top + bottom) / 2), text, INKS["plain"], self.font, "mm", align="center")
        for number, (words, tone) in enumerate(self._lines(tile, right - left)):
            draw.text((left, bottom + GAP // 3 + number * self.leading), words, INKS[tone], self.font)

    def _lines(self, tile: Tile, width: int) -> list[tuple[str, Tone]]:
        """Return the tile's lines of text, wrapped to ``width`` px."""
        return [(line, tone) for words, tone in tile.lines for line in self._wrap(words, width)]

    def _cut(self, text: str, width: int) -> str:
        """Return the text in one line of ``width`` px, with an ellipsis if it is longer."""
        text = " ".join(text.split())[:500].translate(self.escapes)
        if self.font.getlength(text) <= width:
            return text
        while text and self.font.getlength(text + "…") > width:
            text = text[:-1]
        return text + "…"

    def _wrap(self, text: str, width: int) -> Iterator[str]:
        """Yield the text in lines of ``width`` px."""
        line = ""
        for word in text.translate(self.escapes).split():
            longer = f"{line} {word}".strip()
            if line and self.font.getlength(longer) > width:
                yield self._cut(line, width)
                longer = word
            line = longer
        yield self._cut(line, width)


def _font_for(text: str, size: int) -> tuple[Font, dict[int, str]]:
    """Return the font that has the most characters of a text, and escapes for the others (``\\u5c71``)."""
    best: tuple[Font, dict[int, str]] | None = None
    for name in (None, *FONTS):
        try:
            font = ImageFont.load_default(size) if name is None else ImageFont.truetype(name, size)
        except OSError:  # not installed
            continue
        absent = bytes(font.getmask(chr(0xFFFFF)))  # a private character, drawn as a box or as nothing
        missing = {c for c in set(text) if not c.isspace() and bytes(font.getmask(c)) == absent}
        if best is None or len(missing) < len(best[1]):
            best = font, {ord(c): c.encode("ascii", "backslashreplace").decode() for c in missing}
        if not missing:
            break
    assert best is not None
    return best


def _only_labels(line: Sequence[Tile | None]) -> bool:
    return all(tile is None or tile.is_label for tile in line)
