"""JPEG, WebP, AVIF and PNG with colour spaces of every kind: read right within 1/255, or refused in one message."""

import itertools
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.conftest import Command
from tests.helpers.samples import (
    HEIGHT,
    SRGB,
    WIDTH,
    Case,
    assert_refusal_ends_the_program,
    count,
    expected,
    profile,
    quantized,
    saved,
    smooth,
    to_srgb,
    with_chunk,
)

SAMPLES, VALUES = quantized(smooth(4), 8)
COLOR, ALPHA, GREY = VALUES[..., :3], VALUES[..., 3], VALUES[..., :1]


def moving(samples: NDArray[np.uint8], form: str, **options: Any) -> bytes:
    """An animation that begins with these samples."""
    last = Image.new("RGBA", (WIDTH, HEIGHT), "red")
    return saved(samples, form, save_all=True, append_images=[last], **options)


def jpeg(samples: NDArray[Any], **options: Any) -> bytes:
    return bytes(imagecodecs.jpeg8_encode(np.ascontiguousarray(samples.squeeze()), level=95, **options))


def avif(samples: NDArray[Any], bits: int, **options: Any) -> bytes:
    grey = samples.shape[2] < 3
    options = {"pixelformat": "400" if grey else "444", "level": 100, "speed": 10} | options
    return bytes(imagecodecs.avif_encode(np.ascontiguousarray(samples.squeeze()), bitspersample=bits, **options))


def ink_profile() -> tuple[bytes, NDArray[np.float64]]:
    """A profile of CMYK in which each ink takes its share of the lightness, and these shares."""
    shares = np.array([30, 20, 10, 40])
    corners = [[round((100 - shares @ inks) * 2.55), 128, 128] for inks in itertools.product((0, 1), repeat=4)]
    identity = struct.pack(">9i", *(65536 * np.eye(3, dtype=int).ravel()))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + identity + bytes(range(256)) * 4
    table += bytes(itertools.chain(*corners)) + bytes(range(256)) * 3
    white = struct.pack(">3i", 63190, 65536, 54061)
    tags = {b"desc": b"desc" + bytes(7) + b"\1" + bytes(79), b"wtpt": b"XYZ " + bytes(4) + white, b"A2B0": table}
    listed, content, start = b"", b"", 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        listed += name + struct.pack(">II", start + len(content), len(data))
        content += data + bytes(-len(data) % 4)
    head = struct.pack(">I4xI4s4s4s12x4s28x", start + len(content), 0x02100000, b"prtr", b"CMYK", b"Lab ", b"acsp")
    return (head + white).ljust(128, b"\0") + struct.pack(">I", len(tags)) + listed + content, shares


def with_profile(data: bytes, given: bytes, parts: int = 1) -> bytes:
    """A JPEG with a profile in so many segments."""
    length = -(-len(given) // parts)
    segments = b""
    for part in range(parts):
        content = b"ICC_PROFILE\0" + bytes([part + 1, parts]) + given[part * length : (part + 1) * length]
        segments += b"\xff\xe2" + struct.pack(">H", len(content) + 2) + content
    return data[:2] + segments + data[2:]


def jpegs() -> Iterator[Case]:
    inks, shares = ink_profile()
    linear = {space: profile(space) for space in ("gray", "rgb")}
    grey, repeated = jpeg(SAMPLES[..., :1]), jpeg(np.repeat(SAMPLES[..., :1], 3, 2))
    known = imagecodecs.jpeg8_decode(grey)[..., None] / 255
    yield "grey", grey, expected(known, None)
    for space in ("gray", "rgb"):
        yield ("grey", space), with_profile(grey, linear[space]), expected(known, None, linear=True)
    yield "grey as rgb", with_profile(repeated, linear["gray"]), expected(known, None, linear=True)
    for kind, data in {
        "420": jpeg(SAMPLES[..., :3], subsampling="420"),
        "444": jpeg(SAMPLES[..., :3], subsampling="444"),
        "rgb": jpeg(SAMPLES[..., :3], colorspace="RGB", outcolorspace="RGB"),
        "progressive": saved(SAMPLES[..., :3], "JPEG", progressive=True),
        "lossless": jpeg(SAMPLES[..., :3], lossless=True),
    }.items():
        known = imagecodecs.jpeg8_decode(data) / 255
        yield kind, data, expected(known, None)
        for parts in (1, 3):
            yield (kind, parts), with_profile(data, linear["rgb"], parts), expected(known, None, linear=True)
        yield (kind, "inks"), with_profile(data, inks), expected(known, None)
        yield (kind, "gray"), with_profile(data, linear["gray"]), expected(known, None)
    for space in ("CMYK", "YCCK"):
        data = jpeg(255 - SAMPLES, colorspace="CMYK", outcolorspace=space)
        assert b"Adobe" in data, "so the inks are inverted"
        known = 1 - imagecodecs.jpeg8_decode(data, outcolorspace="CMYK") / 255
        plain = expected((1 - known[..., :3]) * (1 - known[..., 3:]), None)
        lightness = 100 - known @ shares
        luminance = np.where(lightness > 8, ((lightness + 16) / 116) ** 3, lightness / 903.3)[..., None]
        yield space, data, plain
        yield (space, "rgb"), with_profile(data, linear["rgb"]), plain
        yield (space, "inks"), with_profile(data, inks, 2), expected(luminance, None, linear=True)
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA005] = {1: "R03"}
    data = saved(SAMPLES[..., :3], "JPEG", exif=exif.tobytes())
    adobe = converted(imagecodecs.jpeg8_decode(data) / 255, (0.64, 0.33, 0.21, 0.71, 0.15, 0.06), 563 / 256)
    yield "R03", data, expected(adobe, None)
    refused = "a JPEG picture that is damaged, lossless, or has more than 8 bits; save it as PNG"
    for bits, channels in itertools.product((12, 16), (1, 3)):
        deep, _ = quantized(smooth(channels), bits)
        yield ("lossless", bits, channels), jpeg(deep, bitspersample=bits, lossless=True), refused
        yield ("JPEG-LS", bits, channels), bytes(imagecodecs.jpegls_encode(deep.squeeze())), refused
        if bits == 12:
            yield (bits, channels), jpeg(deep, bitspersample=bits), refused


def webps() -> Iterator[Case]:
    linear = profile("rgb")
    for lossless in (False, True):
        more = {"lossless": lossless}
        data = saved(SAMPLES, "WEBP", **more)
        known = imagecodecs.webp_decode(data) / 255
        assert not lossless or np.array_equal(known, VALUES)
        yield ("opacity", lossless), data, expected(known[..., :3], known[..., 3])
        made = saved(SAMPLES, "WEBP", icc_profile=linear, **more)
        yield ("profile", lossless), made, expected(known[..., :3], known[..., 3], linear=True)
        data = saved(SAMPLES[..., :3], "WEBP", **more)
        known = imagecodecs.webp_decode(data)[..., :3] / 255
        yield ("opaque", lossless), data, expected(known, None)
        data = moving(SAMPLES, "WEBP", **more)
        known = imagecodecs.webp_decode(data, 0) / 255
        yield ("moving", lossless), data, expected(known[..., :3], known[..., 3])
    made = saved(np.repeat(SAMPLES[..., :1], 3, 2), "WEBP", icc_profile=profile("gray"), lossless=True)
    yield "grey as rgb", made, expected(GREY, None, linear=True)


def converted(values: NDArray[np.float64], primaries: tuple[float, ...], exponent: float | None) -> NDArray[np.float64]:
    """Colours of other primaries, at sRGB's white, as sRGB in [0, 1]; without an exponent they have its curve."""

    def to_xyz(points: tuple[float, ...]) -> NDArray[np.float64]:
        xyz = np.array([(x, y, 1 - x - y) for x, y in zip(points[::2], points[1::2], strict=True)]).T
        white = np.array([0.3127, 0.3290, 1 - 0.3127 - 0.3290]) / 0.3290
        return np.asarray(xyz * np.linalg.solve(xyz, white))

    if exponent is None:
        linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    else:
        linear = values**exponent
    return to_srgb((linear @ (np.linalg.inv(to_xyz(SRGB)) @ to_xyz(primaries)).T).clip(0, 1))


#: Primaries of ITU-T H.273 with sRGB's white.
CODES = {
    1: SRGB,
    2: SRGB,
    5: (0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (0.63, 0.34, 0.31, 0.595, 0.155, 0.07),
    9: (0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    12: (0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
}
EXPONENTS = {1: None, 2: None, 4: 2.2, 5: 2.8, 6: None, 8: 1.0, 13: None, 14: None, 15: None}


def avifs() -> Iterator[Case]:
    for bits, channels in itertools.product((8, 10, 12), (1, 2, 3, 4)):
        samples, _ = quantized(smooth(channels), bits)
        for layout in ("444", "420") if channels > 2 else ("400",):
            data = avif(samples, bits, pixelformat=layout)
            known = imagecodecs.avif_decode(data).reshape(HEIGHT, WIDTH, -1) / (2**bits - 1)
            colors = channels - (channels % 2 == 0)
            assert layout == "420" or np.abs(known - samples / (2**bits - 1)).max() < 0.02
            yield (
                (bits, channels, layout),
                data,
                expected(known[..., :colors], known[..., -1] if channels % 2 == 0 else None),
            )
    for bits, primaries, transfer in itertools.product((8, 10), (*CODES, 10), (*EXPONENTS, 16, 17, 18)):
        samples, _ = quantized(smooth(3), bits)
        data = avif(samples, bits, primaries=primaries, transfer=transfer)
        known = imagecodecs.avif_decode(data) / (2**bits - 1)
        if transfer in (16, 18):
            yield (
                (bits, primaries, transfer),
                data,
                "a picture of high dynamic range .*; convert it to sRGB, and save it",
            )
        elif primaries in CODES and transfer in EXPONENTS:
            shown = converted(known, CODES[primaries], EXPONENTS[transfer])
            yield (bits, primaries, transfer), data, expected(shown, None)
        else:
            yield (
                (bits, primaries, transfer),
                data,
                "a picture in a rare colour space .*; convert it to sRGB, and save it",
            )
    for space, channels in (("gray", 1), ("rgb", 1), ("rgb", 3)):
        data = saved(SAMPLES[..., :channels], "AVIF", icc_profile=profile(space), quality=90)
        known = imagecodecs.avif_decode(data).reshape(HEIGHT, WIDTH, -1) / 255
        yield (space, channels), data, expected(known, None, linear=True)
    data = moving(SAMPLES, "AVIF", quality=90)
    known = imagecodecs.avif_decode(data)[0] / 255
    yield "moving", data, expected(known[..., :3], known[..., 3])
    frames = np.stack([quantized(smooth(3), 10)[0]] * 2)
    data = bytes(imagecodecs.avif_encode(frames, bitspersample=10, speed=10))
    yield "moving, 10 bits", data, "an AVIF animation of 10 bits; save its first frame as PNG"
    unnamed = avif(quantized(smooth(3), 10)[0], 10).replace(b"colrnclx", b"freenclx")
    yield "unnamed", unnamed, "an AVIF picture of 10 bits in an unnamed colour space; save it as PNG"


def pngs() -> Iterator[Case]:
    """The chunks that give a PNG's colour space without a profile, and which of them goes first."""

    def points(values: tuple[float, ...]) -> bytes:
        return struct.pack(">8I", *(round(value * 100_000) for value in (0.3127, 0.3290, *values)))

    def gamma(value: float) -> bytes:
        return struct.pack(">I", round(value * 100_000))

    icc = b"linear\0\0" + zlib.compress(profile("rgb"))
    wide = CODES[12]
    chunks: dict[str, tuple[dict[bytes, bytes], NDArray[np.float64] | str]] = {
        "sRGB's gamma": ({b"gAMA": gamma(1 / 2.2)}, COLOR),
        "linear": ({b"gAMA": gamma(1)}, to_srgb(COLOR)),
        "1.8": ({b"gAMA": gamma(1 / 1.8)}, converted(COLOR, SRGB, 1.8)),
        "sRGB's": ({b"gAMA": gamma(1 / 2.2), b"cHRM": points(SRGB)}, COLOR),
        "wide": ({b"gAMA": gamma(1 / 2.2), b"cHRM": points(wide)}, converted(COLOR, wide, None)),
        "no colours": ({b"gAMA": gamma(1), b"cHRM": bytes(32)}, COLOR),
        "sRGB before gamma": ({b"sRGB": b"\0", b"gAMA": gamma(1)}, COLOR),
        "profile before gamma": ({b"iCCP": icc, b"gAMA": gamma(1 / 2.2)}, to_srgb(COLOR)),
        "codes before profile": ({b"iCCP": icc, b"cICP": bytes([12, 13, 0, 1])}, converted(COLOR, wide, None)),
        "PQ": ({b"cICP": bytes([9, 16, 0, 1])}, r"a picture of high dynamic range \(PQ\); convert it to sRGB"),
    }
    for bits, (kind, (given, truth)) in itertools.product((8, 16), chunks.items()):
        samples = SAMPLES[..., :3] if bits == 8 else SAMPLES[..., :3].astype(np.uint16) * 257
        data = bytes(imagecodecs.png_encode(np.ascontiguousarray(samples)))
        for name, content in given.items():
            data = with_chunk(data, name, content)
        yield (bits, kind), data, truth if isinstance(truth, str) else expected(truth, None)


@pytest.mark.parametrize(
    ("cases", "read", "refused"),
    [(jpegs, 36, 10), (webps, 9, 0), (avifs, 130, 62), (pngs, 18, 2)],
)  # fmt: skip
def test_every_kind_is_read_right_or_refused(
    tmp_path: Path, cases: Callable[[], Iterator[Case]], read: int, refused: int
) -> None:
    assert count(cases(), tmp_path / "x") == (read, refused)


@pytest.mark.parametrize("cases", [jpegs, avifs])
def test_a_refusal_ends_the_program(inside: Command, tmp_path: Path, cases: Callable[[], Iterator[Case]]) -> None:
    assert_refusal_ends_the_program(inside, cases(), tmp_path)
