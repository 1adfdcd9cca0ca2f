"""A run through Lightning is the plain loop, evaluation by evaluation, and never computes more than it may."""

import itertools
import math
import mmap
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from nst.callbacks.checkpoint_io import WholeCheckpointIO
from nst.encoder import weights as encoder
from nst.encoder.vgg import VGG
from nst.errors import DivergedError
from nst.image.picture import resize
from nst.objective import Formulas, Objective, Style, Term, Weights, content_targets, functional, style_targets
from nst.optimizer import LBFGS, ProjectedLBFGS, compact, lbfgs
from nst.optimizer.history import Loops
from nst.optimizer.module import StyleTransfer
from nst.optimizer.recovery import Recovery
from nst.optimizer.schedule import single
from tests.conftest import image

N = 40
RECOVERY = Recovery(at_most=5, explosion=100, shrink=0.5)


class Counted(VGG):
    """An encoder that keeps every image that goes in."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        self.seen.append(x.detach().clone())
        return super().forward(x)


def make_objective(style_weight: float = 3e2) -> tuple[Objective, Counted]:
    layers = ["relu1_1", "relu2_1"]
    state = encoder.random_state("slim", 0)
    counted = Counted(
        architecture="slim", layers=layers, pooling=lambda: nn.AvgPool2d(2, 2), state=state, dtype=torch.float64
    )
    gram = Term(statistic=functional.gram_per_element, distance=functional.mean_squared_difference, weight=1)
    formulas = Formulas(
        content=functional.mean_squared_difference,
        style={"gram": gram},
        style_layers_averaged=False,
        relative=False,
        tv=functional.total_variation,
        laplacian=partial(functional.laplacian_difference, pool=4),
    )
    objective = Objective(
        encoder=counted,
        formulas=formulas,
        weights=Weights(content=1, style=style_weight, tv=0),
        content=content_targets(counted, image(1), ["relu2_1"]),
        styles=[Style(targets=style_targets(counted, image(2), layers, formulas))],
    )
    counted.seen.clear()
    return objective, counted


def make_trainer(**options: Any) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu",
        max_epochs=-1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        plugins=[WholeCheckpointIO()],
        **options,
    )


def make_module(
    objective: nn.Module,
    optimizer: Callable[..., Any],
    evaluations: int = N,
    start: Tensor | None = None,
    recovery: Recovery = RECOVERY,
) -> StyleTransfer:
    start = image(3) if start is None else start
    return StyleTransfer(
        image=start,
        schedule=single((start.shape[-2], start.shape[-1]), evaluations),
        objective=lambda *_: objective,
        carry=resize,
        finish=lambda picture: picture,
        optimizer=optimizer,
        recovery=recovery,
    )


def run(optimizer: Callable[..., Any], evaluations: int = N) -> tuple[list[Tensor], StyleTransfer]:
    objective, counted = make_objective()
    module = make_module(objective, optimizer, evaluations)
    make_trainer().fit(module, itertools.repeat(0))
    return counted.seen, module


def plain_lbfgs(line_search_fn: str | None) -> list[Tensor]:
    """One call of torch's step, the pixels clamped in the closure."""
    objective, counted = make_objective()
    x = nn.Parameter(image(3))
    optimizer = torch.optim.LBFGS(
        [x],
        max_iter=N,
        max_eval=10 * N,
        history_size=7,
        tolerance_grad=0,
        tolerance_change=0,
        line_search_fn=line_search_fn,
    )

    def closure() -> Tensor:
        with torch.no_grad():
            x.clamp_(0, 1)
        optimizer.zero_grad()
        loss = objective(x).total
        loss.backward()
        return loss

    optimizer.step(closure)
    return counted.seen


def plain_adam() -> list[Tensor]:
    objective, counted = make_objective()
    x = nn.Parameter(image(3))
    optimizer = torch.optim.Adam([x], lr=0.05)
    for _ in range(N):
        optimizer.zero_grad()
        objective(x).total.backward()
        optimizer.step()
        with torch.no_grad():
            x.clamp_(0, 1)
    return counted.seen


OPTIMIZERS: dict[str, Callable[..., Any]] = {
    "lbfgs": partial(ProjectedLBFGS, history_size=7),
    "lbfgs in half the memory": partial(ProjectedLBFGS, history_size=7, history_dtype="bfloat16"),
    "clamped lbfgs": partial(LBFGS, history_size=7),
    "clamped lbfgs with line search": partial(LBFGS, history_size=7, line_search_fn="strong_wolfe"),
    "adam": partial(torch.optim.Adam, lr=0.05),
}
PLAIN: dict[str, Callable[[], list[Tensor]]] = {
    "clamped lbfgs": lambda: plain_lbfgs(None),
    "clamped lbfgs with line search": lambda: plain_lbfgs("strong_wolfe"),
    "adam": plain_adam,
}


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """L-BFGS keeps its pairs as a matrix, of several blocks and chunks even for a small picture."""
    monkeypatch.setattr(lbfgs, "Loops", compact.Compact)
    for name, value in {"WIDTH": 400, "PAIRS": 3, "SPAN": 2}.items():
        monkeypatch.setattr(compact, name, value)


@pytest.mark.parametrize("name", PLAIN)
def test_lightning_visits_the_images_of_the_plain_loop(name: str) -> None:
    ours, _ = run(OPTIMIZERS[name])
    theirs = PLAIN[name]()
    assert len(ours) == N
    assert len(theirs) >= N
    for number, (mine, plain) in enumerate(zip(ours, theirs, strict=False), 1):
        assert torch.equal(mine, plain), f"evaluation {number} differs"
    assert ((ours[-1] == 0) | (ours[-1] == 1)).any(), "the bounds were never reached, so nothing was shown of them"


@pytest.mark.parametrize("name", ["clamped lbfgs", "clamped lbfgs with line search"])
def test_the_matrix_gives_the_images_of_the_plain_loop(as_on_a_gpu: None, name: str) -> None:
    """Within rounding, which the search enlarges from one image to the next."""
    ours, _ = run(OPTIMIZERS[name])
    theirs = PLAIN[name]()
    assert max(float((a - b).abs().max()) for a, b in zip(ours, theirs, strict=False)) < 1e-6


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("evaluations", [1, 2, 3, 10, 11, 12, 13])
def test_never_more_evaluations_than_asked_for(name: str, evaluations: int) -> None:
    seen, module = run(OPTIMIZERS[name], evaluations)
    assert len(seen) == evaluations
    assert module.evaluation.number == evaluations


def test_a_line_search_does_not_evaluate_its_start_again() -> None:
    seen, _ = run(OPTIMIZERS["clamped lbfgs with line search"])
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(seen, 2))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_best_image_is_the_one_with_the_lowest_loss(name: str) -> None:
    seen, module = run(OPTIMIZERS[name])
    objective, _ = make_objective()
    totals = [objective(x).total.item() for x in seen]
    assert module.best.losses["total"] == min(totals)
    assert torch.equal(module.best_image, seen[totals.index(min(totals))])
    assert module.best.number == totals.index(min(totals)) + 1


class Quadratic:
    """``½ (x - b)ᵀ A (x - b)`` over [0, 1]^n, ill-conditioned, with its minimum outside; counts its evaluations."""

    def __init__(self, size: int = 30) -> None:
        generator = torch.Generator().manual_seed(0)
        basis = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))[0]
        self.matrix = basis @ torch.diag(torch.logspace(0, 3, size, dtype=torch.float64)) @ basis.T
        self.center = 0.5 + torch.randn(size, generator=generator, dtype=torch.float64)
        self.x = nn.Parameter(torch.full((size,), 0.5, dtype=torch.float64))
        self.losses: list[float] = []

    def __call__(self) -> Tensor:
        assert ((self.x >= 0) & (self.x <= 1)).all()
        self.x.grad = None
        difference = self.x - self.center
        loss = difference @ self.matrix @ difference / 2
        loss.backward()
        self.losses.append(loss.item())
        return loss

    def violation(self, scale: float) -> float:
        """Of the conditions that a minimum within bounds meets (Karush, Kuhn and Tucker): the projected gradient."""
        self()
        assert self.x.grad is not None
        self.x.grad /= scale
        return float((self.x.detach() - (self.x.detach() - self.x.grad).clamp(0, 1)).abs().max())


@pytest.mark.parametrize("scale", [1.0, 1e-9, 1e9])
def test_projected_lbfgs_finds_the_minimum_within_the_bounds(scale: float) -> None:
    problem = Quadratic()
    problem.matrix *= scale
    optimizer = ProjectedLBFGS([problem.x])
    for _ in range(300):
        optimizer.step(problem)
    # As near as the loss can tell in float64: its last digit is 89 · 2e-16, and the largest curvature 1,000.
    assert problem.violation(scale) < 1e-5
    assert 5 < ((problem.x == 0) | (problem.x == 1)).sum() < 30, "some bounds hold pixels, and some pixels are free"


def test_projected_lbfgs_never_ends_a_step_at_a_higher_loss() -> None:
    problem = Quadratic()
    optimizer = ProjectedLBFGS([problem.x], rounding=0)
    ends = [optimizer.step(problem) for _ in range(60)]
    assert ends == sorted(ends, reverse=True)
    assert problem.losses != sorted(problem.losses, reverse=True), "no step was taken back, so nothing was shown"
    assert len(problem.losses) == 60, "one evaluation an iteration"


def test_the_memory_can_be_of_half_the_size() -> None:
    problems = {dtype: Quadratic() for dtype in (None, "bfloat16")}
    for dtype, problem in problems.items():
        made = ProjectedLBFGS([problem.x], history_size=5, history_dtype=dtype)
        for _ in range(60):
            made.step(problem)
        again = ProjectedLBFGS([problem.x], history_size=5, history_dtype=dtype)
        again.load_state_dict(made.state_dict())
        kept = torch.float64 if dtype is None else torch.bfloat16
        for each in (made, again):
            state = each.history.state()
            assert len(state["y"]) == len(state["s"]) == 5
            assert {pair.dtype for pair in (*state["y"], *state["s"])} == {kept}
    best, best_of_half = (min(problem.losses) for problem in problems.values())
    assert best_of_half < best + 0.05 * (problems[None].losses[0] - best)
    with pytest.raises(ValueError, match="history_dtype='float8': choices: null, bfloat16"):
        ProjectedLBFGS([problems[None].x], history_dtype="float8")
    with pytest.raises(ValueError, match="contiguous"):
        ProjectedLBFGS([torch.rand(1, 3, 4, 5).transpose(2, 3).requires_grad_()])


def test_no_more_places_are_made_than_the_memory_has_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    map_pages = mmap.mmap
    monkeypatch.setattr("nst.files.pages.mmap.mmap", lambda *args: made.append(args) or map_pages(*args))
    for size in (1, 5, 20):
        made.clear()
        problem = Quadratic()
        optimizer = ProjectedLBFGS([problem.x], history_size=size)
        for _ in range(60):
            optimizer.step(problem)
        assert len(optimizer.history) == size
        assert len(made) == 2 * size


class Waits(TorchDispatchMode):
    """Counts how often a number is read from a tensor; on a GPU, each reading waits for the device."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", [LBFGS, ProjectedLBFGS])
def test_a_longer_memory_does_not_read_more_numbers_from_tensors(kind: Callable[..., Any]) -> None:
    counts = []
    for size in (5, 20):
        x = nn.Parameter(torch.linspace(0.1, 0.9, 40, dtype=torch.float64))
        curvature = torch.logspace(0, 4, 40, dtype=torch.float64)

        def bowl() -> Tensor:
            x.grad = curvature * (x.detach() - 0.5)  # noqa: B023
            return (x.grad * (x.detach() - 0.5)).sum() / 2  # noqa: B023

        optimizer = kind([x], history_size=size)
        for _ in range(25):
            optimizer.step(bowl)
        assert len(optimizer.history) == size
        with Waits() as waits:
            optimizer.step(bowl)
        counts.append(waits.count)
    assert counts[0] == counts[1] <= 20


@pytest.mark.parametrize(("rounding", "converges"), [(0, True), (1e-4, False)])
def test_losses_that_are_rounded_do_not_end_a_run(rounding: float, *, converges: bool) -> None:
    """An encoder of 16 bits makes losses that are wrong by more than the last steps gain."""
    problem = Quadratic()
    generator = torch.Generator().manual_seed(0)

    def rounded() -> float:
        error = 5e-5 * torch.randn((), generator=generator, dtype=torch.float64).clamp(-1, 1)
        return float(problem().detach() * (1 + error))

    optimizer = ProjectedLBFGS([problem.x], rounding=rounding)
    for _ in range(400):
        optimizer.step(rounded)
    assert optimizer.converged is converges


def closure_of(x: nn.Parameter, function: Callable[[Tensor], Tensor]) -> Callable[[], Tensor]:
    """A closure for an optimizer of ``x`` that minimizes the sum of ``function(x)``."""

    def closure() -> Tensor:
        x.grad = None
        loss = function(x).sum()
        loss.backward()
        return loss

    return closure


def test_projected_lbfgs_leaves_a_hilltop() -> None:
    """Where all curvature is negative no pair is kept, and the gradient alone must do."""
    x = nn.Parameter(torch.linspace(0.405, 0.595, 20, dtype=torch.float64))
    hill = closure_of(x, lambda x: -(x - 0.5).square())
    optimizer = ProjectedLBFGS([x])
    for _ in range(12):
        optimizer.step(hill)
    assert x.tolist() == [0.0] * 10 + [1.0] * 10


def test_plain_lbfgs_leaves_a_hilltop() -> None:
    """Steps of the first one's length would hardly move 1000 pixels; their doubles soon reach positive curvature."""
    x = nn.Parameter(torch.full((1000,), 1e-3, dtype=torch.float64))
    hill = closure_of(x, torch.cos)
    optimizer = LBFGS([x])
    changes = []
    while not optimizer.has_history:
        before = x.detach().clone()
        optimizer.step(hill)
        changes.append(float((x.detach() - before).abs().max()))
    first, *others = changes[1:]  # the first call evaluates the start
    assert first == pytest.approx(1e-3)
    assert others == pytest.approx([first * 2**n for n in range(1, len(others) + 1)])
    for _ in range(10):
        optimizer.step(hill)
    torch.testing.assert_close(x.detach(), torch.full_like(x, math.pi))


def pairs_of(curvature: Tensor, number: int) -> Iterator[tuple[Tensor, tuple[Tensor, Tensor]]]:
    """Gradients, each with the pair before it, of steps on a quadratic function; the third pair has no curvature."""
    generator = torch.Generator().manual_seed(0)
    for index in range(number):
        s, gradient = torch.randn(2, len(curvature), generator=generator, dtype=curvature.dtype)
        yield curvature * gradient, (curvature * s * (-1 if index == 2 else 1), s)


@pytest.mark.parametrize("kept", [torch.float32, torch.bfloat16])
def test_the_matrix_is_nearer_to_the_exact_direction_than_the_loops(as_on_a_gpu: None, kept: torch.dtype) -> None:
    curvature = torch.logspace(0, 3, 1900)
    made = [History(7, curvature, kept) for History in (Loops, compact.Compact)]
    exact = Loops(7, curvature.double(), torch.float64)
    for gradient, pair in pairs_of(curvature, 12):
        for each in made:
            each.learn(gradient, pair)
        exact.load({key: [part.double() for part in made[0].state()[key]] for key in ("y", "s")})
        expected, slope = exact.direction(gradient.double())
        loops, matrix = (float((each.direction(gradient)[0] - expected).norm()) for each in made)
        assert matrix < max(2 * loops, 1e-6 * float(expected.norm()))
        assert made[1].direction(gradient)[1] == pytest.approx(slope, rel=1e-5)
        assert len(made[0]) == len(made[1])
    assert len(made[1]) == 7


def test_a_checkpoint_of_one_kind_of_history_serves_the_other(as_on_a_gpu: None) -> None:
    """The loops' checkpoints are those of earlier versions."""
    curvature = torch.logspace(0, 3, 1900, dtype=torch.float64)
    made = [History(7, curvature, torch.float64) for History in (Loops, compact.Compact)]
    for gradient, pair in pairs_of(curvature, 12):
        for each in made:
            each.learn(gradient, pair)
        for saved in made:
            for kind, size in itertools.product((Loops, compact.Compact), (7, 3)):
                loaded = kind(size, curvature, torch.float64)
                loaded.load(saved.state())
                loaded.learn(gradient)
                assert len(loaded) == min(size, len(saved))
                if size == 7:
                    torch.testing.assert_close(loaded.direction(gradient)[0], saved.direction(gradient)[0])


def test_a_checkpoint_of_the_matrix_has_the_pairs_only(as_on_a_gpu: None, tmp_path: Path) -> None:
    curvature = torch.logspace(0, 3, 1900, dtype=torch.float64)
    made = compact.Compact(7, curvature, torch.float64)
    for gradient, pair in pairs_of(curvature, 3):
        made.learn(gradient, pair)
    state = made.state()
    state["y"][0][0] = 5
    assert made.state()["y"][0][0] == 5, "it is no copy"
    torch.save(state, tmp_path / "x.pt")
    assert 4 * 1900 * 8 < (tmp_path / "x.pt").stat().st_size < 5 * 1900 * 8


@pytest.mark.parametrize("dtype", [None, "bfloat16"])
@pytest.mark.parametrize("kind", [Loops, compact.Compact])
def test_pairs_in_files_give_the_same_images_and_resume(
    kind: Callable[..., Any], dtype: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lbfgs, "Loops", kind)
    for name, value in {"WIDTH": 400, "PAIRS": 3, "SPAN": 2}.items():
        monkeypatch.setattr(compact, name, value)
    in_memory = partial(ProjectedLBFGS, history_size=5, history_dtype=dtype)
    in_files = partial(in_memory, scratch=tmp_path)
    seen, module = run(in_memory)
    again, other = run(in_files)
    assert all(torch.equal(a, b) for a, b in zip(seen, again, strict=True))
    made = other.optimizers(use_pl_optimizer=False)
    assert isinstance(made, ProjectedLBFGS)
    assert not list(tmp_path.iterdir()), "the files have no names"
    saved = tmp_path / "x.pt"
    torch.save(made.state_dict(), saved)
    for optimizer in (in_memory, in_files):
        loaded = optimizer([nn.Parameter(image(3))])
        loaded.load_state_dict(torch.load(saved, mmap=True))
        kept, expected = loaded.history.state(), module.optimizers(use_pl_optimizer=False).history.state()
        for part in ("y", "s"):
            assert all(torch.equal(a, b) for a, b in zip(kept[part], expected[part], strict=True))


class SaveAtEveryIteration(pl.Callback):
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, *_: Any) -> None:
        trainer.save_checkpoint(self.folder / f"{module.evaluation.number}.ckpt")


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_run_resumed_at_any_iteration_equals_the_uninterrupted_one(name: str, tmp_path: Path) -> None:
    objective, counted = make_objective()
    whole = make_module(objective, OPTIMIZERS[name])
    make_trainer(callbacks=[SaveAtEveryIteration(tmp_path)]).fit(whole, itertools.repeat(0))
    saved = sorted(tmp_path.glob("*.ckpt"), key=lambda path: int(path.stem))
    assert len(saved) >= 10
    for checkpoint in saved[:: max(1, len(saved) // 5)]:
        objective, again = make_objective()
        module = make_module(objective, OPTIMIZERS[name], start=image(4))
        make_trainer().fit(module, itertools.repeat(0), ckpt_path=checkpoint)
        done = int(checkpoint.stem)
        assert len(again.seen) == N - done
        assert all(torch.equal(a, b) for a, b in zip(counted.seen[done:], again.seen, strict=True))
        assert torch.equal(module.best_image, whole.best_image)
        assert module.best == whole.best


@pytest.mark.parametrize("name", ["lbfgs in half the memory", "clamped lbfgs with line search"])
def test_a_run_with_the_matrix_goes_on_at_any_iteration(as_on_a_gpu: None, name: str, tmp_path: Path) -> None:
    test_a_run_resumed_at_any_iteration_equals_the_uninterrupted_one(name, tmp_path)


def test_a_checkpoint_holds_no_weights_of_the_encoder(tmp_path: Path) -> None:
    objective, _ = make_objective()
    module = make_module(objective, OPTIMIZERS["adam"], 2)
    trainer = make_trainer()
    trainer.fit(module, itertools.repeat(0))
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    assert set(torch.load(tmp_path / "x.ckpt", weights_only=True)["state_dict"]) == {"image", "best_image"}


@pytest.mark.parametrize("optimizer", [LBFGS, ProjectedLBFGS])
def test_convergence_ends_the_run(optimizer: Callable[..., Any]) -> None:
    _, module = run(partial(optimizer, tolerance_grad=1e9))
    assert module.evaluation.number == 1


def test_a_loss_that_is_no_number_stops_the_run_at_once() -> None:
    objective, _ = make_objective()
    start = image(3)
    start[0, 0, 0, 0] = torch.nan
    module = make_module(objective, OPTIMIZERS["adam"], start=start)
    with pytest.raises(DivergedError, match="nan at evaluation 1"):
        make_trainer().fit(module, itertools.repeat(0))
