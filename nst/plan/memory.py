"""Estimates of the available memory and of the memory of an evaluation, and the choice of the tile size."""

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import psutil
import torch

from nst.encoder.base import Encoder
from nst.objective.processes import Team
from nst.objective.tiles import crops

#: Tile sizes that ``auto`` chooses from, in px. Larger tiles read fewer pixels twice.
SIZES = (2048, 1536, 1024, 768, 512, 384, 256)

#: Smaller tiles, in px, are tried only if there are too few others: their halos take more time than they save.
SMALL = 128

#: Fraction of the available memory that ``tile=auto`` uses.
USED = 0.8

#: Bytes that a process takes for libraries that are loaded while it runs, and for their buffers; measured.
IMPORTED_LATER = 150_000_000

#: Bytes that cuBLAS and cuDNN take on a GPU for intermediate results; measured on an H200.
WORKSPACES = 180_000_000


def settle(
    asked: int | Literal["auto", "off"],
    encoder: Encoder,
    shape: Sequence[int],
    *,
    room: int,
    besides: int,
    processes: int = 1,
) -> int | None:
    """Return the size of the tiles in px, or None to read a picture of ``shape`` (height, width) as a whole.

    ``auto`` reads the picture as a whole if an evaluation, with ``besides`` bytes for everything else, takes no more
    than USED times ``room`` bytes; otherwise it chooses the largest tiles that fit, if necessary in all of ``room``.
    Several ``processes`` share the tiles, so at least as many tiles are needed; ``auto`` then chooses the tiles with
    which all processes are done soonest.
    """
    if asked != "auto":
        return None if asked == "off" else asked
    if evaluation_bytes(encoder, shape, None) <= USED * room - besides:
        return None if processes == 1 else share_out(encoder, shape, max(shape), processes)
    needed = {size: besides + evaluation_bytes(encoder, shape, size) for size in SIZES if size < max(shape)}
    fitting = [size for share in (USED, 1) for size, taken in needed.items() if taken <= share * room]
    return share_out(encoder, shape, next(iter(fitting), SIZES[-1]), processes)


def share_out(encoder: Encoder, shape: Sequence[int], most: int, processes: int) -> int:
    """Return the size of tiles of at most ``most`` px that gives each process a tile, if the picture is large enough.

    Among the possible sizes, return the one with which the busiest process is done soonest; the largest if several are
    equal.
    """
    if processes == 1:
        return most
    finer = {-(-length // number) for length in shape for number in range(1, 4 * processes + 1)}
    sizes = [most, *sorted((size for size in finer if size < most), reverse=True)]
    if math.prod(map(len, crops(encoder, shape, SMALL))) >= processes:
        sizes = [size for size in sizes if size >= SMALL] or sizes
    return min(sizes, key=lambda size: busiest(encoder, shape, size, processes))


def busiest(encoder: Encoder, shape: Sequence[int], tile: int | None, processes: int) -> tuple[bool, int]:
    """Return whether a process has no tile, and the work of the busiest process in pixels.

    The forward and the backward pass take about the same time. The forward pass runs twice for all tiles of a process
    but the last.
    """
    areas = [height * width for height, width in itertools.product(*crops(encoder, shape, tile))]
    shares = [Team(rank, processes).own(areas) for rank in range(processes)]
    return not all(shares), max(3 * sum(each) - each[-1] for each in shares if each)


def room(device: torch.device, limit: float | Literal["auto"], processes: int) -> int:
    """Return the bytes that each process of a run may take at its peak: GPU memory on CUDA, else the machine's memory.

    ``limit`` is in GB, for all processes that share a memory; ``auto`` is the memory of this process plus the free
    memory.
    """
    sharing = processes if device.type == "cpu" else 1
    if limit != "auto":
        return int(limit * 1e9 / sharing)
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    left = [psutil.virtual_memory().available, *_left_by_groups()]
    return (int(min(left)) + psutil.Process().memory_info().rss) // sharing


def _left_by_groups(own: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> Iterator[int]:
    """Yield the bytes that each Linux control group leaves to a process in a container or in a job of a cluster.

    Each line of ``own`` is HIERARCHY:CONTROLLERS:GROUP; the controllers are empty in version 2 of control groups. A
    group's limit also holds for the groups within it. The usage of a group includes cached files that could be dropped,
    so these count as free.
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
            except OSError:  # the root has no limit, and a container doesn't see the groups above its own
                continue
            if limit.strip() != "max":
                unneeded = dict(line.split() for line in statistics.splitlines()).get(names[2], 0)
                yield max(0, int(limit) - int(used) + int(unneeded))


@functools.cache
def of_program(device: torch.device) -> int:
    """Return the bytes of the process before its first run and of the imports during that run; those of a GPU there."""
    if device.type != "cpu":
        return WORKSPACES if device.type == "cuda" else 0
    return psutil.Process().memory_info().rss + IMPORTED_LATER


def reading_bytes(pixels: int, itemsize: int) -> int:
    """Return the bytes needed to read a picture file of ``pixels`` pixels as numbers of ``itemsize`` bytes, unresized.

    The bytes of the picture are converted to numbers of 32 bits, and these to the type of the run. Pillow's few copies,
    of 4 bytes a pixel each, come before that.
    """
    return 3 * pixels * (4 + (1 if itemsize == 4 else itemsize))


def feature_bytes(encoder: Encoder, shape: Sequence[int], layers: Sequence[str]) -> int:
    """Return the bytes of the features in the layers, for a picture of ``shape`` (height, width)."""
    shapes = encoder.shapes(shape)
    return sum(shapes[name].numel() * encoder.dtype.itemsize for name in layers)


def evaluation_bytes(encoder: Encoder, shape: Sequence[int], tile: int | None, *, traced: bool = True) -> int:
    """Return an estimate of the peak bytes of an evaluation, without the pixels and what is kept between evaluations.

    Unless ``traced``, the picture is read without a gradient, as styles are.
    """
    if encoder.steps is None:
        return encoder.evaluation_bytes(shape, traced=traced)
    found = itertools.product(*map(set, crops(encoder, shape, tile)))
    numbers = 3 * math.prod(shape) * encoder.picture_dtype.itemsize
    return (2 * numbers if traced else 0) + max(encoder.evaluation_bytes(crop, traced=traced) for crop in found)
