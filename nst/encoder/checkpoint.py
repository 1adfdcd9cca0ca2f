"""Reading of weight checkpoints, without executing code in them."""

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

import torch
from safetensors.torch import load_file
from torch import Tensor

from nst.errors import UserError, no_file, problem

#: Weights by their names in torchvision's layout: ``features.0.weight``, …
State = Mapping[str, Tensor]

#: Message about tensors that ``is_number`` rejects.
NO_NUMBERS = "has infinite or NaN values, or isn't of a floating-point type"


def read(path: Path, *, key: str) -> dict[Any, Any]:
    """Return the dictionary in a safetensors file or a file of ``torch.save``; its content isn't checked.

    ``key`` is the configuration key that named the file. Raise UserError if the file is missing or not a checkpoint.
    """
    if not path.is_file():
        raise UserError(problem(key, path, no_file(path)))
    try:
        if _is_safetensors(path):
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:  # its message advises to switch the protection off
        why = "it was not written by torch.save or as safetensors, or contains more than tensors"
        raise UserError(problem(key, path, f"this file is not a checkpoint of weights: {why}")) from error
    except Exception as error:  # the readers raise many types for damaged and hostile files
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(problem(key, path, f"this file is not a checkpoint of weights: {reason}")) from error
    if not isinstance(state, dict):
        raise UserError(problem(key, path, "this checkpoint contains no dictionary of weights"))
    return state


def _is_safetensors(path: Path) -> bool:
    """Return whether a file is in the format of safetensors: the length of a header in JSON, and the header."""
    with path.open("rb") as file:
        start = file.read(9)
    return len(start) == 9 and start[8:] == b"{" and int.from_bytes(start[:8], "little") <= path.stat().st_size - 8


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
