"""The encoder while it learns: filters in pairs, classifiers and drawings at several depths."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from nst.encoder import architecture as arch

#: Layers whose statistics must tell textures apart (deep supervision: Lee et al., arXiv:1409.5185).
CLASSIFIED = ("relu1_2", "relu2_1", "relu2_2", "relu3_1", "relu3_4", "relu4_1", "relu4_2", "relu5_1")
#: Layers that the picture is drawn from again.
DRAWN = ("relu3_1", "relu3_4", "relu4_1", "relu4_2", "relu4_4", "relu5_1")


class Trunk(nn.Module):
    """Convolutions whose filters come in pairs, w and -w, with ReLU, and average pooling between the blocks.

    A pair keeps what its ReLUs cut off (concatenated ReLUs: Shang et al., arXiv:1603.05201): relu(a) - relu(-a) = a.
    So a Gram matrix of the features holds the whole covariance of the filters' responses, and a loss on it can't be
    satisfied by noise that the filters don't see. The first filters are fixed (``first_filters``).

    Args:
        architecture: a key of ``nst.architecture.BLOCKS``, all of whose channels are even.
    """

    def __init__(self, architecture: str) -> None:
        super().__init__()
        self.layers = nn.ModuleDict()
        inputs = 3
        for block, channels in enumerate(arch.BLOCKS[architecture], 1):
            for index, outputs in enumerate(channels, 1):
                self.layers[f"conv{block}_{index}"] = nn.Conv2d(inputs, outputs // 2, 3, padding=1)
                inputs = outputs
        first = self.layers["conv1_1"]
        assert isinstance(first, nn.Conv2d)
        first.requires_grad_(False)
        first.weight.copy_(first_filters(first.out_channels))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Features after every ReLU, of normalized pictures (N, 3, H, W)."""
        features = {}
        for name in self.layers:
            x = self.step(name, x)
            features[name.replace("conv", "relu")] = x
        return features

    def step(self, name: str, x: Tensor) -> Tensor:
        """One convolution with its ReLUs, and the pooling before it where a block begins."""
        if name.endswith("_1") and name != "conv1_1":
            x = F.avg_pool2d(x, 2)
        x = self.layers[name](x)
        return torch.cat([x, -x], 1).relu()

    @torch.no_grad()
    def whiten(self, pictures: Tensor, generator: Generator) -> None:
        """Sets the filters from normalized pictures (N, 3, H, W), layer by layer, before the training.

        Each filter is a random direction among the leading principal components of the 3 x 3 patches it will see,
        half whitened, its response of mean 0 and deviation 1. (Principal components as filters: Chan et al.,
        arXiv:1404.3606; random orthogonal ones: Saxe et al., arXiv:1312.6120; by the data: Mishkin and Matas,
        arXiv:1511.06422.) Random, because what a few principal components leave out no loss would see.
        """
        x = pictures
        for name, layer in self.layers.items():
            assert isinstance(layer, nn.Conv2d)
            assert layer.bias is not None
            seen = F.avg_pool2d(x, 2) if name.endswith("_1") and name != "conv1_1" else x
            patches = _patches(seen, 30_000, generator)
            filters = layer.weight.flatten(1)
            if name == "conv1_1":
                deviation = (patches @ filters.T).std(0)
                # Fine detail is faint in pictures. Wholly evened out it would rule the style loss and slow it down.
                filters = filters * (deviation / deviation[0]).pow(0.3)[:, None]
            else:
                filters = _random_directions(patches, len(filters), generator)
            deviation = (patches @ filters.T).std(0)
            filters = filters / (deviation.mean() if name == "conv1_1" else deviation[:, None])
            layer.weight.copy_(filters.view_as(layer.weight))
            layer.bias.copy_(-(filters @ patches.mean(0)))
            x = self.step(name, x)


def first_filters(number: int) -> Tensor:
    """The first layer's filters (number, 3, 3, 3), at most 12, the most important first; each of length 1.

    Brightness: smooth, its four first and mixed derivatives, its second ones, the checkerboard's; two opponent
    colours (Ohta et al. 1980): smooth, and against their surroundings, which sees colour noise of any direction.
    """
    smooth, slope, curve = torch.tensor([1.0, 2, 1]), torch.tensor([1.0, 0, -1]), torch.tensor([1.0, -2, 1])
    center = torch.zeros(3, 3).index_put_((torch.tensor(1), torch.tensor(1)), torch.tensor(1.0))
    around = center - torch.outer(smooth, smooth) / 16
    brightness, red_blue, green = torch.tensor([[1.0, 1, 1], [1, 0, -1], [1, -2, 1]])
    planned = [
        (brightness, torch.outer(smooth, smooth)),
        (brightness, torch.outer(smooth, slope)),
        (brightness, torch.outer(slope, smooth)),
        (red_blue, torch.outer(smooth, smooth)),
        (green, torch.outer(smooth, smooth)),
        (brightness, torch.outer(slope, slope)),
        (brightness, torch.outer(smooth, curve)),
        (brightness, torch.outer(curve, smooth)),
        (red_blue, around),
        (green, around),
        (brightness, torch.outer(curve, curve)),
        (brightness, torch.outer(slope, curve) + torch.outer(curve, slope)),
    ]
    filters = torch.stack([color[:, None, None] * kernel for color, kernel in planned[:number]])
    return filters / filters.flatten(1).norm(dim=1).view(-1, 1, 1, 1)


def _patches(x: Tensor, number: int, generator: Generator) -> Tensor:
    """Patches (number, C·9) at random places of feature maps (N, C, H, W)."""
    patches = F.unfold(x, 3).transpose(1, 2).flatten(0, 1)
    return patches[torch.randperm(len(patches), generator=generator)[:number]]


def _random_directions(patches: Tensor, number: int, generator: Generator) -> Tensor:
    """Orthogonal directions (number, D) among the 4 x number leading principal components, half whitened."""
    values, vectors = torch.linalg.eigh(torch.cov(patches.T))
    values, vectors = values.clamp(min=0).flip(0)[: 4 * number], vectors.flip(1)[:, : 4 * number]
    directions = torch.linalg.qr(torch.randn(len(values), number, generator=generator))[0].T
    gains = (values + 1e-3 * values[0]).pow(-0.25)
    return directions * gains @ vectors.T


class StatisticsHead(nn.Module):
    """Classifies textures by a layer's channel means and Gram matrix, the latter by signed square roots."""

    def __init__(self, channels: int, classes: int, *, width: int = 192) -> None:
        super().__init__()
        self.register_buffer("upper", torch.triu_indices(channels, channels), persistent=False)
        statistics = channels + channels * (channels + 1) // 2
        self.norm = nn.BatchNorm1d(statistics)
        self.classify = nn.Sequential(nn.Linear(statistics, width, bias=False), nn.Linear(width, classes))

    def forward(self, features: Tensor) -> Tensor:
        flat = features.flatten(2)
        gram = flat @ flat.mT / flat.shape[2]
        row, column = self.get_buffer("upper")
        entries = gram[:, row, column]
        roots = entries.sign() * (entries.abs() + 1e-6).sqrt()
        logits: Tensor = self.classify(self.norm(torch.cat([flat.mean(2), roots], 1)))
        return logits


class Learner(nn.Module):
    """The trunk with its heads.

    Args:
        architecture: a key of ``nst.architecture.BLOCKS``.
        classes: number of texture classes; 0 leaves the classifiers out.
    """

    def __init__(self, architecture: str, classes: int) -> None:
        super().__init__()
        self.trunk = Trunk(architecture)
        channels = {name: 2 * layer.out_channels for name, layer in _convolutions(self.trunk)}
        self.classifiers = nn.ModuleDict(
            {name: StatisticsHead(channels[name], classes) for name in CLASSIFIED if classes}
        )
        self.drawings = nn.ModuleDict(
            {name: nn.Conv2d(channels[name], (stride(name) // cell(name)) ** 2 + 8, 1) for name in DRAWN}
        )

    def forward(self, x: Tensor, textures: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Logits (textures, classes) of the first ``textures`` pictures, and the drawings of all."""
        features = self.trunk(x)
        return (
            {name: classify(features[name][:textures]) for name, classify in self.classifiers.items()},
            {name: draw(features[name]) for name, draw in self.drawings.items()},
        )


def _convolutions(trunk: Trunk) -> Iterable[tuple[str, nn.Conv2d]]:
    for name, layer in trunk.layers.items():
        assert isinstance(layer, nn.Conv2d)
        yield name.replace("conv", "relu"), layer


def stride(layer: str) -> int:
    """Distance in px between the positions of a layer."""
    return int(2 ** (int(layer[4]) - 1))


def cell(layer: str) -> int:
    """Side in px of the cells that ``layer`` has to draw brightness in: 2, and 4 in the fifth block."""
    return max(2, stride(layer) // 4)


def drawing(x: Tensor, layer: str) -> Tensor:
    """What ``layer`` has to draw of normalized pictures (N, 3, H, W): (N, channels, H / stride, W / stride).

    - the brightness, less its surroundings of 16 px and divided by its contrast, in cells of ``cell(layer)`` px:
      what lies where, however bright it is;
    - two opponent colours, in 2 x 2 cells.
    """
    brightness = x.mean(1, keepdim=True)
    around = F.avg_pool2d(brightness, 16, stride=8, padding=4, count_include_pad=False)
    brightness = brightness - F.interpolate(around, size=x.shape[-2:], mode="bilinear")
    brightness = brightness / (brightness.square().mean((1, 2, 3), keepdim=True).sqrt() + 0.1)
    pixel, step = cell(layer), stride(layer)
    colors = 0.3 * torch.stack([x[:, 0] - x[:, 2], x[:, 0] - 2 * x[:, 1] + x[:, 2]], 1)
    return torch.cat(
        [
            F.pixel_unshuffle(F.avg_pool2d(brightness, pixel), step // pixel),
            F.pixel_unshuffle(F.avg_pool2d(colors, step // 2), 2),
        ],
        1,
    )
