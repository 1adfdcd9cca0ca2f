"""Pictures read from files as 8-bit sRGB, whatever their format."""

import io
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from nst.errors import UserError, problem

#: Formats that are read. Pillow's other formats are documents, are passed to other programs, or are decoded before
#: their size is known (ICO).
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "QOI", "TGA", "TIFF", "WEBP")


#: Default limit on the number of pixels; larger pictures aren't decoded.
MAX_PIXELS = 200_000_000


def read(path: Path, *, key: str, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode a picture to 8-bit sRGB, upright, with transparent parts on white.

    ``key`` is the configuration key that named the file, for the message. Apply the EXIF orientation and an embedded
    colour profile. Palettes, CMYK, 16 bits and floats in [0, 1] are supported; of an animation the first frame is read.

    Raise UserError if the file is missing, is not a picture, is damaged, or has more than ``max_pixels``.
    """
    with opened(path, key) as picture:
        width, height = picture.size
        if width * height > max_pixels:
            why = f"{width} x {height} px are {width * height} pixels, more than max_pixels={max_pixels}"
            raise UserError(problem(key, path, f"{why}; choose a smaller picture, or allow more"))
        picture.load()
        return upright_srgb(picture)


def upright_srgb(picture: Image.Image) -> Image.Image:
    """Convert a picture of any kind to 8-bit sRGB, upright, with transparent parts on white."""
    return _to_srgb(ImageOps.exif_transpose(picture))


def frames(path: Path, *, key: str) -> int:
    """Return the number of frames of an animation; 1 for anything else. Raise UserError if the file can't be read."""
    with opened(path, key) as picture:
        if picture.format in ("AVIF", "GIF", "PNG", "TIFF", "WEBP"):
            with suppress(Exception):  # damage after the first frame doesn't matter
                return int(getattr(picture, "n_frames", 1))
        return 1


def pixels(path: Path, *, key: str) -> int:
    """Return the number of pixels of a picture, from its header. Raise UserError if the file can't be read."""
    with opened(path, key) as picture:
        return picture.width * picture.height


@contextmanager
def opened(path: Path, key: str) -> Iterator[Image.Image]:
    """Yield a picture with only its header read. Pillow's limit on pixels is off; ``read`` checks ours afterwards.

    Raise UserError if the picture can't be read, at once or later in the block.
    """
    if not path.exists():
        raise UserError(problem(key, path, "there is no such file"))
    if not path.is_file():
        raise UserError(problem(key, path, "this is not a file"))
    Image.init()
    formats = [name for name in FORMATS if name in Image.OPEN]  # not every Pillow has AVIF
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with Image.open(path, formats=formats) as picture:
            yield picture
    except UserError:
        raise
    except UnidentifiedImageError:
        why = f"this file is not a picture in a supported format; formats: {', '.join(formats)}"
        raise UserError(problem(key, path, why)) from None
    except Exception as error:  # decoders raise many types for damaged files
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(problem(key, path, f"this picture can't be read: {reason}")) from error
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def read_mask(path: Path, *, key: str, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode a mask (see ``read``) to 8-bit greys.

    Raise UserError also if the mask is entirely black.
    """
    mask = read(path, key=key, max_pixels=max_pixels).convert("L")
    if mask.getextrema() == (0, 0):
        raise UserError(
            problem(key, path, "this mask is black everywhere, so it selects nothing; mark the region in white")
        )
    return mask


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
    """Scale deeper greys to 8 bits, as Pillow would clip them in conversion."""
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
    """Convert from the embedded colour profile to sRGB; ignore a profile that doesn't fit the picture."""
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
