"""The networks that measure pictures. An observer is fixed, so that its measures compare across runs."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from nst import image as images
from nst.encoder import oxford
from nst.encoder import weights as reading
from nst.encoder.checkpoint import State
from nst.encoder.vgg import VGG
from nst.errors import UserError, file_problem, problem
from nst.files import paths
from nst.files.atomic import sha256
from nst.metrics import functional
from nst.metrics.names import SIDE, STRUCTURE_LAYER, STYLE_LAYERS, ObserverName, full_name

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Observer(ABC):
    """A network that measures pictures at ``SIDE`` px.

    Attributes:
        kind: one of ``names.OBSERVERS``.
        sha256: that of the file with the weights.
        network: the network.
        device: where pictures are measured.
    """

    kind: ObserverName
    sha256: str
    network: nn.Module
    device: torch.device

    @property
    def name(self) -> str:
        """The observer's name, with the size and the version: a part of the name of each measure."""
        return full_name(self.kind)

    @abstractmethod
    def values(self, picture: Tensor, content: Tensor, style: Tensor | None) -> dict[str, float]:
        """Return the measures of a picture, as observed, against its content of the same size and its style, if any."""


@dataclass(frozen=True)
class Features(Observer):
    """A VGG with average pooling and calibrated layers, in 32 bits.

    Attributes:
        shallow: the same network up to the layer that the content is compared in.
    """

    shallow: nn.Module

    @torch.no_grad()
    def read(self, image: Tensor) -> dict[str, Tensor]:
        """Return the features of an image tensor (1, 3, H, W) by layer, each (1, C, H, W)."""
        found: dict[str, Tensor] = self.network(image)
        return found

    def values(self, picture: Tensor, content: Tensor, style: Tensor | None) -> dict[str, float]:
        """Return CFSD, and with a style its distances by layer."""
        found = self.read(picture)
        with torch.no_grad():
            own = self.shallow(content)[STRUCTURE_LAYER]
        values = {"cfsd": functional.feature_structure(found[STRUCTURE_LAYER], own)}
        if style is None:
            return values
        wanted = self.read(style)
        measures: dict[str, Callable[[Tensor, Tensor], float]] = {
            "gram": functional.gram_distance,
            "frechet": functional.frechet_distance,
            "sliced_wasserstein": functional.sliced_wasserstein_distance,
        }
        for name, distance in measures.items():
            losses = {layer: distance(found[layer], wanted[layer]) for layer in STYLE_LAYERS}
            values |= functional.by_layer(name, losses)
        return values


class Perceptual(Observer):
    """LPIPS by AlexNet: Zhang et al. 2018 (arXiv:1801.03924), eq. 1; torchmetrics has it."""

    @torch.no_grad()
    def values(self, picture: Tensor, content: Tensor, style: Tensor | None) -> dict[str, float]:
        """Return LPIPS."""
        return {"lpips": float(self.network(picture, content))}


@cache
def observer(kind: ObserverName, device: torch.device = CPU) -> Observer:
    """Return an observer. Raise UserError if its weights are not installed.

    Measures are computed in 64 bits, which MPS lacks, so ``device`` must be another one.
    """
    if kind == "slim":
        path, architecture = paths.bundled_encoder(), "slim"
        state: State = reading.load_state(path, architecture)
        names = reading.available_layers(state, architecture)
        state = reading.calibrate(state, architecture, dict.fromkeys(names, reading.SLIM_MEAN))
        return _features(kind, sha256(path), architecture, state, "torchvision", device)
    if kind == "alexnet":
        path = _alexnet()
        return Perceptual(kind, sha256(path), _perceptual().to(device), device)
    found = oxford.find()
    if found is None or found.path is None or found.sha256 is None:
        why = f"install the package {oxford.PACKAGE}, which has its weights, or choose slim"
        raise UserError(problem("observer", kind, why))
    state = reading.up_to(reading.load_state(found.path, oxford.ARCHITECTURE), oxford.ARCHITECTURE, STYLE_LAYERS)
    state = reading.calibrate(state, oxford.ARCHITECTURE, oxford.MEANS)
    return _features(kind, found.sha256, oxford.ARCHITECTURE, state, "caffe", device)


def observed(image: Tensor) -> Tensor:
    """Return an image tensor at the size at which it is measured: its longest side has ``SIDE`` px."""
    height, width = image.shape[-2:]
    return images.resize(image, images.fit(height, width, SIDE))


def _alexnet() -> Path:
    """Return the file with torchvision's weights of AlexNet. Raise UserError if it isn't in torch's cache."""
    from torchvision.models import AlexNet_Weights  # a slow import

    name = AlexNet_Weights.IMAGENET1K_V1.url.rpartition("/")[2]
    path = Path(torch.hub.get_dir(), "checkpoints", str(name))
    if (missing := file_problem(path)) is not None:
        why = f"{path}: {missing}; torchvision.models.alexnet(weights='DEFAULT') downloads it"
        raise UserError(problem("observer", "alexnet", why))
    return path


def _perceptual() -> nn.Module:
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity  # a slow import

    return LearnedPerceptualImagePatchSimilarity(net_type="alex", normalize=True)


def _features(
    kind: ObserverName, checksum: str, architecture: str, state: State, convention: str, device: torch.device
) -> Features:
    network, shallow = (
        VGG(
            architecture=architecture,
            layers=layers,
            pooling=lambda: nn.AvgPool2d(2),
            state=state,
            convention=convention,
        ).to(device)
        for layers in (STYLE_LAYERS, (STRUCTURE_LAYER,))
    )
    return Features(kind, checksum, network, device, shallow)
