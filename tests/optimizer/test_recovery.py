"""A run that goes astray is brought back to its best image, within one evaluation, and ends where that doesn't help."""

import itertools
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from nst.errors import DivergedError
from nst.objective import Losses
from nst.optimizer.module import StyleTransfer
from nst.optimizer.recovery import Recovery
from tests.conftest import NOWHERE, Command
from tests.optimizer.test_optimization import (
    OPTIMIZERS,
    RECOVERY,
    Counted,
    N,
    SaveAtEveryIteration,
    make_module,
    make_objective,
    make_trainer,
)

Fault = Callable[[Losses], Losses]


class Faulty(nn.Module):
    """An objective that goes wrong at certain evaluations of the module that it is for."""

    def __init__(self, objective: nn.Module, fault: Fault, when: Callable[[int], bool]) -> None:
        super().__init__()
        self.objective, self.fault, self.when = objective, fault, when
        self.done: Callable[[], int]

    def forward(self, image: Tensor, evaluation: int = 0) -> Losses:
        losses: Losses = self.objective(image)
        return self.fault(losses) if self.when(self.done() + 1) else losses


class NoGradient(torch.autograd.Function):
    """The loss as it is, and no number for its gradient."""

    @staticmethod
    def forward(ctx: object, loss: Tensor) -> Tensor:
        return loss.clone()

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return gradient * torch.nan


FAULTS: dict[str, Fault] = {
    "loss is no number": lambda losses: replace(losses, total=losses.total * torch.nan),
    "loss is infinite": lambda losses: replace(losses, total=losses.total * torch.inf),
    "gradient is no number": lambda losses: replace(losses, total=NoGradient.apply(losses.total)),  # type: ignore[no-untyped-call]
    "loss explodes": lambda losses: replace(losses, total=losses.total * 1e9),
}


def make_faulty(
    name: str, fault: str, when: Callable[[int], bool], recovery: Recovery = RECOVERY
) -> tuple[StyleTransfer, Counted]:
    objective, counted = make_objective()
    faulty = Faulty(objective, FAULTS[fault], when)
    module = make_module(faulty, OPTIMIZERS[name], recovery=recovery)
    faulty.done = lambda: module.evaluation.number
    return module, counted


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_fault_costs_one_evaluation_and_the_way_back(name: str, fault: str, caplog: pytest.LogCaptureFixture) -> None:
    at = 12
    module, counted = make_faulty(name, fault, lambda number: number == at)
    with caplog.at_level(logging.WARNING, logger="nst.optimizer.module"):
        make_trainer().fit(module, itertools.repeat(0))
    guards_itself = fault == "loss explodes" and name not in ("clamped lbfgs", "adam")  # it takes the step back
    assert len(counted.seen) == module.evaluation.number == N
    assert module.recoveries == (0 if guards_itself else 1)
    if guards_itself:
        return
    whole, seen = make_faulty(name, fault, lambda number: False)
    make_trainer().fit(whole, itertools.repeat(0))
    assert all(torch.equal(a, b) for a, b in zip(counted.seen[:at], seen.seen[:at], strict=True))
    with torch.no_grad():
        totals = [float(module.objective.objective(x).total) for x in counted.seen[:N]]
    best = min(range(at - 1), key=totals.__getitem__)
    assert torch.equal(counted.seen[at], counted.seen[best])  # the very next is the best again
    assert module.best.losses["total"] == pytest.approx(min(totals[: at - 1] + totals[at:]), rel=1e-12)
    assert module.best.losses["total"] < totals[best]  # and it goes on from there
    [record] = [each for each in caplog.records if each.name == "nst.optimizer.module"]
    assert f"at evaluation {at}. Returning to evaluation {best + 1}, the best so far, with 0.5 times" in record.message
    assert module.optimizers(use_pl_optimizer=False).param_groups[0]["lr"] == OPTIMIZERS[name].keywords.get("lr", 1) / 2  # type: ignore[attr-defined]


@pytest.mark.parametrize("fault", ["loss is no number", "gradient is no number"])
def test_what_can_not_be_recovered_ends_with_the_best_image(fault: str) -> None:
    module, counted = make_faulty("clamped lbfgs", fault, lambda number: number >= 10, replace(RECOVERY, at_most=3))
    with pytest.raises(DivergedError, match=r"is nan at evaluation 13, after 3 recoveries"):
        make_trainer().fit(module, itertools.repeat(0))
    assert module.best.number < 10
    assert torch.equal(module.best_image, counted.seen[module.best.number - 1])


def test_a_run_that_starts_with_no_number_has_nothing_to_go_back_to() -> None:
    module, _ = make_faulty("adam", "loss is no number", lambda number: True)
    with pytest.raises(DivergedError, match="the total loss is nan at evaluation 1, the first of its scale"):
        make_trainer().fit(module, itertools.repeat(0))
    assert (module.best.number, module.recoveries) == (0, 0)


def test_any_loss_is_allowed_where_none_is_an_explosion() -> None:
    module, _ = make_faulty("adam", "loss explodes", lambda number: number == 12, replace(RECOVERY, explosion=None))
    make_trainer().fit(module, itertools.repeat(0))
    assert (module.recoveries, module.evaluation.number) == (0, N)


@pytest.mark.parametrize("name", ["lbfgs", "adam"])
def test_a_run_resumed_after_a_recovery_equals_the_uninterrupted_one(name: str, tmp_path: Path) -> None:
    whole, counted = make_faulty(name, "loss is no number", lambda number: number in (12, 20))
    make_trainer(callbacks=[SaveAtEveryIteration(tmp_path)]).fit(whole, itertools.repeat(0))
    for done in (11, 12, 13, 19, 25):
        module, again = make_faulty(name, "loss is no number", lambda number: number in (12, 20))
        make_trainer().fit(module, itertools.repeat(0), ckpt_path=tmp_path / f"{done}.ckpt")
        assert all(torch.equal(a, b) for a, b in zip(counted.seen[done:], again.seen, strict=True))
        assert (module.recoveries, module.best) == (2, whole.best)


def test_explosions_beyond_the_last_recovery_are_let_be() -> None:
    """A run that would come back by itself isn't ended; its best image is kept all the same."""
    module, counted = make_faulty(
        "clamped lbfgs", "loss explodes", lambda number: number >= 10, replace(RECOVERY, at_most=3)
    )
    make_trainer().fit(module, itertools.repeat(0))
    assert (module.recoveries, module.evaluation.number) == (3, N)
    assert module.best.number < 10
    assert torch.equal(module.best_image, counted.seen[module.best.number - 1])


def not_after(features: Tensor, target: Tensor, *, evaluations: int) -> Tensor:
    """The mean squared difference, which is no number after so many evaluations."""
    CALLS.append(None)
    return (features - target).square().mean() * (1 if len(CALLS) <= evaluations else torch.nan)


CALLS: list[None] = []


def test_the_summary_counts_recoveries_and_a_diverged_run_keeps_its_picture(
    inside: Command, small: list[str], tmp_path: Path
) -> None:
    CALLS.clear()
    content = ["objective.content._target_=tests.optimizer.test_recovery.not_after", "+objective.content.evaluations=4"]
    strict = ["optimizer=adam", "schedule=single", "tile=off", "evaluations=60", *content]
    finished = inside(*small, *strict, "recovery.at_most=2", "hydra.run.dir=run")
    assert finished.returncode == 1
    assert "error: the run diverged: the total loss is nan" in finished.stderr
    assert "after 2 recoveries. Try a smaller optimizer.lr or weights.style" in finished.stderr
    assert "Traceback" not in finished.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["status"], summary["recoveries"]) == ("diverged", 2)
    assert (tmp_path / "run" / "result.png").is_file()
    lines = (tmp_path / "run" / "losses.csv").read_text().splitlines()
    assert len(lines) == 1 + summary["evaluations"]


def test_recoveries_are_counted_where_the_loss_comes_back(inside: Command, small: list[str], tmp_path: Path) -> None:
    """A rate that explodes again and again: the run uses its recoveries, goes on, and keeps its best picture."""
    strict = ["optimizer=adam", "optimizer.lr=0.5", "evaluations=60", "init=content", "recovery.explosion=1.01"]
    assert inside(*small, *strict, "recovery.at_most=2", "hydra.run.dir=run").returncode == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["status"], summary["recoveries"], summary["evaluations"]) == ("completed", 2, 60)


def test_the_baselines_recipe_completes_at_caffes_own_scale(inside: Command, tmp_path: Path) -> None:
    """Its first pairs have negative curvature: a step as long as the gradient would go 600 times too far."""
    recipe = ["encoder=vgg19_caffe", "encoder.calibrate=false", "weights.style=300", "optimizer=lbfgs_clamped"]
    small = ["size=96", "schedule=single", "precision=32", "evaluations=30", "logger=none", "callbacks.film=null"]
    urls = [f"{group}.url={NOWHERE}/none.jpg" for group in ("content", "style")]
    finished = inside(*recipe, *small, *urls, "trainer.accelerator=cpu", "metrics=null", "hydra.run.dir=run")
    assert finished.returncode == 0, finished.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["status"], summary["recoveries"]) == ("completed", 0)
    totals = [float(line.split(",")[1]) for line in (tmp_path / "run" / "losses.csv").read_text().splitlines()[1:]]
    assert min(totals) < 0.5 * totals[0]
