"""Endless textures by formula: a class is a random program, its samples are what the program draws from fresh noise.

Formula-driven supervision (Kataoka et al., arXiv:2101.08515) and learning from noise processes (Baradad et al.,
arXiv:2106.05963) show that pictures made by formulas train useful filters. Here the programs are made of what
paintings are made of: strokes along flow fields, leaves that cover each other, facets, bands, grain, shading.
All fields have the shape (count, size, size) and mean about 0, deviation about 1.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
Field = Callable[[np.random.Generator, int, int], Array]


@dataclass(frozen=True)
class Texture:
    """One class of textures.

    Attributes:
        fields: two scalar fields and the field that chooses between them.
        palettes: a palette (colours, 3) in [0, 1] for each of the first two fields.
        cover: how much of the second field shows, in standard deviations of the chooser; None shows none of it.
        edge: how sharply the chooser changes over.
        shading: strength of slow changes of brightness.
        grain: deviation of the pixel noise, and its softness in px.
    """

    fields: tuple[Field, Field, Field]
    palettes: tuple[Array, Array]
    cover: float | None
    edge: float
    shading: float
    grain: tuple[float, float]

    def render(self, rng: np.random.Generator, count: int, size: int) -> NDArray[np.uint8]:
        """Draws ``count`` samples of ``size`` px: (count, size, size, 3)."""
        picture = paint(self.fields[0](rng, count, size), self.palettes[0])
        if self.cover is not None:
            other = paint(self.fields[1](rng, count, size), self.palettes[1])
            choice = (self.fields[2](rng, count, size) - self.cover) * self.edge
            mask = 1 / (1 + np.exp(-np.clip(choice, -30, 30)))
            picture = picture + mask[..., None] * (other - picture)
        light = 1 + self.shading * spectrum(rng, count, size, slope=2.5)
        grain = self.grain[0] * blur(rng.standard_normal((count, size, size, 3), dtype=np.float32), self.grain[1])
        return np.clip((picture * light[..., None] + grain) * 255 + 0.5, 0, 255).astype(np.uint8)


def random_texture(rng: np.random.Generator, palettes: Sequence[Array]) -> Texture:
    """A random class, coloured from the given palettes."""
    chosen = [FAMILIES[index] for index in rng.integers(len(FAMILIES), size=3)]
    first, second, chooser = (family(rng) for family in chosen)
    return Texture(
        fields=(first, second, chooser),
        palettes=(palettes[int(rng.integers(len(palettes)))], palettes[int(rng.integers(len(palettes)))]),
        cover=float(rng.normal(0, 0.6)) if rng.random() < 0.5 else None,
        edge=float(np.exp(rng.uniform(0, 3.5))),
        shading=float(rng.uniform(0, 0.25)) if rng.random() < 0.5 else 0.0,
        grain=(float(rng.choice([0, 0, 0.02, 0.06])), float(rng.choice([0, 0.7, 1.2]))),
    )


def random_palette(rng: np.random.Generator) -> Array:
    """Two to six colours, around a common hue or far apart, from dark to light or shuffled."""
    count = int(rng.integers(2, 7))
    center, spread = rng.uniform(0.1, 0.9, 3), rng.choice([0.08, 0.2, 0.45])
    colors = np.clip(center + spread * rng.standard_normal((count, 3)), 0, 1)
    if rng.random() < 0.5:
        colors = colors[np.argsort(colors.sum(1))]
    return colors.astype(np.float32)


def paint(field: Array, palette: Array) -> Array:
    """Colours a field by a palette, linear in between: (count, size, size, 3) in [0, 1]."""
    position = (np.clip(field / 4 + 0.5, 0, 1) * (len(palette) - 1)).astype(np.float32)
    low = np.minimum(position.astype(np.int64), len(palette) - 2)
    part = (position - low)[..., None]
    return palette[low] * (1 - part) + palette[low + 1] * part


# Noise, shaped in the frequency domain ---------------------------------------------------------------------------


def _frequencies(size: int) -> tuple[Array, Array]:
    return np.fft.fftfreq(size)[:, None].astype(np.float32), np.fft.rfftfreq(size)[None].astype(np.float32)


def filtered(rng: np.random.Generator, count: int, size: int, gain: Array) -> Array:
    """White noise with the spectrum ``gain`` (size, size // 2 + 1), normalized."""
    noise = np.fft.rfft2(rng.standard_normal((count, size, size), dtype=np.float32))
    return normalized(np.fft.irfft2(noise * gain, s=(size, size)).astype(np.float32))


def normalized(field: Array) -> Array:
    """To mean 0 and deviation 1, each sample by itself."""
    centered = field - field.mean((1, 2), keepdims=True)
    return centered / (centered.std((1, 2), keepdims=True) + 1e-6)


def spectrum(rng: np.random.Generator, count: int, size: int, *, slope: float) -> Array:
    """Fractal noise, amplitude 1/f^(slope/2)."""
    down, across = _frequencies(size)
    return filtered(rng, count, size, (np.hypot(down, across) + 0.5 / size) ** (-slope))


def blur(pictures: Array, radius: float) -> Array:
    """Gaussian blur of (count, size, size, channels), ``radius`` px deviation, deviation of white noise kept."""
    if radius == 0:
        return pictures
    taps = np.exp(-(np.arange(-4, 5) ** 2) / (2 * radius**2))
    taps /= np.sqrt((taps**2).sum())
    for axis in (1, 2):
        pictures = sum(t * np.roll(pictures, shift, axis) for t, shift in zip(taps, range(-4, 5), strict=True))
    return pictures.astype(np.float32)


def oriented_noise(rng: np.random.Generator) -> Field:
    """Band-pass noise in one to three directions, like brush marks, fur or woven cloth."""
    bands = [
        (
            rng.uniform(0, np.pi),
            np.exp(rng.uniform(np.log(0.02), np.log(0.35))),
            rng.uniform(0.2, 0.8),
            rng.uniform(2, 40),
        )
        for _ in range(int(rng.integers(1, 4)))
    ]

    def draw(rng: np.random.Generator, count: int, size: int) -> Array:
        down, across = _frequencies(size)
        radius, angle = np.hypot(down, across) + 1e-6, np.arctan2(down, across)
        gain = sum(
            np.exp(-(np.log(radius / f) ** 2) / (2 * w**2) + k * (np.cos(2 * (angle - a)) - 1)) for a, f, w, k in bands
        )
        return filtered(rng, count, size, np.asarray(gain, dtype=np.float32))

    return draw


def fractal(rng: np.random.Generator) -> Field:
    """Clouds, rock, water: 1/f noise, plain, ridged or cut into steps."""
    slope, kind, steps = rng.uniform(0.6, 2.2), rng.integers(3), rng.integers(2, 6)

    def draw(rng: np.random.Generator, count: int, size: int) -> Array:
        field = spectrum(rng, count, size, slope=slope)
        if kind == 1:
            return normalized(-np.abs(field))
        return np.round(field * steps / 2) / steps * 2 if kind == 2 else field

    return draw


def spots(rng: np.random.Generator) -> Field:
    """Spots and labyrinths: band-pass noise through a threshold, as reaction and diffusion make them."""
    frequency, width, level, edge = (
        np.exp(rng.uniform(-3.4, -1.5)),
        rng.uniform(0.1, 0.3),
        rng.normal(0, 0.7),
        rng.uniform(2, 20),
    )

    def draw(rng: np.random.Generator, count: int, size: int) -> Array:
        down, across = _frequencies(size)
        gain = np.exp(-(np.log((np.hypot(down, across) + 1e-6) / frequency) ** 2) / (2 * width**2))
        return 1.5 * np.tanh(edge * (filtered(rng, count, size, gain) - level))

    return draw


# Bands and lattices ----------------------------------------------------------------------------------------------


def _grid(rng: np.random.Generator, count: int, size: int) -> tuple[Array, Array]:
    """Coordinates in px, each sample shifted by a random amount."""
    ticks = np.arange(size, dtype=np.float32)
    shift = rng.uniform(0, 1000, (2, count, 1, 1)).astype(np.float32)
    return ticks[:, None] + shift[0], ticks[None] + shift[1]


def bands(rng: np.random.Generator) -> Field:
    """Gratings, bent by slow noise: waves, wood, marble, fabric; a second direction makes checks."""
    angle, wavelength, bend = (
        rng.uniform(0, np.pi),
        np.exp(rng.uniform(np.log(3), np.log(40))),
        rng.choice([0, 0.5, 2, 5]),
    )
    sharpness, crossed, slope = rng.choice([0.5, 2, 10]), rng.random() < 0.3, rng.uniform(1.5, 2.5)

    def draw(rng: np.random.Generator, count: int, size: int) -> Array:
        y, x = _grid(rng, count, size)
        phase = (x * np.cos(angle) + y * np.sin(angle)) * (2 * np.pi / wavelength)
        wave = np.sin(phase + bend * spectrum(rng, count, size, slope=slope))
        if crossed:
            wave = wave * np.sin((y * np.cos(angle) - x * np.sin(angle)) * (2 * np.pi / wavelength))
        return normalized(np.tanh(sharpness * wave))

    return draw


def _points(rng: np.random.Generator, count: int, size: int, spacing: float, order: float) -> Array:
    """Centres (count, points, 2) on a jittered lattice around the picture; ``order`` 0 is random, 1 is a lattice."""
    ticks = np.arange(-spacing, size + spacing, spacing)
    lattice = np.stack(np.meshgrid(ticks, ticks, indexing="ij"), -1).reshape(-1, 2)
    jitter = rng.uniform(-1, 1, (count, *lattice.shape)) * spacing * (1 - order)
    return (lattice + jitter + rng.uniform(-0.5, 0.5, (count, 1, 2)) * spacing).astype(np.float32)


def cells(rng: np.random.Generator) -> Field:
    """Voronoi cells: facets of one value each or shaded, with or without seams (Worley 1996)."""
    spacing, order, kind, tilt = (
        np.exp(rng.uniform(np.log(8), np.log(32))),
        rng.uniform(0, 0.9),
        rng.integers(4),
        rng.uniform(0, 1),
    )

    def draw(rng: np.random.Generator, count: int, size: int) -> Array:
        centers = _points(rng, count, size, spacing, order)
        ticks = np.arange(size, dtype=np.float32)
        down = ticks[None, None] - centers[..., 0:1]
        across = ticks[None, None] - centers[..., 1:2]
        distance = down[..., :, None] ** 2 + across[..., None, :] ** 2
        nearest = distance.argmin(1)
        if kind == 0:
            return normalized(np.sqrt(distance.min(1)))
        if kind == 1:
            two = np.partition(distance, 1, axis=1)[:, :2]
            return 2 * np.tanh((np.sqrt(two[:, 1]) - np.sqrt(two[:, 0])) / 2 - 1)
        value, slope = rng.standard_normal((2, count, centers.shape[1])).astype(np.float32)
        flat = np.take_along_axis(value, nearest.reshape(count, -1), 1).reshape(nearest.shape)
        lean = np.take_along_axis(slope, nearest.reshape(count, -1), 1).reshape(nearest.shape)
        return flat + tilt * lean * (ticks[None, :, None] % spacing / spacing - 0.5) * (kind == 3)

    return draw


# Leaves and strokes that cover each other ------------------------------------------------------------------------


def leaves(rng: np.random.Generator) -> Field:
    """Dead leaves (Lee, Mumford and Huang 2001): shapes of all sizes, each covering what lies below."""
    return _layers(rng, aspect=float(rng.choice([1.0, 1.6])), aligned=0.0, largest=float(rng.uniform(6, 24)))


def strokes(rng: np.random.Generator) -> Field:
    """Brush strokes: long leaves that follow a flow field."""
    return _layers(
        rng, aspect=float(rng.uniform(3, 9)), aligned=float(rng.uniform(0.5, 1)), largest=float(rng.uniform(2, 6))
    )


def _layers(rng: np.random.Generator, *, aspect: float, aligned: float, largest: float) -> Field:
    direction, swirl = rng.uniform(0, np.pi), rng.choice([0.1, 0.4, 1.2])
    smallest, square, ridge, number = largest * rng.uniform(0.3, 0.9), rng.random() < 0.3, rng.uniform(0, 1.2), 140

    def draw(rng: np.random.Generator, count: int, size: int) -> Array:
        flow = direction + swirl * spectrum(rng, count, size, slope=2.2)
        field = np.zeros((count, size, size), np.float32)
        ticks = np.arange(size, dtype=np.float32)
        each = np.arange(count)
        for _ in range(number):
            row, column = rng.uniform(0, size, (2, count)).astype(np.float32)
            angle = flow[each, row.astype(int), column.astype(int)] * aligned + rng.uniform(0, np.pi, count) * (
                1 - aligned
            )
            radius = smallest * (largest / smallest) ** rng.uniform(0, 1, count)
            down, across = ticks[None, :, None] - row[:, None, None], ticks[None, None] - column[:, None, None]
            cos, sin = (f(angle).astype(np.float32)[:, None, None] for f in (np.cos, np.sin))
            u = (across * cos + down * sin) / (radius * aspect).astype(np.float32)[:, None, None]
            v = (down * cos - across * sin) / radius.astype(np.float32)[:, None, None]
            inside = np.maximum(np.abs(u), np.abs(v)) if square else u * u + v * v
            value = rng.standard_normal((count, 1, 1)).astype(np.float32) + ridge * np.cos(3 * v)
            cover = np.clip((1 - inside) * radius[:, None, None], 0, 1)
            field += (cover * (value - field)).astype(np.float32)
        return field

    return draw


FAMILIES: list[Callable[[np.random.Generator], Field]] = [
    oriented_noise, oriented_noise, fractal, fractal, spots, bands, bands, cells, cells, leaves, strokes, strokes,
]  # fmt: skip
