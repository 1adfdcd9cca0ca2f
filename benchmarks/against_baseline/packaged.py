"""The packaged VGG-19 as a checkpoint that the baseline's recipe can read."""

from pathlib import Path

import torch

from nst.encoder import oxford
from nst.encoder import weights as encoder
from nst.encoder.vgg import CONVENTIONS
from nst.errors import UserError


def write(path: Path) -> Path:
    """Write the packaged network in torchvision's layout and convention, its layers at a mean activation of 1.

    Zero padding then stands for another colour, so conv1_1 differs at the border. Raises UserError without the package.
    """
    found = oxford.find()
    if found is None or found.path is None:
        raise UserError(f"--weights: the package {oxford.PACKAGE} is not installed; give a checkpoint of VGG-19")
    state = encoder.calibrate(encoder.load_state(found.path, oxford.ARCHITECTURE), oxford.ARCHITECTURE, oxford.MEANS)
    ours, theirs = (CONVENTIONS[name] for name in ("torchvision", "caffe"))
    mean, std, their_mean, their_std = (
        torch.tensor(values) for values in (ours.mean, ours.std, theirs.mean, theirs.std)
    )
    weight = state["features.0.weight"].flip(1) / their_std.view(1, 3, 1, 1)  # for RGB less the means
    state["features.0.bias"] = state["features.0.bias"] + (weight.sum((2, 3)) @ (mean - their_mean))
    state["features.0.weight"] = weight * std.view(1, 3, 1, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({name: tensor.contiguous() for name, tensor in state.items()}, path)
    return path
