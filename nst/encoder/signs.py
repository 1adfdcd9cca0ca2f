"""The signs of a ReLU's outputs, which are all that its backward pass needs of them."""

import numpy as np
import torch
from torch import Tensor

#: A layer's activations of at most this many bytes are kept as they are, which is quicker.
FEW = 2**25

#: Integer types by item size in bytes, to view the bits of floating-point numbers.
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def signs(activations: Tensor) -> Tensor:
    """Return a bit for each activation, 1 if it is positive, with 8 bits in a byte.

    The activations must not be negative. If they have at most ``FEW`` bytes, they are returned unchanged.
    """
    if activations.nbytes <= FEW:
        return activations
    positive = _flat(activations) > 0
    if positive.device.type == "cpu":
        return torch.from_numpy(np.packbits(positive.numpy(), bitorder="little"))
    # Eight bytes of 0 or 1 are viewed as one number; the highest byte of the product has their bits side by side.
    return (positive.view(torch.int64) * 0x0102040810204080 >> 56).to(torch.uint8)


def signs_bytes(activations: int, itemsize: int) -> int:
    """Return the bytes that ``signs`` takes for ``activations`` bytes, with ``itemsize`` bytes a number."""
    return activations if activations <= FEW else activations // itemsize // 8


def keep_positive(gradient: Tensor, kept: Tensor) -> Tensor:
    """Return the gradient, with 0 at positions with an activation that isn't positive.

    The gradient is changed in place if it is in channels-last order: new memory would take longer than the arithmetic.
    """
    gradient = gradient.contiguous(memory_format=torch.channels_last)
    if kept.shape == gradient.shape:
        torch.ops.aten.threshold_backward(gradient, kept, 0, grad_input=gradient)
        return gradient
    unpack = _mask_in_cache if kept.device.type == "cpu" else _mask
    unpack(_flat(gradient).view(-1, 8), kept)
    return gradient


def _mask_in_cache(numbers: Tensor, kept: Tensor, size: int = 2**18) -> None:
    """Set the numbers (N, 8) without a bit in ``kept`` (N,) to 0, ``size`` rows at a time, in a processor's cache.

    The eight masks of each byte are looked up; a mask keeps all bits of a number, or none.
    """
    places = torch.arange(8)
    masks = (-(torch.arange(256).unsqueeze(1) >> places & 1)).to(numbers.dtype)
    for part, packed in zip(torch.split(numbers, size), torch.split(kept, size), strict=True):
        part.bitwise_and_(masks.index_select(0, packed.int()))


def _mask(numbers: Tensor, kept: Tensor, size: int = 2**25) -> None:
    """Do the same on a GPU, where looking up the masks took three quarters of an evaluation (H200, 2048 px)."""
    bits = 2 ** torch.arange(8, device=kept.device, dtype=torch.uint8)
    for part, packed in zip(torch.split(numbers, size), torch.split(kept, size), strict=True):
        part.masked_fill_(packed.unsqueeze(1) & bits == 0, 0)


def _flat(x: Tensor) -> Tensor:
    """Return the values in memory order (channels last), as integers with the same bits."""
    return x.permute(0, 2, 3, 1).reshape(-1).view(_INTEGERS[x.element_size()])
