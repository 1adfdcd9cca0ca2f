"""The share of the machine's limit that an evaluation reaches, and where the rest of its time goes.

    python -m benchmarks.roofline [--sizes 256 512] [--precision bf16 32] [--evaluations 150] [--each 20]

An ordinary run (VGG-19 with random filters, L-BFGS, TensorBoard, snapshots, checkpoints) is timed, by turns as a whole
and by parts, during its last evaluations, when the optimizer's history is full. The operations and the bytes of each
part are then counted over one evaluation, operator by operator. The limit of a part is the larger of two times: its
operations at the rate of the machine's fastest matrix product, and its bytes at the rate of a large copy (Williams,
Waterman and Patterson 2009).

A multiplication and an addition are two operations. The bytes are those that each operator reads and writes, as if
nothing stayed in the processor's cache: a part whose tensors fit into the cache may exceed its limit.
"""

import argparse
import itertools
import json
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytorch_lightning as pl
import torch
from hydra.errors import HydraException
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from benchmarks.against_baseline import ours, pictures
from benchmarks.against_baseline.clock import now, seconds
from benchmarks.against_baseline.evaluation import DTYPES
from nst.encoder import layers
from nst.encoder.vgg import VGG
from nst.errors import UserError, one_line
from nst.image import output
from nst.objective import Objective
from nst.optimizer.module import StyleTransfer
from nst.run import provenance

#: The part of each function that is timed. Time belongs to the innermost of them.
PARTS = {
    "convolutions, forward": [(torch.nn.functional, "conv2d")],
    "convolutions, backward": [(torch.nn.functional, "conv_transpose2d")],
    "ReLU, conversions": [
        (layers.Convolution, "forward"), (layers.Convolution, "backward"), (layers.ReLU, "forward"),
        (layers.ReLU, "backward"), (layers, "signs"),
    ],
    "pooling": [
        (layers.Averaging, "forward"), (layers.Averaging, "backward"), (layers.Pooling, "forward"),
        (layers.Pooling, "backward"),
    ],
    "other parts of the encoder": [(VGG, "forward"), (layers.Features, "backward")],
    "losses and statistics": [(Objective, "forward"), (StyleTransfer, "backward")],
    "optimizer": [],  # a method of the run's own optimizer
    "framework": [],  # what is left of an evaluation
}  # fmt: skip


@dataclass
class Part:
    """A part of an evaluation: seconds, operations by element type, bytes read and written."""

    seconds: float = 0.0
    operations: dict[str, int] = field(default_factory=dict)
    bytes: int = 0

    def limit(self, rates: "Rates") -> float:
        """Return the seconds that it would take at the machine's limit."""
        return max(rates.seconds(self.operations), self.bytes / rates.copy)


@dataclass(frozen=True)
class Rates:
    """Limits of a machine: operations a second of a matrix product by element type; bytes a second of a copy."""

    product: dict[str, float]
    copy: float

    def seconds(self, operations: Mapping[str, int]) -> float:
        """Return the seconds that operations take at the rate of the product of their element type."""
        return sum(number / self.product[dtype] for dtype, number in operations.items())


def measure_rates(device: torch.device, dtypes: Sequence[torch.dtype], sizes: Sequence[int]) -> Rates:
    """Return the rate of the fastest matrix product of all sizes, by element type, and of a copy of 256 MB."""
    product = {}
    for dtype in dtypes:
        matrices = [torch.rand(size, size, device=device).to(dtype) for size in sizes]
        product[str(dtype)] = max(2 * len(each) ** 3 / _fastest(lambda: each @ each, device) for each in matrices)  # noqa: B023
    source = torch.rand(2**26, device=device)
    target = torch.empty_like(source)
    return Rates(product, 2 * source.nbytes / _fastest(lambda: target.copy_(source), device))


def _fastest(action: Callable[[], object], device: torch.device) -> float:
    return min(seconds(action, device) for _ in range(7))


class Parts:
    """The parts of an evaluation: a stack of the functions that are executing, and the time of each part.

    The innermost function has the time. On CUDA the clock waits for the device at each change, which takes time that a
    run doesn't take.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.found = {name: Part() for name in PARTS}
        self.stack = ["framework"]
        self.since = now(device)

    @contextmanager
    def within(self, part: str) -> Iterator[None]:
        """Count the block to a part."""
        self.turn()
        self.stack.append(part)
        try:
            yield
        finally:
            self.turn()
            self.stack.pop()

    def turn(self) -> None:
        """Give the time since the last change to the part that is executing."""
        moment = now(self.device)
        self.found[self.stack[-1]].seconds += moment - self.since
        self.since = moment

    @contextmanager
    def watching(self, optimizer: torch.optim.Optimizer) -> Iterator[None]:
        """Time the functions of all parts within the block."""
        functions = [(part, owner, name) for part, these in PARTS.items() for owner, name in these]
        with ExitStack() as stack:
            for part, owner, name in [*functions, ("optimizer", optimizer, "step")]:
                replaced = self._timed(
                    part, getattr(owner, name), static=isinstance(owner.__dict__.get(name), staticmethod)
                )
                stack.enter_context(mock.patch.object(owner, name, replaced))
            yield

    def _timed(self, part: str, function: Callable[..., Any], *, static: bool) -> Any:
        def timed(*arguments: Any, **named: Any) -> Any:
            with self.within(part):
                if part == "optimizer":  # the closure that it calls is not its own
                    closure = named.pop("closure", None) or arguments[0]
                    return function(closure=lambda: self._outside(closure))
                return function(*arguments, **named)

        return staticmethod(timed) if static else timed

    def _outside(self, closure: Callable[[], Any]) -> Any:
        with self.within("framework"):
            return closure()


class Counting(TorchDispatchMode):
    """Counts the operations and the bytes of every operator for the part that is executing."""

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self.parts = parts

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        part = self.parts.found[self.parts.stack[-1]]
        given = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        made = [each for each in tree_leaves(result) if isinstance(each, Tensor)]
        if func.overloadpacket in flop_registry:
            count = flop_registry[func.overloadpacket](*args, **(kwargs or {}), out_val=result)
            dtype = str(given[0].dtype)
            part.operations[dtype] = part.operations.get(dtype, 0) + count
        if not func.is_view:
            part.bytes += sum(
                each.numel() * each.element_size() for each in {id(t): t for t in [*given, *made]}.values()
            )
        return result


class Watch(pl.Callback):
    """Times evaluations of a run, by turns as a whole and by parts, and counts the last one.

    Attributes:
        whole: seconds of each evaluation that is timed as a whole, from its begin to the next one's.
        parts: the parts of each evaluation that is timed by parts.
        counted: the parts of one evaluation, with operations and bytes.
    """

    def __init__(self, device: torch.device, *, each: int, evaluations: int) -> None:
        self.device = device
        self.first = evaluations - 2 * each - 1
        self.evaluations = evaluations
        self.whole: list[float] = []
        self.parts: list[Parts] = []
        self.counted = Parts(device)
        self._watching = ExitStack()

    def on_train_batch_start(self, trainer: pl.Trainer, module: Any, batch: Any, index: int) -> None:
        self._watching.close()
        number = module.evaluation.number
        if number == self.evaluations - 1:
            self._watch(module, self.counted)
            self._watching.enter_context(Counting(self.counted))
        elif number >= self.first and (number - self.first) % 2:
            self.parts.append(Parts(self.device))
            self._watch(module, self.parts[-1])
        elif number >= self.first:
            began = now(self.device)
            self._watching.callback(lambda: self.whole.append(now(self.device) - began))

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, *rest: Any) -> None:
        if module.evaluation.number == self.evaluations:
            self._watching.close()

    def _watch(self, module: Any, parts: Parts) -> None:
        self._watching.enter_context(parts.watching(module.optimizers().optimizer))
        parts.since = now(self.device)
        self._watching.callback(parts.turn)


def measure(
    size: int, overrides: Sequence[str], device: torch.device, *, each: int, evaluations: int
) -> tuple[dict[str, Part], float]:
    """Return the parts of an evaluation and its seconds as a whole, both in the median, at size x size px."""
    with tempfile.TemporaryDirectory() as name:
        files = Path(name) / "content.png", Path(name) / "style.png"
        for picture, path in zip(pictures.bundled((size, size)), files, strict=True):
            output.save(picture, path)
        words = [word for word in ours.random_filters(*files, device) if word != "logger=none"]
        given = [*words, f"evaluations={evaluations}", "callbacks.film=null", "cuda_graphs=false", *overrides]
        run = ours.make(given, Path(name))
        watch = Watch(device, each=each, evaluations=evaluations)
        ours.fit(run, watch)
    found = {
        name: replace(part, seconds=statistics.median(timed.found[name].seconds for timed in watch.parts))
        for name, part in watch.counted.found.items()
    }
    return found, statistics.median(watch.whole)


def table(title: str, parts: dict[str, Part], whole: float, rates: Rates) -> Table:
    """Lay out the parts as a table."""
    made = Table("part", "ms", "share", "GFLOP", "GB", "limit, ms", "of the limit", title=title, box=None)
    limits = {name: part.limit(rates) for name, part in parts.items()}
    timed = sum(part.seconds for part in parts.values())
    for name, part in parts.items():
        made.add_row(name, *_row(part, timed, limits[name]))
    operations: Counter[str] = Counter()
    for part in parts.values():
        operations.update(part.operations)
    total = Part(whole, operations, sum(part.bytes for part in parts.values()))
    made.add_row("an evaluation", *_row(total, whole, rates.seconds(operations)))
    return made


def _row(part: Part, whole: float, limit: float) -> list[str]:
    return [
        f"{1e3 * part.seconds:.2f}", f"{part.seconds / whole:.1%}", f"{sum(part.operations.values()) / 1e9:.2f}",
        f"{part.bytes / 1e9:.3f}", f"{1e3 * limit:.2f}", f"{limit / part.seconds:.0%}" if part.seconds else "",
    ]  # fmt: skip


def main(words: list[str] | None = None) -> int:
    """Measure every size at every precision, print the tables and write the results."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.roofline",
        description="Measures which share of the machine's limit an evaluation reaches.",
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--sizes", nargs="+", type=int, default=[256, 512], help="sides of the picture in px")
    parser.add_argument("--precision", nargs="+", default=["bf16", "32"], choices=list(DTYPES))
    parser.add_argument(
        "--evaluations", type=int, default=150, help="number of evaluations of each run; the history is full after 101"
    )
    parser.add_argument(
        "--each", type=int, default=20, help="number of evaluations that are timed as a whole, and part by part"
    )
    parser.add_argument("--products", nargs="+", type=int, default=[1024, 2048, 4096], help="sizes of matrix products")
    parser.add_argument("--device", type=torch.device, default=device)
    parser.add_argument("--results", type=Path, default=Path("outputs/roofline.json"))
    parser.add_argument("--overrides", nargs="*", default=[], metavar="KEY=VALUE", help="overrides for all runs")
    options = parser.parse_args(words)
    if options.evaluations < 2 * options.each + 2:
        parser.error(f"--evaluations={options.evaluations}: at least twice --each and 2 are needed")
    try:
        for precision in options.precision:
            filters = ours.random_filters(*pictures.BUNDLED, options.device)
            ours.settle([*filters, f"precision={precision}", *options.overrides])
    except (UserError, HydraException) as error:
        lines = error.problems if isinstance(error, UserError) else [one_line(error)]
        print("\n".join(f"error: {line}" for line in lines), file=sys.stderr)
        return 2
    dtypes = {DTYPES[each] for each in (*options.precision, "32")}
    rates = measure_rates(options.device, sorted(dtypes, key=str), options.products)
    console, told = Console(width=120), []
    for dtype, rate in rates.product.items():
        console.print(f"matrix product, {dtype}: {rate / 1e9:.0f} GFLOP/s")
    console.print(f"copy: {rates.copy / 1e9:.1f} GB/s")
    for size, precision in itertools.product(options.sizes, options.precision):
        given = [f"precision={precision}", *options.overrides]
        parts, whole = measure(size, given, options.device, each=options.each, evaluations=options.evaluations)
        console.print(table(f"{size} x {size} px, precision={precision}", parts, whole, rates))
        kept = {name: asdict(part) for name, part in parts.items()}
        told.append({"size": size, "precision": precision, "seconds": whole, "parts": kept})
    options.results.parent.mkdir(parents=True, exist_ok=True)
    made = {**provenance.of_machine(options.device), "rates": asdict(rates), "overrides": options.overrides}
    options.results.write_text(json.dumps({**made, "runs": told}, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
