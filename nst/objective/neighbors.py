"""Terms on nearest neighbours: each position of the picture is compared with the most similar one of the style."""

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from nst.encoder.precision import able
from nst.image import detail
from nst.objective.products import TINY, as_rows, unit_rows, widened
from nst.objective.reading import Reading
from nst.objective.terms import JointTerm

log = logging.getLogger(__name__)

#: Numbers of keys and of queries whose similarities are in memory at a time; they stay in the processor's cache.
_KEYS, _QUERIES = 2048, 1024

#: Number of groups of keys whose largest similarities are found first.
_GROUPS = 64

#: Largest number of positions of a side that ``FeatureSplitting`` samples.
_SIDE = 64


@torch.no_grad()
def nearest(queries: Tensor, keys: Tensor, *, centred: bool, telling: bool = False) -> Tensor:
    """Return the index (M,) of the key (K, C) with the largest cosine to each query (M, C).

    If ``centred``, the means of the queries and of the keys are subtracted first. Only the similarities of some queries
    with some keys are in memory. Of features of 16 bits the best of some keys is found with 16 bits, and the best of
    these with 32. If ``telling``, the log says how long it takes if that is long.
    """
    narrow = queries.dtype
    means = [_mean_row(rows) if centred else None for rows in (queries, keys)]
    units = torch.cat([_unit(part, means[0], narrow) for part in torch.split(queries, _QUERIES)])
    best = torch.full((len(queries),), -math.inf, device=queries.device, dtype=widened(queries[:0]).dtype)
    index = torch.zeros(len(queries), dtype=torch.long, device=queries.device)
    similar = units.new_empty((min(_QUERIES, len(queries)), min(_KEYS, len(keys))))
    begun = time.monotonic()
    for start in range(0, len(keys), _KEYS):
        if telling and start and (passed := time.monotonic() - begun) > 5:
            seconds, begun = passed * len(keys) / start, math.inf  # is told once
            log.info("Finding %d neighbours among %d features takes about %.0f s", len(queries), len(keys), seconds)
        block = _unit(keys[start : start + _KEYS], means[1], narrow)
        for first in range(0, len(queries), _QUERIES):
            part = units[first : first + _QUERIES]
            here = similar[: len(part), : len(block)]
            found = _largest(torch.mm(part, block.T, out=here))
            scores = (widened(part) * widened(block[found])).sum(1)
            own = slice(first, first + len(part))
            better = scores > best[own]
            best[own] = torch.where(better, scores, best[own])
            index[own] = torch.where(better, found + start, index[own])
    return index


def _largest(similar: Tensor) -> Tensor:
    """Return the index of the largest entry of each row (M, K), by maxima of groups of columns.

    PyTorch finds maxima of 16 bits on a CPU 15 times as fast as their indices.
    """
    number, columns = similar.shape
    if columns % _GROUPS:
        return similar.argmax(dim=1)
    grouped = similar.view(number, columns // _GROUPS, _GROUPS)
    group = grouped.amax(dim=1).argmax(dim=1)
    member = grouped.gather(2, group.view(-1, 1, 1).expand(-1, grouped.shape[1], 1)).argmax(dim=1)[:, 0]
    return member * _GROUPS + group


class NearestNeighbors(JointTerm):
    """The cosine distance of each position's hypercolumn from one of the style, chosen once a scale.

    Kolkin et al. 2022 (arXiv:2203.13215), section 3: the features of all layers, each divided by its number of channels
    and resized to a quarter of the picture's side. The style's hypercolumn of a position is the one most similar to the
    content's, by the cosine of hypercolumns from which their mean is subtracted.

    Args:
        weight: factor among the terms.
        content_share: share α of the content in the picture whose features choose the neighbours; the rest is the
            picture so far. At the first scale it is the content alone.
        turns: how many copies of the style, each turned by a further 90°, have neighbours.
    """

    matches = True

    def __init__(self, *, weight: float, content_share: float, turns: int) -> None:
        self.weight = weight
        self.content_share = content_share
        self.turns = turns

    def kept_bytes(self, shapes: Mapping[str, Sequence[int]], *, weighted: bool) -> int:
        rows = max(shape[2] * shape[3] for shape in shapes.values()) // 16
        numbers = rows * sum(shape[1] for shape in shapes.values())
        # All copies of the style while the neighbours are found; what an evaluation keeps is less.
        return numbers * (4 * self.turns + 4 * 4) + rows * _KEYS * 4

    def target(self, style: Reading, *turned: Reading) -> Sequence[Tensor]:
        """Return the style's hypercolumns, (K, C of all layers)."""
        return [torch.cat([_within(_hypercolumns(each), _grid_weights(each)) for each in (style, *turned)])]

    def match(
        self, target: Sequence[Tensor], read: Callable[[Tensor], Reading], content: Tensor, picture: Tensor | None
    ) -> Sequence[Tensor]:
        """Return the nearest hypercolumn of the style for each position, (M, C) for each layer, and its square (M,)."""
        [style] = target
        asked = content
        if picture is not None:
            asked = self.content_share * content + (1 - self.content_share) * (picture + detail(content))
        reading = read(asked)
        queries, weights = _hypercolumns(reading), _grid_weights(reading)
        inside = torch.ones_like(queries[:, 0], dtype=torch.bool) if weights is None else weights.flatten() > 0
        index = torch.zeros(len(queries), dtype=torch.long, device=queries.device)
        index[inside] = nearest(queries[inside], style, centred=True, telling=True)
        chosen = style[index]
        parts = torch.split(chosen, [each.shape[1] for each in reading.features.values()], dim=1)
        squares = torch.stack([widened(part).square().sum(1) for part in parts]).sum(0)
        return [*parts, squares]

    def loss(self, picture: Reading, target: Sequence[Tensor]) -> Tensor:
        *parts, squares = target
        product = square = torch.zeros_like(squares)
        for found, wanted in zip(_on_grid(picture), parts, strict=True):
            rows = widened(as_rows(found)) / found.shape[1]
            product = product + (rows * widened(wanted)).sum(1)
            square = square + rows.square().sum(1)
        cosine = product / (square.clamp(min=TINY) * squares.clamp(min=TINY)).sqrt()
        return _mean(1 - cosine, _grid_weights(picture))


class FeatureSplitting(JointTerm):
    """The distance of each layer's features from the nearest of the style, layer by layer, found at each evaluation.

    Kolkin et al. 2022 (arXiv:2203.13215), section 3: the cosine distance of features from which their mean is
    subtracted, on a grid of at most 64 × 64 positions with a random offset, summed over the layers.

    Args:
        weight: factor among the terms.
        turns: how many copies of the style, each turned by a further 90°, have neighbours.
    """

    draws = True

    def __init__(self, *, weight: float, turns: int) -> None:
        self.weight = weight
        self.turns = turns

    def kept_bytes(self, shapes: Mapping[str, Sequence[int]], *, weighted: bool) -> int:
        copies = 4 * self.turns * sum(math.prod(shape) for shape in shapes.values())
        sampled = _SIDE**2 * (self.turns * 4 + 4 * 4) * sum(shape[1] for shape in shapes.values())
        return copies + sampled + 4 * _SIDE**2 * _KEYS

    def target(self, style: Reading, *turned: Reading) -> Sequence[Tensor]:
        """Return each layer's features in each copy of the style; then the weights of their positions, if any."""
        readings = (style, *turned)
        features = [each.features[name] for name in style.features for each in readings]
        return [*features, *(each.weights[name] for name in style.weights for each in readings)]

    def loss(self, picture: Reading, target: Sequence[Tensor]) -> Tensor:
        generator = picture.generator()
        number = self.turns * len(picture.features)
        losses = []
        for place, (name, features) in enumerate(picture.features.items()):
            stride = math.ceil(max(features.shape[-2:]) / _SIDE)
            down, right = (int(torch.randint(stride, (), generator=generator)) for _ in range(2))
            grid = (..., slice(down, None, stride), slice(right, None, stride))
            own = slice(place * self.turns, (place + 1) * self.turns)
            masks: Sequence[Tensor | None] = target[number:][own] or [None] * self.turns
            pairs = list(zip(target[:number][own], masks, strict=True))
            style = torch.cat([_within(*_sampled(each, mask, grid)) for each, mask in pairs])
            losses.append(_splitting(*_sampled(features, picture.weights.get(name), grid), style))
        return torch.stack(losses).sum()


class PatchNeighbors(JointTerm):
    """The squared distance of each patch of features from the nearest of the style: a Markov random field.

    Li and Wand 2016 (arXiv:1601.04589), eqs. 2 and 3, as a mean over patches and their features, and summed over the
    layers: the nearest patch is the one with the largest normalized cross-correlation.

    Args:
        weight: factor among the terms.
        size: side of a patch, in positions of the layer.
        stride: distance of neighbouring patches, in positions.
        turns: how many copies of the style, each turned by a further 90°, have neighbours.
    """

    def __init__(self, *, weight: float, size: int, stride: int, turns: int) -> None:
        self.weight = weight
        self.size = size
        self.stride = stride
        self.turns = turns

    def kept_bytes(self, shapes: Mapping[str, Sequence[int]], *, weighted: bool) -> int:
        patches = {name: math.prod(shape) * self.size**2 // self.stride**2 for name, shape in shapes.items()}
        return 4 * (self.turns + 3) * sum(patches.values()) + 12 * max(patches.values())

    def target(self, style: Reading, *turned: Reading) -> Sequence[Tensor]:
        """Return the style's patches of each layer, (K, C · size²)."""
        return [
            torch.cat(
                [_within(self._patches(each.features[name]), self._inside(each, name)) for each in (style, *turned)]
            )
            for name in style.features
        ]

    def loss(self, picture: Reading, target: Sequence[Tensor]) -> Tensor:
        losses = []
        for (name, features), style in zip(picture.features.items(), target, strict=True):
            patches, weights = self._patches(features), self._inside(picture, name)
            wanted = style[nearest(patches.detach(), style, centred=False)]
            losses.append(_mean((widened(patches) - widened(wanted)).square().mean(1), weights))
        return torch.stack(losses).sum()

    def _patches(self, features: Tensor) -> Tensor:
        return functional.unfold(self._padded(features), self.size, stride=self.stride)[0].T

    def _inside(self, reading: Reading, name: str) -> Tensor | None:
        """Return the mean weight of each patch."""
        weights = reading.weights.get(name)
        if weights is None:
            return None
        return functional.avg_pool2d(self._padded(weights), self.size, stride=self.stride)

    def _padded(self, features: Tensor) -> Tensor:
        """Return the features with zeros below and to the right, if they are smaller than a patch."""
        height, width = features.shape[-2:]
        return functional.pad(features, (0, max(0, self.size - width), 0, max(0, self.size - height)))


def _sampled(features: Tensor, weights: Tensor | None, grid: Any) -> tuple[Tensor, Tensor | None]:
    """Return the features on a grid as rows, and their weights; at all positions if the grid misses the region."""
    if weights is None:
        return as_rows(features[grid]), None
    grid = grid if weights[grid].any() else ...
    return as_rows(features[grid]), weights[grid]


def _splitting(found: Tensor, weights: Tensor | None, style: Tensor) -> Tensor:
    """Return the mean centred cosine distance of rows from the nearest of the style."""
    if weights is not None:
        inside = weights.flatten() > 0
        found, weights = found[inside], weights.flatten()[inside]
    wanted = widened(style[nearest(found.detach(), style, centred=True)]) - _mean_row(style)
    rows = widened(found)
    cosine = functional.cosine_similarity(rows - rows.mean(0), wanted, dim=1, eps=TINY)
    return _mean(1 - cosine, weights)


def _on_grid(reading: Reading) -> list[Tensor]:
    """Return each layer's features, resized to a quarter of the finest layer's side."""
    height, width = reading.features[reading.finest].shape[-2:]
    shape = (max(1, height // 4), max(1, width // 4))
    return [
        functional.interpolate(each, size=shape, mode="bilinear", align_corners=True)
        for each in reading.features.values()
    ]


def _hypercolumns(reading: Reading) -> Tensor:
    """Return the features of all layers on the grid, each divided by its number of channels, (M, C of all layers)."""
    return torch.cat([as_rows(each) / each.shape[1] for each in _on_grid(reading)], dim=1).to(reading.dtype)


def _grid_weights(reading: Reading) -> Tensor | None:
    """Return the weights of the grid's positions, (1, 1, h, w); None if all count alike."""
    if not reading.weights:
        return None
    weights = reading.weights[reading.finest]
    shape = [max(1, side // 4) for side in weights.shape[-2:]]
    return functional.interpolate(able(weights, "area_means"), size=shape, mode="area").to(weights.device)


def _within(rows: Tensor, weights: Tensor | None) -> Tensor:
    """Return the rows of a style that are within its mask: with at least half of the largest weight."""
    return rows if weights is None else rows[weights.flatten() >= weights.max() / 2]


def _mean_row(rows: Tensor) -> Tensor:
    """Return the mean of the rows, in at least 32 bits, as 16 bits can't hold the sum."""
    return rows.mean(0, dtype=widened(rows[:0]).dtype)


def _unit(rows: Tensor, mean: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Return the rows, without their mean if it is given, divided by their lengths, in a type."""
    return unit_rows(widened(rows) if mean is None else widened(rows) - mean).to(dtype)


def _mean(values: Tensor, weights: Tensor | None) -> Tensor:
    """Return the mean of the values (M,), weighted if there are weights."""
    if weights is None:
        return values.mean()
    flat = weights.flatten().to(values)
    return (values * flat).sum() / flat.sum()
