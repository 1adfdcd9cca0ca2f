"""Poolings beside torch's own, for features (N, C, H, W)."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class RescaledAvgPool2d(nn.AvgPool2d):
    """Average pooling times a factor, so that the activations stay about as large as under maximum pooling.

    Args:
        kernel_size, stride: positions.
        factor: K. Crowson's style-transfer-pytorch takes 2.
    """

    def __init__(self, kernel_size: int, stride: int, factor: float) -> None:
        super().__init__(kernel_size, stride)
        self.factor = factor

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        return super().forward(input) * self.factor


class L2Pool2d(nn.Module):
    """``factor · √Σ x²`` over each window: between the average and the maximum. Its gradient is 0 where all x are.

    Args:
        kernel_size, stride: positions.
        factor: K. Crowson's style-transfer-pytorch takes 0.78.
    """

    def __init__(self, kernel_size: int, stride: int, factor: float) -> None:
        super().__init__()
        self.kernel_size, self.stride, self.factor = kernel_size, stride, factor

    def forward(self, x: Tensor) -> Tensor:
        wide = x if x.element_size() >= 4 else x.float()
        squares = functional.avg_pool2d(wide.square(), self.kernel_size, self.stride) * self.kernel_size**2
        tiny = torch.finfo(squares.dtype).tiny
        return (self.factor * squares.clamp(min=tiny).sqrt()).to(x.dtype)
