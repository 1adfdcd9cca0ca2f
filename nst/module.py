"""The LightningModule: an image is its only trainable tensor."""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nst.errors import DivergedError
from nst.objective import Losses
from nst.optimizer import LBFGS
from nst.precision import LossScale
from nst.recovery import Recovery, no_number
from nst.schedule import Schedule, Shape, Stage

log = logging.getLogger(__name__)


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

    It goes through the stages of a schedule within one fit. Each has an image of its own size, its own objective, made
    when the stage begins, and a fresh optimizer, as the memory of another size says nothing of this one.

    Args:
        image: the start, an image tensor (1, 3, H, W) of the first stage's shape.
        schedule: the stages.
        objective: makes what maps an image tensor to losses, for a stage, on a device.
        carry: the best image of a stage, on the CPU, at the shape of the next.
        finish: the picture that is kept, from an image of any stage.
        optimizer: makes the optimizer from a list that holds the image.
        recovery: what happens when a loss explodes, or is no number.
        loss_scale: keeps the gradient within the range of the encoder's numbers, where these need it.

    Attributes:
        image: the pixels. They are kept in [0, 1] by clamping before each evaluation, as the seed does inside its
            closure: what counts is the picture that is saved.
        best_image: the pixels of the evaluation with the lowest total so far, and ``best`` its losses. Losses at
            different sizes don't compare, so both begin anew with the first evaluation of each stage.
        evaluation: the latest evaluation; complete when callbacks hear of ``on_after_backward``.
        recoveries: how often the run went astray and was brought back to its best image.
    """

    best_image: Tensor

    def __init__(
        self,
        *,
        image: Tensor,
        schedule: Schedule,
        objective: Callable[[Stage, torch.device], nn.Module],
        carry: Callable[[Tensor, Shape], Tensor],
        finish: Callable[[Tensor], Tensor],
        optimizer: Callable[[list[Tensor]], Optimizer],
        recovery: Recovery,
        loss_scale: LossScale | None = None,
    ) -> None:
        super().__init__()
        self.image = nn.Parameter(image.clone())
        self.register_buffer("best_image", image.clone())
        self.schedule = schedule
        self.make_objective = objective
        self.carry = carry
        self.finish = finish
        self.make_optimizer = optimizer
        self.loss_scale = loss_scale
        self.recovery = recovery
        self.recoveries = 0
        self.evaluation = Evaluation(0, {}, {})
        self.best = self.evaluation
        self.position = 0  # of the stage among the schedule's
        self.begun = 0  # evaluations before this stage
        self.milestone = (0, math.inf)  # the number and the total of the last evaluation that was an improvement
        self.strict_loading = False  # a checkpoint holds the images, not the objective

    @property
    def stage(self) -> Stage:
        """The stage that the run is in."""
        return self.schedule.stages[self.position]

    @property
    def picture(self) -> Tensor:
        """The best picture so far, as it is kept: an image tensor on the CPU."""
        return self.finish(self.best_image.cpu())

    def configure_optimizers(self) -> Optimizer:
        optimizer = self.make_optimizer([self.image])
        for group in optimizer.param_groups:
            group["lr"] = self.recovery.rate(group["lr"], self.recoveries)
        return optimizer

    def on_fit_start(self) -> None:
        self.objective = self.make_objective(self.stage, self.device)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        with torch.no_grad():
            self.image.clamp_(0, 1)
        losses: Losses = self.objective(self.image)
        self._record(losses)
        return losses.total

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        if self.loss_scale is None:
            super().backward(loss, *args, **kwargs)
        else:
            self.loss_scale.backward(loss, lambda: self.objective(self.image).total, self.image)
        assert self.image.grad is not None
        latest, norm = self.evaluation, self.image.grad.norm().item()
        self.evaluation = Evaluation(latest.number, latest.losses, latest.shares, norm)
        if no_number(latest.losses["total"], norm) is None:
            self._compare()

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        """One step, or the way back to the best image where the step would lead astray."""

        def closure() -> Tensor:
            loss: Tensor = optimizer_closure()
            wrong = no_number(self.evaluation.losses["total"], self.evaluation.gradient_norm)
            if wrong is not None:
                raise DivergedError(wrong)
            return loss

        if isinstance(optimizer.optimizer, LBFGS):
            optimizer.optimizer.evaluations_left = self.stage.end - self.evaluation.number
        try:
            accepted = float(optimizer.step(closure=closure))
        except DivergedError as error:
            self._recover(error)
            return
        best = self.best.losses["total"]
        if self.recoveries < self.recovery.at_most and self.recovery.exploded(accepted, best):
            self._recover(DivergedError(f"the total loss is {accepted:.4g}, the lowest was {best:.4g}"))

    def on_train_start(self) -> None:
        self._proceed()

    def on_train_batch_end(self, *args: Any) -> None:
        # A signal, or a callback, may want one process to stop; the others would wait for it.
        self.trainer.should_stop = self.trainer.strategy.reduce_boolean_decision(self.trainer.should_stop, all=False)
        self._proceed()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["state_dict"] = {"image": self.image.data, "best_image": self.best_image}
        checkpoint["evaluation"] = vars(self.evaluation)
        checkpoint["best"] = vars(self.best)
        # From the end, as with other numbers of evaluations there may be other scales before this one.
        ahead = len(self.schedule.stages) - 1 - self.position
        checkpoint["stage"] = {"ahead": ahead, "begun": self.begun, "milestone": self.milestone}
        checkpoint["recoveries"] = self.recoveries
        checkpoint["loss_scale"] = None if self.loss_scale is None else vars(self.loss_scale)
        checkpoint["random_state"] = torch.get_rng_state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Puts the run in the checkpoint's stage, before Lightning makes the optimizer and loads the tensors."""
        self.evaluation = Evaluation(**checkpoint["evaluation"])
        self.best = Evaluation(**checkpoint["best"])
        ahead, self.begun, self.milestone = (checkpoint["stage"][name] for name in ("ahead", "begun", "milestone"))
        self.position = len(self.schedule.stages) - 1 - ahead
        self.recoveries = checkpoint["recoveries"]
        shapes = {name: tensor.shape for name, tensor in checkpoint["state_dict"].items()}
        self.image = nn.Parameter(self.image.new_empty(shapes["image"]))
        self.best_image = self.best_image.new_empty(shapes["best_image"])
        if self.loss_scale is not None:
            vars(self.loss_scale).update(checkpoint["loss_scale"])
        torch.set_rng_state(checkpoint["random_state"])

    def _record(self, losses: Losses) -> None:
        names = ["total", "content", "style", "tv", *losses.parts]
        scalars = [losses.total, losses.content, losses.style, losses.tv, *losses.parts.values()]
        # One transfer from the device instead of one for each number.
        values = dict(zip(names, torch.stack(scalars).detach().tolist(), strict=True))
        total = values["total"]
        number = self.evaluation.number + 1
        shares = {name: values[name] / total if total else 0.0 for name in losses.parts}
        self.evaluation = Evaluation(number, {name: values[name] for name in names[:4]}, shares)

    def _compare(self) -> None:
        """Keeps the image of the latest evaluation where it is the best of the stage."""
        number, total = self.evaluation.number, self.evaluation.losses["total"]
        if not self._has_best or total < self.best.losses["total"]:
            self.best = self.evaluation
            if self.best_image.shape != self.image.shape:
                self.best_image = torch.empty_like(self.image.data)
            self.best_image.copy_(self.image.detach())
        if total < self.milestone[1] * (1 - self.schedule.min_improvement):
            self.milestone = (number, total)

    @property
    def _has_best(self) -> bool:
        """Whether the stage has an evaluation that was all in numbers."""
        return self.best.number > self.begun

    def _recover(self, error: DivergedError) -> None:
        """Goes back to the best image of the stage, with a fresh optimizer of a lower rate; at most so many times."""
        what = f"{error} at evaluation {self.evaluation.number}"
        if not self._has_best:
            raise DivergedError(f"{what}, the first of its scale") from error
        if self.recoveries >= self.recovery.at_most:
            raise DivergedError(f"{what}, after {self.recoveries} recoveries") from error
        self.recoveries += 1
        self.image.data.copy_(self.best_image)
        self.trainer.optimizers = [self.configure_optimizers()]
        log.warning(
            "Recovery %d of %d: %s. Going back to evaluation %d, the best, with %g times the optimizer's rate.",
            self.recoveries, self.recovery.at_most, what, self.best.number, self.recovery.rate(1, self.recoveries),
        )  # fmt: skip

    @property
    def ending(self) -> str | None:
        """Why there is nothing left to compute in this stage; None where there is."""
        optimizer = self.optimizers(use_pl_optimizer=False)
        number, patience = self.evaluation.number, self.schedule.patience
        if isinstance(optimizer, LBFGS) and optimizer.converged:
            return "the optimizer converged, no further step improves the picture"
        if patience is not None and number - self.milestone[0] >= patience:
            return f"the total fell by less than {100 * self.schedule.min_improvement:.3g}% in {patience} evaluations"
        return "its evaluations are used up" if number >= self.stage.end else None

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to compute at all."""
        return self.position == len(self.schedule.stages) - 1 and self.ending is not None

    def _proceed(self) -> None:
        """Goes on to the next stage where this one is over; stops where it was the last."""
        while self.ending is not None:
            if self.finished:
                self.trainer.should_stop = True
                return
            self._go_up()

    def _go_up(self) -> None:
        """Takes the best image to the next stage, with the objective of its size and a fresh optimizer."""
        height, width = self.schedule.stages[self.position + 1].shape
        number = self.evaluation.number
        log.info("Going on at %d x %d px after %d evaluations: %s.", width, height, number, self.ending)
        self.position += 1
        self.begun = number
        self.milestone = (number, math.inf)
        # The CPU has bicubic interpolation in every precision.
        self.image = nn.Parameter(self.carry(self.best_image.cpu(), (height, width)).to(self.best_image).clone())
        self.trainer.optimizers = [self.configure_optimizers()]
        self.objective = self.make_objective(self.stage, self.device)
