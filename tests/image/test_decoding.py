"""Pictures of every depth, kind and layout are read right within 1/255, or refused in one message."""

import itertools
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import png
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from nst import image
from nst.errors import UserError
from tests.conftest import Command
from tests.helpers.samples import HEIGHT, WIDTH, difference, expected, insert, packed, profile, quantized, smooth

#: The transpositions that undo an EXIF orientation.
UPRIGHT: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a.swapaxes(0, 1)[::-1],
}


def test_png_of_every_depth(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    for bits, channels, linear in itertools.product((1, 2, 4, 8, 16), (1, 2, 3, 4), (False, True)):
        if bits < 8 and channels > 1:
            continue  # PNG has none
        samples, values = quantized(smooth(channels), bits)
        colors = channels - (channels in (2, 4))
        alpha = values[..., -1] if channels in (2, 4) else None
        writer = png.Writer(WIDTH, HEIGHT, greyscale=colors == 1, alpha=alpha is not None, bitdepth=bits)
        with path.open("wb") as file:
            writer.write(file, samples.reshape(HEIGHT, -1).tolist())
        if linear:
            insert(path, b"iCCP", b"linear\0\0" + zlib.compress(profile("gray" if colors == 1 else "rgb")))
        assert difference(path, expected(values[..., :colors], alpha, linear=linear)) <= 1, (bits, channels, linear)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_png_with_a_transparent_colour(tmp_path: Path, bits: int) -> None:
    path = tmp_path / "x.png"
    for channels in (1, 3) if bits >= 8 else (1,):
        samples, values = quantized(smooth(channels), bits)
        key = samples[5, 7]
        writer = png.Writer(
            WIDTH,
            HEIGHT,
            greyscale=channels == 1,
            bitdepth=bits,
            transparent=tuple(map(int, key)) if channels == 3 else int(key[0]),
        )
        with path.open("wb") as file:
            writer.write(file, samples.reshape(HEIGHT, -1).tolist())
        alpha = (samples != key).any(axis=2).astype(float)
        assert difference(path, expected(values, alpha)) <= 1, (bits, channels)


def test_palettes(tmp_path: Path) -> None:
    colors = (smooth(3).reshape(-1, 3)[:16] * 255).round().astype(np.uint8)
    indices = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(np.uint8) % 16
    truth = colors[indices] / 255
    alphas = np.linspace(0, 255, 16).round().astype(np.uint8)
    picture = Image.fromarray(indices, "P")
    picture.putpalette(colors.tobytes())
    for suffix in ("png", "gif", "bmp", "tif", "tga"):
        picture.save(tmp_path / f"x.{suffix}")
        assert difference(tmp_path / f"x.{suffix}", expected(truth, None)) <= 1, suffix
    picture.save(tmp_path / "t.png", transparency=bytes(alphas))
    assert difference(tmp_path / "t.png", expected(truth, alphas[indices] / 255)) <= 1
    wide = (np.linspace(0, 65535, 768).reshape(3, 256)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "p.tif", indices, photometric="palette", colormap=wide)
    assert difference(tmp_path / "p.tif", expected(wide.T[indices] / 65535, None)) <= 1


def tiffs() -> Iterator[dict[str, Any]]:
    """Every combination of what a TIFF may be like, with a few of the compressions for each."""
    for bits, channels, order, planar, transparency in itertools.product(
        (8, 10, 12, 14, 16, 32, "half", "float", "double", "int8", "int16"),
        (1, 3),
        "<>",
        ("contig", "separate"),
        (None, "unassalpha", "assocalpha"),
    ):
        for compression in (None, "lzw", "deflate", "packbits", "zstd"):
            if channels == 1 and planar == "separate" and transparency is None:
                continue
            if bits in (10, 12, 14) and (compression is not None or order == "<"):
                continue  # tifffile writes none
            yield {
                "bits": bits,
                "channels": channels,
                "order": order,
                "planar": planar,
                "transparency": transparency,
                "compression": compression,
            }


def write_tiff(
    path: Path,
    *,
    bits: Any,
    channels: int,
    order: str,
    planar: str,
    transparency: str | None,
    compression: str | None,
    **more: Any,
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Write a TIFF; return the colours and the opacity that it stands for."""
    values = smooth(channels + (transparency is not None))
    color, alpha = values[..., :channels], values[..., channels] * 0.9 + 0.1 if transparency else None
    if transparency == "assocalpha":
        assert alpha is not None
        values = np.concatenate([color * alpha[..., None], alpha[..., None]], axis=2)
    elif alpha is not None:
        values = np.concatenate([color, alpha[..., None]], axis=2)
    extra: dict[str, Any] = {}
    if isinstance(bits, str):
        kind = {"half": np.float16, "float": np.float32, "double": np.float64, "int8": np.int8, "int16": np.int16}[bits]
        samples = (
            values.astype(kind) if bits not in ("int8", "int16") else np.round(values * np.iinfo(kind).max).astype(kind)
        )
    else:
        samples, values = quantized(values, bits)
        if transparency != "assocalpha":
            color = values[..., :channels]
        if bits not in (8, 16, 32):
            extra["bitspersample"] = bits
    if planar == "separate" and samples.shape[2] > 1:
        samples = np.moveaxis(samples, 2, 0)
    elif samples.shape[2] == 1:
        samples, planar = samples[..., 0], "contig"
    if isinstance(bits, int) and bits not in (8, 16, 32):  # tifffile packs no bits itself
        extra |= {"shape": samples.shape, "dtype": samples.dtype, "rowsperstrip": HEIGHT}
        planes = samples if planar == "separate" and samples.ndim == 3 else samples[None]
        samples = iter([packed(plane, bits) for plane in planes])
        several = channels + (transparency is not None) > 1
    else:
        several = samples.ndim == 3
    tifffile.imwrite(
        path,
        samples,
        photometric="minisblack" if channels == 1 else "rgb",
        byteorder=order,
        compression=compression,
        planarconfig=planar if several else None,
        extrasamples=[transparency] if transparency else None,
        **extra,
        **more,
    )
    return color, alpha


def test_tiff_of_every_layout(tmp_path: Path) -> None:
    read = refused = 0
    for number, kind in enumerate(tiffs()):
        path = tmp_path / "x.tif"
        linear = number % 3 == 1
        space = "gray" if kind["channels"] == 1 else "rgb"
        more = {"iccprofile": profile(space)} if linear else {}
        truth = expected(*write_tiff(path, **kind, **more), linear=linear)
        if kind["bits"] in ("int8", "int16"):
            with pytest.raises(
                UserError, match=r"content.path=.*: this is a TIFF of int.* samples; save it with 8 or 16"
            ):
                image.read(path, key="content.path")
            refused += 1
            continue
        # Colours multiplied by their opacity have lost what 8 bits can't hold.
        lost = 9 if kind["transparency"] == "assocalpha" and kind["bits"] == 8 else 1
        assert difference(path, truth) <= (lost if linear else 1), (kind, linear)
        read += 1
    assert read > 300
    assert refused > 40


def test_tiff_of_other_kinds(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    for bits in (8, 16):
        samples, values = quantized(smooth(4), bits)
        full = 2**bits - 1
        tifffile.imwrite(path, full - samples[..., 0], photometric="miniswhite")
        assert difference(path, expected(values[..., :1], None)) <= 1
        tifffile.imwrite(path, samples, photometric="separated", planarconfig="contig")
        assert difference(path, expected((1 - values[..., :3]) * (1 - values[..., 3:]), None)) <= 1
        tifffile.imwrite(path, samples[..., :3], photometric="rgb", metadata=None, extratags=[(274, 3, 1, 6, True)])
        assert difference(path, expected(UPRIGHT[6](values[..., :3]), None)) <= 1
    bilevel, values = quantized(smooth(1), 1)
    for compression in (None, "group4", "packbits"):
        Image.fromarray(bilevel[..., 0] > 0).save(path, compression=compression)
        assert difference(path, expected(values, None)) <= 1
    samples, values = quantized(smooth(3), 8)
    Image.fromarray(samples).save(path, compression="jpeg", quality=100)
    assert difference(path, expected(values, None)) <= 24, "JPEG loses some of the colours' detail"


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("cielab", "this is a TIFF of the kind CIELAB; save it as RGB or grey"),
        ("cfa", "this is a camera's raw file; develop it, and save it as TIFF, PNG or JPEG"),
        ("dng", "this is a camera's raw file"),
        ("bright", "this is a TIFF of floats up to 255; scale them to"),
        ("complex", "this is a TIFF of complex64 samples; save it with 8 or 16"),
        ("inks", "this is a TIFF of the kind SEPARATED with 5 channels"),
    ],
)
def test_what_cannot_be_read_right_is_refused(inside: Command, tmp_path: Path, kind: str, said: str) -> None:
    path = tmp_path / "x.tif"
    samples, values = quantized(smooth(3), 8)
    if kind == "bright":
        tifffile.imwrite(path, (values * 0 + 255).astype(np.float32), photometric="rgb")
    elif kind == "complex":
        tifffile.imwrite(path, values[..., 0].astype(np.complex64), photometric="minisblack")
    elif kind == "cfa":
        tifffile.imwrite(path, samples[..., 0], photometric="cfa")
    elif kind == "dng":  # whose first page is a thumbnail
        tifffile.imwrite(path, samples, photometric="rgb", metadata=None, extratags=[(50706, 1, 4, (1, 4, 0, 0), True)])
    elif kind == "inks":
        tags = [(332, 3, 1, 2, True)]
        tifffile.imwrite(
            path,
            np.repeat(samples[..., :1], 5, 2),
            photometric="separated",
            planarconfig="contig",
            metadata=None,
            extratags=tags,
        )
    else:
        tifffile.imwrite(path, samples, photometric=kind)
    finished = inside(f"content.path={path}", "hydra.run.dir=run")
    assert finished.returncode == 2
    assert f"error: content.path={path}: {said}" in finished.stderr
    assert not (tmp_path / "run").exists()


def test_other_formats(tmp_path: Path) -> None:
    for channels, mode in ((1, "L"), (3, "RGB"), (4, "RGBA")):
        samples, values = quantized(smooth(channels), 8)
        alpha = values[..., 3] if channels == 4 else None
        truth = expected(values[..., : min(channels, 3)], alpha)
        picture = Image.fromarray(samples[..., 0] if channels == 1 else samples, mode)
        options: dict[str, dict[str, Any]] = {
            "tga": {}, "bmp": {}, "webp": {"lossless": True, "exact": True}, "jp2": {}, "gif": {}, "ppm": {}, "qoi": {},
            "pcx": {},
            "avif": {"quality": 100, "subsampling": "4:4:4"}, "jpg": {"quality": 100, "subsampling": 0},
        }  # fmt: skip
        for suffix, given in options.items():
            if (suffix in ("bmp", "jpg", "ppm", "pcx", "gif") and channels == 4) or (suffix == "gif" and channels == 3):
                continue  # these have no opacity, or few colours
            if suffix == "qoi" and channels == 1:
                continue
            picture.save(tmp_path / f"x.{suffix}", **given)
            bound = {"jpg": 4, "avif": 4}.get(suffix, 1)
            assert difference(tmp_path / f"x.{suffix}", truth) <= bound, (suffix, mode)


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_2000_of_every_depth(tmp_path: Path, bits: int, channels: int) -> None:
    samples, values = quantized(smooth(channels), bits)
    path = tmp_path / "x.jp2"
    path.write_bytes(
        imagecodecs.jpeg2k_encode(
            samples if channels > 1 else samples[..., 0], bitspersample=bits, reversible=True, level=0
        )
    )
    assert difference(path, expected(values, None)) <= 1
    data = path.read_bytes()
    place = data.index(b"colr") + 7
    path.write_bytes(data[:place] + (12).to_bytes(4) + data[place + 4 :])  # the code of CMYK
    if bits > 8:
        with pytest.raises(UserError, match="this is a JPEG 2000 picture that is not of RGB or grey; save it as PNG"):
            image.read(path, key="content.path")


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "avif"])
def test_orientations(tmp_path: Path, orientation: int, suffix: str) -> None:
    samples, values = quantized(smooth(3), 8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = Image.fromarray(samples)
    lossless = {
        "jpg": {"quality": 100, "subsampling": 0},
        "webp": {"lossless": True},
        "avif": {"quality": 100, "subsampling": "4:4:4"},
    }.get(suffix, {})
    picture.save(tmp_path / f"x.{suffix}", exif=exif.tobytes(), **lossless)
    assert difference(tmp_path / f"x.{suffix}", expected(UPRIGHT[orientation](values), None)) <= (
        1 if suffix in ("png", "tif", "webp") else 12
    )


@pytest.mark.parametrize("suffix", ["png", "tga", "bmp", "tif", "webp"])
def test_an_opacity_of_0_everywhere_is_not_meant(tmp_path: Path, suffix: str) -> None:
    samples, values = quantized(smooth(3), 8)
    picture = Image.fromarray(np.concatenate([samples, np.zeros_like(samples[..., :1])], axis=2))
    picture.save(tmp_path / f"x.{suffix}", **({"lossless": True, "exact": True} if suffix == "webp" else {}))
    assert difference(tmp_path / f"x.{suffix}", expected(values, None)) <= 1


def test_long_texts_and_damaged_exif_do_not_matter(tmp_path: Path) -> None:
    samples, values = quantized(smooth(3), 8)
    path = tmp_path / "x.png"
    Image.fromarray(samples).save(path)
    insert(path, b"iTXt", b"text\0\1\0\0\0" + zlib.compress(b"x" * 3_000_000))
    insert(path, b"eXIf", b"II*\0\xff\xff\xff\xffdamaged")
    assert difference(path, expected(values, None)) <= 1


DATA = os.environ.get("NST_TEST_DATA")


@pytest.mark.skipif(DATA is None, reason="NST_TEST_DATA is not set")
def test_pictures_that_were_once_read_wrongly() -> None:
    folder = Path(str(DATA)) / "inputs"
    for name in (
        "alpha_zero_attribute0.tga",
        "big_itxt.png",
        "grey16_linear_icc.png",
        "grey16_whiteiszero.tif",
        "greyalpha8_linear_icc.png",
    ):
        assert np.asarray(image.read(folder / name, key="content.path")).mean() == pytest.approx(112, abs=2), name
    for name in ("mask_in_alpha.png", "mask_white_on_transparent.png"):
        assert np.asarray(image.read_mask(folder / name, key="mask")).mean() == pytest.approx(127.5, abs=1), name


def test_masks_of_transparent_pictures(tmp_path: Path) -> None:
    """White on nothing, black on nothing, a cut-out, and a drawing in both colours that lies on nothing."""
    path = tmp_path / "mask.png"
    shape = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    shape[4:12, 3:9] = 255
    photo, _ = quantized(smooth(3), 8)
    white, black = np.full_like(photo, 255), np.zeros_like(photo)
    for color in (white, black, photo):
        Image.fromarray(np.dstack([color, shape])).save(path)
        assert np.array_equal(np.asarray(image.read_mask(path, key="mask")), shape)
    drawn, around = black.copy(), np.zeros_like(shape)
    drawn[4:12, 3:9] = 255
    around[2:16, 1:15] = 255
    Image.fromarray(np.dstack([drawn, around])).save(path)
    assert np.array_equal(np.asarray(image.read_mask(path, key="mask")), shape)
    Image.fromarray(np.dstack([photo, np.zeros_like(shape) + 255])).save(path)
    assert np.array_equal(
        np.asarray(image.read_mask(path, key="mask")), np.asarray(Image.fromarray(photo).convert("L"))
    )
