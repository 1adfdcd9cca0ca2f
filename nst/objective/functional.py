"""Loss mathematics as pure functions of features (1, C, H, W) and their statistics.

Features may be of 16 bits; what is computed from them is of 32. M = H·W is the number of positions.

A statistic may weigh the positions, by ``weights`` (1, 1, H, W) whose mean over the whole picture is 1: those of a
region are its mask, divided by its area (Gatys et al. 2017, arXiv:1611.07865, eq. 5). None weighs all alike.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

F = TypeVar("F", bound=Callable[..., Tensor])

#: Values of 16-bit features that are widened at a time, so that the copy stays in the processor's cache.
_CHUNK = 2**18

#: Differences of pixels below which ``|d|^exponent`` is smooth where the exponent is below 1: a quarter of a step of
#: 8 bits.
_SMOOTH = 1e-3

#: A variance for the features of a style that are all 0.
_TINY = 1e-12


def over_positions(kind: Literal["mean", "sum"]) -> Callable[[F], F]:
    """Marks a function of features as a mean or a sum over their positions, which tiles can therefore share."""

    def mark(function: F) -> F:
        function.over_positions = kind  # type: ignore[attr-defined]
        return function

    return mark


def combines(function: object) -> Literal["mean", "sum"] | None:
    """How tiles share a function of features, bare or with some of its arguments given; None is: they can't."""
    return getattr(getattr(function, "func", function), "over_positions", None)


def region_weights(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """The weights of a layer's positions (1, 1, H, W), of mean 1, in a region of the picture: ``mask`` (1, 1, h, w).

    A position weighs what the mask has, on average, over the pixels that it stands for. So it counts in as far as it
    is within; what it reads of its surroundings may be outside (the simplest of the guidance channels of Gatys et al.
    2017, arXiv:1611.07865, section 4).
    """
    weights = functional.interpolate(mask.cpu().double(), size=size, mode="area")  # MPS lacks it for odd sizes
    return (weights / weights.mean()).to(mask)


def reach(function: object) -> int:
    """How many positions beyond its own, to the right and below, a function of features looks at."""
    given = getattr(function, "keywords", {})
    return int(max(given["shifts"])) if getattr(function, "func", function) is gram_of_shifted else 0


def kept_bytes(statistic: object, positions: int, *, weighted: bool) -> int:
    """About what a statistic that tiles can't share takes beyond the features, until the backward pass is over."""
    function, given = getattr(statistic, "func", statistic), getattr(statistic, "keywords", {})
    if function is sorted_projections:  # their values, sorted, and where these come from
        return (36 if weighted else 20) * int(given["directions"]) * positions
    return 0


@over_positions("mean")
def mean_squared_difference(features: Tensor, target: Tensor) -> Tensor:
    """``mean((F - P)²)``, the content loss of common implementations: Gatys et al. 2015, eq. 1, as a mean."""
    return (_wide(features) - _wide(target)).square().mean()


@over_positions("sum")
def half_squared_difference(features: Tensor, target: Tensor) -> Tensor:
    """``½ Σ (F - P)²``: Gatys et al. 2015 (arXiv:1508.06576), eq. 1."""
    return (_wide(features) - _wide(target)).square().sum() / 2


@over_positions("mean")
def gram_per_position(features: Tensor, weights: Tensor | None = None) -> Tensor:
    """``F Fᵀ / M``, shape (C, C), over the M = H·W positions: Gatys et al. 2015, eq. 3, there without the ``/ M``."""
    return _gram(features, weights) / features[0, 0].numel()


@over_positions("mean")
def gram_per_element(features: Tensor, weights: Tensor | None = None) -> Tensor:
    """``F Fᵀ / (C·H·W)``, shape (C, C): the normalization of common implementations."""
    return _gram(features, weights) / features[0].numel()


@over_positions("mean")
def moments(features: Tensor, weights: Tensor | None = None) -> Tensor:
    """``[F Fᵀ / M | F 1 / M]``, shape (C, C + 1): the second moments of the C values at a position, and their means."""
    return _moments(features, weights, products=True)


@over_positions("mean")
def channel_moments(features: Tensor, weights: Tensor | None = None) -> Tensor:
    """Each channel's mean square and mean, shape (C, 2): of ``moments`` what ``mean_and_deviation`` needs."""
    return _moments(features, weights, products=False)


@over_positions("sum")
def gram_of_shifted(
    features: Tensor, weights: Tensor | None = None, *, shifts: Sequence[int], own: tuple[int, int] | None = None
) -> Tensor:
    """``[Σ F(x) F(x + δ)ᵀ | M(δ)]``, over the M(δ) pairs of positions, for shifts right and down: (2·shifts, C, C + 1).

    Berger and Memisevic 2016 (arXiv:1606.01286), eq. 5: what recurs at a distance, which a Gram matrix doesn't see. A
    pair weighs the geometric mean of its positions' ``weights``, so that it counts where both are in the region, and
    M(δ) is the sum of these. Of a tile only the ``own`` (height, width) positions are the first of a pair.
    """
    return _Shifted.apply(features, weights, tuple(shifts), own)  # type: ignore[no-any-return]


def sorted_projections(features: Tensor, weights: Tensor | None = None, *, directions: int, seed: int) -> Tensor:
    """The positions' values along fixed random directions, (directions, M), each sorted: quantiles of each projection.

    Heitz et al. 2021 (arXiv:2006.07229), section 3, who draw the directions anew for each evaluation; an optimizer
    that compares evaluations, as L-BFGS, needs them fixed. With ``weights`` they are as many quantiles of the weighted
    values.
    """
    axes = _axes(features.shape[1], directions, seed, features.device, _wide(features[..., :0]).dtype)
    values, order = (_wide(_positions(features)) @ axes).T.contiguous().sort(dim=1)
    if weights is None:
        return values
    exact = weights.flatten().to(torch.float32 if weights.device.type == "mps" else torch.float64)
    levels = (torch.arange(len(exact), device=exact.device, dtype=exact.dtype) + 0.5) / len(exact) * exact.sum()
    places = torch.empty_like(order)
    for place, row in zip(places, order, strict=True):  # one direction at a time, to spare memory
        torch.searchsorted(exact[row].cumsum(0), levels, out=place)
    return values.gather(1, places.clamp_(max=len(exact) - 1))


def scaled_squared_difference(gram: Tensor, target: Tensor) -> Tensor:
    """``Σ (G - A)² / 4N²``: Gatys et al. 2015, eq. 4, for Gram matrices divided by their number of positions.

    The paper's ``1 / 4N²M²`` holds for sums over the same M positions on both sides. Dividing each matrix by its own
    M beforehand is equal there, and still means the same when the two pictures differ in size.
    """
    return (gram - target).square().sum() / (4 * gram.shape[0] ** 2)


def mean_and_deviation_difference(found: Tensor, target: Tensor) -> Tensor:
    """``Σ (μ - μ')² + (σ - σ')²``, over C: Li et al. 2017 (arXiv:1701.01036), eq. 14. Takes either kind of moments."""
    (mean, deviation), (target_mean, target_deviation) = _mean_and_deviation(found), _mean_and_deviation(target)
    squares = (mean - target_mean).square() + (deviation - target_deviation).square()
    return squares.mean()


def covariance_difference(found: Tensor, target: Tensor) -> Tensor:
    """``mean(((Σ - Σ') / C)²)``: the distance of ``gram_per_element`` without the means. Takes ``moments``."""
    return ((_covariance(found) - _covariance(target)) / found.shape[0]).square().mean()


def gaussian_wasserstein(found: Tensor, target: Tensor, *, eps: float) -> Tensor:
    """``|μ - μ'|² + tr(Σ + Σ' - 2 (Σ'^½ Σ Σ'^½)^½)``, over C: the squared Wasserstein-2 distance of two Gaussians.

    Bures' metric (Dowson and Landau 1982, J. Multivariate Anal. 12, eq. 4), as a style loss in K. Crowson's
    style-transfer-pytorch. Takes ``moments``. ``eps``, as a fraction of the target's mean square, is added to both
    variances. Features that never vary then have a gradient, and variances below the rounding of the moments don't
    decide it, whatever the scale of the features.
    """
    channels = found.shape[0]
    if not found.isfinite().all():  # of which there are no eigenvalues
        return found.sum() * float("nan")
    exact, style = (
        (each.cpu() if each.device.type == "mps" else each).double()  # MPS has neither the type nor eigenvalues
        for each in (found, target)
    )
    floor = eps * style[:, :-1].trace() / channels + _TINY
    covariance, other = (
        _covariance(each) + floor * torch.eye(channels, dtype=each.dtype, device=each.device) for each in (exact, style)
    )
    # Σ'^½ Σ Σ'^½ has the eigenvalues of Lᵀ Σ L, where Σ' = L Lᵀ; and a Cholesky factor is soon found.
    factor = _factor(other)
    root = _TraceOfRoot.apply(factor.T @ covariance @ factor)
    apart = (exact[:, -1] - style[:, -1]).square().sum()
    distance = apart + covariance.trace() + other.trace() - 2 * root
    return (distance / channels).to(found)  # type: ignore[no-any-return]


def sliced_wasserstein(found: Tensor, target: Tensor) -> Tensor:
    """The mean squared difference of ``sorted_projections``: Heitz et al. 2021 (arXiv:2006.07229), eqs. 2 and 3.

    Where the two pictures differ in their numbers of positions, the target's quantiles are interpolated.
    """
    if found.shape != target.shape:
        target = functional.interpolate(target.unsqueeze(0), size=found.shape[1], mode="linear")[0]
    return (found - target).square().mean()


def shifted_gram_difference(found: Tensor, target: Tensor) -> Tensor:
    """``mean((G(δ) - A(δ))²)``, each ``gram_of_shifted`` over C·M(δ); a shift that leaves the features of one is 0.

    0 in all of ``found`` stands for a picture without features.
    """

    def mean(sums: Tensor) -> Tensor:
        return sums[..., :-1] / (sums.shape[1] * sums[..., -1:]).clamp(min=1e-12)

    there = found[..., -1:] > 0
    both = (target[..., -1:] > 0) & (there | ~there.any())
    return (both * (mean(found) - mean(target))).square().mean()


def total_variation(image: Tensor, *, exponent: float = 1) -> Tensor:
    """Mean of ``|d|^exponent`` over the differences d of neighbouring pixels, down plus across.

    At 1 the anisotropic total variation (Rudin, Osher and Fatemi 1992), which keeps edges; at 2 what smooths them.
    Below 1, where the slope at d = 0 is infinite, it is ``(d² + δ²)^(exponent/2) - δ^exponent`` with δ = 0.001.
    """

    def mean(differences: Tensor) -> Tensor:
        if not differences.numel():
            return image.sum() * 0
        if exponent < 1:
            return ((differences.square() + _SMOOTH**2).pow(exponent / 2) - _SMOOTH**exponent).mean()
        return differences.abs().pow(exponent).mean()

    return mean(image[..., 1:, :] - image[..., :-1, :]) + mean(image[..., :, 1:] - image[..., :, :-1])


def laplacian_difference(image: Tensor, content: Tensor, *, pool: int) -> Tensor:
    """``mean((D p(X) - D p(C))²)``, D the Laplacian of neighbouring pixels and p an average over pool × pool of them.

    Li et al. 2017 (arXiv:1707.01253), eq. 5, as a mean: the content's lines stay where they are. 0 for a picture that
    is smaller than three pools.
    """
    kernel = image.new_tensor([[0, -1, 0], [-1, 4, -1], [0, -1, 0]]).expand(3, 1, 3, 3)
    pooled = functional.avg_pool2d(image - content, pool)  # both are linear
    if min(pooled.shape[-2:]) < 3:
        return image.sum() * 0
    return functional.conv2d(pooled, kernel, groups=3).square().mean()


def _wide(x: Tensor) -> Tensor:
    return x if x.element_size() >= 4 else x.float()


@lru_cache(maxsize=32)
def _axes(channels: int, number: int, seed: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Random directions (channels, number) of length 1, the same on every device."""
    axes = torch.randn(channels, number, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return functional.normalize(axes, dim=0).to(device, dtype)


class _Gram(torch.autograd.Function):
    """``F W Fᵀ`` over the positions, W their weights."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weights: Tensor | None) -> Tensor:
        ctx.save_for_backward(features, weights)
        return _products(_positions(features), weights=weights)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        features, weights = ctx.saved_tensors
        return _weighted(_gram_gradient(features, gradient), weights), None


class _Moments(torch.autograd.Function):
    """``[F W Fᵀ | F W 1]``, (C, C + 1), or where these aren't asked for ``[diag(F W Fᵀ) | F W 1]``, (C, 2)."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weights: Tensor | None, products: bool) -> Tensor:
        ctx.save_for_backward(features, weights)
        ctx.products = products
        positions = _positions(features)
        sums, squares = (positions.new_zeros(positions.shape[1], dtype=_wide(positions[:0]).dtype) for _ in range(2))
        for part, weight in _in_parts(positions, weights):
            wide = _wide(part)
            weighted = wide if weight is None else wide * weight
            sums += weighted.sum(0)
            if not products:
                squares += (weighted * wide).sum(0)
        second = _products(positions, weights=weights) if products else squares.unsqueeze(1)
        return torch.cat([second, sums.unsqueeze(1)], dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        features, weights = ctx.saved_tensors
        second, first = gradient[:, :-1], gradient[:, -1].view(1, -1, 1, 1)
        if ctx.products:
            slope = _exactly_mixed(features, second + second.T).add_(first)
        else:
            slope = features * (2 * second).view(1, -1, 1, 1) + first
        return _weighted(slope, weights), None, None


class _Shifted(torch.autograd.Function):
    """``gram_of_shifted``, whose gradient takes no more than the features do."""

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weights: Tensor | None, shifts: tuple[int, ...], own: tuple[int, int] | None
    ) -> Tensor:
        ctx.save_for_backward(features, weights)
        ctx.pairs = list(_pairs(features.shape, shifts, own))
        channels = features.shape[1]
        sums = features.new_zeros((2 * len(shifts), channels, channels + 1), dtype=_wide(features[..., :0]).dtype)
        for place, here, there in ctx.pairs:
            weight = _of_pairs(weights, here, there)
            sums[place, :, :-1] = _products(_positions(features[here]), _positions(features[there]), weights=weight)
            sums[place, :, -1] = features[here][0, 0].numel() if weight is None else weight.sum()
        return sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        features, weights = ctx.saved_tensors
        total = torch.zeros_like(features)
        for place, here, there in ctx.pairs:
            slope, weight = gradient[place, :, :-1], _of_pairs(weights, here, there)
            total[here] += _weighted(_mixed(features[there], slope.T), weight)
            total[there] += _weighted(_mixed(features[here], slope), weight)
        return total, None, None, None


def _pairs(
    shape: Sequence[int], shifts: Sequence[int], own: tuple[int, int] | None
) -> Iterator[tuple[int, tuple[Any, ...], tuple[Any, ...]]]:
    """For each shift right, and each down, that stays within features: its number, and where both ends of pairs are."""
    height, width = shape[-2:]
    rows, columns = (height, width) if own is None else own
    for number, shift in enumerate(shifts):
        across, down = min(columns, width - shift), min(rows, height - shift)
        if across > 0:
            yield (
                2 * number,
                (..., slice(0, rows), slice(0, across)),
                (..., slice(0, rows), slice(shift, shift + across)),
            )
        if down > 0:
            yield (
                2 * number + 1,
                (..., slice(0, down), slice(0, columns)),
                (..., slice(shift, shift + down), slice(0, columns)),
            )


def _of_pairs(weights: Tensor | None, here: tuple[Any, ...], there: tuple[Any, ...]) -> Tensor | None:
    """The geometric means of the weights of both ends."""
    return None if weights is None else (weights[here] * weights[there]).sqrt()


class _TraceOfRoot(torch.autograd.Function):
    """The trace of the square root of a symmetric matrix that has no negative eigenvalues but by rounding."""

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
    """L of a symmetric matrix ``L Lᵀ`` that has no negative eigenvalues but by rounding."""
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if not int(failed):
        return factor  # type: ignore[no-any-return]
    values, vectors = torch.linalg.eigh(matrix)
    return vectors * values.clamp(min=0).sqrt()  # type: ignore[no-any-return]


def _covariance(moments: Tensor) -> Tensor:
    mean = moments[:, -1]
    return moments[:, :-1] - mean.outer(mean)


def _mean_and_deviation(moments: Tensor) -> tuple[Tensor, Tensor]:
    """Each channel's, from either kind of moments. A channel that never varies has a finite gradient."""
    mean = moments[:, -1]
    square = moments[:, 0] if moments.shape[1] == 2 else moments[:, :-1].diagonal()
    return mean, ((square - mean.square()).clamp(min=0) + 1e-12).sqrt()


def _products(positions: Tensor, others: Tensor | None = None, *, weights: Tensor | None = None) -> Tensor:
    """``Aᵀ W B`` of (M, C), of at least 32 bits: near the end the losses are small differences of large sums.

    ``others`` are ``positions`` where they aren't given.
    """
    if others is None:
        others = positions
    if positions.element_size() >= 4:
        return positions.T @ (others if weights is None else others * _column(weights, others))
    if positions.device.type == "cuda" and weights is None:
        return torch.mm(positions.T, others, out_dtype=torch.float32)
    total = positions.new_zeros((positions.shape[1],) * 2, dtype=torch.float32)
    for (part, weight), other in zip(_in_parts(positions, weights), _split(others), strict=True):
        wide = part.float()
        second = wide if others is positions else other.float()
        total.addmm_(wide.T, second if weight is None else second * weight)
    return total


def _in_parts(positions: Tensor, weights: Tensor | None) -> Iterator[tuple[Tensor, Tensor | None]]:
    """The positions (M, C), some at a time, each with its weights as a column where there are any."""
    parts = _split(positions)
    if weights is None:
        yield from ((part, None) for part in parts)
    else:
        column = _column(weights, positions)
        yield from zip(parts, torch.split(column, len(parts[0])), strict=True)


def _split(positions: Tensor) -> tuple[Tensor, ...]:
    """The positions (M, C), some at a time."""
    return torch.split(positions, max(1, _CHUNK // positions.shape[1]))


def _column(weights: Tensor, like: Tensor) -> Tensor:
    """Positions' weights as a column (M, 1) for features as (M, C), of at least 32 bits."""
    return weights.reshape(-1, 1).to(_wide(like[:0]).dtype)


def _weighted(gradient: Tensor, weights: Tensor | None) -> Tensor:
    """Features' gradient (1, C, H, W), which is overwritten, times the positions' weights."""
    return gradient if weights is None else gradient.mul_(weights.to(gradient.dtype))


def _mixed(features: Tensor, matrix: Tensor) -> Tensor:
    """Features whose values at each position are those of the given ones times a matrix (C, C)."""
    _, channels, height, width = features.shape
    flat = _positions(features) @ matrix.to(features.dtype)
    return flat.view(1, height, width, channels).permute(0, 3, 1, 2)


def _exactly_mixed(features: Tensor, matrix: Tensor) -> Tensor:
    """``_mixed`` by a product of at least 32 bits, for matrices whose entries cancel at most positions.

    That of ``gaussian_wasserstein`` is large along the directions in which the features hardly vary. Rounded to 16 bits
    it left a gradient whose cosine to the exact one was 0.5.
    """
    _, channels, height, width = features.shape
    positions = _positions(features)
    flat = torch.empty_like(positions, memory_format=torch.contiguous_format)
    for (part, _), out in zip(_in_parts(positions, None), _split(flat), strict=True):
        out.copy_(_wide(part) @ matrix)
    return flat.view(1, height, width, channels).permute(0, 3, 1, 2)


def _gram_gradient(features: Tensor, gradient: Tensor) -> Tensor:
    """Of ``F Fᵀ``. That it is symmetric halves the work: ``(dG + dGᵀ) F``."""
    return _mixed(features, gradient + gradient.T)


def _gram(features: Tensor, weights: Tensor | None) -> Tensor:
    return _Gram.apply(features, weights)  # type: ignore[no-any-return]


def _moments(features: Tensor, weights: Tensor | None, *, products: bool) -> Tensor:
    sums: Tensor = _Moments.apply(features, weights, products)
    return sums / features[0, 0].numel()


def _positions(features: Tensor) -> Tensor:
    """The features as (H·W, C): a view where the channels lie side by side."""
    return features[0].permute(1, 2, 0).flatten(0, 1)
