"""A ship going down in a storm, in the romantic manner."""

from __future__ import annotations

import numpy as np
from PIL import Image

from .canvas import Brush, Canvas
from .fields import Array, along, blur, fbm, hug_edges, mix_flow, smoothstep
from .frame import Frame, curve, over, ramp, rgb

LIGHT = (250, 120)  # where the clouds open
TILT = np.deg2rad(-24)  # how far the ship leans
SHIP = (474, 346)  # middle of the waterline


def paint(size: int) -> Image.Image:
    """Paint the picture, `size` pixels on its longest side."""
    frame = Frame(768, 576, size)
    target, flow = sky(frame)
    target, flow = waves(frame, target, flow, far=True)
    target = ship(frame, target)
    target, flow = waves(frame, target, flow, far=False)
    target = spray(frame, target)
    target = vignette(frame, target)
    fine = hug_edges(flow, target, 2.0 * frame.scale)
    canvas = Canvas(frame, rgb("4a3f33"), seed=31)
    canvas.cover(target, flow, Brush(18, 70, 9, tone=0.025, tint=0.01, cut=0.35))
    canvas.cover(target, flow, Brush(9, 42, 7, tone=0.03, tint=0.008, cut=0.22), missing=0.05)
    canvas.cover(target, flow, Brush(5, 28, 5, tone=0.03, tint=0.008, cut=0.18), missing=0.09)
    canvas.cover(target, fine, Brush(2.8, 15, 4, tone=0.025, tint=0.006, cut=0.12), missing=0.12)
    canvas.cover(target, fine, Brush(1.7, 7, 3, tone=0.02, cut=0.1, dry=0), missing=0.16)
    rigging(canvas)
    return canvas.finish(relief=0.7)


def sky(frame: Frame) -> tuple[Array, Array]:
    """Dark rolling clouds around one opening, with a shaft of light."""
    x, y = frame.x, frame.y
    wx = x + 60 * fbm(x / 200, y / 150, 3, 4)
    wy = y + 50 * fbm(x / 200, y / 150, 8, 4)
    cloud = fbm(wx / 210, wy / 120, 13, 6)
    dx, dy = x - LIGHT[0], y - LIGHT[1]
    opening = np.exp(-((dx / 150) ** 2) - (dy / 100) ** 2)
    billow = fbm(wx / 75, wy / 52, 23, 4)
    tone = 0.27 + 0.62 * cloud + 0.24 * billow + 0.60 * opening
    colour = ramp(
        tone,
        [0.0, 0.2, 0.4, 0.6, 0.8, 1.0],
        ["14151b", "2a2a30", "4d4a48", "8f826a", "d9c28a", "fbefc6"],
    )
    across = (dx + 0.02 * dy) / (30 + 0.42 * np.maximum(dy, 0))
    shaft = np.exp(-(across**2)) * smoothstep(-20, 60, dy) * (0.8 + 0.3 * np.sin(across * 9))
    colour = over(colour, rgb("f2dfa4"), np.clip(0.5 * shaft, 0, 1))
    swirl = np.hypot(dx * 0.8, dy) + 60 * fbm(x / 260, y / 200, 19, 2)
    return colour, along(blur(swirl, 6))


RIDGES = [  # crest level, height, length, shift along the crest (design units)
    (320, 20, 86, 10),
    (340, 34, 130, 64),
    (376, 60, 190, 20),
    (432, 88, 262, 170),
    (498, 118, 340, 40),
    (584, 128, 390, 330),
]


def swell(frame: Frame, length: float, shift: float, seed: int) -> Array:
    """Height of a storm wave, 0 in its trough and up to 1 at its crest."""
    x = frame.x
    wander = x + 0.2 * length * fbm(x / length, 0 * x + seed, seed, 2) + shift
    phase = (wander / length) % 1 * 2 - 1
    leaning = np.where(phase < 0.3, (phase + 1) / 1.3, (1 - phase) / 0.7)
    size = 0.72 + 0.28 * np.sin(np.floor(wander / length) * 2.4 + seed)
    rounded = leaning**2 * (1.6 - 0.6 * leaning**2)
    return blur(rounded * size, 0.03 * length * frame.scale)


def waves(frame: Frame, colour: Array, flow: Array, far: bool) -> tuple[Array, Array]:
    """Ridges of sea from far to near: those behind the ship, or those before it."""
    x, y = frame.x, frame.y
    for k, (level, height, length, shift) in enumerate(RIDGES):
        if (k < 3) != far:
            continue
        peak = swell(frame, length, shift, 90 + k)
        chop = 0.10 * height * fbm(x / (0.5 * height + 14), y * 0 + k, 96 + k, 4)
        crest = level - height * (peak - 0.25) + chop
        depth = y - crest
        below = np.exp(-np.maximum(depth, 0) / (0.8 * height))
        # The surface lies along the crest at the top and flattens out below it.
        surface = y - (crest - level) * below
        ripple = fbm(x / (0.55 * height + 16) + 0.01 * surface, surface / (0.13 * height + 4), 110 + k, 5)
        lee = smoothstep(0, 0.02, np.gradient(peak, axis=1) * -length / 40 * frame.scale)
        glass = np.exp(-(((depth - 0.16 * height) / (0.2 * height)) ** 2)) * smoothstep(0.4, 0.9, peak)
        gold = np.exp(-(((x - LIGHT[0] - 30) / (70 + 14 * k)) ** 2))
        tone = 0.27 + (0.12 * peak - 0.16 * lee) * below + 0.26 * glass
        tone = tone + 0.46 * ripple + 0.20 * gold
        body = ramp(
            tone,
            [0.0, 0.2, 0.4, 0.6, 0.8, 1.0],
            ["080f12", "14292c", "2a4d4d", "578473", "a3bd9a", "ece8cc"],
        )
        body = over(body, body * np.array([1.22, 1.04, 0.78]), gold)
        mask = smoothstep(-1.5, 1.5, depth)
        colour = over(colour, body, mask)
        colour = foam(frame, colour, depth, peak, surface, height, k)
        contour = surface + 0.22 * height * ripple
        flow = mix_flow(flow, along(blur(contour, 2)), (mask > 0.5).astype(float))
    return colour, flow


def foam(frame: Frame, colour: Array, depth: Array, peak: Array, surface: Array, height: float, k: int) -> Array:
    """Breaking crest, spray above it, and torn foam that slides down the wave."""
    x, y = frame.x, frame.y
    warp = 0.35 * height * fbm(x / (0.6 * height + 20), y / (0.5 * height + 16), 128 + k, 2)
    lace = 1 - 3.0 * np.abs(
        fbm(
            (x + warp) / (0.42 * height + 14),
            (surface + 0.4 * warp) / (0.16 * height + 5),
            130 + k,
            4,
        )
    )
    slide = np.exp(-np.maximum(depth, 0) / (6 + 0.75 * height)) * smoothstep(0.05, 0.6, peak)
    web = smoothstep(0.42, 0.98, lace) * np.clip(0.16 + slide, 0, 1)
    thick = 2.5 + 0.26 * height * peak**2
    torn = 0.7 + 1.2 * fbm(x / (7 + 0.16 * height), y / (5 + 0.1 * height), 150 + k, 4)
    cap = np.exp(-(((depth - 0.4 * thick) / thick) ** 2)) * smoothstep(0.2, 0.55, peak) * torn
    white = np.clip(0.8 * web + 1.15 * smoothstep(0.2, 0.7, cap), 0, 1) * smoothstep(-2.5, 1, depth)
    mist = np.exp(-(((depth + 0.1 * height) / (0.16 * height)) ** 2)) * smoothstep(0.6, 1, peak) * torn
    white = np.maximum(white, 0.45 * np.clip(mist, 0, 1))
    tint = ramp(white - 0.25 * torn * (depth > thick), [0, 0.5, 1], ["8fa69e", "cdd4c8", "f6f4e8"])
    gold = np.exp(-(((x - LIGHT[0] - 40) / 190) ** 2))
    return over(colour, over(tint, tint * np.array([1.04, 0.96, 0.78]), gold), 0.95 * white)


def aboard(*points: tuple[float, float]) -> Array:
    """Ship's coordinates (right, up from the waterline) in the picture's."""
    p = np.asarray(points, float)
    c, s = np.cos(TILT), np.sin(TILT)
    return np.stack([SHIP[0] + c * p[:, 0] + s * p[:, 1], SHIP[1] + s * p[:, 0] - c * p[:, 1]], -1)


MASTS = [  # foot x, broken top (x, y), yards as (height, half length, sag)
    (-82, (-78, 150), [(82, 44, 6), (122, 32, -8)]),
    (-8, (2, 196), [(74, 54, -5), (122, 44, 7), (164, 28, 3)]),
    (66, (74, 92), [(64, 40, 12)]),
]


def spars() -> list[tuple[list[tuple[float, float]], float]]:
    """Masts, yards, bowsprit and a snapped-off top: ends on board, and width."""
    pieces = [
        ([(150, 46), (232, 92)], 5.0),
        ([(74, 92), (112, 66)], 4.0),
        ([(112, 66), (128, 30)], 3.0),
    ]
    for foot, top, yards in MASTS:
        pieces.append(([(foot, 20), top], 6.0))
        for height, half, sag in yards:
            mid = foot + (top[0] - foot) * height / top[1]
            pieces.append(([(mid - half, height + sag), (mid + half, height - sag)], 3.4))
    return pieces


def ship(frame: Frame, colour: Array) -> Array:
    """The hull and its torn sails; `rigging` adds the masts."""
    hull = aboard(
        (-150, 46),
        (-138, 4),
        (-118, -50),
        (110, -50),
        (146, 16),
        (172, 62),
        (120, 42),
        (40, 30),
        (-60, 30),
        (-96, 36),
        (-98, 54),
    )
    mask = frame.polygons([hull])
    along_hull = (frame.x - SHIP[0]) * np.sin(TILT) - (frame.y - SHIP[1]) * np.cos(TILT)
    wood = ramp(
        along_hull + 6 * fbm(frame.x / 30, frame.y / 12, 70, 3),
        [-20, 5, 24, 40],
        ["0e0b0a", "2a1c13", "573a20", "7d5a34"],
    )
    colour = over(colour, wood, mask)
    band = aboard((-140, 24), (-60, 16), (40, 16), (150, 36), (152, 29), (40, 9), (-60, 9), (-138, 17))
    colour = over(colour, rgb("b08a4e"), 0.8 * frame.polygons([band]))
    ports = [aboard((px - 4, 8), (px + 4, 8), (px + 4, 16), (px - 4, 16)) for px in range(-110, 120, 26)]
    colour = over(colour, rgb("0b0808"), frame.polygons(ports))
    return sails(frame, colour)


def sails(frame: Frame, colour: Array) -> Array:
    """Torn canvas hanging from the yards, and a flag."""
    sheets = [
        [
            (-52, 119),
            (48, 129),
            (50, 108),
            (40, 84),
            (33, 92),
            (26, 62),
            (16, 84),
            (6, 72),
            (-2, 94),
            (-14, 60),
            (-24, 84),
            (-34, 70),
            (-46, 92),
        ],
        [(-26, 168), (28, 161), (36, 138), (22, 126), (16, 138), (4, 124), (-8, 136), (-30, 126)],
        [
            (-124, 87),
            (-40, 77),
            (-42, 52),
            (-52, 60),
            (-62, 32),
            (-74, 56),
            (-88, 44),
            (-96, 62),
            (-112, 40),
        ],
        [(232, 92), (112, 64), (134, 44), (160, 58)],
    ]
    for sheet in sheets:
        mask = frame.polygons([aboard(*sheet)])
        fold = fbm(frame.x / 22, frame.y / 60, 77, 3)
        fold = fold + 0.004 * (SHIP[0] - frame.x) - 0.002 * (frame.y - 250)
        cloth = ramp(fold, [-0.5, 0, 0.5], ["5a4a36", "b39c72", "eadcb4"])
        colour = over(colour, cloth, mask)
    flag = curve(
        aboard((2, 196), (-18, 204), (-36, 196), (-54, 206), (-52, 190), (-34, 182), (-16, 190)),
        60,
        closed=True,
    )
    return over(colour, rgb("a32a1c"), frame.polygons([flag]))


def rigging(canvas: Canvas) -> None:
    """Masts, yards and ropes, drawn over the finished paint."""
    for ends, width in spars():
        canvas.stroke(aboard(*ends), rgb("1f150e"), Brush(width, 0, 5, dry=0.05, tone=0.015))
    pen = Brush(1.2, 0, 1, dry=0, tone=0.02)
    ropes = [
        [(-150, 46), (-104, 90), (-78, 148)],
        [(-60, 32), (-68, 90), (-78, 148)],
        [(-30, 30), (-16, 110), (2, 194)],
        [(30, 30), (20, 110), (2, 194)],
        [(2, 194), (40, 128), (74, 92)],
        [(74, 90), (150, 84), (230, 92)],
        [(2, 190), (110, 128), (230, 92)],
        [(-78, 146), (-40, 158), (0, 186)],
        [(48, 30), (60, 60), (74, 90)],
        [(96, 36), (88, 60), (74, 90)],
    ]
    for rope in ropes:
        canvas.stroke(aboard(*rope), rgb("191310"), pen)


def spray(frame: Frame, colour: Array) -> Array:
    """Foam bursting against the hull and mist blown off the crests."""
    x, y = frame.x, frame.y
    rng = np.random.default_rng(17)
    for cx, cy, rx, ry in ((326, 388, 62, 52), (400, 408, 90, 26), (628, 318, 40, 38)):
        puff = np.exp(-(((x - cx) / rx) ** 2) - ((y - cy) / ry) ** 2)
        puff = puff * (0.75 + 1.1 * fbm(x / 34, y / 30, 171 + cx, 5))
        colour = over(colour, rgb("e9e8da"), np.clip(smoothstep(0.18, 0.85, puff), 0, 0.92))
    drops = [(rng.normal(340, 80), rng.normal(335, 36)) for _ in range(160)]
    dots = [[(px, py), (px + rng.uniform(1, 5), py - rng.uniform(-1, 4))] for px, py in drops]
    return over(colour, rgb("f4f1e2"), 0.8 * frame.lines(dots, 1.4))


def vignette(frame: Frame, colour: Array) -> Array:
    """Darken the corners so that the light gathers around the ship."""
    far = np.hypot((frame.x - 370) / 430, (frame.y - 270) / 330)
    return colour * (1 - 0.5 * smoothstep(0.6, 1.35, far))[..., None]
