"""A frozen VGG that returns features by layer name."""

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nst.encoder import PIXELS
from nst.encoder import architecture as arch
from nst.encoder.base import Encoder
from nst.encoder.checkpoint import State
from nst.encoder.layers import Convolution, Features, Layer, ReLU, SplitConvolution
from nst.encoder.layers import pooling as frozen_pooling
from nst.encoder.precision import round_filters

#: ImageNet's channel means and standard deviations, which torchvision's weights expect (sRGB in [0, 1]).
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Convention:
    """The input that weights expect.

    Attributes:
        mean, std: values subtracted from the channels of sRGB in [0, 1], and divisors of the differences.
        bgr: whether the channels of the first filters are in the order blue, green, red.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    bgr: bool = False


#: Conventions by the values of ``encoder.convention``. ``caffe`` is that of the original weights: BGR from 0 to 255
#: minus the means (Simonyan and Zisserman's published model).
CONVENTIONS = {
    "torchvision": Convention(MEAN, STD),
    "caffe": Convention((123.68 / 255, 116.779 / 255, 103.939 / 255), (1 / 255,) * 3, bgr=True),
}


class VGG(Encoder):
    """A frozen VGG up to the deepest requested layer, with replaceable pooling.

    Args:
        architecture: a key of ``nst.encoder.architecture.BLOCKS``.
        layers: names of the layers with features to return; nothing past the deepest is computed.
        pooling: returns a pooling module; called once for each block but the last.
        state: weights in torchvision's layout (``features.0.weight``, …), at least up to the deepest layer.
        convention: input that the weights expect, a key of CONVENTIONS.
        reach: number of positions beyond its own, to the right and below, that a tile needs of each layer.
        padding: values around the picture and around each layer's features: ``zeros``, ``reflect`` or ``replicate``.
        dtype: type of the weights and the features. The first convolution takes pixels and weights of 32 bits or more,
            or each as a sum of two numbers of 16 bits. With one number of 16 bits the pixels would be rounded, and the
            rounding error would dominate the gradient of a picture that is nearly done (with the bundled encoder, after
            100 evaluations of the main job, it was twice as large as the gradient).
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        *,
        architecture: str,
        layers: Sequence[str],
        pooling: Callable[[], nn.Module],
        state: State,
        convention: str = "torchvision",
        padding: str = "zeros",
        reach: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(layers, dtype)
        self.reach = reach
        self.padding = padding
        expected = CONVENTIONS[convention]
        if expected.bgr:
            state = {**state, "features.0.weight": state["features.0.weight"].flip(1)}
        exact = self.picture_dtype
        self.register_buffer("mean", torch.tensor(expected.mean, dtype=exact).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(expected.std, dtype=exact).view(1, 3, 1, 1))
        self.sequence = nn.ModuleDict(dict(_sequence(architecture, self.layers, pooling, state, padding, dtype, exact)))

    @property
    def steps(self) -> list[tuple[str, Layer]]:
        return list(self.sequence.items())  # type: ignore[arg-type]

    def shapes(self, shape: Sequence[int]) -> dict[str, torch.Size]:
        """Return the output shapes of all layers, requested or not, for a picture of ``shape`` (height, width) px."""
        sizes = {PIXELS: torch.Size((1, 3, shape[0], shape[1]))}
        (height, width), channels = shape, 3
        for name, layer in self.steps:
            height, width, channels = layer.size(height), layer.size(width), layer.channels(channels)
            sizes[name] = torch.Size((1, channels, height, width))
        return sizes

    def smallest_side(self) -> int:
        side = 2 if self.padding == "reflect" else 1  # a mirror image about an edge needs two
        for _, layer in reversed(self.steps):
            side = (side - 1) * layer.stride + layer.kernel_size - 2 * layer.padding
        return side

    def evaluation_bytes(self, shape: Sequence[int], *, traced: bool) -> int:
        """Return the peak bytes, at the end of the forward pass or in the backward pass of the widest layers."""
        kept = peak = largest = 0
        steps = []
        for name, layer, before, after, itemsize in self._walk(shape):
            feature = after if name in self.layers else 0
            own = feature + (layer.trace_bytes(before, after, itemsize) if traced else 0)
            # 64-bit convolutions are computed as matrix products, with a copy of each of nine shifts of the inputs.
            copies = 9 * before if itemsize == 8 and isinstance(layer, Convolution) else 0
            peak = max(peak, kept + before + 2 * after + copies)
            kept, largest = kept + own, max(largest, feature)
            steps.append((before, after, own, copies))
        peak = max(peak, kept + largest)
        if not traced:
            return peak
        for before, after, own, copies in reversed(steps):
            peak = max(peak, kept + before + after + copies)
            kept -= own
        return peak

    def _walk(self, shape: Sequence[int]) -> Iterator[tuple[str, Layer, int, int, int]]:
        """Yield each layer by name, with the bytes of its inputs, its outputs and one number, for a picture."""
        itemsize = self.picture_dtype.itemsize
        before = 3 * math.prod(shape) * itemsize
        shapes = self.shapes(shape)
        for name, layer in self.steps:
            if isinstance(layer, Convolution):
                itemsize = layer.dtype.itemsize
            after = shapes[name].numel() * itemsize
            yield name, layer, before, after, itemsize
            before = after

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x = ((image - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        traced = torch.is_grad_enabled() and image.requires_grad
        found = Features.apply(x, self.steps, self.layers.__contains__, traced)
        return dict(zip(filter(self.layers.__contains__, self.sequence), found, strict=True))


def _sequence(
    architecture: str,
    wanted: Collection[str],
    pooling: Callable[[], nn.Module],
    state: State,
    padding: str,
    dtype: torch.dtype,
    exact: torch.dtype,
) -> Iterator[tuple[str, Layer]]:
    """Yield the layers up to the deepest wanted one, by name.

    A ReLU is merged with its convolution unless the values between them are wanted. The weights have the type
    ``dtype``, rounded by error diffusion; those of the first convolution have the type ``exact`` or twice 16 bits.
    """
    deepest = arch.deepest(architecture, list(wanted))
    for name, index in arch.convolution_indices(architecture).items():
        if name.endswith("_1") and name != "conv1_1":
            yield f"pool{int(name[4]) - 1}", frozen_pooling(pooling())
        kind = exact if name == "conv1_1" else dtype
        weight = round_filters(state[f"features.{index}.weight"], kind)
        bias = state[f"features.{index}.bias"].to(kind, copy=True)
        relu = name.replace("conv", "relu")
        make = SplitConvolution if kind.itemsize > dtype.itemsize else Convolution
        if name in wanted:
            yield name, make(weight, bias, relu=False, dtype=dtype, margin=padding)
            if name == deepest:
                return
            yield relu, ReLU()
        else:
            yield relu, make(weight, bias, relu=True, dtype=dtype, margin=padding)
        if relu == deepest:
            return
