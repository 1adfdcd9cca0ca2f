"""Statistics of a layer's features: pure functions of features (1, C, H, W), of 16 bits or more.

A statistic may weight the positions, by ``weights`` (1, 1, H, W) with mean 1 over the whole picture. The weights of a
region are its mask divided by its area (Gatys et al. 2017, arXiv:1611.07865, eq. 5). None weights all positions alike.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from nst.encoder.precision import abilities, exact
from nst.objective.products import (
    as_rows,
    gram_gradient,
    mix,
    mix_exactly,
    sum_of_products,
    times_weights,
    weighted_chunks,
    widened,
)

F = TypeVar("F", bound=Callable[..., Tensor])


def over_positions(kind: Literal["mean", "sum"]) -> Callable[[F], F]:
    """Return a decorator that marks a function of features as a mean or a sum over positions, computable in tiles."""

    def mark(function: F) -> F:
        function.over_positions = kind  # type: ignore[attr-defined]
        return function

    return mark


def combines(function: object) -> Literal["mean", "sum"] | None:
    """Return how a function of features, bare or partial, adds up over tiles; None if it can't be computed in tiles."""
    return getattr(getattr(function, "func", function), "over_positions", None)


def region_weights(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the weights (1, 1, H, W), with mean 1, of a layer's positions in a region, ``mask`` (1, 1, h, w).

    The weight of a position is the mean of the mask over the pixels that the position represents. So a position counts
    as far as it is within the region; the surroundings that it reads may be outside (the simplest of the guidance
    channels of Gatys et al. 2017, arXiv:1611.07865, section 4).
    """
    weights = functional.interpolate(exact(mask, "area_means"), size=size, mode="area")
    return (weights / weights.mean()).to(mask)


def reach(function: object) -> int:
    """Return how many positions beyond its own, to the right and below, a function of features reads."""
    given = getattr(function, "keywords", {})
    return int(max(given["shifts"])) if getattr(function, "func", function) is gram_of_shifted else 0


def kept_bytes(statistic: object, shape: Sequence[int], *, weighted: bool) -> int:
    """Return an estimate of the bytes of a statistic beyond the features, kept until the backward pass is over.

    ``shape`` is that of the features, (1, C, H, W). Most statistics that can be computed in tiles keep nothing.
    """
    function, given = getattr(statistic, "func", statistic), getattr(statistic, "keywords", {})
    if function is gram_of_softmax:  # the softmax, and its multiple
        return 8 * math.prod(shape)
    if function in (sorted_projections, sorted_channels):  # the values, sorted, and their sources
        return (36 if weighted else 20) * (given.get("directions") or shape[1]) * shape[2] * shape[3]
    return 0


@over_positions("mean")
def gram_per_position(features: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return ``F Fᵀ / M``, shape (C, C), over the M = H·W positions: Gatys et al. 2015, eq. 3, without its ``/ M``."""
    return _gram(features, weights) / features[0, 0].numel()


@over_positions("mean")
def gram_per_element(features: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return ``F Fᵀ / (C·H·W)``, shape (C, C): the normalization of common implementations."""
    return _gram(features, weights) / features[0].numel()


@over_positions("mean")
def gram_of_softmax(features: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return ``gram_per_element`` of ``softened`` features, shape (C, C): Wang et al. 2021 (arXiv:2104.05623)."""
    return gram_per_element(softened(features), weights)


@over_positions("mean")
def moments(features: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return ``[F Fᵀ / M | F 1 / M]``, shape (C, C + 1): the second moments and the means of the C channels."""
    return _moments(features, weights, products=True)


@over_positions("mean")
def channel_moments(features: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return each channel's mean square and mean, shape (C, 2).

    These are the part of ``moments`` that ``mean_and_deviation_difference`` needs.
    """
    return _moments(features, weights, products=False)


@over_positions("sum")
def gram_of_shifted(
    features: Tensor, weights: Tensor | None = None, *, shifts: Sequence[int], own: tuple[int, int] | None = None
) -> Tensor:
    """Return ``[Σ F(x) F(x + δ)ᵀ | M(δ)]`` over pairs of positions, for shifts right and down: (2·shifts, C, C + 1).

    M(δ) is the number of pairs. Berger and Memisevic 2016 (arXiv:1606.01286), eq. 5: captures repetition at a distance,
    which a Gram matrix doesn't. The weight of a pair is the geometric mean of its positions' ``weights``, so a pair
    counts if both positions are in the region, and M(δ) is then the sum of the pairs' weights. In a tile, only the
    ``own`` (height, width) positions are the first of a pair.
    """
    return _Shifted.apply(features, weights, tuple(shifts), own)  # type: ignore[no-any-return]


def softened(features: Tensor) -> Tensor:
    """Return the softmax over the channels of each position, times C, so that its mean is 1.

    Few strong activations dominate the Gram matrices of networks with residual connections. The softmax raises their
    entropy (Wang et al. 2021, arXiv:2104.05623, SWAG).
    """
    return features.softmax(dim=1) * features.shape[1]


def sorted_projections(features: Tensor, weights: Tensor | None = None, *, directions: int | None, seed: int) -> Tensor:
    """Return the features projected on fixed random directions, (directions, M), sorted: quantiles of each projection.

    Heitz et al. 2021 (arXiv:2006.07229), section 3, draw new directions for each evaluation; an optimizer that compares
    evaluations, such as L-BFGS, needs fixed ones. None stands for as many directions as there are channels: with fewer,
    the optimizer fits these directions instead of the distribution, and near the end 16-bit gradients are inexact.
    With ``weights``, the result has as many quantiles of the weighted values.
    """
    return _sorted(projections(features, directions=directions, seed=seed), weights)


def projections(features: Tensor, *, directions: int | None, seed: int) -> Tensor:
    """Return the features projected on fixed random directions, (directions, M); None: as many as channels."""
    channels = features.shape[1]
    axes = _axes(channels, directions or channels, seed, features.device, widened(features[..., :0]).dtype)
    return (widened(as_rows(features)) @ axes).T.contiguous()


def sorted_channels(features: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the features of each channel, (C, M), sorted: quantiles, which stand for its histogram.

    With ``weights``, the result has as many quantiles of the weighted values.
    """
    return _sorted(widened(as_rows(features)).T.contiguous(), weights)


def _sorted(values: Tensor, weights: Tensor | None) -> Tensor:
    """Return the rows of values (K, M) sorted, or as M quantiles of the weighted values."""
    values, order = values.sort(dim=1)
    if weights is None:
        return values
    wide = weights.flatten().to(abilities(weights.device).widest)
    levels = (torch.arange(len(wide), device=wide.device, dtype=wide.dtype) + 0.5) / len(wide) * wide.sum()
    places = torch.empty_like(order)
    for place, row in zip(places, order, strict=True):  # one direction at a time, to spare memory
        torch.searchsorted(wide[row].cumsum(0), levels, out=place)
    return values.gather(1, places.clamp_(max=len(wide) - 1))


@lru_cache(maxsize=32)
def _axes(channels: int, number: int, seed: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return random directions (channels, number) of length 1, the same on every device."""
    axes = torch.randn(channels, number, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return functional.normalize(axes, dim=0).to(device, dtype)


class _Gram(torch.autograd.Function):
    """``F W Fᵀ`` over the positions, with W their weights."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weights: Tensor | None) -> Tensor:
        ctx.save_for_backward(features, weights)
        return sum_of_products(as_rows(features), weights=weights)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        features, weights = ctx.saved_tensors
        return times_weights(gram_gradient(features, gradient), weights), None


class _Moments(torch.autograd.Function):
    """``[F W Fᵀ | F W 1]``, (C, C + 1), or without ``products`` ``[diag(F W Fᵀ) | F W 1]``, (C, 2)."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weights: Tensor | None, products: bool) -> Tensor:
        ctx.save_for_backward(features, weights)
        ctx.products = products
        positions = as_rows(features)
        sums, squares = (positions.new_zeros(positions.shape[1], dtype=widened(positions[:0]).dtype) for _ in range(2))
        for part, weight in weighted_chunks(positions, weights):
            wide = widened(part)
            weighted = wide if weight is None else wide * weight
            sums += weighted.sum(0)
            if not products:
                squares += (weighted * wide).sum(0)
        second = sum_of_products(positions, weights=weights) if products else squares.unsqueeze(1)
        return torch.cat([second, sums.unsqueeze(1)], dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        features, weights = ctx.saved_tensors
        second, first = gradient[:, :-1], gradient[:, -1].view(1, -1, 1, 1)
        if ctx.products:
            slope = mix_exactly(features, second + second.T).add_(first)
        else:
            slope = features * (2 * second).view(1, -1, 1, 1) + first
        return times_weights(slope, weights), None, None


class _Shifted(torch.autograd.Function):
    """``gram_of_shifted``, with a gradient that takes no more memory than the features."""

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weights: Tensor | None, shifts: tuple[int, ...], own: tuple[int, int] | None
    ) -> Tensor:
        ctx.save_for_backward(features, weights)
        ctx.pairs = list(_pairs(features.shape, shifts, own))
        channels = features.shape[1]
        sums = features.new_zeros((2 * len(shifts), channels, channels + 1), dtype=widened(features[..., :0]).dtype)
        for place, here, there in ctx.pairs:
            weight = _of_pairs(weights, here, there)
            sums[place, :, :-1] = sum_of_products(as_rows(features[here]), as_rows(features[there]), weights=weight)
            sums[place, :, -1] = features[here][0, 0].numel() if weight is None else weight.sum()
        return sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        features, weights = ctx.saved_tensors
        total = torch.zeros_like(features)
        for place, here, there in ctx.pairs:
            slope, weight = gradient[place, :, :-1], _of_pairs(weights, here, there)
            total[here] += times_weights(mix(features[there], slope.T), weight)
            total[there] += times_weights(mix(features[here], slope), weight)
        return total, None, None, None


def _pairs(
    shape: Sequence[int], shifts: Sequence[int], own: tuple[int, int] | None
) -> Iterator[tuple[int, tuple[Any, ...], tuple[Any, ...]]]:
    """Yield the number of each shift right and down, and the indices of the first and the second ends of its pairs.

    Shifts that are too large for the features are left out.
    """
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
    """Return the geometric means of the weights of both ends of the pairs; None without weights."""
    return None if weights is None else (weights[here] * weights[there]).sqrt()


def _gram(features: Tensor, weights: Tensor | None) -> Tensor:
    return _Gram.apply(features, weights)  # type: ignore[no-any-return]


def _moments(features: Tensor, weights: Tensor | None, *, products: bool) -> Tensor:
    sums: Tensor = _Moments.apply(features, weights, products)
    return sums / features[0, 0].numel()
