"""Is there a seam where two tiles meet? Paints one picture as a whole and in small tiles, and looks at their borders.

    python -m experiments.seams [--tiles 256 512] [--out outputs/seams] [overrides of nst.train]

A run that is complete is not made again, whatever the overrides are now. For each picture in tiles it prints how much
two neighbouring rows, or columns, differ on average where two tiles meet, and everywhere else: of the picture itself,
of the whole one, and of the difference between the two. Everywhere else is on the grid of the borders when it is moved
by 16, 32, … px: a seam would make the grid that is not moved stand out among these; ``z`` is by how many of their
standard deviations. The moves are multiples of 16 px because every picture has a pattern of this period, from the four
poolings of the encoder.
"""

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from experiments.slim_encoder.judge import paint
from nst import image
from nst.encoder import weights as encoder
from nst.encoder.vgg import VGG
from nst.files import paths
from nst.files.run_folder import RunFolder
from nst.image import output
from nst.objective.tiles import windows

PICTURES = paths.bundled("content", "tubingen"), paths.bundled("style", "starry_night")
RUN = [
    "encoder=vgg19_caffe", "weights=seed", "size=2048", "schedule.sizes=[512,1024]", "schedule.shares=[3,2,1]",
    "evaluations=60", "optimizer.history_size=20", "logger=none", "callbacks.film=null", "~callbacks.snapshot",
]  # fmt: skip
STRIDE = 16  # px of the picture per position after the fourth pooling


def borders(shape: Sequence[int], tile: int) -> list[list[int]]:
    """The first row of each tile but the topmost, and the first column of each but the leftmost, in px."""
    layers = ["relu1_1", "relu5_1"]  # the tiles agree with the poolings between these
    reader = VGG(
        architecture="vgg19", layers=layers, pooling=lambda: torch.nn.AvgPool2d(2), state=encoder.no_state("vgg19")
    )
    places = [window.place["relu1_1"] for window in windows(reader, shape, tile)]
    return [sorted({place[side].start for place in places} - {0}) for side in (0, 1)]


def step_at(picture: Tensor, borders: Sequence[Sequence[int]]) -> tuple[float, float, float]:
    """How much neighbouring rows and columns of a picture (1, 3, H, W) differ, on average: at the borders, and beside
    them; and by how many of the standard deviations that the moved grids have among themselves the first is larger.
    """
    rows, columns = picture.diff(dim=2).abs().mean((0, 1, 3)), picture.diff(dim=3).abs().mean((0, 1, 2))
    most = min(starts[0] for starts in borders if starts) // 2
    moves = [move for move in range(-most, most) if move % STRIDE == 0 and move != 0]

    def of_grid(move: int) -> float:
        return float(torch.cat([along[[s - 1 + move for s in starts]] for along, starts in grid]).mean())

    grid = [(rows, borders[0]), (columns, borders[1])]
    here, beside = of_grid(0), [of_grid(move) for move in moves]
    usual = statistics.mean(beside)
    return here, usual, (here - usual) / statistics.stdev(beside)


def crops(pictures: Sequence[Tensor], corner: tuple[int, ...], size: int, difference: float) -> Tensor:
    """Where four tiles meet: each picture side by side, and below how it differs from the first, times a factor."""
    half = size // 2
    cut = [slice(max(0, middle - half), middle + half) for middle in corner]
    parts = [picture[..., *cut] for picture in pictures]
    below = [(0.5 + difference * (part - parts[0])).clamp(0, 1) for part in parts]
    return torch.cat([torch.cat(parts, dim=3), torch.cat(below, dim=3)], dim=2)


def main() -> None:
    """Paints, measures and lays out."""
    parser = argparse.ArgumentParser(
        description="Tests whether a picture shows the borders of the tiles that it was painted in."
    )
    parser.add_argument("--tiles", type=int, nargs="+", default=[256, 512], metavar="PX")
    parser.add_argument("--out", type=Path, default=Path("outputs/seams"), help="folder for the runs and the sheet")
    parser.add_argument(
        "--crop", type=int, default=512, help="side in px of the part of each picture that the sheet shows"
    )
    parser.add_argument("overrides", nargs="*", help="overrides of nst.train, for all runs")
    options = parser.parse_intermixed_args()
    files = {tile: options.out / str(tile) / "result.png" for tile in ("off", *options.tiles)}
    for tile, file in files.items():
        if RunFolder(file.parent).read_summary().get("status") != "completed":
            paint(*PICTURES, file.parent, [*RUN, *options.overrides, f"tile={tile}"])
    whole, *tiled = (image.load(file, key="--out") for file in files.values())
    table = Table("tile", "picture", "step at borders", "beside them", "z")
    for tile, picture in zip(options.tiles, tiled, strict=True):
        found = borders(picture.shape[-2:], tile)
        for name, each in {"whole": whole, "tiles": picture, "difference": picture - whole}.items():
            here, beside, z = step_at(each, found)
            table.add_row(str(tile), name, f"{here:.6f}", f"{beside:.6f}", f"{z:+.2f}")
    Console().print(table)
    corner = tuple(starts[len(starts) // 2] for starts in borders(whole.shape[-2:], options.tiles[0]))
    sheet = options.out / "sheet.png"
    output.save(crops([whole, *tiled], corner, options.crop, difference=8), sheet)
    print(f"The sheet is at {sheet}")


if __name__ == "__main__":
    main()
