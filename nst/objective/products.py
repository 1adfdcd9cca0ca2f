"""Sums of products over the positions of features, and their gradients."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from nst.encoder.precision import abilities

#: Lengths of vectors below this are rounded up to it, so that a vector of length 0 has a direction.
TINY = 1e-8

#: Number of 16-bit values that are widened at a time; small enough for the copy to stay in the processor's cache.
_CHUNK = 2**18


def widened(x: Tensor) -> Tensor:
    return x if x.element_size() >= 4 else x.float()


def unit_rows(rows: Tensor) -> Tensor:
    """Return the rows (M, C), of at least 32 bits, divided by their lengths; a row of length 0 stays 0."""
    return functional.normalize(rows, dim=1, eps=TINY)


def sum_of_products(positions: Tensor, others: Tensor | None = None, *, weights: Tensor | None = None) -> Tensor:
    """Return ``Aᵀ W B`` of (M, C) in at least 32 bits: near the end the losses are small differences of large sums.

    A are the ``positions``, B the ``others``, by default equal to A, and W the ``weights``.
    """
    if others is None:
        others = positions
    if positions.element_size() >= 4:
        return positions.T @ (others if weights is None else others * as_column(weights, others))
    if weights is None and abilities(positions.device).wide_products:
        return torch.mm(positions.T, others, out_dtype=torch.float32)
    total = positions.new_zeros((positions.shape[1],) * 2, dtype=torch.float32)
    for (part, weight), other in zip(weighted_chunks(positions, weights), chunks(others), strict=True):
        wide = part.float()
        second = wide if others is positions else other.float()
        total.addmm_(wide.T, second if weight is None else second * weight)
    return total


def weighted_chunks(positions: Tensor, weights: Tensor | None) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Yield chunks of the positions (M, C), each with its weights as a column, or with None."""
    parts = chunks(positions)
    if weights is None:
        yield from ((part, None) for part in parts)
    else:
        column = as_column(weights, positions)
        yield from zip(parts, torch.split(column, len(parts[0])), strict=True)


def chunks(positions: Tensor) -> tuple[Tensor, ...]:
    """Return the positions (M, C) in chunks."""
    return torch.split(positions, max(1, _CHUNK // positions.shape[1]))


def as_column(weights: Tensor, like: Tensor) -> Tensor:
    """Return the weights of positions as a column (M, 1) for features (M, C), in at least 32 bits."""
    return weights.reshape(-1, 1).to(widened(like[:0]).dtype)


def times_weights(gradient: Tensor, weights: Tensor | None) -> Tensor:
    """Return the gradient of features (1, C, H, W), which is overwritten, times the weights of the positions."""
    return gradient if weights is None else gradient.mul_(weights.to(gradient.dtype))


def mix(features: Tensor, matrix: Tensor) -> Tensor:
    """Return the features with the values at each position multiplied by a matrix (C, C)."""
    _, channels, height, width = features.shape
    flat = as_rows(features) @ matrix.to(features.dtype)
    return flat.view(1, height, width, channels).permute(0, 3, 1, 2)


def mix_exactly(features: Tensor, matrix: Tensor) -> Tensor:
    """Return ``mix`` by a product of at least 32 bits, for matrices with entries that cancel at most positions.

    The matrix of ``gaussian_wasserstein`` is large along the directions in which the features hardly vary. Rounded to
    16 bits, that matrix gave a gradient with a cosine of 0.5 to the exact one.
    """
    _, channels, height, width = features.shape
    positions = as_rows(features)
    flat = torch.empty_like(positions, memory_format=torch.contiguous_format)
    for (part, _), out in zip(weighted_chunks(positions, None), chunks(flat), strict=True):
        out.copy_(widened(part) @ matrix)
    return flat.view(1, height, width, channels).permute(0, 3, 1, 2)


def gram_gradient(features: Tensor, gradient: Tensor) -> Tensor:
    """Return the gradient of ``F Fᵀ``: ``(dG + dGᵀ) F``. Symmetry halves the work."""
    return mix(features, gradient + gradient.T)


def as_rows(features: Tensor) -> Tensor:
    """Return the features as (H·W, C): a view if the channels are contiguous in memory."""
    return features[0].permute(1, 2, 0).flatten(0, 1)
