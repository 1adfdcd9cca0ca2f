"""Pooling modules that torch lacks, for features (N, C, H, W)."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class RescaledAvgPool2d(nn.AvgPool2d):
    """Average pooling times a factor that keeps the activations about as large as with maximum pooling.

    Args:
        kernel_size, stride: in positions.
        factor: factor of the average; K. Crowson's style-transfer-pytorch uses 2.
    """

    def __init__(self, kernel_size: int, stride: int, factor: float) -> None:
        super().__init__(kernel_size, stride)
        self.factor = factor

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        return super().forward(input) * self.factor


class L2Pool2d(nn.Module):
    """L2 pooling, ``factor · √Σ x²`` over each window: between the average and the maximum.

    The gradient is 0 if all x of a window are 0.

    Args:
        kernel_size, stride: in positions.
        factor: factor of the root; K. Crowson's style-transfer-pytorch uses 0.78.
    """

    def __init__(self, kernel_size: int, stride: int, factor: float) -> None:
        super().__init__()
        self.kernel_size, self.stride, self.factor = kernel_size, stride, factor

    def forward(self, x: Tensor) -> Tensor:
        wide = x if x.element_size() >= 4 else x.float()
        squares = functional.avg_pool2d(wide.square(), self.kernel_size, self.stride) * self.kernel_size**2
        tiny = torch.finfo(squares.dtype).tiny
        return (self.factor * squares.clamp(min=tiny).sqrt()).to(x.dtype)
