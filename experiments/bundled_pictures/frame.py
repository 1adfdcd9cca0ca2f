"""The picture plane: design units, masks of shapes, and blending.

Shapes are given in design units (768 to the longest side of the picture),
masks are float fields in [0, 1] with antialiased edges, and pictures are float
arrays of shape (rows, columns, 3) in [0, 1].
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image, ImageDraw

from .fields import Array, blur

MASK_OVERSAMPLE = 3
Points = Sequence[tuple[float, float]] | Array


class Frame:
    """A plane of `width` by `height` design units, `scale` pixels to the unit.

    `size` is the longest side in pixels; each is split into `fineness` squared.
    """

    def __init__(self, width: float, height: float, size: int, fineness: int = 1) -> None:
        self.width, self.height, self.size = width, height, size
        self.columns = round(width * size / max(width, height)) * fineness
        self.rows = round(height * size / max(width, height)) * fineness
        self.scale = size / max(width, height) * fineness
        self.x, self.y = np.meshgrid(
            (np.arange(self.columns) + 0.5) / self.scale,
            (np.arange(self.rows) + 0.5) / self.scale,
        )

    def sample(self, field: Array, points: Array) -> Array:
        """`field` at the pixels nearest to `points` (..., 2), clamped to the edge."""
        column = np.clip((points[..., 0] * self.scale).astype(int), 0, self.columns - 1)
        row = np.clip((points[..., 1] * self.scale).astype(int), 0, self.rows - 1)
        return field[row, column]

    def fill(self, colour: Array) -> Array:
        """A picture of one colour."""
        return np.ones((self.rows, self.columns, 3)) * colour

    def polygons(self, shapes: Iterable[Points], soft: float = 0) -> Array:
        """Mask of the union of polygons; `soft` blurs its edge (design units)."""
        plate, pen = self._plate()
        for shape in shapes:
            pen.polygon(self._flat(shape), fill=255)
        return self._mask(plate, soft)

    def polygon(self, *points: tuple[float, float], soft: float = 0) -> Array:
        """Mask of one polygon."""
        return self.polygons([points], soft)

    def ellipse(self, x: float, y: float, rx: float, ry: float, soft: float = 0) -> Array:
        """Mask of an upright ellipse around (x, y)."""
        turn = np.linspace(0, 2 * np.pi, 96)
        ring = np.stack([x + rx * np.cos(turn), y + ry * np.sin(turn)], -1)
        return self.polygons([ring], soft)

    def lines(self, paths: Iterable[Points], width: float, soft: float = 0) -> Array:
        """Mask of polylines of the given width."""
        plate, pen = self._plate()
        thick = max(1, round(width * self.scale * MASK_OVERSAMPLE))
        for path in paths:
            pen.line(self._flat(path), fill=255, width=thick, joint="curve")
        return self._mask(plate, soft)

    def image(self, picture: Array) -> Image.Image:
        """The picture as an RGB image."""
        return Image.fromarray((np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8))

    def _plate(self) -> tuple[Image.Image, ImageDraw.ImageDraw]:
        size = (self.columns * MASK_OVERSAMPLE, self.rows * MASK_OVERSAMPLE)
        plate = Image.new("L", size, 0)
        return plate, ImageDraw.Draw(plate)

    def _flat(self, points: Points) -> list[float]:
        flat = np.asarray(points, float) * (self.scale * MASK_OVERSAMPLE)
        return flat.ravel().tolist()

    def _mask(self, plate: Image.Image, soft: float) -> Array:
        mask = np.asarray(plate.reduce(MASK_OVERSAMPLE), float) / 255
        return blur(mask, soft * self.scale)


def rgb(code: str) -> Array:
    """The colour written as six hexadecimal digits."""
    return np.array([int(code[k : k + 2], 16) for k in (0, 2, 4)]) / 255


def ramp(value: Array, stops: Sequence[float], codes: Sequence[str]) -> Array:
    """Colour of each value, interpolated between colours set at `stops`."""
    table = np.array([rgb(code) for code in codes])
    return np.stack([np.interp(value, stops, table[:, k]) for k in range(3)], -1)


def over(picture: Array, colour: Array, mask: Array) -> Array:
    """`picture` with `colour` (one colour, or a picture) laid over it through `mask`."""
    return picture + (colour - picture) * mask[..., None]


def curve(points: Points, count: int = 40, closed: bool = False) -> Array:
    """Smooth (Catmull-Rom) curve of `count` points through the given points."""
    knots = np.asarray(points, float)
    if closed:
        knots = np.concatenate([knots[-1:], knots, knots[:2]])
    else:
        knots = np.concatenate([2 * knots[:1] - knots[1:2], knots, 2 * knots[-1:] - knots[-2:-1]])
    s = np.linspace(0, len(knots) - 3, count) * (1 - 1e-9)
    k, t = s.astype(int), (s % 1)[:, None]
    a, b, c, d = (knots[k + j] for j in range(4))
    return b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
