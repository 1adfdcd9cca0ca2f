"""Checkpoints of weights, read without executing anything in them."""

import zipfile
from pathlib import Path
from typing import Any, TypeGuard

import torch
from safetensors.torch import load_file
from torch import Tensor

from nst.errors import UserError, problem

#: What is wrong with tensors that ``is_number`` refuses.
NO_NUMBERS = "has values that are infinite, or no floating-point numbers"


def read(path: Path, *, key: str) -> dict[Any, Any]:
    """What a file holds, a safetensors file or one of ``torch.save``; whether that are weights isn't looked at.

    ``key`` is the configuration key that named it. Raises UserError where the file is missing or no checkpoint.
    """
    if not path.is_file():
        raise UserError(problem(key, path, "there is no such file"))
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # what the readers raise for damaged and hostile files is of many kinds
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(problem(key, path, f"this file is no checkpoint of weights: {reason}")) from error
    if not isinstance(state, dict):
        raise UserError(problem(key, path, "this checkpoint holds no dictionary of weights"))
    return state


def is_plain(tensor: object, shape: tuple[int, ...]) -> TypeGuard[Tensor]:
    """Return whether this is a tensor of a shape whose values lie in memory one by one, each in a place of its own."""
    return (
        isinstance(tensor, Tensor)
        and tensor.layout == torch.strided
        and not tensor.is_meta
        and tensor.shape == shape
        and tensor.is_contiguous()
    )


def is_number(tensor: Tensor) -> bool:
    """Whether a tensor has plain, finite floating-point values."""
    plain = tensor.layout == torch.strided and not tensor.is_meta
    return plain and tensor.is_floating_point() and bool(tensor.isfinite().all())
