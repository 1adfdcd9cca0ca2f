"""The numbers that a run computes with: ``precision=auto``, ``bf16``, ``16``, ``32`` or ``64``.

The pixels, the losses and the optimizer's memory have 32 bits, or 64 where all have. ``bf16`` and ``16`` are the
encoder's: its weights and features, whose sums are taken in 32 bits.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor

from nst.errors import UserError, problem

Precision = Literal["bf16", 16, 32, 64]

#: What the encoder's weights and features are.
ENCODER: dict[Precision, torch.dtype] = {
    "bf16": torch.bfloat16,
    16: torch.float16,
    32: torch.float32,
    64: torch.float64,
}

#: What everything else is.
PICTURE: dict[Precision, torch.dtype] = {
    "bf16": torch.float32,
    16: torch.float32,
    32: torch.float32,
    64: torch.float64,
}


def settle(asked: Precision | Literal["auto"], device: torch.device, *, narrow: bool = True) -> Precision:
    """What ``auto`` is on a device: bf16 where its arithmetic is built for that, 32 elsewhere.

    Raises UserError where the device has no such numbers, or the encoder isn't made for ``narrow`` ones, of 16 bits.
    """
    if not narrow:
        if asked in ("bf16", 16):
            why = "this encoder computes in more bits, as its first filters see the pixels; choices: auto, 32, 64"
            raise UserError(problem("precision", asked, why))
        asked = 32 if asked == "auto" else asked
    if asked == "auto":
        return "bf16" if _has_bf16(device) else 32
    if asked == 64 and device.type == "mps":
        raise UserError(problem("precision", 64, "MPS has no such numbers; choices: 32, or trainer.accelerator=cpu"))
    if asked == 16 and device.type != "cuda":
        raise UserError(problem("precision", 16, "only CUDA computes with such numbers; choices: auto, bf16, 32"))
    return asked


@contextmanager
def full_float32() -> Iterator[None]:
    """Compute in all of float32's digits on CUDA.

    By torch's default convolutions round their inputs to TF32's 10 bits there, conv1_1's pixels included.
    """
    parts = torch.backends.cuda.matmul, torch.backends.cudnn.conv
    before = [part.fp32_precision for part in parts]
    for part in parts:
        part.fp32_precision = "ieee"
    try:
        yield
    finally:
        for part, value in zip(parts, before, strict=True):
            part.fp32_precision = value


class LossScale:
    """Keeps gradients of 16 bits within their range, whose numbers end at 6e-8 and 65,504.

    The loss is multiplied by a factor before the backward pass, and the gradient divided by it afterwards. The factor
    falls to a sixteenth where the gradient isn't finite, and doubles after 200 that were (Micikevicius et al. 2017,
    arXiv:1710.03740, section 3.2). It is a power of 2, so that it changes no digit.

    Attributes:
        factor: of the loss.
        good: gradients since it last changed.
    """

    def __init__(self, factor: float = 2.0**16) -> None:
        self.factor = factor
        self.good = 0

    def backward(self, loss: Tensor, again: Callable[[], Tensor], image: Tensor) -> None:
        """Finds the gradient of ``loss`` with respect to the image tensor; ``again`` computes the loss anew.

        The gradient isn't finite where no factor makes it so.
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
