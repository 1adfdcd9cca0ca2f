"""The total loss of a picture: content + style + total variation (Gatys et al. 2015, eq. 7)."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from nst.encoder.base import Encoder
from nst.objective import targets as target
from nst.objective.processes import ALONE, Team
from nst.objective.reading import Reading
from nst.objective.terms import Formulas, JointTerm, Style, StyleTerm, Targets, Weights
from nst.objective.tiles import Window, read, windows


@dataclass(frozen=True, kw_only=True)
class Losses:
    """The losses of one evaluation of the objective, as scalars.

    ``content``, ``style`` and ``tv`` are losses before their weights, so runs with different weights can be compared.
    ``parts`` has the contributions to ``total``: that of each layer by ``content/relu4_2``, ``style/relu1_1`` …, that
    of the pixels' Laplacian by ``content/laplacian``, that of a joint term by ``style/NAME``, and that of a joint term
    of the content by ``content/NAME``, with the name of its class.
    """

    total: Tensor
    content: Tensor
    style: Tensor
    tv: Tensor
    parts: dict[str, Tensor]


class Objective(nn.Module):
    """A module with the encoder and the targets that maps an image tensor (1, 3, H, W) to its losses.

    Args:
        encoder: returns features by layer name.
        formulas: the formulas of the terms.
        weights: the factors.
        content: the features to match, position by position, by layer (``content_targets``).
        styles: the styles to match, each in its region.
        regions: masks (1, 1, H, W) in [0, 1] of the styles' regions, by name.
        picture: the content image tensor; needed if its Laplacian has a weight.
        view: returns the part of an image tensor that counts, as an image tensor; None for all of it.
        tile: size in px of the tiles in which the picture is read, to spare memory; None reads it as a whole.
        team: the processes that share the tiles.
        seed: seed of the random numbers of joint terms.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        formulas: Formulas,
        weights: Weights,
        content: Mapping[str, Tensor],
        styles: Sequence[Style],
        regions: Mapping[str, Tensor] | None = None,
        picture: Tensor | None = None,
        view: Callable[[Tensor], Tensor] | None = None,
        tile: int | None = None,
        team: Team = ALONE,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.formulas = formulas
        self.terms = formulas.statistics
        self.compared = [(term.key, term) for term in formulas.terms]
        self.weights = weights
        self.content = dict(content)
        self.styles = list(styles)
        self.layers = list(styles[0].targets.layers) if styles else []
        self.picture = picture
        self.view = view
        self.tile = tile
        self.team = team
        self.seed = seed
        masks = dict(regions or {})
        #: The weights of each style layer's positions, by region; empty for a region that is the whole picture.
        self.positions: dict[str | None, dict[str, Tensor]] = {
            name: {} if name is None else self._weights_in(masks[name])
            for name in dict.fromkeys(style.region for style in styles)
        }
        if isinstance(formulas.content, JointTerm):
            self.content_factors = {type(formulas.content).__name__: formulas.content.weight} if self.content else {}
        else:
            self.content_factors = {
                name: weights.content_layers.get(name, 1.0) * relative
                for name, relative in target.scale(formulas, self.content).items()
            }
        areas = {name: float(mask.cpu().double().mean()) for name, mask in masks.items()}
        shares = [style.weight * (1.0 if style.region is None else areas[style.region]) for style in styles]
        self.shares = [share / sum(shares) for share in shares]
        self.factors = [self._factors(style.targets, share) for style, share in zip(styles, self.shares, strict=True)]

    def forward(self, image: Tensor, evaluation: int = 0) -> Losses:
        """Return the losses of an image tensor (1, 3, H, W); ``total`` carries the gradient.

        The random numbers of joint terms depend on the number of the ``evaluation``.
        """
        if self.view is not None:
            image = self.view(image)
        reader = partial(self._read, evaluation)
        found = read(image, windows(self.encoder, image.shape[-2:], self.tile), reader, team=self.team)
        content = {name: self.content_factors[name] * found["content", name] for name in self.content_factors}
        style = self._style(found) | {name: found["joint", name] for name in self.formulas.joint}
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

    def _read(self, evaluation: int, crop: Tensor, part: Window) -> dict[Hashable, Tensor]:
        """Return a tile's part of each content layer's loss, and of each style layer's statistics in each region.

        If there are joint terms, the tile is the whole picture, and their losses are returned, too.
        """
        features = self.encoder.read(crop)
        found: dict[Hashable, Tensor] = {}
        if isinstance(self.formulas.content, JointTerm) or self.formulas.joint:
            found |= self._joint(features, seed=hash((self.seed, evaluation)) % 2**63)
        if not isinstance(self.formulas.content, JointTerm):
            for name, whole in self.content.items():
                found["content", name] = target.content_loss(self.formulas, part, name, features[name], whole)
        for region, weights in self.positions.items():
            for name in self.layers:
                for key, term in self.terms.items():
                    found[region, name, key] = target.statistic(term, part, name, features[name], weights.get(name))
        return found

    def _style(self, found: Mapping[Hashable, Tensor]) -> dict[str, Tensor]:
        """Return each layer's style loss, from the statistics in each region: its terms, summed over the styles."""
        losses: dict[str, Tensor] = {}
        for region in self.positions:
            for name in self.layers:
                for style, factors in zip(self.styles, self.factors, strict=True):
                    for (key, term), factor in zip(self.compared, factors[name], strict=True):
                        if style.region == region:
                            whole = style.targets.layers[name][key]
                            loss = factor * term.distance(found[region, name, key], whole)
                            losses[name] = loss if name not in losses else losses[name] + loss
        return losses

    def _joint(self, features: Mapping[str, Tensor], seed: int) -> dict[Hashable, Tensor]:
        """Return the loss of each joint term, those of the style summed over the styles."""
        kinds = {(region, tuple(self.layers)): weights for region, weights in self.positions.items()}
        whole = (None, tuple(self.content))
        readings = {  # one for the terms that read the same, so that they share what they sample
            key: Reading({layer: features[layer] for layer in key[1]}, kinds.get(key), seed=seed)
            for key in (*kinds, whole)
        }
        losses: dict[Hashable, Tensor] = {}
        if isinstance(self.formulas.content, JointTerm):
            for name in self.content_factors:
                losses["content", name] = self.formulas.content.loss(readings[whole], list(self.content.values()))
        for name, term in self.formulas.joint.items():
            for style, share in zip(self.styles, self.shares, strict=True):
                found = term.loss(readings[style.region, tuple(self.layers)], style.targets.joint[name])
                key, loss = ("joint", name), share * term.weight * found
                losses[key] = loss if key not in losses else losses[key] + loss
        return losses

    @torch.no_grad()
    def _factors(self, targets: Targets, share: float) -> dict[str, list[float]]:
        """Return the factor of each term in each layer, for a style with the given share among the styles."""
        averaged = len(self.layers) if self.formulas.style_layers_averaged else 1
        return {
            name: [
                share * self.weights.style_layers.get(name, 1.0) / averaged * term.weight * self._relative(term, kept)
                for term in self.formulas.terms
                for kept in [targets.layers[name][term.key]]
            ]
            for name in self.layers
        }

    def _relative(self, term: StyleTerm, kept: Tensor) -> float:
        return target.inverse(term.distance(torch.zeros_like(kept), kept)) if self.formulas.relative else 1.0

    def _weights_in(self, mask: Tensor) -> dict[str, Tensor]:
        return target.weights_in(mask, windows(self.encoder, mask.shape[-2:], None)[0], self.layers)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Objective":
        """Move the targets with the encoder. Targets are not buffers, because their keys are not only strings."""

        def moved(value: Any) -> Any:
            if isinstance(value, Tensor):
                return fn(value)
            return {key: moved(each) for key, each in value.items()} if isinstance(value, dict) else value

        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.content, self.positions = moved(self.content), moved(self.positions)
        self.picture = moved(self.picture)
        self.styles = [
            Style(
                targets=Targets(
                    layers=moved(dict(style.targets.layers)),
                    joint={name: [fn(each) for each in kept] for name, kept in style.targets.joint.items()},
                ),
                weight=style.weight,
                region=style.region,
            )
            for style in self.styles
        ]
        return self
