"""First-order optimizers on the picture's Laplacian pyramid, and the mean of their iterates."""

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.optim import Optimizer

from nst.optimizer.state import keep_types


class FirstOrder(Optimizer):
    """A first-order optimizer of PyTorch, on the pixels or on their Laplacian pyramid, with or without averaging.

    - The coefficients of a Laplacian pyramid (Burt and Adelson 1983, IEEE Trans. Commun. 31) let large areas change as
      fast as details do, as in STROTSS (Kolkin et al. 2019, arXiv:1904.12785) and NNST (Kolkin et al. 2022,
      arXiv:2203.13215). The synthesis is linear and the gradient depends on the picture alone. So only the change of
      the coefficients is kept, from step to step anew, and the picture stays within [0, 1], the range of pixels.
    - The mean of the iterates (Polyak and Juditsky 1992, SIAM J. Control Optim. 30) is calmer than each of them. Its
      weights fall exponentially with age, and it is divided by their sum, as Adam's moments are.

    Args:
        params: the one tensor to optimize, an image tensor (1, 3, H, W) within [0, 1].
        optimizer: makes the optimizer from a list of tensors; each of its steps must take one gradient.
        lr: its learning rate, in units of the pixel range.
        levels: number of halvings of the pyramid, fewer for small pictures; None for the pixels.
        averaging: factor of an iterate's weight in the mean from step to step; None for no mean.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        *,
        optimizer: Callable[..., Optimizer],
        lr: float,
        levels: int | None = None,
        averaging: float | None = None,
    ) -> None:
        super().__init__(params, {"lr": lr})
        [self._param] = self.param_groups[0]["params"]
        self.averaging = averaging
        shapes = shapes_of(self._param.shape[-2:], levels or 0)
        self.bands = [self._param.new_zeros((*self._param.shape[:-2], *shape)) for shape in shapes]
        self.inner = keep_types(optimizer(self.bands))
        if averaging is not None:
            self.state[self._param] = {"mean": torch.zeros_like(self._param.data), "weight": 0.0}
            self._average()

    @property
    def mean(self) -> Tensor | None:
        """The mean of the iterates so far, including the start; None without averaging."""
        if self.averaging is None:
            return None
        state = self.state[self._param]
        found: Tensor = state["mean"] / state["weight"]
        return found

    @torch.no_grad()
    def step(self, closure: Callable[[], Any]) -> Any:  # type: ignore[override]
        """Make one step; return the loss of the picture before it."""
        with torch.enable_grad():
            loss = closure()
        assert self._param.grad is not None
        for group in self.inner.param_groups:
            group["lr"] = self.param_groups[0]["lr"]
        for band, gradient in zip(self.bands, adjoint(self._param.grad, self.bands), strict=True):
            band.zero_()
            band.grad = gradient
        self.inner.step()
        self._param.add_(synthesis(self.bands)).clamp_(0, 1)
        if self.averaging is not None:
            self._average()
        return loss

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "inner": self.inner.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        rest = dict(state_dict)
        self.inner.load_state_dict(rest.pop("inner"))
        super().load_state_dict(rest)

    def _average(self) -> None:
        """Add the current picture to the mean."""
        assert self.averaging is not None
        state = self.state[self._param]
        state["mean"].mul_(self.averaging).add_(self._param.data, alpha=1 - self.averaging)
        state["weight"] = self.averaging * state["weight"] + 1 - self.averaging


def shapes_of(shape: Sequence[int], levels: int) -> list[tuple[int, int]]:
    """Return the shape of each band of a Laplacian pyramid, the finest first; each side is half the one before.

    The longer side of the coarsest band has at least 2 px.
    """
    shapes = [(shape[0], shape[1])]
    while len(shapes) <= levels and min(shapes[-1]) >= 2 and max(shapes[-1]) >= 4:
        shapes.append((shapes[-1][0] // 2, shapes[-1][1] // 2))
    return shapes


def synthesis(bands: Sequence[Tensor]) -> Tensor:
    """Return the picture of a Laplacian pyramid, whose bands are given the finest first."""
    picture = bands[-1]
    for band in reversed(bands[:-1]):
        picture = band + _enlarged(picture, band.shape[-2:])
    return picture


def adjoint(gradient: Tensor, bands: Sequence[Tensor]) -> list[Tensor]:
    """Return the gradient of each band from the gradient of the picture that they make."""
    gradients = [gradient]
    for larger, band in itertools.pairwise(bands):
        with torch.enable_grad():
            small = torch.zeros_like(band, requires_grad=True)
            [found] = torch.autograd.grad(_enlarged(small, larger.shape[-2:]), small, gradients[-1])
        gradients.append(found)
    return gradients


def _enlarged(picture: Tensor, shape: Sequence[int]) -> Tensor:
    return functional.interpolate(picture, size=list(shape), mode="bilinear", align_corners=False)
