"""Pictures as tensors: float32, shape (1, 3, H, W), sRGB in [0, 1], everywhere outside the encoder."""

import io
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError
from torch import Tensor

from nst.errors import UserError, problem

#: What is read. Others of Pillow's formats are documents, are handed to other programs, or are decoded before their
#: size can be asked for (ICO).
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "QOI", "TGA", "TIFF", "WEBP")

#: More pixels than this aren't decoded, where nobody says otherwise.
MAX_PIXELS = 200_000_000


def read(path: Path, *, key: str, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decodes a picture to 8-bit sRGB, upright, on white where it is transparent.

    ``key`` is the configuration key that named the file, for the message. Applies the EXIF orientation and an
    embedded colour profile; reads palettes, CMYK, 16 bits and floats in [0, 1]; of an animation the first frame.

    Raises UserError when the file is missing, is no picture, is damaged, or has more than ``max_pixels``.
    """
    with opened(path, key) as picture:
        width, height = picture.size
        if width * height > max_pixels:
            why = f"{width} x {height} px are {width * height} pixels, more than max_pixels={max_pixels}"
            raise UserError(problem(key, path, f"{why}; choose a smaller picture, or allow more"))
        picture.load()
        return upright_srgb(picture)


def upright_srgb(picture: Image.Image) -> Image.Image:
    """A picture of any kind as ``read`` makes it of a file."""
    return _to_srgb(ImageOps.exif_transpose(picture))


def frames(path: Path, *, key: str) -> int:
    """How many pictures an animation has; 1 for anything else. Raises UserError when the file can't be read."""
    with opened(path, key) as picture:
        if picture.format in ("AVIF", "GIF", "PNG", "TIFF", "WEBP"):
            with suppress(Exception):  # what is damaged after the first is not asked for
                return int(getattr(picture, "n_frames", 1))
        return 1


def pixels(path: Path, *, key: str) -> int:
    """How many pixels a picture has, by its header. Raises UserError when the file can't be read."""
    with opened(path, key) as picture:
        return picture.width * picture.height


@contextmanager
def opened(path: Path, key: str) -> Iterator[Image.Image]:
    """A picture of which the header is read. Pillow's own limit on pixels doesn't hold here; ours comes after it.

    Raises UserError where it can't be read, then or later.
    """
    if not path.exists():
        raise UserError(problem(key, path, "there is no such file"))
    if not path.is_file():
        raise UserError(problem(key, path, "this is not a file"))
    Image.init()
    formats = [name for name in FORMATS if name in Image.OPEN]  # AVIF isn't everywhere
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with Image.open(path, formats=formats) as picture:
            yield picture
    except UserError:
        raise
    except UnidentifiedImageError:
        why = f"this file is no picture that can be read; formats: {', '.join(formats)}"
        raise UserError(problem(key, path, why)) from None
    except Exception as error:  # decoders of damaged files raise what they like
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(problem(key, path, f"this picture can't be read: {reason}")) from error
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def load(path: Path, *, key: str, max_pixels: int = MAX_PIXELS) -> Tensor:
    """Reads a picture (see ``read``) as an image tensor."""
    array = np.array(read(path, key=key, max_pixels=max_pixels), dtype=np.uint8)
    return torch.from_numpy(array).permute(2, 0, 1).unsqueeze(0).float().div_(255)


def to_bytes(image: Tensor, dtype: torch.dtype = torch.uint8) -> Tensor:
    """An image tensor as uint8, or uint16, of shape (3, H, W), on the CPU, rounded, not truncated."""
    return (image.detach()[0].cpu().clamp(0, 1) * torch.iinfo(dtype).max).round().to(dtype)


def fit(height: int, width: int, size: int | None) -> tuple[int, int]:
    """The height and width in px whose longest side is ``size``, at the same shape; ``None`` keeps both."""
    if size is None:
        return height, width
    scale = size / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def read_mask(path: Path, *, key: str, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decodes a mask (see ``read``) to 8-bit greys.

    Raises UserError where it is black all over, too.
    """
    mask = read(path, key=key, max_pixels=max_pixels).convert("L")
    if mask.getextrema() == (0, 0):
        raise UserError(problem(key, path, "this mask is black all over, so that it marks nothing; mark in white"))
    return mask


def load_mask(path: Path, *, key: str, max_pixels: int = MAX_PIXELS) -> Tensor:
    """Reads a mask (see ``read_mask``) as a tensor (1, 1, H, W) in [0, 1]."""
    array = np.array(read_mask(path, key=key, max_pixels=max_pixels), dtype=np.uint8)
    return torch.from_numpy(array)[None, None].float().div_(255)


def place(image: Tensor, shape: tuple[int, int], *, fit: str, scale: float) -> Tensor:
    """A style image tensor, or its mask, at the size that it has beside a picture of ``shape`` (height, width) px.

    ``fit`` and ``scale`` are the keys of ``configs/style/use``.
    """
    height, width = image.shape[-2:]
    if fit == "crop":
        share = min(height / shape[0], width / shape[1])
        rows, columns = (min(own, round(side * share)) for own, side in zip((height, width), shape, strict=True))
        top, left = (height - rows) // 2, (width - columns) // 2
        image = image[..., top : top + rows, left : left + columns]
    return resize(image, placed_shape((height, width), shape, fit=fit, scale=scale))


def placed_shape(own: tuple[int, int], shape: tuple[int, int], *, fit: str, scale: float) -> tuple[int, int]:
    """The height and width in px that ``place`` makes of a picture of ``own`` height and width."""
    if fit in ("stretch", "crop"):
        own = shape
    elif fit == "fit":
        share = min(side / length for side, length in zip(shape, own, strict=True))
        own = round(own[0] * share), round(own[1] * share)
    return max(1, round(own[0] * scale)), max(1, round(own[1] * scale))


def resize(image: Tensor, shape: tuple[int, int]) -> Tensor:
    """Stretches an image tensor to (height, width) in px: bicubic, anti-aliased, back within [0, 1].

    A mask (1, 1, H, W) becomes no other where it is black or white alone: bilinear.
    """
    if tuple(image.shape[-2:]) == shape:
        return image
    if image.shape[1] == 1:
        return F.interpolate(image, size=shape, mode="bilinear", antialias=True).clamp(0, 1)
    return F.interpolate(image, size=shape, mode="bicubic", antialias=True).clamp(0, 1)


def _to_srgb(picture: Image.Image) -> Image.Image:
    picture = _to_eight_bits(picture)
    alpha = picture.convert("RGBA").getchannel("A") if picture.has_transparency_data else None
    if picture.mode in ("P", "PA") or alpha is not None:
        picture = picture.convert("RGB")
    opaque = _apply_profile(picture).convert("RGB")
    if alpha is None:
        return opaque
    white = Image.new("RGB", opaque.size, "white")
    white.paste(opaque, mask=alpha)
    return white


def _to_eight_bits(picture: Image.Image) -> Image.Image:
    """Pillow clips deeper greys when it converts them; scale them instead."""
    if picture.mode == "F":
        scale = 255.0
    elif picture.mode.startswith("I"):
        scale = 255 / 65535
    else:
        return picture
    deep = np.asarray(picture)
    grey = np.empty(deep.shape, dtype=np.uint8)
    for row in range(0, len(deep), 64):  # some rows at a time, to spare memory
        wide = np.nan_to_num(deep[row : row + 64].astype(np.float64)) * scale
        grey[row : row + 64] = np.round(np.clip(wide, 0, 255))
    return Image.fromarray(grey)


def _apply_profile(picture: Image.Image) -> Image.Image:
    """Converts from the embedded colour profile to sRGB; a profile that doesn't fit the picture is ignored."""
    profile = picture.info.get("icc_profile")
    if not profile:
        return picture
    try:
        converted = ImageCms.profileToProfile(
            picture, io.BytesIO(profile), ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except ImageCms.PyCMSError:
        return picture
    assert converted is not None
    return converted
