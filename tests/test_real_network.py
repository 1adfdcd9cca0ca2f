"""The packaged VGG-19: every optimizer completes on every objective, at either precision."""

import json
from itertools import product
from pathlib import Path

import pytest

from nst import paths

from .conftest import NOWHERE, Command

OPTIMIZERS = sorted(path.stem for path in (paths.configs() / "optimizer").glob("*.yaml"))
OBJECTIVES = {
    "seed": [],
    "paper": ["objective=paper", "weights=paper", "layers=paper"],
    "relative": ["objective=relative", "weights=relative"],
    "wasserstein": ["objective=wasserstein"],
}
PAIRS = [("tubingen", "starry_night"), ("ballerina", "picasso")]


def check(inside: Command, folder: Path, words: list[str], *, size: int, evaluations: int) -> None:
    """The run completes, and its picture is better than its start."""
    urls = [f"{group}.url={NOWHERE}/none.jpg" for group in ("content", "style")]
    finished = inside(
        *words, *urls, f"size={size}", f"evaluations={evaluations}", "schedule=single", "encoder=vgg19_caffe",
        "logger=none", "callbacks.film=null", "trainer.accelerator=cpu", f"hydra.run.dir={folder}",
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["status"] == "completed"
    assert summary["assets"]["weights"]["source"] == "package"
    lines = (folder / "losses.csv").read_text().splitlines()
    assert summary["losses"]["total"] < 0.9 * float(lines[1].split(",")[1])


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_each_objective_completes(inside: Command, tmp_path: Path, objective: str) -> None:
    check(inside, tmp_path / "run", OBJECTIVES[objective], size=48, evaluations=10)


@pytest.mark.soak
@pytest.mark.parametrize(
    ("optimizer", "objective", "precision", "pair"), list(product(OPTIMIZERS, OBJECTIVES, ("bf16", "32"), PAIRS))
)
def test_every_optimizer_completes_on_every_objective(
    inside: Command, tmp_path: Path, optimizer: str, objective: str, precision: str, pair: tuple[str, str]
) -> None:
    content, style = pair
    files = [
        f"content.path={paths.bundled('content', content)}", f"style.path={paths.bundled('style', style)}",
    ]  # fmt: skip
    words = [*OBJECTIVES[objective], f"optimizer={optimizer}", f"precision={precision}", *files]
    check(inside, tmp_path / "run", words, size=192, evaluations=150)
