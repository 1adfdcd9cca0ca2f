"""Torchvision's classification models as encoders, with features named by the nodes of a model's graph."""

import functools
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from nst.encoder import checkpoint
from nst.encoder.base import Encoder
from nst.errors import UserError, problem

#: The older spelling of parameter names in torchvision's published DenseNet checkpoints.
_DENSE = re.compile(r"(\.(?:norm|conv))\.([12]\.)")


@functools.cache
def names() -> list[str]:
    """Return the names of all models."""
    return list(models.list_models(module=models))


def download(name: str) -> tuple[str, str]:
    """Return the URL of a model's best weights and the first digits of their SHA-256, from the file's name."""
    url = str(models.get_model_weights(name).DEFAULT.url)
    return url, Path(url).stem.rpartition("-")[2]


@functools.cache
def layer_names(name: str) -> list[str]:
    """Return the nodes of a model in order of computation; the name of each module follows its last node."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about other nodes in training mode
        nodes = [node for node in get_graph_node_names(_model(name, "meta"))[1] if node != "x"]
    last = {".".join(node.split(".")[:depth]): node for node in nodes for depth in range(node.count("."), 0, -1)}
    inside_out = sorted(last, key=lambda module: -module.count("."))
    return [each for node in nodes for each in (node, *(module for module in inside_out if last[module] == node))]


def _model(name: str, device: str) -> nn.Module:
    with torch.device(device), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about future initialization of some models
        model: nn.Module = models.get_model(name, weights=None)
    if "transform_input" in vars(model):  # torchvision sets this when it loads weights
        vars(model)["transform_input"] = True
    for module in model.modules():
        if "inplace" in vars(module):
            vars(module)["inplace"] = False  # otherwise the next node would overwrite a node's output
    return model.eval().requires_grad_(requires_grad=False)


def random_state(name: str, seed: int) -> dict[str, Tensor]:
    """Return seeded random weights, initialized by torchvision."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return _model(name, "cpu").state_dict()


def load_state(path: Path, name: str, *, key: str = "encoder.weights") -> dict[str, Tensor]:
    """Return the weights in a model's checkpoint, read without executing code in it.

    Raise UserError if the file is not a checkpoint, belongs to another model, or has values that are not finite.
    """
    read = checkpoint.read(path, key=key)
    state = {_DENSE.sub(r"\1\2", str(part)): tensor for part, tensor in read.items()}
    for part, tensor in _model(name, "meta").state_dict().items():
        if part.endswith("num_batches_tracked"):  # used in training only, and missing in older files
            state.setdefault(part, torch.zeros((), dtype=torch.long))
        elif not isinstance(state.get(part), Tensor):
            raise UserError(problem(key, path, f"this is not a checkpoint of {name}: {part} is missing"))
        elif state[part].shape != tensor.shape:
            why = f"{part} is not {tuple(tensor.shape)}"
            raise UserError(problem(key, path, f"this is not a checkpoint of {name}: {why}"))
        elif not checkpoint.is_number(state[part]):
            raise UserError(problem(key, path, f"{part} {checkpoint.NO_NUMBERS}"))
    return state


class TorchvisionEncoder(Encoder):
    """A frozen model, cut off after the deepest requested node.

    Autograd computes the gradient. The computation inside the model isn't known, so pictures can't be read in tiles.

    Args:
        name: name of the model, one of ``names()``.
        layers: names of nodes with features (1, C, H, W) as values.
        state: the weights; None for an encoder that is used for its geometry only.
        dtype: type of the weights and the features.

    Attributes:
        factors: factor of each layer's features, by layer name; 1 for a layer without an entry.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str,
        layers: Sequence[str],
        *,
        state: Mapping[str, Tensor] | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(layers, dtype)
        self.factors: dict[str, float] = {}
        model = _model(name, "meta")
        if state is not None:
            model.load_state_dict(state, assign=True)
            model.requires_grad_(requires_grad=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about other nodes in training mode
            self.extractor = create_feature_extractor(model, list(layers)).to(dtype)
        expected: Any = models.get_model_weights(name).DEFAULT.transforms()
        device = "meta" if state is None else "cpu"
        for part in ("mean", "std"):
            values = torch.tensor(getattr(expected, part), dtype=dtype, device=device)
            self.register_buffer(part, values.view(1, 3, 1, 1))

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        features: dict[str, Tensor] = self.extractor((image - self.mean) / self.std)
        return {name: found * self.factors[name] if name in self.factors else found for name, found in features.items()}

    @torch.no_grad()
    def calibrate(self, pictures: Iterable[Tensor], *, whole: bool = False) -> None:
        """Scale each layer to give its features a mean magnitude of 1 over image tensors and their positions.

        If ``whole``, all layers have one factor, so that the mean over the layers is 1.
        """
        self.factors = {}
        sums, numbers = dict.fromkeys(self.layers, 0.0), dict.fromkeys(self.layers, 0)
        for picture in pictures:
            for name, features in self(picture.to(self.mean)).items():
                sums[name] += float(features.double().abs().sum())
                numbers[name] += features.numel()
        self.factors = {name: numbers[name] / sums[name] for name in self.layers if sums[name]}
        if whole:
            mean = sum(1 / factor for factor in self.factors.values()) / max(1, len(self.factors))
            self.factors = dict.fromkeys(self.factors, 1 / mean)
