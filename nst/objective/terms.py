"""The terms of an objective: the comparisons and their weights."""

import copy
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from torch import Tensor

from nst.objective import statistics
from nst.objective.reading import Reading


class StyleTerm:
    """A comparison of styles, layer by layer: a statistic of the features and a distance of two statistics.

    A custom term is a subclass, named by the ``_target_`` of a node in ``objective.style``.

    Attributes:
        weight: factor among the terms.
        over_positions: whether ``statistic`` is a ``mean`` or a ``sum`` over positions, which allows reading a picture
            in tiles; None if it is neither.
        reach: how many positions beyond its own, to the right and below, ``statistic`` reads.
    """

    weight: float = 1.0
    over_positions: Literal["mean", "sum"] | None = None
    reach: int = 0

    def statistic(self, features: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the statistic of a layer's features (1, C, H, W).

        ``weights`` (1, 1, H, W), with mean 1, weight the positions if only a region of the picture counts.
        """
        raise NotImplementedError

    def distance(self, found: Tensor, target: Tensor) -> Tensor:
        """Return the loss, a scalar: the distance of the picture's statistic from the style's."""
        raise NotImplementedError

    @property
    def key(self) -> Hashable:
        """The key of the statistic. Terms with equal keys share one statistic."""
        given = {name: value for name, value in vars(self).items() if name != "weight"}
        return type(self), repr(sorted(given.items()))


@dataclass(frozen=True, kw_only=True)
class Term(StyleTerm):
    """A style term made of two functions (see ``nst.objective.functional``).

    Attributes:
        statistic: statistic of a style layer's features (1, C, H, W), with optional weights (1, 1, H, W) of positions.
        distance: distance of the picture's statistic from the style's, a scalar.
        weight: factor among the terms.
    """

    statistic: Callable[..., Tensor]
    distance: Callable[[Tensor, Tensor], Tensor]  # type: ignore[assignment]
    weight: float

    @property
    def over_positions(self) -> Literal["mean", "sum"] | None:  # type: ignore[override]
        return statistics.combines(self.statistic)

    @property
    def reach(self) -> int:  # type: ignore[override]
        return statistics.reach(self.statistic)

    @property
    def key(self) -> Hashable:
        given = getattr(self.statistic, "keywords", {})
        return getattr(self.statistic, "func", self.statistic), str(sorted(given.items()))


class JointTerm:
    """A term on several layers at once, with random numbers, or with a target that depends on the picture.

    As a style term it reads ``layers.style``; as ``objective.content`` it reads ``layers.content``, and its target is
    made from the content. It reads the whole picture, so the picture can't be read in tiles.

    Attributes:
        weight: factor among the terms.
        draws: whether the loss of one picture differs from evaluation to evaluation, which L-BFGS can't follow.
        turns: how many copies of the style ``target`` gets, each turned by a further 90°.
        matches: whether ``match`` makes the target of a scale from the picture at its start.
        requires: layers that the term needs.
    """

    weight: float = 1.0
    draws: bool = False
    turns: int = 1
    matches: bool = False
    requires: Sequence[str] = ()

    def kept_bytes(self, shapes: Mapping[str, Sequence[int]], *, weighted: bool) -> int:
        """Return the bytes that the target takes, and what an evaluation keeps for the gradient.

        ``shapes`` are those of the features (1, C, H, W) by layer; ``weighted`` tells whether only a region counts.
        """
        return 0

    def target(self, style: Reading, *turned: Reading) -> Sequence[Tensor]:
        """Return the target from the style, and from its turned copies if there are any."""
        raise NotImplementedError

    def match(
        self, target: Sequence[Tensor], read: Callable[[Tensor], Reading], content: Tensor, picture: Tensor | None
    ) -> Sequence[Tensor]:
        """Return the target of a scale, from that of the style.

        ``read`` returns the reading of an image tensor in the style's region; ``content`` is the content image, and
        ``picture`` the picture at the start of the scale; None at the first scale.
        """
        return target

    def loss(self, picture: Reading, target: Sequence[Tensor]) -> Tensor:
        """Return the loss of the picture, a scalar.

        All random numbers come from ``picture``, which is seeded by the run's seed and the number of the evaluation.
        """
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Formulas:
    """The formulas of an objective.

    Attributes:
        content: distance of the picture's features from the content's, both (1, C, H, W), a scalar; or a joint term.
        style: the terms of the style loss, by name.
        style_layers_averaged: whether the style layers are averaged (the paper's ``w_l``) or summed.
        relative: whether each layer's loss is divided by that of a picture without any features, so that a weight means
            the same for every layer, size and encoder.
        tv: total variation of an image tensor, a scalar.
        laplacian: distance of an image tensor from the content image, pixel by pixel, a scalar.
    """

    content: Callable[[Tensor, Tensor], Tensor] | JointTerm
    style: Mapping[str, StyleTerm | JointTerm]
    style_layers_averaged: bool
    relative: bool
    tv: Callable[[Tensor], Tensor]
    laplacian: Callable[[Tensor, Tensor], Tensor]

    @property
    def terms(self) -> list[StyleTerm]:
        """The style terms that compare layer by layer."""
        return [term for term in self.style.values() if isinstance(term, StyleTerm)]

    @property
    def joint(self) -> dict[str, JointTerm]:
        """The style terms that use several layers at once, by name."""
        return {name: term for name, term in self.style.items() if isinstance(term, JointTerm)}

    @property
    def all_joint(self) -> list[JointTerm]:
        """Every joint term, of the content and the style."""
        content = [self.content] if isinstance(self.content, JointTerm) else []
        return [*content, *self.joint.values()]

    @property
    def draws(self) -> bool:
        """Whether the loss of one picture differs from evaluation to evaluation."""
        return any(term.draws for term in self.all_joint)

    @property
    def matches(self) -> bool:
        """Whether a target depends on the picture at the start of its scale."""
        return any(term.matches for term in self.joint.values())

    def weighted(self, factors: Mapping[str, float], only: Sequence[str] | None = None) -> "Formulas":
        """Return the formulas with the weights of style terms times ``factors``.

        Those of factor 0 are left out, and if ``only`` is given, those that it doesn't name.
        """
        if not factors and only is None:
            return self
        wanted = {name: factors.get(name, 1.0) for name in (self.style if only is None else only)}
        style = {name: _times(self.style[name], factor) for name, factor in wanted.items() if factor}
        return replace(self, style=style)

    @property
    def statistics(self) -> dict[Hashable, StyleTerm]:
        """One term for each key: the first of the terms that share a statistic."""
        found: dict[Hashable, StyleTerm] = {}
        for term in self.terms:
            found.setdefault(term.key, term)
        return found

    @property
    def reach(self) -> int:
        """The number of positions beyond its own that any statistic reads."""
        return max((term.reach for term in self.terms), default=0)


def _times(term: StyleTerm | JointTerm, factor: float) -> StyleTerm | JointTerm:
    """Return a copy of a term with a multiple of its weight."""
    copied = copy.copy(term)
    object.__setattr__(copied, "weight", term.weight * factor)  # a Term is frozen
    return copied


@dataclass(frozen=True, kw_only=True)
class Style:
    """One of the styles of a picture, or the style of one of its regions.

    Attributes:
        targets: targets to match (``style_targets``).
        weight: factor among the styles, per area. The factors of all styles are divided by their sum, so the factor of
            a single style makes no difference.
        region: name of the region with this style; None for the whole picture.
    """

    targets: "Targets"
    weight: float = 1.0
    region: str | None = None


@dataclass(frozen=True, kw_only=True)
class Targets:
    """The targets of one style.

    Attributes:
        layers: statistics of each layer, by the layer's name and the term's key.
        joint: target of each joint term, by the term's name.
    """

    layers: Mapping[str, Mapping[Hashable, Tensor]]
    joint: Mapping[str, Sequence[Tensor]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Weights:
    """The factors of the parts of the loss and, within the parts, of single layers (1 if a layer isn't named)."""

    content: float
    style: float
    tv: float
    laplacian: float = 0.0
    content_layers: Mapping[str, float] = field(default_factory=dict)
    style_layers: Mapping[str, float] = field(default_factory=dict)


def not_tiled(formulas: Formulas) -> list[str]:
    """Return the keys, below ``objective``, of the formulas that can't be computed in tiles."""
    parts: dict[str, Any] = {"content": statistics.combines(formulas.content)}
    for name, term in formulas.style.items():
        if isinstance(term, JointTerm):
            parts[f"style.{name}"] = None
        else:
            suffix = ".statistic" if isinstance(term, Term) else ""
            parts[f"style.{name}{suffix}"] = term.over_positions
    return [key for key, combines in parts.items() if combines is None]
