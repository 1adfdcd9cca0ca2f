"""Pictures whose samples are known, and what a reader should make of them."""

import io
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from nst import image
from nst.errors import UserError

from ..conftest import Command

#: A file's kind, its bytes, and the picture in [0, 255] that it stands for, or the message that refuses it.
Case = tuple[Any, bytes, NDArray[np.float64] | str]

HEIGHT, WIDTH = 24, 18

#: Chromaticities (x, y) of sRGB's red, green and blue.
SRGB = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06)


def smooth(channels: int) -> NDArray[np.float64]:
    """A picture (H, W, channels) in [0, 1] without hard edges, another in each channel."""
    y, x = np.mgrid[0 : 1 : HEIGHT * 1j, 0 : 1 : WIDTH * 1j]
    planes = [0.5 + 0.5 * np.sin(3 * x * (1 + c) + 2 * y * (2 - c) + c) for c in range(channels)]
    return np.stack(planes, axis=-1)


def quantized(values: NDArray[np.float64], bits: int) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """The samples of so many bits, and the values that they stand for."""
    full = 2**bits - 1
    samples = np.round(values * full)
    return samples.astype(np.uint8 if bits <= 8 else np.uint16 if bits <= 16 else np.uint32), samples / full


def to_srgb(linear: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055)


def expected(
    color: NDArray[np.float64], alpha: NDArray[np.float64] | None, *, linear: bool = False
) -> NDArray[np.float64]:
    """The picture in [0, 255] that a reader should make of colours and opacity: on white, as RGB."""
    color = to_srgb(color) if linear else color
    rgb = np.repeat(color, 3, axis=2) if color.shape[2] == 1 else color
    return 255 * (rgb if alpha is None else rgb * alpha[..., None] + 1 - alpha[..., None])


def difference(path: Path, truth: NDArray[np.float64]) -> float:
    found = np.asarray(image.read(path, key="content.path"), dtype=np.float64)
    return float(np.abs(found - np.round(truth)).max()) if found.shape == truth.shape else np.inf


def profile(space: str) -> bytes:
    """A profile of sRGB's primaries without its curve."""
    primaries = [*SRGB[:2], 1, *SRGB[2:4], 1, *SRGB[4:], 1]
    given = {} if space == "gray" else {"whitepoint": [0.3127, 0.3290, 1], "primaries": primaries}
    made: bytes = imagecodecs.cms_profile(space, gamma=1.0, **given)
    return made


def packed(plane: NDArray[Any], bits: int) -> bytes:
    """The samples of a plane, most significant bits first, each row at a whole byte."""
    rows = plane.reshape(len(plane), -1)
    places = np.arange(bits - 1, -1, -1)
    return b"".join(np.packbits((row[:, None] >> places & 1).astype(np.uint8)).tobytes() for row in rows)


def with_chunk(data: bytes, kind: bytes, content: bytes) -> bytes:
    """A PNG with a chunk behind its header."""
    chunk = len(content).to_bytes(4) + kind + content + zlib.crc32(kind + content).to_bytes(4)
    return data[:33] + chunk + data[33:]


def insert(path: Path, kind: bytes, data: bytes) -> None:
    """Put a chunk behind the header of a PNG."""
    path.write_bytes(with_chunk(path.read_bytes(), kind, data))


def saved(samples: NDArray[np.uint8], form: str, **options: Any) -> bytes:
    """The file that Pillow makes of samples."""
    file = io.BytesIO()
    options |= {"WEBP": {"exact": True}, "AVIF": {"speed": 10}}.get(form, {})
    Image.fromarray(np.ascontiguousarray(samples.squeeze())).save(file, form, **options)
    return file.getvalue()


def count(cases: Iterable[Case], path: Path) -> tuple[int, int]:
    """Check each case, with its bytes at ``path``; return how many are read, and how many are refused."""
    read = refused = 0
    for kind, data, truth in cases:
        path.write_bytes(data)
        if isinstance(truth, str):
            with pytest.raises(UserError, match=truth) as caught:
                image.read(path, key="content.path")
            assert len("".join(caught.value.problems).splitlines()) == 1, kind
            refused += 1
        else:
            assert difference(path, truth) <= 1, kind
            read += 1
    return read, refused


def assert_refusal_ends_the_program(run: Command, cases: Iterable[Case], folder: Path) -> None:
    """The first case that is refused ends the program, which runs in ``folder``, before anything is written."""
    path = folder / "x"
    path.write_bytes(next(data for _, data, truth in cases if isinstance(truth, str)))
    finished = run(f"content.path={path}", "hydra.run.dir=run")
    assert finished.returncode == 2
    assert f"error: content.path={path}: this " in finished.stderr
    assert "Traceback" not in finished.stderr
    assert not (folder / "run").exists()
