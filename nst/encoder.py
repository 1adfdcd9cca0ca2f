"""A frozen VGG that returns features by layer name, and the readers of its checkpoints."""

import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from nst import architecture as arch
from nst import frozen
from nst.errors import UserError, problem

State = Mapping[str, Tensor]

#: ImageNet's channel means and standard deviations, which torchvision's weights expect (sRGB in [0, 1]).
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class Encoder(nn.Module):
    """VGG up to the deepest layer asked for, with its poolings replaced and its weights frozen.

    Args:
        architecture: a key of ``nst.architecture.BLOCKS``.
        layers: names of the layers whose features are returned; nothing past the deepest is computed.
        pooling: makes one pooling module, called once for each block but the last.
        state: weights in torchvision's layout (``features.0.weight``, …), at least up to the deepest layer.
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
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.layers = frozenset(layers)
        exact = torch.float64 if dtype == torch.float64 else torch.float32
        self.register_buffer("mean", torch.tensor(MEAN, dtype=exact).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD, dtype=exact).view(1, 3, 1, 1))
        self.sequence = nn.ModuleDict(dict(_sequence(architecture, self.layers, pooling, state, dtype, exact)))

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Features by layer name, each (1, C, H, W), of an image tensor (1, 3, H, W) in [0, 1]."""
        x = ((image - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        traced = torch.is_grad_enabled() and image.requires_grad
        found = frozen.Features.apply(x, list(self.sequence.items()), self.layers.__contains__, traced)
        return dict(zip(filter(self.layers.__contains__, self.sequence), found, strict=True))


def _sequence(
    architecture: str,
    wanted: Collection[str],
    pooling: Callable[[], nn.Module],
    state: State,
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
            yield name, frozen.Convolution(weight, bias, relu=False, dtype=dtype)
            if name == deepest:
                return
            yield relu, frozen.ReLU()
        else:
            yield relu, frozen.Convolution(weight, bias, relu=True, dtype=dtype)
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


def load_state(path: Path, architecture: str, *, key: str = "encoder.weights") -> dict[str, Tensor]:
    """Reads a checkpoint in torchvision's layout without executing anything in it.

    It may be partial: convolutions missing at the end are allowed, ones in the middle are not.

    Raises UserError when the file is missing, is no checkpoint, or holds another architecture.
    """
    if not path.is_file():
        raise UserError(problem(key, path, "there is no such file"))
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # what the readers raise for damaged and hostile files is of many kinds
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(problem(key, path, f"this file is no checkpoint of weights: {reason}")) from error
    if not isinstance(state, dict):
        raise UserError(problem(key, path, "this checkpoint holds no dictionary of weights"))
    _check_architecture(state, architecture, path, key)
    wrong = [name for name in _shapes(architecture) if name in state and not _is_number(state[name])]
    if wrong:
        raise UserError(problem(key, path, f"{wrong[0]} has values that are infinite, or no floating-point numbers"))
    return state


def _is_number(tensor: Tensor) -> bool:
    plain = tensor.layout == torch.strided and not tensor.is_meta
    return plain and tensor.is_floating_point() and bool(tensor.isfinite().all())


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
        for name in state
        if isinstance(name, str)
        and name.startswith("features.")
        and name.endswith(".weight")
        and name.split(".")[1].isdecimal()
    }
    indices = list(arch.convolution_indices(architecture).values())
    if not found or found != set(indices[: len(found)]):
        return False
    shapes = _shapes(architecture)
    for index in found:
        for part in ("weight", "bias"):
            name = f"features.{index}.{part}"
            tensor = state.get(name)
            if not (isinstance(tensor, Tensor) and tensor.shape == shapes[name]):
                return False
    return True
