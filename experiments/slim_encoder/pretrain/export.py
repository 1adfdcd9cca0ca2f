"""From the trained network to the small file that ships: pairs written out, activations calibrated."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from experiments.slim_encoder.pretrain.network import Trunk, stride
from nst.encoder import architecture as arch
from nst.encoder.vgg import VGG
from nst.encoder.weights import rescale
from nst.files.atomic import replacing

#: Mean square of the activations of a layer with one channel in the first block, after calibration.
POWER = 0.014


def power(layer: str, channels: int) -> float:
    """Mean square of a layer's activations after calibration: ``POWER`` for each channel, halved with each block.

    In proportion to the channels because a Gram matrix that is divided by C shrinks with it. Content losses grow with
    the power, style losses with its square, so each block's style weighs four times the next one's: fine texture
    is what pictures lack otherwise. ``POWER`` was chosen so that the baseline's weights 1 and 1e6
    balance without ``encoder.calibrate``.
    """
    return POWER * channels / stride(layer)


def unpaired(trunk: Trunk, architecture: str) -> dict[str, Tensor]:
    """The trunk's weights in torchvision's layout: both filters of each pair written out."""
    state = {}
    for name, index in arch.convolution_indices(architecture).items():
        layer = trunk.layers[name]
        assert isinstance(layer, nn.Conv2d)
        assert layer.bias is not None
        weight, bias = layer.weight.detach(), layer.bias.detach()
        state[f"features.{index}.weight"] = torch.cat([weight, -weight])
        state[f"features.{index}.bias"] = torch.cat([bias, -bias])
    return state


@torch.no_grad()
def calibrate(state: dict[str, Tensor], architecture: str, pictures: Sequence[Tensor]) -> dict[str, Tensor]:
    """Scales each layer so that its activations' mean square is ``power``, the next layer to match."""
    layers = [name for name in arch.layer_names(architecture) if name.startswith("relu")]
    network = VGG(architecture=architecture, layers=layers, pooling=lambda: nn.AvgPool2d(2, 2), state=state)
    squares = [{name: f.square().mean() for name, f in network(picture).items()} for picture in pictures]
    scales = {}
    for name, index in arch.convolution_indices(architecture).items():
        mean = torch.stack([square[name.replace("conv", "relu")] for square in squares]).mean()
        scales[name] = (power(name, len(state[f"features.{index}.bias"])) / mean).sqrt()
    return rescale(state, architecture, scales)


def write(state: dict[str, Tensor], path: Path, recipe: dict[str, Any]) -> str:
    """Writes the weights with their recipe and their SHA-256 as metadata; returns the latter."""
    metadata = {"recipe": json.dumps(recipe, sort_keys=True), "sha256": digest(state)}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        save_file({name: weight.contiguous() for name, weight in state.items()}, temporary, metadata)
    return metadata["sha256"]


def digest(state: Mapping[str, Tensor]) -> str:
    """The SHA-256 of the weights and their names, whatever file they are in."""
    total = hashlib.sha256()
    for name in sorted(state):
        total.update(name.encode() + state[name].contiguous().numpy().tobytes())
    return total.hexdigest()
