"""The total loss of a picture: content + style + total variation (Gatys et al. 2015, eq. 7)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from nst.encoder import Encoder
from nst.objective import functional
from nst.team import ALONE, Team
from nst.tile import Window, read, windows


@dataclass(frozen=True, kw_only=True)
class Formulas:
    """Which formulas make up the objective; each is a pure function (see ``nst.objective.functional``).

    Attributes:
        content: distance of the picture's features from the content's, both (1, C, H, W), a scalar.
        statistic: what is kept of a style layer's features (1, C, H, W).
        distance: distance of the picture's statistic from the style's, a scalar.
        style_layers_averaged: whether the style layers are averaged (the paper's ``w_l``) or summed.
    """

    content: Callable[[Tensor, Tensor], Tensor]
    statistic: Callable[[Tensor], Tensor]
    distance: Callable[[Tensor, Tensor], Tensor]
    style_layers_averaged: bool


@dataclass(frozen=True, kw_only=True)
class Weights:
    """The factors of the parts and, within them, of single layers (1 where a layer isn't named)."""

    content: float
    style: float
    tv: float
    content_layers: Mapping[str, float] = field(default_factory=dict)
    style_layers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Losses:
    """One evaluation of the objective, as scalars.

    ``content``, ``style`` and ``tv`` come before their weights, so that runs with different weights compare;
    ``parts`` are what each layer adds to ``total``, by ``content/relu4_2``, ``style/relu1_1`` …
    """

    total: Tensor
    content: Tensor
    style: Tensor
    tv: Tensor
    parts: dict[str, Tensor]


@torch.no_grad()
def content_targets(
    encoder: Encoder, image: Tensor, layers: Sequence[str], *, tile: int | None = None
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
    encoder: Encoder,
    image: Tensor,
    layers: Sequence[str],
    statistic: Callable[[Tensor], Tensor],
    *,
    tile: int | None = None,
) -> dict[str, Tensor]:
    """What the style image tensor's statistics are in each of the layers, read in tiles of ``tile`` px."""

    def reader(crop: Tensor, part: Window) -> list[Tensor]:
        features = encoder(crop)
        return [_contribution(statistic, part, name, features[name]) for name in layers]

    return dict(zip(layers, read(image, windows(encoder, image.shape[-2:], tile), reader), strict=True))


def _contribution(
    function: Callable[..., Tensor], part: Window, name: str, features: Tensor, *targets: Tensor
) -> Tensor:
    """What a tile adds to a mean or a sum over a layer's positions in the whole picture."""
    own = features[..., *part.owned[name]]
    found = function(own, *(target[..., *part.place[name]] for target in targets))
    share = part.share(name)
    return found if functional.combines(function) == "sum" else share * found


class Objective(nn.Module):
    """Holds the encoder and the targets; maps an image tensor (1, 3, H, W) to its losses.

    Args:
        encoder: returns features by layer name.
        formulas: the mathematics.
        weights: the factors.
        content: the features to match, position by position, by layer (``content_targets``).
        style: the statistics to match, by layer (``style_targets``).
        tile: the picture is read in tiles of about so many px, to spare memory; None reads it as a whole.
        team: the processes that the tiles are shared out over.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        formulas: Formulas,
        weights: Weights,
        content: Mapping[str, Tensor],
        style: Mapping[str, Tensor],
        tile: int | None = None,
        team: Team = ALONE,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.formulas = formulas
        self.weights = weights
        self.tile = tile
        self.team = team
        self.content_layers = list(content)
        self.style_layers = list(style)
        for name, target in content.items():
            self.register_buffer(f"content_{name}", target)
        for name, target in style.items():
            self.register_buffer(f"style_{name}", target)

    def forward(self, image: Tensor) -> Losses:
        """The losses of an image tensor (1, 3, H, W); ``total`` carries the gradient."""
        found = read(image, windows(self.encoder, image.shape[-2:], self.tile), self._read, team=self.team)
        content = {
            name: self.weights.content_layers.get(name, 1.0) * distance
            for name, distance in zip(self.content_layers, found, strict=False)
        }
        statistics = zip(self.style_layers, found[len(content) :], strict=True)
        style = {name: self._style(name, statistic) for name, statistic in statistics}
        tv = functional.total_variation(image) if self.weights.tv else image.new_zeros(())
        parts = {
            **{f"content/{name}": self.weights.content * loss for name, loss in content.items()},
            **{f"style/{name}": self.weights.style * loss for name, loss in style.items()},
        }
        return Losses(
            total=sum(parts.values(), start=self.weights.tv * tv),
            content=sum(content.values(), start=image.new_zeros(())),
            style=sum(style.values(), start=image.new_zeros(())),
            tv=tv,
            parts=parts,
        )

    def _read(self, crop: Tensor, part: Window) -> list[Tensor]:
        """What a tile adds to each content layer's distance, and to each style layer's statistic."""
        features = self.encoder(crop)
        content = [
            _contribution(self.formulas.content, part, name, features[name], self.get_buffer(f"content_{name}"))
            for name in self.content_layers
        ]
        statistics = [_contribution(self.formulas.statistic, part, name, features[name]) for name in self.style_layers]
        return content + statistics

    def _style(self, name: str, statistic: Tensor) -> Tensor:
        loss = self.formulas.distance(statistic, self.get_buffer(f"style_{name}"))
        share = 1 / len(self.style_layers) if self.formulas.style_layers_averaged else 1.0
        return self.weights.style_layers.get(name, 1.0) * share * loss
