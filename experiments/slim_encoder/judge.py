"""Judges an encoder by another one: how far its pictures are from the style and from the content.

    python -m experiments.slim_encoder.judge --judge vgg19.pth --pictures FOLDER [--weights slim.safetensors]

Paints {tubingen, ballerina} × {starry_night, picasso, scream} with the encoder in question, then measures the pictures
by the filters of a real VGG-19 (a checkpoint in torchvision's layout, at least up to conv3_1), which had no part in
making them:

- style distance: mean over relu1_1, relu2_1, relu3_1 of |G(x) - G(style)|² / |G(style)|²
- content distance: mean((F(x) - F(content))²) / var(F(content)) at relu3_1

FOLDER holds content/NAME.jpg and style/NAME.jpg. Distances are taken at the size of the pictures. The table also has
the content image itself, which is as far from the style as one can stay. Content is compared at relu1_2, relu2_1 and
relu3_1, as fine as it is judged, at the style weight 1.8e6; overrides come last and change this or anything else:
``layers.content=[relu4_2] weights.style=1e6``.
"""

import argparse
import itertools
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from nst import image
from nst.encoder import vgg
from nst.encoder import weights as encoder
from nst.objective.functional import gram_per_position

PAINTED = [
    "encoder=slim", "encoder.calibrate=false", "layers.content=[relu1_2,relu2_1,relu3_1]", "weights.style=1.8e6",
    "weights.tv=0", "schedule=single",
]  # fmt: skip
STYLE_LAYERS = ["relu1_1", "relu2_1", "relu3_1"]
CONTENT_LAYER = "relu3_1"


class Judge:
    """A network that measures pictures.

    Args:
        checkpoint: its weights, at least up to conv3_1.
        architecture, convention: what they are.
    """

    def __init__(self, checkpoint: Path, architecture: str = "vgg19", convention: str = "torchvision") -> None:
        state = encoder.load_state(checkpoint, architecture, key="--judge")
        self.network = vgg.VGG(
            architecture=architecture,
            layers=STYLE_LAYERS,
            pooling=lambda: nn.AvgPool2d(2, 2),
            state=state,
            convention=convention,
        )

    @torch.no_grad()
    def distances(self, picture: Tensor, content: Tensor, style: Tensor) -> tuple[float, float]:
        """(style distance, content distance) of an image tensor."""
        x, p, a = (self.network(image) for image in (picture, content, style))
        grams = [(gram_per_position(x[name]), gram_per_position(a[name])) for name in STYLE_LAYERS]
        style_distance = statistics.mean(((g - t).square().sum() / t.square().sum()).item() for g, t in grams)
        difference = (x[CONTENT_LAYER] - p[CONTENT_LAYER]).square().mean()
        return style_distance, (difference / p[CONTENT_LAYER].var()).item()


def new_folder(name: str) -> Path:
    """A folder for runs that no earlier command has used."""
    return Path("outputs") / name / time.strftime("%Y-%m-%d_%H-%M-%S")


def paint(content: Path, style: Path, folder: Path, overrides: list[str]) -> Path:
    """Paints one pair; returns the picture's file."""
    run = [f"content.path={content}", f"style.path={style}", f"hydra.run.dir={folder}", *overrides]
    finished = subprocess.run([sys.executable, "-m", "nst.train", *run], stdout=subprocess.DEVNULL, check=False)
    if finished.returncode != 0:
        sys.exit(finished.returncode)
    return folder / "result.png"


def main() -> None:
    """Paints and prints the table."""
    parser = argparse.ArgumentParser(description="Judges an encoder by the filters of a real VGG-19.")
    parser.add_argument("--judge", type=Path, required=True, help="a VGG-19 checkpoint, at least up to conv3_1")
    parser.add_argument("--pictures", type=Path, required=True, help="folder with content/NAME.jpg and style/NAME.jpg")
    parser.add_argument("--contents", nargs="+", default=["tubingen", "ballerina"])
    parser.add_argument("--styles", nargs="+", default=["starry_night", "picasso", "scream"])
    parser.add_argument("--weights", type=Path, help="the encoder to judge; default: the bundled one")
    parser.add_argument("--size", type=int, default=256, help="longest side in px")
    parser.add_argument("--evaluations", type=int, default=300)
    parser.add_argument("--out", type=Path, default=new_folder("judge"), help="folder for the runs")
    parser.add_argument("overrides", nargs="*", help="overrides of nst.train, for all runs")
    options = parser.parse_intermixed_args()
    judge = Judge(options.judge)
    overrides = [*PAINTED, f"size={options.size}", f"evaluations={options.evaluations}", *options.overrides]
    if options.weights is not None:
        overrides.append(f"encoder.weights={options.weights.resolve()}")
    table = Table("content", "style", "style distance", "content distance", "style distance of the content itself")
    rows = []
    for content_name, style_name in itertools.product(options.contents, options.styles):
        content_path = options.pictures / "content" / f"{content_name}.jpg"
        style_path = options.pictures / "style" / f"{style_name}.jpg"
        painted = paint(
            content_path.resolve(), style_path.resolve(), options.out / f"{content_name}-{style_name}", overrides
        )
        picture = image.load(painted, key="result")
        shape = (picture.shape[-2], picture.shape[-1])
        content, style = (image.resize(image.load(path, key="picture"), shape) for path in (content_path, style_path))
        row = (*judge.distances(picture, content, style), judge.distances(content, content, style)[0])
        rows.append(row)
        table.add_row(content_name, style_name, *(f"{value:.4f}" for value in row))
    table.add_section()
    table.add_row("median", "", *(f"{statistics.median(column):.4f}" for column in zip(*rows, strict=True)))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
