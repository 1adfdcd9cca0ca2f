"""Measures of a picture against its content and its style.

Image tensors are (1, 3, H, W), sRGB in [0, 1]; features are (1, C, H, W). Every function returns a number, computed in
64 bits from statistics on unless the docstring says otherwise; 0 stands for equal pictures, with the same exception.
"""

import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from nst import image as images
from nst.image.color import luminance, oklab
from nst.objective import functional
from nst.objective.products import as_rows
from nst.objective.statistics import gram_per_element, moments, projections

#: Number of positions whose similarities to all others are in memory at a time.
_CHUNK = 256

#: Number of random directions of sliced distances.
DIRECTIONS = 64

#: Bins of an RGB-uv histogram along u and v, from -3 to 3; width of its kernel; longest side in px of what it counts.
_BINS, _SIGMA, _COUNTED = 64, 0.02, 150

#: Added to colours before their logarithm.
_EPS = 1e-6


def feature_structure(picture: Tensor, content: Tensor) -> float:
    """Return the content feature structural distance (CFSD): Chung et al. 2024 (StyleID, arXiv:2312.09008).

    ``Σᵢ KL(S(F)ᵢ ‖ S(P)ᵢ)`` with ``S(F) = softmax(F Fᵀ / C²)``, row by row, of the features F of the content and P of
    the picture, both (1, C, H, W): how similar each position is to each other one.

    Computed in the features' own precision, as ``KL = log E[exp(g)]`` with the mean over ``S(F)ᵢ``, where g is the
    difference of the two similarities minus its mean. No large numbers cancel in ``E[exp(g) - 1 - g]``: in 32 bits the
    relative error is below 1e-6.
    """
    own, other = (as_rows(each) / each.shape[1] for each in (content, picture))
    total = 0.0
    for start in range(0, len(own), _CHUNK):
        here, there = (rows[start : start + _CHUNK] @ rows.T for rows in (own, other))
        weights = here.softmax(1)
        gaps = there.sub_(here)
        gaps -= torch.linalg.vecdot(weights, gaps).unsqueeze(1)
        excess = gaps.expm1().sub_(gaps).mul_(weights).sum(1)
        total += float(excess.double().log1p().sum())
    return total


def structural_similarity(picture: Tensor, content: Tensor) -> float:
    """Return the structural similarity (SSIM) of luminance: Wang et al. 2004, IEEE Trans. Image Process. 13, eq. 13.

    1 stands for equal pictures.
    """
    return _ssim(luminance(picture)[:, :1], luminance(content)[:, :1])


def edge_similarity(picture: Tensor, content: Tensor) -> float:
    """Return the structural similarity of the gradients' magnitudes of luminance, by Sobel's filters.

    After Chen et al. 2006 (Gradient-based structural similarity, ICIP). 1 stands for equal pictures.
    """
    return _ssim(_edges(picture), _edges(content))


def gram_distance(picture: Tensor, style: Tensor) -> float:
    """Return ``‖G - A‖² / ‖A‖²`` of the features' Gram matrices: Gatys et al. 2015 (arXiv:1508.06576), eq. 4."""
    found, wanted = (gram_per_element(each.double()) for each in (picture, style))
    return float((found - wanted).square().sum() / wanted.square().sum())


def frechet_distance(picture: Tensor, style: Tensor) -> float:
    """Return the squared Fréchet distance of the Gaussians of two features, divided by C.

    Dowson and Landau 1982, J. Multivariate Anal. 12, eq. 4; of single pictures as in Shaham et al. 2019
    (arXiv:1905.01164), section 3.
    """
    found, wanted = (moments(each.double()) for each in (picture, style))
    return float(functional.gaussian_wasserstein(found, wanted, eps=0.0))


def sliced_wasserstein_distance(picture: Tensor, style: Tensor) -> float:
    """Return the sliced Wasserstein-2 distance of two features: Bonneel et al. 2015, J. Math. Imaging Vis. 51.

    The root of the mean over ``DIRECTIONS`` fixed random directions. The two may differ in their numbers of positions.
    """
    found, wanted = (_sorted(projections(each, directions=DIRECTIONS, seed=0)) for each in (picture, style))
    return float(_transport(found, wanted).mean().sqrt())


def palette_distance(picture: Tensor, style: Tensor) -> float:
    """Return the sliced Wasserstein-2 distance of the colours of two image tensors in Oklab (``image.color.oklab``)."""
    return sliced_wasserstein_distance(oklab(picture), oklab(style))


def color_histogram_distance(picture: Tensor, style: Tensor) -> float:
    """Return the Hellinger distance of RGB-uv histograms: Afifi et al. 2021 (HistoGAN, arXiv:2011.11731).

    Between 0 and 1, for no common colours. Pictures larger than 150 px are reduced to that.
    """
    found, wanted = _histogram(picture), _histogram(style)
    return float((found.sqrt() - wanted.sqrt()).square().sum().div(2).sqrt())


def grain(picture: Tensor, content: Tensor, style: Tensor) -> float:
    """Return the grain where the content is flat, relative to that of the style.

    The variance of the luminance's Laplacian in the 30% of positions where the content's luminance varies least in
    9 × 9 px, divided by the variance of the Laplacian of all of the style. 0 stands for no grain.
    """
    return float(_laplacian(picture)[_flat(content)].var() / _laplacian(style).var())


def clipped(picture: Tensor) -> float:
    """Return the share of the values of an image tensor that are 0 or 1 in 8 bits."""
    steps = images.to_bytes(picture)
    return float(((steps == 0) | (steps == 255)).double().mean())


def by_layer(name: str, losses: Mapping[str, float]) -> dict[str, float]:
    """Return a measure's values by layer, as ``NAME/relu1_1``, and their mean, as ``NAME``."""
    mean = sum(losses.values()) / len(losses)
    return {name: mean, **{f"{name}/{layer}": value for layer, value in losses.items()}}


def _ssim(one: Tensor, other: Tensor) -> float:
    from torchmetrics.functional.image import structural_similarity_index_measure  # a slow import

    if min(one.shape[-2:]) < 11:  # the window's side
        return math.nan
    found = structural_similarity_index_measure(one, other, data_range=1.0)
    assert isinstance(found, Tensor)
    return float(found)


def _edges(image: Tensor) -> Tensor:
    across = image.new_tensor([[1, 0, -1], [2, 0, -2], [1, 0, -1]]) / 4
    kernels = torch.stack([across, across.T]).unsqueeze(1)
    padded = F.pad(luminance(image)[:, :1], (1, 1, 1, 1), mode="replicate")
    return F.conv2d(padded, kernels).square().sum(1, keepdim=True).sqrt()


def _laplacian(image: Tensor) -> Tensor:
    kernel = torch.tensor([[0.0, -1, 0], [-1, 4, -1], [0, -1, 0]], dtype=torch.float64, device=image.device).view(
        1, 1, 3, 3
    )
    return F.conv2d(F.pad(luminance(image)[:, :1].double(), (1, 1, 1, 1), mode="replicate"), kernel)


def _flat(content: Tensor) -> Tensor:
    """Return a mask (1, 1, H, W) of the 30% of positions where the luminance varies least."""
    light = F.pad(luminance(content)[:, :1].double(), (4, 4, 4, 4), mode="replicate")
    varies = F.avg_pool2d(light.square(), 9, 1) - F.avg_pool2d(light, 9, 1).square()
    return varies <= varies.flatten().quantile(0.3)


def _sorted(rows: Tensor) -> Tensor:
    """Return each row (N,) sorted. NumPy sorts several times as fast as torch on a processor (vectorized)."""
    if rows.is_cuda:
        return rows.sort(dim=1).values
    values = rows.numpy().copy()
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:  # NumPy leaves the lock to others while it sorts
        list(threads.map(np.ndarray.sort, values))
    return torch.from_numpy(values)


def _transport(found: Tensor, wanted: Tensor) -> Tensor:
    """Return the squared Wasserstein-2 distances (K,) of sorted rows (K, M) and (K, N), whose numbers weigh alike."""
    number, another = found.shape[1], wanted.shape[1]
    steps = [
        torch.arange(1, many + 1, device=found.device) * few for many, few in ((number, another), (another, number))
    ]
    ends: Tensor = torch.unique(torch.cat(steps))
    masses = torch.diff(ends, prepend=ends.new_zeros(1)).double() / (number * another)
    own, other = (ends - 1) // another, (ends - 1) // number
    squares = [(one[own] - two[other]).double().square() @ masses for one, two in zip(found, wanted, strict=True)]
    return torch.stack(squares)


def _histogram(image: Tensor) -> Tensor:
    """Return the RGB-uv histogram of an image tensor, (3, bins, bins), with sum 1."""
    height, width = image.shape[-2:]
    small = images.resize(image, images.fit(height, width, min(_COUNTED, max(height, width))))
    colors = as_rows(small).double()
    weights = (colors.square().sum(1, keepdim=True) + _EPS).sqrt()
    logs, centres = (colors + _EPS).log(), torch.linspace(-3, 3, _BINS, dtype=colors.dtype, device=colors.device)

    def near(channel: int, than: int) -> Tensor:
        return 1 / (1 + ((logs[:, channel] - logs[:, than]).unsqueeze(1) - centres).div(_SIGMA).square())

    planes = [
        (weights * near(c, others[0])).T @ near(c, others[1]) for c, others in enumerate(((1, 2), (0, 2), (0, 1)))
    ]
    histogram = torch.stack(planes)
    return histogram / histogram.sum()
