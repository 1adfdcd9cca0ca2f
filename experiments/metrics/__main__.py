"""Does each measure order what people see? Measures rows of pictures whose order is known.

    python -m experiments.metrics FOLDER

FOLDER has two sweeps, ``weight`` over ``weights.style`` and ``layers`` over ``layers.style``, from the first layer to
all five, and a run with snapshots, ``evaluations``. The picture of the middle run of ``weight`` is blurred, made noisy,
recoloured, and compared with other styles and another content. The table has Spearman's rank correlation of each
measure with the order, or the share of the others that are farther than its own style or content, from -1 for none to
1 for all. Where it is known what must happen, 1 stands for a kept order, and -1 for one turned round.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from omegaconf import OmegaConf
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.stats import spearmanr
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from nst import image
from nst.files import paths
from nst.files.run_folder import RunFolder
from nst.image.color import luminance
from nst.metrics import measure
from nst.metrics.names import MEASURES, MeasureName, measured_by
from nst.metrics.observer import observer

NAMES = measured_by("oxford_vgg19")
CONTENT = tuple(name for name in NAMES if MEASURES[name].of == "content")
STYLE = tuple(name for name in NAMES if MEASURES[name].of == "style" and name != "grain")


@dataclass(frozen=True)
class Row:
    """Pictures in a known order.

    Attributes:
        name: what changes along the row.
        pictures: each with its content and its style, image tensors (1, 3, H, W).
        better, worse: the measures that must say that the pictures get better, or worse.
        first: whether only the first picture is better than each of the others, which have no order.
    """

    name: str
    pictures: list[tuple[Tensor, Tensor, Tensor]]
    better: tuple[str, ...] = ()
    worse: tuple[str, ...] = ()
    first: bool = False


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measures series of pictures whose order is known.")
    parser.add_argument("folder", type=Path, help="folder of the sweeps weight and layers")
    options = parser.parse_args()
    rows = [*_sweeps(options.folder), *_changed(options.folder)]
    table, values = Table("measure", *(row.name for row in rows)), {}
    for row in track(rows, "Measuring"):
        values[row.name] = [_measures(*pictures) for pictures in row.pictures]
        for each in values[row.name]:  # the values themselves
            print(row.name, *(f"{name} {each[name]:.4g}" for name in NAMES))
    for name in NAMES:
        table.add_row(name, *(_told(row, name, [each[name] for each in values[row.name]]) for row in rows))
    Console(width=160).print(table)


def _measures(picture: Tensor, content: Tensor, style: Tensor) -> dict[str, float]:
    pictures = measure.as_observed(picture, content, style)
    return {**measure.of_pixels(picture, *pictures), **observer("oxford_vgg19").values(*pictures)}


def _told(row: Row, name: MeasureName, values: Sequence[float]) -> str:
    """Return the rank correlation of a measure with the order: with a sign, or as kept where an order is expected."""
    if np.ptp(values) < 1e-6 * max(map(abs, values)):
        return "no change"
    if row.first:
        correlation = float(np.mean(np.sign(np.array(values[1:]) - values[0])))
    else:
        correlation = float(spearmanr(range(len(values)), values).statistic)
    worse = -correlation if MEASURES[name].more_is_better else correlation  # less is better for most
    if name in row.worse:
        return f"[bold]{worse:.2f}"
    return f"[bold]{-worse:.2f}" if name in row.better else f"({correlation:+.2f})"


def _inputs(folder: RunFolder) -> tuple[Tensor, Tensor]:
    return measure.input_picture(folder, "content"), measure.input_picture(folder, "style")


def _sorted(folder: Path, key: str) -> list[RunFolder]:
    """Return the runs of a sweep by a number, or by the length of a list."""

    def order(run: RunFolder) -> float:
        value = OmegaConf.select(OmegaConf.load(run.config), key)
        return len(value) if OmegaConf.is_list(value) else float(value)

    return sorted((RunFolder(path.parent) for path in folder.glob("*/result.png")), key=order)


def _sweeps(folder: Path) -> list[Row]:
    found = []
    for name, key in (("weight", "weights.style"), ("layers", "layers.style")):
        pictures = [(image.load(run.result, key="FOLDER"), *_inputs(run)) for run in _sorted(folder / name, key)]
        found.append(Row(key, pictures, better=STYLE, worse=CONTENT if name == "weight" else ()))
    run = RunFolder(folder / "evaluations")
    pictures = [(image.load(path, key="FOLDER"), *_inputs(run)) for path in run.saved_snapshots()]
    return [*found, Row("evaluations", pictures, better=STYLE)]


def _changed(folder: Path) -> list[Row]:
    """Return rows of one picture, changed more and more."""
    runs = _sorted(folder / "weight", "weights.style")
    run = runs[len(runs) // 2]
    picture = image.load(run.result, key="FOLDER")
    content, style = _inputs(run)
    noise = torch.randn(picture.shape, generator=torch.Generator().manual_seed(0))
    turned = picture.roll(1, dims=1)
    turned = (turned + luminance(picture) - luminance(turned)).clamp(0, 1)
    others = [image.load(paths.bundled("style", name), key="style") for name in ("picasso", "scream", "starry_night")]
    other = image.load(paths.bundled("content", "tubingen"), key="content")

    def row(name: str, pictures: Sequence[Tensor], *, worse: tuple[str, ...]) -> Row:
        return Row(name, [(each, content, style) for each in pictures], worse=worse)

    return [
        row("blur", [picture, *(gaussian_blur(picture, [6 * s + 1] * 2, [s] * 2) for s in (1, 2, 4, 8))],
            worse=(*CONTENT, *STYLE)),
        row("noise", [(picture + s * noise).clamp(0, 1) for s in (0, 0.03, 0.06, 0.12, 0.24)],
            worse=(*CONTENT, *STYLE, "grain", "clipped")),
        row("colour", [picture.lerp(turned, share) for share in (0, 0.25, 0.5, 0.75, 1)], worse=STYLE),
        Row("other styles", [(picture, content, each) for each in (style, *others)], worse=STYLE, first=True),
        Row("other content", [(picture, each, style) for each in (content, other)], worse=CONTENT, first=True),
    ]  # fmt: skip


if __name__ == "__main__":
    main()
