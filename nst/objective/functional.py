"""Loss mathematics as pure functions of features (1, C, H, W) and their statistics."""

from torch import Tensor


def mean_squared_difference(features: Tensor, target: Tensor) -> Tensor:
    """``mean((F - P)²)``, the content loss of common implementations: Gatys et al. 2015, eq. 1, as a mean."""
    return (features - target).square().mean()


def half_squared_difference(features: Tensor, target: Tensor) -> Tensor:
    """``½ Σ (F - P)²``: Gatys et al. 2015 (arXiv:1508.06576), eq. 1."""
    return (features - target).square().sum() / 2


def gram_per_position(features: Tensor) -> Tensor:
    """``F Fᵀ / M``, shape (C, C), over the M = H·W positions: Gatys et al. 2015, eq. 3, there without the ``/ M``."""
    flat = features[0].flatten(1)
    return flat @ flat.T / flat.shape[1]


def gram_per_element(features: Tensor) -> Tensor:
    """``F Fᵀ / (C·H·W)``, shape (C, C): the normalization of common implementations."""
    flat = features[0].flatten(1)
    return flat @ flat.T / flat.numel()


def scaled_squared_difference(gram: Tensor, target: Tensor) -> Tensor:
    """``Σ (G - A)² / 4N²``: Gatys et al. 2015, eq. 4, for Gram matrices divided by their number of positions.

    The paper's ``1 / 4N²M²`` holds for sums over the same M positions on both sides. Dividing each matrix by its own
    M beforehand is equal there, and still means the same when the two pictures differ in size.
    """
    return (gram - target).square().sum() / (4 * gram.shape[0] ** 2)


def total_variation(image: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring pixels, down plus across (anisotropic; Rudin, Osher and Fatemi 1992)."""
    down = (image[..., 1:, :] - image[..., :-1, :]).abs().mean() if image.shape[-2] > 1 else image.sum() * 0
    across = (image[..., :, 1:] - image[..., :, :-1]).abs().mean() if image.shape[-1] > 1 else image.sum() * 0
    return down + across
