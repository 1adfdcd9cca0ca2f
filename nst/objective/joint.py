"""Terms that draw at each evaluation: directions, or the positions that they compare."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nst.encoder import PIXELS
from nst.objective.functional import sliced_wasserstein
from nst.objective.products import TINY, unit_rows, widened
from nst.objective.reading import Reading
from nst.objective.statistics import kept_bytes, sorted_projections
from nst.objective.terms import JointTerm

#: Rows of an orthonormal basis of colours: lightness, and two axes across it.
_COLORS = ((0.577350, 0.577350, 0.577350), (-0.577350, 0.788675, -0.211325), (-0.577350, -0.211325, 0.788675))


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

    def target(self, style: Reading, *turned: Reading) -> Sequence[Tensor]:
        """Return the style's features of each layer, and the weights of their positions, if any."""
        return [*style.features.values(), *style.weights.values()]

    def loss(self, picture: Reading, target: Sequence[Tensor]) -> Tensor:
        kept, masks = target[: len(picture.features)], target[len(picture.features) :]
        generator = picture.generator()
        losses = []
        for number, (name, found) in enumerate(picture.features.items()):
            seed = int(torch.randint(2**62, (), generator=generator))
            projected = partial(sorted_projections, directions=self.directions, seed=seed)
            with torch.no_grad():
                wanted = projected(kept[number], masks[number] if masks else None)
            losses.append(sliced_wasserstein(projected(found, picture.weights.get(name)), wanted))
        return torch.stack(losses).sum()


class Sampled(JointTerm):
    """A term that compares hypercolumns, the features of all layers at one position, at random positions.

    Kolkin et al. 2019 (arXiv:1904.12785), section 2. The positions of the picture are drawn at each evaluation, and are
    the same for all terms with equal ``samples``. Those of the style are drawn once a scale.

    Args:
        weight: factor among the terms.
        samples: number of positions in the picture.
        style_samples: number of positions in the style.
    """

    draws = True

    def __init__(self, *, weight: float, samples: int, style_samples: int) -> None:
        self.weight = weight
        self.samples = samples
        self.style_samples = style_samples

    def kept_bytes(self, shapes: Mapping[str, Sequence[int]], *, weighted: bool) -> int:
        channels = sum(shape[1] for shape in shapes.values())
        rows = 4 * (4 * self.samples + 3 * self.style_samples) * channels
        return rows + 12 * self.samples * self.style_samples + 12 * channels**2

    def target(self, style: Reading, *turned: Reading) -> Sequence[Tensor]:
        """Return the style's hypercolumns, (style_samples, C of all layers), of length 1."""
        return [unit_rows(_joined(self._of_style(style)))]

    def _of_style(self, style: Reading) -> Mapping[str, Tensor]:
        return style.at(style.positions(self.style_samples), interpolate=False)


class RelaxedEMD(Sampled):
    """The relaxed earth mover's distance of hypercolumns by cosine: Kolkin et al. 2019 (arXiv:1904.12785), eqs. 4 to 6.

    The larger of two means: of each position's distance from the nearest of the style, and the reverse.
    """

    def loss(self, picture: Reading, target: Sequence[Tensor]) -> Tensor:
        found, [style] = unit_rows(_joined(picture.sample(self.samples))), target
        with torch.no_grad():
            similar = found.to(picture.dtype) @ style.to(picture.dtype).T
        return _relaxed(1 - similar, lambda one, other: 1 - (one * other).sum(1), found, style)


class HypercolumnMoments(Sampled):
    """The distance of the means and covariances of hypercolumns: Kolkin et al. 2019 (arXiv:1904.12785), eq. 7."""

    def target(self, style: Reading, *turned: Reading) -> Sequence[Tensor]:
        return _moments(_joined(self._of_style(style)), style.dtype)

    def loss(self, picture: Reading, target: Sequence[Tensor]) -> Tensor:
        mean, covariance = _moments(_joined(picture.sample(self.samples)), picture.dtype)
        return (mean - target[0]).abs().mean() + (covariance - target[1]).abs().mean()


class Palette(Sampled):
    """The relaxed earth mover's distance of colours: Kolkin et al. 2019 (arXiv:1904.12785), section 2.3.

    The distance of two colours, in an orthonormal basis, is that of their directions, 1 - cos, plus their Euclidean
    distance divided by √3.
    """

    requires = (PIXELS,)

    def target(self, style: Reading, *turned: Reading) -> Sequence[Tensor]:
        return [_colors(self._of_style(style)[PIXELS])]

    def loss(self, picture: Reading, target: Sequence[Tensor]) -> Tensor:
        found, [style] = _colors(picture.sample(self.samples)[PIXELS]), target

        def apart(one: Tensor, other: Tensor) -> Tensor:
            square = (one - other).square().sum(1).clamp(min=1e-5)
            return 1 - (unit_rows(one) * unit_rows(other)).sum(1) + (square / 3).sqrt()

        with torch.no_grad():
            apart_by = (
                1
                - unit_rows(found) @ unit_rows(style).T
                + (torch.cdist(found, style).square().clamp(min=1e-5) / 3).sqrt()
            )
        return _relaxed(apart_by, apart, found, style)


class SelfSimilarity(JointTerm):
    """A content term: the distances between hypercolumns within the picture are those within the content.

    Kolkin et al. 2019 (arXiv:1904.12785), eq. 8: cosine distances, divided by the sum of their column. It keeps the
    layout of the content and none of its textures and colours.

    Args:
        weight: factor of the loss.
        samples: number of positions, drawn at each evaluation.
    """

    draws = True

    def __init__(self, *, weight: float, samples: int) -> None:
        self.weight = weight
        self.samples = samples

    def kept_bytes(self, shapes: Mapping[str, Sequence[int]], *, weighted: bool) -> int:
        channels = sum(shape[1] for shape in shapes.values())
        return 4 * self.samples * (6 * channels + 6 * self.samples)

    def target(self, style: Reading, *turned: Reading) -> Sequence[Tensor]:
        """Return the content's features, by layer."""
        return list(style.features.values())

    def loss(self, picture: Reading, target: Sequence[Tensor]) -> Tensor:
        content = Reading(dict(zip(picture.features, target, strict=True)))
        with torch.no_grad():
            wanted = _self_distances(_joined(content.at(picture.positions(self.samples))), picture.dtype)
        found = _self_distances(_joined(picture.sample(self.samples)), picture.dtype)
        return (found - wanted).abs().sum(0).mean()


def _joined(features: Mapping[str, Tensor]) -> Tensor:
    """Return features (M, C) by layer as hypercolumns (M, C of all layers)."""
    return torch.cat(list(features.values()), dim=1)


def _relaxed(matrix: Tensor, apart: Callable[[Tensor, Tensor], Tensor], found: Tensor, style: Tensor) -> Tensor:
    """Return the relaxed earth mover's distance; ``matrix`` has the distances of all pairs, without a gradient."""
    of_found = apart(found, style[matrix.argmin(1)]).mean()
    of_style = apart(found[matrix.argmin(0)], style).mean()
    return torch.maximum(of_found, of_style)


class _Products(torch.autograd.Function):
    """The products ``A Aᵀ`` of all pairs of rows, in 32 bits, with one product for the gradient, in a narrow type."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, narrow: torch.dtype) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.narrow = narrow
        return widened(rows @ rows.T)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        [rows] = ctx.saved_tensors
        return ((gradient + gradient.T).to(ctx.narrow) @ rows.to(ctx.narrow)).to(rows), None


def _products(rows: Tensor, narrow: torch.dtype) -> Tensor:
    return _Products.apply(rows, narrow)  # type: ignore[no-any-return]


def _moments(rows: Tensor, narrow: torch.dtype) -> Sequence[Tensor]:
    mean = rows.mean(0)
    return mean, _products((rows - mean).T.to(narrow), narrow) / len(rows)


def _colors(pixels: Tensor) -> Tensor:
    return pixels @ pixels.new_tensor(_COLORS).T


def _self_distances(rows: Tensor, narrow: torch.dtype) -> Tensor:
    distances = 1 - _products(unit_rows(rows), narrow)
    return distances / distances.sum(0).clamp(min=TINY)
