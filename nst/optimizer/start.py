"""Start images of the picture's shape (1, 3, H, W), as functions of the content and style image tensors."""

from pathlib import Path

import torch
from torch import Generator, Tensor

from nst import image as images


def content(content: Tensor, style: Tensor, generator: Generator) -> Tensor:
    """Return a copy of the content image."""
    return content.clone()


def content_noise(content: Tensor, style: Tensor, generator: Generator, *, deviation: float) -> Tensor:
    """Return the content image plus white noise of standard deviation ``deviation``, in units of the pixel range."""
    return (content + deviation * _normal(content, generator)).clamp(0, 1)


def noise(content: Tensor, style: Tensor, generator: Generator) -> Tensor:
    """Return white noise, uniform in [0, 1]."""
    return torch.rand(content.shape, generator=generator).to(content)


def style(content: Tensor, style: Tensor, generator: Generator) -> Tensor:
    """Return the style image, stretched to the picture's size."""
    return images.resize(style, (content.shape[-2], content.shape[-1])).clone()


def style_mean(content: Tensor, style: Tensor, generator: Generator) -> Tensor:
    """Return the mean colour of the style image, plus the finest detail of the content image.

    The start of STROTSS (Kolkin et al. 2019, arXiv:1904.12785).
    """
    return (style.mean((2, 3), keepdim=True) + images.detail(content)).clamp(0, 1)


def image(content: Tensor, style: Tensor, generator: Generator, *, path: str, max_pixels: int) -> Tensor:
    """Return the image at ``path``, stretched to the picture's size."""
    start = images.load(Path(path), key="init.path", max_pixels=max_pixels).to(content)
    return images.resize(start, (content.shape[-2], content.shape[-1])).clone()


def blend(
    content: Tensor,
    style: Tensor,
    generator: Generator,
    *,
    content_share: float,
    style_share: float,
    noise_share: float,
) -> Tensor:
    """Return the mean of the content image, the stretched style image and white noise, weighted by their shares."""
    whole = content_share + style_share + noise_share
    stretched = images.resize(style, (content.shape[-2], content.shape[-1]))
    mixed = content_share * content + style_share * stretched + noise_share * noise(content, style, generator)
    return (mixed / whole).clamp(0, 1)


def _normal(like: Tensor, generator: Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator).to(like)
