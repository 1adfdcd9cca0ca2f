"""Losses and gradients agree with a transcription of the formulas in plain torch, written apart from ours."""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn

from nst.config import nodes
from nst.encoder import weights as encoder
from nst.encoder.vgg import VGG
from nst.files import paths
from nst.objective import (
    Formulas,
    JointTerm,
    Objective,
    Style,
    Term,
    Weights,
    content_targets,
    functional,
    style_targets,
)
from tests.conftest import image

CONTENT = ["conv2_2", "relu3_1"]
STYLE = ["relu1_1", "relu2_1", "conv3_1"]


def tiny() -> VGG:
    state = encoder.random_state("slim", 0)
    layers = [*CONTENT, *STYLE]
    return VGG(architecture="slim", layers=layers, pooling=lambda: nn.AvgPool2d(2, 2), state=state, dtype=torch.float64)


def transcription(name: str, network: VGG, x: Tensor, content: Tensor, style: Tensor, weights: Weights) -> Tensor:
    """Gatys et al. 2015, equations 1 to 7, by index sums instead of matrix products."""
    f, p, a = network(x), network(content), network(style)
    total = torch.zeros((), dtype=torch.float64)
    for layer in CONTENT:
        factor = weights.content * weights.content_layers.get(layer, 1)
        difference = (f[layer] - p[layer]) ** 2
        total = total + factor * (difference.sum() / 2 if name == "paper" else difference.sum() / difference.numel())
    for layer in STYLE:
        factor = weights.style * weights.style_layers.get(layer, 1)
        n, m = f[layer].shape[1], f[layer].shape[2] * f[layer].shape[3]
        g = torch.einsum("ihw,jhw->ij", f[layer][0], f[layer][0])
        target = torch.einsum("ihw,jhw->ij", a[layer][0], a[layer][0])
        if name == "paper":
            total = total + factor / len(STYLE) * ((g - target) ** 2).sum() / (4 * n**2 * m**2)
        else:
            total = total + factor * (((g - target) / (n * m)) ** 2).sum() / n**2
    down = (x[:, :, 1:, :] - x[:, :, :-1, :]).abs().mean()
    across = (x[:, :, :, 1:] - x[:, :, :, :-1]).abs().mean()
    return total + weights.tv * (down + across)


@pytest.mark.parametrize("name", ["gram", "paper"])
@pytest.mark.parametrize("tv", [0.0, 3.0])
def test_losses_and_gradients_agree_with_the_transcription(name: str, tv: float) -> None:
    formulas = made(f"objective={name}")
    weights = Weights(
        content=0.7, style=1e3, tv=tv, content_layers={"conv2_2": 0.3}, style_layers={"relu1_1": 2.0, "conv3_1": 0.5}
    )
    network, content, style = tiny(), image(1), image(2)
    objective = Objective(
        encoder=network,
        formulas=formulas,
        weights=weights,
        content=content_targets(network, content, CONTENT),
        styles=[Style(targets=style_targets(network, style, STYLE, formulas))],
    )
    ours, theirs = (image(3).requires_grad_() for _ in range(2))
    losses = objective(ours)
    losses.total.backward()
    expected = transcription(name, network, theirs, content, style, weights)
    expected.backward()
    assert losses.total.item() == pytest.approx(expected.item(), rel=1e-10)
    assert ours.grad is not None
    assert theirs.grad is not None
    assert (ours.grad - theirs.grad).norm() / theirs.grad.norm() < 1e-10
    parts = sum(losses.parts.values()) + tv * losses.tv
    assert parts.item() == pytest.approx(losses.total.item(), rel=1e-12)
    unweighted = weights.content * losses.content + weights.style * losses.style + tv * losses.tv
    assert unweighted.item() == pytest.approx(losses.total.item(), rel=1e-12)


def flat(features: Tensor) -> Tensor:
    return features[0].flatten(1)


def mean_and_covariance(features: Tensor) -> tuple[Tensor, Tensor]:
    values = flat(features)
    return values.mean(1), torch.cov(values, correction=0)


def mean_std(f: Tensor, a: Tensor) -> Tensor:
    return (flat(f).mean(1) - flat(a).mean(1)).square().mean() + (
        (flat(f).var(1, correction=0) + 1e-12).sqrt() - (flat(a).var(1, correction=0) + 1e-12).sqrt()
    ).square().mean()


def covariance(f: Tensor, a: Tensor) -> Tensor:
    return ((mean_and_covariance(f)[1] - mean_and_covariance(a)[1]) / f.shape[1]).square().mean()


def wasserstein(f: Tensor, a: Tensor) -> Tensor:
    """By the eigenvalues of a product that isn't symmetric, as torch finds them."""
    (mean, spread), (other_mean, other_spread) = mean_and_covariance(f), mean_and_covariance(a)
    added = (1e-4 * flat(a).square().mean() + 1e-12) * torch.eye(len(mean), dtype=mean.dtype)
    spread, other_spread = spread + added, other_spread + added
    root = torch.linalg.eigvals(spread @ other_spread).sqrt().real.sum()
    return ((mean - other_mean).square().sum() + spread.trace() + other_spread.trace() - 2 * root) / len(mean)


def sliced_wasserstein(f: Tensor, a: Tensor) -> Tensor:
    axes = torch.randn(f.shape[1], f.shape[1], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    axes = axes / axes.norm(dim=0)
    found, target = ((axes.T @ flat(each)).sort(1).values for each in (f, a))
    return (found - target).square().sum() / found.numel()


def histogram(f: Tensor, a: Tensor) -> Tensor:
    """With the value of the style that has the rank of each value of the picture."""
    ranks = flat(f).argsort(1).argsort(1)
    return (flat(f) - flat(a).sort(1).values.gather(1, ranks)).square().sum() / f.numel()


def softened(f: Tensor) -> Tensor:
    exponentials = flat(f).exp()
    return f.shape[1] * exponentials / exponentials.sum(0)


def gram_softmax(f: Tensor, a: Tensor) -> Tensor:
    grams = [
        softened(x) @ softened(x).T / x.numel() * bool(x.any()) for x in (f, a)
    ]  # a statistic of 0 for no features
    return (grams[0] - grams[1]).square().mean()


def shifted_gram(f: Tensor, a: Tensor) -> Tensor:
    total, number = torch.zeros((), dtype=torch.float64), 6 * f.shape[1] ** 2
    for shift, (down, right) in itertools.product([2, 4, 8], [(0, 1), (1, 0)]):
        grams = []
        for x in (f[0], a[0]):
            height, width = x.shape[1] - shift * down, x.shape[2] - shift * right
            if height <= 0 or width <= 0:
                grams.append(torch.zeros(len(x), len(x), dtype=torch.float64))
                continue
            near, far = x[:, :height, :width], x[:, shift * down :, shift * right :]
            grams.append(torch.einsum("ihw,jhw->ij", near, far) / near.numel())
        total = total + (grams[0] - grams[1]).square().sum()
    return total / number


TERMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mean_std": mean_std, "covariance": covariance, "wasserstein": wasserstein,
    "sliced_wasserstein": sliced_wasserstein, "shifted_gram": shifted_gram,
    "histogram": histogram, "gram_softmax": gram_softmax,
}  # fmt: skip


def made(*overrides: str) -> Formulas:
    with initialize_config_dir(str(paths.configs()), version_base="1.3"):
        formulas: Formulas = instantiate(compose("train", list(overrides)).objective, _convert_="all")
    return formulas


def test_every_term_is_tested() -> None:
    elsewhere = {"gram", "gram_paper", "sliced_wasserstein_drawn"}  # below, and in tests/objective/test_joint.py
    elsewhere |= {"relaxed_emd", "hypercolumn_moments", "palette"}  # in tests/objective/test_hypercolumns.py
    elsewhere |= {"nearest_neighbors", "feature_splitting", "patch_neighbors"}  # in tests/objective/test_neighbors.py
    assert {path.stem for path in (paths.configs() / "objective" / "style").iterdir()} == {*TERMS, *elsewhere}


def test_the_content_loss_of_softened_features_agrees_with_a_transcription() -> None:
    found, target = image(1, 9, 7).requires_grad_(), image(2, 9, 7)
    loss = made("objective=swag").content
    assert not isinstance(loss, JointTerm)
    assert loss(found, target).item() == pytest.approx((softened(found) - softened(target)).square().mean().item())
    assert torch.autograd.gradcheck(loss, (found, target))


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("relative", [False, True])
def test_terms_and_their_gradients_agree_with_transcriptions(name: str, *, relative: bool) -> None:
    formulas = made(f"objective/style=[{name}]", f"objective.relative={relative}", f"objective.style.{name}.weight=3")
    network, style = tiny(), image(2)
    objective = Objective(
        encoder=network,
        formulas=formulas,
        weights=Weights(content=1, style=1, tv=0, style_layers={"conv3_1": 0.5}),
        content={},
        styles=[Style(targets=style_targets(network, style, STYLE, formulas))],
    )
    ours, theirs = (image(3).requires_grad_() for _ in range(2))
    losses = objective(ours)
    losses.total.backward()
    f, a = network(theirs), network(style)
    expected = torch.zeros((), dtype=torch.float64)
    for layer in STYLE:
        distance, nothing = (TERMS[name](x, a[layer]) for x in (f[layer], torch.zeros_like(a[layer])))
        factor = 3 * (0.5 if layer == "conv3_1" else 1) / (nothing.item() if relative else 1)
        expected = expected + factor * distance
    expected.backward()
    # The transcription's eigenvalues of a matrix that isn't symmetric are the less exact ones.
    near = 1e-6 if name == "wasserstein" else 1e-10
    assert losses.total.item() == pytest.approx(expected.item(), rel=near)
    assert ours.grad is not None
    assert theirs.grad is not None
    assert (ours.grad - theirs.grad).norm() / theirs.grad.norm() < near


def test_terms_mix_by_their_weights() -> None:
    both = made("objective/style=[gram,mean_std,wasserstein,covariance]", "objective.style.mean_std.weight=7")
    assert len(both.statistics) == 3, "two terms compare the same moments, which are computed once"
    network, style, picture = tiny(), image(2), image(3)

    def loss(formulas: Formulas) -> float:
        weights = Weights(content=1, style=1, tv=0)
        kept = style_targets(network, style, STYLE, formulas)
        objective = Objective(
            encoder=network, formulas=formulas, weights=weights, content={}, styles=[Style(targets=kept)]
        )
        return float(objective(picture).total)

    alone = [
        loss(made(f"objective/style=[{name}]", f"objective.style.{name}.weight={weight}"))
        for name, weight in (("gram", 1), ("mean_std", 7), ("wasserstein", 5e-6), ("covariance", 1))
    ]
    assert loss(both) == pytest.approx(sum(alone), rel=1e-12)


def test_a_relative_loss_is_a_fraction_of_that_of_a_picture_without_features() -> None:
    """So it stays what it is where all features are twice as strong."""
    network, content, style, picture = tiny(), image(1), image(2), image(3)
    formulas = made("objective=relative")
    for name in ("conv2_2", "relu3_1"):
        objective = Objective(
            encoder=network,
            formulas=formulas,
            weights=Weights(content=1, style=0, tv=0),
            content=content_targets(network, content, [name]),
            styles=[Style(targets=style_targets(network, style, STYLE, formulas))],
        )
        f, p = network(picture)[name], network(content)[name]
        assert objective(picture).content.item() == pytest.approx(((f - p).square().sum() / p.square().sum()).item())


def test_the_distance_of_gaussians_whose_axes_are_the_same() -> None:
    """Then it is that of their means and of their deviations."""
    positions = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]], dtype=torch.float64)
    found = (positions * torch.tensor([1.0, 2.0])).T.reshape(1, 2, 2, 2)
    target = (positions * torch.tensor([3.0, 2.5]) + torch.tensor([0.0, 4.0])).T.reshape(1, 2, 2, 2)
    distance = functional.gaussian_wasserstein(functional.moments(found), functional.moments(target), eps=0)
    assert distance.item() == pytest.approx((2**2 + 0.5**2 + 4**2) / 2)
    for moments in (functional.moments, functional.channel_moments):
        same = functional.mean_and_deviation_difference(moments(found), moments(target))
        assert same.item() == pytest.approx(distance.item())


def test_sliced_distances_of_known_features() -> None:
    values = torch.tensor([[[[4.0, -1.0, 2.0, 0.5]]]], dtype=torch.float64)

    def kept(features: Tensor) -> Tensor:
        return functional.sorted_projections(features, directions=8, seed=1)

    assert functional.sliced_wasserstein(kept(values), kept(values.flip(3))).item() == 0
    assert functional.sliced_wasserstein(kept(values + 3), kept(values)).item() == pytest.approx(9)
    longer = torch.linspace(0, 1, 50, dtype=torch.float64).view(1, 1, 5, 10)
    shorter = torch.linspace(0, 1, 30, dtype=torch.float64).view(1, 1, 5, 6)
    assert functional.sliced_wasserstein(kept(longer), kept(shorter)).item() < 1e-3


@pytest.mark.parametrize(
    "statistic",
    [
        functional.moments,
        functional.channel_moments,
        lambda x: functional.gram_of_shifted(x, shifts=[1, 3]),
        lambda x: functional.sorted_projections(x, directions=3, seed=0),
        lambda x: functional.gaussian_wasserstein(functional.moments(x), torch.eye(3, 4, dtype=x.dtype), eps=1e-4),
    ],
)
def test_gradients_are_those_of_differences(statistic: Callable[[Tensor], Tensor]) -> None:
    features = torch.randn(1, 3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    features = features.contiguous(memory_format=torch.channels_last).requires_grad_()
    assert torch.autograd.gradcheck(statistic, features)


@pytest.mark.parametrize("name", ["moments", "channel_moments"])
def test_moments_of_16_bits_are_summed_in_32(name: str) -> None:
    statistic = getattr(functional, name)
    features = torch.rand(1, 24, 150, 150, generator=torch.Generator().manual_seed(0)).bfloat16()
    features = features.contiguous(memory_format=torch.channels_last)
    exact = statistic(features.double())
    found = statistic(features)
    assert found.dtype == torch.float32
    assert (found - exact).abs().max() < 1e-5 * exact.abs().max()


def test_the_laplacian_sees_lines_and_neither_light_nor_slopes() -> None:
    def distance(x: Tensor, y: Tensor) -> float:
        return functional.laplacian_difference(x, y, pool=2).item()

    picture = image(1)
    slope = torch.linspace(0, 1, 20, dtype=torch.float64).expand_as(picture)
    assert distance(picture + 0.3 + slope, picture) == pytest.approx(0, abs=1e-20)
    spot = torch.zeros(1, 3, 10, 10, dtype=torch.float64)
    spot[0, 1, 4:6, 4:6] = 1  # one pixel of 5 × 5 once pooled: 4 there and -1 on its four sides, of 27 values
    assert distance(spot, torch.zeros_like(spot)) == pytest.approx((16 + 4) / 27)
    assert distance(picture[..., :4, :], picture[..., :4, :] + 1) == 0


def test_the_laplacian_is_a_part_of_the_content() -> None:
    network, content, picture = tiny(), image(1), image(3)
    objective = Objective(
        encoder=network,
        formulas=made(),
        weights=Weights(content=1, style=1, tv=0, laplacian=5),
        content=content_targets(network, content, CONTENT),
        styles=[],
        picture=content,
    )
    losses = objective(picture)
    found = losses.parts["content/laplacian"].item()
    assert found == pytest.approx(5 * functional.laplacian_difference(picture, content, pool=4).item())
    assert losses.total.item() == pytest.approx(losses.content.item() + found)


def test_bures_distance_of_any_size_and_rank() -> None:
    """Of features that say the same at very different scales, and of ones that are no numbers."""
    features = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    alike = torch.cat([features, 2 * features, features.flip(1)], dim=1)
    for size in (1e-3, 1.0, 1e4, 1e9):
        found, other = functional.moments((size * alike).requires_grad_()), functional.moments(2 * size * alike)
        distance = functional.gaussian_wasserstein(found, other, eps=1e-4)
        spread = functional.gaussian_wasserstein(found, torch.zeros_like(other), eps=1e-4)
        assert distance.item() == pytest.approx(spread.item(), rel=0.1)  # both are E|x|², but for eps
        assert functional.gaussian_wasserstein(found, found, eps=1e-4).item() <= 1e-6 * spread.item() + 1e-12
    assert functional.gaussian_wasserstein(found * float("inf"), other, eps=1e-4).isnan()


@pytest.mark.parametrize("value", [0.0, 271.0])
def test_two_pictures_of_one_colour_have_no_distance(value: float) -> None:
    """Their variances are rounding alone, of either sign."""
    levels = value * torch.linspace(0.1, 1, 64).view(1, 64, 1, 1)
    moments = functional.moments(levels.expand(1, 64, 17, 23))
    found = moments.clone().requires_grad_()
    distance = functional.gaussian_wasserstein(found, moments, eps=1e-4)
    distance.backward()
    assert abs(distance.item()) <= 1e-9 * max(1, value**2)
    assert found.grad is not None
    assert found.grad.isfinite().all()


@pytest.mark.parametrize(("dtype", "least"), [(torch.bfloat16, 0.99), (torch.float32, 0.9999)])
def test_the_gradient_of_features_that_depend_on_each_other(dtype: torch.dtype, least: float) -> None:
    """As deep features do: 128 channels, mostly of 12 degrees of freedom, at the scale of Caffe's VGG-19."""

    def features(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        hidden = torch.randn(12, 24 * 32, generator=generator, dtype=torch.float64)
        mixing = torch.randn(128, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        noise = torch.randn(128, 24 * 32, generator=generator, dtype=torch.float64)
        return (100 * (mixing @ hidden + 0.1 * noise).relu()).view(1, 128, 24, 32).to(dtype).double()

    def gradient(kind: torch.dtype) -> Tensor:
        found = features(1).to(kind).contiguous(memory_format=torch.channels_last).requires_grad_()
        target = functional.moments(features(2).to(kind).contiguous(memory_format=torch.channels_last))
        functional.gaussian_wasserstein(functional.moments(found), target, eps=1e-4).backward()
        assert found.grad is not None
        return found.grad.double().flatten()

    assert torch.cosine_similarity(gradient(dtype), gradient(torch.float64), dim=0) > least


def test_gram_matrices_of_known_features() -> None:
    features = torch.tensor([[[[1.0, 2.0]], [[3.0, -1.0]]]])
    sums = torch.tensor([[5.0, 1.0], [1.0, 10.0]])
    assert torch.equal(functional.gram_per_position(features), sums / 2)
    assert torch.equal(functional.gram_per_element(features), sums / 4)


def test_total_variation_of_known_pictures() -> None:
    ramp = torch.arange(4.0).view(1, 1, 1, 4).expand(1, 3, 5, 4)
    assert functional.total_variation(ramp).item() == 1
    assert functional.total_variation(torch.ones(1, 3, 1, 1)).item() == 0
    assert functional.total_variation(2 * ramp, exponent=2).item() == 4
    assert functional.total_variation(4 * ramp, exponent=0.5).item() == pytest.approx(2, rel=0.02)


@pytest.mark.parametrize("exponent", [0.1, 0.5, 1.0, 1.5, 2.0])
def test_total_variation_of_neighbours_that_are_equal_has_a_gradient(exponent: float) -> None:
    picture = torch.full((1, 3, 4, 4), 0.5)
    picture[..., 2:] += 0.1
    picture.requires_grad_()
    functional.total_variation(picture, exponent=exponent).backward()
    assert picture.grad is not None
    assert picture.grad.isfinite().all()
    assert picture.grad.abs().max() > 0


def test_no_loss_of_the_content_or_the_style_by_itself() -> None:
    formulas = made()
    picture = image(1)
    network = tiny()
    objective = Objective(
        encoder=network,
        formulas=formulas,
        weights=Weights(content=1, style=1, tv=0),
        content=content_targets(network, picture, CONTENT),
        styles=[Style(targets=style_targets(network, picture, STYLE, formulas))],
    )
    assert objective(picture).total.item() == 0


@pytest.mark.parametrize("option", sorted(path.stem for path in (paths.configs() / "objective").glob("*.yaml")))
def test_the_functions_of_an_objective_are_called_directly(option: str) -> None:
    """Hydra's own partials check each call, which took a tenth of a small picture's evaluation."""
    with initialize_config_dir(str(paths.configs()), version_base="1.3"):
        raw: Any = OmegaConf.to_container(compose("train", [f"objective={option}"]), resolve=True)
    formulas = nodes.make(raw).objective
    terms = [term for term in formulas.terms if isinstance(term, Term)]
    functions = [formulas.tv, formulas.laplacian, *(each for term in terms for each in (term.statistic, term.distance))]
    if not isinstance(formulas.content, JointTerm):
        functions.append(formulas.content)
    assert {type(each) for each in functions} == {functools.partial}
