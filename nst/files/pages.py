"""Memory for the curvature pairs of L-BFGS: pages of their own, or those of temporary files."""

import mmap
import os
import tempfile
from math import prod
from pathlib import Path

import torch
from torch import Tensor

#: Bytes that are written at once to a file that can't be allocated in another way.
BLOCK = 2**24


class Pages:
    """A source of tensors that don't fragment the heap; with a folder, they are in temporary files there.

    Every evaluation allocates and frees memory. Objects that stay allocated in between, however small, fragment the
    heap: it grew by half of the pairs' size with the pairs' numbers in it, and by a third with their tensor objects
    only.

    The files have no names, and vanish with the tensors or with the process.

    Args:
        folder: folder of the temporary files; None for memory.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self._maps: dict[int, mmap.mmap] = {}  # of files, by their address

    def tensors(self, number: int, shape: tuple[int, ...], dtype: torch.dtype) -> list[Tensor]:
        """Return some tensors of zeros. Raise OSError if the disk is full."""
        size = prod(shape) * dtype.itemsize
        if self.folder is None:  # pages take no memory until they are written
            places = [(mmap.mmap(-1, size), 0) for _ in range(number)]
        else:
            step = -(-size // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY
            mapped = _file(self.folder, number * step)
            places = [(mapped, index * step) for index in range(number)]
        made = [torch.frombuffer(pages, dtype=dtype, offset=first, count=prod(shape)) for pages, first in places]
        if self.folder is not None:
            self._maps[made[0].data_ptr()] = mapped
        return [each.view(shape) for each in made]

    def release(self, tensor: Tensor) -> None:
        """Let a tensor of a file take no memory until it is read or written again."""
        if self.folder is None or not hasattr(mmap, "MADV_DONTNEED"):  # Windows takes the pages when it needs them
            return
        first = max(address for address in self._maps if address <= tensor.data_ptr())
        self._maps[first].madvise(mmap.MADV_DONTNEED, tensor.data_ptr() - first, tensor.nbytes)


MEMORY = Pages()


def _file(folder: Path, size: int) -> mmap.mmap:
    """Return the pages of a new temporary file.

    Its disk space is taken at once: writing to a page without space would kill the process.
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                for first in range(0, size, BLOCK):
                    file.write(bytes(min(BLOCK, size - first)))
                file.flush()
        except OSError as error:
            raise OSError(error.errno, error.strerror or str(error), str(folder)) from error
        return mmap.mmap(file.fileno(), size)
