"""L-BFGS with one iteration a step, which allows a checkpoint at every iteration and wastes no evaluation."""

import mmap
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim.lbfgs import _strong_wolfe  # private; our tests check its use

#: Keys of the curvature pairs in an optimizer's state.
PAIRS = {"y", "s"}


class LBFGS(torch.optim.Optimizer):
    """Limited-memory BFGS (Nocedal and Wright 2006, algorithm 7.5) over one tensor.

    The optimizer visits the same points as a single ``torch.optim.LBFGS.step(max_iter=N)``, but a call of ``step`` is
    one iteration. The state has all that the next iteration needs: the gradient at the current point and the direction
    from it. The first step evaluates the start only. Each later step moves, and without a line search takes exactly
    one evaluation.

    The points differ from torch's if the first pairs have no positive curvature and are rejected: torch's next step is
    then the whole gradient, however large; here the next step is as short as the first.

    Args:
        params: the one tensor to optimize.
        lr: length of the first trial step along each direction; without a pair it is also divided by |gradient|₁ if
            that is above 1.
        history_size: number of curvature pairs to keep, each of twice the tensor's bytes.
        history_dtype: type of the kept pairs: None for the tensor's own type, or ``bfloat16`` for half of 32 bits.
        line_search_fn: None, or ``strong_wolfe``.
        tolerance_grad: converged if no entry of the gradient is larger than this.
        tolerance_change: converged if no entry of the tensor changes by more than this in an iteration, or the loss
            changes by less.

    Attributes:
        evaluations_left: maximum number of closure calls in a step; None for no limit. Set it before each step, to at
            least 1.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        *,
        lr: float = 1,
        history_size: int = 100,
        history_dtype: str | None = None,
        line_search_fn: str | None = None,
        tolerance_grad: float = 0,
        tolerance_change: float = 0,
    ) -> None:
        super().__init__(params, {"lr": lr})
        if len(self.param_groups) != 1 or len(self.param_groups[0]["params"]) != 1:
            raise ValueError("LBFGS takes exactly one tensor")
        if line_search_fn not in (None, "strong_wolfe"):
            raise ValueError(f"line_search_fn={line_search_fn!r}: choices: null, strong_wolfe")
        if history_dtype not in (None, "bfloat16"):
            raise ValueError(f"history_dtype={history_dtype!r}: choices: null, bfloat16")
        self.history_size = history_size
        self.history_dtype = history_dtype
        self.line_search_fn = line_search_fn
        self.tolerance_grad = tolerance_grad
        self.tolerance_change = tolerance_change
        self.evaluations_left: int | None = None
        self._spare: list[Tensor] = []
        self._made = 0

    @property
    def converged(self) -> bool:
        """True if no further step can improve the loss."""
        return bool(self.state[self._param].get("converged", False))

    @property
    def has_history(self) -> bool:
        """Whether the next step uses pairs of earlier ones."""
        return bool(self.state[self._param].get("y"))

    def forget(self) -> None:
        """Clear the state except for ``converged``. If not converged, the next step begins anew."""
        state = self.state[self._param]
        converged = self.converged
        state.clear()
        if converged:
            state["converged"] = True

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state, with memory for no more than its pairs and one further vector."""
        states = state_dict["state"]
        light = {
            key: {name: each for name, each in state.items() if name not in PAIRS} for key, state in states.items()
        }
        super().load_state_dict({**state_dict, "state": light})  # converts everything to the tensor's type
        for state in states.values():
            for memory in PAIRS & state.keys():  # none before the first step
                kept = [self._keep(each.to(self._param.device, self._kept)) for each in state[memory]]
                self.state[self._param][memory] = kept

    @torch.no_grad()
    def step(self, closure: Callable[[], Any]) -> float:  # type: ignore[override]
        """Make one iteration and return the loss at its end point."""
        closure = torch.enable_grad()(closure)
        state = self.state[self._param]
        if not state:
            loss, gradient = self._evaluate(closure)
            state.update(loss=loss, gradient=gradient, y=[], s=[], rho=[])
            self._aim(state, moved=True)
        elif not self.converged:
            self._aim(state, moved=self._move(state, closure))
        return float(state["loss"])

    def _move(self, state: dict[str, Any], closure: Callable[[], Any]) -> bool:
        """Move along the direction and update the memory; return False if the tensor or the loss hardly changed."""
        loss, gradient, direction, length = (state[key] for key in ("loss", "gradient", "direction", "length"))
        if self.line_search_fn is None:
            self._param.add_(direction, alpha=length)
            new_loss, new_gradient = self._evaluate(closure)
        else:
            new_loss, new_gradient, length = self._line_search(state, closure)
            self._param.add_(direction, alpha=length)
        state.update(loss=new_loss, gradient=new_gradient)
        self._remember(state, y=new_gradient.sub(gradient), s=direction.mul(length).flatten())
        change = direction.mul(length).abs().max()
        return bool(change > self.tolerance_change) and not abs(new_loss - loss) < self.tolerance_change

    def _aim(self, state: dict[str, Any], *, moved: bool) -> None:
        """Set the direction and the length of the next iteration, or mark the optimizer as converged."""
        gradient = state["gradient"]
        length = self._lr if state["y"] else self._first_length(gradient)
        direction = self._direction(state, gradient)
        slope = gradient.dot(direction)
        flat = bool(gradient.abs().max() <= self.tolerance_grad)
        converged = flat or not moved or bool(slope > -self.tolerance_change)
        state.update(direction=direction.view_as(self._param), length=length, converged=converged)

    def _line_search(self, state: dict[str, Any], closure: Callable[[], Any]) -> tuple[float, Tensor, float]:
        start = self._param.clone(memory_format=torch.contiguous_format)

        def probe(_: Tensor, length: float, direction: Tensor) -> tuple[float, Tensor]:
            self._param.add_(direction.view_as(self._param), alpha=length)
            result = self._evaluate(closure)
            self._param.copy_(start)
            return result

        direction = state["direction"].flatten()
        probes = 25  # at most, as in minFunc, which torch's search was ported from
        if self.evaluations_left is not None:
            probes = min(probes, self.evaluations_left - 1)
        loss, gradient, length, _ = _strong_wolfe(  # type: ignore[no-untyped-call]
            probe, start, state["length"], direction, state["loss"], state["gradient"],
            state["gradient"].dot(direction), max_ls=probes,
        )  # fmt: skip
        return loss, gradient, length

    def _remember(self, state: dict[str, Any], *, y: Tensor, s: Tensor) -> None:
        """Keep the pair if its curvature ``y·s`` is more than its rounding error. torch's limit is 1e-10."""
        least = torch.finfo(y.dtype).eps * float(y.norm() * s.norm())
        rounded = [part.to(self._kept) for part in (y, s)]
        y, s = (part.to(y.dtype) for part in rounded)  # compute from the pair as it is kept
        curvature = y.dot(s)
        if not curvature > least:
            return
        if len(state["y"]) == self.history_size:
            self._spare += [state["y"].pop(0), state["s"].pop(0)]
            state["rho"].pop(0)
        state["y"].append(self._keep(rounded[0]))
        state["s"].append(self._keep(rounded[1]))
        state["rho"].append(float(1.0 / curvature))
        state["scale"] = float(curvature / y.dot(y))

    def _keep(self, vector: Tensor) -> Tensor:
        """Return a copy of a vector; on a CPU, in memory pages of its own and in a tensor made beforehand.

        Every evaluation allocates and frees memory. Objects that stay allocated in between, however small, fragment the
        heap: it grew by half of the pairs' size with the pairs' numbers in it, and by a third with their tensor objects
        only.
        """
        if not self._spare and vector.device.type != "cpu":
            self._spare = [torch.empty_like(vector)]
        elif not self._spare:
            size = vector.numel() * vector.element_size()
            number = max(1, min(32, 2 * self.history_size - self._made))
            pages = [mmap.mmap(-1, size) for _ in range(number)]  # pages take no memory until they are written
            self._spare = [torch.frombuffer(each, dtype=vector.dtype) for each in pages]
            self._made += number
        return self._spare.pop().copy_(vector)

    def _direction(self, state: dict[str, Any], gradient: Tensor) -> Tensor:
        """Return the direction, by the two-loop recursion (Nocedal and Wright 2006, algorithm 7.4)."""
        pairs = list(zip(state["y"], state["s"], state["rho"], strict=True))
        direction = gradient.neg()
        alphas = []
        for y, s, rho in reversed(pairs):
            alpha = s.to(gradient.dtype).dot(direction) * rho
            direction.addcmul_(y, alpha, value=-1)  # unlike add_, doesn't wait for the device
            alphas.append(alpha)
        direction = torch.mul(direction, state.get("scale", 1))
        for (y, s, rho), alpha in zip(pairs, reversed(alphas), strict=True):
            beta = y.to(gradient.dtype).dot(direction) * rho
            direction.addcmul_(s, alpha - beta)
        return direction

    def _first_length(self, gradient: Tensor) -> Tensor:
        """Return the length of a step along the gradient without known curvature: all pixels together move by ``lr``.

        torch's optimizer, whose first step is otherwise the same, moves them by less where |gradient|₁ is below 1.
        """
        return self._lr / gradient.abs().sum()

    def _evaluate(self, closure: Callable[[], Any]) -> tuple[float, Tensor]:
        loss = float(closure())
        assert self._param.grad is not None
        return loss, self._param.grad.flatten().clone(memory_format=torch.contiguous_format)

    @property
    def _lr(self) -> float:
        return float(self.param_groups[0]["lr"])

    @property
    def _kept(self) -> torch.dtype:
        return self._param.dtype if self.history_dtype is None else torch.bfloat16

    @property
    def _param(self) -> Tensor:
        param: Tensor = self.param_groups[0]["params"][0]
        return param
