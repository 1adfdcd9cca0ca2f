"""The layers of a frozen network, and their gradient with respect to the network's picture.

Weights that are never trained need less than autograd keeps. The backward pass of a convolution needs its weights only,
that of a ReLU the signs of its output, and that of an average pooling the shape of its input. So one bit of each
activation is kept until the backward pass, instead of 32.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from nst.encoder.precision import split
from nst.encoder.signs import keep_positive, signs, signs_bytes


class Layer(nn.Module):
    """One step of the network.

    Attributes:
        kernel_size, stride, padding: window of the input that an output position reads, the same in each direction.
    """

    kernel_size: int
    stride: int
    padding: int

    def size(self, length: int) -> int:
        """Return the number of output positions along an input of ``length`` positions."""
        return (length + 2 * self.padding - self.kernel_size) // self.stride + 1

    def channels(self, before: int) -> int:
        """Return the number of output channels for an input with ``before`` channels."""
        return before

    @abstractmethod
    def trace(self, inputs: Tensor, outputs: Tensor) -> Any:
        """Return what ``backward`` needs of a forward pass."""

    @abstractmethod
    def trace_bytes(self, before: int, after: int, itemsize: int) -> int:
        """Return the bytes of the trace for inputs of ``before`` bytes and outputs of ``after`` bytes.

        The numbers have ``itemsize`` bytes each.
        """

    @abstractmethod
    def backward(self, gradient: Tensor, trace: Any) -> Tensor:
        """Return the gradient with respect to the inputs, from that of the outputs, which may be overwritten."""


class Convolution(Layer):
    """A 3 × 3 convolution with a margin of 1, optionally followed by a ReLU.

    Args:
        weight: shape (C, C of the input, 3, 3).
        bias: shape (C,).
        relu: whether the negative outputs become 0.
        dtype: type of the outputs. The inputs and the arithmetic have the type of the weights.
        margin: values around the inputs: ``zeros``, ``reflect`` (their mirror image about the edge) or ``replicate``.
    """

    kernel_size, stride, padding = 3, 1, 1
    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor, *, relu: bool, dtype: torch.dtype, margin: str = "zeros") -> None:
        super().__init__()
        self.register_buffer("weight", weight.contiguous(memory_format=torch.channels_last))
        self.register_buffer("bias", bias)
        self.relu = relu
        self.dtype = dtype
        self.margin = margin

    def channels(self, before: int) -> int:
        return len(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        if self.margin == "zeros":
            y = functional.conv2d(x, self.weight, self.bias, padding=1)
        else:
            y = functional.conv2d(functional.pad(x, (1, 1, 1, 1), mode=self.margin), self.weight, self.bias)
        y = y.to(self.dtype, memory_format=torch.channels_last)
        return y.relu_() if self.relu else y

    def trace(self, inputs: Tensor, outputs: Tensor) -> Tensor | None:
        return signs(outputs) if self.relu else None

    def trace_bytes(self, before: int, after: int, itemsize: int) -> int:
        return signs_bytes(after, itemsize) if self.relu else 0

    def backward(self, gradient: Tensor, trace: Tensor | None) -> Tensor:
        if trace is not None:
            gradient = keep_positive(gradient, trace)
        gradient = gradient.to(self.weight.dtype)
        if self.margin == "zeros":
            return self.transposed(gradient, padding=1)
        padded = self.transposed(gradient, padding=0)
        inward = 1 if self.margin == "reflect" else 0  # distance of the margin's source from the edge
        for axis in (2, 3):
            size = padded.shape[axis] - 2
            for edge, place in ((0, inward), (size + 1, size - 1 - inward)):
                padded.narrow(axis, place + 1, 1).add_(padded.narrow(axis, edge, 1))
            padded = padded.narrow(axis, 1, size)
        return padded

    def transposed(self, gradient: Tensor, padding: int) -> Tensor:
        """Return the gradient with respect to the inputs, and to a margin around them unless ``padding`` is 1."""
        return functional.conv_transpose2d(gradient, self.weight, padding=padding)


class SplitConvolution(Convolution):
    """A convolution of inputs with more than 16 bits, such as pixels, by a 16-bit convolution.

    Inputs and weights are each the sum of two 16-bit numbers, ``x = x1 + x2`` and ``w = w1 + w2``. A convolution
    with three times the channels computes ``x1 w1 + x2 w1 + x1 w2``, and adds it up in 32 bits. What is left out,
    ``x2 w2``, is smaller than the rounding of the outputs. A 32-bit convolution would take longer, and its outputs
    would have to be written and read once more to round them.
    """

    back: Tensor

    def __init__(self, weight: Tensor, bias: Tensor, *, relu: bool, dtype: torch.dtype, margin: str = "zeros") -> None:
        first, second = split(weight, dtype, 2)
        joined = torch.cat([first, first, second], dim=1)
        super().__init__(joined, bias.to(dtype, copy=True), relu=relu, dtype=dtype, margin=margin)
        self.register_buffer("back", torch.cat([first, second], dim=1).contiguous(memory_format=torch.channels_last))

    def forward(self, x: Tensor) -> Tensor:
        first, second = split(x, self.dtype, 2)
        return super().forward(torch.cat([first, second, first], dim=1))

    def transposed(self, gradient: Tensor, padding: int) -> Tensor:
        both = functional.conv_transpose2d(gradient, self.back, padding=padding)
        first, second = both.float().chunk(2, dim=1)
        return first + second


class ReLU(Layer):
    """A separate ReLU, used if the values before it are also requested."""

    kernel_size, stride, padding = 1, 1, 0

    def forward(self, x: Tensor) -> Tensor:
        return x.relu()

    def trace(self, inputs: Tensor, outputs: Tensor) -> Tensor:
        return signs(outputs)

    def trace_bytes(self, before: int, after: int, itemsize: int) -> int:
        return signs_bytes(after, itemsize)

    def backward(self, gradient: Tensor, trace: Tensor) -> Tensor:
        return keep_positive(gradient, trace)


class Averaging(Layer):
    """Average pooling with windows that don't overlap. The gradient is spread evenly over each window.

    On CUDA both are computed by operations that take a third of the time of ``avg_pool2d`` and of ``interpolate`` in
    channels-last order (H200, 64 channels at 2048 px: 0.5 of 1.6 ms, and 0.5 of 1.7 ms).
    """

    padding = 0

    def __init__(self, module: nn.AvgPool2d) -> None:
        super().__init__()
        self.module = module
        self.kernel_size = self.stride = int(module.kernel_size)  # type: ignore[arg-type]
        self.factor = float(getattr(module, "factor", 1.0))

    def forward(self, x: Tensor) -> Tensor:
        if x.is_cuda and not (x.shape[2] % self.stride or x.shape[3] % self.stride):
            means = window_means(x, self.stride)
            return means if self.factor == 1 else means * self.factor
        return self.module(x)  # type: ignore[no-any-return]

    def trace(self, inputs: Tensor, outputs: Tensor) -> torch.Size:
        return inputs.shape

    def trace_bytes(self, before: int, after: int, itemsize: int) -> int:
        return 0

    def backward(self, gradient: Tensor, trace: torch.Size) -> Tensor:
        share = gradient * (self.factor / self.stride**2)
        if gradient.is_cuda:
            spread = repeated(share, self.stride)
        else:
            spread = functional.interpolate(share, scale_factor=self.stride, mode="nearest")
        below, right = (int(whole - part) for whole, part in zip(trace[2:], spread.shape[2:], strict=True))
        return functional.pad(spread, (0, right, 0, below)) if below or right else spread


class Pooling(Layer):
    """Any other pooling. The input is kept, and autograd computes the gradient."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.kernel_size, self.stride = int(module.kernel_size), int(module.stride)  # type: ignore[arg-type]
        self.padding = int(getattr(module, "padding", 0))
        self.ceil = bool(getattr(module, "ceil_mode", False))

    def size(self, length: int) -> int:
        size = super().size(length + (self.stride - 1) * self.ceil)
        # A window that would begin beyond the input's margin doesn't count.
        return size - int(self.ceil and (size - 1) * self.stride >= length + self.padding)

    def forward(self, x: Tensor) -> Tensor:
        return self.module(x)  # type: ignore[no-any-return]

    def trace(self, inputs: Tensor, outputs: Tensor) -> Tensor:
        return inputs.detach()

    def trace_bytes(self, before: int, after: int, itemsize: int) -> int:
        return before

    def backward(self, gradient: Tensor, trace: Tensor) -> Tensor:
        with torch.enable_grad():
            inputs = trace.requires_grad_()
            return torch.autograd.grad(self.module(inputs), inputs, gradient)[0]


def window_means(x: Tensor, size: int) -> Tensor:
    """Return the means of windows of size × size positions, which divide the features (1, C, H, W)."""
    _, channels, height, width = x.shape
    windows = x.permute(0, 2, 3, 1).reshape(1, height // size, size, width // size, size, channels)
    return windows.mean((2, 4)).permute(0, 3, 1, 2)


def repeated(x: Tensor, size: int) -> Tensor:
    """Return the features (1, C, H, W) with each position repeated size × size times."""
    rows = torch.stack([x.permute(0, 2, 3, 1)] * size, dim=3).flatten(2, 3)
    return torch.stack([rows] * size, dim=2).flatten(1, 2).permute(0, 3, 1, 2)


def pooling(module: nn.Module) -> Layer:
    """Return the layer of a pooling module."""
    plain = isinstance(module, nn.AvgPool2d) and module.kernel_size == module.stride and module.padding == 0
    return Averaging(module) if plain and not module.ceil_mode else Pooling(module)  # type: ignore[arg-type]


class Features(torch.autograd.Function):
    """The function ``Features.apply(x, layers, wanted, traced)``, which returns the outputs of the wanted layers.

    Args:
        x: the network's input (1, C, H, W).
        layers: pairs of name and layer, in order.
        wanted: returns whether a layer's output is wanted, from the layer's name.
        traced: whether a backward pass follows; otherwise nothing is kept.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, layers: list[tuple[str, Layer]], wanted: Callable[[str], bool], traced: bool
    ) -> tuple[Tensor, ...]:
        outputs: list[Tensor] = []
        ctx.steps = []
        for name, layer in layers:
            y = layer(x)
            if traced:
                ctx.steps.append((layer, layer.trace(x, y), wanted(name)))
            if wanted(name):
                outputs.append(y)
            x = y
        ctx.set_materialize_grads(value=False)
        return tuple(outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, None, None, None]:
        arriving = list(gradients)
        gradient = None
        while ctx.steps:  # each trace is released right after its use
            layer, trace, wanted = ctx.steps.pop()
            if wanted and (part := arriving.pop()) is not None:
                gradient = part.clone(memory_format=torch.channels_last) if gradient is None else gradient.add_(part)
            if gradient is not None:
                gradient = layer.backward(gradient, trace)
        return gradient, None, None, None
