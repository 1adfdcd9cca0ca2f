"""L-BFGS within the range of pixels, [0, 1]."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nst.optimizer.history import Sizes
from nst.optimizer.lbfgs import LBFGS


class ProjectedLBFGS(LBFGS):
    """L-BFGS within [0, 1], the range of pixels, with one evaluation an iteration and no real rise of the loss.

    - Each step is projected onto the range, and the curvature is computed from the projected step.
    - Pixels stay at a bound if the negative gradient points out of the range, and the others move as if these pixels
      didn't exist (two-metric projection: Bertsekas 1982, SIAM J. Control Optim. 20; with L-BFGS: Kim, Sra and Dhillon
      2010, SIAM J. Sci. Comput. 32).
    - No pixel moves by more than a radius, 0.3 at first and 1 at most. An accepted step raises the radius to twice the
      largest change of a pixel, if that is more (a trust region: Nocedal and Wright 2006, chapter 4). Without known
      curvature, a step goes as far as the radius.
    - A step to a higher loss is undone, and the next one is limited to half of it. The evaluation is not lost: the
      memory keeps the curvature found there, which it had underestimated. A loss is higher if ``rounding`` doesn't
      explain the rise: near the end, the losses of a 16-bit encoder differ by less than their error.

    Args:
        params: the one tensor to optimize, within [0, 1].
        lr: length of the steps along each direction, if the radius allows it; that of the very first step is also
            divided by |gradient|₁.
        history_size: number of curvature pairs to keep, each of twice the tensor's bytes.
        history_dtype: type of the kept pairs: None for the tensor's own type, or ``bfloat16`` for half of 32 bits.
        tolerance_grad: converged if no entry of the gradient that a pixel can follow is larger than this.
        tolerance_change: converged if no entry of the tensor changes by more than this in an iteration, or the loss
            changes by less in an accepted step.
        scratch: folder in which the pairs are kept, in temporary files; None for memory. On a CPU only.
        rounding: fraction of the loss by which a step may raise the loss.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        *,
        lr: float = 1,
        history_size: int = 100,
        history_dtype: str | None = None,
        tolerance_grad: float = 0,
        tolerance_change: float = 0,
        scratch: Path | None = None,
        rounding: float = 1e-4,
    ) -> None:
        super().__init__(
            params, lr=lr, history_size=history_size, history_dtype=history_dtype,
            tolerance_grad=tolerance_grad, tolerance_change=tolerance_change, scratch=scratch,
        )  # fmt: skip
        self.rounding = rounding

    def _move(self, state: dict[str, Any], closure: Callable[[], Any]) -> tuple[tuple[Tensor, Tensor], float]:
        loss, gradient, direction, length = (state[key] for key in ("loss", "gradient", "direction", "length"))
        own = self._own
        start = own.clone()
        own.add_(direction.mul_(length)).clamp_(0, 1)
        del direction, state["direction"]  # an evaluation needs much memory
        self.team.share(self._flat)
        new_loss, new_gradient = self._evaluate(closure)
        state["accepted"] = new_loss <= loss + self.rounding * abs(loss)
        if state["accepted"]:
            state.update(loss=new_loss, gradient=new_gradient)
            pair = torch.sub(new_gradient, gradient, out=gradient), torch.sub(own, start, out=start)
            return pair, abs(loss - new_loss)
        step = own - start
        own.copy_(start)
        self.team.share(self._flat)
        return (torch.sub(new_gradient, gradient, out=new_gradient), step), torch.inf

    def _aim(self, state: dict[str, Any], sizes: Sizes, gain: float = torch.inf) -> None:
        gradient = self._followed(state["gradient"])
        moved_before = "accepted" in state
        radius = state.get("radius", 0.3)
        if moved_before:
            radius = min(1.0, max(radius, 2 * sizes.change)) if state.pop("accepted") else sizes.change / 2
        direction, slope = self.history.direction(gradient)
        direction *= self._free(state["gradient"])
        if not slope < 0:  # rounding has spoilt the memory: restart
            self.history.clear()
            direction = gradient.neg()
        # A number on the device, as reading it would be another transfer. A direction of zeros gives the length 0.
        length = torch.nan_to_num(radius / self.history.largest(direction), posinf=0)
        if self.has_history:
            length = length.clamp(max=self._lr)
        elif not moved_before:  # all pixels together move by lr, whatever the scale of the loss
            length = length.clamp(max=self._lr / (sizes.total or 1))
        moved = sizes.change > self.tolerance_change and not gain < self.tolerance_change
        converged = sizes.largest <= self.tolerance_grad or not moved
        state.update(direction=direction, length=length, radius=radius, converged=converged)

    def _followed(self, gradient: Tensor) -> Tensor:
        return gradient * self._free(gradient)

    def _free(self, gradient: Tensor) -> Tensor:
        """Return True for pixels that can follow the negative gradient, and False for pixels held at a bound."""
        pixels = self._own
        return ~((pixels <= 0) & (gradient > 0) | (pixels >= 1) & (gradient < 0))
