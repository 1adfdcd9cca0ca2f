"""The numbers that a run computes with: ``precision=auto``, ``bf16``, ``32`` or ``64``.

The pixels, the losses and the optimizer's memory have 32 bits, or 64 where all have. ``bf16`` is the encoder's: its
weights and features, whose sums are taken in 32 bits.
"""

from typing import Literal

import torch

from nst.errors import UserError, problem

Precision = Literal["bf16", 32, 64]

#: What the encoder's weights and features are.
ENCODER: dict[Precision, torch.dtype] = {"bf16": torch.bfloat16, 32: torch.float32, 64: torch.float64}

#: What everything else is.
PICTURE: dict[Precision, torch.dtype] = {"bf16": torch.float32, 32: torch.float32, 64: torch.float64}


def settle(asked: Precision | Literal["auto"], device: torch.device) -> Precision:
    """What ``auto`` is on a device: bf16 where its arithmetic is built for that, 32 elsewhere.

    Raises UserError where the device has no such numbers.
    """
    if asked == "auto":
        return "bf16" if _has_bf16(device) else 32
    if asked == 64 and device.type == "mps":
        raise UserError(problem("precision", 64, "MPS has no such numbers; choices: 32, or trainer.accelerator=cpu"))
    return asked


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        able = torch.cpu.get_capabilities()
        return any(able.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return False
