"""Style terms that draw random numbers at each evaluation."""

import math
from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Generator, Tensor

from nst.objective.functional import sliced_wasserstein
from nst.objective.statistics import kept_bytes, sorted_projections
from nst.objective.terms import JointTerm


class SlicedWasserstein(JointTerm):
    """The sliced Wasserstein distance, with new directions at each evaluation: Heitz et al. 2021 (arXiv:2006.07229).

    With fixed directions, as in ``sorted_projections``, an optimizer fits these directions; with new ones, all of the
    distribution. The layers' losses (eqs. 2 and 3) are summed.

    Args:
        weight: factor among the terms.
        directions: number of directions; None for as many as a layer has channels, as in the paper.
    """

    draws = True

    def __init__(self, *, weight: float, directions: int | None) -> None:
        self.weight = weight
        self.directions = directions

    def kept_bytes(self, shapes: Mapping[str, Sequence[int]], *, weighted: bool) -> int:
        projected = partial(sorted_projections, directions=self.directions, seed=0)
        evaluation = sum(2 * kept_bytes(projected, shape, weighted=weighted) for shape in shapes.values())
        return evaluation + sum(4 * math.prod(shape) for shape in shapes.values())

    def target(self, features: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> Sequence[Tensor]:
        """Return the style's features of each layer, and the weights of their positions, if any."""
        return [*features.values(), *weights.values()]

    def loss(
        self,
        features: Mapping[str, Tensor],
        target: Sequence[Tensor],
        weights: Mapping[str, Tensor],
        generator: Generator,
    ) -> Tensor:
        kept, masks = target[: len(features)], target[len(features) :]
        losses = []
        for number, (name, found) in enumerate(features.items()):
            seed = int(torch.randint(2**62, (), generator=generator))
            projected = partial(sorted_projections, directions=self.directions, seed=seed)
            with torch.no_grad():
                wanted = projected(kept[number], masks[number] if masks else None)
            losses.append(sliced_wasserstein(projected(found, weights.get(name)), wanted))
        return torch.stack(losses).sum()
