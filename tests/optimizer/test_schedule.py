"""Schedules: sizes, budgets, how a picture gets from one scale to the next, and that it goes on bit by bit at each."""

import functools
import itertools
import os
import random
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from nst import image as images
from nst.errors import UserError
from nst.files import paths
from nst.image import film
from nst.objective import Losses
from nst.optimizer import schedule, start
from nst.optimizer.module import StyleTransfer
from nst.optimizer.schedule import Schedule, Stage
from tests.conftest import Command, image
from tests.image.test_film import decoded
from tests.optimizer.test_optimization import OPTIMIZERS, RECOVERY, SaveAtEveryIteration, make_trainer
from tests.run.test_run import begin, rows, summary

DEFAULTS: dict[str, Any] = {
    "scales": 3, "smallest": None, "ratio": 2.0, "sizes": None, "shares": "doubling", "factors": {},
    "carry": "upsample", "patience": None, "min_improvement": 0.0,
}  # fmt: skip


def pyramid(shape: tuple[int, int], evaluations: int, **options: Any) -> Schedule:
    return schedule.pyramid(shape, evaluations, **{**DEFAULTS, **options})


def test_sizes_are_those_that_fit_gives() -> None:
    made = pyramid((289, 385), 100, scales=4)
    assert [stage.shape for stage in made.stages] == [(36, 48), (72, 96), (144, 192), (289, 385)]
    root = pyramid((288, 384), 100, scales=None, smallest=144, ratio=2**0.5)
    assert [max(stage.shape) for stage in root.stages] == [192, 272, 384]
    given = pyramid((384, 288), 100, sizes=[100, 301])
    assert [stage.shape for stage in given.stages] == [(100, 75), (301, 226), (384, 288)]
    assert [stage.shape for stage in pyramid((8, 8), 100, scales=1).stages] == [(8, 8)]


def test_the_smallest_scale_is_known_by_its_shortest_side() -> None:
    def shapes(shape: tuple[int, int], smallest: int) -> list[tuple[int, int]]:
        return [stage.shape for stage in pyramid(shape, 9, scales=None, smallest=smallest).stages]

    assert shapes((100, 800), 25) == [(25, 200), (50, 400), (100, 800)]
    assert shapes((98, 800), 50) == [(98, 800)]
    assert shapes((32, 32), 64) == [(32, 32)]


def test_too_few_evaluations_leave_out_the_smallest_scales() -> None:
    for evaluations, sizes in {1: [64], 2: [32, 64], 3: [32, 64], 4: [16, 32, 64], 100: [16, 32, 64]}.items():
        assert [max(stage.shape) for stage in pyramid((64, 48), evaluations).stages] == sizes


def test_budgets() -> None:
    def lengths(made: Schedule) -> list[int]:
        return [end - start for start, end in itertools.pairwise([0, *(stage.end for stage in made.stages)])]

    assert lengths(pyramid((64, 64), 700)) == [100, 200, 400]
    assert lengths(pyramid((64, 64), 400, scales=1)) == [400]
    assert lengths(pyramid((64, 64), 300, scales=2)) == [100, 200]
    assert lengths(pyramid((64, 64), 400, shares=None)) == [100, 100, 200]
    for shares in ([1, 1, 2], [0.25, 0.25, 0.5], [100, 100, 200]):
        assert lengths(pyramid((64, 64), 120, shares=shares)) == [30, 30, 60]


def test_whatever_is_asked_for_the_budget_is_kept() -> None:
    """Of many random schedules: the last stage ends with the budget, and none before the one before it."""
    draw = random.Random(0)
    for _ in range(2000):
        shape, evaluations = (draw.randint(40, 999), draw.randint(40, 999)), draw.randint(1, 700)
        scales = draw.randint(1, 6)
        shares = draw.choice(["doubling", [draw.uniform(0.01, 9) for _ in range(scales)]])
        try:
            made = pyramid(shape, evaluations, scales=scales, ratio=draw.uniform(1.2, 2), shares=shares)
        except UserError as error:
            assert "without an evaluation" in str(error)  # noqa: PT017
            assert shares != "doubling"
            continue
        ends = [stage.end for stage in made.stages]
        assert ends == sorted(set(ends))
        assert ends[0] >= 1
        assert (ends[-1], made.evaluations) == (evaluations, evaluations)
        if shares == "doubling" and len(ends) < scales:  # no more of them have an evaluation each
            more = [2.0**number for number in range(len(ends) + 1)]
            with pytest.raises(UserError, match="without an evaluation"):
                pyramid(shape, evaluations, scales=len(ends) + 1, ratio=2, shares=more)
        else:
            assert len(ends) == scales
        assert made.stages[-1].shape == shape
        for stage in made.stages:
            assert stage.shape == images.fit(*shape, max(stage.shape))


def test_factors_belong_to_their_scales() -> None:
    made = pyramid((64, 64), 30, factors={"content": [0, 1, 2], "style": None, "tv": [3, 3, 4]})
    assert [(s.content, s.style, s.tv) for s in made.stages] == [(0, 1, 3), (1, 1, 3), (2, 1, 4)]


@pytest.mark.parametrize("shapes", [((12, 10), (24, 20)), ((13, 11), (24, 21)), ((17, 9), (24, 13))])
def test_the_content_carried_up_with_its_detail_is_the_content(shapes: Sequence[tuple[int, int]]) -> None:
    content = image(1, *shapes[1])
    carried = schedule.content_detail(images.resize(content, shapes[0]), content)
    assert torch.allclose(carried, content, atol=1e-12, rtol=0)
    upsampled = schedule.upsample(images.resize(content, shapes[0]), content)
    assert upsampled.shape == content.shape
    assert not torch.allclose(upsampled, content, atol=0.1)
    other = schedule.content_detail(image(2, *shapes[0]), content)
    assert other.min() >= 0
    assert other.max() <= 1


@pytest.mark.parametrize("shape", [(24, 20), (25, 21), (1, 9)])
def test_half_of_the_content_with_its_finest_detail_is_the_content(
    shape: tuple[int, int],
) -> None:
    content = image(1, *shape)
    half = functional.interpolate(content, size=[max(1, side // 2) for side in shape], mode="bilinear")
    assert torch.allclose(schedule.finest_detail(half, content), content, atol=1e-12, rtol=0)
    mean = start.style_mean(content, image(2, 8, 8), torch.Generator())
    mixed = (image(2, 8, 8).mean((2, 3), keepdim=True) + images.detail(content)).clamp(0, 1)
    assert torch.equal(mean, mixed)


class Squares(nn.Module):
    """The distance to a target in odd units, so that it takes a while; keeps every image that went in."""

    def __init__(self, stage: Stage, seen: list[Tensor]) -> None:
        super().__init__()
        self.register_buffer("target", images.resize(image(1), stage.shape))
        self.register_buffer("units", 0.1 + images.resize(image(2), stage.shape))
        self.seen = seen

    def forward(self, x: Tensor, evaluation: int = 0) -> Losses:
        self.seen.append(x.detach().clone())
        total = (self.units * (x - self.target).square()).square().sum()
        return Losses(total=total, content=total, style=total, tv=total, parts={})


def make_module(
    optimizer: Callable[..., Any], made: Schedule, *, start: int = 3
) -> tuple[StyleTransfer, list[Tensor], list[Stage]]:
    """The module, every image that it evaluates, and the stages whose objective it asks for."""
    seen: list[Tensor] = []
    asked: list[Stage] = []

    def objective(stage: Stage, device: torch.device, start: torch.Tensor | None) -> nn.Module:
        asked.append(stage)
        return Squares(stage, seen)

    module = StyleTransfer(
        image=images.resize(image(start), made.stages[0].shape),
        schedule=made,
        objective=objective,
        carry=lambda picture, shape: schedule.content_detail(picture, images.resize(image(5), shape)),
        finish=lambda picture: picture,
        optimizer=optimizer,
        recovery=RECOVERY,
    )
    return module, seen, asked


SHARES = [7, 13, 11]


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("evaluations", [3, 5, 17, 31])
def test_stages_follow_each_other_and_keep_their_budgets(name: str, evaluations: int) -> None:
    made = pyramid((24, 20), evaluations, shares=SHARES if evaluations > 4 else [1, 1, 1])
    module, seen, asked = make_module(OPTIMIZERS[name], made)
    make_trainer().fit(module, itertools.repeat(0))
    assert [tuple(x.shape[-2:]) for x in seen] == [
        stage.shape
        for begin, stage in zip([0, *(stage.end for stage in made.stages)], made.stages, strict=False)
        for _ in range(stage.end - begin)
    ]
    assert asked == made.stages, "each stage's objective is made once, when its time comes"
    totals = [Squares(made.stages[-1], [])(x).total.item() for x in seen[made.stages[1].end :]]
    assert module.best.losses["total"] == min(totals), "the best of the last stage, not of them all"
    assert torch.equal(module.best_image, seen[made.stages[1].end + totals.index(min(totals))])


def test_a_stage_starts_from_the_best_of_the_one_before() -> None:
    made = pyramid((24, 20), 24, scales=2, shares=[1, 1])
    module, seen, _ = make_module(functools.partial(torch.optim.Adam, lr=0.9), made, start=1)
    make_trainer().fit(module, itertools.repeat(0))
    totals = [Squares(made.stages[0], [])(x).total.item() for x in seen[:12]]
    best = totals.index(min(totals))
    assert best < 11, "the last is the best, so nothing was shown"
    assert torch.equal(seen[12], schedule.content_detail(seen[best], images.resize(image(5), (24, 20))))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_run_resumed_in_any_stage_equals_the_uninterrupted_one(name: str, tmp_path: Path) -> None:
    made = pyramid((24, 20), 31, shares=SHARES, patience=9, min_improvement=0.01)
    whole, seen, _ = make_module(OPTIMIZERS[name], made)
    make_trainer(callbacks=[SaveAtEveryIteration(tmp_path)]).fit(whole, itertools.repeat(0))
    saved = sorted(tmp_path.glob("*.ckpt"), key=lambda path: int(path.stem))
    positions = [2 - torch.load(path, weights_only=True)["stage"]["ahead"] for path in saved]
    assert set(positions) == {0, 1, 2}
    for path, position in zip(saved, positions, strict=True):
        module, again, asked = make_module(OPTIMIZERS[name], made, start=4)
        make_trainer().fit(module, itertools.repeat(0), ckpt_path=path)
        assert asked[0] == made.stages[position]
        assert len(again) == len(seen) - int(path.stem)
        assert all(torch.equal(a, b) for a, b in zip(seen[int(path.stem) :], again, strict=True))
        assert torch.equal(module.best_image, whole.best_image)
        assert module.best == whole.best


class SaveAtTheTop(pl.Callback):
    """Saves a checkpoint as the signal would that comes while the next stage is made ready, and ends the run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_batch_start(self, trainer: pl.Trainer, module: Any, *_: Any) -> None:
        if module.position == 1 and module.evaluation.number == module.begun:
            trainer.save_checkpoint(self.path)
            self.best, self.shape = module.best, module.best_image.shape
            trainer.should_stop = True


def test_a_run_stopped_between_two_stages_has_the_picture_of_the_first_and_goes_on(tmp_path: Path) -> None:
    made = pyramid((24, 20), 31, shares=SHARES)
    whole, seen, _ = make_module(OPTIMIZERS["lbfgs"], made)
    saver = SaveAtTheTop(tmp_path / "top.ckpt")
    make_trainer().fit(whole, itertools.repeat(0))
    make_trainer(callbacks=[saver]).fit(make_module(OPTIMIZERS["lbfgs"], made)[0], itertools.repeat(0))
    assert saver.shape[-2:] == made.stages[0].shape
    assert 1 <= saver.best.number <= made.stages[0].end
    module, again, _ = make_module(OPTIMIZERS["lbfgs"], made, start=4)
    make_trainer().fit(module, itertools.repeat(0), ckpt_path=saver.path)
    assert all(torch.equal(a, b) for a, b in zip(seen[made.stages[0].end :], again, strict=True))


def test_a_plateau_ends_a_stage_and_leaves_the_rest_to_the_next(caplog: pytest.LogCaptureFixture) -> None:
    made = pyramid((24, 20), 300, scales=2, patience=5, min_improvement=0.5)
    module, seen, _ = make_module(functools.partial(torch.optim.Adam, lr=1e-5), made)
    with caplog.at_level("INFO"):
        make_trainer().fit(module, itertools.repeat(0))
    # The first evaluation of a stage is an improvement, and none of the five after it.
    assert [tuple(x.shape[-2:]) for x in seen] == [(12, 10)] * 6 + [(24, 20)] * 6
    assert module.finished
    assert "after 6 evaluations: the total fell by less than 50% in 5 evaluations" in caplog.text
    patient = pyramid((24, 20), 30, scales=2, patience=5, min_improvement=1e-9)
    module, seen, _ = make_module(functools.partial(torch.optim.Adam, lr=1e-4), patient)
    make_trainer().fit(module, itertools.repeat(0))
    assert len(seen) == 30, "it always improved a little"


def test_convergence_ends_a_stage_not_the_run() -> None:
    module, seen, _ = make_module(
        functools.partial(OPTIMIZERS["lbfgs"], tolerance_grad=1e9), pyramid((24, 20), 30, scales=2)
    )
    make_trainer().fit(module, itertools.repeat(0))
    assert [tuple(x.shape[-2:]) for x in seen] == [(12, 10), (24, 20)]


class Interrupt(pl.Callback):
    """Sends the run SIGTERM after so many evaluations."""

    def __init__(self, at: int) -> None:
        self.at = at

    def on_after_backward(self, trainer: pl.Trainer, module: Any) -> None:
        if module.evaluation.number == self.at:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture
def scales(small: list[str]) -> list[str]:
    """Overrides for a small run at 32×26 and 64×51 px, 5 evaluations each."""
    return [*small, "schedule.smallest=16", "schedule.scales=2", "schedule.shares=[1,1]", "size=64", "evaluations=10"]


def test_a_run_through_scales_leaves_one_picture_and_one_film(
    inside: Command, scales: list[str], tmp_path: Path
) -> None:
    finished = inside(
        *scales, "callbacks.snapshot.every_evaluations=4", "callbacks.film.hold=0", "weights.tv=1e4",
        "schedule.factors.tv=[0,1]", "hydra.run.dir=run",
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    assert "Continuing with scale 2 of 2, 64 x 51 px, after 5 evaluations: scale 1 is complete." in finished.stderr
    folder = tmp_path / "run"
    result = summary(folder)
    assert (result["status"], result["width"], result["height"], result["evaluations"]) == ("completed", 64, 51, 10)
    assert Image.open(folder / "result.png").size == (64, 51)
    assert [Image.open(path).size for path in sorted(folder.glob("snapshots/*"))] == [(32, 26), (64, 51)]
    assert [row["evaluation"] for row in rows(folder)] == [str(n) for n in range(1, 11)]
    assert [row["size"] for row in rows(folder)] == ["32"] * 5 + ["64"] * 5
    parts = [sum(float(v) for k, v in row.items() if k.startswith("share/")) for row in rows(folder)]
    assert parts[:5] == pytest.approx([1] * 5), "the factor takes the total variation out of the first total"
    assert max(parts[5:]) < 0.999
    frames = decoded(folder / "progress.mp4")
    assert {frame.shape for frame in frames} == {(50, 64, 3)}
    assert np.abs(frames[-1].mean(2) - np.asarray(Image.open(folder / "result.png"))[:50].mean(2)).mean() < 6


@pytest.mark.parametrize("at", [3, 5, 8])
def test_a_run_stopped_at_any_scale_keeps_its_picture_and_goes_on_bit_by_bit(
    inside: Command, scales: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(paths.PACKAGE.parent))
    assert inside(*scales, "hydra.run.dir=whole").returncode == 0
    stop = f"+callbacks.interrupt={{_target_: tests.optimizer.test_schedule.Interrupt, at: {at}}}"
    stopped = inside(*scales, stop, "hydra.run.dir=parts")
    assert stopped.returncode == 143
    assert ("The picture has 32 x 26 of 64 x 51 px." in stopped.stderr) == (at <= 5)
    parts, whole = tmp_path / "parts", tmp_path / "whole"
    result = summary(parts)
    size = (32, 26) if at <= 5 else (64, 51)
    assert (result["status"], result["evaluations"], result["width"], result["height"]) == ("interrupted", at, *size)
    assert Image.open(parts / "result.png").size == size
    if at <= 5:
        refused = inside("resume=parts", "evaluations=3")
        assert refused.returncode == 2
        assert refused.stderr == (
            f"error: evaluations=3: the run has made {at} evaluations, and its picture is still 32 x 26 px; "
            "choose more\n"
        )
        assert summary(parts) == result
    finished = inside("resume=parts")
    assert finished.returncode == 0, finished.stderr
    assert (parts / "result.png").read_bytes() == (whole / "result.png").read_bytes()
    assert (parts / "losses.csv").read_bytes() == (whole / "losses.csv").read_bytes()


def test_a_run_goes_on_with_another_number_from_the_scale_that_it_is_at(
    inside: Command, scales: list[str], tmp_path: Path
) -> None:
    process = begin(scales, tmp_path, checkpoints=1)
    process.terminate()
    process.communicate(timeout=120)
    done = int(str(summary(tmp_path / "run")["evaluations"]))
    finished = inside("resume=run", f"evaluations={done + 4}")
    assert finished.returncode == 0, finished.stderr
    sizes = [row["size"] for row in rows(tmp_path / "run")]
    assert sizes == ["32"] * done + ["64"] * 4
    assert summary(tmp_path / "run")["width"] == 64


def test_more_evaluations_may_bring_scales_before_the_one_that_a_run_is_at(
    inside: Command, small: list[str], tmp_path: Path
) -> None:
    scales = [*small, "schedule.smallest=16", "size=64", "hydra.run.dir=run"]
    assert inside(*scales, "evaluations=1").returncode == 0
    finished = inside("resume=run", "evaluations=9")
    assert finished.returncode == 0, finished.stderr
    assert [row["size"] for row in rows(tmp_path / "run")] == ["64"] * 9


def test_so_few_evaluations_that_the_scale_of_a_run_would_be_left_out_are_refused(
    inside: Command, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(paths.PACKAGE.parent))
    stop = "+callbacks.interrupt={_target_: tests.optimizer.test_schedule.Interrupt, at: 1}"
    scales = [*small, "schedule.smallest=16", "size=64", "evaluations=9"]
    assert inside(*scales, stop, "hydra.run.dir=run").returncode == 143
    assert inside("resume=run", "evaluations=2").returncode == 0
    assert inside(*scales, stop, "schedule.smallest=8", "layers.style=[relu1_1]", "layers.content=[relu1_1]",
               "hydra.run.dir=other").returncode == 143  # fmt: skip
    refused = inside("resume=other", "evaluations=2")
    assert refused.returncode == 2
    assert "the run has made 1 evaluation, and its picture is still 16 x 13 px; choose more" in refused.stderr


def test_a_run_that_no_longer_improves_is_complete(inside: Command, small: list[str], tmp_path: Path) -> None:
    """``schedule=single``, too."""
    options = [
        "schedule=single",
        "evaluations=500",
        "schedule.patience=3",
        "schedule.min_improvement=0.9",
        "callbacks.film.hold=0",
    ]
    finished = inside(*small, *options, "hydra.run.dir=run")
    assert finished.returncode == 0, finished.stderr
    done = int(str(summary(tmp_path / "run")["evaluations"]))
    assert done < 100
    assert summary(tmp_path / "run")["status"] == "completed"
    assert (
        f"INFO: The run was complete after {done} of 500 evaluations: the total fell by less than 90%"
        in finished.stderr
    )
    shown = {number for number in film.schedule(500, 60) if number < done} | {done}
    assert len(decoded(tmp_path / "run" / "progress.mp4")) == len(shown), "the film ends with the result"
    again = inside("resume=run")
    assert again.returncode == 0, again.stderr
    assert summary(tmp_path / "run")["evaluations"] == done
