"""The terms on nearest neighbours: NNST's and Markov random fields."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from nst.objective import Reading
from nst.objective.neighbors import FeatureSplitting, NearestNeighbors, PatchNeighbors, nearest
from tests.conftest import image
from tests.objective.test_hypercolumns import cosines, features

Rows = NDArray[np.float64]
SIZES = {"fine": (5, 24, 16), "coarse": (7, 12, 8)}


def turned(seed: int) -> list[Reading]:
    """Readings of a style and of its three turned copies, here as independent features."""
    sides = [SIZES, {name: (c, w, h) for name, (c, h, w) in SIZES.items()}] * 2
    return [Reading(features(seed + number, sizes)) for number, sizes in enumerate(sides)]


def grid(reading: Reading) -> Rows:
    """Hypercolumns at a quarter of the side, by numpy: the corners of the grid are those of the features."""
    height, width = (side // 4 for side in reading.features["fine"].shape[-2:])
    parts = []
    for each in reading.features.values():
        maps = each[0].numpy() / each.shape[1]
        ys, xs = (
            np.linspace(0, side - 1, number) for side, number in zip(maps.shape[1:], (height, width), strict=True)
        )
        along = np.array(
            [[[np.interp(y, range(maps.shape[1]), one) for one in channel.T] for y in ys] for channel in maps]
        )
        parts.append([[[np.interp(x, range(maps.shape[2]), row) for x in xs] for row in channel] for channel in along])
    return np.concatenate([np.array(part).reshape(len(part), -1) for part in parts]).T


@pytest.mark.parametrize("number", [3, 5000])
def test_nearest_is_the_largest_cosine(number: int) -> None:
    generator = torch.Generator().manual_seed(0)
    queries, keys = (torch.randn(count, 20, generator=generator).double() for count in (300, number))
    expected = torch.from_numpy(cosines(queries.numpy(), keys.numpy())).argmin(1)
    assert torch.equal(nearest(queries, keys, centred=False), expected)
    narrow = nearest(queries.bfloat16(), keys.bfloat16(), centred=False)
    lost = functional.cosine_similarity(queries, keys[expected]) - functional.cosine_similarity(queries, keys[narrow])
    assert (narrow == expected).double().mean() > 0.9
    assert lost.max() < 0.01


@pytest.mark.parametrize("share", [0.0, 0.75, 1.0])
@pytest.mark.parametrize("first", [True, False])
def test_nearest_neighbors_agree_with_a_transcription(share: float, *, first: bool) -> None:
    """The network is the picture itself, and its mean of 2 x 2 px."""

    def read(picture: Tensor) -> Reading:
        return Reading({"fine": picture, "coarse": functional.avg_pool2d(picture, 2)})

    term = NearestNeighbors(weight=1.0, content_share=share, turns=4)
    style, content, start, painted = (image(seed) for seed in range(1, 5))
    copies = [read(style.rot90(number, (2, 3))) for number in range(4)]
    target = term.match(term.target(*copies), read, content, None if first else start)
    found = float(term.loss(read(painted), target))

    detail = content - functional.interpolate(functional.avg_pool2d(content, 2), size=(24, 20), mode="bilinear")
    asked = content if first else share * content + (1 - share) * (start + detail)
    keys, queries = np.concatenate([grid(each) for each in copies]), grid(read(asked))
    chosen = keys[cosines(queries - queries.mean(0), keys - keys.mean(0)).argmin(1)]
    expected = np.diagonal(cosines(grid(read(painted)), chosen)).mean()
    assert found == pytest.approx(expected, rel=1e-9)


def test_a_picture_in_its_own_style_is_done() -> None:
    def read(picture: Tensor) -> Reading:
        return Reading({"fine": picture})

    term = NearestNeighbors(weight=1.0, content_share=0.75, turns=1)
    target = term.match(term.target(read(image(1))), read, image(1), None)
    assert float(term.loss(read(image(1)), target)) == pytest.approx(0, abs=1e-12)


def test_feature_splitting_agrees_with_a_transcription() -> None:
    term = FeatureSplitting(weight=1.0, turns=4)
    copies, found = turned(1), features(9, SIZES)
    loss = float(term.loss(Reading(found), term.target(*copies)))
    expected = 0.0
    for name in SIZES:
        own = found[name][0].flatten(1).T.numpy()
        keys = np.concatenate([each.features[name][0].flatten(1).T.numpy() for each in copies])
        expected += cosines(own - own.mean(0), keys - keys.mean(0)).min(1).mean()
    assert loss == pytest.approx(expected, rel=1e-9)


def test_feature_splitting_samples_a_grid_at_a_random_offset() -> None:
    """A picture of 120 positions a side is read at every second one: what is between doesn't count."""
    found = features(1, {"fine": (4, 120, 100)})
    term = FeatureSplitting(weight=1.0, turns=1)
    target = term.target(Reading(features(2, {"fine": (4, 120, 100)})))
    losses = {seed: float(term.loss(Reading(found, seed=seed), target)) for seed in range(20)}
    assert len(set(losses.values())) == 4  # offsets down and right
    picture = found["fine"].requires_grad_()
    term.loss(Reading({"fine": picture}), target).backward()
    assert picture.grad is not None
    seen = picture.grad.abs().sum(1)[0] > 0
    assert seen.sum() == 60 * 50


def test_patch_neighbors_agree_with_a_transcription() -> None:
    term = PatchNeighbors(weight=1.0, size=3, stride=2, turns=4)
    copies, found = turned(1), features(9, SIZES)

    def patches(each: Tensor) -> Rows:
        maps = each[0].numpy()
        places = [(y, x) for y in range(0, maps.shape[1] - 2, 2) for x in range(0, maps.shape[2] - 2, 2)]
        return np.array([maps[:, y : y + 3, x : x + 3].ravel() for y, x in places])

    expected = 0.0
    for name in SIZES:
        own, keys = patches(found[name]), np.concatenate([patches(each.features[name]) for each in copies])
        expected += ((own - keys[cosines(own, keys).argmin(1)]) ** 2).mean()
    assert float(term.loss(Reading(found), term.target(*copies))) == pytest.approx(expected, rel=1e-9)


def terms() -> list[NearestNeighbors | FeatureSplitting | PatchNeighbors]:
    return [
        NearestNeighbors(weight=1.0, content_share=0.75, turns=4),
        FeatureSplitting(weight=1.0, turns=4),
        PatchNeighbors(weight=1.0, size=3, stride=2, turns=4),
    ]


@pytest.mark.parametrize("term", terms(), ids=lambda term: type(term).__name__)
def test_gradients_agree_with_differences(term: NearestNeighbors | FeatureSplitting | PatchNeighbors) -> None:
    sizes = {"fine": (3, 8, 5), "coarse": (2, 4, 3)}
    content = Reading(features(5, sizes))
    style = [Reading(features(seed, sizes)) for seed in range(4)]
    target = term.match(term.target(*style), lambda _: content, image(1), None)

    def loss(*tensors: Tensor) -> Tensor:
        return term.loss(Reading(dict(zip(sizes, tensors, strict=True))), target)

    assert torch.autograd.gradcheck(loss, [each.requires_grad_() for each in features(9, sizes).values()], atol=1e-7)


@pytest.mark.parametrize("term", terms(), ids=lambda term: type(term).__name__)
def test_neighbours_are_within_the_mask_and_only_the_region_counts(
    term: NearestNeighbors | FeatureSplitting | PatchNeighbors,
) -> None:
    """The style's right half and the picture's lower half may be anything."""

    def half(down: bool, seed: int, outside: float) -> Reading:
        found = features(seed, SIZES)
        masks = {}
        for name, each in found.items():
            weights = torch.zeros_like(each[:, :1])
            height, width = each.shape[2:]
            weights[..., : height // 2 if down else height, : width if down else width // 2] = 2
            masks[name] = weights
            found[name] = torch.where(weights > 0, each, outside)
        return Reading(found, masks)

    def loss(outside: float) -> float:
        # The style's copies are not turned here. At the edge of the grid a position also reads its neighbour.
        style, content, found = half(False, 1, 0.5), half(True, 2, outside), half(True, 3, outside)
        target = term.match(term.target(*[style] * 4), lambda _: content, image(1), None)
        return float(term.loss(found, target))

    if isinstance(term, FeatureSplitting):
        assert loss(3.0) == loss(-7.0) > 0
    else:  # a position or a patch at the region's edge reads some features beyond it, and counts for its part
        assert loss(0.5) == pytest.approx(loss(0.6), rel=0.15)
