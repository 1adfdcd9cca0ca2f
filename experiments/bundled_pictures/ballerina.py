"""A dancer in arabesque under a spotlight: a smoothly shaded, photo-like picture.

The net of the tutu is drawn in thin layers; the body comes from `modelling`.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from .fields import Array, blur, fbm, smoothstep
from .frame import Frame, curve, over, ramp, rgb
from .modelling import Limb, modelled

FLOOR = 610  # where the backdrop meets the floor, design units
# Limbs: axis, radius along it, depth towards the viewer (design units).
FAR_ARM: list[Limb] = [
    ([(322, 246), (372, 258), (424, 262), (470, 252)], [11, 10, 8.5, 8, 6.5, 4.6], -14),
    ([(470, 252), (482, 248), (492, 249), (503, 253)], [4.8, 5.2, 3.4, 1.6], -14),
    ([(478, 250), (488, 254)], [3, 1.5], -12),
]
LEGS: list[Limb] = [
    (
        [(322, 396), (318, 470), (319, 530), (315, 596), (313, 646)],
        [26, 24, 20, 15.5, 14.5, 16.2, 15, 11, 8],
        0,
    ),
    (
        [(332, 392), (404, 368), (476, 342), (548, 312), (604, 288)],
        [26, 24, 20, 15, 13.5, 14.8, 13, 10, 7.5],
        -4,
    ),
]
SHOES: list[Limb] = [
    ([(313, 640), (312, 664), (312, 682), (312, 692)], [8.6, 9.6, 7.6, 5.2], 2),
    ([(600, 290), (628, 279), (652, 263)], [8.4, 8.6, 4.2], -2),
]
TRUNK: list[Limb] = [
    ([(326, 386), (321, 340), (313, 300), (304, 266)], [30, 27, 21, 20, 23, 26, 25], 0),
]
UPPER: list[Limb] = [
    ([(282, 247), (304, 241), (326, 247)], [12, 16, 12], 0),
    ([(306, 246), (299, 222), (293, 196)], [13.5, 9.6, 10.5], -2),
    ([(284, 248), (238, 233), (192, 205), (150, 168)], [12, 11, 9.5, 8.6, 8.2, 7, 4.8], 4),
    ([(150, 168), (139, 157), (130, 151), (118, 148)], [5, 5.4, 3.6, 1.6], 4),
    ([(143, 160), (136, 163)], [3, 1.5], 6),
]
HEAD: list[Limb] = [
    ([(293, 168), (289, 176)], [24, 23], 2),
    ([(282, 180), (277, 196)], [15.5, 9.5], 4),
    ([(270, 176), (264.5, 186)], [3.0, 2.9], 7),
    ([(270, 195), (268.5, 196)], [3, 2.6], 7),
]
HAIR: list[Limb] = [
    ([(283, 153), (299, 157), (309, 170), (309, 183)], [12, 18, 17, 12], 12),
    ([(328, 160), (331, 164)], [13, 12], 8),
]
SKIN = ["3a1c12", "8a4f36", "d39a78", "f0c8a8", "ffeedd"]
TIGHTS = ["4a332c", "96735f", "d9b8a4", "f1dccd", "fff8f0"]
SATIN = ["4a2a28", "a86f66", "e3aea2", "f7d6cb", "fffaf4"]
CLOTH = ["5a5558", "a09a9a", "d8d3ce", "f3efe8", "ffffff"]
NET = ["5f5662", "9d96a0", "cfcace", "eeeae6", "ffffff"]
DARK_HAIR = ["070404", "150b08", "2d1a12", "5a3a26", "a97c54"]


def paint(size: int) -> Image.Image:
    """Render the picture, `size` pixels on its longest side."""
    frame = Frame(672, 768, size)
    empty = stage(frame)
    picture = modelled(frame, empty, FAR_ARM, SKIN)
    picture = modelled(frame, picture, LEGS, TIGHTS)
    picture = modelled(frame, picture, SHOES, SATIN)
    picture = ribbons(frame, picture)
    picture = tutu(frame, picture, range(7))
    picture = tutu(frame, picture, range(9, 12))
    basque = curve([(300, 330), (302, 362), (316, 378), (332, 392), (344, 374), (352, 352)], 40)
    above = frame.polygons([np.vstack([[(0, 0), (0, 330)], basque, [(672, 330), (672, 0)]])])
    picture = picture * (1 - 0.3 * frame.ellipse(334, 384, 30, 12, 6))[..., None]
    picture = modelled(frame, picture, TRUNK + UPPER, SKIN, above)
    picture = bodice(frame, picture, above)
    picture = face(frame, picture)
    return finish(frame, mirror(frame, empty, picture))


def stage(frame: Frame) -> Array:
    """Warm dark backdrop, lit floor, the lamp's cone, and the dancer's shadow."""
    x, y = frame.x, frame.y
    folds = 0.5 + 0.5 * np.sin(x / 23 + 1.4 * np.sin(x / 61) + 0.4 * fbm(x / 90, y / 400, 3, 3))
    pool = np.exp(-(((x - 330) / 250) ** 2) - ((y - 350) / 290) ** 2)
    wall = ramp(
        0.10 + 0.62 * pool + 0.13 * folds * (0.25 + pool),
        [0, 0.35, 0.7, 1],
        ["0c0605", "35160f", "7a3d22", "b4713e"],
    )
    spot = np.hypot((x - 325) / 270, (y - 694) / 66)
    plank = (x - 336) / (y - 480) * 9
    seam = np.abs(plank % 1 - 0.5)
    boards = 0.035 * np.sin(np.floor(plank) * 5.3) - 0.07 * smoothstep(0.44, 0.5, seam)
    boards = boards + 0.05 * fbm(plank * 2.5, y / 26, 7, 4)
    glow = 0.16 + 0.66 * smoothstep(1.25, 0.35, spot) + 0.18 * np.exp(-((spot / 1.6) ** 2)) + boards
    ground = ramp(glow, [0, 0.3, 0.6, 0.85, 1.1], ["0d0706", "3a1f14", "8a5733", "cf9a66", "f3d7a8"])
    picture = over(wall, ground, smoothstep(FLOOR - 10, FLOOR + 14, y))
    cone = np.abs(x - 150 - 0.27 * y) / (34 + 0.31 * y)
    beam = smoothstep(1.1, 0.35, cone) * smoothstep(760, 120, y) * (0.85 + 0.3 * fbm(x / 120, y / 120, 12, 4))
    picture = picture + 0.13 * beam[..., None] * rgb("ffe2b0")
    shadow = frame.ellipse(372, 704, 118, 15, 9) * 0.55 + frame.ellipse(328, 697, 34, 6, 4) * 0.6
    return over(picture, rgb("180b08"), np.clip(shadow, 0, 0.85))


def ribbons(frame: Frame, picture: Array) -> Array:
    """Satin ribbons crossed over the ankles."""
    bands = [
        [(303, 636), (322, 624)],
        [(303, 624), (322, 636)],
        [(302, 616), (323, 612)],
        [(590, 290), (602, 304)],
        [(602, 284), (594, 304)],
        [(582, 294), (588, 308)],
    ]
    return over(picture, rgb("e8b6aa"), 0.85 * frame.lines(bands, 2.4, 0.4))


def tutu(frame: Frame, picture: Array, layers: range) -> Array:
    """Layers of stiff net standing out from the hips, radially pleated.

    Layers up to 6 make the wide plate; the small ones from 9 on fall over the hips.
    """
    dx, dy = frame.x - 324, frame.y - 384
    lean = dy + 0.16 * dx
    for layer in layers:
        rx, ry, oy = 178 - 8 * layer, 50 - 3.4 * layer, 15 - 4 * layer
        if layer > 8:
            rx, ry, oy = 78 - 14 * (layer - 9), 21 - 3 * (layer - 9), -5 - 5 * (layer - 9)
        turn = np.arctan2((lean - oy) * rx / ry, dx)
        frill = 1 + 0.03 * np.sin(turn * 31 + layer * 1.9) + 0.06 * fbm(turn * 6 + 9, turn * 0 + layer, 60 + layer, 3)
        r = np.hypot(dx / rx, (lean - oy) / ry) / frill
        pleat = 0.5 + 0.5 * np.sin(turn * (74 + 5 * layer) + 4 * fbm(turn * 8, r * 2, 70 + layer, 2))
        folds = fbm(turn * 4, r * 1.5, 90 + layer, 3)
        tone = 0.44 - 0.15 * np.cos(turn + 0.5) - 0.19 * np.sin(turn) + 0.014 * layer
        tone = tone + 0.17 * (pleat - 0.5) * (0.3 + r) + 0.12 * r + 0.22 * folds
        net = ramp(tone, [0.05, 0.3, 0.55, 0.8, 1.02], NET)
        veil = smoothstep(1.0, 0.9, r) * (0.45 + 0.3 * pleat + 0.2 * (1 - r))
        picture = over(picture, net, np.clip(veil, 0, 0.95))
        edge = np.exp(-(((r - 0.94) / 0.03) ** 2)) * (0.3 + 0.7 * pleat)
        picture = over(picture, rgb("fffaf2"), 0.16 * edge * (layer <= 8))
    return picture


def bodice(frame: Frame, picture: Array, above: Array) -> Array:
    """The white bodice with its neckline, straps, seams and glints, inside mask `above`."""
    neckline = curve([(262, 262), (282, 256), (300, 264), (312, 258), (326, 256), (350, 266)], 40)
    front = np.vstack([neckline, [(380, 420), (250, 420)]])
    picture = over(
        picture,
        rgb("6b3a28"),
        0.5
        * frame.lines([[*neckline, 0, -1.5]], 3, 1.2)
        * frame.polygons([curve([(282, 250), (330, 250), (328, 280), (282, 280)], 40, closed=True)]),
    )
    picture = modelled(frame, picture, TRUNK, CLOTH, frame.polygons([front]) * above)
    seams = [
        curve([(297, 270), (304, 320), (314, 372)], 30),
        curve([(317, 266), (320, 320), (331, 372)], 30),
    ]
    picture = over(picture, rgb("8d8a90"), 0.5 * frame.lines(seams, 1.4, 0.6))
    rng = np.random.default_rng(3)
    glints = sum(
        frame.ellipse(rng.normal(307, 6) + 0.12 * (level - 290), level, 1.0, 1.0, 0.4)
        for level in rng.uniform(268, 350, 22)
    )
    inside = frame.polygons([front]) * above * smoothstep(0, 8, frame.x - 288 - 0.12 * (frame.y - 290))
    picture = picture + 0.4 * (np.clip(glints, 0, 1) * inside)[..., None]
    straps = [
        curve([(286, 258), (284, 248), (292, 236)], 20),
        curve([(322, 258), (325, 249), (317, 237)], 20),
    ]
    return over(picture, rgb("efe9e0"), 0.9 * frame.lines(straps, 2.6, 0.4))


def face(frame: Frame, picture: Array) -> Array:
    """Head in profile to the left, dark hair in a bun, a small tiara."""
    under = frame.ellipse(296, 214, 12, 9, 4)
    picture = over(
        picture,
        rgb("5a2a1a"),
        0.45 * under * frame.polygon((282, 200), (308, 200), (308, 232), (290, 232), soft=1),
    )
    picture = modelled(frame, picture, HEAD, SKIN)
    picture = over(picture, rgb("d9846a"), 0.35 * frame.ellipse(279, 188, 7, 5, 3))
    picture = modelled(frame, picture, HAIR, DARK_HAIR)
    picture = over(picture, rgb("c98a68"), 0.9 * frame.ellipse(296, 182, 3, 5, 0.7))
    strands = [
        curve([(276, 151 + k), (292, 146 + 2.4 * k), (306, 156 + 3 * k), (316, 164 + 1.5 * k)], 20)
        for k in range(0, 10, 2)
    ]
    picture = over(picture, rgb("7a5236"), 0.3 * frame.lines(strands, 1.0, 0.4))
    eye = [
        curve([(269, 179), (272.5, 180.3), (277.5, 178)], 12),
        curve([(267, 180.5), (269.5, 179.6)], 6),
    ]
    picture = over(picture, rgb("1f0e0a"), 0.85 * frame.lines(eye, 1.5, 0.4))
    brow = curve([(268.5, 169.5), (273, 167), (281, 169.5)], 12)
    picture = over(picture, rgb("3a2016"), 0.75 * frame.lines([brow], 1.5, 0.4))
    picture = over(picture, rgb("b0443c"), 0.85 * frame.ellipse(269.5, 195.8, 3.4, 1.9, 0.6))
    crown = [curve([(270, 152), (282, 142), (298, 139), (310, 144)], 24)]
    picture = over(picture, rgb("fff0c8"), 0.9 * frame.lines(crown, 2.0, 0.4))
    gems = sum(frame.ellipse(px, py, 1.9, 2.4, 0.4) for px, py in ((276, 145), (285, 138), (296, 135.5), (306, 138)))
    return over(picture, rgb("fffaf0"), np.clip(gems, 0, 1))


def mirror(frame: Frame, empty: Array, picture: Array) -> Array:
    """A faint, blurred reflection of the dancer in the polished floor."""
    dancer = blur(picture - empty, 2.5 * frame.scale)
    upside = np.stack([frame.x, 2 * 695 - frame.y], -1)
    strength = 0.2 * smoothstep(694, 698, frame.y) * smoothstep(800, 700, frame.y)
    return picture + frame.sample(dancer, upside) * strength[..., None]


def finish(frame: Frame, picture: Array) -> Image.Image:
    """Bloom around the lights, vignette, and film grain."""
    bright = np.maximum(picture - 0.72, 0)
    picture = picture + 0.55 * blur(bright, 9 * frame.scale)
    far = np.hypot((frame.x - 330) / 430, (frame.y - 390) / 500)
    picture = picture * (1 - 0.55 * smoothstep(0.6, 1.2, far))[..., None]
    grain = np.random.default_rng(9).normal(0, 0.012, picture.shape[:2])
    return frame.image(picture + grain[..., None])
