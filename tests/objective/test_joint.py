"""Style terms that draw at each evaluation."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nst.objective.joint import SlicedWasserstein
from nst.objective.reading import Reading
from tests.conftest import Command, assert_goes_on

DRAWN = ["objective/style=[sliced_wasserstein_drawn]", "optimizer=adam"]


def features(seed: int, **sizes: tuple[int, int, int]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.rand((1, *size), generator=generator).double() for name, size in sizes.items()}


def test_the_mean_over_draws_is_the_distance_of_all_directions() -> None:
    """Two pictures that differ by a shift are at |shift|²/C; each draw of C directions is near it."""
    found = features(1, one=(4, 9, 8), two=(6, 5, 4))
    shift = {"one": torch.tensor([0.3, -0.2, 0.0, 0.7]), "two": torch.linspace(-1, 1, 6)}
    style = {name: each + shift[name].double().view(1, -1, 1, 1) for name, each in found.items()}
    term = SlicedWasserstein(weight=1.0, directions=None)
    target = term.target(Reading(style))
    losses = [float(term.loss(Reading(found, seed=seed), target)) for seed in range(400)]
    expected = sum(float(each.square().sum()) / len(each) for each in shift.values())
    assert np.mean(losses) == pytest.approx(expected, rel=0.03)
    assert len(set(losses)) == 400
    assert losses[7] == float(term.loss(Reading(found, seed=7), target))


def test_a_transcription_in_numpy() -> None:
    found, style = features(1, one=(5, 6, 7)), features(2, one=(5, 6, 7))
    term = SlicedWasserstein(weight=1.0, directions=3)
    seed = int(torch.randint(2**62, (), generator=Reading(found, seed=3).generator()))
    axes = torch.randn(5, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).numpy()
    axes /= np.linalg.norm(axes, axis=0)
    ours, theirs = (each["one"][0].flatten(1).numpy().T @ axes for each in (found, style))
    expected = np.mean((np.sort(ours, 0) - np.sort(theirs, 0)) ** 2)
    assert float(term.loss(Reading(found, seed=3), term.target(Reading(style)))) == pytest.approx(expected, rel=1e-12)


def test_only_the_region_counts() -> None:
    """What is outside the picture's region or the style's mask may be anything."""
    found, style = features(1, one=(3, 4, 6)), features(2, one=(3, 4, 6))
    half = torch.zeros(1, 1, 4, 6).double()
    half[..., :3] = 2
    term = SlicedWasserstein(weight=1.0, directions=None)
    mask = {"one": half}
    before = term.loss(Reading(found, mask, seed=1), term.target(Reading(style, mask)))
    found["one"][..., 3:] = 50
    style["one"][..., 3:] = -50
    after = term.loss(Reading(found, mask, seed=1), term.target(Reading(style, mask)))
    assert float(after) == float(before) > 0


def test_a_run_goes_on_bit_by_bit(inside: Command, small: list[str], tmp_path: Path) -> None:
    assert_goes_on(inside, tmp_path, *small, *DRAWN)


def test_regions_and_several_styles(nst: Command, small: list[str], tmp_path: Path) -> None:
    half = Image.new("L", (40, 32))
    half.paste(255, (0, 0, 20, 32))
    half.save(tmp_path / "half.png")
    words = [*small, *DRAWN, "style.region=half.png", "style/more=[second]", "evaluations=12"]
    more = [f"style.more.second.{small[0].removeprefix('content.')}", "schedule=single", "hydra.run.dir=run"]
    finished = nst(*words, *more)  # its own process, whose peak no other test has raised
    assert finished.returncode == 0, finished.stderr
    losses = [float(line.split(",")[3]) for line in (tmp_path / "run" / "losses.csv").read_text().splitlines()[1:]]
    assert losses[-1] < 0.8 * losses[0]
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["peak_memory_bytes"] < 1.3 * summary["predicted_memory_bytes"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["optimizer=lbfgs"], "sliced_wasserstein_drawn (objective/style) draws new samples at each evaluation"),
        (["optimizer=lbfgs_clamped"], "choose optimizer=adam"),
        (
            ["tile=16"],
            "tile=16: the style term sliced_wasserstein_drawn (objective/style) reads the picture as a whole",
        ),
        (["objective.style.sliced_wasserstein_drawn.directions=0"], "must be greater than 0"),
        (
            ["+weights.style_layers.relu1_1=2"],
            "weights.style_layers={relu1_1: 2}: objective.style compares all layers at once",
        ),
        (
            ["objective/content=self_similarity", "+weights.content_layers.relu4_2=0.5"],
            "weights.content_layers={relu4_2: 0.5}: objective.content compares all layers at once",
        ),
    ],
)
def test_mistakes(inside: Command, small: list[str], words: list[str], said: str) -> None:
    finished = inside(*small, *DRAWN, *words)
    assert finished.returncode == 2
    [line] = finished.stderr.splitlines()
    assert said in line
