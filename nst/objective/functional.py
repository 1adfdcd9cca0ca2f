"""Loss mathematics as pure functions of features (1, C, H, W) and their statistics.

Features may be of 16 bits; what is computed from them is of 32.
"""

from collections.abc import Callable
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

F = TypeVar("F", bound=Callable[..., Tensor])

#: Values of 16-bit features that are widened at a time, so that the copy stays in the processor's cache.
_CHUNK = 2**18


def over_positions(kind: Literal["mean", "sum"]) -> Callable[[F], F]:
    """Marks a function of features as a mean or a sum over their positions, which tiles can therefore share."""

    def mark(function: F) -> F:
        function.over_positions = kind  # type: ignore[attr-defined]
        return function

    return mark


def combines(function: object) -> Literal["mean", "sum"] | None:
    """How tiles share a function of features, bare or with some of its arguments given; None is: they can't."""
    return getattr(getattr(function, "func", function), "over_positions", None)


@over_positions("mean")
def mean_squared_difference(features: Tensor, target: Tensor) -> Tensor:
    """``mean((F - P)²)``, the content loss of common implementations: Gatys et al. 2015, eq. 1, as a mean."""
    return (_wide(features) - _wide(target)).square().mean()


@over_positions("sum")
def half_squared_difference(features: Tensor, target: Tensor) -> Tensor:
    """``½ Σ (F - P)²``: Gatys et al. 2015 (arXiv:1508.06576), eq. 1."""
    return (_wide(features) - _wide(target)).square().sum() / 2


@over_positions("mean")
def gram_per_position(features: Tensor) -> Tensor:
    """``F Fᵀ / M``, shape (C, C), over the M = H·W positions: Gatys et al. 2015, eq. 3, there without the ``/ M``."""
    return _gram(features) / features[0, 0].numel()


@over_positions("mean")
def gram_per_element(features: Tensor) -> Tensor:
    """``F Fᵀ / (C·H·W)``, shape (C, C): the normalization of common implementations."""
    return _gram(features) / features[0].numel()


def scaled_squared_difference(gram: Tensor, target: Tensor) -> Tensor:
    """``Σ (G - A)² / 4N²``: Gatys et al. 2015, eq. 4, for Gram matrices divided by their number of positions.

    The paper's ``1 / 4N²M²`` holds for sums over the same M positions on both sides. Dividing each matrix by its own
    M beforehand is equal there, and still means the same when the two pictures differ in size.
    """
    return (gram - target).square().sum() / (4 * gram.shape[0] ** 2)


def total_variation(image: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring pixels, down plus across (anisotropic; Rudin, Osher and Fatemi 1992)."""
    down = (image[..., 1:, :] - image[..., :-1, :]).abs().mean() if image.shape[-2] > 1 else image.sum() * 0
    across = (image[..., :, 1:] - image[..., :, :-1]).abs().mean() if image.shape[-1] > 1 else image.sum() * 0
    return down + across


def _wide(x: Tensor) -> Tensor:
    return x if x.element_size() >= 4 else x.float()


class _Gram(torch.autograd.Function):
    """``F Fᵀ`` over the positions. That it is symmetric halves the work of its gradient, ``(dG + dGᵀ) F``."""

    @staticmethod
    def forward(ctx: Any, features: Tensor) -> Tensor:
        ctx.save_for_backward(features)
        return _products(_positions(features))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (features,) = ctx.saved_tensors
        _, channels, height, width = features.shape
        flat = _positions(features) @ (gradient + gradient.T).to(features.dtype)
        return flat.view(1, height, width, channels).permute(0, 3, 1, 2)


def _products(positions: Tensor) -> Tensor:
    """``Fᵀ F`` of (M, C), of at least 32 bits: near the end the losses are small differences of large sums."""
    if positions.element_size() >= 4:
        return positions.T @ positions
    if positions.device.type == "cuda":
        return torch.mm(positions.T, positions, out_dtype=torch.float32)
    total = positions.new_zeros((positions.shape[1],) * 2, dtype=torch.float32)
    for part in torch.split(positions, _CHUNK // positions.shape[1]):
        wide = part.float()
        total.addmm_(wide.T, wide)
    return total


def _gram(features: Tensor) -> Tensor:
    return _Gram.apply(features)  # type: ignore[no-any-return]


def _positions(features: Tensor) -> Tensor:
    """The features as (H·W, C): a view where the channels lie side by side."""
    return features[0].permute(1, 2, 0).flatten(0, 1)
