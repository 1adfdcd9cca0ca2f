"""TGA, BMP, PNM, GIF, and formats that are not read: read right within 1/255, or refused in one message."""

import io
import itertools
import struct
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
    packed,
    profile,
    quantized,
    saved,
    smooth,
)

SAMPLES, VALUES = quantized(smooth(4), 8)
COLOR, ALPHA, GREY = VALUES[..., :3], VALUES[..., 3], VALUES[..., :1]
INDICES = (np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) // 3 % 16).astype(np.uint8)
#: A bit that is set in every second column.
BIT = np.tile(np.arange(WIDTH) % 2, (HEIGHT, 1)).astype(np.uint16)


def palette(colors: int) -> NDArray[np.uint8]:
    return np.random.default_rng(colors).integers(0, 256, (colors, 4), dtype=np.uint8)


def words(*fields: tuple[NDArray[Any], int]) -> NDArray[np.uint8]:
    """Little-endian words of 16 bits, as bytes (H, W, 2), from fields and the places of their lowest bits."""
    whole = sum(field.astype(np.uint16) << place for field, place in fields)
    return np.ascontiguousarray(whole, dtype="<u2")[..., None].view(np.uint8)


def fifth(values: NDArray[np.float64]) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Words of five bits a channel, and what they stand for."""
    samples, known = quantized(values, 5)
    return words((samples[..., 0], 10), (samples[..., 1], 5), (samples[..., 2], 0)), known


def runs(pixels: list[bytes]) -> bytes:
    """The pixels of a TGA, equal neighbours together."""
    found = b""
    for pixel, group in itertools.groupby(pixels):
        found += bytes([127 + len(list(group))]) + pixel
    return found


def tga(kind: int, depth: int, pixels: NDArray[np.uint8], **options: Any) -> bytes:
    """A TGA with pixels (H, W, bytes) that are given upright; ``attributes`` are those of its extension."""
    o = {"corner": 0, "packed": False, "alpha": 0, "map": b"", "map_depth": 0, "attributes": None, **options}
    rows = pixels if o["corner"] & 2 else pixels[::-1]
    rows = rows[:, ::-1] if o["corner"] & 1 else rows
    listed = [bytes(pixel) for row in rows for pixel in row]
    data = (
        b"".join(runs(listed[at : at + 100]) for at in range(0, len(listed), 100)) if o["packed"] else b"".join(listed)
    )
    colors = len(o["map"]) * 8 // o["map_depth"] if o["map"] else 0
    head = struct.pack(
        "<BBBHHBHHHH", 3, colors > 0, kind + 8 * o["packed"], 0, colors, o["map_depth"], 0, 0, WIDTH, HEIGHT
    )
    found: bytes = head + bytes([depth, o["alpha"] | o["corner"] << 4]) + b"id." + o["map"] + data
    if o["attributes"] is None:
        return found
    return found + bytes(494) + bytes([o["attributes"]]) + struct.pack("<II", len(found), 0) + b"TRUEVISION-XFILE.\0"


def tgas() -> Iterator[Case]:
    bgra, colors = SAMPLES[..., [2, 1, 0, 3]], palette(16)
    multiplied = np.dstack([np.round(bgra[..., :3] * ALPHA[..., None]).astype(np.uint8), bgra[..., 3]])
    (fifths, known), (fifth_map, known_map) = fifth(COLOR), fifth(colors[None, :, :3] / 255)
    noisy, mapped = fifths + words((BIT, 15)), colors[INDICES] / 255
    of_map = {"map": colors[:, [2, 1, 0, 3]].tobytes(), "map_depth": 32}
    unsupported = "not a picture in a supported format; formats: "
    for corner, rle in itertools.product(range(4), (False, True)):
        more = {"corner": corner, "packed": rle}
        for name, given, truth in [
            ("grey", (3, 8, SAMPLES[..., :1], {}), expected(GREY, None)),
            ("grey, opacity", (3, 16, SAMPLES[..., [0, 3]], {"alpha": 8}), expected(GREY, ALPHA)),
            ("rgb", (2, 24, bgra[..., :3], {}), expected(COLOR, None)),
            ("rgba", (2, 32, bgra, {"alpha": 8}), expected(COLOR, ALPHA)),
            ("rgbx", (2, 32, bgra, {}), expected(COLOR, None)),
            *((f"type {n}", (2, 32, bgra, {"alpha": 8, "attributes": n}), expected(COLOR, None)) for n in (0, 1, 2)),
            ("rgba, type 3", (2, 32, bgra, {"alpha": 8, "attributes": 3}), expected(COLOR, ALPHA)),
            ("rgba, type 4", (2, 32, multiplied, {"alpha": 8, "attributes": 4}), expected(COLOR, ALPHA)),
            ("16 bits", (2, 16, noisy, {}), expected(known, None)),
            ("16 bits, opacity", (2, 16, noisy, {"alpha": 1}), expected(known, BIT.astype(float))),
            ("15 bits", (2, 15, fifths, {}), unsupported),
            ("palette", (1, 8, INDICES[..., None], {"map": colors[:, 2::-1].tobytes(), "map_depth": 24}),
             expected(mapped[..., :3], None)),
            ("palette, 4th unused", (1, 8, INDICES[..., None], of_map), expected(mapped[..., :3], None)),
            ("palette, opacity", (1, 8, INDICES[..., None], of_map | {"alpha": 8}),
             expected(mapped[..., :3], mapped[..., 3])),
            ("palette of 16 bits", (1, 8, INDICES[..., None], {"map": fifth_map.tobytes(), "map_depth": 16}),
             expected(known_map[0][INDICES], None)),
        ]:  # fmt: skip
            kind, depth, pixels, options = given
            yield (name, more), tga(kind, depth, pixels, **options, **more), truth


def bmp(bits: int, rows: NDArray[np.uint8] | bytes, size: int, **options: Any) -> bytes:
    """A BMP with a header of ``size`` bytes; rows (H, ..., bytes) are given upright."""
    o = {
        "down": False,
        "masks": (),
        "compression": 0,
        "map": b"",
        "space": b"sRGB",
        "points": bytes(36),
        "gammas": (0, 0, 0),
    }
    o |= {"profile": b""} | options
    if not isinstance(rows, bytes):
        flat = rows.reshape(HEIGHT, -1)
        rows = b"".join(row.tobytes() + bytes(-len(row) % 4) for row in (flat if o["down"] else flat[::-1]))
    masks = struct.pack("<4I", *(o["masks"] or (0, 0, 0, 0)))
    if size == 12:
        head = struct.pack("<IHHHH", 12, WIDTH, HEIGHT, 1, bits)
    else:
        height = -HEIGHT if o["down"] else HEIGHT
        compression = 3 if o["masks"] else o["compression"]
        head = struct.pack("<IiiHHIIiiII", size, WIDTH, height, 1, bits, compression, len(rows), 0, 0, 0, 0)
        head += masks[: max(size - 40, 12 if o["masks"] else 0)]
        head += bytes(8) if size == 64 else b""
    if size >= 108:
        head += o["space"][::-1] + o["points"] + struct.pack("<3I", *(round(g * 65536) for g in o["gammas"]))
    if size >= 124:
        head += struct.pack("<4I", 4, size + len(rows), len(o["profile"]), 0)
    start = 14 + len(head) + len(o["map"])
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, start) + head + o["map"] + rows + o["profile"]


def bmps() -> Iterator[Case]:
    bgra, (fifths, known) = SAMPLES[..., [2, 1, 0, 3]], fifth(COLOR)
    sixths, green = quantized(COLOR, 6)
    (red, _), (tenths, _) = quantized(COLOR, 5), quantized(COLOR, 10)
    rgb565 = words((red[..., 0], 11), (sixths[..., 1], 5), (red[..., 2], 0))
    known565 = np.dstack([known[..., 0], green[..., 1], known[..., 2]])
    deep = (tenths.astype(np.uint32) << [20, 10, 0]).sum(axis=2, dtype="<u4")[..., None].view(np.uint8)
    opaque, transparent = expected(COLOR, None), expected(COLOR, ALPHA)
    for size, down in itertools.product((12, 40, 52, 56, 64, 108, 124), (False, True)):
        if size == 12 and down:
            continue  # there is no such
        for bits in (1, 4, 8):
            colors = palette(2**bits)[:, : 3 if size == 12 else 4]
            indices = INDICES & 2**bits - 1
            lines = np.frombuffer(packed(indices, bits), np.uint8).reshape(HEIGHT, -1)
            listed = colors[:, [2, 1, 0, *([] if size == 12 else [3])]].tobytes()
            more = {"down": down, "map": listed}
            yield (size, down, bits), bmp(bits, lines, size, **more), expected(colors[indices][..., :3] / 255, None)
            if bits > 1 and size != 12 and not down:
                shown = expected(colors[indices][..., :3] / 255, None)
                yield (
                    (size, "RLE", bits),
                    bmp(bits, rle(indices, bits), size, compression=3 - bits // 4, map=listed),
                    shown,
                )
        more = {"down": down}
        yield (size, down, 24), bmp(24, bgra[..., :3], size, **more), opaque
        yield (size, down, 16), bmp(16, fifths + words((BIT, 15)), size, **more), expected(known, None)
        if size == 12:
            continue
        yield (size, down, 32), bmp(32, bgra, size, **more), opaque
        if size == 64:
            continue
        meant = transparent if size >= 56 else opaque
        for masks, bits, rows, truth in [
            ((0x7C00, 0x3E0, 0x1F, 0), 16, fifths, expected(known, None)),
            ((0xF800, 0x7E0, 0x1F, 0), 16, rgb565, expected(known565, None)),
            ((0xFF0000, 0xFF00, 0xFF, 0), 32, bgra, opaque),
            ((0xFF0000, 0xFF00, 0xFF, 0xFF000000), 32, bgra, meant),
            ((0xFF000000, 0xFF0000, 0xFF00, 0xFF), 32, SAMPLES[..., ::-1], meant),
            (
                (0x3FF00000, 0xFFC00, 0x3FF, 0),
                32,
                deep,
                "Unsupported BMP bitfields layout; if other programs show it, save it",
            ),
        ]:
            yield (size, down, masks), bmp(bits, rows, size, masks=masks, **more), truth
    short = fifths + words((BIT, 15))
    yield (
        "1555",
        bmp(16, short, 56, masks=(0x7C00, 0x3E0, 0x1F, 0x8000)),
        "this is a BMP picture of 16 bits with opacity; save",
    )
    rows, linear = bgra[..., :3], expected(COLOR, None, linear=True)
    points = b"".join(
        struct.pack("<3i", *(round(part * 2**30) for part in (x, y, 1 - x - y)))
        for x, y in zip(SRGB[::2], SRGB[1::2], strict=True)
    )
    calibrated = {"space": bytes(4), "points": points}
    for size in (108, 124):
        yield (size, "calibrated"), bmp(24, rows, size, gammas=(1, 1, 1), **calibrated), linear
        yield (size, "not calibrated"), bmp(24, rows, size, space=bytes(4)), opaque
        yield (
            (size, "gammas"),
            bmp(24, rows, size, gammas=(1, 1, 2), **calibrated),
            "a BMP picture with a gamma for each",
        )
    yield "profile", bmp(24, rows, 124, space=b"MBED", profile=profile("rgb")), linear
    yield (
        "link",
        bmp(24, rows, 124, space=b"LINK", profile=b"x.icm\0"),
        "a BMP picture whose colour profile is in another file",
    )
    yield (
        "2 bits",
        bmp(2, rows, 40, map=bytes(16)),
        r"Unsupported BMP pixel depth \(2\); if other programs show it, save it",
    )


def rle(indices: NDArray[np.uint8], bits: int) -> bytes:
    """The rows of a BMP: six pixels as they are, and runs of three."""
    found = b""
    for row in indices[::-1]:
        first = [high << 4 | low for high, low in row[:6].reshape(3, 2)] + [0] if bits == 4 else row[:6]
        found += bytes([0, 6, *first])
        for value in row[6::3]:
            found += bytes([3, value * 17 if bits == 4 else value])
        found += b"\0\0"
    return found + b"\0\1"


def pnms() -> Iterator[Case]:
    size = b"%d %d\n" % (WIDTH, HEIGHT)
    for most, channels in itertools.product((1, 15, 100, 255, 1023, 40_000, 65_535), (1, 3)):
        samples = np.round(smooth(channels) * most).astype(int)
        truth, head = expected(samples / most, None), size + b"%d\n" % most
        text = b" ".join(b"%d" % value for value in samples.flat)
        deep = samples.astype("u1" if most < 256 else ">u2").tobytes()
        yield (most, channels, "text"), (b"P2\n# text\n" if channels == 1 else b"P3\n") + head + text, truth
        yield (most, channels), (b"P5\n" if channels == 1 else b"P6\n") + head + deep, truth
    bits, known = quantized(smooth(1), 1)
    yield "PAM", b"P7\nWIDTH 1\nHEIGHT 1\nDEPTH 1\nMAXVAL 255\nENDHDR\n\0", "this is a PAM picture; save it as PNG"
    yield "bits, text", b"P1\n" + size + b" ".join(b"%d" % value for value in 1 - bits.ravel()), expected(known, None)
    yield "bits", b"P4\n" + size + packed(1 - bits, 1), expected(known, None)
    for order, scale in (("<", b"-1.0\n"), (">", b"1.0\n")):
        floats = smooth(3)[::-1].astype(f"{order}f4")
        yield ("PFM", order), b"Pf\n" + size + scale + floats[..., 0].tobytes(), expected(smooth(1), None)
        yield (
            ("PFM", order, 3),
            b"PF\n" + size + scale + floats.tobytes(),
            "this is a PFM picture in colours; save it as PNG",
        )
        bright = (3 * floats[..., 0]).astype(f"{order}f4").tobytes()
        yield (
            ("PFM", order, "bright"),
            b"Pf\n" + size + scale + bright,
            "this is a picture of floats up to 3; scale them to",
        )


def gifs() -> Iterator[Case]:
    colors = palette(16)
    picture = Image.fromarray(INDICES, "P")
    picture.putpalette(colors[:, :3].tobytes())
    shown, seen = colors[INDICES][..., :3] / 255, (INDICES != 3).astype(float)

    def made(**options: Any) -> bytes:
        file = io.BytesIO()
        picture.save(file, "GIF", **options)
        return file.getvalue()

    for interlace in (0, 1):
        yield ("whole", interlace), made(interlace=interlace), expected(shown, None)
        yield ("transparent", interlace), made(interlace=interlace, transparency=3), expected(shown, seen)
        more = {"save_all": True, "append_images": [Image.new("P", (WIDTH, HEIGHT))], "transparency": 3}
        yield ("moving", interlace), made(interlace=interlace, **more), expected(shown, seen)
    for more in ({}, {"transparency": 3}):
        data = made(**more)
        frame = data.index(b",\0\0\0\0")
        larger = data[:6] + struct.pack("<HH", WIDTH + 6, HEIGHT + 5) + data[10 : frame + 1] + struct.pack("<HH", 3, 2)
        truth = np.full((HEIGHT + 5, WIDTH + 6, 3), 255.0)
        truth[2 : 2 + HEIGHT, 3 : 3 + WIDTH] = expected(shown, seen if more else None)
        yield ("part", more), larger + data[frame + 5 :], truth


def others() -> Iterator[Case]:
    """Formats that are not read, some of which have more than 8 bits."""
    unsupported = "this file is not a picture in a supported format; formats: AVIF, "
    rgb = np.ascontiguousarray(SAMPLES[..., :3])
    for form in ("SGI", "ICO", "DDS", "ICNS", "SPIDER", "PDF", "EPS"):
        yield form, saved(SAMPLES[..., :1] if form == "SPIDER" else rgb, form), unsupported
    yield "JPEG XL", bytes(imagecodecs.jpegxl_encode(rgb)), unsupported
    yield "JPEG XL in boxes", bytes(imagecodecs.jpegxl_encode(rgb, usecontainer=True)), unsupported
    yield "JPEG XR", bytes(imagecodecs.jpegxr_encode(rgb)), unsupported
    yield "Radiance", bytes(imagecodecs.rgbe_encode(smooth(3).astype(np.float32), header=True)), unsupported
    yield "OpenEXR", b"\x76\x2f\x31\x01\x02\0\0\0" + bytes(400), unsupported
    yield "PSD", b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, HEIGHT, WIDTH, 16, 3) + bytes(4000), unsupported
    yield "SGI", struct.pack(">HBBHHHHII", 474, 0, 2, 3, WIDTH, HEIGHT, 3, 0, 65535) + bytes(9000), unsupported
    yield "HEIC", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(900), unsupported
    cursor = struct.pack("<HHHBBBBHHII", 0, 2, 1, 0, 0, 0, 0, 10, 10, 0x18000, 22)
    yield (
        "a cursor, which begins as a TGA",
        cursor + bytes(70_000),
        "this picture can't be read: .*; if other programs show",
    )


@pytest.mark.parametrize(
    ("cases", "read", "refused"),
    [(tgas, 128, 8), (bmps, 144, 15), (pnms, 32, 5), (gifs, 8, 0), (others, 0, 16)],
)  # fmt: skip
def test_every_kind_is_read_right_or_refused(
    tmp_path: Path, cases: Callable[[], Iterator[Case]], read: int, refused: int
) -> None:
    assert count(cases(), tmp_path / "x") == (read, refused)


@pytest.mark.parametrize("cases", [bmps, pnms])
def test_a_refusal_ends_the_program(inside: Command, tmp_path: Path, cases: Callable[[], Iterator[Case]]) -> None:
    assert_refusal_ends_the_program(inside, cases(), tmp_path)
