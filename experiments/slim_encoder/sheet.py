"""Paints every bundled content after every bundled style, and lays the pictures out on one sheet.

    python -m experiments.slim_encoder.sheet [--out experiments/slim_encoder/sheet.jpg] [overrides of nst.train]

Rows are contents, columns are styles, the inputs stand along the edges.
"""

import argparse
from pathlib import Path

from PIL import Image

from experiments.slim_encoder.judge import new_folder, paint
from nst.files import paths


def lay_out(rows: list[list[Path | None]], cell: int) -> Image.Image:
    """The pictures in a grid of square cells of ``cell`` px, on white."""
    sheet = Image.new("RGB", (cell * len(rows[0]), cell * len(rows)), "white")
    for row, files in enumerate(rows):
        for column, path in enumerate(files):
            if path is not None:
                picture = Image.open(path).convert("RGB")
                picture.thumbnail((cell - 4, cell - 4), Image.Resampling.LANCZOS)
                corner = (cell - picture.width) // 2, (cell - picture.height) // 2
                sheet.paste(picture, (column * cell + corner[0], row * cell + corner[1]))
    return sheet


def main() -> None:
    """Paints and lays out."""
    parser = argparse.ArgumentParser(description="Paints all bundled pictures with the bundled encoder, on one sheet.")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("sheet.jpg"))
    parser.add_argument("--runs", type=Path, default=new_folder("sheet"), help="folder for the runs")
    parser.add_argument("--cell", type=int, default=300, help="side of a cell in px")
    parser.add_argument("overrides", nargs="*", help="overrides of nst.train, for all runs")
    options = parser.parse_intermixed_args()
    contents, styles = (paths.bundled_pictures(kind) for kind in ("content", "style"))
    rows: list[list[Path | None]] = [[None, *styles]]
    for content in contents:
        painted = [
            paint(content, style, options.runs / f"{content.stem}-{style.stem}", ["encoder=slim", *options.overrides])
            for style in styles
        ]
        rows.append([content, *painted])
    lay_out(rows, options.cell).save(options.out, quality=85, optimize=True)
    print(f"The sheet is at {options.out}")


if __name__ == "__main__":
    main()
