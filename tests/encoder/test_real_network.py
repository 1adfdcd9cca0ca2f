"""The packaged VGG-19: every optimizer completes on every objective, and gradients of 16 bits are right."""

import itertools
import json
from itertools import product
from pathlib import Path

import pytest
import torch
from torch import Tensor

from nst.files import paths
from nst.files.run_folder import RunFolder
from nst.plan.planning import make_plan
from nst.run.build import Run, build, encoders
from tests.config.test_config import composed
from tests.conftest import NOWHERE, Command

OPTIMIZERS = sorted(path.stem for path in (paths.configs() / "optimizer").glob("*.yaml"))
OBJECTIVES = {
    "gram": [],
    "paper": ["objective=paper", "weights=paper", "layers=paper"],
    "relative": ["objective=relative", "weights=relative"],
    "wasserstein": ["objective=wasserstein"],
}
PAIRS = ["tubingen-starry_night", "ballerina-picasso"]


@pytest.fixture(autouse=True)
def kept_encoders(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of each precision is kept for the next test."""
    monkeypatch.setattr(encoders, "most", 3)


def check(inside: Command, folder: Path, words: list[str], *, size: int, evaluations: int) -> None:
    """The run completes, and its picture is better than its start."""
    urls = [f"{group}.url={NOWHERE}/none.jpg" for group in ("content", "style")]
    finished = inside(
        *words, *urls, f"size={size}", f"evaluations={evaluations}", "schedule=single", "encoder=vgg19_caffe",
        "logger=none", "callbacks.film=null", "trainer.accelerator=cpu", "metrics=null", f"hydra.run.dir={folder}",
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
    inside: Command, tmp_path: Path, optimizer: str, objective: str, precision: str, pair: str
) -> None:
    content, style = pair.split("-")
    files = [
        f"content.path={paths.bundled('content', content)}", f"style.path={paths.bundled('style', style)}",
    ]  # fmt: skip
    words = [*OBJECTIVES[objective], f"optimizer={optimizer}", f"precision={precision}", *files]
    check(inside, tmp_path / "run", words, size=192, evaluations=150)


EVERY = {
    **{name: OBJECTIVES.get(name, [f"objective={name}"]) for name in (
        "gram", "paper", "relative", "mean_std", "gram_mean_std", "covariance", "wasserstein", "sliced_wasserstein",
        "long_range",
    )},
}  # fmt: skip


def cosines(folder: Path, words: list[str], *, size: int, evaluations: int) -> list[list[float]]:
    """Of the gradient in bf16 and in 32 bits to that in 64, from noise: at the start, and after some evaluations."""
    urls = [f"{group}.url={NOWHERE}/none.jpg" for group in ("content", "style")]
    (folder / "run").mkdir()

    def made(precision: str) -> Run:
        given = [f"size={size}", f"evaluations={evaluations}", "schedule=single", "init=noise", "encoder=vgg19_caffe"]
        quiet = ["logger=none", "callbacks.film=null", "trainer.accelerator=cpu", f"precision={precision}"]
        plan = make_plan(composed(*words, *urls, *given, *quiet))
        return build(plan, RunFolder(folder / "run"), choices={}, shown=[], goes_on=False)

    def gradient(run: Run, picture: Tensor) -> Tensor:
        objective = run.module.make_objective(run.module.stage, torch.device("cpu"))
        image = picture.detach().clone().to(run.module.image.dtype).requires_grad_()
        objective(image).total.backward()
        assert image.grad is not None
        return image.grad.double().flatten()

    exact, wide, narrow = made("64"), made("32"), made("bf16")
    pictures = [wide.module.image.detach().clone()]
    narrow.trainer.fit(narrow.module, itertools.repeat(0))
    pictures.append(narrow.module.best_image.clone())
    truths = [gradient(exact, picture) for picture in pictures]
    return [
        [float(torch.cosine_similarity(gradient(run, picture), truth, dim=0)) for run in (narrow, wide)]
        for picture, truth in zip(pictures, truths, strict=True)
    ]


@pytest.mark.parametrize("objective", EVERY)
@pytest.mark.parametrize(("size", "evaluations"), [(64, 15), pytest.param(192, 150, marks=pytest.mark.soak)])
def test_gradients_of_16_bits_lead_where_exact_ones_do(
    tmp_path: Path, objective: str, size: int, evaluations: int
) -> None:
    (start, wide), (end, _) = cosines(tmp_path, EVERY[objective], size=size, evaluations=evaluations)
    assert start >= 0.99
    assert end >= 0.9
    assert wide >= 0.999


STARTS = ["content", "content_noise", "noise"]
STYLES = ["starry_night", "picasso", "scream"]


@pytest.mark.soak
@pytest.mark.parametrize(("optimizer", "init", "style"), list(product(OPTIMIZERS, STARTS, STYLES)))
def test_every_optimizer_completes_from_every_start(
    inside: Command, tmp_path: Path, optimizer: str, init: str, style: str
) -> None:
    words = [f"optimizer={optimizer}", f"init={init}", f"style.path={paths.bundled('style', style)}"]
    check(inside, tmp_path / "run", words, size=128, evaluations=100)
