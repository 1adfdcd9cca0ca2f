"""A riverside row of gabled houses: a smoothly shaded, photo-like picture.

The town above the water is painted first; the river then shows it mirrored,
blurred and shaken by ripples.  Light falls from the upper left.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from . import riverside
from .fields import Array, blur, fbm, smoothstep
from .frame import Frame, over, ramp, rgb
from .gables import raise_house, row_of_houses

QUAY = 404  # top of the river wall, design units
WATER = 446  # waterline


def paint(size: int) -> Image.Image:
    """Render the picture, `size` pixels on its longest side."""
    frame = Frame(768, 576, size)
    picture = river(frame, town_above_water(frame))
    picture = riverside.punts(frame, picture)
    picture = riverside.overhang(frame, picture)
    return develop(frame, picture)


def town_above_water(frame: Frame) -> Array:
    """All that the river mirrors."""
    town = sky(frame)
    town = far_hill(frame, town)
    town = tower(frame, town)
    for facade in row_of_houses():
        town = raise_house(frame, town, facade)
    town = riverside.trees(frame, town)
    return riverside.wall(frame, town, QUAY, WATER)


def sky(frame: Frame) -> Array:
    """Blue sky, paler below, with soft heaped clouds."""
    x, y = frame.x, frame.y
    blue = ramp(y, [0, 140, 280], ["4f8fd0", "86b7e2", "c6dff0"])
    wx = x + 30 * fbm(x / 90, y / 70, 2, 4)
    heap = fbm(wx / 210, y / 95, 5, 6) + 0.22 * fbm(x / 36, y / 24, 9, 4)
    heap = heap + 0.30 * np.exp(-(((x - 590) / 190) ** 2) - ((y - 95) / 60) ** 2)
    heap = heap + 0.22 * np.exp(-(((x - 150) / 170) ** 2) - ((y - 70) / 40) ** 2)
    cover = smoothstep(0.04, 0.42, heap)
    below = fbm((wx - 14) / 210, (y - 16) / 95, 5, 6)
    light = np.clip(0.86 + 0.5 * (heap - below) - 0.12 * cover, 0, 1)
    white = ramp(light, [0.5, 0.8, 1.0], ["b4bfcc", "e9ecef", "ffffff"])
    return over(blue, white, 0.92 * cover)


def far_hill(frame: Frame, picture: Array) -> Array:
    """A hazy wooded hill behind the town."""
    x, y = frame.x, frame.y
    crest = 236 + 26 * np.sin(x / 210 + 2.4) + 9 * fbm(x / 34, y * 0, 14, 4)
    leaf = fbm(x / 13, y / 10, 16, 4)
    green = ramp(0.5 + 0.6 * leaf, [0, 0.5, 1], ["55746a", "769384", "9bb09a"])
    return over(picture, green, smoothstep(-1.5, 1.5, y - crest))


def tower(frame: Frame, picture: Array) -> Array:
    """The church: nave roof, square tower, gallery, and pointed spire."""
    x, y = frame.x, frame.y
    stone = ramp((x - 388) / 44 + 0.3 * fbm(x / 7, y / 5, 21, 3), [0, 0.5, 1], ["e2cfa8", "c9b48c", "97845f"])
    nave = frame.polygon((420, 300), (432, 176), (560, 176), (590, 230), (590, 300))
    tile = ramp(
        0.5 + 0.4 * fbm(x / 5, y / 3, 23, 3) - (y - 205) / 260,
        [0, 0.5, 1],
        ["6d3f30", "96583f", "b47350"],
    )
    picture = over(picture, tile, nave)
    picture = over(picture, stone, frame.polygon((388, 300), (388, 112), (432, 112), (432, 300)))
    picture = over(picture, rgb("d9c69c"), frame.polygon((383, 117), (383, 109), (437, 109), (437, 117)))
    picture = over(
        picture,
        rgb("8b7855"),
        0.7 * frame.polygon((383, 121), (383, 117), (437, 117), (437, 121), soft=0.8),
    )
    slate = ramp((x - 390) / 40, [0, 0.45, 1], ["7f8f94", "5d6c74", "3c474f"])
    picture = over(picture, slate, frame.polygon((390, 109), (410, 22), (430, 109)))
    picture = over(picture, rgb("c9a24a"), frame.lines([[(410, 24), (410, 8)], [(406, 13), (414, 13)]], 1.5))
    arches = [
        frame.ellipse(cx, 142, 4.5, 6)
        + frame.polygon((cx - 4.5, 142), (cx + 4.5, 142), (cx + 4.5, 164), (cx - 4.5, 164))
        for cx in (401, 419)
    ]
    picture = over(picture, rgb("3c3630"), 0.85 * np.clip(sum(arches), 0, 1))
    picture = over(picture, rgb("f3eedd"), frame.ellipse(410, 186, 10, 10))
    return over(
        picture,
        rgb("3a342c"),
        frame.lines([[(410, 186), (410, 179)], [(410, 186), (415, 188)]], 1.3),
    )


def river(frame: Frame, town: Array) -> Array:
    """The water below the wall: the town mirrored, shaken, and tinted green."""
    x, y = frame.x, frame.y
    depth = np.maximum(y - WATER, 0)
    # Ripples widen towards the viewer: rows are spaced by the logarithm of depth.
    rows = 15 * np.log1p(depth / 16)
    swell = fbm(x / 62, rows * 1.7, 31, 4) + 0.5 * fbm(x / 21, rows * 3.1, 35, 3)
    reach = 0.5 + 0.035 * depth
    source = np.stack([x + 5 * reach * swell, 2 * WATER - y - depth * 0.8 + 13 * reach * swell], -1)
    soft = blur(town, 1.3 * frame.scale)
    softer = blur(town, 4 * frame.scale)
    near = smoothstep(0, 110, depth)[..., None]
    mirrored = frame.sample(soft, source) * (1 - near) + frame.sample(softer, source) * near
    deep = ramp(depth, [0, 60, 140], ["4d5f45", "435a4a", "314a44"])
    tint = 0.20 + 0.16 * smoothstep(0, 130, depth)
    water = over(mirrored * np.array([0.95, 0.98, 0.95]), deep, tint)
    glint = smoothstep(0.28, 0.7, swell + 0.3 * fbm(x / 30, rows * 5, 37, 2))
    water = over(water, rgb("dbe8ee"), 0.22 * glint * smoothstep(0, 60, depth))
    water = over(water, rgb("1d2a24"), 0.55 * np.exp(-depth / 5))
    return over(town, water, smoothstep(WATER - 0.5, WATER + 0.5, y))


def develop(frame: Frame, picture: Array) -> Image.Image:
    """Slight haze, vignette, lens softness, and photographic grain."""
    picture = blur(picture, 0.45)
    far = np.hypot((frame.x - 384) / 520, (frame.y - 288) / 430)
    picture = picture * (1 - 0.22 * smoothstep(0.6, 1.2, far))[..., None]
    picture = picture + 0.035 * (picture - 0.5) * np.array([1.0, 0.9, 0.8])
    grain = np.random.default_rng(6).normal(0, 1, picture.shape[:2])
    return frame.image(picture + 0.013 * blur(grain, 0.5)[..., None])
