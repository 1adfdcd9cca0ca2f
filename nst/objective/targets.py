"""The targets that a picture should match: the content's features, and the statistics of the style's features."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from nst.encoder.base import Encoder
from nst.objective import statistics
from nst.objective.reading import Reading
from nst.objective.terms import Formulas, JointTerm, StyleTerm, Targets
from nst.objective.tiles import Window, read, windows


@torch.no_grad()
def content_targets(
    encoder: Encoder, image: Tensor, layers: Sequence[str], *, tile: int | None = None
) -> dict[str, Tensor]:
    """Return the features of the content image tensor in each of the layers, computed in tiles of ``tile`` px."""
    targets: dict[str, Tensor] = {}
    for part in windows(encoder, image.shape[-2:], tile):
        features = encoder.read(image[..., *part.crop])
        for name in layers:
            if name not in targets:
                shape = (*features[name].shape[:2], *part.whole[name])
                kind: dict[str, Any] = {"dtype": features[name].dtype, "device": image.device}
                targets[name] = torch.empty(shape, **kind, memory_format=torch.channels_last)
            targets[name][..., *part.place[name]] = features[name][..., *part.owned[name]]
    return targets


@torch.no_grad()
def style_targets(
    encoder: Encoder,
    image: Tensor,
    layers: Sequence[str],
    formulas: Formulas,
    *,
    mask: Tensor | None = None,
    tile: int | None = None,
    seed: int = 0,
) -> Targets:
    """Return the statistics of the style image tensor in each of the layers, computed in tiles of ``tile`` px.

    With a ``mask`` (1, 1, H, W), only the part of the image within the mask counts. ``seed`` is that of joint terms.
    """
    parts = windows(encoder, image.shape[-2:], tile)
    weights = {} if mask is None else weights_in(mask, parts[0], layers)
    terms = formulas.statistics

    def reader(crop: Tensor, part: Window) -> dict[tuple[str, Hashable], Tensor]:
        features = encoder.read(crop)
        return {
            (name, key): statistic(term, part, name, features[name], weights.get(name))
            for name in layers
            for key, term in terms.items()
        }

    found = read(image, parts, reader) if terms else {}
    turns = max((term.turns for term in formulas.joint.values()), default=0)
    turned = [
        reading(
            encoder,
            image.rot90(number, (2, 3)),
            layers,
            mask=None if mask is None else mask.rot90(number, (2, 3)),
            seed=seed,
        )
        for number in range(turns)
    ]
    joint = {name: term.target(*turned[: term.turns]) for name, term in formulas.joint.items()}
    return Targets(layers={name: {key: found[name, key] for key in terms} for name in layers}, joint=joint)


@torch.no_grad()
def matched(
    encoder: Encoder,
    targets: Targets,
    layers: Sequence[str],
    formulas: Formulas,
    *,
    content: Tensor,
    picture: Tensor | None,
    mask: Tensor | None = None,
) -> Targets:
    """Return the targets of a scale, of which some depend on the content and on the picture at its start.

    Args:
        encoder, layers, formulas: as for ``style_targets``.
        targets: what ``style_targets`` returned.
        content: the content image tensor.
        picture: the picture at the start of the scale; None at the first scale.
        mask: the region of the style, (1, 1, H, W); None for the whole picture.
    """

    def read_picture(image: Tensor) -> Reading:
        return reading(encoder, image, layers, mask=mask)

    joint = {
        name: term.match(targets.joint[name], read_picture, content, picture) for name, term in formulas.joint.items()
    }
    return replace(targets, joint=joint)


def reading(
    encoder: Encoder, image: Tensor, layers: Sequence[str], *, mask: Tensor | None = None, seed: int = 0
) -> Reading:
    """Return what joint terms read of an image tensor in the layers, within a mask if there is one."""
    features = encoder.read(image)
    weights = {} if mask is None else weights_in(mask, windows(encoder, image.shape[-2:], None)[0], layers)
    return Reading({name: features[name] for name in layers}, weights, seed=seed)


def weights_in(mask: Tensor, window: Window, layers: Sequence[str]) -> dict[str, Tensor]:
    """Return the weights of the positions of each layer in a region of the picture, ``mask`` (1, 1, H, W)."""
    return {name: statistics.region_weights(mask, window.whole[name]) for name in layers}


def statistic(term: StyleTerm, part: Window, name: str, features: Tensor, weights: Tensor | None) -> Tensor:
    """Return a tile's part of a term's statistic of a layer; ``weights`` are of the whole picture's positions."""
    owned, place, given = part.owned[name], part.place[name], {}
    if term.reach:
        given["own"] = (owned[0].stop - owned[0].start, owned[1].stop - owned[1].start)
        more = [min(term.reach, beyond) for beyond in part.beyond[name]]
        owned, place = (
            (slice(rows.start, rows.stop + more[0]), slice(columns.start, columns.stop + more[1]))
            for rows, columns in (owned, place)
        )
    found = term.statistic(features[..., *owned], None if weights is None else weights[..., *place], **given)
    return found if term.over_positions == "sum" else part.share(name) * found


def content_loss(formulas: Formulas, part: Window, name: str, features: Tensor, target: Tensor) -> Tensor:
    """Return a tile's part of the content loss of a layer; ``target`` is of the whole picture."""
    assert not isinstance(formulas.content, JointTerm)
    found = formulas.content(features[..., *part.owned[name]], target[..., *part.place[name]])
    return found if statistics.combines(formulas.content) == "sum" else part.share(name) * found


def scale(formulas: Formulas, targets: Mapping[str, Tensor]) -> dict[str, float]:
    """Return the factor that makes each layer's content loss relative to that of a picture without features."""
    if not formulas.relative:
        return dict.fromkeys(targets, 1.0)
    return {name: inverse(_by_rows(formulas, target)) for name, target in targets.items()}


def inverse(energy: Tensor) -> float:
    """Return 1 divided by a loss; 1 if the loss is 0."""
    return 1 / float(energy) if float(energy) > 0 else 1.0


def _by_rows(formulas: Formulas, target: Tensor) -> Tensor:
    """Return the content loss of a picture without features, some rows at a time if possible, to spare memory."""
    assert not isinstance(formulas.content, JointTerm)
    kind = statistics.combines(formulas.content)
    height, nothing = target.shape[2], target.new_zeros(())
    found = []
    for start in range(0, height, height if kind is None else 64):
        rows = target[:, :, start : start + 64 if kind else height]
        loss = formulas.content(nothing.expand_as(rows), rows)
        found.append(loss * (1 if kind == "sum" else rows.shape[2] / height))
    return torch.stack(found).sum()
