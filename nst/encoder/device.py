"""What the kinds of devices can do. No other module asks a device for its kind to find out."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Abilities:
    """What one kind of device can do.

    Attributes:
        precisions: the values of ``precision`` that a run may have there. Only where its hardware is known to be built
            for bf16, ``precision=auto`` is bf16.
        widest: the widest floating-point type.
        factors: whether it has Cholesky factors and eigenvalues.
        area_means: whether ``interpolate(mode="area")`` works for all sizes.
        wide_products: whether ``torch.mm`` of 16-bit matrices can return 32 bits.
    """

    precisions: tuple[object, ...]
    widest: torch.dtype = torch.float64
    factors: bool = True
    area_means: bool = True
    wide_products: bool = False


#: By ``torch.device.type``. Of MPS, Apple's GPUs, only what every torch that may be used has there.
TABLE = {
    "cpu": Abilities(precisions=("bf16", 32, 64)),
    "cuda": Abilities(precisions=("bf16", 16, 32, 64), wide_products=True),
    "mps": Abilities(precisions=("bf16", 32), widest=torch.float32, factors=False, area_means=False),
}


def abilities(device: torch.device) -> Abilities:
    """Return what a device can do; an unknown kind as much as the CPU."""
    return TABLE.get(device.type, TABLE["cpu"])


def able(x: Tensor, *needs: str) -> Tensor:
    """Return a tensor on a device that has the abilities: its own, or else the CPU."""
    known = abilities(x.device)
    return x if all(getattr(known, need) for need in needs) else x.cpu()


def exact(x: Tensor, *needs: str) -> Tensor:
    """Return a tensor in 64 bits, on a device that has them and the abilities: its own, or else the CPU."""
    x = able(x, *needs)
    return (x if abilities(x.device).widest == torch.float64 else x.cpu()).double()
