"""The targets that a picture should match: the content's features, and the statistics of the style's features."""

from collections.abc import Hashable, Mapping, Sequence

import torch
from torch import Tensor

from nst.encoder.base import Encoder
from nst.objective import statistics
from nst.objective.terms import Formulas, StyleTerm, Targets
from nst.objective.tiles import Window, read, windows


@torch.no_grad()
def content_targets(
    encoder: Encoder, image: Tensor, layers: Sequence[str], *, tile: int | None = None
) -> dict[str, Tensor]:
    """Return the features of the content image tensor in each of the layers, computed in tiles of ``tile`` px."""
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
    formulas: Formulas,
    *,
    mask: Tensor | None = None,
    tile: int | None = None,
) -> Targets:
    """Return the statistics of the style image tensor in each of the layers, computed in tiles of ``tile`` px.

    With a ``mask`` (1, 1, H, W), only the part of the image within the mask counts.
    """
    parts = windows(encoder, image.shape[-2:], tile)
    weights = {} if mask is None else weights_in(mask, parts[0], layers)
    terms = formulas.statistics

    def reader(crop: Tensor, part: Window) -> dict[tuple[str, Hashable], Tensor]:
        features = encoder(crop)
        return {
            (name, key): statistic(term, part, name, features[name], weights.get(name))
            for name in layers
            for key, term in terms.items()
        }

    found = read(image, parts, reader) if terms else {}
    joint = {}
    if formulas.joint:
        whole = encoder(image)
        features = {name: whole[name] for name in layers}
        joint = {name: term.target(features, weights) for name, term in formulas.joint.items()}
    return Targets(layers={name: {key: found[name, key] for key in terms} for name in layers}, joint=joint)


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
    kind = statistics.combines(formulas.content)
    height, nothing = target.shape[2], target.new_zeros(())
    found = []
    for start in range(0, height, height if kind is None else 64):
        rows = target[:, :, start : start + 64 if kind else height]
        loss = formulas.content(nothing.expand_as(rows), rows)
        found.append(loss * (1 if kind == "sum" else rows.shape[2] / height))
    return torch.stack(found).sum()
