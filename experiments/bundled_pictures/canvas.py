"""A canvas in oils: bristly, tapered strokes laid along a flow field.

A stroke is a bundle of bristle lines drawn side by side at twice the output
resolution.  The fourth channel of the drawing holds the thickness of the paint,
so that one drawing call lays down both colour and relief; `finish` lights the
relief from the upper left.  Lengths are in design units (768 to the longest
side), colours are floats in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from .fields import Array, blur, fbm
from .frame import Frame, Points, curve

OVERSAMPLE = 2
HALF_STEPS = 6


@dataclass(frozen=True)
class Brush:
    """How one layer of strokes looks."""

    width: float  # across the stroke, design units
    length: float  # along the stroke, design units
    bristles: int = 6
    spacing: float = 0.75  # distance between stroke centres, in widths
    tone: float = 0.05  # lightness variation from stroke to stroke
    tint: float = 0.02  # hue variation from stroke to stroke
    grain: float = 0.04  # lightness variation from bristle to bristle
    cut: float = 0.3  # colour distance at which a stroke stops short
    dry: float = 0.12  # share of the bristles that carry no paint
    load: float = 1.0  # thickness of the paint


class Canvas:
    """Paint being built up on a ground of one colour."""

    def __init__(self, frame: Frame, ground: Array, seed: int) -> None:
        self.frame = frame
        self.rng = np.random.default_rng(seed)
        self.zoom = frame.scale * OVERSAMPLE
        size = (frame.columns * OVERSAMPLE, frame.rows * OVERSAMPLE)
        fill = (*tuple(int(255 * c) for c in ground), 90)
        self.paint = Image.new("RGBA", size, fill)
        self.pen = ImageDraw.Draw(self.paint)

    def cover(
        self,
        target: Array,
        flow: Array,
        brush: Brush,
        where: Array | None = None,
        missing: float = 0.0,
    ) -> None:
        """Paint `target` with one layer of strokes that follow `flow`.

        `where` is the chance, per pixel, that a stroke starts there; with
        `missing` above zero, strokes start only where the canvas is at least
        that far (in colour) from the target.
        """
        starts = self._starts(brush)
        keep = np.ones(len(starts), bool)
        if where is not None:
            keep &= self.rng.random(len(starts)) < self.frame.sample(where, starts)
        if missing > 0:
            error = np.abs(self.colours() - target).sum(-1)
            error = blur(error, 0.35 * brush.width * self.frame.scale)
            keep &= self.frame.sample(error, starts) > missing
        starts = starts[keep]
        colours = self.frame.sample(target, starts)
        paths = self._trace(starts, colours, target, flow, brush)
        self._lay(paths, colours, brush)

    def stroke(self, points: Points, colour: Array, brush: Brush) -> None:
        """One long stroke of the brush, smoothly through `points`."""
        knots = np.asarray(points, float)
        length = np.linalg.norm(np.diff(knots, axis=0), axis=1).sum()
        path = curve(knots, max(8, int(length / 5)))
        path += self.rng.normal(0, 0.04 * brush.width, path.shape)
        self._lay(path[None], np.asarray(colour)[None], brush)

    def colours(self) -> Array:
        """The canvas as it stands, at output resolution, without relief."""
        small = self.paint.convert("RGB").reduce(OVERSAMPLE)
        return np.asarray(small, dtype=float) / 255

    def finish(self, relief: float = 0.9, weave: float = 0.012) -> Image.Image:
        """The lit canvas: `relief` scales the shading, `weave` the cloth's texture."""
        height = np.asarray(self.paint.getchannel("A").reduce(OVERSAMPLE), float) / 255
        slope_y, slope_x = np.gradient(blur(height, 0.6))
        shade = np.clip(relief * (0.6 * slope_x + 0.8 * slope_y), -0.25, 0.25)
        x, y = self.frame.x, self.frame.y
        cloth = np.sin(x * 2.1) * np.sin(y * 2.1) + 0.8 * fbm(x / 3, y / 3, 5, 2)
        light = 1 + shade + weave * cloth
        lit = self.colours() * light[..., None] + 0.25 * np.maximum(shade, 0)[..., None]
        return self.frame.image(lit)

    def _starts(self, brush: Brush) -> Array:
        """Jittered grid of stroke centres in random order, (count, 2)."""
        pitch = brush.width * brush.spacing * 1.4
        gx, gy = np.meshgrid(
            np.arange(-pitch / 2, self.frame.width + pitch, pitch),
            np.arange(-pitch / 2, self.frame.height + pitch, pitch),
        )
        points = np.stack([gx.ravel(), gy.ravel()], -1)
        points += self.rng.uniform(-0.6, 0.6, points.shape) * pitch
        return self.rng.permutation(points)

    def _trace(self, starts: Array, colours: Array, target: Array, flow: Array, brush: Brush) -> Array:
        """Stroke axes through `starts`, (count, 2 * HALF_STEPS + 1, 2)."""
        lengths = brush.length * self.rng.uniform(0.6, 1.25, (len(starts), 1))
        halves = []
        for sign in (-1.0, 1.0):
            at, alive = starts, np.ones((len(starts), 1), bool)
            heading = sign * self.frame.sample(flow, starts)
            points = []
            for _ in range(HALF_STEPS):
                turn = self.frame.sample(flow, at)
                turn = np.where((turn * heading).sum(-1, keepdims=True) < 0, -turn, turn)
                ahead = at + turn * lengths / (2 * HALF_STEPS)
                change = np.abs(self.frame.sample(target, ahead) - colours).sum(-1)
                alive = alive & (change < 3 * brush.cut)[:, None]
                at, heading = np.where(alive, ahead, at), turn
                points.append(at)
            halves.append(points)
        return np.stack(halves[0][::-1] + [starts] + halves[1], axis=1)

    def _lay(self, paths: Array, colours: Array, brush: Brush) -> None:
        """Draw the strokes with axes `paths` (count, points, 2), in order."""
        count, steps = paths.shape[:2]
        if count == 0:
            return
        rng, hairs = self.rng, brush.bristles
        tangent = np.gradient(paths, axis=1)
        tangent /= np.linalg.norm(tangent, axis=-1, keepdims=True) + 1e-6
        normal = np.stack([-tangent[..., 1], tangent[..., 0]], -1)
        t = np.linspace(-1, 1, steps)
        taper = np.sqrt(1 - 0.85 * np.abs(t) ** 3)
        offsets = np.linspace(-0.5, 0.5, hairs) if hairs > 1 else np.zeros(1)
        offsets = offsets + rng.normal(0, 0.3 / hairs, (count, hairs))
        across = brush.width * offsets[..., None] * taper
        lines = paths[:, None] + normal[:, None] * across[..., None]
        lines = (lines * self.zoom).reshape(count, hairs, steps * 2).tolist()

        shade = rng.normal(0, brush.tone, (count, 1, 1))
        shade = shade + rng.normal(0, brush.tint, (count, 1, 3))
        shade = shade + rng.normal(0, brush.grain, (count, hairs, 1))
        body = 128 + brush.load * (rng.uniform(-40, 60, (count, 1, 1)) + rng.normal(0, 24, (count, hairs, 1)))
        fills = np.concatenate([(colours[:, None] + shade) * 255, body], -1)
        fills = np.clip(fills, 0, 255).astype(int).tolist()
        ragged = 3 if steps > 8 else 2
        heads = (2 * rng.integers(0, ragged, (count, hairs))).tolist()
        tails = (2 * (steps - rng.integers(0, ragged, (count, hairs)))).tolist()
        wet = (rng.random((count, hairs)) >= brush.dry).tolist()
        hair = max(1, round(1.5 * brush.width * self.zoom / hairs))
        for n in range(count):
            for b in range(hairs):
                if wet[n][b]:
                    line = lines[n][b][heads[n][b] : tails[n][b]]
                    self.pen.line(line, fill=tuple(fills[n][b]), width=hair)
