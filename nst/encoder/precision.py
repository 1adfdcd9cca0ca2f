"""What devices can do, and the floating-point types of a run: ``precision=auto``, ``bf16``, ``16``, ``32`` or ``64``.

The pixels, the losses and the optimizer's memory have 32 bits, or 64 if ``precision=64``. ``bf16`` and ``16`` apply to
the weights and features of the encoder only; sums over the features are computed in 32 bits.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from nst.errors import UserError, problem

Precision = Literal["bf16", 16, 32, 64]

#: Type of the encoder's weights and features.
ENCODER: dict[Precision, torch.dtype] = {
    "bf16": torch.bfloat16,
    16: torch.float16,
    32: torch.float32,
    64: torch.float64,
}


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


def settle(asked: Precision | Literal["auto"], device: torch.device, *, narrow: bool = True) -> Precision:
    """Return the precision to use on a device. ``auto`` is bf16 if the hardware supports it, else 32.

    ``narrow`` says whether the encoder can compute in 16 bits; if it can't, ``auto`` is 32.

    Raise UserError if the device or the encoder doesn't support the precision.
    """
    if not narrow:
        if asked in ("bf16", 16):
            why = "this encoder doesn't support 16 bits; choices: auto, 32, 64"
            raise UserError(problem("precision", asked, why))
        asked = 32 if asked == "auto" else asked
    if asked == "auto":
        return "bf16" if _has_bf16(device) else 32
    known = abilities(device).precisions
    if asked not in known:
        choices = ", ".join(map(str, ("auto", *known)))
        why = f"runs on {device.type.upper()} don't support it; choices: {choices}"
        raise UserError(problem("precision", asked, why))
    return asked


@contextmanager
def full_float32() -> Iterator[None]:
    """Compute in full float32 precision on CUDA within the block.

    By default, torch's convolutions on CUDA round their inputs, including conv1_1's pixels, to TF32's 10 bits.
    """
    parts: list[Any] = [torch.backends.cuda.matmul, torch.backends.cudnn.conv]  # type: ignore[attr-defined]
    before = [part.fp32_precision for part in parts]
    for part in parts:
        part.fp32_precision = "ieee"
    try:
        yield
    finally:
        for part, value in zip(parts, before, strict=True):
            part.fp32_precision = value


def round_filters(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a copy of a convolution's weights (out, in, height, width) in another type, by error diffusion.

    Within each filter, the rounding error of a weight is added to the next weight before that one is rounded, in the
    way of Floyd and Steinberg 1976. So the errors of a filter nearly sum to 0. This matters because features after a
    ReLU are positive and smooth: with independent rounding, the errors add up over them. It halves the error of bf16
    features, and of the gradients near the end of a run.
    """
    if dtype.itemsize >= weight.dtype.itemsize or weight.is_meta:
        return weight.to(dtype, copy=True)
    columns = weight.float().flatten(1).T.contiguous()
    rounded = torch.empty_like(columns, dtype=dtype)
    error = torch.zeros_like(columns[0])
    for column, result in zip(columns, rounded, strict=True):
        column += error
        result.copy_(column)
        torch.sub(column, result, out=error)
    return rounded.T.contiguous().view(weight.shape)


def split(x: Tensor, dtype: torch.dtype, number: int) -> list[Tensor]:
    """Return tensors of a 16-bit type whose sum approximates ``x``: each has the digits that those before it lack."""
    parts: list[Tensor] = []
    for _ in range(number):
        parts.append(x.to(dtype))
        x = x - parts[-1]
    return parts


class LossScale:
    """A loss scale that keeps 16-bit gradients within the range of their type, from 6e-8 to 65,504.

    The loss is multiplied by a factor before the backward pass, and the gradient is divided by it afterwards. The
    factor is divided by 16 if the gradient isn't finite, and doubles after 200 finite gradients (Micikevicius et al.
    2017, arXiv:1710.03740, section 3.2). The factor is a power of 2, so scaling changes no digit.

    Attributes:
        factor: factor of the loss.
        good: number of finite gradients since the factor last changed.
    """

    def __init__(self, factor: float = 2.0**16) -> None:
        self.factor = factor
        self.good = 0

    def backward(self, loss: Tensor, again: Callable[[], Tensor], image: Tensor) -> None:
        """Compute the gradient of ``loss`` with respect to the image tensor; ``again`` recomputes the loss.

        The gradient isn't finite if no factor makes it finite.
        """
        torch.autograd.backward(loss * self.factor)
        while not self._finite(image) and self.factor > 2.0**-24:
            self.factor /= 16
            self.good = 0
            image.grad = None
            torch.autograd.backward(again() * self.factor)
        assert image.grad is not None
        image.grad /= self.factor
        self.good += 1
        if self.good == 200:
            self.factor *= 2
            self.good = 0

    def _finite(self, image: Tensor) -> bool:
        return image.grad is not None and bool(image.grad.isfinite().all())


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        able = torch.cpu.get_capabilities()
        return any(able.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return False
