"""The layers of a frozen network, and their gradient with respect to its picture.

Weights that are never trained ask for less than autograd keeps: the gradient passes a convolution with its weights
alone, a ReLU with the signs of its output, an average with its shape. So one bit of each activation is kept until the
backward pass, instead of 32.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional


class Layer(nn.Module):
    """One step of the network.

    Attributes:
        kernel_size, stride, padding: which positions of its input an output position reads, in each direction.
    """

    kernel_size: int
    stride: int
    padding: int

    def size(self, length: int) -> int:
        """How many positions the output has along an input of ``length`` positions."""
        return (length + 2 * self.padding - self.kernel_size) // self.stride + 1

    def channels(self, before: int) -> int:
        """How many features the output has at each position, where the input has so many."""
        return before

    @abstractmethod
    def trace(self, inputs: Tensor, outputs: Tensor) -> Any:
        """What ``backward`` needs of a forward pass."""

    @abstractmethod
    def trace_bytes(self, before: int, after: int, itemsize: int) -> int:
        """What the trace takes, for inputs and outputs of so many bytes, and numbers of ``itemsize`` bytes."""

    @abstractmethod
    def backward(self, gradient: Tensor, trace: Any) -> Tensor:
        """From the gradient with respect to the outputs, which may be overwritten, to that of the inputs."""


class Convolution(Layer):
    """A 3 × 3 convolution with a margin of 1, and the ReLU after it, if there is one.

    Args:
        weight: (C, C of the input, 3, 3).
        bias: (C,).
        relu: whether the negative outputs become 0.
        dtype: of the outputs. The inputs have the weights' type, and so has the arithmetic.
        margin: what is around the inputs: ``zeros``, ``reflect`` (their mirror image about the edge) or ``replicate``.
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
        return _signs(outputs) if self.relu else None

    def trace_bytes(self, before: int, after: int, itemsize: int) -> int:
        return _signs_bytes(after, itemsize) if self.relu else 0

    def backward(self, gradient: Tensor, trace: Tensor | None) -> Tensor:
        if trace is not None:
            gradient = _keep_positive(gradient, trace)
        gradient = gradient.to(self.weight.dtype)
        if self.margin == "zeros":
            return functional.conv_transpose2d(gradient, self.weight, padding=1)
        padded = functional.conv_transpose2d(gradient, self.weight)
        inward = 1 if self.margin == "reflect" else 0  # where the margin is from, counted from the edge
        for axis in (2, 3):
            size = padded.shape[axis] - 2
            for edge, place in ((0, inward), (size + 1, size - 1 - inward)):
                padded.narrow(axis, place + 1, 1).add_(padded.narrow(axis, edge, 1))
            padded = padded.narrow(axis, 1, size)
        return padded


class ReLU(Layer):
    """A ReLU on its own, where the values before it were asked for, too."""

    kernel_size, stride, padding = 1, 1, 0

    def forward(self, x: Tensor) -> Tensor:
        return x.relu()

    def trace(self, inputs: Tensor, outputs: Tensor) -> Tensor:
        return _signs(outputs)

    def trace_bytes(self, before: int, after: int, itemsize: int) -> int:
        return _signs_bytes(after, itemsize)

    def backward(self, gradient: Tensor, trace: Tensor) -> Tensor:
        return _keep_positive(gradient, trace)


class Averaging(Layer):
    """Average pooling whose windows don't overlap: the gradient is spread evenly over each window."""

    padding = 0

    def __init__(self, module: nn.AvgPool2d) -> None:
        super().__init__()
        self.module = module
        self.kernel_size = self.stride = int(module.kernel_size)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return self.module(x)  # type: ignore[no-any-return]

    def trace(self, inputs: Tensor, outputs: Tensor) -> torch.Size:
        return inputs.shape

    def trace_bytes(self, before: int, after: int, itemsize: int) -> int:
        return 0

    def backward(self, gradient: Tensor, trace: torch.Size) -> Tensor:
        share = getattr(self.module, "factor", 1.0) / self.stride**2
        spread = functional.interpolate(gradient * share, scale_factor=self.stride, mode="nearest")
        below, right = (int(whole - part) for whole, part in zip(trace[2:], spread.shape[2:], strict=True))
        return functional.pad(spread, (0, right, 0, below)) if below or right else spread


class Pooling(Layer):
    """Any other pooling: its input is kept, and autograd finds the gradient."""

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


def pooling(module: nn.Module) -> Layer:
    """The layer of a pooling module."""
    plain = isinstance(module, nn.AvgPool2d) and module.kernel_size == module.stride and module.padding == 0
    return Averaging(module) if plain and not module.ceil_mode else Pooling(module)  # type: ignore[arg-type]


class Features(torch.autograd.Function):
    """``Features.apply(x, layers, wanted, traced)``: the outputs of the ``wanted`` ones of the ``layers``.

    Args:
        x: the network's input (1, C, H, W).
        layers: name and layer, in their order.
        wanted: whether a layer's output is returned, by name.
        traced: whether there will be a backward pass; without one nothing is kept.
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
        while ctx.steps:  # each trace is let go as soon as it was used
            layer, trace, wanted = ctx.steps.pop()
            if wanted and (part := arriving.pop()) is not None:
                gradient = part.clone(memory_format=torch.channels_last) if gradient is None else gradient.add_(part)
            if gradient is not None:
                gradient = layer.backward(gradient, trace)
        return gradient, None, None, None


#: Activations of a layer that are few enough to be kept as they are, which is quicker; and the bits unpacked at a time.
FEW = 2**21

#: Integers as wide as the numbers of a type, by which the bits of these are seen.
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def _signs(activations: Tensor) -> Tensor:
    """What tells the positive ones among activations that aren't negative: a bit for each, 8 in a byte, but of few."""
    if activations.numel() <= FEW:
        return activations
    positive = _flat(activations) > 0
    if positive.device.type == "cpu":
        return torch.from_numpy(np.packbits(positive.numpy(), bitorder="little"))
    # Eight bytes of 0 or 1 as one number: the product's highest byte has their bits side by side.
    return (positive.view(torch.int64) * 0x0102040810204080 >> 56).to(torch.uint8)


def _signs_bytes(activations: int, itemsize: int) -> int:
    """What ``_signs`` takes for activations of so many bytes."""
    numbers = activations // itemsize
    return activations if numbers <= FEW else numbers // 8


def _keep_positive(gradient: Tensor, signs: Tensor) -> Tensor:
    """The gradient, 0 where the activations weren't positive; of many in place, where the memory's order allows."""
    gradient = gradient.contiguous(memory_format=torch.channels_last)
    if signs.shape == gradient.shape:
        return torch.ops.aten.threshold_backward(gradient, signs, 0)  # type: ignore[no-any-return]
    numbers = _flat(gradient).view(-1, 8)
    # All bits of a number, or none: the eight masks of each byte of signs.
    places = torch.arange(8, device=signs.device)
    masks = (-(torch.arange(256, device=signs.device).unsqueeze(1) >> places & 1)).to(numbers.dtype)
    for part, packed in zip(torch.split(numbers, FEW // 8), torch.split(signs, FEW // 8), strict=True):
        part.bitwise_and_(masks.index_select(0, packed.int()))
    return gradient


def _flat(x: Tensor) -> Tensor:
    """The values in the order of their memory, as integers of the same bits."""
    return x.permute(0, 2, 3, 1).reshape(-1).view(_INTEGERS[x.element_size()])
