"""How much memory an evaluation takes, and into which tiles a picture is cut where that is more than there is."""

import logging
import math
from collections.abc import Iterator, Sequence
from typing import Literal

import psutil
import torch

from nst.encoder import Encoder
from nst.frozen import Convolution, Layer
from nst.team import Team
from nst.tile import Window, windows

log = logging.getLogger(__name__)

#: Tiles that ``auto`` chooses from, in px. Larger ones read less twice.
SIZES = (2048, 1536, 1024, 768, 512, 384, 256)

#: The fraction of the free memory that ``auto`` makes use of.
USED = 0.8


def settle(
    asked: int | Literal["auto", "off"],
    encoder: Encoder,
    shape: Sequence[int],
    *,
    device: torch.device,
    besides: int,
    processes: int = 1,
) -> int | None:
    """The tiles' size in px, or None to read a picture of ``shape`` (height, width) as a whole.

    ``auto`` reads it as a whole where that fits into the free memory, beside ``besides`` bytes for what is kept between
    the evaluations; otherwise it takes the largest tiles that fit, and says so. Several ``processes`` share out the
    tiles, so that there have to be as many; ``auto`` cuts the picture so that all are done soonest.
    """
    if asked != "auto":
        return None if asked == "off" else asked
    sharing = processes if device.type == "cpu" else 1  # of the memory
    free = USED * free_bytes(device) / sharing - besides
    whole = evaluation_bytes(encoder, shape, None)
    if whole <= free:
        return None if processes == 1 else share_out(encoder, shape, max(shape), processes)
    fitting = (size for size in SIZES if size < max(shape) and evaluation_bytes(encoder, shape, size) <= free)
    tile = share_out(encoder, shape, next(fitting, SIZES[-1]), processes)
    log.warning(
        "The picture is read in tiles of %d px: an evaluation of the whole would take about %.1f GB, of tiles %.1f GB, "
        "and %.1f GB are free for it. tile=off reads the whole.",
        tile, whole / 1e9, evaluation_bytes(encoder, shape, tile) / 1e9, max(free, 0) / 1e9,
    )  # fmt: skip
    return tile


def share_out(encoder: Encoder, shape: Sequence[int], most: int, processes: int) -> int:
    """Tiles of at most ``most`` px, at least one for each of the processes where the picture is large enough for that.

    Among these the ones with which the busiest process is done soonest; the largest, if several are.
    """
    if processes == 1:
        return most
    finer = {-(-length // number) for length in shape for number in range(1, 4 * processes + 1)}
    sizes = [most, *sorted((size for size in finer if size < most), reverse=True)]
    return min(sizes, key=lambda size: _busiest(windows(encoder, shape, size), processes))


def _busiest(parts: Sequence[Window], processes: int) -> tuple[bool, int]:
    """Whether a process has nothing to do, and how long the one with the most to do takes, in pixels.

    Going forward and going back take about the same; forward, all of a process's windows but the last are read twice.
    """
    shares = [Team(rank, processes).own(parts) for rank in range(processes)]
    areas = [[math.prod(edge.stop - edge.start for edge in part.crop) for part in share] for share in shares]
    return not all(areas), max(3 * sum(each) - each[-1] for each in areas if each)


def free_bytes(device: torch.device) -> int:
    """Memory that can still be had: of the GPU on CUDA, of the machine elsewhere."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return int(psutil.virtual_memory().available)


def feature_bytes(encoder: Encoder, shape: Sequence[int], layers: Sequence[str]) -> int:
    """Of the features in the layers, for a picture of ``shape`` (height, width)."""
    return sum(after for name, _, _, after, _ in _walk(encoder, shape) if name in layers)


def evaluation_bytes(encoder: Encoder, shape: Sequence[int], tile: int | None) -> int:
    """About what an evaluation takes at its peak, beyond the pixels and what is kept between evaluations."""
    crops = {tuple(part.stop - part.start for part in window.crop) for window in windows(encoder, shape, tile)}
    numbers = 3 * math.prod(shape) * encoder.mean.element_size()
    return 2 * numbers + max(_crop_bytes(encoder, crop) for crop in crops)


def _crop_bytes(encoder: Encoder, shape: Sequence[int]) -> int:
    """The peak is at the end of the forward pass, or on the way back through the widest layers."""
    kept = peak = largest = 0
    steps = []
    for name, layer, before, after, itemsize in _walk(encoder, shape):
        feature = after if name in encoder.layers else 0
        own = feature + layer.trace_bytes(before, after, itemsize)
        peak = max(peak, kept + before + 2 * after)
        kept, largest = kept + own, max(largest, feature)
        steps.append((before, after, own))
    peak = max(peak, kept + largest)
    for before, after, own in reversed(steps):
        peak = max(peak, kept + before + after)
        kept -= own
    return peak


def _walk(encoder: Encoder, shape: Sequence[int]) -> Iterator[tuple[str, Layer, int, int, int]]:
    """Each layer by name, with the bytes of its inputs, of its outputs, and of a number, for a crop (height, width)."""
    height, width = shape
    channels, itemsize = 3, encoder.mean.element_size()
    before = channels * height * width * itemsize
    for name, layer in encoder.sequence.items():
        assert isinstance(layer, Layer)
        if isinstance(layer, Convolution):
            itemsize = layer.dtype.itemsize
        height, width, channels = layer.size(height), layer.size(width), layer.channels(channels)
        after = channels * height * width * itemsize
        yield name, layer, before, after, itemsize
        before = after
