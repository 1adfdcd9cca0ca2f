"""Runs on Apple's GPUs, on a fake of one that refuses what they lack (``helpers/fake_mps.py``)."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nst.encoder.device import TABLE, abilities, able, exact

from .conftest import Command
from .helpers.fake_mps import MPS, OnMPS, fake_mps


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


@pytest.mark.parametrize(
    "words",
    [
        ["objective=wasserstein", "precision=32"],
        ["objective=nnst", "optimizer=adam", "style.region=REGION", "precision=32"],
        ["objective=sliced_wasserstein", "style.region=REGION", "precision=bf16"],
    ],
    ids=lambda words: words[0],
)
def test_a_run_on_mps_has_the_losses_of_one_on_the_cpu(
    words: list[str], inside: Command, small: list[str], region: Path, tmp_path: Path
) -> None:
    line = [*small, *(word.replace("REGION", str(region)) for word in words), "logger=none", "evaluations=3"]
    assert inside(*line, "hydra.run.dir=cpu").returncode == 0
    with fake_mps():
        found = inside(*line, "trainer.accelerator=mps", "hydra.run.dir=mps")
    assert found.returncode == 0, found.stderr
    losses = [
        [
            float(row["total"])
            for row in csv.DictReader((tmp_path / name / "losses.csv").read_text("utf-8").splitlines())
        ]
        for name in ("cpu", "mps")
    ]
    assert len(losses[1]) == 3
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)


def test_a_run_on_mps_goes_on(inside: Command, small: list[str]) -> None:
    with fake_mps():
        assert inside(*small, "trainer.accelerator=mps", "evaluations=3", "hydra.run.dir=run").returncode == 0
        found = inside("resume=run", "evaluations=6")
    assert found.returncode == 0, found.stderr


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("precision=64", "precision=64: runs on MPS don't have it; choices: auto, bf16, 32"),
        ("precision=16", "precision=16: runs on MPS don't have it; choices: auto, bf16, 32"),
        ("trainer.devices=2", "trainer.devices=2: there is one MPS device; choices: 1, or trainer.accelerator=cpu"),
    ],
)
def test_what_mps_lacks_is_refused(word: str, why: str, inside: Command, small: list[str]) -> None:
    with fake_mps():
        found = inside(*small, "trainer.accelerator=mps", word)
    assert found.returncode == 2
    assert found.stderr == f"error: {why}\n"
