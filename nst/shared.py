"""What the runs of one process share, so that a sweep computes it once: the encoder, and the targets."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Generic, TypeVar

from torch import Tensor

from nst.encoder import Encoder

T = TypeVar("T")


@dataclass(frozen=True)
class Recipe(Generic[T]):
    """How a thing is made. Recipes with equal keys make equal things."""

    key: Hashable
    make: Callable[[], T] = field(compare=False)


@lru_cache(maxsize=1)
def encoder(recipe: Recipe[Encoder]) -> Encoder:
    """An encoder; only the last one is kept, since VGG-19 takes 80 MB."""
    return recipe.make()


@lru_cache(maxsize=1)
def content_targets(recipe: Recipe[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The content's features by layer; only the last ones are kept, since they grow with the picture."""
    return recipe.make()


@lru_cache(maxsize=8)
def style_targets(recipe: Recipe[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The style's statistics by layer, which are small whatever the picture's size; those of a few are kept."""
    return recipe.make()
