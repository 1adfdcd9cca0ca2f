"""Tiles: exact reading, part by part, of a picture that is too large for the memory.

Each tile owns some of the picture's positions in every layer, and is read with a halo: the surrounding pixels that the
owned positions depend on. Tiles are cut at common multiples of the strides of all poolings, so their positions are
those of the whole picture.
"""

import itertools
import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nst.encoder import PIXELS
from nst.encoder.base import Encoder
from nst.encoder.layers import Layer
from nst.objective.processes import ALONE, Team

K = TypeVar("K", bound=Hashable)

Part = tuple[slice, slice]


@dataclass(frozen=True)
class Window:
    """A tile with its halo.

    Attributes:
        crop: rows and columns of the picture to read, in px.
        owned: rows and columns of the crop's features that belong to the tile, by layer.
        place: the same positions in the features of the whole picture, by layer.
        whole: numbers of rows and columns of the whole picture's features, by layer.
        beyond: numbers of further rows and columns below and to the right of the owned ones, by layer; at most the
            encoder's ``reach``.
    """

    crop: Part
    owned: dict[str, Part]
    place: dict[str, Part]
    whole: dict[str, tuple[int, int]]
    beyond: dict[str, tuple[int, int]]

    def share(self, name: str) -> float:
        """Return the fraction of a layer's positions that belong to the tile."""
        rows, columns = (part.stop - part.start for part in self.place[name])
        return float(rows * columns / math.prod(self.whole[name]))


@dataclass(frozen=True)
class _Range:
    """A window along one of the two directions."""

    crop: slice
    owned: dict[str, slice]
    place: dict[str, slice]
    whole: dict[str, int]
    beyond: dict[str, int]


def windows(encoder: Encoder, shape: Sequence[int], tile: int | None) -> list[Window]:
    """Return the tiles of a picture of ``shape`` (height, width) px, row by row.

    Each tile is about ``tile`` px high and wide, without its halo; None gives a single tile.
    """
    layers = encoder.steps
    if layers is None:
        assert tile is None
        whole = {name: (found[2], found[3]) for name, found in encoder.shapes(shape).items()}
        places = {name: (slice(0, height), slice(0, width)) for name, (height, width) in whole.items()}
        return [Window((slice(0, shape[0]), slice(0, shape[1])), places, places, whole, dict.fromkeys(whole, (0, 0)))]
    wanted = encoder.layers | {PIXELS}
    rows, columns = (list(_ranges(layers, wanted, length, tile, encoder.reach)) for length in shape)
    return [
        Window(
            crop=(row.crop, column.crop),
            owned={name: (row.owned[name], column.owned[name]) for name in wanted},
            place={name: (row.place[name], column.place[name]) for name in wanted},
            whole={name: (row.whole[name], column.whole[name]) for name in wanted},
            beyond={name: (row.beyond[name], column.beyond[name]) for name in wanted},
        )
        for row, column in itertools.product(rows, columns)
    ]


def crops(encoder: Encoder, shape: Sequence[int], tile: int | None) -> tuple[list[int], list[int]]:
    """Return the heights of the tiles with their halos, from top to bottom, and their widths, from left to right."""
    if encoder.steps is None:
        return [shape[0]], [shape[1]]
    steps, wanted = encoder.steps, encoder.layers | {PIXELS}
    heights, widths = (
        [each.crop.stop - each.crop.start for each in _ranges(steps, wanted, length, tile, encoder.reach)]
        for length in shape
    )
    return heights, widths


def _ranges(
    layers: Sequence[tuple[str, Any]], wanted: frozenset[str], length: int, tile: int | None, reach: int
) -> Iterator[_Range]:
    """Yield the windows along ``length`` px. Every tile owns at least one position of each layer."""
    sizes, strides = _sizes(layers, length)
    step = math.prod(layer.stride for _, layer in layers)
    number = 1 if tile is None else max(1, min(math.ceil(length / tile), length // step))
    starts = [index * length // (number * step) * step for index in range(number)]
    starts = [start for start in starts if all(start // strides[name] < sizes[name] for name in wanted)]
    for start, stop in itertools.pairwise([*starts, length]):
        place = {
            name: (start // strides[name], sizes[name] if stop == length else stop // strides[name]) for name in wanted
        }
        beyond = {name: min(reach, sizes[name] - place[name][1]) for name in wanted}
        seen = {name: (low, high + beyond[name]) for name, (low, high) in place.items()}
        needed = [_needed(layers, sizes, length, name, seen[name]) for name in wanted]
        low = min(low for low, _ in needed) // step * step
        high = min(-(-max(high for _, high in needed) // step) * step, length)
        owned = {name: slice(*(edge - low // strides[name] for edge in place[name])) for name in wanted}
        yield _Range(slice(low, high), owned, {name: slice(*place[name]) for name in wanted}, sizes, beyond)


def _sizes(layers: Sequence[tuple[str, Layer]], length: int) -> tuple[dict[str, int], dict[str, int]]:
    """Return each layer's number of output positions along ``length`` px, and their distances in px."""
    sizes, strides = {PIXELS: length}, {PIXELS: 1}
    size, stride = length, 1
    for name, layer in layers:
        size, stride = layer.size(size), stride * layer.stride
        sizes[name], strides[name] = size, stride
    return sizes, strides


def _needed(
    layers: Sequence[tuple[str, Layer]], sizes: dict[str, int], length: int, name: str, positions: tuple[int, int]
) -> tuple[int, int]:
    """Return the range of pixels that a range of a layer's positions depends on."""
    low, high = positions
    names = [each for each, _ in layers]
    for index in range(-1 if name == PIXELS else names.index(name), -1, -1):
        layer = layers[index][1]
        before = sizes[names[index - 1]] if index else length
        low = max(0, low * layer.stride - layer.padding)
        high = min(before, (high - 1) * layer.stride - layer.padding + layer.kernel_size)
    return low, high


def read(
    image: Tensor,
    parts: Sequence[Window],
    reader: Callable[[Tensor, Window], Mapping[K, Tensor]],
    *,
    team: Team = ALONE,
) -> Mapping[K, Tensor]:
    """Return the tensors that ``reader`` computes from the crop of each window, by name, summed over the windows.

    The gradient with respect to the image tensor (1, 3, H, W) takes the memory of one window, whatever the picture's
    size: the sums are computed first, without a gradient, and then each window except the last one is read again. Any
    differentiable function of the sums may follow.

    The windows are distributed over the ``team``; each process has the sums, and the gradient, of all windows.
    """
    if len(parts) == 1 and team.size == 1:
        return reader(image, parts[0])
    names: list[K] = []

    def values(crop: Tensor, part: Window) -> list[Tensor]:
        found = reader(crop, part)
        names[:] = found
        return list(found.values())

    sums = _Sum.apply(image, parts, values, team, torch.is_grad_enabled() and image.requires_grad)
    return dict(zip(names, sums, strict=True))


Reader = Callable[[Tensor, Window], list[Tensor]]


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, image: Tensor, parts: Sequence[Window], reader: Reader, team: Team, traced: bool
    ) -> tuple[Tensor, ...]:
        ctx.save_for_backward(image)
        ctx.parts, ctx.reader, ctx.team = team.own(parts), reader, team
        *before, last = ctx.parts or parts[:1]  # without own windows, read one for the sums' shapes
        ctx.last = _trace(image, last, reader) if traced and ctx.parts else None
        found = [reader(image[..., *part.crop], part) for part in before]
        found.append(reader(image[..., *last.crop], last) if ctx.last is None else _detached(ctx.last[1]))
        sums = tuple(sum(each[1:], start=each[0].clone().contiguous()) for each in zip(*found, strict=True))
        if not ctx.parts:
            for each in sums:
                each.zero_()
        team.add_up(sums)
        return sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        (image,) = ctx.saved_tensors
        total = torch.zeros_like(image, memory_format=torch.contiguous_format)
        for part in reversed(ctx.parts):
            crop, found = ctx.last or _trace(image, part, ctx.reader)
            ctx.last = None
            pairs = [pair for pair in zip(found, gradients, strict=True) if pair[0].requires_grad]
            if pairs:
                outputs, arriving = zip(*pairs, strict=True)
                total[..., *part.crop] += torch.autograd.grad(outputs, crop, arriving)[0]
        ctx.team.add_up([total])
        return total, None, None, None, None


@torch.enable_grad()
def _trace(image: Tensor, part: Window, reader: Reader) -> tuple[Tensor, list[Tensor]]:
    crop = image[..., *part.crop].detach().requires_grad_()
    return crop, reader(crop, part)


def _detached(found: Sequence[Tensor]) -> list[Tensor]:
    return [each.detach() for each in found]
