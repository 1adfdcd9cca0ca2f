"""Tall gabled houses, some half-timbered, for the riverside picture."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from .fields import Array, blur, fbm, smoothstep
from .frame import Frame, over, ramp, rgb

GROUND = 410  # foot of the walls, design units
Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class Facade:
    """One house, seen from the front; lengths in design units."""

    left: float
    width: float
    eaves: float  # level of the top of the wall
    peak: float  # level of the ridge
    wall: str
    timber: str = ""  # colour of the beams; none on a plain house
    gable: bool = True  # gable towards the river, or the slope of the roof
    floors: int = 4
    columns: int = 4
    shutters: str = ""

    @property
    def right(self) -> float:
        return self.left + self.width

    @property
    def middle(self) -> float:
        return self.left + self.width / 2


def row_of_houses() -> list[Facade]:
    """The houses from left to right, those standing back first."""
    return [
        Facade(96, 70, 262, 206, "d9cdb4", gable=False, floors=3),
        Facade(560, 80, 250, 196, "cfc2a8", gable=False, floors=3),
        Facade(300, 84, 258, 200, "d7c6a4", gable=False, floors=3),
        Facade(-26, 88, 292, 196, "e7c98c", "", True, 3, 3, "5b7a5a"),
        Facade(62, 74, 276, 184, "f0e6cf", "7a4a30", True, 4, 3),
        Facade(136, 92, 266, 214, "e9a98c", "", False, 4, 4, "f1e6d6"),
        Facade(228, 78, 262, 166, "f2d27c", "", True, 4, 3, "6b8a66"),
        Facade(306, 88, 282, 186, "f3ead6", "6b3f2a", True, 4, 4),
        Facade(394, 72, 286, 232, "a9c6b4", "", False, 3, 3, "f0ead8"),
        Facade(466, 84, 264, 164, "eec0ac", "", True, 4, 3, "7c5a4a"),
        Facade(550, 76, 280, 188, "f4edda", "5d4030", True, 4, 3),
        Facade(626, 86, 272, 222, "a8bfd6", "", False, 4, 4, "f4efe2"),
        Facade(712, 84, 286, 190, "ecd69a", "8a5a3a", True, 3, 3),
    ]


def box(b: Box) -> list[tuple[float, float]]:
    """Corners of a box."""
    return [(b[0], b[1]), (b[2], b[1]), (b[2], b[3]), (b[0], b[3])]


def raise_house(frame: Frame, picture: Array, house: Facade) -> Array:
    """Draw one house over the picture."""
    picture = walls(frame, picture, house)
    if house.timber:
        picture = timbers(frame, picture, house)
    picture = windows(frame, picture, house)
    return roof(frame, picture, house)


def outline(house: Facade) -> list[tuple[float, float]]:
    """The front wall, with its gable if it has one."""
    top = [(house.middle, house.peak)] if house.gable else []
    return [
        (house.left, GROUND),
        (house.left, house.eaves),
        *top,
        (house.right, house.eaves),
        (house.right, GROUND),
    ]


def walls(frame: Frame, picture: Array, house: Facade) -> Array:
    """Plaster: lit from the left, stained, darker towards the ground and eaves."""
    x, y = frame.x, frame.y
    mask = frame.polygons([outline(house)])
    shade = frame.polygons([[(px + 12, py + 5) for px, py in outline(house)]], soft=5)
    shade = np.clip(shade - mask, 0, 1) * smoothstep(house.eaves - 12, house.eaves + 16, y)
    picture = picture * (1 - 0.4 * shade)[..., None]
    across = (x - house.left) / house.width
    light = 1.04 - 0.17 * across - 0.10 * np.clip((y - 330) / 80, 0, 1)
    light = light + 0.06 * fbm(x / 30, y / 46, int(house.left) + 50, 4)
    light = light + 0.03 * fbm(x / 3, y / 3, 71, 2)
    return over(picture, rgb(house.wall) * light[..., None], mask)


def storeys(house: Facade) -> list[float]:
    """Levels of the floors, from the eaves (or into the gable) to the ground."""
    step = (GROUND - 6 - house.eaves) / house.floors
    levels = [house.eaves + step * k for k in range(house.floors + 1)]
    attic = []
    if house.gable:
        level = house.eaves - 0.9 * step
        while level > house.peak + 0.5 * step:
            attic.insert(0, level)
            level -= 0.9 * step
    return attic + levels


def half_width(house: Facade, level: float) -> float:
    """Half the breadth of the front at a level."""
    if level >= house.eaves:
        return house.width / 2
    return house.width / 2 * (level - house.peak) / (house.eaves - house.peak)


def timbers(frame: Frame, picture: Array, house: Facade) -> Array:
    """Beams at every floor, posts between them, and slanting braces."""
    beams = []
    levels = storeys(house)
    for upper, lower in itertools.pairwise(levels):
        a, b = half_width(house, upper), half_width(house, lower)
        beams.append([(house.middle - a, upper), (house.middle + a, upper)])
        beams.append([(house.middle - b, lower), (house.middle + b, lower)])
        posts = np.linspace(-house.width / 2, house.width / 2, house.columns * 2 + 1)
        inside = [p for p in posts if abs(p) <= a + 1]
        beams += [[(house.middle + p, upper), (house.middle + p, lower)] for p in inside]
        if len(inside) > 2:
            for p, q in ((inside[0], inside[1]), (inside[-1], inside[-2])):
                beams.append([(house.middle + p, lower), (house.middle + q, upper)])
    if house.gable:
        top = levels[0]
        a = half_width(house, top)
        beams += [
            [(house.middle - a, top), (house.middle + a, top)],
            [(house.middle, house.peak), (house.middle, top)],
        ]
    mask = np.minimum(frame.lines(beams, 2.6), frame.polygons([outline(house)]))
    shadow = blur(mask, 1.0 * frame.scale)
    picture = over(picture, rgb("6b5a48"), 0.25 * shadow)
    light = 0.95 + 0.2 * fbm(frame.x / 5, frame.y / 5, 81, 2)
    return over(picture, rgb(house.timber) * light[..., None], 0.92 * mask)


def window_boxes(house: Facade) -> list[Box]:
    """Window openings, floor by floor, fewer in the gable."""
    boxes = []
    levels = storeys(house)
    for upper, lower in itertools.pairwise(levels):
        tall = 0.56 * (lower - upper)
        room = 2 * half_width(house, upper if upper < house.eaves else lower)
        pitch = house.width / house.columns
        count = house.columns if upper >= house.eaves else int((room - 4) / pitch)
        wide = 0.36 * pitch if not house.shutters else 0.33 * pitch
        top = upper + 0.24 * (lower - upper)
        for k in range(count):
            middle = house.middle + (k - (count - 1) / 2) * pitch
            boxes.append((middle - wide / 2, top, middle + wide / 2, top + tall))
    return boxes


def windows(frame: Frame, picture: Array, house: Facade) -> Array:
    """Frames, panes that mirror the sky, glazing bars, sills and shutters."""
    boxes = window_boxes(house)
    rng = np.random.default_rng(int(house.left) + 99)
    if house.shutters:
        wings = []
        for left, top, right, bottom in boxes:
            w = 0.42 * (right - left)
            wings += [
                box((left - w - 1.5, top, left - 1.5, bottom)),
                box((right + 1.5, top, right + w + 1.5, bottom)),
            ]
        mask = frame.polygons(wings)
        slats = 0.92 + 0.1 * np.sin(frame.y * 2.6)
        picture = over(picture, rgb("40382e"), 0.3 * np.clip(blur(mask, frame.scale) - mask, 0, 1))
        picture = over(picture, rgb(house.shutters) * slats[..., None], mask)
    picture = over(
        picture,
        rgb("f7f4ec"),
        frame.polygons([box((a - 1.3, b - 1.3, c + 1.3, d + 1.3)) for a, b, c, d in boxes]),
    )
    picture = over(
        picture,
        rgb("8c8272"),
        0.7 * frame.polygons([box((a - 2.2, d + 1.3, c + 2.2, d + 2.8)) for a, b, c, d in boxes]),
    )
    sheens = rng.integers(0, 3, len(boxes))
    for sheen in range(3):
        some = [b for b, s in zip(boxes, sheens, strict=False) if s == sheen]
        glass = ramp(
            fbm(frame.x / 14, frame.y / 10, 90 + sheen, 3) + 0.12 * sheen,
            [-0.4, 0.1, 0.5],
            ["222a31", "45545f", "9db6c8"],
        )
        picture = over(picture, glass, frame.polygons([box(b) for b in some]))
    bars = [[((a + c) / 2, b), ((a + c) / 2, d)] for a, b, c, d in boxes] + [
        [(a, b + 0.38 * (d - b)), (c, b + 0.38 * (d - b))] for a, b, c, d in boxes
    ]
    picture = over(picture, rgb("f1ede2"), 0.85 * frame.lines(bars, 0.9))
    return over(
        picture,
        rgb("14161a"),
        0.35 * frame.lines([[(a, b + 0.6), (c, b + 0.6)] for a, b, c, d in boxes], 1.2),
    )


def roof(frame: Frame, picture: Array, house: Facade) -> Array:
    """Red tiles: bargeboards of a gable, or a slope with dormers and a chimney."""
    x, y = frame.x, frame.y
    rows = 0.5 + 0.5 * np.sin(y * 2.3 + 0.3 * np.sin(x * 1.9))
    patch = fbm(x / 16, y / 9, int(house.left) + 140, 4)
    tone = 0.5 + 0.16 * (rows - 0.5) + 0.42 * patch - 0.15 * (x - house.middle) / house.width
    tile = ramp(tone, [0, 0.35, 0.7, 1.0], ["6e2f22", "a34c33", "c96f4a", "dd9468"])
    if house.gable:
        overhang = 5
        ends = [
            (house.left - overhang, house.eaves + 7),
            (house.middle, house.peak - 5),
            (house.right + overhang, house.eaves + 7),
        ]
        picture = over(
            picture,
            rgb("3a2a20"),
            0.4 * frame.lines([[(px + 1, py + 4) for px, py in ends]], 5, 1.6),
        )
        picture = over(picture, tile, frame.lines([ends], 5.5))
        return over(picture, rgb("e2b08c"), 0.45 * frame.lines([ends[:2]], 1.2))
    slope = [
        (house.left - 2, house.eaves + 2),
        (house.left + 8, house.peak),
        (house.right - 8, house.peak),
        (house.right + 2, house.eaves + 2),
    ]
    picture = chimney(frame, picture, house)
    picture = over(picture, tile, frame.polygons([slope]))
    picture = over(
        picture,
        rgb("3a2a20"),
        0.45 * frame.lines([[(house.left, house.eaves + 4), (house.right, house.eaves + 4)]], 3, 1.2),
    )
    return dormers(frame, picture, house, tile)


def chimney(frame: Frame, picture: Array, house: Facade) -> Array:
    """A brick chimney behind the ridge."""
    at = house.left + 0.72 * house.width
    picture = over(picture, rgb("a8705a"), frame.polygons([box((at, house.peak - 16, at + 9, house.peak + 6))]))
    picture = over(
        picture,
        rgb("6d4438"),
        frame.polygons([box((at + 5.5, house.peak - 16, at + 9, house.peak + 6))]),
    )
    return over(
        picture,
        rgb("cfb8a4"),
        frame.polygons([box((at - 1, house.peak - 18, at + 10, house.peak - 15))]),
    )


def dormers(frame: Frame, picture: Array, house: Facade, tile: Array) -> Array:
    """Two little gabled windows on the slope of the roof."""
    for share in (0.3, 0.7):
        cx, foot = house.left + share * house.width, house.eaves - 8
        top = foot - 0.34 * (house.eaves - house.peak)
        picture = over(
            picture,
            rgb(house.wall) * 0.94,
            frame.polygon((cx - 7, foot), (cx - 7, top), (cx, top - 8), (cx + 7, top), (cx + 7, foot)),
        )
        picture = over(picture, rgb("f4f0e6"), frame.polygons([box((cx - 4.2, top + 0.5, cx + 4.2, foot - 2))]))
        picture = over(picture, rgb("3d4a54"), frame.polygons([box((cx - 3, top + 2, cx + 3, foot - 3))]))
        picture = over(
            picture,
            0.9 * tile,
            frame.lines([[(cx - 10, top + 2), (cx, top - 9), (cx + 10, top + 2)]], 3.2),
        )
    return picture
