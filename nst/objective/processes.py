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


ALONE = Team()
