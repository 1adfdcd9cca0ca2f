"""Trees, river wall, punts and foreground foliage for the riverside picture."""

from __future__ import annotations

import numpy as np

from .fields import Array, blur, fbm, smoothstep
from .frame import Frame, curve, over, ramp, rgb

GREENS = ["1b2a16", "35502a", "5c7f3c", "8fae55", "c7d685"]
WILLOW = ["27361a", "4a6630", "7b9848", "acc168", "dbe29a"]


def foliage(
    frame: Frame,
    picture: Array,
    clumps: list[tuple[float, float, float, float]],
    seed: int,
    tones: list[str],
    stretch: float = 1.0,
) -> Array:
    """A crown of leaves made of round clumps (x, y, rx, ry), lit from the upper left.

    `stretch` above 1 makes the leaves hang, as a willow's do.
    """
    x, y = frame.x, frame.y
    leaf = fbm(x / 6, y / (6 * stretch), seed, 4, gain=0.7)
    tuft = fbm(x / 22, y / (22 * stretch), seed + 5, 4)
    for cx, cy, rx, ry in clumps:
        dx, dy = (x - cx) / rx, (y - cy) / ry
        r = np.hypot(dx, dy) + 0.42 * tuft + 0.30 * leaf
        mask = smoothstep(1.0, 0.9, r)
        ball = np.sqrt(np.clip(1.1 - np.hypot(dx, dy) ** 2, 0.02, 1))
        tone = 0.42 - 0.26 * dx - 0.34 * dy + 0.18 * (ball - 0.5) + 0.52 * leaf + 0.35 * tuft
        hole = smoothstep(0.30, 0.5, fbm(x / 11, y / (9 * stretch), seed + 9, 3)) * smoothstep(0.5, 0.9, r)
        picture = over(picture, rgb("141d10"), 0.25 * smoothstep(1.25, 0.8, r))
        picture = over(picture, ramp(tone, [0, 0.28, 0.52, 0.78, 1.05], tones), mask * (1 - 0.8 * hole))
    return picture


def trees(frame: Frame, picture: Array) -> Array:
    """Plane trees between the houses and the wall, and two willows."""
    trunks = [
        [(214, 414), (218, 372), (212, 350)],
        [(526, 414), (522, 374), (528, 352)],
        [(682, 414), (686, 380), (680, 360)],
    ]
    picture = over(picture, rgb("463626"), frame.lines([curve(t, 20) for t in trunks], 6))
    picture = foliage(
        frame,
        picture,
        [(212, 352, 34, 30), (232, 368, 30, 26), (194, 372, 28, 24), (214, 386, 36, 20)],
        200,
        GREENS,
    )
    picture = foliage(frame, picture, [(526, 356, 32, 30), (508, 376, 26, 22), (546, 376, 28, 24)], 220, GREENS)
    picture = foliage(
        frame,
        picture,
        [(676, 366, 40, 38), (704, 384, 34, 32), (650, 388, 30, 30)],
        240,
        WILLOW,
        2.2,
    )
    picture = foliage(frame, picture, [(30, 344, 54, 56), (72, 376, 38, 42), (4, 386, 40, 40)], 260, WILLOW, 2.4)
    shrubs = [(k, 402 + 4 * np.sin(k), 20 + 6 * np.sin(1.7 * k), 11 + 3 * np.cos(k)) for k in range(96, 768, 29)]
    return foliage(frame, picture, shrubs, 280, GREENS)


def wall(frame: Frame, picture: Array, top: float, foot: float) -> Array:
    """The river wall: weathered courses of stone, damp below, ivy above."""
    x, y = frame.x, frame.y
    course = np.floor((y - top) / 7)
    joint_y = np.abs(((y - top) / 7) % 1 - 0.5)
    along = x / 17 + 0.5 * (course % 2) + 0.13 * np.sin(7 * course)
    joint_x = np.abs(along % 1 - 0.5)
    block = np.sin(np.floor(along) * 12.9 + course * 78.2) * 0.5
    tone = 0.55 + 0.13 * block + 0.32 * fbm(x / 14, y / 9, 301, 4) - 0.011 * (y - top)
    tone = tone - 0.22 * smoothstep(0.42, 0.49, joint_y) - 0.18 * smoothstep(0.45, 0.49, joint_x)
    stone = ramp(tone, [0, 0.3, 0.6, 0.9], ["2e2b24", "6a6150", "a3967b", "d2c6a8"])
    damp = smoothstep(foot - 12, foot, y + 5 * fbm(x / 20, y / 20, 311, 2))
    stone = over(stone, rgb("2c3426"), 0.7 * damp)
    picture = over(picture, stone, smoothstep(top - 0.5, top + 0.5, y))
    picture = over(
        picture,
        rgb("d9cfb4"),
        0.8 * frame.polygon((0, top - 2), (768, top - 2), (768, top + 2), (0, top + 2)),
    )
    ivy = [
        (cx, top + 4, r, 0.8 * r)
        for cx, r in ((120, 17), (150, 13), (286, 15), (430, 19), (454, 13), (600, 16), (742, 20))
    ]
    return foliage(frame, picture, ivy, 320, GREENS, 1.4)


def punts(frame: Frame, picture: Array) -> Array:
    """Three flat boats, moored or poled along, with their dark reflections."""
    for cx, cy, half in ((196, 474, 62), (398, 492, 76), (610, 470, 56)):
        picture = punt(frame, picture, cx, cy, half)
    picture = person(frame, picture, 446, 484, 1.0, "f2efe6", "3a4a6a")
    pole = [[(452, 430), (470, 520)]]
    return over(picture, rgb("7a5a36"), frame.lines(pole, 1.8))


def punt(frame: Frame, picture: Array, cx: float, cy: float, half: float) -> Array:
    """One boat around (cx, cy), `half` its length."""
    x, y = frame.x, frame.y
    high = 0.15 * half
    shadow = frame.ellipse(cx, cy + 0.75 * high, 1.02 * half, 0.95 * high, 2.5)
    picture = over(picture, rgb("16201b"), 0.62 * shadow)
    rim = curve([(cx - half, cy - 0.75 * high), (cx, cy - 0.28 * high), (cx + half, cy - 0.75 * high)], 40)
    keel = curve(
        [
            (cx + 0.84 * half, cy + 0.42 * high),
            (cx, cy + 0.72 * high),
            (cx - 0.84 * half, cy + 0.42 * high),
        ],
        40,
    )
    inner = curve(
        [
            (cx - 0.95 * half, cy - 0.8 * high),
            (cx, cy - 0.95 * high),
            (cx + 0.95 * half, cy - 0.8 * high),
        ],
        40,
    )
    inside = frame.polygons([np.vstack([inner, rim[::-1]])])
    picture = over(picture, ramp((x - cx) / half, [-1, 0, 1], ["4a2f1c", "6f4a2c", "8a6038"]), inside)
    planks = 0.5 + 0.5 * fbm(x / 40, y / 2.5, 340, 3) - 0.3 * (y - cy) / high
    wood = ramp(planks, [0, 0.5, 1], ["3f2616", "7d5230", "b98753"])
    picture = over(picture, wood, frame.polygons([np.vstack([rim, keel])]))
    picture = over(picture, rgb("d8b27c"), 0.9 * frame.lines([rim], 1.6))
    seats = [[(cx + s * half, cy - 0.82 * high), (cx + s * half, cy - 0.34 * high)] for s in (-0.5, -0.05, 0.42)]
    return over(picture, rgb("c49a62"), 0.85 * frame.lines(seats, 4))


def person(frame: Frame, picture: Array, px: float, foot: float, tall: float, shirt: str, legs: str) -> Array:
    """A small standing figure, feet at (px, foot), `tall` times 46 units high."""

    def at(dx: float, dy: float) -> tuple[float, float]:
        return px + dx * tall, foot - dy * tall

    picture = over(
        picture,
        rgb(legs),
        frame.polygon(at(-4, 22), at(4, 22), at(4.5, 0), at(1, 0), at(0, 14), at(-1.5, 0), at(-5, 0)),
    )
    torso = curve([at(-5, 21), at(-6, 34), at(0, 38), at(6, 34), at(5, 21)], 40, closed=True)
    light = ramp((frame.x - px) / (6 * tall), [-1, 1], [shirt, "a9a79e"])
    picture = over(picture, light, frame.polygons([torso]))
    picture = over(picture, rgb("b9b6ac"), frame.lines([[at(4, 33), at(9, 26), at(9, 36)]], 2.6 * tall))
    picture = over(picture, rgb("d2a383"), frame.ellipse(*at(0, 42), 3.2 * tall, 3.8 * tall))
    return over(picture, rgb("d9c487"), frame.ellipse(*at(0, 45), 5 * tall, 1.8 * tall))


def overhang(frame: Frame, picture: Array) -> Array:
    """Out-of-focus leaves hanging into the upper right corner."""
    layer = frame.fill(rgb("3c5a2c"))
    x, y = frame.x, frame.y
    edge = np.hypot((x - 800) / 170, (y + 40) / 150) + 0.5 * fbm(x / 40, y / 34, 360, 4)
    tone = 0.4 + 0.6 * fbm(x / 13, y / 11, 370, 3)
    layer = ramp(tone, [0, 0.5, 1], ["22361a", "4a6b30", "86a552"])
    mask = blur(smoothstep(1.0, 0.9, edge + 0.25 * fbm(x / 10, y / 9, 380, 2)), 1.4 * frame.scale)
    return over(picture, layer, 0.95 * mask)
