"""The LightningModule: an image is its only trainable tensor."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nst.errors import DivergedError
from nst.objective import Losses, Objective
from nst.optimizer import LBFGS


@dataclass(frozen=True)
class Evaluation:
    """One forward and backward pass, in plain numbers.

    Attributes:
        number: how many evaluations there have been, this one included.
        losses: total, content, style and tv; the last three before their weights.
        shares: each layer's share of the total, by ``content/relu4_2``, ``style/relu1_1`` …
        gradient_norm: Euclidean norm of the total's gradient with respect to the pixels.
    """

    number: int
    losses: dict[str, float]
    shares: dict[str, float]
    gradient_norm: float = math.nan


class StyleTransfer(pl.LightningModule):
    """Optimizes an image under an objective; every evaluation counts, whichever optimizer asks for it.

    Args:
        image: the start, an image tensor (1, 3, H, W).
        objective: maps an image tensor to losses.
        optimizer: makes the optimizer from a list that holds the image.
        evaluations: stop after that many; the optimizer's own closure calls within one step are its own affair.

    Attributes:
        image: the pixels. They are kept in [0, 1] by clamping before each evaluation, as the seed does inside its
            closure: what counts is the picture that is saved.
        best_image: the pixels of the evaluation with the lowest total so far, and ``best`` its losses.
        evaluation: the latest evaluation; complete when callbacks hear of ``on_after_backward``.
    """

    best_image: Tensor

    def __init__(
        self,
        *,
        image: Tensor,
        objective: Objective,
        optimizer: Callable[[list[Tensor]], Optimizer],
        evaluations: int,
    ) -> None:
        super().__init__()
        self.image = nn.Parameter(image.clone())
        self.register_buffer("best_image", image.clone())
        self.objective = objective
        self.make_optimizer = optimizer
        self.evaluations = evaluations
        self.evaluation = Evaluation(0, {}, {})
        self.best = self.evaluation
        self.strict_loading = False  # a checkpoint holds the images, not the objective

    def configure_optimizers(self) -> Optimizer:
        optimizer = self.make_optimizer([self.image])
        if isinstance(optimizer, LBFGS):
            optimizer.max_evaluations = self.evaluations
        return optimizer

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        with torch.no_grad():
            self.image.clamp_(0, 1)
        losses: Losses = self.objective(self.image)
        self._record(losses)
        return losses.total

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        super().backward(loss, *args, **kwargs)
        assert self.image.grad is not None
        norm = self.image.grad.norm().item()
        if not math.isfinite(norm):
            raise DivergedError(f"the gradient is {norm} at evaluation {self.evaluation.number}")
        latest = self.evaluation
        self.evaluation = Evaluation(latest.number, latest.losses, latest.shares, norm)
        if self.best is latest:
            self.best = self.evaluation

    def on_train_start(self) -> None:
        self._stop_when_done()

    def on_train_batch_end(self, *args: Any) -> None:
        self._stop_when_done()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["state_dict"] = {"image": self.image.data, "best_image": self.best_image}
        checkpoint["evaluation"] = vars(self.evaluation)
        checkpoint["best"] = vars(self.best)
        checkpoint["random_state"] = torch.get_rng_state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.evaluation = Evaluation(**checkpoint["evaluation"])
        self.best = Evaluation(**checkpoint["best"])
        torch.set_rng_state(checkpoint["random_state"])

    def _record(self, losses: Losses) -> None:
        names = ["total", "content", "style", "tv", *losses.parts]
        scalars = [losses.total, losses.content, losses.style, losses.tv, *losses.parts.values()]
        # One transfer from the device instead of one for each number.
        values = dict(zip(names, torch.stack(scalars).detach().tolist(), strict=True))
        total = values["total"]
        number = self.evaluation.number + 1
        if not math.isfinite(total):
            raise DivergedError(f"the total loss is {total} at evaluation {number}")
        shares = {name: values[name] / total if total else 0.0 for name in losses.parts}
        self.evaluation = Evaluation(number, {name: values[name] for name in names[:4]}, shares)
        if self.best.number == 0 or total < self.best.losses["total"]:
            self.best = self.evaluation
            self.best_image.copy_(self.image.detach())

    @property
    def converged(self) -> bool:
        """Whether the optimizer found that another step can't improve."""
        optimizer = self.optimizers(use_pl_optimizer=False)
        return isinstance(optimizer, LBFGS) and optimizer.converged

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to compute."""
        return self.converged or self.evaluation.number >= self.evaluations

    def _stop_when_done(self) -> None:
        if self.finished:
            self.trainer.should_stop = True
