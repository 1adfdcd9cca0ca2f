"""A ghostly figure on a bridge under a burning sky, after Munch's manner."""

from __future__ import annotations

import numpy as np
from PIL import Image

from .canvas import Brush, Canvas
from .fields import Array, along, fbm, hug_edges, mix_flow, smoothstep
from .frame import Frame, Points, curve, over, ramp, rgb

HORIZON = 268  # design units from the top
FIGURE = (312, 452)  # middle of the head
FIGURE_SCALE = 1.22

# Outlines from the middle of the head, before scaling: hand, eye and fingers on the right.
SKULL = [
    (-2, -64),
    (26, -56),
    (42, -32),
    (43, -4),
    (32, 24),
    (25, 50),
    (14, 74),
    (0, 80),
    (-13, 74),
    (-24, 50),
    (-31, 24),
    (-43, -4),
    (-43, -32),
    (-29, -56),
]
HAND = [
    (45, 84),
    (56, 72),
    (60, 46),
    (58, 14),
    (54, -14),
    (47, -30),
    (42, -24),
    (42, 4),
    (38, 30),
    (34, 52),
    (36, 72),
]
EYE = [(10, -9), (18, -16), (27, -9), (18, 0)]
FINGERS = [
    [(53, -12), (53, 12), (50, 38)],
    [(48, -22), (48, 8), (45, 36)],
    [(57, 14), (57, 30), (54, 46)],
    [(40, 44), (46, 52), (48, 64)],
]


def paint(size: int) -> Image.Image:
    """Paint the picture, `size` pixels on its longest side."""
    frame = Frame(608, 768, size)
    target, flow = sky(frame)
    target, flow = fjord(frame, target, flow)
    target, flow, deck = bridge(frame, target, flow)
    target = walkers(frame, target)
    target, flow = body(frame, target, flow)
    target = head(frame, target)
    fine = hug_edges(flow, target, 2.0 * frame.scale)
    canvas = Canvas(frame, rgb("8a5a3a"), seed=23)
    open_air = 1 - 0.5 * deck
    canvas.cover(target, flow, Brush(17, 110, 9, tone=0.03, cut=0.4))
    canvas.cover(target, flow, Brush(9, 95, 7, tone=0.045, tint=0.025, cut=0.28), where=open_air)
    canvas.cover(target, flow, Brush(5, 60, 5, tone=0.05, tint=0.02, cut=0.2), missing=0.1)
    canvas.cover(target, fine, Brush(2.8, 18, 4, tone=0.025, cut=0.14), missing=0.16)
    canvas.cover(target, fine, Brush(1.8, 9, 3, tone=0.02, cut=0.1, dry=0), missing=0.2)
    contours(canvas)
    return canvas.finish()


def sky(frame: Frame) -> tuple[Array, Array]:
    """Wavy bands of orange, red and yellow with a few pale streaks."""
    x, y = frame.x, frame.y
    swell = 17 * np.sin(x / 88 + 0.4 + y / 210) + 9 * np.sin(x / 43 - y / 120 + 1.7)
    phase = y + swell * (0.5 + y / 300) + 16 * fbm(x / 190, y / 120, 2, 3)
    band = 0.5 + 0.30 * np.sin(phase / 11.5) + 0.20 * np.sin(phase / 5.1 + 1.3 * np.sin(x / 140))
    band += 0.25 * fbm(x / 150, phase / 16, 5, 3)
    colour = ramp(
        band,
        [0.0, 0.2, 0.42, 0.62, 0.82, 1.0],
        ["8e1f14", "c23417", "e2571a", "ef8420", "f6b53c", "f9d978"],
    )
    cool = smoothstep(0.35, 0.75, np.sin(phase / 23 + 2.2) * 0.8 + 0.5 * fbm(x / 120, phase / 30, 12, 2))
    colour = over(colour, rgb("8fa79a"), 0.75 * cool * smoothstep(30, 120, y))
    return colour, along(phase)


def fjord(frame: Frame, colour: Array, flow: Array) -> tuple[Array, Array]:
    """Dark swirling water and land, with a pale bay in the middle distance."""
    x, y = frame.x, frame.y
    shore = HORIZON + 10 * np.sin(x / 60) - 34 * smoothstep(380, 600, x)
    dx, dy = x - 470, y - 395
    r = np.hypot(dx, dy * 1.5)
    sweep = (y - HORIZON) * 0.9 + 34 * np.sin(x / 95 + 1.2) + 20 * fbm(x / 150, y / 150, 31, 3)
    eddy = smoothstep(240, 90, r)
    phase = sweep + (r * 1.1 - sweep) * eddy
    tone = 0.45 + 0.34 * np.sin(phase / 9.5) + 0.35 * fbm(x / 90, phase / 24, 33, 4)
    water = ramp(
        tone,
        [0.0, 0.25, 0.5, 0.75, 1.0],
        ["0c1524", "182e46", "25506a", "4d7f7c", "93a67a"],
    )
    bay = np.exp(-(((dx + 70) / 150) ** 2) - ((y - 330) / 30) ** 2)
    water = over(water, rgb("d9b765"), np.clip(0.9 * bay * (0.75 + 0.35 * np.sin(phase / 5)), 0, 1))
    mask = smoothstep(-2, 2, y - shore)
    colour = over(colour, water, mask)
    colour = over(colour, rgb("122036"), 0.8 * np.exp(-(((y - shore) / 4) ** 2)))
    return colour, mix_flow(flow, along(phase), mask)


def bridge(frame: Frame, colour: Array, flow: Array) -> tuple[Array, Array, Array]:
    """The deck running away to the left, and its railing; returns the deck's mask too."""
    x, y = frame.x, frame.y
    far = (-10, 352)
    deck = frame.polygon((-20, 372), far, (30, 368), (640, 690), (640, 800), (-20, 800))
    turn = np.arctan2(y - 300, x + 150)
    planks = 0.5 + 0.3 * np.sin(turn * 95) + 0.45 * fbm(turn * 26, np.hypot(x, y) / 170, 41, 4)
    wood = ramp(
        planks,
        [0.0, 0.3, 0.6, 0.85, 1.1],
        ["3a2018", "6f3c22", "a5673a", "c9955a", "7d8c88"],
    )
    colour = over(colour, wood, deck)
    flow = mix_flow(flow, along(turn), deck)
    for start, end, width in (((-20, 300), (640, 560), 13), ((-20, 332), (640, 622), 9), ((-20, 362), (640, 684), 15)):
        colour = over(colour, rgb("5c2a1a"), frame.lines([[start, end]], width))
        lit = [(start[0], start[1] - 0.25 * width), (end[0], end[1] - 0.25 * width)]
        colour = over(colour, rgb("c9763a"), frame.lines([lit], 0.35 * width))
        rail = frame.lines([[start, end]], width + 2)
        flow = mix_flow(flow, along(y - x * (end[1] - start[1]) / 660), rail)
    for px in (60, 170, 300, 450, 585):
        post = frame.lines([[(px, 300 + 0.394 * (px + 20)), (px, 366 + 0.488 * (px + 20))]], 6 + px / 60)
        colour = over(colour, rgb("4a2116"), post)
    return colour, flow, deck


def walkers(frame: Frame, colour: Array) -> Array:
    """Two distant figures at the far end of the bridge."""
    for wx, foot, tall in ((44, 478, 132), (92, 486, 122)):
        neck, hem = foot - 0.82 * tall, foot - 30
        outline = [
            (wx - 4, neck),
            (wx + 9, neck + 12),
            (wx + 12, hem),
            (wx + 9, foot),
            (wx - 11, foot),
            (wx - 14, hem),
            (wx - 11, neck + 12),
        ]
        coat = curve(outline, 60, closed=True)
        colour = over(colour, rgb("151d2c"), frame.polygons([coat]))
        colour = over(
            colour,
            rgb("2d3c52"),
            frame.lines([[(wx - 6, foot - tall * 0.7), (wx - 7, foot - 8)]], 3, 1),
        )
        colour = over(colour, rgb("a5673a"), frame.ellipse(wx - 1, foot - tall * 0.89, 6.5, 9))
        colour = over(colour, rgb("10151f"), frame.ellipse(wx - 1, foot - tall * 0.965, 8.5, 5))
    return colour


def at_figure(points: Points) -> Array:
    """Points given from the middle of the figure's head, in the picture."""
    return np.asarray(points, float) * FIGURE_SCALE + FIGURE


def shape(points: Points) -> Array:
    """Smooth closed outline through points given from the middle of the head."""
    return curve(at_figure(points), 160, closed=True)


def mirrored(points: list[tuple[float, float]], side: int) -> list[tuple[float, float]]:
    """The points on the figure's right (side 1) or left (side -1)."""
    return [(side * px, py) for px, py in points]


def body(frame: Frame, colour: Array, flow: Array) -> tuple[Array, Array]:
    """The swaying dark coat and the raised sleeves."""
    dx, dy = frame.x - FIGURE[0], frame.y - FIGURE[1]
    coat = shape(
        [
            (-20, 64),
            (22, 64),
            (44, 96),
            (50, 150),
            (42, 200),
            (58, 250),
            (70, 330),
            (-78, 330),
            (-58, 250),
            (-46, 200),
            (-46, 150),
            (-44, 96),
        ]
    )
    arm = [(34, 150), (66, 136), (78, 112), (70, 86), (52, 66)]
    sleeves = [curve(at_figure(mirrored(arm, side)), 40) for side in (-1, 1)]
    mask = np.maximum(frame.polygons([coat]), frame.lines(sleeves, 34))
    sway = dx + 18 * np.sin(dy / 52) + 7 * np.sin(dy / 23)
    tone = 0.42 + 0.33 * np.sin(sway / 7.5) + 0.4 * fbm(dx / 26, dy / 90, 61, 3)
    cloth = ramp(tone, [0, 0.35, 0.7, 1.05], ["0b0e16", "1b2434", "3a4453", "767263"])
    colour = over(colour, cloth, mask)
    rim = frame.lines([*sleeves, np.vstack([coat, coat[:1]])], 5)
    colour = over(colour, rgb("090c14"), 0.75 * rim)
    colour = over(colour, cloth * 1.2, frame.lines(sleeves, 25))
    return colour, mix_flow(flow, along(sway), mask)


def head(frame: Frame, colour: Array) -> Array:
    """The skull-like head and its features, with the hands at its cheeks."""
    skull = shape(SKULL)
    dx, dy = (frame.x - FIGURE[0]) / FIGURE_SCALE, (frame.y - FIGURE[1]) / FIGURE_SCALE
    tone = 0.9 - 0.006 * dx - 0.0016 * dy - 0.00020 * dx * dx + 0.10 * fbm(dx / 14, dy / 26, 71, 3)
    skin = ramp(tone, [0.1, 0.4, 0.7, 1.0], ["5a4a30", "9c854e", "cdb67c", "e9dcae"])
    colour = over(colour, skin, frame.polygons([skull]))
    for side in (-1, 1):
        cheek = shape(mirrored([(22, 12), (33, 10), (26, 44), (18, 56), (17, 34)], side))
        colour = over(colour, rgb("8a7348"), 0.75 * frame.polygons([cheek], soft=3))
        socket = shape(mirrored([(6, -14), (18, -24), (32, -14), (28, 2), (16, 5), (7, -2)], side))
        colour = over(colour, rgb("6d5a38"), 0.85 * frame.polygons([socket], soft=2))
        colour = over(colour, rgb("d9cfa6"), frame.polygons([shape(mirrored(EYE, side))]))
        px, py = at_figure((18 * side, -8))
        colour = over(colour, rgb("15110e"), frame.ellipse(px, py, 3.2, 3.8))
        px, py = at_figure((3.4 * side + 1, 18))
        colour = over(colour, rgb("3a2c1c"), frame.ellipse(px, py, 1.8, 3.0))
    colour = over(
        colour,
        rgb("8f5c3c"),
        frame.polygons([shape([(1, 28), (12, 40), (12, 58), (1, 69), (-10, 58), (-10, 40)])], soft=1),
    )
    colour = over(
        colour,
        rgb("140c0a"),
        frame.polygons([shape([(1, 33), (8, 42), (8, 56), (1, 64), (-6, 56), (-6, 42)])]),
    )
    return hands(frame, colour)


def hands(frame: Frame, colour: Array) -> Array:
    """Long pale hands pressed to the sides of the head."""
    for side in (-1, 1):
        palm = shape(mirrored(HAND, side))
        outward = side * (frame.x - FIGURE[0]) / FIGURE_SCALE
        tone = 0.019 * (outward - 34) + (0.2 if side > 0 else 0.4)
        skin = ramp(tone, [0, 0.4, 0.9], ["b0976a", "dcc993", "eddfb2"])
        colour = over(colour, skin, frame.polygons([palm]))
    return colour


def contours(canvas: Canvas) -> None:
    """The dark drawing of the head, the eyes and the fingers, over the paint."""
    ink = rgb("1d1610")
    canvas.stroke(shape(SKULL + SKULL[:1]), ink, Brush(3.4, 0, 4, dry=0.15, tone=0.03))
    for side in (-1, 1):
        hand = shape(mirrored(HAND + HAND[:1], side))
        canvas.stroke(hand, ink, Brush(2.6, 0, 3, dry=0.15, tone=0.03))
        canvas.stroke(shape(mirrored(EYE + EYE[:1], side)), ink, Brush(1.8, 0, 2, dry=0))
        for gap in FINGERS:
            path = at_figure(mirrored(gap, side))
            canvas.stroke(path, rgb("4a3820"), Brush(1.8, 0, 2, dry=0, tone=0.02))
