"""The formulas of the losses: pure functions of features (1, C, H, W), their statistics, and image tensors.

Features may have 16 bits; the results then have 32. M = H·W is the number of positions.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from nst.encoder.precision import exact
from nst.objective.products import widened
from nst.objective.statistics import (
    channel_moments,
    gram_of_shifted,
    gram_of_softmax,
    gram_per_element,
    gram_per_position,
    moments,
    over_positions,
    softened,
    sorted_channels,
    sorted_projections,
)

__all__ = [
    "channel_moments", "covariance_difference", "gaussian_wasserstein", "gram_of_shifted", "gram_of_softmax",
    "gram_per_element", "gram_per_position", "half_squared_difference", "laplacian_difference",
    "mean_and_deviation_difference", "mean_squared_difference", "moments", "scaled_squared_difference",
    "shifted_gram_difference", "sliced_wasserstein", "softmax_difference", "sorted_channels", "sorted_projections",
    "total_variation",
]  # fmt: skip

#: Difference of pixels below which ``|d|^exponent`` is smoothed if the exponent is below 1: a quarter of a step of 8
#: bits.
_SMOOTH = 1e-3

#: Minimum variance, for the features of a style that are all 0.
_TINY = 1e-12


@over_positions("mean")
def mean_squared_difference(features: Tensor, target: Tensor) -> Tensor:
    """Return ``mean((F - P)²)``, the content loss of common implementations: Gatys et al. 2015, eq. 1, as a mean."""
    return functional.mse_loss(widened(features), widened(target))


@over_positions("mean")
def softmax_difference(features: Tensor, target: Tensor) -> Tensor:
    """Return ``mean_squared_difference`` of ``softened`` features: Wang et al. 2021 (arXiv:2104.05623)."""
    return mean_squared_difference(softened(features), softened(target))


@over_positions("sum")
def half_squared_difference(features: Tensor, target: Tensor) -> Tensor:
    """Return ``½ Σ (F - P)²``: Gatys et al. 2015 (arXiv:1508.06576), eq. 1."""
    return functional.mse_loss(widened(features), widened(target), reduction="sum") / 2


def scaled_squared_difference(gram: Tensor, target: Tensor) -> Tensor:
    """Return ``Σ (G - A)² / 4N²``: Gatys et al. 2015, eq. 4, for Gram matrices divided by their number of positions.

    The paper's ``1 / 4N²M²`` is for sums over the same M positions of both pictures. Dividing each matrix by its own M
    beforehand gives the same value in that case, and keeps its meaning if the pictures differ in size.
    """
    return (gram - target).square().sum() / (4 * gram.shape[0] ** 2)


def mean_and_deviation_difference(found: Tensor, target: Tensor) -> Tensor:
    """Return ``Σ (μ - μ')² + (σ - σ')²``, divided by C: Li et al. 2017 (arXiv:1701.01036), eq. 14.

    The arguments are ``moments`` or ``channel_moments``.
    """
    (mean, deviation), (target_mean, target_deviation) = _mean_and_deviation(found), _mean_and_deviation(target)
    squares = (mean - target_mean).square() + (deviation - target_deviation).square()
    return squares.mean()


def covariance_difference(found: Tensor, target: Tensor) -> Tensor:
    """Return ``mean(((Σ - Σ') / C)²)`` of two ``moments``: the distance of ``gram_per_element`` without the means."""
    return ((_covariance(found) - _covariance(target)) / found.shape[0]).square().mean()


def gaussian_wasserstein(found: Tensor, target: Tensor, *, eps: float) -> Tensor:
    """Return the squared Wasserstein-2 distance of two Gaussians, divided by C, from their ``moments``.

    ``|μ - μ'|² + tr(Σ + Σ' - 2 (Σ'^½ Σ Σ'^½)^½)``: Bures' metric (Dowson and Landau 1982, J. Multivariate Anal. 12,
    eq. 4), a style loss in K. Crowson's style-transfer-pytorch. ``eps``, as a fraction of the target's mean square, is
    added to both variances. Then features that never vary have a gradient, and variances below the rounding error of
    the moments don't determine the gradient, at any scale of the features.
    """
    channels = found.shape[0]
    if not found.isfinite().all():  # eigenvalues need finite values
        return found.sum() * float("nan")
    own, style = (exact(each, "factors") for each in (found, target))
    floor = eps * style[:, :-1].trace() / channels + _TINY
    covariance, other = (
        _covariance(each) + floor * torch.eye(channels, dtype=each.dtype, device=each.device) for each in (own, style)
    )
    # Σ'^½ Σ Σ'^½ has the eigenvalues of Lᵀ Σ L with Σ' = L Lᵀ, and a Cholesky factor is fast to compute.
    factor = _factor(other)
    root = _TraceOfRoot.apply(factor.T @ covariance @ factor)
    apart = (own[:, -1] - style[:, -1]).square().sum()
    distance = apart + covariance.trace() + other.trace() - 2 * root
    return (distance / channels).to(found)  # type: ignore[no-any-return]


def sliced_wasserstein(found: Tensor, target: Tensor) -> Tensor:
    """Return the mean squared difference of ``sorted_projections``: Heitz et al. 2021 (arXiv:2006.07229), eqs. 2 and 3.

    Of ``sorted_channels`` it is the mean squared difference of the features and their copy with the histograms of the
    style: Risser et al. 2017 (arXiv:1701.08893), section 4.1. If the two pictures differ in their numbers of positions,
    the target's quantiles are interpolated.
    """
    if found.shape != target.shape:
        target = functional.interpolate(target.unsqueeze(0), size=found.shape[1], mode="linear")[0]
    return functional.mse_loss(found, target)


def shifted_gram_difference(found: Tensor, target: Tensor) -> Tensor:
    """Return ``mean((G(δ) - A(δ))²)`` of two ``gram_of_shifted``, each divided by C·M(δ).

    A shift that is too large for the features of one picture contributes 0. If ``found`` is 0 everywhere, it stands for
    a picture without features.
    """

    def mean(sums: Tensor) -> Tensor:
        return sums[..., :-1] / (sums.shape[1] * sums[..., -1:]).clamp(min=1e-12)

    there = found[..., -1:] > 0
    both = (target[..., -1:] > 0) & (there | ~there.any())
    return (both * (mean(found) - mean(target))).square().mean()


def total_variation(image: Tensor, *, exponent: float = 1) -> Tensor:
    """Return the mean of ``|d|^exponent`` over the differences d of neighbouring pixels, down plus across.

    An exponent of 1 gives the anisotropic total variation (Rudin, Osher and Fatemi 1992), which keeps edges; 2 smooths
    edges. Below 1 the slope at d = 0 would be infinite, so ``(d² + δ²)^(exponent/2) - δ^exponent`` with δ = 0.001 is
    used instead.
    """

    def mean(differences: Tensor) -> Tensor:
        if not differences.numel():
            return image.sum() * 0
        if exponent < 1:
            smooth: Tensor = (differences.square() + _SMOOTH**2).pow(exponent / 2) - _SMOOTH**exponent
            return smooth.mean()
        return differences.abs().pow(exponent).mean()

    return mean(image[..., 1:, :] - image[..., :-1, :]) + mean(image[..., :, 1:] - image[..., :, :-1])


def laplacian_difference(image: Tensor, content: Tensor, *, pool: int) -> Tensor:
    """Return ``mean((D p(X) - D p(C))²)`` with the Laplacian D of neighbouring pixels and the mean p of pool × pool px.

    Li et al. 2017 (arXiv:1707.01253), eq. 5, as a mean: the content's lines keep their places. The result is 0 for a
    picture smaller than three pools.
    """
    kernel = image.new_tensor([[0, -1, 0], [-1, 4, -1], [0, -1, 0]]).expand(3, 1, 3, 3)
    pooled = functional.avg_pool2d(image - content, pool)  # both are linear
    if min(pooled.shape[-2:]) < 3:
        return image.sum() * 0
    return functional.conv2d(pooled, kernel, groups=3).square().mean()


class _TraceOfRoot(torch.autograd.Function):
    """The trace of the square root of a symmetric matrix without negative eigenvalues, except by rounding."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh(matrix)
        roots: Tensor = values.clamp(min=torch.finfo(values.dtype).eps * values[-1].clamp(min=0)).sqrt()
        ctx.save_for_backward(roots, vectors)
        return roots.sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        roots: Tensor
        roots, vectors = ctx.saved_tensors
        slope: Tensor = gradient * (vectors / (2 * roots)) @ vectors.T
        return slope


def _factor(matrix: Tensor) -> Tensor:
    """Return L of a symmetric matrix ``L Lᵀ`` without negative eigenvalues, except by rounding."""
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if not int(failed):
        return factor  # type: ignore[no-any-return]
    values, vectors = torch.linalg.eigh(matrix)
    return vectors * values.clamp(min=0).sqrt()  # type: ignore[no-any-return]


def _covariance(moments: Tensor) -> Tensor:
    mean = moments[:, -1]
    return moments[:, :-1] - mean.outer(mean)


def _mean_and_deviation(moments: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and the deviation of each channel, from ``moments`` or ``channel_moments``.

    A channel that never varies has a finite gradient.
    """
    mean = moments[:, -1]
    square = moments[:, 0] if moments.shape[1] == 2 else moments[:, :-1].diagonal()
    return mean, ((square - mean.square()).clamp(min=0) + 1e-12).sqrt()
