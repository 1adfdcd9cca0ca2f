"""Any of torchvision's classification models as an encoder: its features by the names of the nodes of its graph."""

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

from nst import weights
from nst.errors import UserError, problem

#: Sides in px that are tried to find the smallest picture of which a model still makes features.
SIDES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 224, 256, 384, 512)


#: How torchvision's published DenseNets still spell the names of their parts.
_DENSE = re.compile(r"(\.(?:norm|conv))\.([12]\.)")


@functools.cache
def names() -> list[str]:
    """The models there are."""
    return list(models.list_models(module=models))


def download(name: str) -> tuple[str, str]:
    """Where torchvision has a model's best weights, and the first digits of their SHA-256, from the file's name."""
    url = str(models.get_model_weights(name).DEFAULT.url)
    return url, Path(url).stem.rpartition("-")[2]


@functools.cache
def layer_names(name: str) -> list[str]:
    """The nodes of a model in the order of computation, each module after its last one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that training makes other nodes
        nodes = [node for node in get_graph_node_names(_model(name, "meta"))[1] if node != "x"]
    last = {".".join(node.split(".")[:depth]): node for node in nodes for depth in range(node.count("."), 0, -1)}
    inside_out = sorted(last, key=lambda module: -module.count("."))
    return [each for node in nodes for each in (node, *(module for module in inside_out if last[module] == node))]


@functools.cache
def smallest_side(name: str, layers: tuple[str, ...]) -> int:
    """The smallest side in px, of SIDES, of which every layer still has a position; 0 where there is none."""
    return next((side for side in SIDES if _sees(name, frozenset(layers), (side, side))), 0)


def _sees(name: str, layers: frozenset[str], shape: tuple[int, int]) -> bool:
    """Whether a picture of ``shape`` (height, width), and a taller one, have features (1, C, H, W) in each layer."""
    try:
        found, taller = (_shapes(name, layers, (height, shape[1])) for height in (shape[0], 4 * shape[0] + 64))
    except (RuntimeError, ValueError, AssertionError):  # what models say of pictures that aren't of their size
        return False
    return all(
        len(found[layer]) == 4 and found[layer].numel() and found[layer][1] == taller[layer][1]
        and found[layer][2] < taller[layer][2] and found[layer][3] == taller[layer][3]
        for layer in layers
    )  # fmt: skip


@functools.lru_cache(maxsize=64)
def _shapes(name: str, layers: frozenset[str], shape: tuple[int, int]) -> dict[str, torch.Size]:
    with torch.no_grad():
        found = GraphEncoder(name, sorted(layers)).forward(torch.empty((1, 3, *shape), device="meta"))
    return {name: features.shape for name, features in found.items()}


def _model(name: str, device: str) -> nn.Module:
    with torch.device(device), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about how some will be initialized one day
        model: nn.Module = models.get_model(name, weights=None)
    if "transform_input" in vars(model):  # as torchvision sets it where it loads weights
        vars(model)["transform_input"] = True
    for module in model.modules():
        if "inplace" in vars(module):
            vars(module)["inplace"] = False  # else a node would show what the next one made of it
    return model.eval().requires_grad_(requires_grad=False)


def random_state(name: str, seed: int) -> dict[str, Tensor]:
    """Seeded random weights, as torchvision initializes them."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return _model(name, "cpu").state_dict()


def load_state(path: Path, name: str, *, key: str = "encoder.weights") -> dict[str, Tensor]:
    """Reads a model's checkpoint without executing anything in it. Raises UserError where it is none, or another's."""
    read = weights.read(path, key=key)
    state = {_DENSE.sub(r"\1\2", str(part)): tensor for part, tensor in read.items()}
    for part, tensor in _model(name, "meta").state_dict().items():
        if part.endswith("num_batches_tracked"):  # only training looks at it, and older files don't have it
            state.setdefault(part, torch.zeros((), dtype=torch.long))
        elif not isinstance(state.get(part), Tensor):
            raise UserError(problem(key, path, f"this checkpoint is not of {name}: {part} isn't there"))
        elif state[part].shape != tensor.shape:
            why = f"{part} is not {tuple(tensor.shape)}"
            raise UserError(problem(key, path, f"this checkpoint is not of {name}: {why}"))
        elif not weights.is_number(state[part]):
            raise UserError(problem(key, path, f"{part} {weights.NO_NUMBERS}"))
    return state


class GraphEncoder(nn.Module):
    """A model up to the deepest of its nodes that are asked for, frozen.

    Its gradient is autograd's, and what it computes isn't known from the outside, so that it can't be read in tiles.

    Args:
        name: of the model, one of ``names()``.
        layers: names of nodes whose values are features (1, C, H, W).
        state: the weights; without them the encoder is only asked for its geometry.
        dtype: of the weights and the features.

    Attributes:
        factors: of each layer's features, by its name; 1 where it has none.
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
        super().__init__()
        self.name = name
        self.dtype = dtype
        self.layers = frozenset(layers)
        self.factors: dict[str, float] = {}
        model = _model(name, "meta")
        if state is not None:
            model.load_state_dict(state, assign=True)
            model.requires_grad_(requires_grad=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that training makes other nodes
            self.extractor = create_feature_extractor(model, list(layers)).to(dtype)
        expected: Any = models.get_model_weights(name).DEFAULT.transforms()
        device = "meta" if state is None else "cpu"
        for part in ("mean", "std"):
            values = torch.tensor(getattr(expected, part), dtype=dtype, device=device)
            self.register_buffer(part, values.view(1, 3, 1, 1))

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Features by node name, each (1, C, H, W), of an image tensor (1, 3, H, W) in [0, 1]."""
        features: dict[str, Tensor] = self.extractor((image - self.mean) / self.std)
        return {name: found * self.factors[name] if name in self.factors else found for name, found in features.items()}

    @torch.no_grad()
    def calibrate(self, pictures: Iterable[Tensor]) -> None:
        """Scale each layer so that the mean magnitude of its features over image tensors and their positions is 1."""
        self.factors = {}
        sums, numbers = dict.fromkeys(self.layers, 0.0), dict.fromkeys(self.layers, 0)
        for picture in pictures:
            for name, features in self(picture.to(self.mean)).items():
                sums[name] += float(features.double().abs().sum())
                numbers[name] += features.numel()
        self.factors = {name: numbers[name] / sums[name] for name in self.layers if sums[name]}

    def shapes(self, shape: Sequence[int]) -> dict[str, torch.Size]:
        """Of the features of a picture of ``shape`` (height, width); nothing is computed."""
        return _shapes(self.name, self.layers, (shape[0], shape[1]))

    def evaluation_bytes(self, shape: Sequence[int], *, traced: bool) -> int:
        """About what reading a picture takes: what autograd keeps if it is ``traced``, and what passes through.

        Only an encoder without weights can tell.
        """
        kept: dict[int, int] = {}
        passing = [0]
        own = {tensor.untyped_storage()._cdata for tensor in [*self.parameters(), *self.buffers()]}

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in own:
                kept[storage._cdata] = storage.nbytes()
            return tensor

        def passes(_: nn.Module, inputs: Any, output: Any) -> None:
            tensors = [each for each in (*inputs, output) if isinstance(each, Tensor)]
            passing.append(sum(each.numel() * each.element_size() for each in tensors))

        hooks = [
            module.register_forward_hook(passes) for module in self.extractor.modules() if not list(module.children())
        ]
        try:
            image = torch.empty((1, 3, *shape), dtype=self.mean.dtype, device="meta", requires_grad=traced)
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), torch.set_grad_enabled(traced):
                features = self.forward(image)
        finally:
            for hook in hooks:
                hook.remove()
        shown = sum(each.numel() * each.element_size() for each in features.values())
        return sum(kept.values()) + shown + max(passing)
