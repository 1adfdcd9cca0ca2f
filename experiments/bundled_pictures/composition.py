"""Circles, arcs, lines and grids in vivid colours, in Kandinsky's manner."""

from __future__ import annotations

import numpy as np
from PIL import Image

from .canvas import Brush, Canvas
from .fields import Array, along, blur, fbm, hug_edges, smoothstep
from .frame import Frame, Points, curve, over, ramp, rgb

VIVID = [
    "d8281f",
    "f2b01c",
    "1f4fa8",
    "2a8a5c",
    "e5702a",
    "6a3a8c",
    "e88aa0",
    "3aa6c4",
    "f5d34c",
    "17181c",
]

# Discs: centre x, y, radius (design units), colours from the rim inwards.
DISCS = [
    (142, 132, 74, ["17181c", "5a2f86", "c9364a", "17181c"]),
    (508, 196, 62, ["f5d34c", "e5702a", "f8f1dc", "1f4fa8"]),
    (352, 250, 48, ["d8281f", "f2b01c", "2a8a5c"]),
    (652, 306, 50, ["3aa6c4", "f8f1dc", "1f4fa8"]),
    (240, 330, 36, ["e88aa0", "d8281f"]),
    (596, 110, 30, ["f2b01c", "d8281f"]),
    (80, 300, 30, ["2a8a5c", "f5d34c"]),
    (460, 386, 34, ["17181c", "f2b01c", "d8281f"]),
    (700, 72, 24, ["1f4fa8", "e88aa0"]),
    (318, 450, 22, ["f5d34c", "17181c"]),
]


def paint(size: int) -> Image.Image:
    """Paint the picture, `size` pixels on its longest side."""
    frame = Frame(768, 512, size)
    rng = np.random.default_rng(5)
    target = ground(frame)
    target = clouds(frame, target, rng)
    target = planes(frame, target)
    target = discs(frame, target)
    target = grids(frame, target)
    target = small_signs(frame, target, rng)
    angle_source = 60 * fbm(frame.x / 130, frame.y / 130, 4, 3) + 10 * blur(target.sum(-1), 5)
    flow = along(blur(angle_source, 2))
    fine = hug_edges(flow, target, 2.0 * frame.scale)
    canvas = Canvas(frame, rgb("efe6cc"), seed=52)
    canvas.cover(target, flow, Brush(14, 34, 8, tone=0.018, cut=0.2))
    canvas.cover(target, flow, Brush(7, 22, 6, tone=0.028, tint=0.015, cut=0.13), missing=0.04)
    canvas.cover(target, fine, Brush(4, 12, 5, tone=0.03, tint=0.015, cut=0.1), missing=0.09)
    canvas.cover(target, fine, Brush(2.2, 7, 4, tone=0.02, cut=0.08, dry=0.04), missing=0.09)
    canvas.cover(target, fine, Brush(1.5, 5, 3, tone=0.01, cut=0.08, dry=0), missing=0.09)
    for points, code, width in drawing():
        canvas.stroke(points, rgb(code), Brush(width, 0, max(2, round(1.5 * width)), dry=0.06, tone=0.02))
    return canvas.finish(relief=0.42)


def ground(frame: Frame) -> Array:
    """Cream ground, unevenly washed."""
    wash = 0.5 + 0.7 * fbm(frame.x / 240, frame.y / 200, 2, 5)
    return ramp(wash, [0, 0.5, 1], ["d9cfb4", "efe5c8", "f8f1dc"])


def clouds(frame: Frame, target: Array, rng: np.random.Generator) -> Array:
    """Soft-edged patches of colour under the drawing."""
    spots = [
        (250, 210, 120, 90, "f0b93a"),
        (470, 190, 130, 95, "7fb2cf"),
        (360, 330, 150, 90, "e58a5a"),
        (590, 320, 110, 90, "d9768c"),
        (130, 350, 110, 80, "6f9f7a"),
        (640, 130, 90, 70, "f2cf5a"),
        (120, 120, 90, 80, "8f7fb8"),
        (420, 260, 80, 60, "c9362a"),
        (300, 440, 120, 45, "4a7fb5"),
        (520, 430, 110, 50, "8fb56a"),
    ]
    for k, (cx, cy, rx, ry, code) in enumerate(spots):
        warp = 0.5 * fbm(frame.x / 70, frame.y / 70, 20 + k, 4)
        r = np.hypot((frame.x - cx) / rx, (frame.y - cy) / ry) + warp
        target = over(target, rgb(code), 0.78 * smoothstep(1.0, 0.55, r))
    return target


def glaze(target: Array, code: str, mask: Array, strength: float = 0.95) -> Array:
    """Lay transparent colour: half covering, half darkening what is below."""
    colour = rgb(code)
    return over(target, 0.72 * colour + 0.28 * target * colour, strength * mask)


def shade(frame: Frame, angle: float, seed: int) -> Array:
    """A factor that varies over a shape, so that no patch is flat."""
    slant = (frame.x - 384) * np.cos(angle) + (frame.y - 256) * np.sin(angle)
    return 0.82 + 0.18 * np.sin(slant / 46) + 0.2 * fbm(frame.x / 40, frame.y / 40, seed, 4)


def planes(frame: Frame, target: Array) -> Array:
    """Triangles, wedges and leaf shapes."""
    shapes = [
        ([(210, 440), (330, 96), (398, 420)], "f2c230"),
        ([(420, 470), (500, 150), (566, 452)], "2c62b4"),
        ([(40, 250), (190, 200), (150, 330)], "d8352a"),
        ([(560, 60), (730, 40), (650, 190)], "2f8f66"),
        ([(300, 60), (356, 36), (348, 118)], "17181c"),
        ([(600, 440), (740, 380), (716, 486)], "e5702a"),
        ([(150, 470), (290, 452), (240, 500)], "6a3a8c"),
        ([(462, 60), (520, 92), (448, 128)], "e88aa0"),
        ([(60, 60), (120, 44), (104, 120)], "3aa6c4"),
        ([(330, 300), (480, 250), (440, 350)], "b8231c"),
    ]
    for k, (points, code) in enumerate(shapes):
        mask = frame.polygons([points])
        flecked = mask * np.clip(shade(frame, k, 60 + k), 0.3, 1)
        target = glaze(target, code, flecked)
    leaves = [
        ([(90, 420), (150, 360), (240, 350), (190, 420)], "1f7a5a"),
        ([(520, 250), (600, 210), (700, 250), (610, 290)], "c9281f"),
        ([(270, 180), (330, 150), (420, 170), (350, 210)], "264f9c"),
        ([(660, 300), (700, 330), (690, 400), (650, 360)], "f2b01c"),
    ]
    for k, (points, code) in enumerate(leaves):
        mask = frame.polygons([curve(points, 60, closed=True)])
        target = glaze(target, code, mask * np.clip(shade(frame, 2 * k, 80 + k), 0.3, 1))
    return target


def discs(frame: Frame, target: Array) -> Array:
    """Circles with rings, halos and dark rims."""
    for k, (cx, cy, radius, codes) in enumerate(DISCS):
        glow = smoothstep(1.55, 0.95, np.hypot(frame.x - cx, frame.y - cy) / radius)
        target = over(target, rgb(codes[1]), 0.42 * glow)
        for ring, code in enumerate(codes):
            r = radius * (1 - ring / len(codes))
            mask = frame.ellipse(cx + 3 * ring, cy - 2 * ring, r, r * 0.98)
            target = over(target, rgb(code), 0.93 * mask * np.clip(shade(frame, k + ring, 100 + k), 0.55, 1))
    return target


def grids(frame: Frame, target: Array) -> Array:
    """Slanted checkerboards and ladders."""
    boards = [
        ((250, 60), (22, 6), (-5, 20), 4, 3),
        ((596, 376), (18, -8), (8, 17), 5, 4),
        ((60, 400), (17, 5), (-6, 16), 4, 4),
        ((404, 96), (13, -4), (4, 13), 4, 5),
    ]
    for k, (origin, u, v, columns, rows) in enumerate(boards):
        at, right, down = (np.array(p, float) for p in (origin, u, v))
        for i in range(columns):
            for j in range(rows):
                corner = at + i * right + j * down
                pale = VIVID[(i * 3 + j * 5 + k) % 9] if (i + k) % 2 else "f8f1dc"
                code = "17181c" if (i + j) % 2 else pale
                cell = [corner, corner + right, corner + right + down, corner + down]
                target = over(target, rgb(code), 0.92 * frame.polygons([cell]))
    return target


def small_signs(frame: Frame, target: Array, rng: np.random.Generator) -> Array:
    """A scatter of little dots, bars, commas and half-moons."""
    for _ in range(70):
        cx, cy = rng.uniform(25, 743), rng.uniform(20, 492)
        code, r, turn = VIVID[rng.integers(10)], rng.uniform(3, 9), rng.uniform(0, np.pi)
        kind = rng.integers(4)
        if kind == 0:
            mask = frame.ellipse(cx, cy, r, r)
        elif kind == 1:
            mask = frame.lines([[(cx, cy), (cx + 4 * r * np.cos(turn), cy + 4 * r * np.sin(turn))]], 0.7 * r)
        elif kind == 2:
            comma = [(cx, cy), (cx + 2 * r, cy - 1.5 * r), (cx + 3.5 * r, cy + r)]
            mask = frame.lines([curve(comma, 20)], 0.6 * r)
        else:
            bite = frame.ellipse(cx + r, cy - 0.5 * r, 1.4 * r, 1.4 * r)
            mask = np.clip(frame.ellipse(cx, cy, 1.5 * r, 1.5 * r) - bite, 0, 1)
        target = over(target, rgb(code), 0.95 * mask)
    return target


def drawing() -> list[tuple[Points, str, float]]:
    """The lines over the paint, as points, colour and width: diagonals, whips, arcs, combs."""
    ink = "131316"
    strokes: list[tuple[Points, str, float]] = [
        ([(20, 480), (360, 20)], ink, 4.2),
        ([(120, 500), (470, 30)], ink, 2.2),
        ([(400, 500), (760, 90)], ink, 5.2),
        ([(430, 20), (740, 470)], ink, 2.6),
        ([(30, 210), (420, 320)], ink, 3.2),
        ([(480, 330), (750, 240)], ink, 3.6),
        ([(540, 20), (500, 240)], ink, 2.2),
        ([(250, 500), (690, 300)], "b8231c", 2.6),
        ([(100, 20), (250, 270)], "1f4fa8", 2.6),
        ([(40, 470), (110, 400), (90, 340), (180, 310), (230, 380), (310, 380)], ink, 4.0),
        ([(540, 470), (600, 420), (560, 370), (640, 350), (690, 420), (750, 400)], ink, 3.6),
        ([(380, 60), (440, 20), (480, 70), (540, 30), (590, 70)], ink, 4.4),
        ([(180, 40), (220, 90), (190, 150), (260, 190), (300, 160)], ink, 3.2),
        ([(330, 390), (380, 360), (420, 400), (470, 340), (520, 360)], "b8231c", 3.4),
    ]
    for cx, cy, first, last in ((400, 430, 2.9, 5.4), (690, 200, 1.4, 4.2), (60, 190, 4.6, 6.8), (300, 110, -0.6, 1.6)):
        for ring in range(4):
            turn, radius = np.linspace(first, last, 12), 26 + 11 * ring
            arc = np.stack([cx + radius * np.cos(turn), cy + radius * np.sin(turn)], -1)
            strokes.append((arc, [ink, "b8231c", ink, "1f4fa8"][ring], 5.0 - ring * 0.7))
    for k in range(9):
        strokes.append(([(620 + 9 * k, 214 - 5 * k), (634 + 9 * k, 244 - 5 * k)], ink, 2.8))
        strokes.append(([(176 + 8 * k, 250 + 3 * k), (168 + 8 * k, 282 + 3 * k)], ink, 2.8))
    for cx, cy, radius, _ in DISCS:
        turn = np.linspace(0.4, 6.6, 20)
        rim = np.stack([cx + radius * np.cos(turn), cy + radius * np.sin(turn)], -1)
        strokes.append((rim, ink, 3.0))
    return strokes
