"""The training pictures, and the batches that are drawn from them, each known by its step alone."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from experiments.slim_encoder.pretrain.texture import random_palette, random_texture
from nst import image
from nst.files import paths
from nst.files.atomic import replacing


def generate(path: Path, *, classes: int, samples: int, palettes: int, size: int, seed: int) -> Tensor:
    """The training pictures, uint8 of shape (classes, samples, 3, size, size), kept at ``path`` once made.

    The palettes come from a small pool, so that colour alone does not tell the classes apart.
    """
    if not path.is_file():
        rng = np.random.default_rng(seed)
        pool = [random_palette(rng) for _ in range(palettes)]
        pictures = np.empty((classes, samples, size, size, 3), np.uint8)
        for number in range(classes):
            pictures[number] = random_texture(rng, pool).render(rng, samples, size)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.save(file, pictures)
    return torch.from_numpy(np.load(path)).permute(0, 1, 4, 2, 3)


def bundled() -> list[Tensor]:
    """The pictures that the project has painted itself, image tensors."""
    files = [path for kind in ("content", "style") for path in paths.bundled_pictures(kind)]
    return [image.load(path, key="bundled") for path in files]


def at_sizes(pictures: list[Tensor], sizes: tuple[int, ...] = (768, 512, 360, 256)) -> list[Tensor]:
    """Each picture at each size (px, longest side)."""
    return [
        image.resize(picture, image.fit(picture.shape[-2], picture.shape[-1], size))
        for picture in pictures
        for size in sizes
    ]


class Batches:
    """Batches of augmented textures and of crops of pictures, each a function of the seed and the step alone.

    So a training that goes on sees what it would have seen.

    Args:
        textures: uint8 (classes, samples, 3, size, size).
        pictures: image tensors (1, 3, H, W).
        batch_size: textures in a batch, and crops.
        crop: px.
        seed: of everything.
    """

    def __init__(self, textures: Tensor, pictures: list[Tensor], *, batch_size: int, crop: int, seed: int) -> None:
        self.textures = textures
        self.pictures = pictures
        self.batch_size = batch_size
        self.crop = crop
        self.seed = seed

    def draw(self, step: int) -> tuple[Tensor, Tensor]:
        """Textures and then crops (2 x batch_size, 3, crop, crop) in [0, 1], and the textures' classes."""
        generator = Generator().manual_seed(self.seed * 1_000_003 + step)
        classes, samples = self.textures.shape[:2]
        labels = torch.randint(classes, (self.batch_size,), generator=generator)
        chosen = self.textures[labels, torch.randint(samples, (self.batch_size,), generator=generator)]
        textures = augment(chosen, self.crop, generator)
        crops = torch.cat([self._crop(generator) for _ in labels])
        return torch.cat([textures, overlay(crops, textures, generator)]), labels

    def _crop(self, generator: Generator) -> Tensor:
        picture = self.pictures[_below(len(self.pictures), generator)]
        row, column = (_below(side - self.crop + 1, generator) for side in picture.shape[-2:])
        crop = picture[..., row : row + self.crop, column : column + self.crop]
        return crop.flip(-1) if _below(2, generator) else crop


def _below(number: int, generator: Generator) -> int:
    return int(torch.randint(number, (), generator=generator))


def overlay(pictures: Tensor, textures: Tensor, generator: Generator) -> Tensor:
    """Lays textures and grain over pictures (N, 3, H, W), faint or strong, as style lies over content.

    What the encoder doesn't learn to see here, a style would be painted with.
    """
    strength = torch.rand(len(pictures), 1, 1, 1, generator=generator).square()
    deviation = 0.1 * torch.rand(len(pictures), 1, 1, 1, generator=generator).square()
    grain = deviation * torch.randn(pictures.shape, generator=generator)
    return (pictures + strength * (textures - textures.mean((2, 3), keepdim=True)) + grain).clamp(0, 1)


def augment(pictures: Tensor, crop: int, generator: Generator) -> Tensor:
    """Crops and mirrors uint8 pictures; varies light, contrast, hue, softness and noise: floats in [0, 1]."""

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    count = len(pictures)
    row, column = (_below(side - crop + 1, generator) for side in pictures.shape[-2:])
    x = pictures[..., row : row + crop, column : column + crop].float() / 255
    if uniform() < 0.5:
        x = x.flip(-1)
    x = (x - 0.5) * (1 + 0.15 * normal(count, 1, 1, 1)) + 0.5 + 0.05 * normal(count, 3, 1, 1)
    soft = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), 3, 1)
    x = torch.lerp(x, soft, (uniform(count, 1, 1, 1) - 0.5).clamp(min=0))
    return (x + 0.02 * uniform(count, 1, 1, 1) * normal(*x.shape)).clamp(0, 1)
