"""Samples of pictures, and their conversion to 8-bit sRGB."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

Space = Literal["gray", "rgb", "cmyk"]

#: The colour spaces of ICC profiles (ICC.1:2022, table 19).
_PROFILES: dict[bytes, Space] = {b"GRAY": "gray", b"RGB ": "rgb", b"CMYK": "cmyk"}

#: Without this flag Little CMS tabulates curves too coarsely: shades near black are off by up to 10 of 255.
_EXACT = int(ImageCms.Flags.NOOPTIMIZE)


class UnsupportedError(Exception):
    """A picture that can't be read right; the message says what it is and what to do."""


@dataclass(frozen=True)
class Samples:
    """The samples of a picture.

    Attributes:
        color: values (H, W, C), uint8 or uint16 over their whole range; of CMYK the inks.
        alpha: opacity (H, W) of the same type, or None. Colours aren't multiplied by it.
        space: the colour space of the channels.
        profile: the ICC profile of the colours; None for sRGB.
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

        space = _PROFILES.get(profile[16:20])
        data = self.color
        if (self.space, space) == ("gray", "rgb"):
            data = np.repeat(data, 3, axis=2)
        elif (self.space, space) == ("rgb", "gray") and bool((data == data[..., :1]).all()):
            data = data[..., :1]  # greys in a format that has only colours
        elif self.space != space:
            return None
        srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        try:
            found = imagecodecs.cms_transform(
                np.ascontiguousarray(data[..., 0] if space == "gray" else data), profile, srgb,
                colorspace=space, outcolorspace="rgb", outdtype="uint8", flags=_EXACT,
            )  # fmt: skip
        except Exception:  # the profile is damaged
            return None
        return np.asarray(found, dtype=np.uint8)


def of_pillow(picture: Image.Image) -> Samples:
    """Return the samples of a picture that Pillow has read.

    Raise UnsupportedError for floats above 1.
    """
    profile = picture.info.get("icc_profile")
    alpha = None
    if picture.has_transparency_data:
        alpha = np.asarray(picture.convert("RGBA").getchannel("A"))
        picture = picture.convert("L" if picture.mode in ("L", "LA", "La", "1") else "RGB")
    if picture.mode == "CMYK":
        return Samples(np.asarray(picture), alpha, "cmyk", profile)
    if picture.mode == "F":
        return Samples(from_floats(np.asarray(picture), "picture")[..., None], alpha, "gray", profile)
    if picture.mode.startswith("I"):  # 16 bits, also where Pillow keeps them in 32
        return Samples(np.asarray(picture).clip(0, 65535).astype(np.uint16)[..., None], alpha, "gray", profile)
    if picture.mode in ("1", "L"):
        return Samples(np.asarray(picture.convert("L"))[..., None], alpha, "gray", profile)
    return Samples(np.asarray(picture.convert("RGB")), alpha, "rgb", profile)


def interleaved(found: NDArray[Any], profile: bytes | None) -> Samples:
    """Return decoded values (H, W) or (H, W, C) as samples; of two or four channels the last is the opacity."""
    found = found[..., None] if found.ndim == 2 else found
    channels = found.shape[2] - (found.shape[2] in (2, 4))
    alpha = found[..., channels] if found.shape[2] > channels else None
    return Samples(found[..., :channels], alpha, "gray" if channels == 1 else "rgb", profile)


def from_floats(values: NDArray[Any], what: str) -> NDArray[np.uint16]:
    """Return floats in [0, 1] as uint16. Raise UnsupportedError for larger ones, whose range is not known."""
    values = values.astype(np.float64)
    largest = float(np.nanmax(values, initial=0, where=np.isfinite(values)))
    if largest > 1.001:
        raise UnsupportedError(f"a {what} of floats up to {largest:.4g}; scale them to [0, 1]")
    known = np.nan_to_num(values, posinf=1, neginf=0)
    whole: NDArray[np.uint16] = np.round(known.clip(0, 1) * 65535).astype(np.uint16)
    return whole


def unmultiplied(color: NDArray[Any], alpha: NDArray[Any]) -> NDArray[Any]:
    """Return colours that are not multiplied by the opacity any more."""
    full = np.iinfo(color.dtype).max
    divided = color * (full / np.maximum(alpha, 1).astype(np.float64))[..., None]
    colors: NDArray[Any] = np.round(divided.clip(0, full)).astype(color.dtype)
    return colors


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
