"""The history of L-BFGS as a matrix, for GPUs."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from nst.encoder.precision import abilities, exact, split
from nst.files.pages import MEMORY, Pages
from nst.objective.processes import ALONE, Team
from nst.optimizer.history import History, Sizes, newest

#: Largest number of columns in a chunk. With 1024, the direction's error was 1e-7 to 4e-7 of its length in runs of 110
#: evaluations, that of ``Loops`` 2e-7 to 3e-6; with 16384 it was 5e-7 to 4e-6.
WIDTH = 1024

#: Number of pairs in a block. Memory is taken block by block, so a short run doesn't take that of a long one.
PAIRS = 16

#: Number of chunks that are multiplied at once; it bounds the memory of copies.
SPAN = 2048


def places(pairs: int, size: int) -> int:
    """Return the number of places that a number of pairs takes, at most ``size`` pairs."""
    return min(PAIRS * (pairs // PAIRS + 1), size + 1) if pairs else 0


class Compact(History):
    """The history as a matrix, with the direction in the compact representation.

    Each process of a team keeps some columns. The only sums over the processes are those of the products, in ``learn``.

    The columns of the matrix are divided into chunks. Dot products are summed in the gradient's type within a chunk,
    and in 64 bits over the chunks. Their errors are much smaller than those of one long sum. This matters because the
    triangular systems enlarge them.

    Attributes:
        order: the places of the kept pairs, oldest first. There is one place more than ``size``, for the new pair.
        blocks: the kept pairs, each of shape (rows, columns). The pair of a place has two rows, ``y`` and ``s``.
        sy: the dot products ``s·y`` by place, in 64 bits, of each ``y`` with its own ``s`` and older ones. The loops
            don't use the others.
        yy: the dot products ``y·y`` by place, in 64 bits.
    """

    def __init__(self, size: int, like: Tensor, dtype: torch.dtype, pages: Pages = MEMORY, team: Team = ALONE) -> None:
        super().__init__(size, like, dtype, pages)
        self.team = team
        self.number = like.numel()
        self.chunks = -(-self.number // WIDTH)
        self.width = 64 * -(-self.number // (64 * max(1, self.chunks)))
        self.order: list[int] = []
        self.blocks: list[Tensor] = []
        self.used = 0  # places that have had a pair
        self.sy, self.yy = (torch.zeros(size + 1, size + 1, dtype=torch.float64) for _ in range(2))

    def __len__(self) -> int:
        return len(self.order)

    def clear(self) -> None:
        self.order.clear()

    def learn(self, gradient: Tensor, pair: tuple[Tensor, Tensor] | None = None) -> Sizes:
        norm = torch.linalg.vector_norm
        vectors, place = [gradient], -1
        largest = exact(torch.stack([norm(each, torch.inf) for each in (gradient, *(pair or ())[1:])]))
        if pair is not None:
            place = next(each for each in range(self.size + 1) if each not in self.order)
            self.round(*pair)
            self._write(place, *pair)
            vectors += pair
        sums = exact(torch.stack([norm(gradient), norm(gradient, 1)])) ** largest.new_tensor([2, 1])
        products, sums, largest = self._together(self._products(vectors), sums, largest)
        self._of_gradient = float(sums[0]), products[0, 0::2], products[0, 1::2]
        if pair is not None:
            self.yy[place, : self.used] = self.yy[: self.used, place] = products[1, 0::2]
            self.sy[: self.used, place] = products[1, 1::2]
            rounding = torch.finfo(gradient.dtype).eps * (self.yy[place, place] * products[2, 2 * place + 1]).sqrt()
            if self.sy[place, place] > rounding:
                self.order = [*self.order, place][-self.size :]
        return Sizes(float(largest[1]) if pair is not None else torch.inf, float(largest[0]), float(sums[1]))

    def largest(self, vector: Tensor) -> Tensor:
        return self.team.largest(super().largest(vector))

    def _together(self, products: Tensor, sums: Tensor, largest: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the sums of the first two over the processes and the largest of the third: one sum, one transfer."""
        of_each = largest.new_zeros(self.team.size, len(largest))
        of_each[self.team.rank] = largest
        joined = torch.cat([products.flatten(), sums, of_each.flatten()])
        self.team.add_up([joined])
        parts = torch.split(joined.cpu(), [products.numel(), len(sums), of_each.numel()])
        return parts[0].view_as(products), parts[1], parts[2].view_as(of_each).amax(0)

    def direction(self, gradient: Tensor) -> tuple[Tensor, float]:
        """Return the direction for the gradient that was learned last, and their dot product.

        The direction is ``-γ g + Σ γ a_i y_i - Σ b_i s_i``: ``a`` are the coefficients of the first loop, from the
        newest pair to the oldest, and ``b`` those of the second loop. ``γ`` is the scale of the newest pair.
        """
        square, gy, gs = self._of_gradient
        if not self.order:
            return gradient.neg(), -square
        index = torch.tensor(self.order)
        sy, yy, gy, gs = self.sy[index][:, index], self.yy[index][:, index], gy[index], gs[index]
        scale = float(sy[-1, -1] / yy[-1, -1])
        a = torch.linalg.solve_triangular(sy, gs[:, None], upper=True)[:, 0]
        rest = sy.diagonal() * a - scale * (gy - yy @ a)
        b = torch.linalg.solve_triangular(sy.T, rest[:, None], upper=False)[:, 0]
        coefficients = torch.zeros(self.used, 2, dtype=torch.float64)
        coefficients[index] = torch.stack([scale * a, -b], dim=1)
        slope = float(scale * (a @ gy - square) - b @ gs)
        return self._add(gradient.mul(-scale), coefficients.flatten().to(gradient.dtype)), slope

    def state(self) -> dict[str, Any]:
        y, s = ([_alone(self._row(place, offset)) for place in self.order] for offset in range(2))
        used = self.used
        return {
            "y": y, "s": s, "places": self.order[:],
            "sy": self.sy[:used, :used].clone(), "yy": self.yy[:used, :used].clone(),
        }  # fmt: skip

    def load(self, saved: Mapping[str, Any]) -> None:
        pairs, places = newest(saved, self.size), saved.get("places", [])
        fits = "sy" in saved and len(places) == len(pairs) and len(saved["sy"]) <= self.size + 1
        # The places stay the same if possible: the order of a sum changes its last digit.
        self.order = places[:] if fits else list(range(len(pairs)))
        self.used = 0
        for place in range(len(saved["sy"]) if fits else len(pairs)):
            self._reach(place)
        for place, index in zip(self.order, pairs, strict=True):
            self._write(place, saved["y"][index], saved["s"][index])
        if fits:
            self.sy[: self.used, : self.used], self.yy[: self.used, : self.used] = saved["sy"], saved["yy"]
            return
        for place in range(self.used):
            products = self._products([self._row(place, 0).to(self.like.dtype)]).contiguous()
            self.team.add_up([products])
            products = products.cpu()
            self.yy[place, : self.used], self.sy[: self.used, place] = products[0, 0::2], products[0, 1::2]

    def _write(self, place: int, y: Tensor, s: Tensor) -> None:
        """Write a pair to a place."""
        self._reach(place)
        for offset, vector in enumerate((y, s)):
            self._row(place, offset).copy_(vector)
            self._release()

    def _reach(self, place: int) -> None:
        """Make the block of a place if it doesn't exist."""
        if place == PAIRS * len(self.blocks):
            shape = (2 * min(PAIRS, self.size + 1 - place), self.chunks * self.width)
            if self.like.is_cpu:
                self.blocks += self.pages.tensors(1, shape, self.dtype)
            else:
                self.blocks.append(torch.zeros(shape, dtype=self.dtype, device=self.like.device))
        self.used = max(self.used, place + 1)

    def _row(self, place: int, offset: int) -> Tensor:
        """Return the ``y`` (offset 0) or the ``s`` (offset 1) of a place."""
        block, pair = divmod(place, PAIRS)
        return self.blocks[block][2 * pair + offset, : self.number]

    def _spans(self) -> Iterator[tuple[slice, list[Tensor]]]:
        """Yield the columns of some chunks at a time, and each block's rows in use: (chunks, rows, width)."""
        for first in range(0, self.chunks, SPAN):
            last = min(first + SPAN, self.chunks)
            rows = []
            for number, block in enumerate(self.blocks):
                used = block[: max(0, 2 * (self.used - PAIRS * number))]
                rows.append(used.view(len(used), self.chunks, self.width)[:, first:last].transpose(0, 1))
            yield slice(first * self.width, min(last * self.width, self.number)), rows
            self._release()

    def _release(self) -> None:
        for block in self.blocks if self.like.is_cpu else ():
            self.pages.release(block)

    def _products(self, vectors: list[Tensor]) -> Tensor:
        """Return the dot products of the vectors with the rows in use, in 64 bits: (vectors, rows)."""
        total = exact(vectors[0].new_zeros(2 * self.used, len(vectors)))
        for columns, blocks in self._spans():
            parts = torch.stack([self._by_chunk(vector[columns]) for vector in vectors], dim=2)
            total += exact(torch.cat([_product(rows, parts) for rows in blocks], dim=1)).sum(0) if blocks else 0
        return total.T

    def _add(self, vector: Tensor, coefficients: Tensor) -> Tensor:
        """Add the rows in use to a vector, in place, each times its coefficient; return the vector."""
        coefficients = coefficients.to(vector.device, non_blocking=True)
        for columns, blocks in self._spans():
            part = vector[columns]
            for rows, factors in zip(blocks, torch.split(coefficients, 2 * PAIRS), strict=True):
                found = _product(rows.transpose(1, 2), factors[None, :, None].expand(len(rows), -1, 1))
                part.add_(found.flatten()[: len(part)])
        return vector

    def _by_chunk(self, vector: Tensor) -> Tensor:
        """Return a vector as (chunks, width), with zeros at its end."""
        return functional.pad(vector, (0, -len(vector) % self.width)).view(-1, self.width)


def _product(matrices: Tensor, vectors: Tensor) -> Tensor:
    """Return the matrix products of (chunks, n, m) and (chunks, m, k), in the type of the latter.

    Matrices of 16 bits are multiplied as they are if the device can; each vector is then the sum of three of 16 bits.
    """
    same = matrices.dtype == vectors.dtype
    if not same and abilities(matrices.device).wide_products:
        parts: Tensor = torch.bmm(
            matrices, torch.cat(split(vectors, matrices.dtype, 3), dim=2), out_dtype=vectors.dtype
        )
        return parts.view(*parts.shape[:2], 3, -1).sum(2)
    # Products with one vector at a time are several times as fast as those with a narrow matrix, on a CPU and on a GPU.
    if same and matrices.device.type != "cpu":
        return torch.cat([torch.bmm(matrices, column) for column in torch.split(vectors, 1, dim=2)], dim=2)
    products = []
    for matrix, columns in zip(matrices, vectors, strict=True):
        wide = matrix.to(vectors.dtype)
        products.append(torch.stack([torch.mv(wide, column) for column in columns.T.contiguous()], dim=1))
    return torch.stack(products)


def _alone(row: Tensor) -> Tensor:
    """Return a contiguous tensor with a storage of its own in the same memory: ``torch.save`` writes whole storages."""
    first = row.storage_offset() * row.element_size()
    part: torch.UntypedStorage = row.untyped_storage()[first : first + row.numel() * row.element_size()]
    return torch.empty(0, dtype=row.dtype, device=row.device).set_(part)
