"""The features of a picture in several layers at once, as a whole or at sampled positions."""

from collections.abc import Mapping, Sequence

import torch
from torch import Generator, Tensor

from nst.objective.products import as_rows, widened


class Reading:
    """The features of a picture in one region, read as a whole, and random samples of them.

    Args:
        features: the features (1, C, H, W) by layer.
        weights: the weights (1, 1, H, W) of the positions in a region, with mean 1, by layer; empty for the whole
            picture.
        seed: seed of all random numbers.
    """

    def __init__(
        self, features: Mapping[str, Tensor], weights: Mapping[str, Tensor] | None = None, *, seed: int = 0
    ) -> None:
        self.features = dict(features)
        self.weights = dict(weights or {})
        self.seed = seed
        self._samples: dict[int, dict[str, Tensor]] = {}

    @property
    def dtype(self) -> torch.dtype:
        """The narrowest type of the features: that of the run, as the picture itself has 32 bits."""
        return min((each.dtype for each in self.features.values()), key=lambda dtype: dtype.itemsize)

    @property
    def finest(self) -> str:
        """The layer with the most positions."""
        return max(self.features, key=lambda name: self.features[name][0, 0].numel())

    def generator(self) -> Generator:
        """Return a new generator on the CPU. Terms that draw in the same way get the same numbers."""
        return Generator().manual_seed(self.seed)

    def sample(self, count: int) -> Mapping[str, Tensor]:
        """Return the features at random ``positions``, interpolated, (count, C) by layer; drawn once."""
        if count not in self._samples:
            self._samples[count] = self.at(self.positions(count))
        return self._samples[count]

    def positions(self, count: int) -> Tensor:
        """Return rows and columns of random positions in the finest layer, (count, 2); all of them if it has fewer.

        One position is drawn from each of ``count`` equal parts of the region, row by row.
        """
        height, width = self.features[self.finest].shape[-2:]
        weights = self.weights.get(self.finest)
        whole = height * width
        exact = None if weights is None else weights.flatten().cpu().double()
        number = min(count, whole if exact is None else int(exact.count_nonzero()))
        levels = torch.arange(number) + torch.rand(number, generator=self.generator(), dtype=torch.float64)
        if exact is None:
            index = (levels * (whole / number)).long()
        else:
            sums = exact.cumsum(0)
            index = torch.searchsorted(sums, levels * (sums[-1] / number))
        index.clamp_(max=whole - 1)
        return torch.stack([index // width, index % width], dim=1).to(self.features[self.finest].device)

    def at(self, positions: Tensor, *, interpolate: bool = True) -> dict[str, Tensor]:
        """Return the features at positions (M, 2) of the finest layer, (M, C) by layer: hypercolumns.

        A position in a coarser layer is the same fraction of its height and width, and is interpolated bilinearly, or
        rounded down.
        """
        whole = self.features[self.finest].shape[-2:]
        return {name: _at(each, positions, whole, interpolate=interpolate) for name, each in self.features.items()}


def _at(features: Tensor, positions: Tensor, whole: Sequence[int], *, interpolate: bool) -> Tensor:
    height, width = features.shape[-2:]
    rows = as_rows(features)
    if (height, width) == tuple(whole):
        return widened(rows[positions[:, 0] * width + positions[:, 1]])
    factors = torch.tensor([height / whole[0], width / whole[1]], device=positions.device)
    exact = positions * factors
    low = exact.floor().long()
    if not interpolate:
        return widened(rows[low[:, 0] * width + low[:, 1]])
    last = torch.tensor([height - 1, width - 1], device=positions.device)
    high, (down, right) = torch.minimum(low + 1, last), (exact - low).to(widened(rows[:0]).dtype).unbind(1)
    found = torch.zeros((), device=features.device)
    for row, along in ((low, 1 - down), (high, down)):
        for column, across in ((low, 1 - right), (high, right)):
            corner = widened(rows[row[:, 0] * width + column[:, 1]])
            found = found + corner * (along * across).unsqueeze(1)
    return found
