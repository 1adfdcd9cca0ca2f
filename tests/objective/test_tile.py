"""A picture read tile by tile has the loss and the gradient of the whole picture."""

from functools import partial

import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from nst.encoder import weights as encoder
from nst.encoder.vgg import VGG
from nst.objective import (
    Formulas,
    Objective,
    Style,
    Term,
    Weights,
    content_targets,
    functional,
    statistics,
    style_targets,
)
from nst.objective.tiles import windows
from tests.conftest import image

POOLS = {
    "avg": (lambda: nn.AvgPool2d(2, 2), 2, 2),
    "max": (lambda: nn.MaxPool2d(2, 2), 2, 2),
    "thirds": (lambda: nn.AvgPool2d(3, 3), 3, 3),
    "overlapping": (lambda: nn.MaxPool2d(3, 2), 3, 2),
    "with a margin": (lambda: nn.AvgPool2d(3, 2, padding=1), 3, 2),
    "rounded up": (lambda: nn.AvgPool2d(2, 2, ceil_mode=True), 2, 2),
}
CONTENT = {"mean": functional.mean_squared_difference, "sum": functional.half_squared_difference}
STATISTICS = [
    (functional.gram_per_element, functional.mean_squared_difference),
    (functional.gram_per_position, functional.scaled_squared_difference),
    (functional.channel_moments, functional.mean_and_deviation_difference),
    (functional.moments, functional.covariance_difference),
    (functional.moments, partial(functional.gaussian_wasserstein, eps=1e-2)),
    (partial(functional.gram_of_shifted, shifts=[1, 3]), functional.shifted_gram_difference),
]
LAYERS = [
    (["relu4_2"], ["relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"]),
    (["relu3_1"], ["conv1_1", "relu1_2"]),
    (["relu1_1", "conv2_2"], ["conv2_1"]),
    ([], ["relu1_1", "relu3_4"]),
    (["conv1_2"], []),
]


def make(
    pooling: str,
    layers: int,
    content: str,
    statistic: int,
    shape: tuple[int, int],
    tile: int | None,
    dtype: torch.dtype,
    *,
    regions: bool = False,
    padding: str = "zeros",
) -> Objective:
    content_layers, style_layers = LAYERS[layers]
    network = VGG(
        architecture="slim",
        layers=[*content_layers, *style_layers],
        pooling=POOLS[pooling][0],
        state=encoder.random_state("slim", 0),
        padding=padding,
        reach=statistics.reach(STATISTICS[statistic][0]),
        dtype=dtype,
    )
    formulas = Formulas(
        content=CONTENT[content],
        style={"term": Term(statistic=STATISTICS[statistic][0], distance=STATISTICS[statistic][1], weight=1)},
        style_layers_averaged=False,
        relative=False,
        tv=functional.total_variation,
        laplacian=partial(functional.laplacian_difference, pool=4),
    )
    kind = torch.float64 if dtype == torch.float64 else torch.float32
    pictures = [image(seed, *shape).to(kind) for seed in (2, 3)]
    left = torch.linspace(1, -1, shape[1], dtype=kind).clamp(min=0).expand(1, 1, *shape)  # black on the right
    masks = {"left": left, "right": 1 - left} if regions else {}
    return Objective(
        encoder=network,
        formulas=formulas,
        weights=Weights(content=1, style=1e3, tv=0.1),
        content=content_targets(network, pictures[0], content_layers, tile=tile),
        styles=[
            Style(
                targets=style_targets(network, pictures[1], style_layers, formulas, mask=masks.get(name), tile=tile),
                region=name or None,
            )
            for name in masks or [""]
        ],
        regions=masks,
        tile=tile,
    )


def evaluate(objective: Objective, shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    picture = image(1, *shape).to(objective.encoder.mean.dtype).requires_grad_()
    total = objective(picture).total
    total.backward()
    assert picture.grad is not None
    return total.detach(), picture.grad


@settings(max_examples=16, deadline=None)
@given(
    pooling=st.sampled_from(sorted(POOLS)),
    layers=st.integers(0, len(LAYERS) - 1),
    content=st.sampled_from(sorted(CONTENT)),
    statistic=st.integers(0, len(STATISTICS) - 1),
    shape=st.tuples(st.integers(88, 112), st.integers(88, 112)),
    tile=st.integers(40, 80),
    regions=st.booleans(),
    padding=st.sampled_from(["zeros", "reflect", "replicate"]),
)
@example(pooling="avg", layers=0, content="mean", statistic=0, shape=(149, 131), tile=48, regions=True, padding="zeros")
@example(
    pooling="max", layers=0, content="sum", statistic=1, shape=(147, 97), tile=24, regions=False, padding="reflect"
)
@example(
    pooling="with a margin",
    layers=0,
    content="mean",
    statistic=0,
    shape=(143, 131),
    tile=45,
    regions=True,
    padding="replicate",
)
def test_tiles_have_the_loss_and_the_gradient_of_the_whole(
    pooling: str,
    layers: int,
    content: str,
    statistic: int,
    shape: tuple[int, int],
    tile: int,
    *,
    regions: bool,
    padding: str,
) -> None:
    assume((pooling, padding) != ("thirds", "reflect"))  # of 150 px these leave 1, which has no mirror image
    given = {"regions": regions, "padding": padding}
    makers = [make(pooling, layers, content, statistic, shape, size, torch.float64, **given) for size in (None, tile)]
    (whole, gradient), (parts, joined) = (evaluate(objective, shape) for objective in makers)
    assert abs(parts - whole) <= 1e-10 * abs(whole)
    assert (joined - gradient).norm() <= 1e-10 * gradient.norm()


@settings(max_examples=10, deadline=None)
@given(
    pooling=st.sampled_from(sorted(POOLS)),
    statistic=st.integers(0, len(STATISTICS) - 1),
    shape=st.tuples(st.integers(88, 150), st.integers(88, 150)),
    tile=st.integers(16, 120),
)
def test_in_single_precision_they_are_as_near_as_its_rounding(
    pooling: str, statistic: int, shape: tuple[int, int], tile: int
) -> None:
    makers = [make(pooling, 0, "mean", statistic, shape, size, torch.float32) for size in (None, tile)]
    (whole, gradient), (parts, joined) = (evaluate(objective, shape) for objective in makers)
    assert abs(parts - whole) <= 1e-5 * abs(whole)
    assert (joined - gradient).norm() <= 1e-4 * gradient.norm()


@settings(max_examples=60, deadline=None)
@given(
    pooling=st.sampled_from(sorted(POOLS)),
    shape=st.tuples(st.integers(88, 400), st.integers(88, 400)),
    tile=st.integers(1, 400),
)
def test_every_position_belongs_to_one_tile(pooling: str, shape: tuple[int, int], tile: int) -> None:
    network = make(pooling, 0, "mean", 0, (88, 88), None, torch.float32).encoder
    parts = windows(network, shape, tile)
    for name in network.layers:
        seen = torch.zeros(parts[0].whole[name], dtype=torch.int)
        for part in parts:
            assert all(0 <= owned.start < owned.stop for owned in part.owned[name])
            seen[part.place[name]] += 1
        assert (seen == 1).all()
    assert sum(part.share("relu5_1") for part in parts) == 1 or len(parts) > 1


def test_small_tiles_read_little_besides() -> None:
    """The halo of relu5_1, 78 px and the rounding to 16, is all that is read twice."""
    network = make("avg", 0, "mean", 0, (88, 88), None, torch.float32).encoder
    inner = windows(network, (2048, 2048), 512)[5]
    assert [(part.stop - part.start) for part in inner.crop] == [512 + 2 * 80] * 2
