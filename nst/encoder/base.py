"""The interface that all encoders share."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nst.encoder import PIXELS
from nst.encoder.layers import Layer

#: Sides in px that are tried to find the smallest picture with features in every layer.
SIDES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 224, 256, 384, 512)


class Encoder(nn.Module):
    """A frozen network that maps an image tensor to features by layer name.

    A subclass calls ``super().__init__`` and implements ``forward``, which returns the features of ``layers``, each
    (1, C, H, W), of an image tensor (1, 3, H, W) in [0, 1]. The other methods have defaults that work for any network.

    Args:
        layers: names of the layers with features that ``forward`` returns.
        dtype: type of the features.

    Attributes:
        layers: names of the layers, as a frozenset.
        dtype: type of the features.
        reach: number of positions beyond its own, to the right and below, that a tile needs of each layer.
    """

    def __init__(self, layers: Sequence[str], dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.layers = frozenset(layers)
        self.dtype = dtype
        self.reach = 0
        self._shapes: dict[tuple[int, int], dict[str, torch.Size]] = {}

    @property
    def picture_dtype(self) -> torch.dtype:
        """The type of the image tensors that the encoder takes: float64 if its features are float64, else float32."""
        return torch.float64 if self.dtype == torch.float64 else torch.float32

    @property
    def steps(self) -> list[tuple[str, Layer]] | None:
        """The layers in order, by name, if pictures can be read in tiles; None if they must be read as a whole."""
        return None

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Return the features by layer name, each (1, C, H, W), of an image tensor (1, 3, H, W) in [0, 1]."""
        raise NotImplementedError

    def read(self, image: Tensor) -> dict[str, Tensor]:
        """Return the features of an image tensor (1, 3, H, W) by layer name, and the image itself as PIXELS."""
        return {PIXELS: image, **self(image)}

    def shapes(self, shape: Sequence[int]) -> dict[str, torch.Size]:
        """Return the shapes of what ``read`` returns for a picture of ``shape`` (height, width) px."""
        key = (shape[0], shape[1])
        if key not in self._shapes:
            with torch.no_grad():
                found = _on_meta(self).read(torch.empty((1, 3, *key), dtype=self.picture_dtype, device="meta"))
            self._shapes[key] = {name: features.shape for name, features in found.items()}
        return self._shapes[key]

    def smallest_side(self) -> int:
        """Return the smallest side in px of a square picture with features in every layer; 0 if all ``SIDES`` fail."""
        return next((side for side in SIDES if self._sees((side, side))), 0)

    def evaluation_bytes(self, shape: Sequence[int], *, traced: bool) -> int:
        """Return an estimate of the bytes that reading a picture of ``shape`` (height, width) px takes.

        The estimate has the features, the largest inputs and outputs of a single module and, if ``traced``, the
        tensors that are saved for a backward pass.
        """
        model = _on_meta(self)
        kept: dict[int, int] = {}
        passing = [0]
        own = {_storage(tensor) for tensor in [*model.parameters(), *model.buffers()]}

        def keep(tensor: Tensor) -> Tensor:
            if _storage(tensor) not in own:
                kept[_storage(tensor)] = tensor.untyped_storage().nbytes()
            return tensor

        def passes(_: nn.Module, inputs: Any, output: Any) -> None:
            tensors = [each for each in (*inputs, output) if isinstance(each, Tensor)]
            passing.append(sum(each.nbytes for each in tensors))

        leaves = [module for module in model.modules() if not list(module.children())]
        hooks = [module.register_forward_hook(passes) for module in leaves]
        try:
            image = torch.empty((1, 3, *shape), dtype=self.picture_dtype, device="meta", requires_grad=traced)
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), torch.set_grad_enabled(traced):
                features = model(image)
        finally:
            for hook in hooks:
                hook.remove()
        shown: int = sum(each.nbytes for each in features.values())
        return sum(kept.values()) + shown + max(passing)

    def _sees(self, shape: tuple[int, int]) -> bool:
        """Return whether a picture of ``shape``, and a taller one, have features (1, C, H, W) in each layer."""
        try:
            found, taller = (self.shapes((height, shape[1])) for height in (shape[0], 4 * shape[0] + 64))
        except (RuntimeError, ValueError, AssertionError):  # raised by models for pictures of an unsupported size
            return False
        return all(
            len(found[layer]) == 4 and found[layer].numel() and found[layer][1] == taller[layer][1]
            and found[layer][2] < taller[layer][2] and found[layer][3] == taller[layer][3]
            for layer in self.layers
        )  # fmt: skip


def _on_meta(encoder: Encoder) -> Encoder:
    """Return the encoder, or a copy of it, on the meta device, where nothing is computed."""
    tensors = [*encoder.parameters(), *encoder.buffers()]
    return encoder if all(tensor.is_meta for tensor in tensors) else copy.deepcopy(encoder).to("meta")


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
