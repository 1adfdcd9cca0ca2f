"""Several styles, regions and colours: what each may change, and what it leaves alone."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from nst import image as images
from nst.encoder import weights as encoder
from nst.encoder.vgg import VGG
from nst.image import color
from nst.objective import Formulas, Objective, Style, Term, Weights, functional, statistics, style_targets
from tests.conftest import Command, assert_goes_on, image

LAYERS = ["relu1_1", "relu2_1", "relu3_1"]
#: How far in px relu3_1 looks: two convolutions at each of 1 and 2 px, one at 4 px, and the poolings between.
REACH = 2 * 1 + 1 + 2 * 2 + 2 + 4


def per_pair(sums: Tensor) -> Tensor:
    return sums[..., :-1] / sums[..., -1:]


STATISTICS: dict[str, Callable[..., Tensor]] = {
    "gram": functional.gram_per_element,
    "gram_paper": functional.gram_per_position,
    "moments": functional.moments,
    "channel_moments": functional.channel_moments,
    "shifted": lambda features, weights=None: per_pair(functional.gram_of_shifted(features, weights, shifts=[1, 2])),
    "projections": partial(functional.sorted_projections, directions=5, seed=0),
}


def tiny() -> VGG:
    return VGG(
        architecture="slim",
        layers=LAYERS,
        pooling=partial(torch.nn.AvgPool2d, 2, 2),
        state=encoder.random_state("slim", 1),
        dtype=torch.float64,
    )


def formulas(statistic: Callable[..., Tensor]) -> Formulas:
    return Formulas(
        content=functional.mean_squared_difference,
        style={"term": Term(statistic=statistic, distance=functional.mean_squared_difference, weight=1)},
        style_layers_averaged=False,
        relative=False,
        tv=functional.total_variation,
        laplacian=partial(functional.laplacian_difference, pool=4),
    )


def left_half(height: int, width: int) -> Tensor:
    mask = torch.zeros(1, 1, height, width, dtype=torch.float64)
    mask[..., : width // 2] = 1
    return mask


@pytest.mark.parametrize("name", STATISTICS)
def test_a_mask_of_half_the_positions_has_the_statistic_of_that_half(name: str) -> None:
    features = torch.randn(1, 4, 6, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights = statistics.region_weights(left_half(6, 8), (6, 8))
    assert weights.mean() == 1
    statistic = STATISTICS[name]
    found, half = statistic(features, weights), statistic(features[..., :4])
    if name == "projections":  # as many quantiles as there are positions: each of the half's twice
        half = half.repeat_interleave(2, dim=1)
    torch.testing.assert_close(found, half)
    torch.testing.assert_close(statistic(features, torch.ones_like(weights)), statistic(features))


@pytest.mark.parametrize("name", STATISTICS)
def test_weights_of_positions_are_in_the_gradient(name: str) -> None:
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(1, 3, 4, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    weights = torch.rand(1, 1, 4, 5, generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: STATISTICS[name](x, weights / weights.mean()), features)


@pytest.mark.parametrize("name", ["gram", "moments", "channel_moments"])
def test_weights_of_positions_in_16_bits(name: str) -> None:
    features = torch.rand(1, 16, 40, 30, generator=torch.Generator().manual_seed(2)).bfloat16()
    weights = statistics.region_weights(torch.rand(1, 1, 40, 30, generator=torch.Generator().manual_seed(3)), (40, 30))
    exact = features.double().requires_grad_()
    rounded = features.clone().requires_grad_()
    wanted, found = STATISTICS[name](exact, weights.double()), STATISTICS[name](rounded, weights)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-6)
    wanted.square().sum().backward()
    found.square().sum().backward()
    assert exact.grad is not None
    assert rounded.grad is not None
    assert (rounded.grad.double() - exact.grad).norm() < 0.01 * exact.grad.norm()


@pytest.mark.parametrize("name", STATISTICS)
def test_a_regions_style_does_not_leak(name: str) -> None:
    """Into the picture: no gradient where only the other region is read; from the style: what isn't in its mask."""
    network, made = tiny(), formulas(STATISTICS[name])
    height, width = 24, 64
    mask = left_half(height, width)
    style = image(2, height, width)
    outside = style.clone()
    outside[..., width // 2 + REACH :] = image(3, height, width)[..., width // 2 + REACH :]
    targets, others = (style_targets(network, it, LAYERS, made, mask=mask) for it in (style, outside))
    for layer in LAYERS:
        for key, target in targets.layers[layer].items():
            torch.testing.assert_close(target, others.layers[layer][key], rtol=1e-12, atol=0)
    objective = Objective(
        encoder=network,
        formulas=made,
        weights=Weights(content=0, style=1, tv=0),
        content={},
        styles=[Style(targets=targets, region="left")],
        regions={"left": mask},
    )
    picture = image(1, height, width).requires_grad_()
    objective(picture).total.backward()
    assert picture.grad is not None
    assert (picture.grad[..., width // 2 + REACH :] == 0).all()
    assert (picture.grad[..., : width // 2].abs().amax(dim=(0, 1, 2)) > 0).all()


def test_styles_count_by_weight_and_area() -> None:
    """Two styles of half the picture each are, per pixel, as strong as one of the whole; weights are relative."""
    made, network = formulas(functional.gram_per_element), tiny()
    mask = left_half(24, 32)
    one, two = (style_targets(network, image(seed, 24, 32), LAYERS, made) for seed in (2, 3))

    def loss(*styles: Style) -> float:
        objective = Objective(
            encoder=network, formulas=made, weights=Weights(content=0, style=1, tv=0), content={}, styles=styles,
            regions={"left": mask, "right": 1 - mask},
        )  # fmt: skip
        return objective(image(1, 24, 32)).total.item()

    first, second = loss(Style(targets=one)), loss(Style(targets=two))
    assert loss(Style(targets=one, weight=7)) == first
    both = loss(Style(targets=one, weight=3), Style(targets=two, weight=1))
    assert both == pytest.approx(0.75 * first + 0.25 * second)
    left, right = Style(targets=one, region="left"), Style(targets=two, region="right")
    assert loss(left, right) == pytest.approx((loss(left) + loss(right)) / 2)


@pytest.fixture
def second(pictures: tuple[Path, Path], tmp_path: Path) -> list[str]:
    """Overrides for a second style, the first one's picture upside down."""
    with Image.open(pictures[1]) as opened:
        opened.transpose(Image.Transpose.FLIP_TOP_BOTTOM).save(tmp_path / "second.png")
    return ["style/more=[second]", f"style.more.second.path={tmp_path / 'second.png'}"]


def test_a_style_without_weight_is_as_if_it_were_not_there(
    inside: Command, small: list[str], second: list[str], tmp_path: Path
) -> None:
    assert inside(*small, "hydra.run.dir=one").returncode == 0
    assert inside(*small, *second, "style.more.second.weight=0", "hydra.run.dir=two").returncode == 0
    assert inside(*small, *second, "hydra.run.dir=three").returncode == 0
    made = [
        (Image.open(folder / "result.png").tobytes(), (folder / "losses.csv").read_bytes())
        for folder in (tmp_path / "one", tmp_path / "two", tmp_path / "three")
    ]
    assert made[0] == made[1]
    assert made[0][0] != made[2][0]


def test_a_controlled_run_goes_on_bit_by_bit(
    inside: Command, small: list[str], second: list[str], pictures: tuple[Path, Path], tmp_path: Path
) -> None:
    with Image.open(pictures[0]) as opened:
        opened.convert("L").save(tmp_path / "region.png")
    words = [
        *small, *second, "style.more.second.region=region.png", "style.fit=crop", "style.scale=1.5", "color=luminance",
    ]  # fmt: skip
    assert_goes_on(inside, tmp_path, *words)
    assets = json.loads((tmp_path / "whole" / "summary.json").read_text())["assets"]
    assert {"content", "style", "style.more.second", "style.more.second.region", "weights"} == set(assets)


def chroma(pixels: np.ndarray) -> np.ndarray:
    """I and Q of YIQ (FCC 1953), from sRGB in [0, 1]."""
    matrix = np.array([[0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
    return pixels @ matrix.T


@pytest.mark.parametrize("mode", ["luminance", "yiq"])
def test_luminance_only_keeps_the_contents_chroma(inside: Command, small: list[str], tmp_path: Path, mode: str) -> None:
    words = [*small, "evaluations=12", "weights.style=1e9"]
    assert inside(*words, "color=style", "hydra.run.dir=free").returncode == 0
    assert inside(*words, f"color={mode}", "hydra.run.dir=kept").returncode == 0
    content = images.resize(content_of(small), (26, 32))
    content_chroma = chroma(content[0].permute(1, 2, 0).numpy())
    far = {}
    for run in ("free", "kept"):
        with Image.open(tmp_path / run / "result.png") as opened:
            painted = np.asarray(opened) / 255
        far[run] = np.abs(chroma(painted) - content_chroma).max()
    assert far["kept"] <= 1 / 255
    assert far["free"] > 10 / 255
    change = color.luminance(images.load(tmp_path / "kept" / "result.png", key="")) - color.luminance(content)
    assert change.abs().max() > 0.1  # it was painted


def content_of(small: list[str]) -> Tensor:
    path = next(word.partition("=")[2] for word in small if word.startswith("content.path="))
    return images.load(Path(path), key="content.path")


def test_luminance_yields_at_the_edge_of_the_range() -> None:
    blue = torch.tensor([0.0, 0.1, 1.0]).view(1, 3, 1, 1)
    assert torch.equal(color.with_luminance(blue, torch.ones(1, 3, 1, 1)), blue)
    grey = torch.full((1, 3, 1, 1), 0.25)
    torch.testing.assert_close(color.with_luminance(grey, torch.ones(1, 3, 1, 1)), torch.ones(1, 3, 1, 1))


def test_lightness_of_the_one_and_colours_of_the_other() -> None:
    from skimage.color import rgb2lab

    content, painted = (0.4 + 0.2 * image(seed) for seed in (1, 2))  # far from the edge of sRGB
    found, wanted, other = (
        rgb2lab(it[0].permute(1, 2, 0).numpy()) for it in (color.with_lightness(content, painted), painted, content)
    )
    np.testing.assert_allclose(found[..., 0], wanted[..., 0], atol=1e-3)
    np.testing.assert_allclose(found[..., 1:], other[..., 1:], atol=1e-2)


def test_matched_colours_have_the_contents_mean_and_covariance() -> None:
    content, style = (0.5 + 0.1 * torch.randn(1, 3, 30, 20, generator=torch.Generator().manual_seed(n)) for n in (1, 2))
    mixing = torch.tensor([[0.5, 0.2, 0], [0.1, 0.6, 0.3], [0, 0, 0.4]])
    content = (mixing @ content[0].flatten(1)).view(1, 3, 30, 20)
    found = color.matched(style, content)
    torch.testing.assert_close(found[0].flatten(1).mean(1), content[0].flatten(1).mean(1))
    torch.testing.assert_close(torch.cov(found[0].flatten(1)), torch.cov(content[0].flatten(1)), atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(color.matched(content, content), content)
    assert color.matched(torch.full((1, 3, 4, 4), 0.3), content).isfinite().all()


@pytest.mark.parametrize(
    ("fit", "scale", "shape"),
    [
        ("stretch", 1, (60, 80)),
        ("stretch", 0.5, (30, 40)),
        ("fit", 1, (60, 60)),
        ("crop", 1, (60, 80)),
        ("own", 1, (100, 100)),
        ("own", 1.5, (150, 150)),
    ],
)
def test_sizes_of_a_style(fit: str, scale: float, shape: tuple[int, int]) -> None:
    style = image(1, 100, 100)
    placed = images.place(style, (60, 80), fit=fit, scale=scale)
    assert placed.shape[-2:] == shape
    if fit == "crop":  # the middle 75 rows of 100
        assert torch.equal(placed, images.resize(style[..., 12:87, :], (60, 80)))


def test_a_style_is_not_named_as_a_key(inside: Command, small: list[str], second: list[str]) -> None:
    given = (
        "{name: x, path: second.png, url: null, sha256: null, weight: 1, region: null, mask: null, fit: own, scale: 1}"
    )
    finished = inside(*small, *second, f"+style.more.mask={given}")
    assert finished.returncode == 2
    assert finished.stderr == "error: style.more: mask: this is the name of a key; choose another name for the style\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["style.region=narrow.png"],
            "style.region=narrow.png: the mask has 10 x 32 px, its picture (content) has 40 x 32",
        ),
        (["style.mask=black.png"], "style.mask=black.png: this mask is black everywhere"),
        (["style.mask=none.png"], "style.mask=none.png: there is no such file"),
        (
            ["style.mask=top.png", "style.fit=crop"],
            "style.mask=top.png: fit=crop cuts away everything that the mask selects",
        ),
        (["style.weight=0"], "style: weight: every style has the weight 0"),
        (["style/more=[second]"], "style.more.second.path: must be given, such as style.more.second.path=painting.png"),
        (["style.scale=0.1"], "style.scale=0.1: fit=stretch: at the first scale the style would be"),
        (
            ["style.scale=0.1", "layers.style=[relu1_1]"],
            "style.scale=0.1: fit=stretch: at the first scale the style would be",
        ),
        (["color=grey"], "color=grey: must be 'style', 'match', 'luminance', 'yiq', 'lab' or 'chroma'"),
    ],
)
def test_mistakes(inside: Command, small: list[str], tmp_path: Path, words: list[str], said: str) -> None:
    Image.new("L", (10, 32), 255).save(tmp_path / "narrow.png")
    Image.new("L", (40, 32), 0).save(tmp_path / "black.png")
    top = np.zeros((48, 36), dtype=np.uint8)
    top[:3] = 255
    Image.fromarray(top).save(tmp_path / "top.png")
    finished = inside(*small, *words)
    assert finished.returncode == 2
    assert finished.stderr.startswith(f"error: {said.format(tmp_path)}"), finished.stderr
    assert finished.stderr.count("\n") == 1


def test_a_mask_of_everything_is_told(inside: Command, small: list[str], tmp_path: Path) -> None:
    Image.new("L", (40, 32), 255).save(tmp_path / "all.png")
    Image.new("RGBA", (36, 48), (0, 0, 0, 255)).save(tmp_path / "opaque.png")
    finished = inside(*small, "style.region=all.png", "hydra.run.dir=run")
    assert finished.returncode == 0
    assert "style.region=all.png: this mask is white everywhere, so it selects the whole picture" in finished.stderr
    refused = inside(*small, "style.mask=opaque.png")
    assert refused.returncode == 2
    assert "style.mask=opaque.png: this mask is black everywhere" in refused.stderr
