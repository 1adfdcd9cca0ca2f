"""The runs behind the pictures of ``docs/learn``: FIGURES has the rows of each sheet."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

import nst
from nst.compare.sheet.tiles import Tile
from nst.files import paths
from nst.files.run_folder import RunFolder

#: Oxford's VGG-19, which needs no internet, and nothing in the folders that the sheets don't show.
COMMON = [
    "encoder=vgg19_caffe", "size=256", "evaluations=150", "threads=1", "metrics=null", "logger=none",
    "callbacks.film=null", "callbacks.snapshot.every_evaluations=10",
]  # fmt: skip
LAYERS = ["relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"]


@dataclass(frozen=True)
class Bundled:
    """A bundled picture, as it is.

    Attributes:
        kind, name: its group and its name.
    """

    kind: str
    name: str

    def tiles(self, folder: Path) -> list[Tile]:
        """Return its tile."""
        return [tile(paths.bundled(self.kind, self.name), f"the {self.kind}, {self.name}")]


@dataclass(frozen=True)
class Painting:
    """One run on the bundled pictures, of tubingen after starry_night.

    Attributes:
        name: the name of its folder.
        label: the text below its picture.
        words: overrides, after COMMON.
        after: numbers of evaluations after which the picture is shown, too.
    """

    name: str
    label: str
    words: Sequence[str] = ()
    after: Sequence[int] = ()

    def paint(self, folder: Path) -> RunFolder:
        """Return the run's folder below ``folder``; paint it anew if it isn't complete."""
        run = RunFolder(folder / self.name)
        if run.read_summary().get("status") != "completed":
            shutil.rmtree(run.path, ignore_errors=True)
            words = [*COMMON, *self.words, f"hydra.run.dir={run.path}"]
            nst.stylize(paths.bundled("content", "tubingen"), paths.bundled("style", "starry_night"), words)
        return run

    def tiles(self, folder: Path) -> list[Tile]:
        """Return the tiles of the picture on its way and of the result."""
        run = self.paint(folder)
        last = f", {run.read_summary()['evaluations']} evaluations" if self.after else ""
        found = [tile(run.snapshot(number), f"{self.label}, {number} evaluations") for number in self.after]
        return [*found, tile(run.result, self.label + last)]


def tile(file: Path, label: str) -> Tile:
    """Return the tile of a picture's file."""
    with Image.open(file) as opened:
        return Tile(opened.convert("RGB"), "", [(label, "plain")])


def inversion(layer: str) -> Painting:
    """Return the run that paints the content's features of one layer, from noise."""
    return Painting(f"content-{layer}", layer, ["experiment=feature_inversion", f"layers.content=[{layer}]"])


def texture(number: int) -> Painting:
    """Return the run that paints the style's Gram matrices of the first layers, from noise."""
    label = LAYERS[0] if number == 1 else f"{LAYERS[0]} to {LAYERS[number - 1]}"
    words = ["experiment=texture_synthesis", f"layers.style=[{','.join(LAYERS[:number])}]"]
    return Painting(f"style-{number}", label, words)


def weighted(weight: str) -> Painting:
    """Return the run of one style weight."""
    return Painting(f"weight-{weight}", f"weights.style={weight}", [f"weights.style={weight}"])


def single(name: str, *words: str, label: str, after: Sequence[int]) -> Painting:
    """Return a run at the final size alone."""
    return Painting(f"single-{name}", label, ["schedule=single", *words], after=after)


LBFGS = single("noise", "init=noise", label="L-BFGS", after=[20, 50])
ADAM = single("adam", "init=noise", "optimizer=adam", label="Adam", after=[20, 50])
LARGE = ["size=320", "evaluations=140", "init=noise", "weights.style=2e5"]

FIGURES: dict[str, list[list[Bundled | Painting]]] = {
    "content": [
        [Bundled("content", "tubingen"), inversion("relu1_1"), inversion("relu2_1")],
        [inversion("relu3_1"), inversion("relu4_2"), inversion("relu5_1")],
    ],
    "style": [[Bundled("style", "starry_night"), texture(1), texture(2)], [texture(3), texture(4), texture(5)]],
    "weight": [[weighted("2e4"), weighted("2e5")], [weighted("1e6"), weighted("1e7")]],
    "start": [
        [single(start, f"init={start}", label=f"init={start}", after=[20])] for start in ("content", "style", "noise")
    ],
    "optimizer": [[LBFGS], [ADAM]],
    "scales": [
        [Painting("scales-single", "at 320 px", [*LARGE, "schedule=single"], after=[20, 60])],
        [Painting("scales-pyramid", "coarse to fine", [*LARGE, "schedule.sizes=[80,160]"], after=[20, 60])],
    ],
}  # fmt: skip
