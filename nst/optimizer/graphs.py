"""CUDA graphs: an evaluation that is recorded once for a scale, and then replayed."""

import logging
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor

from nst.objective import Losses, Objective

log = logging.getLogger(__name__)

#: Larger pictures aren't recorded: their kernels take longer than their launches, and a graph keeps its memory.
MOST_PIXELS = 2**21

Evaluation = Callable[[Tensor], tuple[Tensor, Tensor]]


class RecordedObjective(Objective):
    """An objective that records its evaluation on a CUDA device as a CUDA graph, and replays it.

    An evaluation is hundreds of kernels. Launching them one by one takes longer than executing them up to about
    1024 px (docs/benchmarks.md, "On a GPU"). The first evaluation is an ordinary one, the second is recorded. An
    evaluation that waits for the device can't be recorded and stays an ordinary one. So do joint terms, which may
    differ from call to call, and the tiles of several processes.
    """

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self._calls = 0
        self._parts: list[str] = []
        self._replay: Evaluation | None = None

    def forward(self, image: Tensor, evaluation: int = 0) -> Losses:
        if not self._recordable(image):
            return super().forward(image, evaluation)
        self._calls += 1
        if self._calls == 2:
            self._replay = self._record(image)
        if self._replay is None:
            return super().forward(image, evaluation)
        total, others = self._replay(image)
        content, style, tv, *values = others.unbind()
        parts = dict(zip(self._parts, values, strict=True))
        return Losses(total=total, content=content, style=style, tv=tv, parts=parts)

    def _recordable(self, image: Tensor) -> bool:
        """Return whether an evaluation has a gradient and consists of the same kernels each time."""
        traced = torch.is_grad_enabled() and image.requires_grad
        small = image[0, 0].numel() <= MOST_PIXELS
        return image.is_cuda and traced and small and self.team.size == 1 and not self.formulas.all_joint

    def _record(self, image: Tensor) -> Evaluation | None:
        """Return the recorded evaluation; None if it waits for the device."""
        # Without a cycle of references, an old scale's graph is freed as soon as the objective is.
        objective = cast(RecordedObjective, weakref.proxy(self))

        def evaluate(image: Tensor) -> tuple[Tensor, Tensor]:
            losses = Objective.forward(objective, image)
            objective._parts = list(losses.parts)
            others = torch.stack([losses.content, losses.style, losses.tv, *losses.parts.values()])
            return losses.total, others.detach()

        trial, sample = (image.detach().clone().requires_grad_() for _ in range(2))
        with warnings.catch_warnings():
            # torch warns that the check is a prototype, and of the streams that it records on.
            warnings.simplefilter("ignore", UserWarning)
            try:
                with _no_waits():
                    torch.autograd.grad(evaluate(trial)[0], trial)
            except RuntimeError as error:
                log.debug("The evaluation isn't recorded as a CUDA graph: %s", error)
                return None
            return cast(Evaluation, torch.cuda.make_graphed_callables(evaluate, (sample,)))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "RecordedObjective":
        """Move the tensors. A recorded evaluation would read them where they were."""
        self._calls, self._replay = 0, None
        super()._apply(fn, recurse)
        return self


@contextmanager
def _no_waits() -> Iterator[None]:
    """Let operations that wait for a CUDA device raise RuntimeError within the block."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)
