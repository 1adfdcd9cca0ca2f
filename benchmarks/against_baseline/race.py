"""A callback that judges our picture by the baseline's objective, and lets the baseline have its turns."""

import statistics
from collections.abc import Iterator
from typing import Any, Protocol

import pytorch_lightning as pl
import torch
from torch import Tensor

from benchmarks.against_baseline.clock import now, seconds


class Objective(Protocol):
    """A judge: the loss of an image tensor of one shape."""

    shape: torch.Size

    def __call__(self, picture: Tensor) -> Tensor: ...

    def buffers(self) -> Iterator[Tensor]: ...


#: Evaluation, seconds, the baseline's loss of our best picture.
Point = tuple[int, float, float]


class Race(pl.Callback):
    """Our clock runs from ``start`` on, and stands while our picture is judged and the baseline has its turn.

    The turns tell what the baseline takes on the machine as it is now: after each block of our evaluations, the
    baseline repeats one of its first.

    Args:
        recipe: the judge.
        evaluations: the baseline's, one by one.
        goal: ends the run when our picture is as good.
        block: evaluations of ours between two turns of the baseline.
        every: evaluations of ours between two looks at its best picture.
        whole: don't end the run there.

    Attributes:
        curve: each time that our best picture had changed when it was looked at.
        reached: the first point of the curve that is as good, or None.
    """

    def __init__(
        self,
        recipe: Objective,
        evaluations: Iterator[object],
        *,
        goal: float,
        block: int,
        whole: bool,
        every: int = 1,
    ) -> None:
        self.recipe = recipe
        self.evaluations = evaluations
        self.goal = goal
        self.block = block
        self.whole = whole
        self.every = every
        self.device = next(recipe.buffers()).device
        self.curve: list[Point] = []
        self.reached: Point | None = None
        self.turns: list[float] = []
        self.seconds = 0.0
        self.began = 0.0

    def start(self) -> None:
        """Starts the clock, after the baseline's first turn."""
        self._take_turn()
        self.began = now(self.device)

    def on_after_backward(self, trainer: pl.Trainer, module: Any) -> None:
        self.seconds += now(self.device) - self.began
        number = module.evaluation.number
        if number % self.every == 0 and module.best.number > number - self.every:
            self._judge(number, module.best_image)
        if self.reached is not None and not self.whole:
            trainer.should_stop = True
        if number % self.block == 0:
            self._take_turn()
        self.began = now(self.device)

    @property
    def turn(self) -> float:
        """The seconds of one evaluation of the baseline, in the median of its turns."""
        return statistics.median(self.turns[1:] or self.turns)  # the very first makes things ready

    @torch.no_grad()
    def _judge(self, number: int, image: Tensor) -> None:
        picture = image.detach().clamp(0, 1).to(self.device, torch.float32)
        if picture.shape[-2:] != self.recipe.shape:  # on its way through smaller sizes
            return
        self.curve.append((number, self.seconds, float(self.recipe(picture))))
        if self.reached is None and self.curve[-1][-1] <= self.goal:
            self.reached = self.curve[-1]

    def _take_turn(self) -> None:
        self.turns.append(seconds(lambda: next(self.evaluations), self.device))
