"""The pictures that both sides see: shapes, the bundled ones at any shape, a pair from a folder."""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from nst import image
from nst.files import paths

#: Height and width in px.
Shape = tuple[int, int]

#: A content and a style picture that are always there.
BUNDLED = paths.bundled("content", "tubingen"), paths.bundled("style", "starry_night")


def shape(text: str) -> Shape:
    """``512`` is a square, ``768x1024`` a height and a width in px."""
    numbers = text.split("x")
    if len(numbers) > 2 or not all(number.isdigit() and int(number) >= 16 for number in numbers):
        raise argparse.ArgumentTypeError(f"{text}: a size is 512 or HEIGHTxWIDTH such as 768x1024, at least 16 px")
    return int(numbers[0]), int(numbers[-1])


def named(pixels: Shape) -> str:
    """How a shape is written: ``768x1024``."""
    return f"{pixels[0]}x{pixels[1]}"


def megapixels(name: str) -> float:
    """Of a shape as ``named`` writes it."""
    height, width = shape(name)
    return height * width / 1e6


def bundled(pixels: Shape) -> tuple[Tensor, Tensor]:
    """The bundled content and style image, stretched to a shape."""
    content, style = BUNDLED
    return (
        image.resize(image.load(content, key="content.path"), pixels),
        image.resize(image.load(style, key="style.path"), pixels),
    )


def pair(content: Path, style: Path, size: int) -> tuple[Tensor, Tensor]:
    """A content image whose longest side is ``size`` px and a style image stretched to it, as our runs have them."""
    loaded = image.load(content, key="content.path")
    height, width = loaded.shape[-2:]
    loaded = image.resize(loaded, image.fit(height, width, size))
    return loaded, image.resize(image.load(style, key="style.path"), (loaded.shape[-2], loaded.shape[-1]))


def anything(pixels: Shape) -> Tensor:
    """A picture to evaluate when only the cost counts."""
    return torch.rand(1, 3, *pixels, generator=torch.Generator().manual_seed(1))
