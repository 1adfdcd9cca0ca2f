"""Runs of STROTSS and NNST: their presets, masks and several styles, what goes on, and what is refused."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nst.image import color
from tests.conftest import Command, assert_equal, image

METHODS = ["strotss", "nnst"]


def words(method: str, small: list[str]) -> list[str]:
    """A small run through two scales; the layers of STROTSS need 16 px."""
    rest = [word for word in small if not word.startswith(("size=", "evaluations="))]
    return [*rest, f"experiment={method}", "schedule.scales=2", "size=48", "evaluations=9"]


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "losses.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("method", METHODS)
def test_a_run_stopped_within_any_scale_goes_on_bit_by_bit(
    inside: Command, small: list[str], tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NNST's targets depend on the picture at the start of its scale, which a checkpoint holds."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    given = [*words(method, small), "callbacks.checkpoint.keep_history=true"]
    assert inside(*given, "hydra.run.dir=whole").returncode == 0
    for number in (2, 5, 7):
        stop = f"+callbacks.interrupt={{_target_: tests.optimizer.test_schedule.Interrupt, at: {number}}}"
        assert inside(*given, stop, f"hydra.run.dir=at_{number}").returncode == 143
        finished = inside(f"resume=at_{number}")
        assert finished.returncode == 0, finished.stderr
        assert_equal(tmp_path / "whole", tmp_path / f"at_{number}")


@pytest.mark.parametrize("method", METHODS)
def test_masks_and_several_styles(nst: Command, small: list[str], tmp_path: Path, method: str) -> None:
    half = Image.new("L", (40, 32))
    half.paste(255, (0, 0, 20, 32))
    half.save(tmp_path / "half.png")
    style = small[1].removeprefix("style.path=")
    with Image.open(style) as picture:
        mask = Image.new("L", picture.size, 255)
    mask.paste(0, (0, 0, mask.width // 2, mask.height))
    mask.save(tmp_path / "mask.png")
    given = ["style.region=half.png", "style/more=[second]", f"style.more.second.path={style}", "evaluations=12"]
    finished = nst(
        *words(method, small), *given, "style.mask=mask.png", "color=chroma", "hydra.run.dir=run", "precision=bf16"
    )
    assert finished.returncode == 0, finished.stderr
    found = rows(tmp_path / "run")
    first = [row for row in found if row["size"] == found[0]["size"]]
    assert float(first[-1]["total"]) < float(first[0]["total"])
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["peak_memory_bytes"] < 1.3 * summary["predicted_memory_bytes"]


def test_the_last_scale_is_repeated_with_the_terms_of_finish(inside: Command, small: list[str], tmp_path: Path) -> None:
    finished = inside(*words("nnst", small), "logger=csv", "hydra.run.dir=run")
    assert finished.returncode == 0, finished.stderr
    assert [row["size"] for row in rows(tmp_path / "run")] == ["24"] * 3 + ["48"] * 6
    [path] = (tmp_path / "run" / "csv").rglob("metrics.csv")
    with path.open() as file:
        parts = list(csv.DictReader(file))
    names = {name.rpartition("/")[2] for row in parts for name, value in row.items() if value and "style/" in name}
    assert names >= {"nearest_neighbors", "feature_splitting"}


@pytest.mark.parametrize(
    ("method", "given", "said"),
    [
        (
            "strotss",
            ["optimizer=lbfgs"],
            "optimizer: the content loss SelfSimilarity (objective/content) draws new samples at",
        ),
        ("nnst", ["optimizer=lbfgs"], "optimizer: the style term feature_splitting (objective/style) draws"),
        (
            "nnst",
            ["tile=16"],
            "tile=16: the style term nearest_neighbors (objective/style) reads the picture as a whole",
        ),
        (
            "strotss",
            ["layers.style=[relu1_1]"],
            "(objective/style) also needs the layer pixels: 'layers.style=[relu1_1,pixels]'",
        ),
        ("nnst", ["schedule.finish=[feature_spliting]"], "did you mean feature_splitting"),
        ("strotss", ["+schedule.factors.terms.palete=doubling"], "schedule.factors.terms=palete: this is no term of"),
        ("nnst", ["objective/style=[feature_splitting]"], "schedule.finish=[feature_splitting]: these are all"),
        ("strotss", ["schedule.factors.content=thirds"], "schedule.factors.content=thirds: must be"),
        (
            "nnst",
            ["objective.style.nearest_neighbors.content_share=2"],
            "content_share=2: must be less than or equal to 1",
        ),
        ("nnst", ["objective.style.feature_splitting.turns=5"], "turns=5: must be less than or equal to 4"),
        ("strotss", ["objective.style.palette.samples=1"], "samples=1: must be greater than or equal to 2"),
        (
            "strotss",
            ["layers.style=[pixels]", "layers.content=[pixels]"],
            "at least one layer of the network is needed",
        ),
    ],
)
def test_mistakes(inside: Command, small: list[str], method: str, given: list[str], said: str) -> None:
    finished = inside(*words(method, small), *given)
    assert finished.returncode == 2
    assert said in finished.stderr
    assert all(line.startswith("error: ") for line in finished.stderr.splitlines())


def test_nearest_neighbors_alone_can_be_minimized_by_lbfgs(inside: Command, small: list[str], tmp_path: Path) -> None:
    given = ["objective/style=[nearest_neighbors]", "schedule.finish=null", "optimizer=lbfgs", "hydra.run.dir=run"]
    finished = inside(*words("nnst", small), *given)
    assert finished.returncode == 0, finished.stderr
    losses = [float(row["total"]) for row in rows(tmp_path / "run") if row["size"] == "48"]
    assert losses[-1] < losses[0]


def test_pixels_are_a_layer_of_every_encoder(inside: Command, small: list[str], tmp_path: Path) -> None:
    """In tiles, too; and a content loss of the pixels is their mean squared difference."""
    given = [
        "layers.content=[pixels]",
        "layers.style=[pixels,relu1_1]",
        "init=noise",
        "schedule=single",
        "precision=64",
    ]
    for name, tile in (("whole", "off"), ("tiles", "16")):
        finished = inside(*small, *given, f"tile={tile}", f"hydra.run.dir={name}")
        assert finished.returncode == 0, finished.stderr
    whole, tiles = ([float(row["total"]) for row in rows(tmp_path / name)] for name in ("whole", "tiles"))
    assert tiles == pytest.approx(whole, rel=1e-9)


def test_chroma_is_the_contents_with_the_statistics_of_the_style() -> None:
    content, painted, style = (image(seed, 40, 30).float() for seed in (1, 2, 3))
    style = 0.4 + 0.2 * style  # all its colours are within sRGB
    palette = [color.Palette(style)]
    found = color.with_chroma(content, painted, palette)
    means = [color.oklab(each)[0].flatten(1).mean(1) for each in (found, style)]
    assert torch.allclose(means[0][1:], means[1][1:], atol=2e-3)
    flat = content.mean((2, 3), keepdim=True).expand_as(content)
    unchanged = color.with_chroma(flat, painted, palette)
    chroma = color.oklab(unchanged)[0, 1:].flatten(1)
    assert chroma.std(1).max() < 2e-2, "one colour in the content, one chroma in the picture"


def test_oklab_there_and_back() -> None:
    picture = image(1)
    assert torch.allclose(color._of_oklab(color.oklab(picture)), picture, atol=1e-7)
    white = color.oklab(torch.ones(1, 3, 1, 1).double()).flatten().numpy()
    assert white == pytest.approx(np.array([1, 0, 0]), abs=1e-6)


def test_each_style_colours_its_region() -> None:
    content, painted = (image(seed, 20, 20).float() for seed in (1, 2))
    region = torch.zeros(1, 1, 20, 20)
    region[..., :10] = 1
    red, blue = (torch.tensor(each).view(1, 3, 1, 1).expand(1, 3, 5, 5) for each in ((0.8, 0.2, 0.2), (0.2, 0.2, 0.8)))
    found = color.with_chroma(
        content, painted, [color.Palette(red, region=region), color.Palette(blue, region=1 - region)]
    )
    left, right = found[..., :9].mean((0, 2, 3)), found[..., 11:].mean((0, 2, 3))
    assert left[0] > left[2] + 0.2
    assert right[2] > right[0] + 0.2
