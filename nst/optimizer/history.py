"""The history of L-BFGS: its curvature pairs, and the direction that they give, computed in one of two ways.

- ``Loops`` are the two loops over the pairs (Nocedal and Wright 2006, algorithm 7.4). Each product depends on the one
  before. A processor reads each pair twice, as fast as its memory allows.
- ``Compact`` needs the pairs only in dot products, all at once, and in one sum. The loops run on the coefficients of
  the sum and on the matrix of the pairs' dot products (Chen, Wang and Zhou 2014, "Large-scale L-BFGS using MapReduce",
  NIPS 27). They are then two triangular systems: the compact representation of Byrd, Nocedal and Schnabel 1994 (Math.
  Program. 63). It also reads each pair twice, but in a few large operations, which suit a GPU.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nst.files.pages import MEMORY, Pages


class Sizes(NamedTuple):
    """Numbers that an optimizer needs in each iteration.

    Attributes:
        change: largest absolute entry of the new ``s``; infinite without a new pair.
        largest: largest absolute entry of the gradient.
        total: sum of the gradient's absolute entries.
    """

    change: float
    largest: float
    total: float


class History(ABC):
    """The last curvature pairs ``y``, ``s`` of a tensor.

    Args:
        size: number of pairs to keep.
        like: the tensor that is optimized.
        dtype: type of the kept pairs.
        pages: memory for the kept pairs.
    """

    def __init__(self, size: int, like: Tensor, dtype: torch.dtype, pages: Pages = MEMORY) -> None:
        self.size = size
        self.like = like
        self.dtype = dtype
        self.pages = pages

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of pairs."""

    @abstractmethod
    def clear(self) -> None:
        """Forget the pairs, but keep their memory for new ones."""

    @abstractmethod
    def learn(self, gradient: Tensor, pair: tuple[Tensor, Tensor] | None = None) -> Sizes:
        """Keep a new pair if its curvature ``y·s`` is more than its rounding error, and return the sizes.

        The curvature is that of the pair as it is kept, rounded to its type. torch's limit is 1e-10. The pair's tensors
        may be overwritten.
        """

    @abstractmethod
    def direction(self, gradient: Tensor) -> tuple[Tensor, float]:
        """Return the direction for the gradient that was learned last, and their dot product."""

    def largest(self, vector: Tensor) -> Tensor:
        """Return the largest absolute entry of a vector, on its device."""
        largest: Tensor = torch.linalg.vector_norm(vector, torch.inf)
        return largest

    def round(self, *pair: Tensor) -> None:
        """Round a pair, in place, to the type in which it is kept: all numbers are computed from the kept pair."""
        if self.dtype != self.like.dtype:
            for vector in pair:
                vector.copy_(vector.to(self.dtype))

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs, without copies of the pairs: ``y`` and ``s``, oldest first, and products."""

    @abstractmethod
    def load(self, saved: Mapping[str, Any]) -> None:
        """Replace the pairs by those of a checkpoint, with memory for no more than the pairs and one vector.

        The checkpoint may be from the other way to compute the direction; products that it lacks are computed anew.
        """


def newest(saved: Mapping[str, Any], size: int) -> range:
    """Return the indices of the last pairs of a checkpoint, at most ``size``."""
    return range(max(0, len(saved["y"]) - size), len(saved["y"]))


class Loops(History):
    """The history of a processor, with the direction by two loops over the pairs."""

    def __init__(self, size: int, like: Tensor, dtype: torch.dtype, pages: Pages = MEMORY) -> None:
        super().__init__(size, like, dtype, pages)
        self.y: list[Tensor] = []
        self.s: list[Tensor] = []
        self.rho: list[float] = []
        self.scale = 1.0
        self._spare: list[Tensor] = []
        self._made = 0

    def __len__(self) -> int:
        return len(self.y)

    def clear(self) -> None:
        self._spare += [*self.y, *self.s]
        for part in (self.y, self.s, self.rho):
            part.clear()

    def learn(self, gradient: Tensor, pair: tuple[Tensor, Tensor] | None = None) -> Sizes:
        change = torch.inf if pair is None else float(self.largest(pair[1]))
        if pair is not None:
            self._remember(*pair)
        return Sizes(change, float(self.largest(gradient)), float(gradient.abs().sum()))

    def _remember(self, y: Tensor, s: Tensor) -> None:
        least = torch.finfo(y.dtype).eps * float(y.norm() * s.norm())
        self.round(y, s)
        curvature = y.dot(s)
        if not curvature > least:
            return
        if len(self) == self.size:
            self._spare += [self.y.pop(0), self.s.pop(0)]
            self.rho.pop(0)
        self.y.append(self._keep(y))
        self.s.append(self._keep(s))
        self.rho.append(float(1.0 / curvature))
        self.scale = float(curvature / y.dot(y))

    def _keep(self, vector: Tensor) -> Tensor:
        """Return a copy of a vector in its own memory pages, and in a tensor made beforehand."""
        if not self._spare:
            number = max(1, min(32, 2 * self.size - self._made))
            self._spare = self.pages.tensors(number, (vector.numel(),), self.dtype)
            self._made += number
        kept = self._spare.pop().copy_(vector)
        self.pages.release(kept)
        return kept

    def direction(self, gradient: Tensor) -> tuple[Tensor, float]:
        pairs = list(zip(self.y, self.s, self.rho, strict=True))
        direction = gradient.neg()
        alphas = []
        for y, s, rho in reversed(pairs):
            alpha = s.to(gradient.dtype).dot(direction) * rho
            direction.addcmul_(y, alpha, value=-1)
            alphas.append(alpha)
            self._release(y, s)
        if pairs:
            direction *= self.scale
        for (y, s, rho), alpha in zip(pairs, reversed(alphas), strict=True):
            beta = y.to(gradient.dtype).dot(direction) * rho
            direction.addcmul_(s, alpha - beta)
            self._release(y, s)
        return direction, float(gradient.dot(direction))

    def _release(self, *kept: Tensor) -> None:
        for vector in kept:
            self.pages.release(vector)

    def state(self) -> dict[str, Any]:
        return {"y": self.y[:], "s": self.s[:], "rho": self.rho[:], "scale": self.scale}

    def load(self, saved: Mapping[str, Any]) -> None:
        self.clear()
        for index in newest(saved, self.size):
            self.y.append(self._keep(saved["y"][index]))
            self.s.append(self._keep(saved["s"][index]))
        if "rho" in saved:
            self.rho, self.scale = saved["rho"][-self.size :], saved.get("scale", 1.0)
            return
        wide = self.like.dtype
        self.rho = [float(1.0 / y.to(wide).dot(s.to(wide))) for y, s in zip(self.y, self.s, strict=True)]
        if self.rho:
            self.scale = float(1 / (self.rho[-1] * self.y[-1].to(wide).square().sum()))
