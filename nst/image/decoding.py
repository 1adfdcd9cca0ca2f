"""Samples of pictures that Pillow opens, with what Pillow leaves out: deep samples, colour spaces, kinds of opacity."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile

from nst.image import spaces
from nst.image.samples import Samples, UnsupportedError, interleaved, of_pillow, unmultiplied

#: How files begin that belong to a format that is read, but are of another kind than Pillow opens.
_UNREAD = {
    b"\xff\xd8\xff": "a JPEG picture that is damaged, lossless, or has more than 8 bits",
    b"P7": "a PAM picture",
    b"PF": "a PFM picture in colours",
}


def decode(path: Path, picture: Image.Image) -> Samples:
    """Return the samples of a picture whose header Pillow has read.

    Raise UnsupportedError for pictures that can't be read right.
    """
    return _READERS.get(str(picture.format), _plain)(path, picture)


def unread(path: Path) -> str | None:
    """Return what a file is that Pillow doesn't open, and what to do; None if that isn't known."""
    with path.open("rb") as file:
        start = file.read(3)
    found = next((what for magic, what in _UNREAD.items() if start.startswith(magic)), None)
    return None if found is None else f"{found}; save it as PNG"


def _plain(path: Path, picture: Image.Image) -> Samples:
    picture.load()
    return of_pillow(picture)


def _jpeg(path: Path, picture: Image.Image) -> Samples:
    """Read a JPEG; a camera's may be in Adobe RGB without a profile (DCF 2.0, "R03")."""
    samples = _plain(path, picture)
    if samples.profile is None and samples.space == "rgb" and _interoperability(picture) == "R03":
        return replace(samples, profile=spaces.of_primaries(*spaces.ADOBE))
    return samples


def _interoperability(picture: Image.Image) -> object:
    try:
        return picture.getexif().get_ifd(ExifTags.IFD.Interop).get(ExifTags.Interop.InteropIndex)
    except Exception:  # parsers raise many types for damaged EXIF
        return None


def _png(path: Path, picture: Image.Image) -> Samples:
    """Read a PNG; by imagecodecs if Pillow would leave out bits."""
    import imagecodecs

    data = path.read_bytes()
    profile = _png_profile(data, picture)
    scaled = data[24] < 8 and picture.mode == "L" and "transparency" in picture.info  # Pillow doesn't scale the latter
    if data[24] == 16 or scaled:
        return interleaved(np.asarray(imagecodecs.png_decode(data)), profile)
    return replace(_plain(path, picture), profile=profile)


def _png_profile(data: bytes, picture: Image.Image) -> bytes | None:
    """Return the profile that a PNG names, in the order of PNG 3, section 4.3."""
    for kind, content in _png_header(data):
        if kind == b"cICP":
            return spaces.of_codes(content[0], content[1])
    profile: bytes | None = picture.info.get("icc_profile")
    gamma, points = picture.info.get("gamma"), picture.info.get("chromaticity")
    if profile is not None or "srgb" in picture.info or not gamma:
        return profile
    exponent = None if abs(gamma * 2.2 - 1) < 0.05 else 1 / gamma  # what is written for sRGB
    white, primaries = (points[:2], points[2:]) if points else (spaces.D65, spaces.SRGB)
    near = np.allclose((*white, *primaries), (*spaces.D65, *spaces.SRGB), atol=0.002)
    return spaces.of_primaries(*((spaces.SRGB, spaces.D65) if near else (primaries, white)), exponent)


def _png_header(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the chunks before the pixels."""
    place = 8
    while place + 8 <= len(data) and data[place + 4 : place + 8] != b"IDAT":
        length = int.from_bytes(data[place : place + 4])
        yield data[place + 4 : place + 8], data[place + 8 : place + 8 + length]
        place += length + 12


def _jpeg2000(path: Path, picture: Image.Image) -> Samples:
    """Read a JPEG 2000; by imagecodecs if it has more than 8 bits or a profile, which Pillow ignores."""
    import imagecodecs

    data = path.read_bytes()
    (space, profile), depth = _jpeg2000_color(data), _jpeg2000_depth(data)
    if depth <= 8 and profile is None:
        return _plain(path, picture)
    if space not in (None, 16, 17) or (profile is not None and profile[16:20] not in (b"RGB ", b"GRAY")):
        raise UnsupportedError("a JPEG 2000 picture that is not of RGB or grey; save it as PNG")
    found = np.asarray(imagecodecs.jpeg2k_decode(data))
    if found.dtype not in (np.uint8, np.uint16):
        raise UnsupportedError(f"a JPEG 2000 picture of {found.dtype}; save it with 8 or 16 bits a channel")
    return interleaved(_whole_range(found, depth), profile)


def _whole_range(found: NDArray[Any], bits: int) -> NDArray[Any]:
    """Return samples of so many bits over the whole range of their type."""
    full = np.iinfo(found.dtype).max
    return found if full == 2**bits - 1 else np.round(found * (full / (2**bits - 1))).astype(found.dtype)


def _jpeg2000_depth(data: bytes) -> int:
    """Return the bits a channel, from the codestream's SIZ segment (ISO/IEC 15444-1, A.5.1)."""
    place = data.index(b"\xff\x4f\xff\x51")
    return (data[place + 42] & 0x7F) + 1


def _jpeg2000_color(data: bytes) -> tuple[int | None, bytes | None]:
    """Return the enumerated space (16 is sRGB, 17 grey) or the ICC profile of a JP2 (ISO/IEC 15444-1, I.5.3.3)."""
    place = data.find(b"colr", 0, data.find(b"jp2c") + 1)
    if place < 0:
        return None, None
    end = place - 4 + int.from_bytes(data[place - 4 : place])
    content = data[place + 7 : end]
    return (int.from_bytes(content[:4]), None) if data[place + 4] == 1 else (None, content)


def _avif(path: Path, picture: Image.Image) -> Samples:
    """Read an AVIF; by imagecodecs if it has more than 8 bits, as Pillow is off by up to 3 of 255 then.

    Its colour space may be given by code points (ISO/IEC 14496-12, 12.1.5).
    """
    import imagecodecs

    data = path.read_bytes()
    profile: bytes | None = picture.info.get("icc_profile")
    bits, place = _avif_bits(data), data.find(b"colrnclx")
    if profile is None and place >= 0:
        primaries, transfer = (int.from_bytes(data[place + at : place + at + 2]) for at in (8, 10))
        profile = spaces.of_codes(primaries, transfer)
    elif profile is None and bits > 8:  # maybe of high dynamic range
        raise UnsupportedError(f"an AVIF picture of {bits} bits in an unnamed colour space; save it as PNG")
    if bits > 8 and getattr(picture, "n_frames", 1) > 1:  # imagecodecs would decode them all
        raise UnsupportedError(f"an AVIF animation of {bits} bits; save its first frame as PNG")
    if bits > 8:
        return interleaved(_whole_range(np.asarray(imagecodecs.avif_decode(data)), bits), profile)
    return replace(_plain(path, picture), profile=profile)


def _avif_bits(data: bytes) -> int:
    """Return the bits a channel, from the configuration of the codec (AV1 in ISOBMFF 1.2, section 2.3.3)."""
    place = data.find(b"av1C")
    flags = data[place + 6] & 0x60 if place >= 0 else 0
    return {0x40: 10, 0x60: 12}.get(flags, 8)


def _tga(path: Path, picture: Image.Image) -> Samples:
    """Read a TGA; Pillow takes a fourth channel for the opacity even if it isn't, and inverts one of a single bit."""
    data = path.read_bytes()
    if picture.palette is not None and picture.palette.rawmode == "BGRA":
        picture.palette.mode = "RGBA"  # before Pillow 13 it has three channels, and can't be read
    samples = _plain(path, picture)
    kind = _tga_opacity(data)
    if samples.alpha is None or kind not in (3, 4):
        return replace(samples, alpha=None)
    if 16 in (data[7], data[16]) and data[2] & 7 != 3:
        samples = replace(samples, alpha=255 - samples.alpha)
    if kind == 4 and samples.alpha is not None:
        samples = replace(samples, color=unmultiplied(samples.color, samples.alpha))
    return samples


def _tga_opacity(data: bytes) -> int:
    """Return the type of the attributes (TGA 2.0, field 24): 3 is opacity, 4 is with colours multiplied by it."""
    extension = int.from_bytes(data[-26:-22], "little") if data.endswith(b"TRUEVISION-XFILE.\0") else 0
    if 0 < extension < len(data) - 494:
        return data[extension + 494]
    return 3 if data[17] & 15 else 0


def _bmp(path: Path, picture: Image.Image) -> Samples:
    """Read a BMP, whose header may give a colour space (BITMAPV4HEADER, BITMAPV5HEADER)."""
    with path.open("rb") as file:
        data = file.read(14 + 124)

    def number(place: int) -> int:
        return int.from_bytes(data[14 + place : 18 + place], "little")

    size, bits, bitfields = number(0), number(14) & 0xFFFF, number(16) == 3
    if bits == 16 and bitfields and size >= 56 and number(52):
        raise UnsupportedError("a BMP picture of 16 bits with opacity; save it as PNG")
    samples = _plain(path, picture)
    space = data[70:74][::-1]
    if size >= 124 and space == b"MBED":
        place = 14 + number(112)
        return replace(samples, profile=path.read_bytes()[place : place + number(116)])
    if size >= 124 and space == b"LINK":
        raise UnsupportedError("a BMP picture whose colour profile is in another file; save it as PNG")
    gammas = {number(place) / 65536 for place in (96, 100, 104)}
    points = [number(place) / 2**30 for place in range(60, 96, 4)]
    sums = [sum(points[place : place + 3]) for place in (0, 3, 6)]
    if size < 108 or space != bytes(4) or 0 in gammas or 0 in sums:
        return samples
    if len(gammas) > 1:
        raise UnsupportedError("a BMP picture with a gamma for each channel; save it as PNG")
    primaries = [points[place + at] / sums[place // 3] for place in (0, 3, 6) for at in (0, 1)]
    return replace(samples, profile=spaces.of_primaries(primaries, spaces.D65, *gammas))


def _gif(path: Path, picture: Image.Image) -> Samples:
    """Read a GIF's first frame; what it leaves free is transparent."""
    assert isinstance(picture, ImageFile.ImageFile)
    left, top, right, bottom = picture.tile[0].extents or (0, 0, *picture.size)
    samples = _plain(path, picture)
    if (left, top, right, bottom) == (0, 0, *picture.size):
        return samples
    covered = np.zeros(samples.color.shape[:2], dtype=np.uint8)
    covered[top:bottom, left:right] = 255 if samples.alpha is None else samples.alpha[top:bottom, left:right]
    return replace(samples, alpha=covered)


_READERS: dict[str, Callable[[Path, Image.Image], Samples]] = {
    "AVIF": _avif, "BMP": _bmp, "GIF": _gif, "JPEG": _jpeg, "JPEG2000": _jpeg2000, "MPO": _jpeg, "PNG": _png,
    "TGA": _tga,
}  # fmt: skip
