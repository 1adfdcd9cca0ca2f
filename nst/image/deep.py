"""Samples of pictures that Pillow reads with fewer bits or not at all: TIFF, and PNG and JPEG 2000 with 16 bits."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

Space = Literal["gray", "rgb", "cmyk"]

#: TIFF's photometric interpretations that are read here, with the number of colour channels.
_TIFF_SPACES: dict[str, tuple[Space, int]] = {
    "MINISWHITE": ("gray", 1),
    "MINISBLACK": ("gray", 1),
    "RGB": ("rgb", 3),
    "PALETTE": ("rgb", 1),
    "SEPARATED": ("cmyk", 4),
}


#: Without this flag Little CMS tabulates curves too coarsely: shades near black are off by up to 10 of 255.
EXACT = ImageCms.Flags.NOOPTIMIZE


class UnsupportedError(Exception):
    """A picture that can't be read right; the message says what it is and what to do."""


@dataclass(frozen=True)
class Samples:
    """The samples of a picture.

    Attributes:
        color: values (H, W, C), uint8 or uint16 over their whole range; of CMYK the inks.
        alpha: opacity (H, W) of the same type, or None. Colours aren't multiplied by it.
        space: the colour space of the channels.
        profile: the embedded ICC profile, or None.
    """

    color: NDArray[Any]
    alpha: NDArray[Any] | None
    space: Space
    profile: bytes | None

    def to_srgb(self) -> tuple[Image.Image, Image.Image | None]:
        """Return the colours as 8-bit sRGB, and the opacity in 8 bits. A profile that doesn't fit is ignored."""
        alpha = None if self.alpha is None else Image.fromarray(_eight_bits(self.alpha))
        converted = self._by(self.profile) if self.profile else None
        if converted is None:
            converted = _eight_bits(self.color if self.space != "cmyk" else _without_inks(self.color))
        if converted.shape[2] == 1:
            converted = np.repeat(converted, 3, axis=2)
        return Image.fromarray(np.ascontiguousarray(converted)), alpha

    def _by(self, profile: bytes) -> NDArray[np.uint8] | None:
        import imagecodecs

        data = self.color[..., 0] if self.space == "gray" else self.color
        srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        try:
            found = imagecodecs.cms_transform(
                np.ascontiguousarray(data), profile, srgb,
                colorspace=self.space, outcolorspace="rgb", outdtype="uint8", flags=int(EXACT),
            )  # fmt: skip
        except Exception:  # the profile is damaged, or of another colour space
            return None
        return np.asarray(found, dtype=np.uint8)


@dataclass(frozen=True)
class Header:
    """The header of a TIFF: width and height in px, EXIF orientation."""

    size: tuple[int, int]
    orientation: int


def is_tiff(path: Path) -> bool:
    """Return whether a file begins as a TIFF. Pillow recognizes only some of them."""
    with path.open("rb") as file:
        return file.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def tiff_header(path: Path) -> Header:
    """Return the header of a TIFF."""
    import tifffile

    with tifffile.TiffFile(path) as file:
        page: Any = file.pages.first
        orientation = int(page.tags.valueof(274, 1))
        return Header((page.imagewidth, page.imagelength), orientation)


def read(path: Path, picture: Image.Image) -> Samples | None:
    """Return the samples of a picture whose header Pillow has read; None if Pillow reads all of its bits.

    Raise UnsupportedError for pictures that can't be read right.
    """
    if picture.format == "PNG":
        depth = _png_depth(path)
        scaled = depth < 8 and picture.mode == "L" and "transparency" in picture.info  # Pillow doesn't scale the latter
        return _png(path, picture.info.get("icc_profile")) if depth == 16 or scaled else None
    if picture.format == "JPEG2000":
        return _jpeg2000(path)
    return None


def _png_depth(path: Path) -> int:
    with path.open("rb") as file:
        return file.read(25)[24]


def _png(path: Path, profile: bytes | None) -> Samples:
    import imagecodecs

    return _interleaved(np.asarray(imagecodecs.png_decode(path.read_bytes())), profile)


def _jpeg2000(path: Path) -> Samples | None:
    """Read pictures with more than 8 bits or a profile, which Pillow ignores; None for others."""
    import imagecodecs

    data = path.read_bytes()
    profile, depth = _jpeg2000_profile(data), _jpeg2000_depth(data)
    if depth <= 8 and profile is None:
        return None
    found = np.asarray(imagecodecs.jpeg2k_decode(data))
    if found.dtype not in (np.uint8, np.uint16):
        raise UnsupportedError(f"a JPEG 2000 picture of {found.dtype}; save it with 8 or 16 bits a channel")
    full = np.iinfo(found.dtype).max
    if 2**depth - 1 != full:
        found = np.round(found * (full / (2**depth - 1))).astype(found.dtype)
    return _interleaved(found, profile)


def _interleaved(found: NDArray[Any], profile: bytes | None) -> Samples:
    """Return decoded values (H, W) or (H, W, C) as samples; of two or four channels the last is the opacity."""
    found = found[..., None] if found.ndim == 2 else found
    channels = found.shape[2] - (found.shape[2] in (2, 4))
    alpha = found[..., channels] if found.shape[2] > channels else None
    return Samples(found[..., :channels], alpha, "gray" if channels == 1 else "rgb", profile)


def _jpeg2000_depth(data: bytes) -> int:
    """Return the bits a channel, from the codestream's SIZ segment (ISO/IEC 15444-1, A.5.1)."""
    place = data.index(b"\xff\x4f\xff\x51")
    return (data[place + 42] & 0x7F) + 1


def _jpeg2000_profile(data: bytes) -> bytes | None:
    """Return the ICC profile of a JP2 file's colour box (ISO/IEC 15444-1, I.5.3.3), or None."""
    place = data.find(b"colr", 0, data.find(b"jp2c") + 1)
    if place < 0 or data[place + 4] != 2:
        return None
    length = int.from_bytes(data[place - 4 : place])
    return data[place + 7 : place - 4 + length]


def tiff(path: Path) -> Samples | None:
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
        color = _unmultiplied(color, alpha)
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
        values = values.astype(np.float64)
        largest = float(np.nanmax(values, initial=0, where=np.isfinite(values)))
        if largest > 1.001:
            raise UnsupportedError(f"a TIFF of floats up to {largest:.4g}; scale them to [0, 1]")
        known = np.nan_to_num(values, posinf=1, neginf=0)
        whole: NDArray[Any] = np.round(known.clip(0, 1) * 65535).astype(np.uint16)
        return whole
    if values.dtype.kind != "u" or int(sample_format) not in (1, 4):
        raise UnsupportedError(f"a TIFF of {values.dtype} samples; save it with 8 or 16 unsigned bits a channel")
    if (values.dtype, bits) in ((np.dtype(np.uint8), 8), (np.dtype(np.uint16), 16)):
        return values
    scaled: NDArray[Any] = np.round(values.astype(np.float64) * (65535 / (2.0**bits - 1))).astype(np.uint16)
    return scaled


def _unmultiplied(color: NDArray[Any], alpha: NDArray[Any]) -> NDArray[Any]:
    full = np.iinfo(color.dtype).max
    divided = color * (full / np.maximum(alpha, 1).astype(np.float64))[..., None]
    unmultiplied: NDArray[Any] = np.round(divided.clip(0, full)).astype(color.dtype)
    return unmultiplied


def _without_inks(inks: NDArray[Any]) -> NDArray[Any]:
    """Return the RGB of CMYK inks, as Pillow converts them."""
    full = np.iinfo(inks.dtype).max
    light = full - inks.astype(np.float64)
    colors: NDArray[Any] = np.round(light[..., :3] * light[..., 3:] / full).astype(inks.dtype)
    return colors


def _eight_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    if values.dtype == np.uint8:
        return values
    rows: Sequence[NDArray[np.uint8]] = [
        np.round(values[row : row + 64] / 257.0).astype(np.uint8) for row in range(0, len(values), 64)
    ]  # some rows at a time, to spare memory
    return np.concatenate(rows)
