"""Colour functions of image tensors (1, 3, H, W), sRGB in [0, 1]."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

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
    (mean, root, _), (own_mean, _, inverse) = _statistics(content), _statistics(style)
    matrix = root @ inverse
    found = matrix.to(style) @ style[0].flatten(1) + (mean - matrix @ own_mean).to(style)
    return found.view_as(style).clamp_(0, 1)


def _statistics(image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mean (3, 1) of the colours, the square root of their covariance (3, 3), and its inverse."""
    pixels = image[0].flatten(1)
    sums, products = torch.zeros(3, 1, dtype=torch.float64), torch.zeros(3, 3, dtype=torch.float64)
    for part in torch.split(pixels, 2**20, dim=1):  # some at a time, to spare memory
        wide = part.double()
        sums += wide.sum(1, keepdim=True)
        products += wide @ wide.T
    mean = sums / pixels.shape[1]
    values, vectors = torch.linalg.eigh(products / pixels.shape[1] - mean @ mean.T)
    roots = values.clamp(min=1e-10).sqrt()  # a picture of one colour has no covariance
    return mean, vectors * roots @ vectors.T, vectors / roots @ vectors.T


#: Functions that return the picture to keep from the content and the optimized image, by the values of ``color``.
FINISHES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "luminance": with_luminance,
    "yiq": with_luminance,
    "lab": with_lightness,
}
