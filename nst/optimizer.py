"""L-BFGS, one iteration a step, so that it can be checkpointed at every iteration and wastes no evaluation."""

import mmap
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim.lbfgs import _strong_wolfe  # private, and held in place by our tests

#: Where an optimizer's state has its curvature pairs.
PAIRS = {"y", "s"}


class LBFGS(torch.optim.Optimizer):
    """Limited-memory BFGS (Nocedal and Wright 2006, algorithm 7.5) over one tensor.

    It visits the very points that a single ``torch.optim.LBFGS.step(max_iter=N)`` visits, but a call of ``step`` is
    one iteration, and all that the next needs is in the state: the gradient at the current point and the direction
    from it. The first step evaluates the start only; each later one moves, and without a line search costs exactly
    one evaluation.

    It departs from torch's where the first pairs have no positive curvature and are refused: torch's next step is then
    the whole gradient, however large; here it is as short as the first.

    Args:
        params: the one tensor to optimize.
        lr: length of the first trial step along each direction; without a pair it is also divided by |gradient|₁.
        history_size: curvature pairs kept, each of twice the tensor's bytes.
        history_dtype: what these are kept in: None for the tensor's own type, or ``bfloat16`` for half of 32 bits.
        line_search_fn: None, or ``strong_wolfe``.
        tolerance_grad: converged when no entry of the gradient is larger than this.
        tolerance_change: converged when neither the tensor nor the loss changes by more than this in an iteration.

    Attributes:
        evaluations_left: how often a step may call the closure at most; None for as often as it likes. It is set before
            each step, and is 1 at least.
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
        """Whether another step can't improve."""
        return bool(self.state[self._param].get("converged", False))

    def forget(self) -> None:
        """Drops all but whether it has converged: the next step begins anew."""
        state = self.state[self._param]
        converged = self.converged
        state.clear()
        if converged:
            state["converged"] = True

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over a state; of its pairs there are never more than these and one vector besides."""
        states = state_dict["state"]
        light = {
            key: {name: each for name, each in state.items() if name not in PAIRS} for key, state in states.items()
        }
        super().load_state_dict({**state_dict, "state": light})  # which makes all of it the tensor's own type
        for state in states.values():
            for memory in PAIRS & state.keys():  # none before the first step
                kept = [self._keep(each.to(self._param.device, self._kept)) for each in state[memory]]
                self.state[self._param][memory] = kept

    @torch.no_grad()
    def step(self, closure: Callable[[], Any]) -> float:  # type: ignore[override]
        """One iteration; returns the loss at the point it ends at."""
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
        """Goes along the direction and updates the memory; False when that led nowhere."""
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
        """Sets out the next iteration, or finds that there is none."""
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

    def _remember(self, state: dict[str, Any], *, y: Tensor, s: Tensor, least: float = 1e-10) -> None:
        """Keeps the pair where its curvature ``y·s`` is more than the ``least``, by default torch's."""
        rounded = [part.to(self._kept) for part in (y, s)]
        y, s = (part.to(y.dtype) for part in rounded)  # what is computed from a pair fits the pair as it is kept
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
        """A copy of a vector; on a CPU in pages of its own, and in a tensor that was made beforehand.

        Among what every evaluation allocates and frees, what stays holds the heap's places, however small it is: it
        grew by half of the pairs' size where their numbers were in it, and by a third where only their tensors were.
        """
        if not self._spare and vector.device.type != "cpu":
            self._spare = [torch.empty_like(vector)]
        elif not self._spare:
            size = vector.numel() * vector.element_size()
            number = max(1, min(32, 2 * self.history_size - self._made))
            pages = [mmap.mmap(-1, size) for _ in range(number)]  # which take no memory until they are written
            self._spare = [torch.frombuffer(each, dtype=vector.dtype) for each in pages]
            self._made += number
        return self._spare.pop().copy_(vector)

    def _direction(self, state: dict[str, Any], gradient: Tensor) -> Tensor:
        """The two-loop recursion (Nocedal and Wright 2006, algorithm 7.4)."""
        pairs = list(zip(state["y"], state["s"], state["rho"], strict=True))
        direction = gradient.neg()
        alphas = []
        for y, s, rho in reversed(pairs):
            alpha = s.to(gradient.dtype).dot(direction) * rho
            direction.add_(y, alpha=-alpha)
            alphas.append(alpha)
        direction = torch.mul(direction, state.get("scale", 1))
        for (y, s, rho), alpha in zip(pairs, reversed(alphas), strict=True):
            beta = y.to(gradient.dtype).dot(direction) * rho
            direction.add_(s, alpha=alpha - beta)
        return direction

    def _first_length(self, gradient: Tensor) -> Tensor:
        """Of a step along the gradient, of whose curvature nothing is known: together the pixels move by ``lr``."""
        return (1.0 / gradient.abs().sum()).clamp(max=1.0) * self._lr

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


class ProjectedLBFGS(LBFGS):
    """L-BFGS within [0, 1], the range of pixels, at one evaluation an iteration, and no real rise of the loss.

    - A step is projected onto the range, and the curvature is taken from where it really led.
    - Pixels at a bound that the gradient pushes against stay there, and the others move as if these didn't exist
      (two-metric projection: Bertsekas 1982, SIAM J. Control Optim. 20; with L-BFGS: Kim, Sra and Dhillon 2010, SIAM J.
      Sci. Comput. 32).
    - No pixel moves by more than a radius, 0.3 at first and 1 at most; it doubles where steps that lower the loss ask
      for it (a trust region: Nocedal and Wright 2006, chapter 4). Where no curvature is known, a step goes that far.
    - A step to a higher loss is taken back and the next one limited to half of it. Its evaluation is not lost: the
      curvature that was met there, which the memory had underrated, is remembered. Higher is what ``rounding`` doesn't
      explain: near the end the losses of an encoder of 16 bits differ by less than they are wrong.

    Args:
        params: the one tensor to optimize, within [0, 1].
        lr: length of the steps along each direction, where the radius allows it; that of the very first is also divided
            by |gradient|₁.
        history_size: curvature pairs kept, each of twice the tensor's bytes.
        history_dtype: what these are kept in: None for the tensor's own type, or ``bfloat16`` for half of 32 bits.
        tolerance_grad: converged when no entry of the gradient that could be followed is larger than this.
        tolerance_change: converged when neither the tensor nor the loss changes by more than this in an iteration.
        rounding: the fraction of the loss by which a step may raise it.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        *,
        lr: float = 1,
        history_size: int = 100,
        history_dtype: str | None = None,
        tolerance_grad: float = 0,
        tolerance_change: float = 0,
        rounding: float = 1e-4,
    ) -> None:
        super().__init__(
            params, lr=lr, history_size=history_size, history_dtype=history_dtype,
            tolerance_grad=tolerance_grad, tolerance_change=tolerance_change,
        )  # fmt: skip
        self.rounding = rounding

    def _move(self, state: dict[str, Any], closure: Callable[[], Any]) -> bool:
        loss, gradient, direction, length = (state[key] for key in ("loss", "gradient", "direction", "length"))
        start = self._param.clone()
        self._param.add_(direction, alpha=length).clamp_(0, 1)
        step = (self._param - start).flatten()
        new_loss, new_gradient = self._evaluate(closure)
        y = new_gradient.sub(gradient)
        least = torch.finfo(y.dtype).eps * float(y.norm() * step.norm())
        self._remember(state, y=y, s=step, least=least)
        change = float(step.abs().max())
        moved = change > self.tolerance_change
        if new_loss <= loss + self.rounding * abs(loss):
            radius = min(1.0, max(state["radius"], 2 * change))
            state.update(loss=new_loss, gradient=new_gradient, radius=radius)
            return moved and not abs(loss - new_loss) < self.tolerance_change
        self._param.copy_(start)
        state["radius"] = change / 2
        return moved

    def _aim(self, state: dict[str, Any], *, moved: bool) -> None:
        free = self._free(state["gradient"])
        gradient = state["gradient"] * free
        direction = self._direction(state, gradient) * free
        if not gradient.dot(direction) < 0:  # rounding has spoilt the memory: begin anew
            self._spare += [*state["y"], *state["s"]]
            for memory in (state["y"], state["s"], state["rho"]):
                memory.clear()
            direction = gradient.neg()
        largest = float(direction.abs().max())
        length = state.setdefault("radius", 0.3) / largest if largest else 0.0
        if state["y"]:
            length = min(length, self._lr)
        elif "direction" not in state:
            length = min(length, float(self._first_length(gradient)))
        converged = not moved or bool(gradient.abs().max() <= self.tolerance_grad)
        state.update(direction=direction.view_as(self._param), length=length, converged=converged)

    def _free(self, gradient: Tensor) -> Tensor:
        """1 for pixels that can follow the negative gradient, 0 for those that a bound holds."""
        pixels = self._param.flatten()
        return ~((pixels <= 0) & (gradient > 0) | (pixels >= 1) & (gradient < 0))
