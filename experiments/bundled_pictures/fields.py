"""Noise and flow fields.

A *field* is a float array of shape (rows, columns), or (rows, columns, 2) for a
flow.  Positions are given in design units: the unit of length in which every
picture is laid out, 768 of them to the longest side whatever the pixel size.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def perlin(x: Array, y: Array, seed: int) -> Array:
    """Gradient noise with features about one unit wide, roughly in [-1, 1]."""
    rng = np.random.default_rng(seed)
    table = np.concatenate([rng.permutation(256)] * 2)
    angles = rng.uniform(0, 2 * np.pi, 256)
    grad_x, grad_y = np.cos(angles), np.sin(angles)
    x0, y0 = np.floor(x).astype(int), np.floor(y).astype(int)
    fx, fy = x - x0, y - y0

    def corner(dx: int, dy: int) -> Array:
        index = table[table[(x0 + dx) & 255] + ((y0 + dy) & 255)]
        return grad_x[index] * (fx - dx) + grad_y[index] * (fy - dy)

    u = fx * fx * fx * (fx * (fx * 6 - 15) + 10)
    v = fy * fy * fy * (fy * (fy * 6 - 15) + 10)
    top = corner(0, 0) + u * (corner(1, 0) - corner(0, 0))
    bottom = corner(0, 1) + u * (corner(1, 1) - corner(0, 1))
    return 1.5 * (top + v * (bottom - top))


def fbm(x: Array, y: Array, seed: int, octaves: int = 5, gain: float = 0.5) -> Array:
    """Sum of `octaves` of noise, each twice as fine and `gain` times as strong."""
    total, weight, norm = np.zeros(np.broadcast(x, y).shape), 1.0, 0.0
    for octave in range(octaves):
        shift = 17.3 * octave
        total += weight * perlin(x * 2**octave + shift, y * 2**octave - shift, seed + octave)
        norm += weight
        weight *= gain
    return total / norm


def smoothstep(low: float, high: float, value: Array) -> Array:
    """0 below `low`, 1 above `high` (which may be the smaller), a smooth ramp between."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def blur(field: Array, radius: float) -> Array:
    """Gaussian blur along rows and columns; `radius` (one sigma) in pixels."""
    if radius <= 0:
        return field
    reach = max(1, int(np.ceil(2.5 * radius)))
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / radius) ** 2)
    taps /= taps.sum()
    for axis in (0, 1):
        pad = [(reach, reach) if k == axis else (0, 0) for k in range(field.ndim)]
        padded, size = np.pad(field, pad, mode="edge"), field.shape[axis]
        window = [slice(None)] * field.ndim
        out = np.zeros(field.shape)
        for k, tap in enumerate(taps):
            window[axis] = slice(k, k + size)
            out += tap * padded[tuple(window)]
        field = out
    return field


def unit(vx: Array, vy: Array) -> Array:
    """The flow of unit vectors along (vx, vy)."""
    norm = np.hypot(vx, vy) + 1e-9
    return np.stack([vx / norm, vy / norm], axis=-1)


def along(phase: Array) -> Array:
    """The flow along the level lines of `phase`."""
    gy, gx = np.gradient(phase)
    return unit(-gy, gx)


def mix_flow(base: Array, other: Array, weight: Array) -> Array:
    """`other` where `weight` is 1, `base` where it is 0, turning smoothly between."""
    sign = np.where((base * other).sum(-1) < 0, -1.0, 1.0)[..., None]
    vec = base + (other * sign - base) * weight[..., None]
    return unit(vec[..., 0], vec[..., 1])


def hug_edges(flow: Array, picture: Array, radius: float) -> Array:
    """`flow`, turned to run along the edges and lines of `picture`.

    The direction is that of least change in the structure tensor, averaged over
    `radius` pixels; it counts where the picture changes much, and one way only.
    """
    luma = blur(picture @ np.array([0.35, 0.45, 0.2]), 0.7)
    gy, gx = np.gradient(luma)
    xx, xy, yy = blur(np.stack([gx * gx, gx * gy, gy * gy], -1), radius).transpose(2, 0, 1)
    angle = 0.5 * np.arctan2(2 * xy, xx - yy) + np.pi / 2
    strength = np.hypot(xx - yy, 2 * xy)
    weight = smoothstep(0.0002, 0.0012, strength)
    return mix_flow(flow, unit(np.cos(angle), np.sin(angle)), weight)
