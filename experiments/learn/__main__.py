"""Make the pictures of ``docs/learn``, by Oxford's VGG-19 from the bundled pictures.

    python -m experiments.learn [--folder outputs/learn] [--only content style …]

The runs are in ``--folder``; those that are complete are not painted again. All of them take about half an hour on
one core. ``features`` and ``gram`` need no run.
"""

import argparse
from pathlib import Path

from experiments.learn import features
from experiments.learn.curves import draw
from experiments.learn.paintings import ADAM, FIGURES, LBFGS
from nst.compare.sheet.drawing import Sheet
from nst.compare.sheet.tiles import Tile

PAGES = Path(__file__).parents[2] / "docs" / "learn"
DRAWN = {"features": features.seen, "gram": features.shuffled}


def save(rows: list[list[Tile | None]], file: Path, *, cell: int) -> None:
    """Write a sheet of pictures, ``cell`` px each, as a JPEG."""
    Sheet(rows, [], cell=cell).image.save(file, quality=85, optimize=True)
    print(file)


def main() -> None:
    """Paint and draw."""
    parser = argparse.ArgumentParser(description="Makes the pictures of docs/learn.")
    parser.add_argument("--folder", type=Path, default=Path("outputs/learn"), help="folder of the runs")
    names = [*DRAWN, *FIGURES]
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="the pictures to make")
    options = parser.parse_args()
    folder = options.folder.absolute()
    for name in options.only:
        file = PAGES / f"{name}.jpg"
        if name in DRAWN:
            save(DRAWN[name](), file, cell=180)
        else:
            save([[tile for it in row for tile in it.tiles(folder)] for row in FIGURES[name]], file, cell=256)
        if name == "optimizer":
            draw({each.label: each.paint(folder) for each in (LBFGS, ADAM)}, PAGES / "curves.svg")


if __name__ == "__main__":
    main()
