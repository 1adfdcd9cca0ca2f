"""L-BFGS with one iteration a step, which allows a checkpoint at every iteration and wastes no evaluation."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.lbfgs import _strong_wolfe  # private; our tests check its use

from nst.files.pages import Pages
from nst.objective.processes import ALONE, Team
from nst.optimizer.compact import Compact
from nst.optimizer.history import History, Loops, Sizes

#: Keys of an optimizer's state that belong to its history, in older checkpoints.
OLDER = ("y", "s", "rho", "scale")

#: Keys of an optimizer's state of which each process of a team has a part.
VECTORS = {"gradient", "direction"}


class Joined(Sequence[Tensor]):
    """A part of each of several vectors, which are themselves in parts; none is made before it is needed.

    Args:
        parts: the vectors' first parts, their second parts …
        own: the part of the whole vectors.
    """

    def __init__(self, parts: Sequence[Sequence[Tensor]], own: slice) -> None:
        self.parts = parts
        self.own = own

    def __len__(self) -> int:
        return len(self.parts[0])

    def __getitem__(self, index: Any) -> Any:
        pieces, first = [], 0
        for part in self.parts:
            vector = part[index]
            piece = vector[max(0, self.own.start - first) : max(0, self.own.stop - first)]
            pieces += [piece] * (len(piece) > 0)
            first += len(vector)
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)


class LBFGS(torch.optim.Optimizer):
    """Limited-memory BFGS (Nocedal and Wright 2006, algorithm 7.5) over one tensor.

    The optimizer visits the same points as a single ``torch.optim.LBFGS.step(max_iter=N)``, but a call of ``step`` is
    one iteration. The state has all that the next iteration needs: the gradient at the current point and the direction
    from it. The first step evaluates the start only. Each later step moves, and without a line search takes exactly
    one evaluation.

    Each process of a team keeps its part of the history, the gradient and the direction, and moves its part of the
    tensor. Each decides from the same numbers. With a line search, each process keeps everything.

    The points differ from torch's if the first pairs have no positive curvature and are rejected: torch's next step is
    then the whole gradient, however large; here each step is twice as long as the last, until a pair is accepted.

    Args:
        params: the one tensor to optimize, contiguous.
        lr: length of the first trial step along each direction; that of the very first step is also divided by
            |gradient|₁.
        history_size: number of curvature pairs to keep, each of twice the tensor's bytes.
        history_dtype: type of the kept pairs: None for the tensor's own type, or ``bfloat16`` for half of 32 bits.
        line_search_fn: None, or ``strong_wolfe``.
        tolerance_grad: converged if no entry of the gradient is larger than this.
        tolerance_change: converged if no entry of the tensor changes by more than this in an iteration, or the loss
            changes by less.
        scratch: folder in which the pairs are kept, in temporary files; None for memory. On a CPU only.

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
        scratch: Path | None = None,
    ) -> None:
        super().__init__(params, {"lr": lr})
        if len(self.param_groups) != 1 or len(self.param_groups[0]["params"]) != 1:
            raise ValueError("LBFGS takes exactly one tensor")
        if not self._param.is_contiguous():
            raise ValueError("LBFGS takes a contiguous tensor")
        if line_search_fn not in (None, "strong_wolfe"):
            raise ValueError(f"line_search_fn={line_search_fn!r}: choices: null, strong_wolfe")
        if history_dtype not in (None, "bfloat16"):
            raise ValueError(f"history_dtype={history_dtype!r}: choices: null, bfloat16")
        if scratch is not None and not self._param.is_cpu:
            raise ValueError(f"scratch={str(scratch)!r}: the tensor must be on a CPU")
        self.history_size = history_size
        self.history_dtype = history_dtype
        self.line_search_fn = line_search_fn
        self.tolerance_grad = tolerance_grad
        self.tolerance_change = tolerance_change
        self.scratch = scratch
        self.evaluations_left: int | None = None
        self.team = Team.present() if line_search_fn is None else ALONE
        self._history: History | None = None

    @property
    def converged(self) -> bool:
        """True if no further step can improve the loss."""
        return bool(self.state[self._param].get("converged", False))

    @property
    def history(self) -> History:
        """The curvature pairs."""
        if self._history is None:
            kept = self._param.dtype if self.history_dtype is None else torch.bfloat16
            pages = Pages(self.scratch)
            if self.team.size == 1 and self._param.is_cpu:
                self._history = Loops(self.history_size, self._own, kept, pages)
            else:
                self._history = Compact(self.history_size, self._own, kept, pages, self.team)
        return self._history

    @property
    def has_history(self) -> bool:
        """Whether the next step uses pairs of earlier ones."""
        return len(self.history) > 0

    def forget(self) -> None:
        """Clear the state except for ``converged``. If not converged, the next step begins anew."""
        state = self.state[self._param]
        converged = self.converged
        state.clear()
        self._history = None
        if converged:
            state["converged"] = True

    def state_dict(self) -> dict[str, Any]:
        """Return the state, without copies of the pairs; in a team, ``parts`` is the number of its processes."""
        whole = super().state_dict()
        states = {key: {**state, "history": self.history.state()} for key, state in whole["state"].items()}
        shared = {"parts": self.team.size} if self.team.size > 1 and states else {}
        return {**whole, **shared, "state": states}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state, with memory for no more than its pairs and one further vector.

        ``others`` are the states of the other processes of the team that saved it, if any; this one may be of another
        size.
        """
        light = {}
        own = self.team.part(self._param.numel())
        for key, state in state_dict["state"].items():
            parts = [state, *(other["state"][key] for other in state_dict.get("others", []))]
            light[key] = {name: value for name, value in state.items() if name not in (*OLDER, "history")}
            for name in VECTORS & state.keys():
                light[key][name] = Joined([[part[name].flatten()] for part in parts], own)[0]
            older = {"y": [], "s": [], **{name: state[name] for name in OLDER if name in state}}
            histories = [part.get("history", older) for part in parts]
            pairs = {name: Joined([each[name] for each in histories], own) for name in ("y", "s")}
            self.history.load({**histories[0], **pairs})
        super().load_state_dict({**state_dict, "state": light})  # converts everything to the tensor's type

    @torch.no_grad()
    def step(self, closure: Callable[[], Any]) -> float:  # type: ignore[override]
        """Make one iteration and return the loss at its end point."""
        closure = torch.enable_grad()(closure)
        state = self.state[self._param]
        if not state:
            loss, gradient = self._evaluate(closure)
            state.update(loss=loss, gradient=gradient)
            self._aim(state, self.history.learn(self._followed(gradient)))
        elif not self.converged:
            pair, gain = self._move(state, closure)
            sizes = self.history.learn(self._followed(state["gradient"]), pair)
            del pair  # its memory
            self._aim(state, sizes, gain)
        return float(state["loss"])

    def _move(self, state: dict[str, Any], closure: Callable[[], Any]) -> tuple[tuple[Tensor, Tensor], float]:
        """Move along the direction; return the new pair, and by how much the loss changed.

        The pair takes the memory of the direction and of a gradient.
        """
        loss, gradient, direction, length = (state[key] for key in ("loss", "gradient", "direction", "length"))
        if self.line_search_fn is None:
            self._own.add_(direction, alpha=length)
            self.team.share(self._flat)
            new_loss, new_gradient = self._evaluate(closure)
        else:
            new_loss, new_gradient, length = self._line_search(state, closure)
            self._own.add_(direction, alpha=length)
        state.update(loss=new_loss, gradient=new_gradient)
        return (torch.sub(new_gradient, gradient, out=gradient), direction.mul_(length)), abs(new_loss - loss)

    def _followed(self, gradient: Tensor) -> Tensor:
        """Return the part of the gradient that the tensor can follow."""
        return gradient

    def _aim(self, state: dict[str, Any], sizes: Sizes, gain: float = torch.inf) -> None:
        """Set the direction and the length of the next iteration, or mark it as converged.

        In the first step, all pixels together move by ``lr``. torch's optimizer, whose first step is otherwise the
        same, moves them by less where |gradient|₁ is below 1. As long as no curvature is known, each step moves the
        pixels by up to twice as much as the last.
        """
        direction, slope = self.history.direction(state["gradient"])
        if self.has_history:
            length = self._lr
        elif "length" in state:
            length = 2 * sizes.change / (sizes.largest or 1)
        else:
            length = self._lr / (sizes.total or 1)
        moved = sizes.change > self.tolerance_change and not gain < self.tolerance_change
        converged = sizes.largest <= self.tolerance_grad or not moved or slope > -self.tolerance_change
        state.update(direction=direction, length=length, converged=converged)

    def _line_search(self, state: dict[str, Any], closure: Callable[[], Any]) -> tuple[float, Tensor, float]:
        start = self._param.clone(memory_format=torch.contiguous_format)

        def probe(_: Tensor, length: float, direction: Tensor) -> tuple[float, Tensor]:
            self._param.add_(direction.view_as(self._param), alpha=length)
            result = self._evaluate(closure)
            self._param.copy_(start)
            return result

        direction = state["direction"]
        probes = 25  # at most, as in minFunc, which torch's search was ported from
        if self.evaluations_left is not None:
            probes = min(probes, self.evaluations_left - 1)
        loss, gradient, length, _ = _strong_wolfe(  # type: ignore[no-untyped-call]
            probe, start, state["length"], direction, state["loss"], state["gradient"],
            state["gradient"].dot(direction), max_ls=probes,
        )  # fmt: skip
        return loss, gradient, length

    def _evaluate(self, closure: Callable[[], Any]) -> tuple[float, Tensor]:
        loss = float(closure())
        gradient, self._param.grad = self._param.grad, None
        assert gradient is not None
        own = gradient.flatten()[self.team.part(self._param.numel())]
        # A part would keep all of the gradient, and a CUDA graph writes the next gradient to the same memory.
        return loss, own.clone() if self.team.size > 1 or own.is_cuda else own

    @property
    def _flat(self) -> Tensor:
        """The tensor as a vector."""
        return self._param.detach().view(-1)

    @property
    def _own(self) -> Tensor:
        """The part of the vector that this process moves; all, if it is the only one."""
        return self._flat[self.team.part(self._param.numel())]

    @property
    def _lr(self) -> float:
        return float(self.param_groups[0]["lr"])

    @property
    def _param(self) -> Tensor:
        param: Tensor = self.param_groups[0]["params"][0]
        return param
