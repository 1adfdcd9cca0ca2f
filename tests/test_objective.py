"""Losses and gradients agree with a transcription of the formulas in plain torch, written apart from ours."""

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch import Tensor, nn

from nst import encoder, paths
from nst.encoder import Encoder
from nst.objective import Objective, Weights, content_targets, functional, style_targets

from .conftest import image

CONTENT = ["conv2_2", "relu3_1"]
STYLE = ["relu1_1", "relu2_1", "conv3_1"]


def tiny() -> Encoder:
    state = encoder.random_state("slim", 0)
    layers = [*CONTENT, *STYLE]
    return Encoder(
        architecture="slim", layers=layers, pooling=lambda: nn.AvgPool2d(2, 2), state=state, dtype=torch.float64
    )


def transcription(name: str, network: Encoder, x: Tensor, content: Tensor, style: Tensor, weights: Weights) -> Tensor:
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


@pytest.mark.parametrize("name", ["seed", "paper"])
@pytest.mark.parametrize("tv", [0.0, 3.0])
def test_losses_and_gradients_agree_with_the_transcription(name: str, tv: float) -> None:
    with initialize_config_dir(str(paths.configs()), version_base="1.3"):
        formulas = instantiate(compose("train", [f"objective={name}"]).objective)
    weights = Weights(
        content=0.7, style=1e3, tv=tv, content_layers={"conv2_2": 0.3}, style_layers={"relu1_1": 2.0, "conv3_1": 0.5}
    )
    network, content, style = tiny(), image(1), image(2)
    objective = Objective(
        encoder=network,
        formulas=formulas,
        weights=weights,
        content=content_targets(network, content, CONTENT),
        style=style_targets(network, style, STYLE, formulas.statistic),
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


def test_gram_matrices_of_known_features() -> None:
    features = torch.tensor([[[[1.0, 2.0]], [[3.0, -1.0]]]])
    sums = torch.tensor([[5.0, 1.0], [1.0, 10.0]])
    assert torch.equal(functional.gram_per_position(features), sums / 2)
    assert torch.equal(functional.gram_per_element(features), sums / 4)


def test_total_variation_of_known_pictures() -> None:
    ramp = torch.arange(4.0).view(1, 1, 1, 4).expand(1, 3, 5, 4)
    assert functional.total_variation(ramp).item() == 1
    assert functional.total_variation(torch.ones(1, 3, 1, 1)).item() == 0


def test_no_loss_of_the_content_or_the_style_by_itself() -> None:
    with initialize_config_dir(str(paths.configs()), version_base="1.3"):
        formulas = instantiate(compose("train").objective)
    picture = image(1)
    network = tiny()
    objective = Objective(
        encoder=network,
        formulas=formulas,
        weights=Weights(content=1, style=1, tv=0),
        content=content_targets(network, picture, CONTENT),
        style=style_targets(network, picture, STYLE, formulas.statistic),
    )
    assert objective(picture).total.item() == 0
