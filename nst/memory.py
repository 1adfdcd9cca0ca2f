"""How much memory there is, how much an evaluation takes, and into which tiles a picture is cut to fit."""

import functools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import psutil
import torch

from nst.encoder import AnyEncoder, Encoder
from nst.frozen import Convolution, Layer
from nst.graph import GraphEncoder
from nst.team import Team
from nst.tile import Window, windows

#: Tiles that ``auto`` chooses from, in px. Larger ones read less twice.
SIZES = (2048, 1536, 1024, 768, 512, 384, 256)

#: The fraction of the memory there is that ``tile=auto`` makes use of.
USED = 0.8

#: Bytes that a process takes for libraries that are loaded while it runs, and for their buffers; measured.
IMPORTED_LATER = 150_000_000


def settle(
    asked: int | Literal["auto", "off"],
    encoder: AnyEncoder,
    shape: Sequence[int],
    *,
    room: int,
    besides: int,
    processes: int = 1,
) -> int | None:
    """The tiles' size in px, or None to read a picture of ``shape`` (height, width) as a whole.

    ``auto`` reads it as a whole where that takes no more than USED of the ``room``, with ``besides`` bytes for what
    else there is; otherwise it takes the largest tiles that fit. Several ``processes`` share out the tiles, so that
    there have to be as many; ``auto`` cuts the picture so that all are done soonest.
    """
    if asked != "auto":
        return None if asked == "off" else asked
    free = USED * room - besides
    if evaluation_bytes(encoder, shape, None) <= free:
        return None if processes == 1 else share_out(encoder, shape, max(shape), processes)
    fitting = (size for size in SIZES if size < max(shape) and evaluation_bytes(encoder, shape, size) <= free)
    return share_out(encoder, shape, next(fitting, SIZES[-1]), processes)


def share_out(encoder: AnyEncoder, shape: Sequence[int], most: int, processes: int) -> int:
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


def room(device: torch.device, limit: float | Literal["auto"], processes: int) -> int:
    """What each of the processes of a run may take at its peak, in bytes: of the GPU on CUDA, of the machine elsewhere.

    ``limit`` is in GB, for all that share a memory; ``auto`` is what this process has and what is free.
    """
    sharing = processes if device.type == "cpu" else 1
    if limit != "auto":
        return int(limit * 1e9 / sharing)
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    left = [psutil.virtual_memory().available, *_left_by_groups()]
    return (int(min(left)) + psutil.Process().memory_info().rss) // sharing


def _left_by_groups(own: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> Iterator[int]:
    """What Linux's control groups leave to a process in a container, or in a job of a cluster, in bytes.

    Each line of ``own`` is HIERARCHY:CONTROLLERS:GROUP; the second version of control groups has no controllers there.
    A group's limit holds for those within it, too. What it counts as used includes files that would make room.
    """
    lines = own.read_text(encoding="utf-8").splitlines() if own.is_file() else []
    for _, controllers, group in (line.split(":", 2) for line in lines):
        if controllers == "":
            top, names = root, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            top, names = root / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        place = top / group.lstrip("/")
        for folder in (place, *place.parents):
            if not folder.is_relative_to(top):
                break
            try:
                limit, used, statistics = (
                    (folder / name).read_text(encoding="utf-8") for name in (*names[:2], "memory.stat")
                )
            except OSError:  # the root has no limit, and a container doesn't see what is above it
                continue
            if limit.strip() != "max":
                unneeded = dict(line.split() for line in statistics.splitlines()).get(names[2], 0)
                yield max(0, int(limit) - int(used) + int(unneeded))


@functools.cache
def of_program(device: torch.device) -> int:
    """What the process has before its first run, and what is imported during it, in bytes; on a GPU nothing counts."""
    return psutil.Process().memory_info().rss + IMPORTED_LATER if device.type == "cpu" else 0


def reading_bytes(pixels: int, itemsize: int) -> int:
    """What it takes to read a picture file of so many pixels as numbers of ``itemsize`` bytes, before it is resized.

    Its bytes become numbers of 32 bits, and these the run's; Pillow's few copies, of 4 bytes a pixel each, are before.
    """
    return 3 * pixels * (4 + (1 if itemsize == 4 else itemsize))


def feature_bytes(encoder: AnyEncoder, shape: Sequence[int], layers: Sequence[str]) -> int:
    """Of the features in the layers, for a picture of ``shape`` (height, width)."""
    shapes = encoder.shapes(shape)
    return sum(shapes[name].numel() * encoder.dtype.itemsize for name in layers)


def evaluation_bytes(encoder: AnyEncoder, shape: Sequence[int], tile: int | None, *, traced: bool = True) -> int:
    """About what an evaluation takes at its peak, beyond the pixels and what is kept between evaluations.

    What is not ``traced`` is read without a gradient, as the styles are.
    """
    if isinstance(encoder, GraphEncoder):
        return encoder.evaluation_bytes(shape, traced=traced)
    crops = {tuple(part.stop - part.start for part in window.crop) for window in windows(encoder, shape, tile)}
    numbers = 3 * math.prod(shape) * encoder.mean.element_size()
    return (2 * numbers if traced else 0) + max(_crop_bytes(encoder, crop, traced=traced) for crop in crops)


def _crop_bytes(encoder: Encoder, shape: Sequence[int], *, traced: bool) -> int:
    """The peak is at the end of the forward pass, or on the way back through the widest layers."""
    kept = peak = largest = 0
    steps = []
    for name, layer, before, after, itemsize in _walk(encoder, shape):
        feature = after if name in encoder.layers else 0
        own = feature + (layer.trace_bytes(before, after, itemsize) if traced else 0)
        # Convolutions of 64 bits are matrix products: each of nine shifts of the inputs is copied.
        copies = 9 * before if itemsize == 8 and isinstance(layer, Convolution) else 0
        peak = max(peak, kept + before + 2 * after + copies)
        kept, largest = kept + own, max(largest, feature)
        steps.append((before, after, own, copies))
    peak = max(peak, kept + largest)
    if not traced:
        return peak
    for before, after, own, copies in reversed(steps):
        peak = max(peak, kept + before + after + copies)
        kept -= own
    return peak


def _walk(encoder: Encoder, shape: Sequence[int]) -> Iterator[tuple[str, Layer, int, int, int]]:
    """Each layer by name, with the bytes of its inputs, of its outputs, and of a number, for a crop (height, width)."""
    itemsize = encoder.mean.element_size()
    before = 3 * math.prod(shape) * itemsize
    for name, found in encoder.shapes(shape).items():
        layer = encoder.sequence[name]
        assert isinstance(layer, Layer)
        if isinstance(layer, Convolution):
            itemsize = layer.dtype.itemsize
        after = found.numel() * itemsize
        yield name, layer, before, after, itemsize
        before = after
