"""The types of an optimizer's state."""

from typing import Any

from torch import Tensor
from torch.optim import Optimizer


def keep_types(optimizer: Optimizer) -> Optimizer:
    """Let an optimizer load its state with the types that it was saved with; return the optimizer.

    PyTorch converts all tensors of a state but ``step`` to the parameter's type, also those of another type, such as
    NAdam's product of momenta. A resumed run would differ from one that wasn't stopped.
    """
    given: list[dict[str, Any]] = []

    def restore(optimizer: Optimizer) -> None:
        saved = given.pop()
        numbers = [number for group in saved["param_groups"] for number in group["params"]]
        params = [param for group in optimizer.param_groups for param in group["params"]]
        for number, param in zip(numbers, params, strict=True):
            state = optimizer.state[param]
            for name, value in saved["state"].get(number, {}).items():
                if isinstance(value, Tensor) and state[name].dtype != value.dtype:
                    state[name] = value.to(state[name].device, copy=True)

    optimizer.register_load_state_dict_pre_hook(lambda _, saved: given.append(saved))
    optimizer.register_load_state_dict_post_hook(restore)
    return optimizer
