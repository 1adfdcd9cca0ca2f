"""Pictures as tensors: float32, shape (1, 3, H, W), sRGB in [0, 1], everywhere outside the encoder."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nst.image.reading import MAX_PIXELS, read, read_mask

#: Height and width in px.
Shape = tuple[int, int]


def load(path: Path, *, key: str, max_pixels: int = MAX_PIXELS) -> Tensor:
    """Read a picture (see ``read``) as an image tensor."""
    array = np.array(read(path, key=key, max_pixels=max_pixels), dtype=np.uint8)
    return torch.from_numpy(array).permute(2, 0, 1).unsqueeze(0).float().div_(255)


def to_bytes(image: Tensor, dtype: torch.dtype = torch.uint8) -> Tensor:
    """Return an image tensor as uint8 or uint16, of shape (3, H, W), on the CPU, rounded, not truncated."""
    return (image.detach()[0].cpu().clamp(0, 1) * torch.iinfo(dtype).max).round().to(dtype)


def fit(height: int, width: int, size: int | None) -> Shape:
    """Return the height and width in px with the longest side ``size``, at the same ratio; ``None`` keeps both."""
    if size is None:
        return height, width
    scale = size / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def load_mask(path: Path, *, key: str, max_pixels: int = MAX_PIXELS) -> Tensor:
    """Read a mask (see ``read_mask``) as a tensor (1, 1, H, W) in [0, 1]."""
    array = np.array(read_mask(path, key=key, max_pixels=max_pixels), dtype=np.uint8)
    return torch.from_numpy(array)[None, None].float().div_(255)


def place(image: Tensor, shape: Shape, *, fit: str, scale: float) -> Tensor:
    """Return a style image tensor, or its mask, at the size to use with a picture of ``shape`` (height, width) px.

    ``fit`` and ``scale`` are the keys of ``configs/style/use``.
    """
    height, width = image.shape[-2:]
    if fit == "crop":
        share = min(height / shape[0], width / shape[1])
        rows, columns = (min(own, round(side * share)) for own, side in zip((height, width), shape, strict=True))
        top, left = (height - rows) // 2, (width - columns) // 2
        image = image[..., top : top + rows, left : left + columns]
    return resize(image, placed_shape((height, width), shape, fit=fit, scale=scale))


def placed_shape(own: Shape, shape: Shape, *, fit: str, scale: float) -> Shape:
    """Return the height and width in px that ``place`` gives a picture of ``own`` height and width."""
    if fit in ("stretch", "crop"):
        own = shape
    elif fit == "fit":
        share = min(side / length for side, length in zip(shape, own, strict=True))
        own = round(own[0] * share), round(own[1] * share)
    return max(1, round(own[0] * scale)), max(1, round(own[1] * scale))


def resize(image: Tensor, shape: Shape) -> Tensor:
    """Stretch an image tensor to (height, width) in px: bicubic, anti-aliased, clamped to [0, 1].

    A mask (1, 1, H, W) is resized bilinearly, so areas that are only black or only white don't change.
    """
    if tuple(image.shape[-2:]) == shape:
        return image
    if image.shape[1] == 1:
        return F.interpolate(image, size=shape, mode="bilinear", antialias=True).clamp(0, 1)
    return F.interpolate(image, size=shape, mode="bicubic", antialias=True).clamp(0, 1)


def detail(image: Tensor) -> Tensor:
    """Return what an image tensor loses at half of its size, bilinearly: the finest band of its Laplacian pyramid.

    Burt and Adelson 1983, IEEE Trans. Commun. 31, as in STROTSS and NNST.
    """
    shape = list(image.shape[-2:])
    half = F.interpolate(image, size=[max(1, side // 2) for side in shape], mode="bilinear")
    return image - F.interpolate(half, size=shape, mode="bilinear")
