"""Weights of a VGG: reading from a checkpoint, recognition and rescaling."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from nst.encoder import architecture as arch
from nst.encoder import checkpoint, oxford
from nst.encoder.checkpoint import State
from nst.encoder.vgg import VGG
from nst.errors import UserError, problem

#: ``normalize`` treats a filter as idle if its mean activation is below this fraction of its layer's.
RARE = 0.01


#: Divisor of each layer of the bundled encoder in calibration: the mean activation of relu4_2. Training has balanced
#: the layers of this encoder against each other, so all of them have the same factor.
SLIM_MEAN = 0.3097


#: Filters with a cosine above this differ in scale only. The cosine of Oxford's filter in BGR and RGB is -0.67.
ALIKE = 0.995


#: Oxford's VGG-19: the second filter of conv1_1, as (blue, green, red) × 3 × 3.
_OXFORD_VGG19 = (
    0.0951, 0.1349, 0.0652, 0.1349, 0.1855, 0.0804, 0.1020, 0.1410, 0.0652,
    0.0334, 0.0517, -0.0070, 0.0569, 0.0894, -0.0070, 0.0382, 0.0602, -0.0070,
    -0.0841, -0.0794, -0.1154, -0.0794, -0.0610, -0.1335, -0.0794, -0.0714, -0.1154,
)  # fmt: skip


#: Published networks: name, convention, and the index and the values of a filter of conv1_1. Oxford's VGG-16 is not
#: included.
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


def rescale(state: State, architecture: str, scales: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights that give the features of ``state`` times positive scales.

    ``scales`` has one scale, or a scale for each channel (C,), for each convolution by name. ReLUs and poolings commute
    with a positive scale, so the next convolution divides by it. Convolutions without a scale are left out.
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
    """Return only the weights that the deepest of ``layers`` needs."""
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
    network = VGG(
        architecture=architecture, layers=layers, pooling=pooling, state=state, convention=convention, padding=padding
    )
    sums, positions = dict.fromkeys(layers, torch.zeros(())), dict.fromkeys(layers, 0)
    for picture in pictures:
        for name, features in network(picture).items():
            sums[name] = sums[name] + features.double().sum((0, 2, 3))
            positions[name] += features[0, 0].numel()
    return {name: sums[name] / positions[name] for name in layers}


def normalize(state: State, architecture: str, means: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights that give each filter a mean activation of 1, given the ``mean_activations``.

    Gatys et al. 2015 (arXiv:1508.06576), Methods. A filter with a mean below RARE times its layer's mean is scaled as
    if its mean were that: otherwise its few activations, and its negative values before the ReLU, would drown the other
    filters.
    """
    scales = {name: 1 / mean.clamp(min=max(RARE * float(mean.mean()), 1e-12)).float() for name, mean in means.items()}
    return rescale(state, architecture, {name.replace("relu", "conv"): scale for name, scale in scales.items()})


def calibrate(state: State, architecture: str, means: Mapping[str, float]) -> dict[str, Tensor]:
    """Return weights that give each layer a mean activation of 1 after its ReLU, given the layers' mean activations.

    A positive factor for each layer changes nothing else, as ReLUs and poolings commute with the factor. After
    calibration, settings such as ``weights.style`` mean the same at whatever scale the network was trained.
    """
    relus = [name for name in available_layers(state, architecture) if name.startswith("relu")]
    scales = {name.replace("relu", "conv"): torch.tensor(1 / max(means[name], 1e-12)) for name in relus}
    return rescale(state, architecture, scales)


def load_state(path: Path, architecture: str, *, key: str = "encoder.weights") -> dict[str, Tensor]:
    """Return the weights in a checkpoint, read without executing code in it.

    The checkpoint has torchvision's layout or that of ``nst.encoder.oxford``. It may be partial: convolutions may be
    missing at the end, but not in the middle. Batch normalizations, which no longer change, are folded into the
    convolutions before them.

    Raise UserError if the file is missing, is not a checkpoint, holds another architecture, or has values that are not
    finite.
    """
    state = checkpoint.read(path, key=key)
    if oxford.is_packed(state):
        state = oxford.unpack(state, path, key)
    _check_architecture(state, architecture, path, key)
    wrong = [name for name in _held(architecture) if name in state and not checkpoint.is_number(state[name])]
    if wrong:
        raise UserError(problem(key, path, f"{wrong[0]} {checkpoint.NO_NUMBERS}"))
    return _without_batch_norm(state, architecture) if arch.has_batch_norm(architecture) else state


def _without_batch_norm(state: State, architecture: str) -> dict[str, Tensor]:
    """Return the weights with each batch normalization folded into the convolution before it.

    ``γ (W x + b - μ) / √(σ² + ε) + β`` as a convolution (Ioffe and Szegedy 2015, arXiv:1502.03167, algorithm 2).
    """
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
    """Return the name and the convention of the published network in ``state``; None if the network is unknown.

    The network is recognized by one filter of conv1_1 at any scale, so rescaled copies are recognized as well.
    """
    first = state["features.0.weight"]
    for network, convention, number, values in _PUBLISHED:
        if number < len(first):
            filters = first[number].flatten().double(), torch.tensor(values, dtype=torch.float64)
            if functional.cosine_similarity(*filters, dim=0) > ALIKE:
                return network, convention
    return None


def available_layers(state: State, architecture: str) -> list[str]:
    """Return the layers that ``state`` has weights for, in order."""
    held = {
        name for name, index in arch.convolution_indices(architecture).items() if f"features.{index}.weight" in state
    }
    return [name for name in arch.layer_names(architecture) if name.replace("relu", "conv") in held]


def _check_architecture(state: State, architecture: str, path: Path, key: str) -> None:
    fitting = [name for name in arch.BLOCKS if _fits(state, name)]
    if architecture in fitting:
        return
    if fitting:
        why = f"this checkpoint is of {' or '.join(fitting)}, not of {architecture}; choose encoder={fitting[0]}"
    else:
        why = f"this checkpoint is not in torchvision's layout for {architecture} (features.0.weight, …)"
    raise UserError(problem(key, path, why))


def _fits(state: State, architecture: str) -> bool:
    """Return whether the convolutions in ``state`` are the first ones of ``architecture``, with the same shapes."""
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
    """Return the shapes of all tensors of a full checkpoint by name, including those of batch normalizations."""
    held = arch.weight_shapes(architecture)
    if arch.has_batch_norm(architecture):
        for index in arch.convolution_indices(architecture).values():
            channels = held[f"features.{index}.bias"]
            parts = ("weight", "bias", "running_mean", "running_var")
            held |= {f"features.{index + 1}.{part}": channels for part in parts}
    return held


def _conv_of(name: str, architecture: str) -> int:
    """Return the index of the convolution that a tensor of a checkpoint belongs to."""
    index = int(name.split(".")[1])
    return index if index in arch.convolution_indices(architecture).values() else index - 1


def random_state(architecture: str, seed: int) -> dict[str, Tensor]:
    """Return seeded random weights that keep the variance of the activations (He et al., arXiv:1502.01852)."""
    generator = torch.Generator().manual_seed(seed)
    state = {name: torch.zeros(shape) for name, shape in arch.weight_shapes(architecture).items()}
    for name, tensor in state.items():
        if name.endswith(".weight"):
            deviation = (2 / tensor[0].numel()) ** 0.5
            torch.randn(tensor.shape, generator=generator, out=tensor).mul_(deviation)
    return state


def no_state(architecture: str) -> dict[str, Tensor]:
    """Return weights without values, for an encoder that is used for its geometry only."""
    return {name: torch.empty(shape, device="meta") for name, shape in arch.weight_shapes(architecture).items()}
