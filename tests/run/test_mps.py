"""Runs on Apple's GPUs, on a fake of one that refuses what they lack (``helpers/fake_mps.py``)."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nst.encoder.precision import TABLE, abilities, able, exact
from tests.conftest import Command
from tests.helpers.fake_mps import MPS, OnMPS, fake_mps


def test_the_table_has_every_accelerator() -> None:
    assert set(TABLE) == {"cpu", "cuda", "mps"}
    assert abilities(torch.device("xpu")) == TABLE["cpu"]
    for known in TABLE.values():
        assert 32 in known.precisions
        assert (64 in known.precisions) == (known.widest == torch.float64)


def test_the_fake_refuses_what_mps_lacks() -> None:
    with fake_mps():
        x = torch.rand(5, 5).to(MPS)
        for refused in (
            lambda: x.double(),
            lambda: torch.zeros(3, dtype=torch.float64, device=x.device),
            lambda: torch.linalg.eigh(x),
            lambda: torch.nn.functional.interpolate(x[None, None], size=(2, 3), mode="area"),
            lambda: torch.mm(x.bfloat16(), x.bfloat16(), out_dtype=torch.float32),
            lambda: x + torch.rand(5),
            lambda: x.numpy(),
        ):
            with pytest.raises((TypeError, NotImplementedError, RuntimeError)):
                refused()


def test_what_a_device_lacks_is_computed_on_the_cpu() -> None:
    with fake_mps():
        x = torch.rand(5, 5).to(MPS)
        assert able(x) is x
        assert able(x, "factors").device.type == "cpu"
        assert exact(x).dtype == torch.float64
        assert exact(x).tolist() == x.tolist()
        assert isinstance(able(x), OnMPS)


@pytest.fixture
def region(tmp_path: Path) -> Path:
    """A mask of the content's shape, white above."""
    mask = np.zeros((32, 40), np.uint8)
    mask[:19] = 255
    Image.fromarray(mask).save(tmp_path / "region.png")
    return tmp_path / "region.png"


@pytest.mark.parametrize("precision", [32, "bf16"])
def test_a_run_on_mps_goes_on_and_has_the_losses_of_one_on_the_cpu(
    precision: object, inside: Command, small: list[str], region: Path, tmp_path: Path
) -> None:
    terms = "[gram,wasserstein,sliced_wasserstein,shifted_gram,nearest_neighbors]"
    line = [*small, f"objective/style={terms}", f"style.region={region}", "optimizer=adam", "schedule=single"]
    line += [f"precision={precision}", "logger=none"]
    assert inside(*line, "hydra.run.dir=cpu").returncode == 0
    with fake_mps():
        begun = inside(*line, "trainer.accelerator=mps", "evaluations=3", "hydra.run.dir=mps")
        assert begun.returncode == 0, begun.stderr
        ended = inside("resume=mps", "evaluations=6")
    assert ended.returncode == 0, ended.stderr
    losses = [
        [
            float(row["total"])
            for row in csv.DictReader((tmp_path / name / "losses.csv").read_text("utf-8").splitlines())
        ]
        for name in ("cpu", "mps")
    ]
    assert len(losses[1]) == 6
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("precision=64", "precision=64: runs on MPS don't support it; choices: auto, bf16, 32"),
        ("precision=16", "precision=16: runs on MPS don't support it; choices: auto, bf16, 32"),
        (
            "trainer.devices=2",
            "trainer.devices=2: there is only one MPS device; choices: 1, or trainer.accelerator=cpu",
        ),
    ],
)
def test_what_mps_lacks_is_refused(word: str, why: str, inside: Command, small: list[str]) -> None:
    with fake_mps():
        found = inside(*small, "trainer.accelerator=mps", word)
    assert found.returncode == 2
    assert found.stderr == f"error: {why}\n"
