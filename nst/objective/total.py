"""The total loss of a picture: content + style + total variation (Gatys et al. 2015, eq. 7)."""

import itertools
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from nst.encoder import AnyEncoder
from nst.objective import functional
from nst.team import ALONE, Team
from nst.tile import Window, read, windows


@dataclass(frozen=True, kw_only=True)
class Term:
    """One way to compare styles.

    Attributes:
        statistic: what is kept of a style layer's features (1, C, H, W), whose positions may have weights (1, 1, H, W).
        distance: distance of the picture's statistic from the style's, a scalar.
        weight: its factor among the terms.
    """

    statistic: Callable[..., Tensor]
    distance: Callable[[Tensor, Tensor], Tensor]
    weight: float


@dataclass(frozen=True, kw_only=True)
class Formulas:
    """Which formulas make up the objective; each is a pure function (see ``nst.objective.functional``).

    Attributes:
        content: distance of the picture's features from the content's, both (1, C, H, W), a scalar.
        style: the terms of each style layer's loss, by name.
        style_layers_averaged: whether the style layers are averaged (the paper's ``w_l``) or summed.
        relative: whether each layer's loss is divided by that of a picture without any features, so that a weight means
            the same at every layer, size and encoder.
        tv: of an image tensor, a scalar.
        laplacian: distance of an image tensor from the content image, pixel by pixel, a scalar.
    """

    content: Callable[[Tensor, Tensor], Tensor]
    style: Mapping[str, Term]
    style_layers_averaged: bool
    relative: bool
    tv: Callable[[Tensor], Tensor]
    laplacian: Callable[[Tensor, Tensor], Tensor]

    @property
    def kept(self) -> tuple[Hashable, ...]:
        """What tells the statistics from those of other formulas."""
        return tuple(map(_identity, self.statistics))

    @property
    def statistics(self) -> list[Callable[..., Tensor]]:
        """What is kept of a style layer's features: each statistic once, however many terms compare it."""
        return list({_identity(term.statistic): term.statistic for term in self.style.values()}.values())

    def place(self, term: Term) -> int:
        """Which of the statistics a term compares."""
        return [_identity(each) for each in self.statistics].index(_identity(term.statistic))


def _identity(function: Any) -> Hashable:
    """What tells a function from others, bare or with some of its arguments given."""
    given = getattr(function, "keywords", {})
    return getattr(function, "func", function), str(sorted(given.items()))


@dataclass(frozen=True, kw_only=True)
class Style:
    """One of the styles of a picture, or the style of one of its regions.

    Attributes:
        targets: the statistics to match, by layer (``style_targets``).
        weight: its factor among the styles, per area. The factors of all are divided by what they add up to, so that a
            single style's makes no difference.
        region: where the picture has this style, a mask (1, 1, H, W) in [0, 1]; None is everywhere.
    """

    targets: Mapping[str, Sequence[Tensor]]
    weight: float = 1.0
    region: Tensor | None = None

    @property
    def share(self) -> float:
        """Its weight times the fraction of the picture that is its region."""
        return self.weight * (1.0 if self.region is None else float(self.region.cpu().double().mean()))


@dataclass(frozen=True, kw_only=True)
class Weights:
    """The factors of the parts and, within them, of single layers (1 where a layer isn't named)."""

    content: float
    style: float
    tv: float
    laplacian: float = 0.0
    content_layers: Mapping[str, float] = field(default_factory=dict)
    style_layers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Losses:
    """One evaluation of the objective, as scalars.

    ``content``, ``style`` and ``tv`` come before their weights, so that runs with different weights compare;
    ``parts`` are what each layer adds to ``total``, by ``content/relu4_2``, ``style/relu1_1`` …, and what the pixels'
    Laplacian adds, by ``content/laplacian``.
    """

    total: Tensor
    content: Tensor
    style: Tensor
    tv: Tensor
    parts: dict[str, Tensor]


@torch.no_grad()
def content_targets(
    encoder: AnyEncoder, image: Tensor, layers: Sequence[str], *, tile: int | None = None
) -> dict[str, Tensor]:
    """What the content image tensor's features are in each of the layers, read in tiles of ``tile`` px."""
    targets: dict[str, Tensor] = {}
    for part in windows(encoder, image.shape[-2:], tile):
        features = encoder(image[..., *part.crop])
        for name in layers:
            if name not in targets:
                shape = (*features[name].shape[:2], *part.whole[name])
                kind = {"dtype": features[name].dtype, "device": image.device}
                targets[name] = torch.empty(shape, **kind, memory_format=torch.channels_last)
            targets[name][..., *part.place[name]] = features[name][..., *part.owned[name]]
    return targets


@torch.no_grad()
def style_targets(
    encoder: AnyEncoder,
    image: Tensor,
    layers: Sequence[str],
    statistics: Sequence[Callable[..., Tensor]],
    *,
    mask: Tensor | None = None,
    tile: int | None = None,
) -> dict[str, list[Tensor]]:
    """What the style image tensor's statistics are in each of the layers, read in tiles of ``tile`` px.

    Of the image only what is in the ``mask`` (1, 1, H, W) counts, where there is one.
    """
    parts = windows(encoder, image.shape[-2:], tile)
    weights = {} if mask is None else {name: functional.region_weights(mask, parts[0].whole[name]) for name in layers}

    def reader(crop: Tensor, part: Window) -> list[Tensor]:
        return _statistics(encoder(crop), part, layers, statistics, weights)

    found = iter(read(image, parts, reader))
    return {name: list(itertools.islice(found, len(statistics))) for name in layers}


def _statistics(
    features: Mapping[str, Tensor],
    part: Window,
    layers: Sequence[str],
    statistics: Sequence[Callable[..., Tensor]],
    weights: Mapping[str, Tensor],
) -> list[Tensor]:
    """What a tile adds to each layer's statistics, layer by layer; ``weights`` are of a layer's positions, if any."""
    return [
        _contribution(each, part, name, features[name], weights.get(name)) for name in layers for each in statistics
    ]


def _contribution(
    function: Callable[..., Tensor], part: Window, name: str, features: Tensor, of_positions: Tensor | None
) -> Tensor:
    """What a tile adds to a mean or a sum over a layer's positions in the whole picture.

    The function's second argument is its part of the values ``of_positions``: a target's, or weights.
    """
    owned, place, given = part.owned[name], part.place[name], {}
    if reach := functional.reach(function):
        given["own"] = (owned[0].stop - owned[0].start, owned[1].stop - owned[1].start)
        more = [min(reach, beyond) for beyond in part.beyond[name]]
        owned, place = (
            (slice(rows.start, rows.stop + more[0]), slice(columns.start, columns.stop + more[1]))
            for rows, columns in (owned, place)
        )
    found = function(features[..., *owned], None if of_positions is None else of_positions[..., *place], **given)
    share = part.share(name)
    return found if functional.combines(function) == "sum" else share * found


class Objective(nn.Module):
    """Holds the encoder and the targets; maps an image tensor (1, 3, H, W) to its losses.

    Args:
        encoder: returns features by layer name.
        formulas: the mathematics.
        weights: the factors.
        content: the features to match, position by position, by layer (``content_targets``).
        styles: what to match them by, each in its region.
        picture: the content image tensor, where its Laplacian has a weight.
        view: what of an image tensor counts, as an image tensor; None is all.
        tile: the picture is read in tiles of about so many px, to spare memory; None reads it as a whole.
        team: the processes that the tiles are shared out over.
    """

    picture: Tensor | None

    def __init__(
        self,
        *,
        encoder: AnyEncoder,
        formulas: Formulas,
        weights: Weights,
        content: Mapping[str, Tensor],
        styles: Sequence[Style],
        picture: Tensor | None = None,
        view: Callable[[Tensor], Tensor] | None = None,
        tile: int | None = None,
        team: Team = ALONE,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.formulas = formulas
        self.statistics = formulas.statistics
        self.terms = [
            (term, formulas.place(term)) for term in formulas.style.values()
        ]  # each with its statistic's place
        self.weights = weights
        self.view = view
        self.tile = tile
        self.team = team
        self.content_layers = list(content)
        self.style_layers = list(styles[0].targets) if styles else []
        regions = list({id(style.region): style.region for style in styles}.values())
        # The styles of each region, by their numbers: they share the picture's statistics.
        self.regions = [[n for n, style in enumerate(styles) if style.region is region] for region in regions]
        self.register_buffer("picture", picture)
        for name, target in content.items():
            self.register_buffer(_key("content", name), target)
        for number, region in enumerate(regions):
            if region is not None:
                whole = windows(encoder, region.shape[-2:], None)[0].whole
                for name in self.style_layers:
                    self.register_buffer(_key("region", number, name), functional.region_weights(region, whole[name]))
        for number, style in enumerate(styles):
            for name, targets in style.targets.items():
                for place, target in enumerate(targets):
                    self.register_buffer(_key("style", number, name, place), target)
        self.content_factors = {name: self._content_factor(name) for name in content}
        shares = sum(style.share for style in styles)
        self.style_factors = [
            {name: self._style_factors(number, name, style.share / shares) for name in self.style_layers}
            for number, style in enumerate(styles)
        ]

    def forward(self, image: Tensor) -> Losses:
        """The losses of an image tensor (1, 3, H, W); ``total`` carries the gradient."""
        if self.view is not None:
            image = self.view(image)
        found = iter(read(image, windows(self.encoder, image.shape[-2:], self.tile), self._read, team=self.team))
        content = {name: self.content_factors[name] * next(found) for name in self.content_layers}
        style = self._style(found)
        tv = self.formulas.tv(image) if self.weights.tv else image.new_zeros(())
        parts = {
            **{f"content/{name}": self.weights.content * loss for name, loss in content.items()},
            **{f"style/{name}": self.weights.style * loss for name, loss in style.items()},
        }
        if self.weights.laplacian:
            assert self.picture is not None
            parts["content/laplacian"] = self.weights.laplacian * self.formulas.laplacian(image, self.picture)
        return Losses(
            total=sum(parts.values(), start=self.weights.tv * tv),
            content=sum(content.values(), start=image.new_zeros(())),
            style=sum(style.values(), start=image.new_zeros(())),
            tv=tv,
            parts=parts,
        )

    def _read(self, crop: Tensor, part: Window) -> list[Tensor]:
        """What a tile adds to each content layer's distance, and to each style layer's statistics in each region."""
        features = self.encoder(crop)
        content = [
            _contribution(self.formulas.content, part, name, features[name], self.get_buffer(_key("content", name)))
            for name in self.content_layers
        ]
        style = [
            found
            for number in range(len(self.regions))
            for found in _statistics(features, part, self.style_layers, self.statistics, self._weights_in(number))
        ]
        return content + style

    def _weights_in(self, region: int) -> dict[str, Tensor]:
        """The weights of each style layer's positions; none where the region is all of the picture."""
        names = {name: _key("region", region, name) for name in self.style_layers}
        return {name: self.get_buffer(key) for name, key in names.items() if key in self._buffers}

    def _style(self, found: Iterator[Tensor]) -> dict[str, Tensor]:
        """Each layer's loss, from the statistics in each region, layer by layer: its terms, summed over the styles."""
        losses: dict[str, Tensor] = {}
        for styles in self.regions:
            for name in self.style_layers:
                statistics = list(itertools.islice(found, len(self.statistics)))
                for number in styles:
                    for (term, place), factor in zip(self.terms, self.style_factors[number][name], strict=True):
                        target = self.get_buffer(_key("style", number, name, place))
                        loss = factor * term.distance(statistics[place], target)
                        losses[name] = loss if name not in losses else losses[name] + loss
        return losses

    @torch.no_grad()
    def _content_factor(self, name: str) -> float:
        target = self.get_buffer(_key("content", name))
        factor = self.weights.content_layers.get(name, 1.0)
        return factor * self._scale(partial(_by_rows, self.formulas.content), target.new_zeros(()), target)

    @torch.no_grad()
    def _style_factors(self, style: int, name: str, share: float) -> list[float]:
        """Of each term, in a layer of a style that has such a share in all."""
        layer = share * self.weights.style_layers.get(name, 1.0)
        layer /= len(self.style_layers) if self.formulas.style_layers_averaged else 1
        targets = [self.get_buffer(_key("style", style, name, place)) for _, place in self.terms]
        return [
            layer * term.weight * self._scale(term.distance, torch.zeros_like(target), target)
            for (term, _), target in zip(self.terms, targets, strict=True)
        ]

    def _scale(self, distance: Callable[[Tensor, Tensor], Tensor], nothing: Tensor, target: Tensor) -> float:
        """The factor that makes a loss relative to that of a picture without features, where this is asked for."""
        energy = float(distance(nothing, target)) if self.formulas.relative else 1.0
        return 1 / energy if energy > 0 else 1.0


def _key(*parts: str | int) -> str:
    """The name of a buffer, which has no dots."""
    return "_".join(map(str, parts)).replace(".", "/")


def _by_rows(distance: Callable[[Tensor, Tensor], Tensor], features: Tensor, target: Tensor) -> Tensor:
    """The distance of features, which may be one number, some rows at a time where it can be, to spare memory."""
    kind = functional.combines(distance)
    height = target.shape[2]
    found = []
    for start in range(0, height, height if kind is None else 64):
        rows = target[:, :, start : start + 64 if kind else height]
        found.append(distance(features.expand_as(rows), rows) * (1 if kind == "sum" else rows.shape[2] / height))
    return torch.stack(found).sum()
