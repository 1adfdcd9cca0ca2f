"""The terms of STROTSS, and what joint terms read of a picture."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from nst.objective import JointTerm, Reading
from nst.objective.joint import HypercolumnMoments, Palette, RelaxedEMD, SelfSimilarity

SIZES = {"pixels": (3, 8, 6), "fine": (5, 8, 6), "coarse": (7, 4, 3)}
EVERY = {"samples": 1000, "style_samples": 1000}  # all positions, in order
Rows = NDArray[np.float64]


def features(seed: int, sizes: Mapping[str, tuple[int, int, int]] | None = None) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.rand((1, *size), generator=generator).double() for name, size in (sizes or SIZES).items()}


def rows(found: Mapping[str, Tensor], *, interpolate: bool) -> Rows:
    """The hypercolumns of all positions of the finest layer, one by one."""
    height, width = found["pixels"].shape[-2:]
    return np.array([column(found, y, x, interpolate=interpolate) for y in range(height) for x in range(width)])


def column(found: Mapping[str, Tensor], y: int, x: int, *, interpolate: bool) -> Rows:
    parts = []
    for each in found.values():
        maps = each[0].numpy()
        at = y * maps.shape[1] / SIZES["pixels"][1], x * maps.shape[2] / SIZES["pixels"][2]
        (top, down), (left, right) = ((int(place), place - int(place)) for place in at)
        if not interpolate:
            parts.append(maps[:, top, left])
            continue
        below, beside = min(top + 1, maps.shape[1] - 1), min(left + 1, maps.shape[2] - 1)
        upper = (1 - right) * maps[:, top, left] + right * maps[:, top, beside]
        lower = (1 - right) * maps[:, below, left] + right * maps[:, below, beside]
        parts.append((1 - down) * upper + down * lower)
    return np.concatenate(parts)


def cosines(one: Rows, other: Rows) -> Rows:
    lengths = np.linalg.norm(one, axis=1)[:, None] * np.linalg.norm(other, axis=1)
    return np.asarray(1 - one @ other.T / lengths)


def relaxed(distances: Rows) -> float:
    return float(max(distances.min(0).mean(), distances.min(1).mean()))


def relaxed_emd(found: Mapping[str, Tensor], style: Mapping[str, Tensor]) -> float:
    return relaxed(cosines(rows(found, interpolate=True), rows(style, interpolate=False)))


def moments(found: Mapping[str, Tensor], style: Mapping[str, Tensor]) -> float:
    one, other = rows(found, interpolate=True), rows(style, interpolate=False)
    spread = np.cov(one.T, bias=True) - np.cov(other.T, bias=True)
    return float(np.abs(one.mean(0) - other.mean(0)).mean() + np.abs(spread).mean())


def palette(found: Mapping[str, Tensor], style: Mapping[str, Tensor]) -> float:
    """Every colour as its part along grey and two parts across it, the second towards green."""
    grey = np.full(3, 3**-0.5)
    axes = np.array([grey, [-0.577350, 0.788675, -0.211325], [-0.577350, -0.211325, 0.788675]])
    assert axes @ axes.T == pytest.approx(np.eye(3), abs=1e-5)
    one, other = (each["pixels"][0].flatten(1).numpy().T @ axes.T for each in (found, style))
    apart = np.linalg.norm(one[:, None] - other, axis=2) / 3**0.5
    return relaxed(cosines(one, other) + apart)


def self_similarity(found: Mapping[str, Tensor], content: Mapping[str, Tensor]) -> float:
    one, other = (cosines(*[rows(each, interpolate=True)] * 2) for each in (found, content))
    one, other = one / one.sum(0), other / other.sum(0)
    return float(len(one) * np.abs(one - other).mean())


TERMS: dict[str, tuple[JointTerm, object]] = {
    "relaxed_emd": (RelaxedEMD(weight=1.0, **EVERY), relaxed_emd),
    "moments": (HypercolumnMoments(weight=1.0, **EVERY), moments),
    "palette": (Palette(weight=1.0, **EVERY), palette),
    "self_similarity": (SelfSimilarity(weight=1.0, samples=1000), self_similarity),
}


@pytest.mark.parametrize("name", TERMS)
def test_terms_agree_with_transcriptions(name: str) -> None:
    term, transcription = TERMS[name]
    found, style = features(1), features(2)
    loss = float(term.loss(Reading(found), term.target(Reading(style))))
    assert loss == pytest.approx(transcription(found, style), rel=1e-5)  # type: ignore[operator]


@pytest.mark.parametrize("name", TERMS)
def test_gradients_agree_with_differences(name: str) -> None:
    term, _ = TERMS[name]
    sizes = {"pixels": (3, 4, 3), "coarse": (2, 2, 1)}
    target = term.target(Reading(features(2, sizes)))

    def loss(*tensors: Tensor) -> Tensor:
        return term.loss(Reading(dict(zip(sizes, tensors, strict=True))), target)

    assert torch.autograd.gradcheck(loss, [each.requires_grad_() for each in features(1, sizes).values()], atol=1e-6)


def test_the_layout_of_a_picture_is_independent_of_its_brightness() -> None:
    """Self-similarity by cosine doesn't see a factor, and sees the places of things."""
    content = features(1, {"fine": (5, 8, 6)})
    term = SelfSimilarity(weight=1.0, samples=1000)
    target = term.target(Reading(content))
    assert float(term.loss(Reading({"fine": 3 * content["fine"]}), target)) == pytest.approx(0, abs=1e-12)
    assert float(term.loss(Reading({"fine": content["fine"].flip(3)}), target)) > 0.1


def test_the_style_itself_has_no_distance() -> None:
    style = features(1, {"pixels": (3, 8, 6), "fine": (5, 8, 6)})
    for term, _ in TERMS.values():
        loss = float(term.loss(Reading(style), term.target(Reading(style))))
        assert loss == pytest.approx(0, abs=3e-3)  # the palette rounds distances up to 0.003


def test_one_position_is_drawn_from_each_part_of_the_region() -> None:
    grid = {"one": torch.arange(600.0).view(1, 1, 20, 30)}
    drawn = Reading(grid, seed=1).sample(60)["one"].flatten()
    assert [int(number) // 10 for number in drawn] == list(range(60))
    assert not torch.equal(drawn, Reading(grid, seed=2).sample(60)["one"].flatten())
    assert torch.equal(drawn, Reading(grid, seed=1).sample(60)["one"].flatten())
    mask = torch.zeros(1, 1, 20, 30)
    mask[..., 5:15, 10:20] = 6.0
    inside = Reading(grid, {"one": mask}, seed=1).sample(50)["one"].flatten()
    places = [(int(number) // 30, int(number) % 30) for number in inside]
    assert len(set(places)) == 50
    assert all(5 <= row < 15 and 10 <= column < 20 for row, column in places)
    assert len(Reading(grid, {"one": mask}).sample(5000)["one"]) == 100


def test_only_the_region_counts() -> None:
    """What is outside the picture's region or the style's mask may be anything."""
    mask = {name: torch.zeros(1, 1, *size[1:]).double() for name, size in SIZES.items()}
    for each in mask.values():
        each[..., : each.shape[3] // 2] = 2
    for name in ("relaxed_emd", "moments", "palette"):
        term, _ = TERMS[name]
        found, style = features(1), features(2)
        before = float(term.loss(Reading(found, mask), term.target(Reading(style, mask))))
        for each in (*found.values(), *style.values()):
            each[..., each.shape[3] // 2 + 1 :] = 50  # the column beside the region is interpolated
        if name == "palette":
            assert float(term.loss(Reading(found, mask), term.target(Reading(style, mask)))) == before > 0
        after = float(term.loss(Reading(found, mask), term.target(Reading(style, mask))))
        assert after == pytest.approx(before, rel=1e-9)
