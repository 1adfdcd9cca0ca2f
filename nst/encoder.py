"""A frozen VGG that returns features by layer name, and the readers of its checkpoints."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from nst import architecture as arch
from nst import frozen, oxford, weights
from nst.errors import UserError, problem
from nst.graph import GraphEncoder

State = Mapping[str, Tensor]

#: ImageNet's channel means and standard deviations, which torchvision's weights expect (sRGB in [0, 1]).
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Convention:
    """What weights expect of their input.

    Attributes:
        mean, std: what is subtracted from the channels of sRGB in [0, 1], and what they are divided by then.
        bgr: whether the first filters have their channels as blue, green, red.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    bgr: bool = False


#: By the values of ``encoder.convention``. Caffe's are the original weights': BGR from 0 to 255 less the means
#: (Simonyan and Zisserman's published model).
CONVENTIONS = {
    "torchvision": Convention(MEAN, STD),
    "caffe": Convention((123.68 / 255, 116.779 / 255, 103.939 / 255), (1 / 255,) * 3, bgr=True),
}


class Encoder(nn.Module):
    """VGG up to the deepest layer asked for, with its poolings replaced and its weights frozen.

    Args:
        architecture: a key of ``nst.architecture.BLOCKS``.
        layers: names of the layers whose features are returned; nothing past the deepest is computed.
        pooling: makes one pooling module, called once for each block but the last.
        state: weights in torchvision's layout (``features.0.weight``, …), at least up to the deepest layer.
        convention: what the weights expect, a key of CONVENTIONS.
        reach: how many positions beyond its own, to the right and below, a tile needs of each layer.
        padding: what is around the picture, and around each layer's features: ``zeros``, ``reflect`` or ``replicate``.
        dtype: of the weights and the features. The first convolution's weights have 32 bits or more: with 16 the pixels
            would be rounded, and this error would dominate the gradient of a picture that is nearly done (with the
            bundled encoder, 100 evaluations into the main job, it was twice as large as the gradient).
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
        super().__init__()
        self.reach = reach
        self.dtype = dtype
        expected = CONVENTIONS[convention]
        if expected.bgr:
            state = {**state, "features.0.weight": state["features.0.weight"].flip(1)}
        self.layers = frozenset(layers)
        exact = torch.float64 if dtype == torch.float64 else torch.float32
        self.register_buffer("mean", torch.tensor(expected.mean, dtype=exact).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(expected.std, dtype=exact).view(1, 3, 1, 1))
        self.sequence = nn.ModuleDict(dict(_sequence(architecture, self.layers, pooling, state, padding, dtype, exact)))

    def shapes(self, shape: Sequence[int]) -> dict[str, torch.Size]:
        """Of each layer's output, wanted or not, for a picture of ``shape`` (height, width); nothing is computed."""
        sizes = {}
        (height, width), channels = shape, 3
        for name, layer in self.sequence.items():
            assert isinstance(layer, frozen.Layer)
            height, width, channels = layer.size(height), layer.size(width), layer.channels(channels)
            sizes[name] = torch.Size((1, channels, height, width))
        return sizes

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Features by layer name, each (1, C, H, W), of an image tensor (1, 3, H, W) in [0, 1]."""
        x = ((image - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        traced = torch.is_grad_enabled() and image.requires_grad
        found = frozen.Features.apply(x, list(self.sequence.items()), self.layers.__contains__, traced)
        return dict(zip(filter(self.layers.__contains__, self.sequence), found, strict=True))


#: The fraction of its layer's mean activation below which ``normalize`` takes a filter for idle.
RARE = 0.01

#: What each layer of the bundled encoder is divided by when it is calibrated: the mean activation of its relu4_2. Its
#: training has balanced the layers among each other, so that all have the same factor.
SLIM_MEAN = 0.3097

#: Filters whose cosine is above this differ in scale alone. Of the filter below and its copy in RGB it is -0.67.
ALIKE = 0.995

#: Oxford's VGG-19: the second filter of conv1_1, as (blue, green, red) × 3 × 3.
_OXFORD_VGG19 = (
    0.0951, 0.1349, 0.0652, 0.1349, 0.1855, 0.0804, 0.1020, 0.1410, 0.0652,
    0.0334, 0.0517, -0.0070, 0.0569, 0.0894, -0.0070, 0.0382, 0.0602, -0.0070,
    -0.0841, -0.0794, -0.1154, -0.0794, -0.0610, -0.1335, -0.0794, -0.0714, -0.1154,
)  # fmt: skip

#: Published networks: what each is, its convention, and the number and the values of a filter of its conv1_1. Oxford's
#: VGG-16 is not among them.
_PUBLISHED = (
    ("Oxford's VGG-19", "caffe", 1, _OXFORD_VGG19),
    ("Oxford's VGG-19, in RGB", "torchvision", 1, (*_OXFORD_VGG19[18:], *_OXFORD_VGG19[9:18], *_OXFORD_VGG19[:9])),
    ("torchvision's VGG-19", "torchvision", 0, (
        -0.0535, -0.0493, -0.0679, 0.0153, 0.0451, 0.0021, 0.0362, 0.0200, 0.0199,
        0.0170, 0.0554, -0.0062, 0.1417, 0.2271, 0.1376, 0.1200, 0.2003, 0.0921,
        -0.0449, 0.0127, -0.0145, 0.0597, 0.1396, 0.0541, -0.0010, 0.0583, -0.0297,
    )),
    ("torchvision's VGG-16", "torchvision", 0, (
        -0.5537, 0.1427, 0.5290, -0.5831, 0.3566, 0.7657, -0.6902, -0.0480, 0.4841,
        0.1755, 0.0099, -0.0814, 0.0441, -0.0703, -0.2604, 0.1324, -0.1728, -0.1323,
        0.3130, -0.1659, -0.4275, 0.4752, -0.0827, -0.4870, 0.6320, 0.0193, -0.2775,
    )),
)  # fmt: skip

#: Either kind.
AnyEncoder = Encoder | GraphEncoder


def _sequence(
    architecture: str,
    wanted: Collection[str],
    pooling: Callable[[], nn.Module],
    state: State,
    padding: str,
    dtype: torch.dtype,
    exact: torch.dtype,
) -> Iterator[tuple[str, frozen.Layer]]:
    """The layers up to the deepest one wanted; a ReLU is one with its convolution where nobody looks in between.

    The weights are of the type ``dtype``, those of the first convolution ``exact``.
    """
    deepest = arch.deepest(architecture, list(wanted))
    for name, index in arch.convolution_indices(architecture).items():
        if name.endswith("_1") and name != "conv1_1":
            yield f"pool{int(name[4]) - 1}", frozen.pooling(pooling())
        kind = exact if name == "conv1_1" else dtype
        weight, bias = (state[f"features.{index}.{part}"].to(kind, copy=True) for part in ("weight", "bias"))
        relu = name.replace("conv", "relu")
        if name in wanted:
            yield name, frozen.Convolution(weight, bias, relu=False, dtype=dtype, margin=padding)
            if name == deepest:
                return
            yield relu, frozen.ReLU()
        else:
            yield relu, frozen.Convolution(weight, bias, relu=True, dtype=dtype, margin=padding)
        if relu == deepest:
            return


def random_state(architecture: str, seed: int) -> dict[str, Tensor]:
    """Seeded random weights that keep the variance of the activations (He et al., arXiv:1502.01852)."""
    generator = torch.Generator().manual_seed(seed)
    state = {name: torch.zeros(shape) for name, shape in _shapes(architecture).items()}
    for name, tensor in state.items():
        if name.endswith(".weight"):
            deviation = (2 / tensor[0].numel()) ** 0.5
            torch.randn(tensor.shape, generator=generator, out=tensor).mul_(deviation)
    return state


def no_state(architecture: str) -> dict[str, Tensor]:
    """Weights without values: for an encoder that is only asked for its geometry."""
    return {name: torch.empty(shape, device="meta") for name, shape in _shapes(architecture).items()}


def _shapes(architecture: str) -> dict[str, tuple[int, ...]]:
    """The shapes of all weights and biases, by their names in torchvision's layout."""
    shapes: dict[str, tuple[int, ...]] = {}
    inputs = 3
    indices = iter(arch.convolution_indices(architecture).values())
    for channels in (channels for block in arch.BLOCKS[architecture] for channels in block):
        prefix = f"features.{next(indices)}"
        shapes[f"{prefix}.weight"] = (channels, inputs, 3, 3)
        shapes[f"{prefix}.bias"] = (channels,)
        inputs = channels
    return shapes


def rescale(state: State, architecture: str, scales: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights whose features are those of ``state`` times a positive scale: for each convolution by name, one, or (C,).

    ReLUs and poolings commute with a positive scale, so that it is taken out again by the next convolution. What
    ``scales`` doesn't name is left out.
    """
    rescaled, before = {}, torch.ones(())
    for name, scale in scales.items():
        prefix = f"features.{arch.convolution_indices(architecture)[name]}"
        weight, bias = state[f"{prefix}.weight"], state[f"{prefix}.bias"]
        rescaled[f"{prefix}.weight"] = weight * scale.view(-1, 1, 1, 1) / before.view(1, -1, 1, 1)
        rescaled[f"{prefix}.bias"] = bias * scale
        before = scale
    return rescaled


def up_to(state: State, architecture: str, layers: Sequence[str]) -> dict[str, Tensor]:
    """Return the weights that the deepest of some layers needs, and no more."""
    deepest = arch.deepest(architecture, layers).replace("relu", "conv")
    last = arch.convolution_indices(architecture)[deepest]
    return {
        name: weight
        for name, weight in state.items()
        if name.startswith("features.") and int(name.split(".")[1]) <= last
    }


@torch.no_grad()
def mean_activations(
    state: State,
    architecture: str,
    pictures: Iterable[Tensor],
    *,
    pooling: Callable[[], nn.Module] = lambda: nn.AvgPool2d(2),
    convention: str,
    padding: str = "zeros",
) -> dict[str, Tensor]:
    """Return each filter's mean activation after its ReLU, (C,) by layer, over image tensors and their positions."""
    layers = [name for name in available_layers(state, architecture) if name.startswith("relu")]
    network = Encoder(
        architecture=architecture, layers=layers, pooling=pooling, state=state, convention=convention, padding=padding
    )
    sums, positions = dict.fromkeys(layers, torch.zeros(())), dict.fromkeys(layers, 0)
    for picture in pictures:
        for name, features in network(picture).items():
            sums[name] = sums[name] + features.double().sum((0, 2, 3))
            positions[name] += features[0, 0].numel()
    return {name: sums[name] / positions[name] for name in layers}


def normalize(state: State, architecture: str, means: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights with which the mean activation of each filter is 1, given its ``mean_activations``.

    Gatys et al. 2015 (arXiv:1508.06576), Methods. A filter whose mean is less than RARE of its layer's is scaled as if
    it had that: else the little that it says, and all that it leaves unsaid before its ReLU, would drown the others.
    """
    scales = {name: 1 / mean.clamp(min=max(RARE * float(mean.mean()), 1e-12)).float() for name, mean in means.items()}
    return rescale(state, architecture, {name.replace("relu", "conv"): scale for name, scale in scales.items()})


def calibrate(state: State, architecture: str, means: Mapping[str, float]) -> dict[str, Tensor]:
    """Return weights with which the mean activation of each layer after its ReLU is 1, given what it is.

    One positive factor a layer leaves the network as it is: ReLUs and poolings commute with it. It gives weights such
    as ``weights.style`` the same meaning whatever the scale at which the network was trained.
    """
    relus = [name for name in available_layers(state, architecture) if name.startswith("relu")]
    scales = {name.replace("relu", "conv"): torch.tensor(1 / max(means[name], 1e-12)) for name in relus}
    return rescale(state, architecture, scales)


def load_state(path: Path, architecture: str, *, key: str = "encoder.weights") -> dict[str, Tensor]:
    """Reads a checkpoint in torchvision's layout, or in that of ``nst.oxford``, without executing anything in it.

    It may be partial: convolutions missing at the end are allowed, ones in the middle are not. Batch normalizations,
    which don't change any more, become part of the convolutions before them.

    Raises UserError when the file is missing, is no checkpoint, or holds another architecture.
    """
    state = weights.read(path, key=key)
    if oxford.is_packed(state):
        state = oxford.unpack(state, path, key)
    _check_architecture(state, architecture, path, key)
    wrong = [name for name in _held(architecture) if name in state and not weights.is_number(state[name])]
    if wrong:
        raise UserError(problem(key, path, f"{wrong[0]} {weights.NO_NUMBERS}"))
    return _without_batch_norm(state, architecture) if arch.has_batch_norm(architecture) else state


def _without_batch_norm(state: State, architecture: str) -> dict[str, Tensor]:
    """``γ (W x + b - μ) / √(σ² + ε) + β`` as a convolution (Ioffe and Szegedy 2015, arXiv:1502.03167, algorithm 2)."""
    folded = {}
    for index in arch.convolution_indices(architecture).values():
        conv, norm = f"features.{index}", f"features.{index + 1}"
        if f"{conv}.weight" in state:
            scale = state[f"{norm}.weight"] / (state[f"{norm}.running_var"] + nn.BatchNorm2d(1).eps).sqrt()
            folded[f"{conv}.weight"] = state[f"{conv}.weight"] * scale.view(-1, 1, 1, 1)
            centred = state[f"{conv}.bias"] - state[f"{norm}.running_mean"]
            folded[f"{conv}.bias"] = centred * scale + state[f"{norm}.bias"]
    return folded


def published_convention(state: State) -> tuple[str, str] | None:
    """Return the published network that ``state`` is, and the convention that it is in; None if it is none of them.

    It is told by one filter of conv1_1, whatever its scale, so that rescaled copies are known as well.
    """
    first = state["features.0.weight"]
    for network, convention, number, values in _PUBLISHED:
        if number < len(first):
            filters = first[number].flatten().double(), torch.tensor(values, dtype=torch.float64)
            if functional.cosine_similarity(*filters, dim=0) > ALIKE:
                return network, convention
    return None


def available_layers(state: State, architecture: str) -> list[str]:
    """The layers that ``state`` has weights for, in order."""
    held = {
        name for name, index in arch.convolution_indices(architecture).items() if f"features.{index}.weight" in state
    }
    return [name for name in arch.layer_names(architecture) if name.replace("relu", "conv") in held]


def _check_architecture(state: State, architecture: str, path: Path, key: str) -> None:
    fitting = [name for name in arch.BLOCKS if _fits(state, name)]
    if architecture in fitting:
        return
    if fitting:
        why = f"this checkpoint is of {' or '.join(fitting)}, not of {architecture}: encoder={fitting[0]}"
    else:
        why = f"this checkpoint is not in torchvision's layout for {architecture} (features.0.weight, …)"
    raise UserError(problem(key, path, why))


def _fits(state: State, architecture: str) -> bool:
    """Whether the convolutions in ``state`` are the first ones of ``architecture``, at its shapes."""
    found = {
        int(name.split(".")[1])
        for name, tensor in state.items()
        if isinstance(name, str)
        and name.startswith("features.")
        and name.endswith(".weight")
        and name.split(".")[1].isdecimal()
        and (not arch.has_batch_norm(architecture) or (isinstance(tensor, Tensor) and tensor.ndim == 4))
    }
    indices = list(arch.convolution_indices(architecture).values())
    if not found or found != set(indices[: len(found)]):
        return False
    needed = {name: shape for name, shape in _held(architecture).items() if _conv_of(name, architecture) in found}
    return all(isinstance(state.get(name), Tensor) and state[name].shape == shape for name, shape in needed.items())


def _held(architecture: str) -> dict[str, tuple[int, ...]]:
    """The shapes of all that a checkpoint holds of the network, by name: those of batch normalizations, too."""
    held = _shapes(architecture)
    if arch.has_batch_norm(architecture):
        for index in arch.convolution_indices(architecture).values():
            channels = held[f"features.{index}.bias"]
            parts = ("weight", "bias", "running_mean", "running_var")
            held |= {f"features.{index + 1}.{part}": channels for part in parts}
    return held


def _conv_of(name: str, architecture: str) -> int:
    """The index of the convolution that a tensor of a checkpoint belongs to."""
    index = int(name.split(".")[1])
    return index if index in arch.convolution_indices(architecture).values() else index - 1
