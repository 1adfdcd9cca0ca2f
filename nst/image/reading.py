"""Pictures read from files as 8-bit sRGB, whatever their format."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, PngImagePlugin, UnidentifiedImageError

from nst.errors import UserError, file_problem, problem
from nst.image import tiff
from nst.image.decoding import decode, unread
from nst.image.samples import UnsupportedError, of_pillow

#: Formats that are read. Pillow's other formats are documents, are passed to other programs, or are decoded before
#: their size is known (ICO).
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "QOI", "TGA", "TIFF", "WEBP")

#: Default limit on the number of pixels; larger pictures aren't decoded.
MAX_PIXELS = 200_000_000

#: Limit in bytes on the texts and the colour profile of a PNG.
MAX_TEXT = 64_000_000

#: The transposition that turns a picture upright, by its EXIF orientation.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read(path: Path, *, key: str, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode a picture to 8-bit sRGB, upright, with transparent parts on white.

    ``key`` is the configuration key that named the file, for the message. Apply the EXIF orientation and an embedded
    colour profile. Palettes, CMYK, 16 bits and floats in [0, 1] are supported; of an animation the first frame is read.

    Raise UserError if the file is missing, is not a picture, is damaged, can't be read right, or has more than
    ``max_pixels``.
    """
    return _on(*_decode(path, key, max_pixels), "white")


def upright_srgb(picture: Image.Image) -> Image.Image:
    """Convert a picture of any kind to 8-bit sRGB, upright, with transparent parts on white."""
    return _on(*_upright(of_pillow(picture).to_srgb(), _orientation(picture)), "white")


def frames(path: Path, *, key: str) -> int:
    """Return the number of frames of an animation; 1 for anything else. Raise UserError if the file can't be read."""
    try:
        with opened(path, key) as picture:
            if picture.format in ("AVIF", "GIF", "PNG", "TIFF", "WEBP"):
                with suppress(Exception):  # damage after the first frame doesn't matter
                    return int(getattr(picture, "n_frames", 1))
    except UserError:
        if not path.is_file() or not tiff.is_tiff(path):  # Pillow doesn't recognize every TIFF
            raise
    return 1


def pixels(path: Path, *, key: str) -> int:
    """Return the number of pixels of a picture, from its header. Raise UserError if the file can't be read."""
    with _explained(path, key):
        if tiff.is_tiff(path):
            return math.prod(tiff.header(path).size)
    with opened(path, key) as picture:
        return picture.width * picture.height


@contextmanager
def opened(path: Path, key: str) -> Iterator[Image.Image]:
    """Yield a picture with only its header read. Pillow's limits are off; ``read`` checks ours afterwards.

    Raise UserError if the picture can't be read, at once or later in the block.
    """
    Image.init()
    formats = [name for name in FORMATS if name in Image.OPEN]  # not every Pillow has AVIF
    with _explained(path, key, formats), _no_limits(), Image.open(path, formats=formats) as picture:
        yield picture


@contextmanager
def _explained(path: Path, key: str, formats: Sequence[str] = FORMATS) -> Iterator[None]:
    """Raise UserError if the file is missing, or if the block can't read it as a picture."""
    if (why := file_problem(path)) is not None:
        raise UserError(problem(key, path, why))
    try:
        yield
    except UserError:
        raise
    except UnsupportedError as error:
        raise UserError(problem(key, path, f"this is {error}")) from None
    except UnidentifiedImageError:
        known = unread(path)
        why = f"this file is not a picture in a supported format; formats: {', '.join(formats)}"
        raise UserError(problem(key, path, why if known is None else f"this is {known}")) from None
    except Exception as error:  # decoders raise many types for damaged files
        reason = " ".join(str(error).split()) or type(error).__name__
        why = f"this picture can't be read: {reason}; if other programs show it, save it as PNG"
        raise UserError(problem(key, path, why)) from error


@contextmanager
def _no_limits() -> Iterator[None]:
    """Lift Pillow's limits on the pixels, and on the texts and the profile of a PNG, within the block."""
    before = Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY
    Image.MAX_IMAGE_PIXELS = None
    PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY = MAX_TEXT
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY = before


def read_mask(path: Path, *, key: str, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode a mask (see ``read``) to 8-bit greys.

    The mask of a picture with transparent parts is its opacity, unless it is drawn in black and white: then its white
    is the mask, and transparent parts are black.

    Raise UserError also if the mask is entirely black.
    """
    opaque, alpha = _decode(path, key, max_pixels)
    mask = opaque.convert("L")
    if alpha is not None:
        mask = _on(mask, alpha, "black") if _is_drawn(opaque, alpha) else alpha
    if mask.getextrema() == (0, 0):
        raise UserError(
            problem(key, path, "this mask is black everywhere, so it selects nothing; mark the region in white")
        )
    return mask


def _is_drawn(opaque: Image.Image, alpha: Image.Image) -> bool:
    """Return whether the visible part is in black and white, with some of both."""
    visible = np.asarray(opaque)[np.asarray(alpha) > 127].astype(np.int16)
    if not len(visible):
        return False
    grey = bool((visible.max(axis=1) - visible.min(axis=1) < 16).all())
    return grey and int(visible.min()) < 64 and int(visible.max()) > 191


def _decode(path: Path, key: str, max_pixels: int) -> tuple[Image.Image, Image.Image | None]:
    """Return a picture's colours in 8-bit sRGB and its opacity, None if it is opaque, both upright."""
    with _explained(path, key):
        if tiff.is_tiff(path):
            header = tiff.header(path)
            _check_size(header.size, max_pixels, path, key)
            samples = tiff.read(path)
            if samples is not None:
                return _upright(samples.to_srgb(), header.orientation)
    with opened(path, key) as picture:
        _check_size(picture.size, max_pixels, path, key)
        return _upright(decode(path, picture).to_srgb(), _orientation(picture))


def _check_size(size: tuple[int, int], max_pixels: int, path: Path, key: str) -> None:
    width, height = size
    if width * height > max_pixels:
        why = f"{width} x {height} px are {width * height} pixels, more than max_pixels={max_pixels}"
        raise UserError(problem(key, path, f"{why}; choose a smaller picture, or allow more"))


def _orientation(picture: Image.Image) -> object:
    """Return the EXIF orientation; None if there is none. Damaged EXIF is ignored."""
    try:
        return picture.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # parsers raise many types
        return None


def _upright(
    parts: tuple[Image.Image, Image.Image | None], orientation: object
) -> tuple[Image.Image, Image.Image | None]:
    """Return colours and opacity, turned upright; None if the picture is opaque.

    An opacity of 0 everywhere is that of a channel without a meaning.
    """
    turn = _TURNS.get(orientation) if isinstance(orientation, int) else None
    color, alpha = (part if part is None or turn is None else part.transpose(turn) for part in parts)
    assert color is not None
    return color, None if alpha is None or alpha.getextrema() in ((0, 0), (255, 255)) else alpha


def _on(color: Image.Image, alpha: Image.Image | None, background: str) -> Image.Image:
    if alpha is None:
        return color
    composed = Image.new(color.mode, color.size, background)
    composed.paste(color, mask=alpha)
    return composed
