"""Reading of weight checkpoints, without executing code in them."""

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

import torch
from safetensors.torch import load_file
from torch import Tensor

from nst.errors import UserError, problem
from nst.files.weights import NO_WEIGHTS, check_format, format_of

#: Weights by their names in torchvision's layout: ``features.0.weight``, …
State = Mapping[str, Tensor]

#: Message about tensors that ``is_number`` rejects.
NO_NUMBERS = "has infinite or NaN values, or isn't of a floating-point type"


def read(path: Path, *, key: str) -> dict[Any, Any]:
    """Return the dictionary in a safetensors file or a file of ``torch.save``; its content isn't checked.

    ``key`` is the configuration key that named the file. Raise UserError if the file is missing or not a checkpoint.
    """
    check_format(path, key=key)
    try:
        if format_of(path) == "safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:  # its message advises to switch the protection off
        raise UserError(problem(key, path, NO_WEIGHTS)) from error
    except Exception as error:  # the readers raise many types for damaged and hostile files
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(problem(key, path, f"this file is not a checkpoint of weights: {reason}")) from error
    if not isinstance(state, dict):
        raise UserError(problem(key, path, "this checkpoint contains no dictionary of weights"))
    return state


def is_plain(tensor: object, shape: tuple[int, ...]) -> TypeGuard[Tensor]:
    """Return whether this is a tensor of the given shape with contiguous values in memory, none of them shared."""
    return (
        isinstance(tensor, Tensor)
        and tensor.layout == torch.strided
        and not tensor.is_meta
        and tensor.shape == shape
        and tensor.is_contiguous()
    )


def is_number(tensor: Tensor) -> bool:
    """Return whether a tensor has plain, finite floating-point values."""
    plain = tensor.layout == torch.strided and not tensor.is_meta
    return plain and tensor.is_floating_point() and bool(tensor.isfinite().all())
