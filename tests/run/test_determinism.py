"""The same configuration, seed and threads give the same picture bit by bit, wherever among others it is computed."""

from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

from tests.conftest import Command, assert_equal


@pytest.mark.parametrize("threads", [1, pytest.param(2, marks=pytest.mark.soak)])
def test_alone_or_anywhere_in_a_sweep(nst: Command, small: list[str], tmp_path: Path, threads: int) -> None:
    """From noise, through two scales, before and after runs of other sizes, optimizers and seeds."""
    words = [*small, "schedule.smallest=16", "evaluations=12", "init=noise", f"threads={threads}"]
    alone = nst(*words, "seed=3", "size=48", "optimizer=lbfgs", "hydra.run.dir=alone")
    assert alone.returncode == 0, alone.stderr
    orders = {"first": ["lbfgs,adam", "48,40", "3,1"], "last": ["adam,lbfgs", "40,48", "1,3"]}
    for name, (optimizers, sizes, seeds) in orders.items():
        values = [f"optimizer={optimizers}", f"size={sizes}", f"seed={seeds}"]
        finished = nst("-m", *words, *values, f"hydra.sweep.dir={name}")
        assert finished.returncode == 0, finished.stderr
    runs = {path.parent.name: OmegaConf.load(path) for path in tmp_path.glob("first/*-*/config.yaml")}
    assert len(runs) == 8
    for name in runs:
        assert_equal(tmp_path / "first" / name, tmp_path / "last" / name)
    [same] = [
        name
        for name, config in runs.items()
        if (config.seed, config.size, config.optimizer._target_) == (3, 48, "nst.optimizer.ProjectedLBFGS")
    ]
    assert_equal(tmp_path / "first" / same, tmp_path / "alone")


@pytest.mark.parametrize(
    "optimizer", ["lbfgs", "lbfgs_clamped", "lbfgs_line_search", "adam", "rmsprop", "adam_averaged"]
)
def test_a_common_factor_of_all_weights_does_not_matter(
    inside: Command, small: list[str], tmp_path: Path, optimizer: str
) -> None:
    """Powers of 2 change no digit, so the pictures are equal; tiny losses are no convergence."""
    for power in (0, -30, 30):
        factor = 2.0**power
        weights = [f"weights.content={factor!r}", f"weights.style={1e6 * factor!r}", f"weights.tv={3 * factor!r}"]
        finished = inside(
            *small, *weights, f"optimizer={optimizer}", "evaluations=12", "precision=32", f"hydra.run.dir=run{power}"
        )
        assert finished.returncode == 0, finished.stderr
    arrays = [np.asarray(Image.open(tmp_path / f"run{power}" / "result.png")) for power in (0, -30, 30)]
    assert all(np.array_equal(array, arrays[0]) for array in arrays)
    rows = [(tmp_path / f"run{power}" / "losses.csv").read_text().splitlines() for power in (0, -30, 30)]
    assert [len(each) for each in rows] == [13] * 3
