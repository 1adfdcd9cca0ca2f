"""The networks that measure pictures. An observer is fixed, so that its measures compare across runs."""

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from nst import image as images
from nst import paths
from nst.encoder import oxford
from nst.encoder import weights as reading
from nst.encoder.checkpoint import State
from nst.encoder.vgg import VGG
from nst.errors import UserError, problem
from nst.files.atomic import sha256
from nst.metrics.names import SIDE, STYLE_LAYERS, ObserverName, full_name

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Observer:
    """A network with average pooling and calibrated layers that reads pictures at ``SIDE`` px in 32 bits.

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

    @torch.no_grad()
    def read(self, image: Tensor) -> dict[str, Tensor]:
        """Return the features of an image tensor (1, 3, H, W) by layer, each (1, C, H, W)."""
        found: dict[str, Tensor] = self.network(image)
        return found


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
        return Observer(kind, sha256(path), _network(architecture, state, "torchvision").to(device), device)
    found = oxford.find()
    if found is None or found.path is None or found.sha256 is None:
        why = f"install the package {oxford.PACKAGE}, which has its weights, or choose slim"
        raise UserError(problem("observer", kind, why))
    state = reading.up_to(reading.load_state(found.path, oxford.ARCHITECTURE), oxford.ARCHITECTURE, STYLE_LAYERS)
    state = reading.calibrate(state, oxford.ARCHITECTURE, oxford.MEANS)
    return Observer(kind, found.sha256, _network(oxford.ARCHITECTURE, state, "caffe").to(device), device)


def observed(image: Tensor) -> Tensor:
    """Return an image tensor at the size at which it is measured: its longest side has ``SIDE`` px."""
    height, width = image.shape[-2:]
    return images.resize(image, images.fit(height, width, SIDE))


def _network(architecture: str, state: State, convention: str) -> VGG:
    return VGG(
        architecture=architecture,
        layers=STYLE_LAYERS,
        pooling=lambda: nn.AvgPool2d(2),
        state=state,
        convention=convention,
    )
