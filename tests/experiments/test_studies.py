"""Each study runs by its one command, launches all the runs that it names, and has its page."""

import json
from pathlib import Path

import pytest
import torch
import yaml

from experiments.seams import __main__ as seams
from nst.files import paths
from tests.conftest import NOWHERE, Command

#: How many runs each study names; of `weights`, with one encoder.
STUDIES = {
    "seed_lbfgs": 10, "seed_adam": 8, "seed_style_layers": 5, "seed_style_weight": 5, "seed_vs_start": 4,
    "gatys_figure3": 20, "optimizers": 7, "pooling": 6, "objectives": 21, "control": 15,
    "gatys_figure1_content": 5, "gatys_figure1_style": 5, "weights": 6,
}  # fmt: skip
SEED = ["seed_lbfgs", "seed_style_layers", "seed_style_weight", "seed_vs_start"]


@pytest.fixture
def tiny() -> list[str]:
    """Overrides that leave a study's pictures by name, their bundled stand-ins, and hardly any work."""
    urls = [f"{group}.url={NOWHERE}/{group}.bin" for group in ("content", "style")]
    return [
        *urls, "encoder=slim", "encoder.weights=random", "size=32", "evaluations=2", "threads=1",
        "trainer.accelerator=cpu", "logger=none", "callbacks.film=null", "metrics=null", "hydra.sweep.dir=study",
    ]  # fmt: skip


def test_every_study_is_tested() -> None:
    sweeping = [
        path.stem
        for path in (paths.configs() / "experiment").glob("*.yaml")
        if "sweeper" in path.read_text(encoding="utf-8")
    ]
    assert sorted(sweeping) == sorted(STUDIES)


def test_a_seam_is_found_where_there_is_one() -> None:
    generator = torch.Generator().manual_seed(0)
    picture = torch.rand((1, 3, 640, 896), generator=generator) / 10
    picture[..., ::16, :] += 0.2  # a pattern of the poolings' period is no seam
    found = seams.borders((640, 896), 128)
    assert found == [[128, 256, 384, 512], [128, 256, 384, 512, 640, 768]]
    assert abs(seams.step_at(picture, found)[2]) < 3
    picture[..., 256:384, 128:256] += 0.1
    here, beside, z = seams.step_at(picture, found)
    assert here > beside
    assert z > 5


@pytest.mark.parametrize("study", STUDIES)
def test_a_study_runs_by_its_one_command(inside: Command, tiny: list[str], tmp_path: Path, study: str) -> None:
    finished = inside("-m", f"experiment={study}", *tiny)
    assert finished.returncode == 0, finished.stderr
    assert f"{STUDIES[study]} of {STUDIES[study]} runs are complete" in finished.stdout
    found = [json.loads(path.read_text()) for path in tmp_path.glob("study/*/summary.json")]
    assert [(run["status"], run["evaluations"]) for run in found] == [("completed", 2)] * STUDIES[study]
    if study in SEED:
        for path in tmp_path.glob("study/*/config.yaml"):
            cfg = yaml.safe_load(path.read_text())
            assert (cfg["optimizer"]["_target_"], cfg["precision"]) == ("nst.optimizer.LBFGS", 32)


@pytest.mark.parametrize("study", STUDIES)
def test_a_study_has_its_page(study: str) -> None:
    page = (paths.PACKAGE.parent / "experiments" / study / "README.md").read_text(encoding="utf-8")
    assert f"python -m nst.train -m experiment={study}" in page
    assert "**Question.**" in page
    assert "**Finding.**" in page


def test_a_study_without_m_is_an_error(inside: Command) -> None:
    finished = inside("experiment=pooling")
    assert finished.returncode == 2
    assert finished.stderr == "error: experiment=pooling: this study sweeps pooling, style; run it with -m\n"


def test_studies_are_not_swept_over(inside: Command, tiny: list[str], tmp_path: Path) -> None:
    finished = inside("-m", "experiment=preview,pooling", *tiny)
    assert finished.returncode == 2
    assert "experiment=pooling: this study is a sweep; give one sweep at a time" in finished.stderr
    assert not (tmp_path / "study").exists()
