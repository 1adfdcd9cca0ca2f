"""Colours of pictures: functions of image tensors (1, 3, H, W), sRGB in [0, 1]."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

#: How much of each channel is in the luminance Y of YIQ, which is computed from the values as they are (NTSC 1953).
LUMINANCE = (0.299, 0.587, 0.114)


def luminance(image: Tensor) -> Tensor:
    """The luminance Y of YIQ in each of the three channels."""
    weights = image.new_tensor(LUMINANCE).view(1, 3, 1, 1)
    return (image * weights).sum(1, keepdim=True).expand_as(image)


def with_luminance(content: Tensor, image: Tensor) -> Tensor:
    """The luminance Y of the image with the chroma I and Q of the content (Gatys et al. 2016, arXiv:1606.05897).

    The same amount added to each channel changes Y alone. It goes no further than to the edge of the range of colours.
    """
    change = (luminance(image) - luminance(content))[:, :1]
    return content + change.clamp(-content.amin(1, keepdim=True), 1 - content.amax(1, keepdim=True))


def with_lightness(content: Tensor, image: Tensor) -> Tensor:
    """The lightness L* of the image with a* and b* of the content, in CIELAB; clipped where sRGB has no such colour."""
    import warnings

    from skimage.color import lab2rgb, rgb2lab  # takes a while

    lab = rgb2lab(content[0].permute(1, 2, 0).cpu().numpy())
    lab[..., 0] = rgb2lab(image[0].permute(1, 2, 0).cpu().numpy())[..., 0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of colours that there aren't
        mixed = torch.from_numpy(lab2rgb(lab))
    return mixed.permute(2, 0, 1).unsqueeze(0).to(image).clamp(0, 1)


def matched(style: Tensor, content: Tensor) -> Tensor:
    """The style with the mean and the covariance of the content's colours.

    ``Σc^½ Σs^-½ (x - μs) + μc`` (Gatys et al. 2016, arXiv:1606.05897, section 4, eqs. 3 to 7); then clipped.
    """
    (mean, root, _), (own_mean, _, inverse) = _statistics(content), _statistics(style)
    matrix = root @ inverse
    found = matrix.to(style) @ style[0].flatten(1) + (mean - matrix @ own_mean).to(style)
    return found.view_as(style).clamp_(0, 1)


def _statistics(image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The colours' mean (3, 1), and of their covariance (3, 3) the square root and its inverse."""
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


#: How the picture that is kept is made of the content and what was painted, by the values of ``color``.
FINISHES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "luminance": with_luminance,
    "yiq": with_luminance,
    "lab": with_lightness,
}
