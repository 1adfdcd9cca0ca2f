"""A seated figure broken into facets, in the manner of analytic cubism."""

from __future__ import annotations

import numpy as np
from PIL import Image

from .canvas import Brush, Canvas
from .fields import Array, blur, fbm, hug_edges, smoothstep, unit
from .frame import Frame, curve, over, ramp, rgb

SIZE = (608, 768)  # design units
AXIS = np.array([[300, 60], [296, 170], [300, 330], [310, 520], [300, 700]])
EARTH = ["17130f", "3a2c20", "6b5236", "9a7b4e", "c4a873", "e6d7ae"]
SLATE = ["14161a", "2b3138", "515a60", "7d8582", "a9aa9b", "d6d1b8"]

# The sitter and the chair: outline, lightness, direction in which it rounds away.
PARTS = [
    (
        [
            (118, 330),
            (108, 470),
            (96, 768),
            (520, 768),
            (508, 470),
            (486, 320),
            (440, 290),
            (160, 296),
        ],
        0.22,
        (1, 0),
    ),
    ([(264, 150), (340, 150), (350, 260), (250, 260)], 0.55, (1, 0)),
    (
        [(150, 270), (300, 232), (452, 268), (438, 350), (398, 470), (200, 470), (164, 350)],
        0.66,
        (1, 0.3),
    ),
    (
        [
            (150, 270),
            (196, 280),
            (184, 380),
            (150, 470),
            (236, 520),
            (222, 552),
            (112, 500),
            (122, 370),
        ],
        0.6,
        (1, 0.2),
    ),
    (
        [
            (452, 268),
            (412, 284),
            (420, 380),
            (452, 460),
            (372, 530),
            (390, 560),
            (492, 490),
            (480, 360),
        ],
        0.52,
        (1, 0.2),
    ),
    (
        [(190, 460), (410, 460), (476, 560), (450, 640), (300, 600), (150, 640), (130, 560)],
        0.7,
        (0.3, 1),
    ),
    ([(132, 570), (286, 590), (262, 768), (150, 768)], 0.6, (1, 0)),
    ([(320, 590), (474, 570), (452, 768), (340, 768)], 0.5, (1, 0)),
    (
        [
            (302, 44),
            (356, 66),
            (374, 116),
            (360, 176),
            (310, 214),
            (264, 184),
            (244, 124),
            (256, 70),
        ],
        0.75,
        (1, 0.2),
    ),
]


def paint(size: int) -> Image.Image:
    """Paint the picture, `size` pixels on its longest side."""
    frame = Frame(*SIZE, size)
    rng = np.random.default_rng(14)
    cells = fracture(rng)
    dark, light = edges(cells, rng)
    target, flow = facets(frame, cells, rng)
    shadow = blur(frame.lines(dark, 7), 4 * frame.scale)
    target = over(target, rgb("1a140e"), 0.42 * shadow)
    signs = contours()
    soft = blur(frame.lines(signs, 8), 3.5 * frame.scale)
    target = over(target, rgb("1a130d"), 0.4 * soft)
    fine = hug_edges(flow, target, 2.0 * frame.scale)
    canvas = Canvas(frame, rgb("6b5a42"), seed=41)
    canvas.cover(target, flow, Brush(15, 32, 9, tone=0.02, cut=0.14))
    canvas.cover(target, flow, Brush(8, 20, 7, tone=0.03, tint=0.012, cut=0.09))
    canvas.cover(target, fine, Brush(4.5, 12, 5, tone=0.03, tint=0.01, cut=0.07), missing=0.08)
    canvas.cover(target, fine, Brush(2.4, 8, 4, tone=0.02, cut=0.06, dry=0.05), missing=0.12)
    canvas.cover(target, fine, Brush(1.6, 6, 3, tone=0.01, cut=0.06, dry=0), missing=0.16)
    for colour, width, paths in (("d9c89c", 1.6, light), ("1d1712", 2.2, dark), ("120e0b", 3.2, signs)):
        pen = Brush(width, 0, 3, dry=0.1, tone=0.02)
        for path in paths:
            canvas.stroke(path, rgb(colour), pen)
    return canvas.finish(relief=0.6)


def near_figure(points: Array) -> Array:
    """Distance of points (..., 2) to the middle line of the figure, design units."""
    line = curve(AXIS, 40)
    return np.sqrt(((points[..., None, :] - line) ** 2).sum(-1)).min(-1)


def cut(cell: Array, point: Array, angle: float) -> list[Array]:
    """The two convex parts of a convex cell on either side of a line."""
    normal = np.array([-np.sin(angle), np.cos(angle)])
    side = (cell - point) @ normal
    parts: list[list[Array]] = [[], []]
    for k in range(len(cell)):
        a, b, sa, sb = cell[k - 1], cell[k], side[k - 1], side[k]
        if sa * sb < 0:
            crossing = a + (b - a) * sa / (sa - sb)
            parts[0].append(crossing)
            parts[1].append(crossing)
        parts[0 if sb >= 0 else 1].append(b)
    return [np.array(part) for part in parts if len(part) > 2]


def area(cell: Array) -> float:
    """Area of a polygon, square design units."""
    x, y = cell[:, 0], cell[:, 1]
    return 0.5 * abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))


def fracture(rng: np.random.Generator) -> list[Array]:
    """Split the canvas into convex facets, smaller towards the figure."""
    angles = np.deg2rad([90, 62, 118, 35, 145, 8, 78, 102])
    queue = [np.array([(0, 0), (SIZE[0], 0), (SIZE[0], SIZE[1]), (0, SIZE[1])], float)]
    done = []
    while queue:
        cell = queue.pop()
        middle = cell.mean(0)
        reach = float(near_figure(middle))
        limit = rng.uniform(0.6, 1.5) * (1500 + 26 * max(0.0, reach - 70))
        if area(cell) < limit:
            done.append(cell)
            continue
        long = cell[np.argmax(np.linalg.norm(cell - middle, axis=1))] - middle
        tries = rng.permutation(angles)[:3] + rng.normal(0, 0.09, 3)
        angle = max(tries, key=lambda a: abs(np.sin(a - np.arctan2(long[1], long[0]))))
        point = middle + rng.normal(0, 0.12, 2) * np.sqrt(area(cell))
        queue.extend(cut(cell, point, angle))
    return done


def volumes(frame: Frame) -> tuple[Array, Array]:
    """The figure before it is broken up: lightness, and presence in [0, 1]."""
    light = 0.30 + 0.10 * fbm(frame.x / 160, frame.y / 160, 3, 3)
    light = light + 0.12 * smoothstep(500, 0, frame.x)
    presence = np.zeros(frame.x.shape)
    for outline, tone, (ax, ay) in PARTS:
        shape = np.asarray(outline, float)
        mask = frame.polygons([curve(shape, 90, closed=True)], soft=2)
        centre, half = shape.mean(0), np.ptp(shape, axis=0) / 2
        turn = ax * (frame.x - centre[0]) / half[0] + ay * (frame.y - centre[1]) / half[1]
        shade = tone - 0.24 * turn - 0.14 * turn**2
        light = light + (shade - light) * mask
        presence = np.maximum(presence, mask * (tone > 0.3))
    return light, presence


def facets(frame: Frame, cells: list[Array], rng: np.random.Generator) -> tuple[Array, Array]:
    """Colour and brush direction of every facet: each sees the figure displaced."""
    light, presence = volumes(frame)
    target = frame.fill(rgb("6b5a42"))
    angle = np.zeros(frame.x.shape)
    for cell in cells:
        mask = frame.polygons([cell])
        inside = mask > 0.5
        if not inside.any():
            continue
        middle = cell.mean(0)
        shift = rng.normal(0, 9, 2)
        here = np.stack([frame.x[inside], frame.y[inside]], -1) + shift
        centre = frame.sample(light, middle + shift)
        body = frame.sample(presence, middle + shift)
        heading = rng.choice([0.3, 1.1, 1.9, 2.6, 3.6]) + rng.normal(0, 0.2)
        slope = ((here - shift - middle) @ [np.cos(heading), np.sin(heading)]) / np.sqrt(area(cell))
        tone = 0.62 * centre + 0.38 * frame.sample(light, here) + rng.normal(0, 0.055)
        tone = tone + (0.24 + 0.08 * body) * slope
        warm = np.clip(0.42 + 0.45 * body + rng.normal(0, 0.3) + 0.25 * slope, 0, 1)[:, None]
        stops = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
        target[inside] = ramp(tone, stops, EARTH) * warm + ramp(tone, stops, SLATE) * (1 - warm)
        angle[inside] = heading + np.pi / 2 + rng.normal(0, 0.15)
    angle = angle + 0.35 * fbm(frame.x / 50, frame.y / 50, 9, 2)
    return target, unit(np.cos(angle), np.sin(angle))


def edges(cells: list[Array], rng: np.random.Generator) -> tuple[list[Array], list[Array]]:
    """The facets' edges to be drawn dark, and those to be drawn light."""
    dark, light = [], []
    for cell in cells:
        for a, b in zip(cell, np.roll(cell, -1, axis=0), strict=False):
            near = near_figure((a + b) / 2) < 190
            draw = rng.random()
            if draw < (0.42 if near else 0.16):
                dark.append(np.array([a, b]))
            elif draw < (0.58 if near else 0.2):
                light.append(np.array([a, b]))
    return dark, light


def contours() -> list[Array]:
    """The drawn signs that let the eye find the sitter: face, hands, chair."""
    arcs = [
        [(302, 46), (350, 62), (372, 112), (362, 170), (316, 212)],
        [(256, 72), (246, 122), (262, 178), (306, 212)],
        [(272, 108), (286, 100), (300, 108)],
        [(314, 112), (332, 102), (350, 112)],
        [(276, 116), (286, 111), (298, 117), (286, 122), (276, 116)],
        [(318, 120), (332, 113), (346, 120), (332, 126), (318, 120)],
        [(286, 178), (304, 172), (324, 179)],
        [(290, 182), (304, 188), (320, 182)],
        [(150, 272), (210, 252), (262, 236)],
        [(344, 236), (400, 250), (452, 270)],
        [(150, 272), (126, 360), (114, 480)],
        [(452, 270), (484, 360), (492, 480)],
        [(206, 350), (240, 388), (284, 362)],
        [(322, 362), (362, 390), (402, 350)],
        [(300, 250), (296, 350), (300, 450)],
        [(132, 566), (200, 520), (300, 540)],
        [(476, 562), (410, 512), (312, 540)],
        [(262, 764), (280, 660), (286, 596)],
        [(340, 764), (326, 660), (320, 596)],
    ]
    straights = [
        [(304, 104), (288, 160), (308, 164)],
        [(250, 70), (300, 40), (362, 70)],
        [(262, 236), (268, 186)],
        [(344, 236), (340, 190)],
        [(96, 200), (86, 420), (70, 640)],
        [(512, 190), (524, 420), (538, 640)],
        [(96, 200), (180, 178)],
        [(512, 190), (440, 174)],
        [(86, 420), (128, 470)],
        [(524, 420), (484, 470)],
    ]
    for k in range(4):
        straights.append([(226 + 9 * k, 524 + 5 * k), (282 + 4 * k, 540 + 9 * k)])
        straights.append([(376 - 9 * k, 530 + 5 * k), (326 - 4 * k, 546 + 8 * k)])
    return [curve(arc, 40) for arc in arcs] + [np.array(line, float) for line in straights]
