"""The LightningModule that optimizes an image, its only trainable tensor."""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nst.encoder.precision import LossScale
from nst.errors import DivergedError, count, written
from nst.image import Shape
from nst.objective import Losses
from nst.optimizer.first_order import FirstOrder
from nst.optimizer.lbfgs import LBFGS
from nst.optimizer.recovery import Recovery, no_number
from nst.optimizer.schedule import Schedule, Stage
from nst.optimizer.state import keep_types

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluation:
    """One forward and backward pass, in plain numbers.

    Attributes:
        number: number of evaluations so far, including this one.
        losses: total, content, style and tv; the last three before their weights.
        shares: share of each part in the total, by ``content/relu4_2``, ``style/relu1_1`` …
        gradient_norm: Euclidean norm of the total's gradient with respect to the pixels.
    """

    number: int
    losses: dict[str, float]
    shares: dict[str, float]
    gradient_norm: float = math.nan


class StyleTransfer(pl.LightningModule):
    """A LightningModule that optimizes an image under an objective and counts evaluations, with any optimizer.

    One fit runs all stages of a schedule. Each stage has an image of its own size, its own objective, made when the
    stage begins, and a fresh optimizer, because the optimizer's memory is of no use at another size.

    Args:
        image: the start image, an image tensor (1, 3, H, W) of the first stage's shape.
        schedule: the stages.
        objective: returns the module that maps an image tensor to losses, for a stage, a device, and the image at the
            start of the stage (None in the first stage, and unless ``matches``).
        carry: returns the start image of the next stage, from the best image of a stage, on the CPU, and the shape of
            the next.
        finish: returns the picture to keep, from an image of any stage.
        optimizer: returns the optimizer for a list that holds the image.
        recovery: settings for losses that explode or are not finite.
        loss_scale: keeps the gradient within the range of the encoder's type; None for a type that doesn't need it.
        draws: whether the objective draws at each evaluation. Losses then can't be compared, and the latest image is
            kept instead of the best.
        matches: whether the objective depends on the image at the start of the stage. Checkpoints then hold that image.

    Attributes:
        image: the pixels. They are clamped to [0, 1] before each evaluation, as the baseline does inside its
            closure: what counts is the picture that is saved.
        best_image: the pixels of the evaluation with the lowest total so far; ``best`` has its losses. Losses at
            different sizes can't be compared, so both start anew with the first evaluation of each stage. With an
            optimizer that averages its iterates it is their mean; the last evaluation of a stage gives its losses.
        evaluation: the latest evaluation; complete when ``on_after_backward`` of the callbacks is called.
        recoveries: how often the run diverged and returned to its best image.
    """

    best_image: Tensor

    def __init__(
        self,
        *,
        image: Tensor,
        schedule: Schedule,
        objective: Callable[[Stage, torch.device, Tensor | None], nn.Module],
        carry: Callable[[Tensor, Shape], Tensor],
        finish: Callable[[Tensor], Tensor],
        optimizer: Callable[[list[Tensor]], Optimizer],
        recovery: Recovery,
        loss_scale: LossScale | None = None,
        draws: bool = False,
        matches: bool = False,
    ) -> None:
        super().__init__()
        self.image = nn.Parameter(image.clone(memory_format=torch.contiguous_format))
        self.register_buffer("best_image", image.clone())
        self.schedule = schedule
        self.make_objective = objective
        self.carry = carry
        self.finish = finish
        self.make_optimizer = optimizer
        self.loss_scale = loss_scale
        self.draws = draws
        self.matches = matches
        self.origin: Tensor | None = None  # the image at the start of the stage
        self.recovery = recovery
        self.recoveries = 0
        self.evaluation = Evaluation(0, {}, {})
        self.best = self.evaluation
        self.position = 0  # index of the stage in the schedule
        self.begun = 0  # evaluations before this stage
        self.milestone = (0, math.inf)  # the number and the total of the last evaluation that was an improvement
        self.strict_loading = False  # a checkpoint holds the images, not the objective

    @property
    def stage(self) -> Stage:
        """The current stage."""
        return self.schedule.stages[self.position]

    @property
    def picture(self) -> Tensor:
        """The best picture so far, finished for keeping: an image tensor on the CPU."""
        return self.finish(self.best_image.cpu())

    def configure_optimizers(self) -> Optimizer:
        optimizer = keep_types(self.make_optimizer([self.image]))
        for group in optimizer.param_groups:
            group["lr"] = self.recovery.rate(group["lr"] * self.stage.lr, self.recoveries)
        return optimizer

    def on_fit_start(self) -> None:
        self.objective = self.make_objective(self.stage, self.device, self.origin)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        mean = self._mean
        with torch.no_grad():
            self.image.clamp_(0, 1)
            if mean is not None and self.evaluation.number + 1 == self.stage.end:
                self.image.copy_(mean)  # the last evaluation of a scale gives the losses of the picture that is kept
        losses: Losses = self.objective(self.image, self.evaluation.number + 1)
        self._record(losses)
        return losses.total

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        if self.loss_scale is None:
            super().backward(loss, *args, **kwargs)
        else:
            self.loss_scale.backward(loss, lambda: self.objective(self.image, self.evaluation.number).total, self.image)
        assert self.image.grad is not None
        latest, norm = self.evaluation, self.image.grad.norm().item()
        self.evaluation = Evaluation(latest.number, latest.losses, latest.shares, norm)
        if no_number(latest.losses["total"], norm) is None:
            self._compare()

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        """Make one step of the optimizer, or return to the best image if the step diverges."""

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
            self._recover(DivergedError(f"the total loss rose from {written(best, 4)} to {written(accepted, 4)}"))

    def on_train_start(self) -> None:
        self._proceed()

    def on_train_batch_end(self, *args: Any) -> None:
        # If a signal or a callback stops one process, all stop; otherwise the others would wait for it.
        self.trainer.should_stop = self.trainer.strategy.reduce_boolean_decision(self.trainer.should_stop, all=False)
        self._proceed()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["state_dict"] = {"image": self.image.data, "best_image": self.best_image}
        checkpoint["origin"] = self.origin
        checkpoint["evaluation"] = vars(self.evaluation)
        checkpoint["best"] = vars(self.best)
        # Counted from the end, as another number of evaluations may give other scales before this one.
        ahead = len(self.schedule.stages) - 1 - self.position
        checkpoint["stage"] = {"ahead": ahead, "begun": self.begun, "milestone": self.milestone}
        checkpoint["recoveries"] = self.recoveries
        checkpoint["loss_scale"] = None if self.loss_scale is None else vars(self.loss_scale)
        checkpoint["random_state"] = torch.get_rng_state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the stage of the checkpoint, before Lightning makes the optimizer and loads the tensors."""
        self.evaluation = Evaluation(**checkpoint["evaluation"])
        self.best = Evaluation(**checkpoint["best"])
        ahead, self.begun, self.milestone = (checkpoint["stage"][name] for name in ("ahead", "begun", "milestone"))
        self.position = len(self.schedule.stages) - 1 - ahead
        self.recoveries = checkpoint["recoveries"]
        shapes = {name: tensor.shape for name, tensor in checkpoint["state_dict"].items()}
        self.image = nn.Parameter(self.image.new_empty(shapes["image"]))
        self.best_image = self.best_image.new_empty(shapes["best_image"])
        self.origin = checkpoint.get("origin")  # older checkpoints don't have it
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
        """Keep the image of the latest evaluation if it is the best of the stage, or if losses can't be compared.

        With averaging, keep the mean.
        """
        number, total, mean = self.evaluation.number, self.evaluation.losses["total"], self._mean
        if not self._has_best or self.draws or mean is not None or total < self.best.losses["total"]:
            self.best = self.evaluation
            if self.best_image.shape != self.image.shape:
                self.best_image = torch.empty_like(self.image.data)
            self.best_image.copy_(self.image.detach() if mean is None or number == self.stage.end else mean)
        if total < self.milestone[1] * (1 - self.schedule.min_improvement):
            self.milestone = (number, total)

    @property
    def _mean(self) -> Tensor | None:
        """The mean of the optimizer's iterates in this stage; None if it has none."""
        optimizer = self.optimizers(use_pl_optimizer=False)
        return optimizer.mean if isinstance(optimizer, FirstOrder) else None

    @property
    def _has_best(self) -> bool:
        """True if the stage has an evaluation with a finite loss and gradient."""
        return self.best.number > self.begun

    def _recover(self, error: DivergedError) -> None:
        """Return to the best image of the stage, with a fresh optimizer of a lower rate.

        Raise DivergedError if the stage has no best image, or after ``recovery.at_most`` recoveries.
        """
        what = f"{error} at evaluation {self.evaluation.number}"
        if not self._has_best:
            raise DivergedError(f"{what}, the first of its scale") from error
        if self.recoveries >= self.recovery.at_most:
            raise DivergedError(f"{what}, after {self.recoveries} recoveries") from error
        self.recoveries += 1
        self.image.data.copy_(self.best_image)
        self.trainer.optimizers = [self.configure_optimizers()]
        log.warning(
            "Recovery %d of %d: %s. Returning to evaluation %d, the best so far, with %g times the learning rate.",
            self.recoveries, self.recovery.at_most, what, self.best.number, self.recovery.rate(1, self.recoveries),
        )  # fmt: skip

    @property
    def ending(self) -> str | None:
        """The reason why the stage is over, as text; None if it isn't over."""
        optimizer = self.optimizers(use_pl_optimizer=False)
        number, patience = self.evaluation.number, self.schedule.patience
        if isinstance(optimizer, LBFGS) and optimizer.converged:
            return "the optimizer converged: no further step improves the picture"
        if patience is not None and number - self.milestone[0] >= patience:
            least = written(100 * self.schedule.min_improvement)
            return f"the total fell by less than {least}% in {count(patience, 'evaluation')}"
        return f"scale {self.position + 1} is complete" if number >= self.stage.end else None

    @property
    def finished(self) -> bool:
        """True if the last stage is over."""
        return self.position == len(self.schedule.stages) - 1 and self.ending is not None

    def _proceed(self) -> None:
        """Go on to the next stage if the current one is over; stop the trainer if it was the last."""
        while self.ending is not None:
            if self.finished:
                self.trainer.should_stop = True
                return
            self._go_up()

    def _go_up(self) -> None:
        """Start the next stage from the best image, with an objective of the new size and a fresh optimizer."""
        number, (height, width) = self.evaluation.number, self.schedule.stages[self.position + 1].shape
        what = f"scale {self.position + 2} of {len(self.schedule.stages)}, {width} x {height} px"
        log.info("Continuing with %s, after %s: %s.", what, count(number, "evaluation"), self.ending)
        self.position += 1
        self.begun = number
        self.milestone = (number, math.inf)
        # The CPU supports bicubic interpolation in every precision.
        self.image = nn.Parameter(
            self.carry(self.best_image.cpu(), (height, width)).to(self.best_image).contiguous().clone()
        )
        self.origin = self.image.detach().clone() if self.matches else None
        self.trainer.optimizers = [self.configure_optimizers()]
        self.objective = self.make_objective(self.stage, self.device, self.origin)
