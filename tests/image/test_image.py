"""Pictures of every kind are read right."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from nst import image
from nst.errors import UserError
from nst.image import output

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def colors(path: Path) -> list[tuple[int, ...]]:
    """The pixels of a picture, row by row."""
    tensor = image.load(path, key="content.path")
    assert tensor.dtype == torch.float32
    assert tensor.ndim == 4
    return [tuple(pixel.tolist()) for pixel in image.to_bytes(tensor).permute(1, 2, 0).reshape(-1, 3)]


def four() -> Image.Image:
    """Red and green above blue and white."""
    picture = Image.new("RGB", (2, 2))
    picture.putdata([RED, GREEN, BLUE, WHITE])
    return picture


TURNED = {
    1: [RED, GREEN, BLUE, WHITE],
    2: [GREEN, RED, WHITE, BLUE],
    3: [WHITE, BLUE, GREEN, RED],
    4: [BLUE, WHITE, RED, GREEN],
    5: [RED, BLUE, GREEN, WHITE],
    6: [BLUE, RED, WHITE, GREEN],
    7: [WHITE, GREEN, BLUE, RED],
    8: [GREEN, WHITE, RED, BLUE],
}


@pytest.mark.parametrize("orientation", TURNED)
def test_exif_orientations(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    four().save(tmp_path / "x.png", exif=exif)
    assert colors(tmp_path / "x.png") == TURNED[orientation]


def test_alpha_lies_on_white(tmp_path: Path) -> None:
    picture = Image.new("RGBA", (3, 1))
    picture.putdata([(255, 0, 0, 255), (255, 0, 0, 0), (0, 0, 0, 128)])
    picture.save(tmp_path / "x.png")
    assert colors(tmp_path / "x.png") == [RED, WHITE, (127, 127, 127)]


def test_palettes_with_and_without_transparency(tmp_path: Path) -> None:
    indexed = four().quantize(4)
    indexed.save(tmp_path / "x.png")
    assert colors(tmp_path / "x.png") == [RED, GREEN, BLUE, WHITE]
    indexed.save(tmp_path / "y.png", transparency=indexed.getpixel((0, 0)))
    assert colors(tmp_path / "y.png") == [WHITE, GREEN, BLUE, WHITE]


def test_cmyk(tmp_path: Path) -> None:
    Image.new("CMYK", (1, 1), (0, 255, 255, 0)).save(tmp_path / "x.tif")
    assert colors(tmp_path / "x.tif") == [RED]


@pytest.mark.parametrize("mode", ["I;16", "F", "L", "1"])
def test_greys_of_every_depth(tmp_path: Path, mode: str) -> None:
    values = {"I;16": np.uint16([[0, 32896, 65535]]), "F": np.float32([[0, 128 / 255, 1]])}
    grey = Image.fromarray(values[mode]) if mode in values else Image.fromarray(np.uint8([[0, 128, 255]]))
    if mode == "1":
        grey = grey.point(lambda v: 255 * (v > 200)).convert("1")
    path = tmp_path / ("x.tif" if mode == "F" else "x.png")
    grey.save(path)
    middle = 0 if mode == "1" else 128
    assert colors(path) == [(0, 0, 0), (middle,) * 3, WHITE]


def test_an_embedded_profile_is_converted_to_srgb(tmp_path: Path) -> None:
    wide = _profile_with_swapped_primaries()
    Image.new("RGB", (1, 1), (200, 30, 30)).save(tmp_path / "x.png", icc_profile=wide)
    expected = ImageCms.profileToProfile(
        Image.new("RGB", (1, 1), (200, 30, 30)), io.BytesIO(wide), ImageCms.createProfile("sRGB")
    )
    assert expected is not None
    assert colors(tmp_path / "x.png") == [expected.getpixel((0, 0))]
    assert colors(tmp_path / "x.png") != [(200, 30, 30)]


def test_a_broken_profile_is_ignored(tmp_path: Path) -> None:
    four().save(tmp_path / "x.png", icc_profile=b"nonsense")
    assert colors(tmp_path / "x.png") == [RED, GREEN, BLUE, WHITE]


def _profile_with_swapped_primaries() -> bytes:
    """sRGB's profile, its red and blue primaries exchanged."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for offset in range(132, 132 + 12 * int.from_bytes(profile[128:132]), 12):
        name = bytes(profile[offset : offset + 4])
        profile[offset : offset + 4] = {b"rXYZ": b"bXYZ", b"bXYZ": b"rXYZ"}.get(name, name)
    return bytes(profile)


def test_a_missing_file_a_folder_text_and_a_truncated_picture(tmp_path: Path) -> None:
    four().resize((64, 64)).save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:-200])
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "empty.png").write_bytes(b"")
    for name, why in {
        "none.jpg": "no such file",
        ".": "not a file",
        "text.jpg": "not a picture",
        "empty.png": "not a picture",
        "cut.jpg": "can't be read",
    }.items():
        with pytest.raises(UserError, match=f"style.path=.*{why}"):
            image.load(tmp_path / name, key="style.path")


def test_saving_rounds_and_reads_back(tmp_path: Path) -> None:
    values = torch.tensor([0.0, 0.49 / 255, 0.51 / 255, 1.0, 1.7, -3.0]).view(1, 1, 1, 6).expand(1, 3, 1, 6)
    (tmp_path / "folder").mkdir()
    output.save(values, tmp_path / "folder" / "x.png")
    assert [pixel[0] for pixel in colors(tmp_path / "folder" / "x.png")] == [0, 0, 1, 255, 255, 0]
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["x.png"]


@pytest.mark.parametrize(("size", "expected"), [(64, (32, 64)), (10, (5, 10)), (None, (20, 40))])
def test_the_longest_side_becomes_the_size(size: int | None, expected: tuple[int, int]) -> None:
    assert image.fit(20, 40, size) == expected


def test_resizing_keeps_flat_colours_and_bounds() -> None:
    flat = torch.full((1, 3, 9, 7), 0.25)
    torch.testing.assert_close(image.resize(flat, (30, 40)), torch.full((1, 3, 30, 40), 0.25))
    step = torch.zeros(1, 3, 8, 8)
    step[..., 4:] = 1
    assert 0 <= image.resize(step, (33, 33)).min() <= image.resize(step, (33, 33)).max() <= 1
