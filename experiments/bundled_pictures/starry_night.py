"""A night sky of swirling strokes over a village, after van Gogh's manner."""

from __future__ import annotations

import itertools

import numpy as np
from PIL import Image

from .canvas import Brush, Canvas
from .fields import Array, along, blur, fbm, hug_edges, mix_flow, smoothstep, unit
from .frame import Frame, curve, over, ramp, rgb

# Vortices: centre x, y, radius (design units), sense of turning.
VORTICES = [(335, 205, 118, 1), (478, 262, 74, -1), (205, 320, 60, 1)]
# Stars: centre x, y, radius of the halo (design units).
STARS = [
    (205, 52, 40),
    (262, 118, 26),
    (372, 48, 34),
    (470, 96, 36),
    (560, 58, 28),
    (585, 200, 30),
    (216, 212, 34),
    (265, 322, 46),
    (42, 60, 32),
    (530, 152, 20),
    (40, 190, 26),
]
MOON = (678, 92, 82)
NIGHT = ["0b1a4a", "14307a", "1f4fa6", "3f7cc4", "86b4d8", "d8e6d8"]


def paint(size: int) -> Image.Image:
    """Paint the picture, `size` pixels on its longest side."""
    frame = Frame(768, 608, size)
    target, flow = sky(frame)
    target, flow = hills(frame, target, flow)
    target = village(frame, target)
    tree, tree_flow = cypress(frame)
    fine = hug_edges(flow, target, 2.0 * frame.scale)
    canvas = Canvas(frame, rgb("15296a"), seed=11)
    land = smoothstep(408, 430, frame.y)
    canvas.cover(target, flow, Brush(16, 60, 8, cut=0.4))
    canvas.cover(target, flow, Brush(8, 46, 6, tone=0.06, cut=0.3), missing=0.05)
    canvas.cover(
        target,
        flow,
        Brush(6.2, 34, 5, spacing=1.0, tone=0.1, tint=0.03, cut=0.22),
        where=1 - 0.6 * land,
    )
    canvas.cover(target, fine, Brush(3, 14, 4, tone=0.04, cut=0.16), missing=0.22)
    village_lines(canvas)
    leaf = over(target, tree, tree_flow[1])
    canvas.cover(leaf, tree_flow[0], Brush(9, 60, 7, tone=0.05), where=tree_flow[1])
    canvas.cover(leaf, tree_flow[0], Brush(5, 40, 5, tone=0.07, cut=0.2), where=tree_flow[1])
    return canvas.finish()


def sky(frame: Frame) -> tuple[Array, Array]:
    """Colour and flow of the sky: drift, vortices, stars and moon."""
    x, y = frame.x, frame.y
    drift = y + 16 * np.sin(x / 95 + 0.6) + 10 * np.sin(x / 41 + y / 60) + 14 * fbm(x / 160, y / 160, 3, 3)
    flow = along(drift)
    tone = 0.26 + 0.13 * np.sin(drift / 8.5) + 0.2 * fbm(x / 120, y / 50, 7, 4)
    tone += 0.22 * smoothstep(300, 400, y)
    for cx, cy, radius, sense in VORTICES:
        dx, dy = x - cx, y - cy
        r, turn = np.hypot(dx, dy * 1.12), np.arctan2(dy, dx)
        weight = smoothstep(1.25 * radius, 0.7 * radius, r)
        arms = 0.5 + 0.5 * np.sin(r / radius * 15 - sense * 2 * turn)
        swirl = 0.2 + 0.55 * arms * smoothstep(0, 0.3 * radius, r) + 0.4 * np.exp(-((r / (0.2 * radius)) ** 2))
        tone = tone + (swirl - tone) * weight
        inward = 0.18 * sense
        flow = mix_flow(flow, unit(-dy - inward * dx * sense, dx - inward * dy * sense), weight)
    # A long pale wave runs across the sky into the vortices.
    wave = 262 + 46 * np.sin(x / 118 + 2.6) + 0.05 * x
    tone += 0.38 * np.exp(-(((y - wave) / 13) ** 2)) * smoothstep(60, 190, x)
    tone += 0.3 * np.exp(-(((y - 392 + 22 * np.sin(x / 130 + 1)) / 15) ** 2))
    colour = ramp(tone, [0, 0.2, 0.4, 0.6, 0.8, 1.0], NIGHT)
    glow = np.exp(-(((y - 384 + 22 * np.sin(x / 130 + 1)) / 16) ** 2)) * (0.5 + 0.5 * fbm(x / 60, y / 20, 9, 3))
    colour = over(colour, rgb("c9cf8e"), np.clip(0.55 * glow, 0, 1))
    for star in STARS:
        colour, flow = halo(frame, colour, flow, *star, crisp=1.0)
    colour, flow = halo(frame, colour, flow, *MOON, crisp=0.7)
    return crescent(frame, colour), flow


def halo(
    frame: Frame, colour: Array, flow: Array, cx: float, cy: float, radius: float, crisp: float
) -> tuple[Array, Array]:
    """Lay one star's concentric glow of the given radius over the sky."""
    dx, dy = frame.x - cx, frame.y - cy
    r = np.hypot(dx, dy) / radius
    rings = ramp(
        r + 0.06 * np.sin(r * 38),
        [0, 0.16, 0.3, 0.5, 0.72, 1.0],
        ["fffbe0", "fff0a0", "f3cf3c", "d9c95e", "8fb6a4", "4d86bc"],
    )
    mask = smoothstep(1.05, 0.62, r) * (1 - 0.32 * crisp * smoothstep(0.3, 0.6, r) * (1 - np.cos(r * 24)) / 2)
    colour = over(colour, rings, np.clip(mask, 0, 1))
    return colour, mix_flow(flow, unit(-dy, dx), smoothstep(1.35, 0.9, r))


def crescent(frame: Frame, colour: Array) -> Array:
    """Lay the crescent moon over its halo."""
    cx, cy, _ = MOON
    disc = frame.ellipse(cx, cy, 36, 36, soft=0.8)
    bite = frame.ellipse(cx - 17, cy - 7, 29, 30, soft=0.8)
    colour = over(colour, rgb("e3d873"), 0.9 * disc)
    colour = over(colour, rgb("c9cf7c"), np.clip(bite * disc, 0, 1))
    colour = over(colour, rgb("ef8f1c"), np.clip(disc - bite, 0, 1))
    core = frame.ellipse(cx + 2, cy, 29, 30, 1) - frame.ellipse(cx - 15, cy - 6, 31, 32, 1)
    return over(colour, rgb("ffc83c"), np.clip(core, 0, 1))


def hills(frame: Frame, target: Array, flow: Array) -> tuple[Array, Array]:
    """Rolling ridges from the far blue ones down to the near green ones."""
    x, y = frame.x, frame.y
    ridges = [
        (
            425 - 0.10 * x - 26 * np.exp(-(((x - 620) / 90) ** 2)) + 12 * np.sin(x / 60),
            "2b5592",
            "16316c",
        ),
        (452 - 0.09 * x + 16 * np.sin(x / 75 + 1.2), "3a6a9c", "1a3a70"),
        (492 - 0.06 * x + 12 * np.sin(x / 52 + 3), "3f7a78", "1d3f5e"),
        (520 + 9 * np.sin(x / 60 + 5), "3d6d52", "17353f"),
    ]
    for k, (ridge, light, dark) in enumerate(ridges):
        depth = y - ridge
        mask = smoothstep(-1, 1, depth)
        tone = np.exp(-np.maximum(depth, 0) / 24) + 0.35 * np.sin(depth / 4.2 + 3 * fbm(x / 70, y / 40, 40 + k, 3))
        body = rgb(dark) + (rgb(light) - rgb(dark)) * np.clip(tone, 0, 1.2)[..., None]
        target = over(target, body, mask)
        target = over(target, rgb("0c1838"), 0.9 * np.exp(-((depth / 2.2) ** 2)))
        contour = depth + 10 * fbm(x / 60, y / 60, 50 + k, 2)
        flow = np.where(mask[..., None] > 0.5, along(blur(contour, 1)), flow)
    return target, flow


def houses() -> list[tuple[float, float, float, float, str, str]]:
    """Houses as x, ground y, width, wall height, wall colour, roof colour."""
    walls = ["5d7fa6", "7f9cae", "486a94", "8fa58c", "6a86b0"]
    roofs = ["27406e", "7d4a3a", "1f3358", "54627e", "8c5a3c"]
    rng = np.random.default_rng(4)
    rows = []
    for base, count, grow in ((492, 11, 0.8), (524, 11, 1.0), (560, 9, 1.25)):
        for k in range(count):
            at = 215 + k * 480 / count + rng.uniform(-17, 17)
            rows.append(
                (
                    at,
                    base + rng.uniform(-13, 13),
                    grow * rng.uniform(32, 52),
                    grow * rng.uniform(11, 19),
                    walls[rng.integers(5)],
                    roofs[rng.integers(5)],
                )
            )
    return rows


def house_parts(
    at: float, base: float, wide: float, tall: float
) -> tuple[list[tuple[float, float]], list[tuple[float, float]], list[tuple[float, float]]]:
    """Gabled front, side wall and roof of a house seen from a corner."""
    front, top = 0.42 * wide, base - tall
    peak = top - 0.46 * front - 0.12 * wide
    gable = [(at, base), (at, top), (at + front / 2, peak), (at + front, top), (at + front, base)]
    side = [(at + front, base), (at + front, top), (at + wide, top), (at + wide, base)]
    roof = [
        (at + front / 2 - 2, peak - 1),
        (at + wide - front / 2, peak - 1),
        (at + wide + 3, top + 2),
        (at + front, top + 2),
    ]
    return gable, side, roof


def village(frame: Frame, target: Array) -> Array:
    """Bushes, houses with lit windows, and the church with its steeple."""
    rng = np.random.default_rng(8)
    for _ in range(90):
        bx, by, r = rng.uniform(170, 768), rng.uniform(490, 605), rng.uniform(8, 18)
        green = rgb(["1d4038", "2c5a44", "16303c", "41704a", "557a3e"][rng.integers(5)])
        target = over(target, green, frame.ellipse(bx, by, r * 1.3, r, 1.5))
        target = over(
            target,
            rgb("7f9a55"),
            0.4 * frame.ellipse(bx - 0.3 * r, by - 0.4 * r, r * 0.5, r * 0.35, 2),
        )
    for at, base, wide, tall, wall, roof in houses():
        gable, side, tiles = house_parts(at, base, wide, tall)
        target = over(target, 1.12 * rgb(wall), frame.polygons([gable]))
        target = over(target, 0.72 * rgb(wall), frame.polygons([side]))
        target = over(target, rgb(roof), frame.polygons([tiles]))
        if rng.random() < 0.7:
            wx = at + wide * rng.choice([0.12, 0.55, 0.75])
            pane = [(wx, base - 2), (wx, base - 9), (wx + 6, base - 9), (wx + 6, base - 2)]
            target = over(target, rgb("ffd84a"), frame.polygons([pane]))
    target = over(target, rgb("6f8fb4"), frame.polygon((420, 520), (420, 462), (442, 462), (442, 520)))
    nave = frame.polygon((438, 520), (438, 486), (452, 472), (482, 472), (494, 488), (494, 520))
    target = over(target, rgb("2a4472"), nave)
    target = over(target, rgb("20365f"), frame.polygon((417, 464), (431, 362), (445, 464)))
    return over(target, rgb("ffd84a"), frame.ellipse(431, 484, 4, 7))


def village_lines(canvas: Canvas) -> None:
    """Dark outlines drawn over the painted houses."""
    ink, pen = rgb("101d40"), Brush(1.8, 0, 2, dry=0.35, tone=0.03)
    outlines = [part for house in houses() for part in house_parts(*house[:4])]
    outlines.append([(420, 520), (420, 463), (431, 356), (442, 463), (442, 520)])
    outlines.append([(442, 486), (452, 472), (482, 472), (494, 488), (494, 520)])
    for line in outlines:
        for a, b in itertools.pairwise(line):
            canvas.stroke([a, b], ink, pen)


def cypress(frame: Frame) -> tuple[Array, tuple[Array, Array]]:
    """The cypress at the left: its colour, and its flow and mask."""
    x, y = frame.x, frame.y
    tongues = [
        [
            (118, 30),
            (136, 120),
            (150, 220),
            (172, 330),
            (182, 440),
            (196, 640),
            (60, 640),
            (64, 480),
            (84, 340),
            (98, 220),
            (108, 110),
        ],
        [(78, 170), (92, 260), (110, 380), (120, 640), (20, 640), (38, 470), (58, 330), (70, 240)],
        [(178, 260), (184, 340), (204, 440), (224, 640), (130, 640), (140, 440), (160, 340)],
        [(28, 400), (50, 470), (70, 640), (-20, 640), (4, 500)],
    ]
    mask = frame.polygons([curve(t, 120, closed=True) for t in tongues])
    lean = x + 0.06 * y + 9 * np.sin(y / 38) + 12 * fbm(x / 50, y / 110, 21, 3)
    tone = 0.5 + 0.35 * np.sin(lean / 5.5) + 0.5 * fbm(x / 24, y / 90, 22, 4)
    colour = ramp(tone, [0, 0.35, 0.7, 1.0, 1.3], ["080f14", "10231f", "1f3d2a", "4a4a26", "6d6a34"])
    return colour, (along(lean), mask)
