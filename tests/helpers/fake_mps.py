"""A device of the kind ``mps`` that computes on the CPU and refuses what Apple's GPUs lack."""

import functools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import lightning_fabric.accelerators
import pytorch_lightning.accelerators
import torch
import torchgen
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_map

MPS = torch.device("mps")

#: Operators that have a kernel for MPS in torch 2.15, but not in 2.11, or (the last) not for all sizes.
RESTRICTED = (
    "_linalg_eigh", "linalg_eigh", "_linalg_svd", "linalg_qr", "_cdist_backward", "grid_sampler_2d_backward",
    "_upsample_bicubic2d_aa_backward", "_upsample_bilinear2d_aa_backward", "index_reduce", "take", "put_",
    "_adaptive_avg_pool2d",
)  # fmt: skip


@functools.cache
def supported() -> frozenset[str]:
    """Return the names of the operators that torch says it has for MPS, by itself or composed of others."""
    table = Path(torchgen.__file__).parent / "packaged/ATen/native/native_functions.yaml"
    found, delegates = set(), {}
    for block in table.read_text(encoding="utf-8").split("\n- func: ")[1:]:
        name = block.partition("(")[0]
        dispatch = block.partition("  dispatch:")[2]
        if delegate := re.search(r"structured_delegate: (\S+)", block):
            delegates[name] = delegate[1]
        elif not dispatch or re.search(r"^    [^:]*\b(MPS|Composite\w+)\b[^:]*:", dispatch, re.MULTILINE):
            found.add(name)
    return frozenset(found | {name for name, delegate in delegates.items() if delegate in found})


#: The methods that convert a tensor, and their types.
TYPES = {Tensor.float: torch.float32, Tensor.double: torch.float64, Tensor.bfloat16: torch.bfloat16}


class OnMPS(Tensor):
    """A tensor on the CPU that says it is on the device, as far as Python sees."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> "OnMPS":
        made: OnMPS = Tensor._make_wrapper_subclass(
            cls, inner.size(), strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype
        )
        made.inner = inner
        return made

    def __init__(self, inner: Tensor) -> None:
        pass

    def __repr__(self, **_: Any) -> str:
        return f"OnMPS({self.inner})"

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.inner.detach().__reduce_ex__(protocol)

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return MPS

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["inner"], None

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    name = str(func).removeprefix("aten.")
    target = kwargs.get("device")
    inputs = []
    tree_map(lambda each: inputs.append(each) if isinstance(each, Tensor) else None, (args, kwargs))
    here = any(isinstance(each, OnMPS) for each in inputs)
    if name.startswith("new_"):  # a gradient made by C++, which sees another device
        target = None
    there = here if target is None else _is_mps(target)
    if name.startswith(("copy_", "_local_scalar_dense", "_to_copy")):
        pass
    elif here and any(not isinstance(each, OnMPS) and each.dim() for each in inputs) and not name.startswith("index"):
        raise RuntimeError(f"{name}: tensors on two devices")
    if here and (name.removesuffix(".default") not in supported() or name.startswith(RESTRICTED)):
        raise NotImplementedError(f"{name} on MPS")
    if _is_mps(target):
        kwargs = {**kwargs, "device": torch.device("cpu")}

    def plain(each: Any) -> Any:
        return each.inner if isinstance(each, OnMPS) else each

    found = func(*tree_map(plain, args), **tree_map(plain, kwargs))
    if not there:
        return found

    def wrapped(each: Any) -> Any:
        if not isinstance(each, Tensor):
            return each
        if each.dtype in (torch.float64, torch.complex128):
            raise TypeError(f"{name}: MPS doesn't support float64")
        return OnMPS(each)

    return (
        return_and_correct_aliasing(func, args, kwargs, tree_map(wrapped, found)) if here else tree_map(wrapped, found)
    )


class _Operators(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Calls(TorchFunctionMode):
    """Moves and makes tensors by operators, as torch's Python functions refuse a device that this build lacks."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is Tensor.cpu:
            return _moved(args[0], torch.device("cpu"), None)
        if func is Tensor.to:
            device, dtype = kwargs.get("device"), kwargs.get("dtype")
            for each in args[1:]:
                if isinstance(each, Tensor):
                    device, dtype = each.device, each.dtype
                elif isinstance(each, torch.dtype):
                    dtype = each
                elif isinstance(each, (torch.device, str)):
                    device = torch.device(each)
            return _moved(args[0], device, dtype, **{k: v for k, v in kwargs.items() if k in ("copy", "memory_format")})
        if func in TYPES:  # in C++, their gradients would name the device that C++ sees
            return _moved(args[0], None, TYPES[func])
        if func is Tensor.tolist:
            return _moved(args[0], torch.device("cpu"), None).tolist()
        if func is Tensor.new_tensor:
            return _moved(torch.tensor(*args[1:], **{"dtype": args[0].dtype, **kwargs}), args[0].device, None)
        if _is_mps(kwargs.get("device")):
            return _moved(func(*args, **{**kwargs, "device": "cpu"}), MPS, None)
        return func(*args, **kwargs)


def _is_mps(device: Any) -> bool:
    return device is not None and torch.device(device).type == "mps"


def _moved(x: Tensor, device: Any, dtype: Any, **rest: Any) -> Tensor:
    device = x.device if device is None else torch.device(device)
    dtype = x.dtype if dtype is None else dtype
    if not any(rest.values()) and device.type == x.device.type and dtype == x.dtype:
        return x
    return _Move.apply(x, device, dtype, rest.get("memory_format"))  # type: ignore[no-any-return]


class _Move(torch.autograd.Function):
    """A copy in another type or on another device; for the gradient back, as autograd sees one device only."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, device: Any, dtype: Any, memory_format: Any) -> Tensor:
        ctx.before = (x.device, x.dtype)
        return torch.ops.aten._to_copy(x, dtype=dtype, device=device, memory_format=memory_format)  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        return _moved(gradient, *ctx.before), None, None, None


@contextmanager
def fake_mps() -> Iterator[torch.device]:
    """Let Lightning and torch find the device within the block."""
    available = [
        mock.patch.object(each, "is_available", return_value=True)
        for each in (lightning_fabric.accelerators.MPSAccelerator, pytorch_lightning.accelerators.MPSAccelerator)
    ]
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with available[0], available[1], _Calls(), _Operators():
            yield MPS
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(False)
