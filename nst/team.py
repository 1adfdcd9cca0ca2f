"""The processes that compute one picture together, and the sums that they share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor, distributed

T = TypeVar("T")


@dataclass(frozen=True)
class Team:
    """Which of how many processes this one is; by default the only one."""

    rank: int = 0
    size: int = 1

    @staticmethod
    def present() -> "Team":
        """The processes that ``torch.distributed`` has brought together, if it has."""
        if distributed.is_available() and distributed.is_initialized():
            return Team(distributed.get_rank(), distributed.get_world_size())
        return Team()

    def own(self, parts: Sequence[T]) -> Sequence[T]:
        """The parts that this process computes: every part is one process's, and none has two more than another."""
        return parts[self.rank :: self.size]

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Puts in the place of each tensor the sum of those that the processes have there, bit by bit the same in all.

        Every process has to come here, with tensors of the same shapes.
        """
        if self.size > 1:
            for tensor in tensors:
                distributed.all_reduce(tensor)


ALONE = Team()
