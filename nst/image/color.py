"""Colour functions of image tensors (1, 3, H, W), sRGB in [0, 1]."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

#: Weights of the channels in the luminance Y of YIQ, which is computed without linearizing the values (NTSC 1953).
LUMINANCE = (0.299, 0.587, 0.114)


def luminance(image: Tensor) -> Tensor:
    """Return the luminance Y of YIQ in each of the three channels."""
    weights = image.new_tensor(LUMINANCE).view(1, 3, 1, 1)
    return (image * weights).sum(1, keepdim=True).expand_as(image)


def with_luminance(content: Tensor, image: Tensor) -> Tensor:
    """Return the luminance Y of the image with the chroma I and Q of the content.

    Gatys et al. 2016 (arXiv:1606.05897). The same amount added to each channel changes Y only. The amount is limited so
    that all channels stay in [0, 1].
    """
    change = (luminance(image) - luminance(content))[:, :1]
    return content + change.clamp(-content.amin(1, keepdim=True), 1 - content.amax(1, keepdim=True))


def with_lightness(content: Tensor, image: Tensor) -> Tensor:
    """Return the lightness L* of the image with a* and b* of the content, in CIELAB, clipped to the range of sRGB."""
    import warnings

    from skimage.color import lab2rgb, rgb2lab  # a slow import

    lab = rgb2lab(content[0].permute(1, 2, 0).cpu().numpy())
    lab[..., 0] = rgb2lab(image[0].permute(1, 2, 0).cpu().numpy())[..., 0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about colours outside of sRGB
        mixed = torch.from_numpy(lab2rgb(lab))
    return mixed.permute(2, 0, 1).unsqueeze(0).to(image).clamp(0, 1)


def matched(style: Tensor, content: Tensor) -> Tensor:
    """Return the style with the mean and the covariance of the content's colours.

    ``Σc^½ Σs^-½ (x - μs) + μc`` (Gatys et al. 2016, arXiv:1606.05897, section 4, eqs. 3 to 7), clipped to [0, 1].
    """
    return _moved(style, _statistics(style), _statistics(content)).clamp_(0, 1)


@dataclass(frozen=True)
class Palette:
    """A style for ``with_chroma``.

    Attributes:
        image: the style image tensor (1, 3, H, W).
        mask: the part of it that counts, (1, 1, H, W); None for all.
        region: the part of the picture that it is for, (1, 1, H, W) at any size; None for all.
        weight: its factor among the styles.
    """

    image: Tensor
    mask: Tensor | None = None
    region: Tensor | None = None
    weight: float = 1.0


def with_chroma(content: Tensor, image: Tensor, styles: Sequence[Palette]) -> Tensor:
    """Return the lightness of the image with the chroma of the content, moved to the mean and covariance of the styles.

    So colours don't change within an object: the last step of the public code of Kolkin et al. 2022 (arXiv:2203.13215).
    Lightness and chroma are Oklab's (Ottosson 2020, bottosson.github.io/posts/oklab) of values that are not linearized.
    The chroma is smoothed where the lightness is even, by five passes of a bilateral filter of 3 × 3 px.
    """
    own = oklab(content)[:, 1:]
    lightness = oklab(image)[:, :1]
    chroma, whole = torch.zeros_like(own), torch.zeros_like(lightness)
    lowest, highest = [], []
    for style in styles:
        lab = oklab(style.image)
        size = list(own.shape[-2:])
        region = None if style.region is None else functional.interpolate(style.region, size=size, mode="bilinear")
        share = style.weight if region is None else style.weight * region
        chroma += share * _moved(own, _statistics(own, region), _statistics(lab[:, 1:], style.mask))
        whole += share
        lowest.append(float(lab[:, 0].min()))
        highest.append(float(lab[:, 0].max()))
    chroma = torch.where(whole > 0, chroma / whole.clamp(min=1e-6), own)
    lightness = lightness.clamp(min(lowest), max(highest))
    for _ in range(5):
        chroma = _bilateral(chroma, lightness)
    return _of_oklab(torch.cat([lightness, chroma], 1))


#: Linear RGB to the responses of the three kinds of cones, and the cube roots of these to Oklab.
_CONES = (
    (0.4122214708, 0.5363325363, 0.0514459929),
    (0.2119034982, 0.6806995451, 0.1073969566),
    (0.0883024619, 0.2817188376, 0.6299787005),
)
_OKLAB = (
    (0.2104542553, 0.7936177850, -0.0040720468),
    (1.9779984951, -2.4285922050, 0.4505937099),
    (0.0259040371, 0.7827717662, -0.8086757660),
)


def oklab(image: Tensor) -> Tensor:
    """Return the lightness and the chroma a and b of Oklab (Ottosson 2020), of values that are not linearized."""
    cones = torch.einsum("ij,njhw->nihw", image.new_tensor(_CONES), image).clamp(min=0).pow(1 / 3)
    return torch.einsum("ij,njhw->nihw", image.new_tensor(_OKLAB), cones)


def _of_oklab(lab: Tensor) -> Tensor:
    to_cones, to_rgb = (
        torch.linalg.inv(torch.tensor(matrix, dtype=torch.float64)).to(lab) for matrix in (_OKLAB, _CONES)
    )
    cones = torch.einsum("ij,njhw->nihw", to_cones, lab).pow(3)
    return torch.einsum("ij,njhw->nihw", to_rgb, cones).clamp(0, 1)


def _bilateral(values: Tensor, guide: Tensor) -> Tensor:
    """Return the values (1, C, H, W), averaged over 3 × 3 px with weights exp(-10 |difference of the guide|)."""
    height, width = values.shape[-2:]
    wide, around = (functional.pad(each, (1, 1, 1, 1), mode="replicate") for each in (values, guide))
    total, whole = torch.zeros_like(values), torch.zeros_like(guide)
    for down in range(3):
        for right in range(3):
            place = (..., slice(down, down + height), slice(right, right + width))
            weights = (-10 * (around[place] - guide).abs()).exp()
            total += weights * wide[place]
            whole += weights
    return total / whole


Statistics = tuple[Tensor, Tensor, Tensor]


def _moved(image: Tensor, own: Statistics, wanted: Statistics) -> Tensor:
    """Return an image tensor (1, C, H, W) with its ``own`` statistics replaced by others, by an affine map."""
    (own_mean, _, inverse), (mean, root, _) = own, wanted
    matrix = root @ inverse
    return (matrix.to(image) @ image[0].flatten(1) + (mean - matrix @ own_mean).to(image)).view_as(image)


def _statistics(image: Tensor, weights: Tensor | None = None) -> Statistics:
    """Return the mean (C, 1) of an image's pixels, the square root of their covariance (C, C), and its inverse.

    ``weights`` (1, 1, H, W) weight the pixels.
    """
    pixels = image[0].flatten(1)
    channels = len(pixels)
    sums, products = torch.zeros(channels, 1, dtype=torch.float64), torch.zeros(channels, channels, dtype=torch.float64)
    whole = 0.0
    shares = torch.ones_like(pixels[:1]) if weights is None else weights[0].flatten(1)
    for part, share in zip(torch.split(pixels, 2**20, 1), torch.split(shares, 2**20, 1), strict=True):
        wide, factor = part.double(), share.double()  # some at a time, to spare memory
        sums += (factor * wide).sum(1, keepdim=True)
        products += factor * wide @ wide.T
        whole += float(factor.sum())
    mean = sums / whole
    values, vectors = torch.linalg.eigh(products / whole - mean @ mean.T)
    roots = values.clamp(min=1e-10).sqrt()  # a picture of one colour has no covariance
    return mean, vectors * roots @ vectors.T, vectors / roots @ vectors.T


#: Functions that return the picture to keep from the content and the optimized image, by the values of ``color``.
FINISHES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "luminance": with_luminance,
    "yiq": with_luminance,
    "lab": with_lightness,
}
