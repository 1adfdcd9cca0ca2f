"""CUDA graphs of an evaluation, as far as a CPU can check them; ``benchmarks.gpu`` checks the rest."""

from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from nst.objective import Losses, Objective, Style, Weights, content_targets, style_targets
from nst.optimizer import graphs
from nst.optimizer.graphs import RecordedObjective
from tests.conftest import image
from tests.objective.test_objective import CONTENT, STYLE, made, tiny


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let the CPU count as a CUDA device whose recordings call the function; return the numbers of pixels recorded."""
    found: list[int] = []

    def record(function: Callable[..., Any], arguments: tuple[Tensor]) -> Callable[..., Any]:
        found.append(arguments[0].numel())
        return function

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", record)
    monkeypatch.setattr(torch.Tensor, "is_cuda", property(lambda tensor: True))
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: 0)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", lambda mode: None)
    return found


def given(*overrides: str) -> dict[str, Any]:
    formulas, network = made(*overrides), tiny()
    return {
        "encoder": network,
        "formulas": formulas,
        "weights": Weights(content=0.7, style=1e3, tv=2),
        "content": content_targets(network, image(1), CONTENT),
        "styles": [Style(targets=style_targets(network, image(2), STYLE, formulas))],
    }


def evaluate(objective: Objective, seed: int) -> tuple[Losses, Tensor]:
    picture = image(seed).requires_grad_()
    losses = objective(picture)
    torch.autograd.backward(losses.total)
    assert picture.grad is not None
    return losses, picture.grad


def test_a_replayed_evaluation_has_the_same_losses_and_gradient(recorded: list[int]) -> None:
    plain, replayed = Objective(**given()), RecordedObjective(**given())
    for seed in range(3, 7):
        (expected, slope), (found, gradient) = evaluate(plain, seed), evaluate(replayed, seed)
        assert found == expected
        assert torch.equal(gradient, slope)
        assert len(recorded) == (seed > 3)  # the second evaluation is recorded


def test_a_recording_is_made_anew_when_the_objective_moves(recorded: list[int]) -> None:
    objective = RecordedObjective(**given())
    for _ in range(3):
        evaluate(objective, 3)
    objective.to("cpu")
    for _ in range(3):
        evaluate(objective, 3)
    assert len(recorded) == 2


@pytest.mark.parametrize("why", ["waits", "joint", "large", "no gradient"])
def test_what_is_not_recorded(recorded: list[int], monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    @contextmanager
    def waiting() -> Any:
        yield
        raise RuntimeError("called a synchronizing CUDA operation")

    if why == "waits":
        monkeypatch.setattr(graphs, "_no_waits", waiting)
    elif why == "large":
        monkeypatch.setattr(graphs, "MOST_PIXELS", 8)
    words = ["objective/style=[sliced_wasserstein_drawn]"] if why == "joint" else []
    objective = RecordedObjective(**given(*words))
    for _ in range(3):
        losses = objective(image(3)) if why == "no gradient" else evaluate(objective, 3)[0]
        assert losses.total.isfinite()
    assert not recorded
