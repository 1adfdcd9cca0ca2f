"""What the runs of one process share, so that a sweep computes it once: the encoder, and the targets."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from torch import Tensor

from nst.encoder import AnyEncoder

T = TypeVar("T")


@dataclass(frozen=True)
class Recipe(Generic[T]):
    """How a thing is made. Recipes with equal keys make equal things."""

    key: Hashable
    make: Callable[[], T]


class Kept(Generic[T]):
    """Follows recipes, and keeps what the last few made, but nothing that they were made from.

    Args:
        most: how many things are kept. Room is made before another is, so that there are never more.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._made: dict[Hashable, T] = {}

    def __call__(self, recipe: Recipe[T]) -> T:
        """The thing, made anew where none of the recipe's key is kept."""
        if recipe.key in self._made:
            made = self._made.pop(recipe.key)
        else:
            while len(self._made) >= self.most:
                del self._made[next(iter(self._made))]
            made = recipe.make()
        self._made[recipe.key] = made
        return made


#: Only the last encoder, since VGG-19 takes 80 MB.
encoder: Kept[AnyEncoder] = Kept(1)
#: The style's statistics by layer, of some pictures at some scales. They are small, whatever the picture's size.
style_targets: Kept[dict[str, list[Tensor]]] = Kept(24)

_scales: Kept[Kept[dict[str, Tensor]]] = Kept(1)


def content_targets(picture: Hashable) -> Kept[dict[str, Tensor]]:
    """The content's features by layer, at the scales of a picture: only the last one's, since they grow with it."""
    return _scales(Recipe(picture, lambda: Kept(8)))
