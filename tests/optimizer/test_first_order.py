"""First-order optimizers on a Laplacian pyramid, and the mean of their iterates."""

import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import interpolate

from nst.optimizer import FirstOrder
from nst.optimizer.first_order import adjoint, shapes_of, synthesis
from nst.optimizer.state import keep_types
from tests.conftest import Command, assert_equal, assert_goes_on, image, server
from tests.optimizer.test_optimization import make_objective, run
from tests.run.test_run import summary


def coefficients(picture: Tensor, levels: int) -> list[Tensor]:
    """A Laplacian pyramid, the finest band first."""
    bands = []
    for _ in range(levels):
        small = interpolate(picture, size=[side // 2 for side in picture.shape[-2:]], mode="bilinear")
        bands.append(picture - interpolate(small, size=picture.shape[-2:], mode="bilinear"))
        picture = small
    return [*bands, picture]


@pytest.mark.parametrize("make", [partial(torch.optim.Adam, eps=1e-8), partial(torch.optim.RMSprop, momentum=0.5)])
def test_the_pictures_are_those_of_optimized_coefficients(make: Callable[..., Any]) -> None:
    """The pictures are within the range, so that nothing is clamped."""
    start, target = 0.3 + 0.4 * image(1, 21, 26).double(), 0.3 + 0.4 * image(2, 21, 26).double()
    bands = [band.requires_grad_() for band in coefficients(start, 3)]
    plain = make(bands, lr=0.004)
    picture = nn.Parameter(start.clone())
    ours = FirstOrder([picture], optimizer=make, lr=0.004, levels=3)

    def closure() -> Tensor:
        picture.grad = None
        loss = (picture - target).pow(4).sum()
        loss.backward()
        return loss

    torch.testing.assert_close(synthesis(bands), start, rtol=0, atol=1e-14)
    for _ in range(12):
        plain.zero_grad()
        (synthesis(bands) - target).pow(4).sum().backward()
        plain.step()
        ours.step(closure)
        torch.testing.assert_close(picture.data, synthesis(bands).detach(), rtol=0, atol=1e-13)
    assert 0 < float(picture.detach().min()) < float(picture.detach().max()) < 1


@pytest.mark.parametrize(("shape", "levels"), [((24, 20), 2), ((17, 33), 8), ((2, 1), 8), ((64, 64), 0)])
def test_the_adjoint_of_the_synthesis(shape: tuple[int, int], levels: int) -> None:
    """<S b, g> = <b, S* g> for every pyramid, also where a side is too small for its levels."""
    generator = torch.Generator().manual_seed(0)

    def random(shape: tuple[int, int]) -> Tensor:
        return torch.randn((1, 3, *shape), dtype=torch.float64, generator=generator)

    shapes = shapes_of(shape, levels)
    assert len(shapes) <= levels + 1
    assert min(shapes[-1]) >= 1
    bands, gradient = [random(each) for each in shapes], random(shape)
    products = [(band * found).sum() for band, found in zip(bands, adjoint(gradient, bands), strict=True)]
    torch.testing.assert_close(sum(products), (synthesis(bands) * gradient).sum())


@pytest.mark.parametrize("levels", [None, 2])
def test_the_mean_is_kept_and_its_losses_are_told(levels: int | None) -> None:
    factor, evaluations = 0.8, 9
    make = partial(torch.optim.Adam, eps=1e-8)
    averaged = partial(FirstOrder, optimizer=make, lr=0.05, levels=levels, averaging=factor)
    seen, module = run(averaged, evaluations)
    iterates, _ = run(partial(FirstOrder, optimizer=make, lr=0.05, levels=levels), evaluations)
    for one, other in zip(seen[:-1], iterates[:-1], strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    weights = [factor ** (evaluations - 1 - number) for number in range(evaluations)]
    mean = sum((weight * each for weight, each in zip(weights, iterates, strict=True)), torch.zeros(())) / sum(weights)
    torch.testing.assert_close(seen[-1], mean)
    torch.testing.assert_close(module.best_image, seen[-1], rtol=0, atol=0)
    objective, _ = make_objective()
    assert module.best.number == evaluations
    assert module.best.losses["total"] == pytest.approx(float(objective(mean).total), rel=1e-5)


@pytest.mark.parametrize("optimizer", ["rmsprop", "rmsprop_pyramid", "adam_pyramid"])
def test_a_run_goes_on_bit_by_bit(inside: Command, small: list[str], tmp_path: Path, optimizer: str) -> None:
    assert_goes_on(inside, tmp_path, *small, f"optimizer={optimizer}")


@pytest.mark.parametrize("name", ["NAdam", "RAdam", "Adamax", "Adagrad", "ASGD", "Rprop"])
def test_an_optimizer_of_torch_goes_on_bit_by_bit_in_any_precision(name: str) -> None:
    def stepped(steps: int, state: dict[str, Any] | None, pixels: Tensor) -> tuple[Tensor, dict[str, Any]]:
        param = nn.Parameter(pixels.clone())
        optimizer = keep_types(getattr(torch.optim, name)([param], lr=0.01))
        if state is not None:
            optimizer.load_state_dict(state)
        for _ in range(steps):
            param.grad = (param.detach() - 0.3) * param.detach()
            optimizer.step()
        return param.detach(), optimizer.state_dict()

    whole, _ = stepped(12, None, image(1))
    half, state = stepped(5, None, image(1))
    assert torch.equal(stepped(7, state, half)[0], whole)


def test_an_averaged_run_goes_on_bit_by_bit(inside: Command, small: list[str], tmp_path: Path) -> None:
    words = [*small, "optimizer=adam_averaged", "optimizer.levels=3", "size=48", "schedule.scales=2"]
    words += ["schedule.smallest=null", "evaluations=60", "callbacks.checkpoint.every_evaluations=7"]
    assert inside(*words, "hydra.run.dir=whole").returncode == 0
    process = server.start([*words, "hydra.run.dir=parts"], cwd=tmp_path)
    while not list(tmp_path.glob("parts/checkpoints/[0-9]*.ckpt")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    process.wait(120)
    assert summary(tmp_path / "parts")["status"] == "interrupted"
    assert inside("resume=parts").returncode == 0
    assert_equal(tmp_path / "whole", tmp_path / "parts")


def test_averaging_works_with_masks_and_several_styles(inside: Command, small: list[str], tmp_path: Path) -> None:
    Image.new("L", (40, 32), 255).save(tmp_path / "all.png")
    half = Image.new("L", (40, 32))
    half.paste(255, (0, 0, 20, 32))
    half.save(tmp_path / "half.png")
    words = [*small, "optimizer=adam_averaged", "style.region=half.png", "style/more=[second]"]
    more = [f"style.more.second.{small[0].removeprefix('content.')}", "color=yiq", "hydra.run.dir=run"]
    finished = inside(*words, *more)
    assert finished.returncode == 0, finished.stderr
    assert summary(tmp_path / "run")["best_evaluation"] == 6


def test_mistakes(inside: Command, small: list[str]) -> None:
    finished = inside(*small, "optimizer=adam_averaged", "schedule.patience=3")
    assert finished.returncode == 2
    assert finished.stderr.startswith("error: schedule.patience=3: with optimizer.averaging, a scale always uses all")
    finished = inside(*small, "optimizer=adam_averaged", "optimizer.averaging=1")
    assert finished.stderr == "error: optimizer.averaging=1: must be less than 1 or null\n"
    finished = inside(*small, "optimizer=rmsprop_pyramid", "optimizer.optimizer.alpa=1")
    assert "optimizer.optimizer.alpa=1: there is no key optimizer.optimizer.alpa" in finished.stderr
    finished = inside(*small, "optimizer=rmsprop_pyramid", "optimizer.optimizer.alpha=2")
    assert finished.returncode == 2
    assert "optimizer.optimizer.alpha" in finished.stderr
