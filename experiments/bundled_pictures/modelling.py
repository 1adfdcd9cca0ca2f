"""Smoothly rounded limbs with light and shade.

The body is a height field: limbs are chains of spheres along smooth curves, the
surface is the highest of them, and its slope gives the light and shade.
"""

from __future__ import annotations

import numpy as np

from .fields import Array, blur, fbm, smoothstep
from .frame import Frame, curve, over, ramp

LIGHT = np.array([-0.50, -0.62, 0.60])  # towards the lamp: left, up, to the viewer
# A limb: its axis, the radius along it, and its depth towards the viewer (design units).
Limb = tuple[list[tuple[float, float]], list[float], float]


def height_field(frame: Frame, limbs: list[Limb]) -> Array:
    """Height of the surface of the limbs above the page; -inf beside them."""
    top = np.full(frame.x.shape, -np.inf)
    for axis, radii, depth in limbs:
        count = 16 * len(axis)
        points = curve(axis, count)
        widths = np.interp(np.linspace(0, 1, count), np.linspace(0, 1, len(radii)), radii)
        for (px, py), radius in zip(points, widths, strict=False):
            box = box_around(frame, px, py, radius)
            square = radius**2 - (frame.x[box] - px) ** 2 - (frame.y[box] - py) ** 2
            ball = np.where(square > 0, depth + np.sqrt(np.maximum(square, 0)), -np.inf)
            top[box] = np.maximum(top[box], ball)
    return top


def box_around(frame: Frame, px: float, py: float, radius: float) -> tuple[slice, slice]:
    """Slices of the pixels within `radius` of a point."""

    def span(middle: float) -> slice:
        low, high = ((middle + side * (radius + 1)) * frame.scale for side in (-1, 1))
        return slice(max(0, int(low)), max(0, int(high) + 1))

    return span(py), span(px)


def modelled(frame: Frame, picture: Array, limbs: list[Limb], tones: list[str], within: Array | None = None) -> Array:
    """Lay shaded limbs over the picture, where the mask `within` allows.

    `tones` are the colours from shadow to highlight.
    """
    fine = Frame(frame.width, frame.height, frame.size, fineness=2)
    top = height_field(fine, limbs)
    solid = np.isfinite(top)
    weight = blur(solid.astype(float), 2.6 * fine.scale)
    height = blur(np.where(solid, top, 0), 2.6 * fine.scale) / np.maximum(weight, 1e-3)
    slope_y, slope_x = np.gradient(height, 1 / fine.scale)
    bend = np.sqrt(1 + slope_x**2 + slope_y**2)
    lit = (-LIGHT[0] * slope_x - LIGHT[1] * slope_y + LIGHT[2]) / bend
    rim = 0.22 * smoothstep(0.55, 1.0, slope_x * -0.9 / bend + 0.1)
    tone = 0.16 + 0.72 * np.clip(lit, -0.1, 1) + rim * 0.4
    half = (frame.rows, 2, frame.columns, 2)
    mask = solid.reshape(half).mean((1, 3))
    tone = tone.reshape(half).mean((1, 3))
    tone = tone + 0.02 * fbm(frame.x / 26, frame.y / 26, 33, 3)
    mask = mask if within is None else mask * within
    return over(picture, ramp(tone, [0.05, 0.3, 0.58, 0.82, 1.0], tones), mask)
