"""The recipe that this project grew from, written down for comparison: plain modules, as its author would write it.

torchvision's VGG-19 in NCHW and float32, every max-pool replaced by an average-pool, a module that computes a loss
after each chosen layer, and L-BFGS that clamps the pixels inside its closure. It knows nothing of this project's code.
"""

from collections.abc import Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from torchvision.models import vgg

CONTENT_WEIGHT = 1.0
STYLE_WEIGHT = 1e6


def gram_matrix(features: Tensor) -> Tensor:
    """``F Fᵀ / (C·H·W)`` of features (1, C, H, W), shape (C, C)."""
    _, channels, height, width = features.shape
    flat = features.view(channels, height * width)
    return flat @ flat.t() / (channels * height * width)


class Normalize(nn.Module):
    """Takes an image (1, 3, H, W) in [0, 1] to what ImageNet's weights expect."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        return (image - self.mean) / self.std


class ContentLoss(nn.Module):
    """Keeps ``mean((F - P)²)`` of the features that pass through it."""

    target: Tensor

    def __init__(self, features: Tensor) -> None:
        super().__init__()
        self.register_buffer("target", features.detach())
        self.loss = torch.zeros(())

    def forward(self, features: Tensor) -> Tensor:
        self.loss = F.mse_loss(features, self.target)
        return features


class StyleLoss(nn.Module):
    """Keeps ``mean((G - A)²)`` of the features that pass through it."""

    target: Tensor

    def __init__(self, features: Tensor) -> None:
        super().__init__()
        self.register_buffer("target", gram_matrix(features).detach())
        self.loss = torch.zeros(())

    def forward(self, features: Tensor) -> Tensor:
        self.loss = F.mse_loss(gram_matrix(features), self.target)
        return features


def layer_names() -> list[str]:
    """What torchvision's ``vgg19().features`` are, one by one: conv1_1, relu1_1, conv1_2, relu1_2, pool1, conv2_1 …"""
    names = []
    for block, convolutions in enumerate([2, 2, 4, 4, 4], 1):
        for index in range(1, convolutions + 1):
            names += [f"conv{block}_{index}", f"relu{block}_{index}"]
        names.append(f"pool{block}")
    return names


def vgg19(state: Mapping[str, Tensor], last: str) -> nn.Sequential:
    """The layers up to ``last``, frozen, from a checkpoint in torchvision's layout, which may end there."""
    depth = layer_names().index(last) + 1
    layers = vgg.make_layers(vgg.cfgs["E"], batch_norm=False)[:depth]
    layers.load_state_dict({name: state[f"features.{name}"] for name in layers.state_dict()})
    for index, layer in enumerate(layers):
        if isinstance(layer, nn.MaxPool2d):
            layers[index] = nn.AvgPool2d(2)
    return layers.eval().requires_grad_(requires_grad=False)


class Recipe(nn.Module):
    """The losses of an image.

    Args:
        state: VGG-19's weights in torchvision's layout (``features.0.weight``, …), at least to the deepest layer.
        content: an image (1, 3, H, W) in [0, 1].
        style: another, of the same shape.
        content_layers: after which layers the content is compared; names like ``relu4_2``, after a ReLU.
        style_layers: after which layers the style is compared.
    """

    def __init__(
        self,
        state: Mapping[str, Tensor],
        content: Tensor,
        style: Tensor,
        content_layers: Sequence[str],
        style_layers: Sequence[str],
    ) -> None:
        super().__init__()
        self.shape = content.shape[-2:]
        names = layer_names()
        last = max([*content_layers, *style_layers], key=names.index)
        normalize = Normalize().to(content.device)
        self.network = nn.Sequential(normalize)
        content, style = normalize(content), normalize(style)
        for name, layer in zip(names, vgg19(state, last).to(content.device), strict=False):
            with torch.no_grad():
                content, style = layer(content), layer(style)
            self.network.append(layer)
            if name in content_layers:
                self.network.append(ContentLoss(content))
            if name in style_layers:
                self.network.append(StyleLoss(style))

    def forward(self, image: Tensor) -> Tensor:
        """The total loss of an image (1, 3, H, W)."""
        self.network(image)
        content = sum(module.loss for module in self.network if isinstance(module, ContentLoss))
        style = sum(module.loss for module in self.network if isinstance(module, StyleLoss))
        return CONTENT_WEIGHT * content + STYLE_WEIGHT * style


def start(kind: str, content: Tensor, generator: Generator) -> Tensor:
    """Uniform ``noise``, or ``content_noise``: the content image with noise of the standard deviation 0.01."""
    if kind == "noise":
        return torch.rand(content.shape, generator=generator).to(content.device)
    return content + 0.01 * torch.randn(content.shape, generator=generator).to(content.device)


def optimize(recipe: Recipe, image: Tensor) -> Iterator[float]:
    """The loss of one evaluation after the other, for ever, from the start ``image``.

    An iteration without a line search is one evaluation, and ``torch.optim.LBFGS`` goes on in its next ``step`` where
    it was. Its tolerances are 0: the recipe does all of its evaluations.
    """
    image = image.clone(memory_format=torch.contiguous_format).requires_grad_()
    optimizer = torch.optim.LBFGS([image], lr=1, max_iter=1, history_size=100, tolerance_grad=0, tolerance_change=0)

    def closure() -> Tensor:
        with torch.no_grad():
            image.clamp_(0, 1)
        optimizer.zero_grad()
        loss: Tensor = recipe(image)
        loss.backward()
        return loss

    while True:
        yield optimizer.step(closure).item()
