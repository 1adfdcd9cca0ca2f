"""Finished pictures as files: sRGB with its profile, and with the configuration that made them."""

import io
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import png
import tifffile
import torch
import yaml
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from nst import image
from nst.errors import UserError, problem
from nst.file import replacing
from nst.sweep import HOW

#: The endings of the files, by the values of ``output``.
SUFFIXES = {"png": ".png", "png16": ".png", "jpeg": ".jpg", "tiff": ".tif"}

#: What the configuration is called within a PNG file, and what it begins with elsewhere.
KEYWORD = "nst"
FIRST_LINE = "# nst.train: run it again with rerun=FILE\n"

#: What the digests of the files are called in a note.
DIGESTS = "sha256"

Pixels = np.ndarray[Any, Any]


def note(config: Mapping[str, Any], digests: Mapping[str, str | None]) -> str:
    """A resolved configuration as it stands in a picture: what was computed, without a path or a time.

    ``digests`` are the SHA-256 of the files that it was made of, by name.
    """
    computed = {key: _without_paths(value) for key, value in config.items() if key not in HOW}
    return FIRST_LINE + yaml.safe_dump({**computed, DIGESTS: dict(digests)}, sort_keys=False)


def _without_paths(value: Any) -> Any:
    """The same with ``???``, which must be given, for each file."""
    if isinstance(value, Mapping):
        return {key: _without_paths(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_paths(item) for item in value]
    return "???" if isinstance(value, str) and Path(value).is_absolute() else value


def save(picture: Tensor, path: Path, *, format: str = "png", note: str = "") -> None:  # noqa: A002
    """Writes an image tensor, each value rounded to the nearest of 256, or of 65536, whole or not at all."""
    kind = torch.uint16 if format in ("png16", "tiff") else torch.uint8
    pixels = image.to_bytes(picture, kind).permute(1, 2, 0).numpy()
    with replacing(path) as temporary, temporary.open("wb") as file:
        _WRITERS[format](pixels, file, note)


def read_note(path: Path, *, key: str) -> dict[str, Any]:
    """The configuration in a picture that ``save`` has written. Raises UserError where there is none."""
    if not path.is_file():
        raise UserError(problem(key, path, "there is no such file"))
    try:
        with image.opened(path, key) as picture:
            texts = list(_texts(picture))
        found = yaml.safe_load(next(text for text in texts if text.startswith(FIRST_LINE)))
    except Exception as error:  # decoders of damaged files raise what they like
        why = "there is no configuration in this file; give a picture that nst.train has saved"
        raise UserError(problem(key, path, why)) from error
    if not isinstance(found, dict):
        raise UserError(problem(key, path, "the configuration in this file is damaged: it holds no keys"))
    return found


def _texts(picture: Image.Image) -> Iterator[str]:
    for text in (getattr(picture, "text", {}).get(KEYWORD), picture.info.get("comment")):
        if text is not None:
            yield text.decode("utf-8") if isinstance(text, bytes) else str(text)
    yield str(getattr(picture, "tag_v2", {}).get(_DESCRIPTION, ""))


#: TIFF's tag ImageDescription.
_DESCRIPTION = 270


def _png(pixels: Pixels, file: BinaryIO, note: str) -> None:
    texts = PngInfo()
    if note:
        texts.add_itxt(KEYWORD, note)
    Image.fromarray(pixels).save(file, format="PNG", icc_profile=_profile(), pnginfo=texts)


def _png16(pixels: Pixels, file: BinaryIO, note: str) -> None:
    """Pillow writes no colours of 16 bits, and pypng no profile: the other chunks are those of an empty picture."""
    small, large = io.BytesIO(), io.BytesIO()
    _png(np.zeros((1, 1, 3), dtype=np.uint8), small, note)
    height, width, _ = pixels.shape
    writer = png.Writer(width, height, greyscale=False, bitdepth=16)
    writer.write_packed(large, (row.astype(">u2").tobytes() for row in pixels))
    header, *data = _chunks(large)
    more = [chunk for chunk in _chunks(small) if chunk[0] not in (b"IHDR", b"IDAT", b"IEND")]
    png.write_chunks(file, [header, *more, *data])


def _chunks(file: io.BytesIO) -> list[tuple[bytes, bytes]]:
    file.seek(0)
    return list(png.Reader(file=file).chunks())


def _jpeg(pixels: Pixels, file: BinaryIO, note: str) -> None:
    comment = {"comment": note.encode()} if 0 < len(note.encode()) < 2**16 - 2 else {}  # what JPEG can hold
    Image.fromarray(pixels).save(file, format="JPEG", quality=95, subsampling=0, icc_profile=_profile(), **comment)


def _tiff(pixels: Pixels, file: BinaryIO, note: str) -> None:
    tifffile.imwrite(
        file, pixels, photometric="rgb", compression="zlib", iccprofile=_profile(), software=False, metadata=None,
        description=note.encode() or None,
    )  # fmt: skip


_WRITERS: Mapping[str, Callable[[Pixels, BinaryIO, str], None]] = {
    "png": _png, "png16": _png16, "jpeg": _jpeg, "tiff": _tiff
}  # fmt: skip


@cache
def _profile() -> bytes:
    """The ICC profile of sRGB, as of the day of its standard: else equal pictures would differ in their files."""
    made = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    day = b"".join(number.to_bytes(2, "big") for number in (1999, 10, 18, 0, 0, 0))
    return made[:24] + day + made[36:]
