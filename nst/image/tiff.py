"""Samples of TIFFs, of which Pillow reads many with fewer bits or not at all."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nst.image.samples import Samples, Space, UnsupportedError, from_floats, unmultiplied

#: TIFF's photometric interpretations that are read here, with the number of colour channels.
_TIFF_SPACES: dict[str, tuple[Space, int]] = {
    "MINISWHITE": ("gray", 1),
    "MINISBLACK": ("gray", 1),
    "RGB": ("rgb", 3),
    "PALETTE": ("rgb", 1),
    "SEPARATED": ("cmyk", 4),
}


@dataclass(frozen=True)
class Header:
    """The header of a TIFF: width and height in px, EXIF orientation."""

    size: tuple[int, int]
    orientation: int


def is_tiff(path: Path) -> bool:
    """Return whether a file begins as a TIFF. Pillow recognizes only some of them."""
    with path.open("rb") as file:
        return file.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def header(path: Path) -> Header:
    """Return the header of a TIFF."""
    import tifffile

    with tifffile.TiffFile(path) as file:
        page: Any = file.pages.first
        orientation = int(page.tags.valueof(274, 1))
        return Header((page.imagewidth, page.imagelength), orientation)


def read(path: Path) -> Samples | None:
    """Read a TIFF's first page; None for kinds that Pillow reads right: bilevel and YCbCr."""
    import tifffile

    with tifffile.TiffFile(path) as file:
        page: Any = file.pages.first
        _refuse_raw(page)
        kind = getattr(page.photometric, "name", str(page.photometric))
        if kind == "YCBCR" or (page.bitspersample == 1 and page.samplesperpixel == 1):
            return None
        if kind not in _TIFF_SPACES:
            raise UnsupportedError(f"a TIFF of the kind {kind}; save it as RGB or grey")
        space, number = _TIFF_SPACES[kind]
        inks = page.tags.valueof(332, 1)  # InkSet: 1 is CMYK
        if page.samplesperpixel < number or (space == "cmyk" and inks != 1):
            raise UnsupportedError(
                f"a TIFF of the kind {kind} with {page.samplesperpixel} channels; save it as RGB or grey"
            )
        values = page.asarray()
        if "S" in page.axes:
            values = np.moveaxis(values, page.axes.index("S"), -1)
        values = values.reshape(page.imagelength, page.imagewidth, page.samplesperpixel)
        if page.imagedepth > 1:
            raise UnsupportedError("a TIFF of a volume; save one of its slices")
        bits, colors = page.bitspersample, page.tags.valueof(320)
        alpha_kind, profile = page.extrasamples[:1], page.tags.valueof(34675)
        sample_format = page.sampleformat
    if kind == "PALETTE":
        palette = np.asarray(colors, dtype=np.uint16).reshape(3, -1).T
        return Samples(palette[values[..., 0]], None, "rgb", profile)
    values = _whole_range(values, bits, sample_format)
    color = values[..., :number]
    if kind == "MINISWHITE":
        color = np.iinfo(color.dtype).max - color
    alpha = values[..., number] if tuple(map(int, alpha_kind)) in ((1,), (2,)) else None
    if alpha is not None and int(alpha_kind[0]) == 1:
        color = unmultiplied(color, alpha)
    return Samples(color, alpha, space, profile)


def _refuse_raw(page: Any) -> None:
    """Raise UnsupportedError for a camera's raw file, whose first page may be a thumbnail."""
    pages = [page, *(page.pages or [])] if page.subifds else [page]
    kinds = {getattr(each.photometric, "name", "") for each in pages}
    if 50706 in page.tags or kinds & {"CFA", "LINEAR_RAW"}:  # the tag is DNGVersion
        raise UnsupportedError("a camera's raw file; develop it, and save it as TIFF, PNG or JPEG")


def _whole_range(values: NDArray[Any], bits: int, sample_format: int) -> NDArray[Any]:
    """Return TIFF samples as uint8 or uint16 over the whole range.

    Raise UnsupportedError for kinds whose range is not known.
    """
    if values.dtype.kind == "f":
        return from_floats(values, "TIFF")
    if values.dtype.kind != "u" or int(sample_format) not in (1, 4):
        raise UnsupportedError(f"a TIFF of {values.dtype} samples; save it with 8 or 16 unsigned bits a channel")
    if (values.dtype, bits) in ((np.dtype(np.uint8), 8), (np.dtype(np.uint16), 16)):
        return values
    scaled: NDArray[Any] = np.round(values.astype(np.float64) * (65535 / (2.0**bits - 1))).astype(np.uint16)
    return scaled
