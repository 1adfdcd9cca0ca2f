"""Pictures given as objects of a program: arrays, tensors, Pillow's images, the bytes of a file."""

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from nst.errors import UserError, problem
from nst.image import output
from nst.image.reading import opened, upright_srgb

#: A picture in memory.
Given = Image.Image | Tensor | NDArray[Any] | bytes | bytearray | memoryview | BinaryIO

_CHOICES = (
    "choices: the name of an option, a file, a PIL image, an array (H, W, 3) of uint8 or of floats in [0, 1], a tensor "
    "(3, H, W), the bytes of a picture file, or a file opened as binary"
)

#: Half a step of 8 bits: what rounding may add to the range of a picture.
_ROUNDING = 0.5 / 255


def save(picture: object, folder: Path, *, key: str) -> Path:
    """Save a picture in memory in a folder, as a PNG or as the bytes it was given as; return its file.

    ``key`` is its name in messages, and in the folder.

    Raise UserError if the object is no picture, or if its values are not those of one.
    """
    file = folder / f"{key}.png"
    if isinstance(picture, bytes | bytearray | memoryview) or hasattr(picture, "read"):
        return _save_bytes(picture, folder / key, key)
    if isinstance(picture, Image.Image):
        try:
            upright_srgb(picture).save(file)
        except Exception as error:  # Pillow can't convert the image
            raise UserError(
                problem(key, f"PIL image of mode {picture.mode}", f"can't be converted: {error}")
            ) from error
    elif isinstance(picture, Tensor):
        output.save(_checked(picture.detach(), key), file)
    elif hasattr(picture, "__array__"):
        _of_array(np.asarray(picture), key).save(file)
    else:
        raise UserError(problem(key, type(picture).__name__, f"this is not a picture; {_CHOICES}"))
    return file


def _save_bytes(picture: Any, file: Path, key: str) -> Path:
    if hasattr(picture, "read"):
        picture = picture.read()
    if isinstance(picture, str):
        raise UserError(problem(key, "text", "this file is opened as text; open it with mode 'rb'"))
    file.write_bytes(picture)
    try:
        with opened(file, key) as found:
            suffix = f".{str(found.format).lower()}"
    except UserError as error:
        what = f"{len(picture)} bytes"
        raise UserError([line.replace(str(file), what) for line in error.problems]) from None
    return file.rename(file.with_suffix(suffix))


def _checked(tensor: Tensor, key: str) -> Tensor:
    """Return a tensor as an image tensor (1, 3, H, W). Raise UserError unless it is one, within [0, 1]."""
    what = f"tensor of shape {tuple(tensor.shape)}, {tensor.dtype}"
    batch = tensor.unsqueeze(0) if tensor.ndim == 3 else tensor
    if batch.ndim != 4 or batch.shape[:2] != (1, 3) or not batch.numel():
        why = f"an image tensor has the shape (1, 3, H, W) or (3, H, W){_hint(tuple(tensor.shape))}"
        raise UserError(problem(key, what, why))
    if batch.dtype == torch.uint8:
        return batch.float() / 255
    if not batch.is_floating_point():
        raise UserError(problem(key, what, "an image tensor has floats in [0, 1], or uint8"))
    batch = batch.float()
    _check_range(float(batch.min()), float(batch.max()), what, key)
    return batch


def _of_array(array: NDArray[Any], key: str) -> Image.Image:
    """Return an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) as a picture. Raise UserError unless it is one."""
    what = f"array of shape {array.shape}, {array.dtype}"
    plane = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    if not plane.size or plane.ndim not in (2, 3) or (plane.ndim == 3 and plane.shape[2] not in (3, 4)):
        why = f"an array has the shape (H, W), (H, W, 3) or (H, W, 4){_hint(array.shape)}"
        raise UserError(problem(key, what, why))
    if np.issubdtype(plane.dtype, np.floating):
        _check_range(float(plane.min()), float(plane.max()), what, key)
        plane = np.round(plane.clip(0, 1) * 255).astype(np.uint8)
    elif plane.dtype == bool:
        plane = plane.astype(np.uint8) * 255
    elif plane.dtype != np.uint8:
        raise UserError(problem(key, what, "an array has uint8, or floats in [0, 1]"))
    return upright_srgb(Image.fromarray(np.ascontiguousarray(plane)))


def _hint(shape: tuple[int, ...]) -> str:
    """Return advice for an object whose channels are in the place of the other kind."""
    if len(shape) == 3 and shape[0] == 3:
        return "; this one has its channels first: transpose it by (1, 2, 0), or give a tensor"
    if len(shape) == 3 and shape[2] in (1, 3, 4):
        return "; this one has its channels last: permute it by (2, 0, 1), or give an array"
    return ""


def _check_range(least: float, largest: float, what: str, key: str) -> None:
    """Raise UserError for values that are not those of a picture in [0, 1], with what they may be."""
    if least >= -_ROUNDING and largest <= 1 + _ROUNDING:
        return
    why = f"the values must be within [0, 1], but are from {least:.4g} to {largest:.4g}"
    if not np.isfinite([least, largest]).all():
        why = "has values that are infinite or NaN"
    elif least >= 0 and 2 < largest <= 255 + _ROUNDING:
        why = f"{why}; divide by 255"
    elif least < 0:
        why = f"{why}; undo the normalization, or clamp to [0, 1]"
    else:
        why = f"{why}; clamp to [0, 1]"
    raise UserError(problem(key, what, why))
