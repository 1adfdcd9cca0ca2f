"""Distribution of one picture over several processes, and sums over the processes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor, distributed

T = TypeVar("T")


@dataclass(frozen=True)
class Team:
    """The rank of this process and the number of processes; by default, the only process."""

    rank: int = 0
    size: int = 1

    @staticmethod
    def present() -> "Team":
        """Return the team of ``torch.distributed``; a single process if that is not initialized."""
        if distributed.is_available() and distributed.is_initialized():
            return Team(distributed.get_rank(), distributed.get_world_size())
        return Team()

    def own(self, parts: Sequence[T]) -> Sequence[T]:
        """Return the parts of this process. Each part has one process; the numbers of parts differ by at most one."""
        return parts[self.rank :: self.size]

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over the processes, bit by bit the same in all of them.

        Every process must call this method, with tensors of the same shapes.
        """
        if self.size > 1:
            for tensor in tensors:
                distributed.all_reduce(tensor)

    def largest(self, number: Tensor) -> Tensor:
        """Return the largest of the processes' numbers, in place."""
        if self.size > 1:
            distributed.all_reduce(number, distributed.ReduceOp.MAX)
        return number

    def part(self, length: int, rank: int | None = None) -> slice:
        """Return the part of a vector that a process keeps, by default this one."""
        rank = self.rank if rank is None else rank
        return slice(length * rank // self.size, length * (rank + 1) // self.size)

    def share(self, vector: Tensor) -> None:
        """Replace the parts of other processes in a contiguous vector by theirs."""
        if self.size > 1:
            for rank in range(self.size):
                distributed.broadcast(vector[self.part(len(vector), rank)], rank)


ALONE = Team()
