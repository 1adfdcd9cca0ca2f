"""Check on a GPU what can go wrong there alone, then measure its speed; print tables and write JSON.

    python -m benchmarks.gpu [--results outputs/gpu.json] [--seconds 480]

Each check has a bound; the exit status is 1 if one fails. The reference is float64 on the CPU. The speed is measured by
``benchmarks.against_baseline``, on the same device: an evaluation and its share of the device's rate, peak memory, and
the seconds until the picture is as good as the best of the baseline's recipe. A part doesn't begin after ``--seconds``.
On a machine without a GPU, ``--device cpu`` runs the same where it has a meaning.
"""

import argparse
import io
import json
import logging
import math
import statistics as numbers
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.against_baseline import __main__ as against_baseline
from benchmarks.against_baseline import ours
from benchmarks.against_baseline.clock import seconds
from nst import train
from nst.config.source import quoted
from nst.encoder.precision import LossScale, full_float32
from nst.errors import UserError, one_line
from nst.files import paths
from nst.files.run_folder import RunFolder
from nst.image import output
from nst.objective import Losses, Objective, functional, statistics
from nst.optimizer import ProjectedLBFGS
from nst.run import provenance
from nst.run.build import Run

OBJECTIVES = (
    "gram", "paper", "relative", "mean_std", "gram_mean_std", "covariance", "wasserstein", "sliced_wasserstein",
    "long_range",
)  # fmt: skip

#: What goes with an objective whose losses have another scale.
BESIDE = {"paper": ["weights=paper", "layers=paper"], "relative": ["weights=relative"]}

#: The least cosine of a gradient to that in float64, at the start and near the end, by precision.
COSINES = {"32": (0.9999, 0.999), "bf16": (0.99, 0.9), "16": (0.99, 0.9)}


@dataclass(frozen=True)
class Check:
    """A figure and the bound that it keeps or breaks."""

    name: str
    value: float
    bound: float
    at_least: bool = False

    @property
    def passed(self) -> bool:
        return self.value >= self.bound if self.at_least else self.value <= self.bound


@dataclass(frozen=True)
class Case:
    """What the checks are made with.

    Attributes:
        device: what is checked.
        size: longest side of the picture in px.
        evaluations: after how many a picture is nearly done.
        overrides: of every configuration.
        folder: for files.
    """

    device: torch.device
    size: int
    evaluations: int
    overrides: list[str]
    folder: Path

    def run(self, *overrides: str, device: torch.device | None = None) -> Run:
        """A run of this size, not begun."""
        words = [
            f"size={self.size}", f"evaluations={self.evaluations}", "schedule=single", "init=noise", "logger=none",
            "callbacks.film=null", ours.where(self.device if device is None else device), *self.overrides, *overrides,
        ]  # fmt: skip
        folder = self.folder / "run"
        folder.mkdir(exist_ok=True)
        return ours.make(words, folder)


def gradient(run: Run, picture: Tensor, device: torch.device) -> Tensor:
    """The total's gradient at a picture, in float64 on the CPU."""
    stage = run.module.schedule.stages[-1]
    with full_float32():
        objective = run.module.make_objective(stage, device)
        image = picture.detach().to(run.module.image.dtype).to(device).requires_grad_()
        # The scale that 16 bits need doesn't round the gradient of the others.
        LossScale(2.0**10).backward(objective(image).total, lambda: objective(image).total, image)
    assert image.grad is not None
    return image.grad.cpu().double().flatten()


def gradients(case: Case) -> Iterator[Check]:
    """Of each objective, at the start and near the end, in each precision that the device has."""
    cpu = torch.device("cpu")
    precisions = [each for each in COSINES if each != "16" or case.device.type == "cuda"]
    for objective in OBJECTIVES:
        words = [f"objective={objective}", *BESIDE.get(objective, [])]
        exact = case.run(*words, "precision=64", device=cpu)
        done = case.run(*words, "precision=32")
        start = done.module.image.detach().clone()
        ours.fit(done)
        pictures = start, done.module.best_image.cpu()
        truths = [gradient(exact, picture, cpu) for picture in pictures]
        for precision in precisions:
            run = case.run(*words, f"precision={precision}")
            for place, picture, truth, least in zip(
                ("start", "near the end"), pictures, truths, COSINES[precision], strict=True
            ):
                found = gradient(run, picture, case.device)
                cosine = torch.cosine_similarity(found, truth, dim=0).item()
                yield Check(f"cosine of the gradient: {objective}, {precision}, {place}", cosine, least, at_least=True)


def regions(case: Case) -> Iterator[Check]:
    """A style of a region has the gradient that it has in 32 bits on the CPU; so have the weights of its positions."""
    mask = torch.zeros(1, 3, case.size, case.size)
    mask[..., : case.size // 3] = 1
    file = case.folder / "mask.png"
    content = case.run()
    height, width = content.module.image.shape[-2:]
    output.save(mask[..., :height, :width], file)
    words = [f"style.region={quoted(file)}", "precision=bf16"]
    run, exact = case.run(*words), case.run(words[0], "precision=64", device=torch.device("cpu"))
    start = run.module.image.detach()
    found, truth = gradient(run, start, case.device), gradient(exact, start, torch.device("cpu"))
    cosine = torch.cosine_similarity(found, truth, dim=0).item()
    yield Check("cosine of the gradient: a region, bf16", cosine, 0.99, at_least=True)
    odd = torch.rand(1, 1, 37, 53)
    there, here = (statistics.region_weights(odd.to(device), (5, 7)) for device in (case.device, "cpu"))
    yield Check("weights of a region, from odd sizes", (there.cpu() - here).abs().max().item(), 1e-6)


def wasserstein(case: Case) -> Iterator[Check]:
    """The distance of Gaussians is that of the CPU, on devices that lack float64, too."""
    moments = [
        functional.moments(torch.rand(1, 24, 9, 9, generator=torch.Generator().manual_seed(seed))) for seed in (1, 2)
    ]
    there, here = (
        functional.gaussian_wasserstein(*(each.to(device) for each in moments), eps=1e-4).item()
        for device in (case.device, torch.device("cpu"))
    )
    yield Check("distance of Gaussians", abs(there / here - 1), 1e-5)


def range_of_16_bits(case: Case) -> Iterator[Check]:
    """The largest feature of poolings that raise them, below what float16 ends at."""
    for pooling in ("avg", "avg_rescaled", "max", "l2"):
        run = case.run(f"pooling={pooling}", "precision=32")
        objective = run.module.make_objective(run.module.schedule.stages[-1], case.device)
        with torch.no_grad():
            features = objective.encoder(run.module.image.to(case.device))
        largest = max(found.abs().max().item() for found in features.values())
        yield Check(f"largest feature: pooling={pooling}", largest, 65504 / 8)


def tiles(case: Case) -> Iterator[Check]:
    """The gradient in tiles is that of the whole, in 64 bits: in 32, they differ by what cuDNN rounds."""
    whole, tiled = case.run("precision=64", "tile=off"), case.run("precision=64", f"tile={case.size // 2}")
    start = whole.module.image.detach()
    found, truth = gradient(tiled, start, case.device), gradient(whole, start, case.device)
    yield Check("gradient in tiles, relative", ((found - truth).norm() / truth.norm()).item(), 1e-10)


def recorded(case: Case) -> Iterator[Check]:
    """An evaluation that is replayed as a CUDA graph gives the losses and the gradient that it gives otherwise."""
    if case.device.type != "cuda":
        return
    for objective, recordable in (("gram", True), ("long_range", True), ("wasserstein", False)):
        run = case.run(f"objective={objective}", "precision=bf16", "trainer.deterministic=true")
        made = run.module.make_objective(run.module.stage, case.device)
        pictures = [torch.rand_like(run.module.image).to(case.device) for _ in range(4)]
        found = [_evaluate(made, picture) for picture in pictures]
        truth = [_evaluate(partial(Objective.forward, made), picture) for picture in pictures]
        apart = max((one - other).abs().max().item() for one, other in zip(found, truth, strict=True))
        yield Check(f"recorded evaluations: {objective}, largest difference", apart, 0)
        was = made._replay is not None
        yield Check(f"recorded evaluations: {objective} is recorded: {was}", float(was == recordable), 1, at_least=True)


def _evaluate(objective: Callable[[Tensor], Losses], picture: Tensor) -> Tensor:
    """The total, the other losses and the gradient at a picture, in one vector."""
    image = picture.clone().requires_grad_()
    losses = objective(image)
    torch.autograd.backward(losses.total)
    assert image.grad is not None
    scalars = torch.stack([losses.total.detach(), losses.content, losses.style, *losses.parts.values()])
    return torch.cat([scalars.detach(), image.grad.flatten()])


def synchronizations(case: Case) -> Iterator[Check]:
    """How often the processor waits for the device: in an iteration of L-BFGS with a full history, in an evaluation."""
    if case.device.type != "cuda":
        return
    image = torch.rand(1, 3, case.size, case.size, device=case.device).requires_grad_()
    curvature = torch.logspace(0, 6, image.numel(), device=case.device).view_as(image)
    optimizer = ProjectedLBFGS([image], history_size=100)

    def cheap() -> Tensor:
        image.grad = curvature * (image.detach() - 0.4)
        return (image.grad * (image.detach() - 0.4)).sum() / 2

    for _ in range(150):
        optimizer.step(cheap)
    yield Check("synchronizations of an L-BFGS iteration", _synchronizations(lambda: optimizer.step(cheap)), 20)
    for objective in ("gram", "wasserstein"):
        run = case.run(f"objective={objective}")
        total = run.module.make_objective(run.module.stage, case.device)
        picture = run.module.image.detach().to(case.device).requires_grad_()
        for _ in range(2):  # the first evaluation makes what the later ones reuse
            found = _synchronizations(lambda: total(picture).total.backward())  # noqa: B023
        yield Check(f"synchronizations of an evaluation: {objective}", found, 20)


def _synchronizations(action: Callable[[], object]) -> int:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            action()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return len(caught)


def factor_of_target(case: Case) -> Iterator[Check]:
    """The share of Wasserstein's time that factoring the constant target takes, at each evaluation."""
    found, target = (
        functional.moments(torch.rand(1, 512, 24, 24, generator=torch.Generator().manual_seed(seed))).to(case.device)
        for seed in (1, 2)
    )
    found.requires_grad_()
    square = target[:, :-1].double()
    factoring = _median_seconds(case, lambda: torch.linalg.cholesky_ex(square))
    loss = _median_seconds(case, lambda: functional.gaussian_wasserstein(found, target, eps=1e-4).backward())
    yield Check("Cholesky factor of the target, share of the loss", factoring / loss, 0.1)


def _median_seconds(case: Case, action: Callable[[], object]) -> float:
    """The median of nine, after one."""
    times = [seconds(action, case.device) for _ in range(10)]
    return numbers.median(times[1:])


def determinism(case: Case) -> Iterator[Check]:
    """Two runs of one configuration make the same picture."""
    pictures = []
    for _ in range(2):
        run = case.run("trainer.deterministic=true", "evaluations=10")
        ours.fit(run)
        pictures.append(run.module.best_image.cpu())
    yield Check("two equal runs, largest difference", (pictures[0] - pictures[1]).abs().max().item(), 0.0)


def resume(case: Case) -> Iterator[Check]:
    """A run that is stopped and resumed makes the picture of one that isn't, bit by bit."""
    words = [*_words(case), "callbacks.checkpoint.keep_history=true", "trainer.deterministic=true"]
    whole, parts = case.folder / "whole", case.folder / "parts"
    statuses = [
        _train(*words, f"hydra.run.dir={quoted(whole)}"),
        _train(*words, f"hydra.run.dir={quoted(parts)}", "evaluations=3"),
        _train(f"resume={quoted(parts)}", "evaluations=6"),
    ]
    yield Check("resume: failed runs", sum(status != 0 for status in statuses), 0)
    differ = [name for name in ("result.png", "losses.csv") if _bytes(whole / name) != _bytes(parts / name)]
    yield Check("resume: files that differ", len(differ), 0)


def devices(case: Case) -> Iterator[Check]:
    """Two devices make the picture of one. More devices than there are, are refused as a mistake."""
    if case.device.type != "cuda":
        return
    number = torch.cuda.device_count()
    status = _train(*_words(case), f"trainer.devices={number + 1}", f"hydra.run.dir={quoted(case.folder / 'more')}")
    yield Check("trainer.devices: exit status 2 for one device too many", float(status == 2), 1, at_least=True)
    if number < 2:
        return
    totals = []
    for each in (1, 2):
        folder = case.folder / f"on_{each}"
        _train(*_words(case), f"trainer.devices={each}", f"tile={case.size // 2}", f"hydra.run.dir={quoted(folder)}")
        totals.append(RunFolder(folder).read_summary()["losses"]["total"])
    yield Check("trainer.devices: the total of two against one, relative", abs(totals[1] / totals[0] - 1), 1e-3)


def _words(case: Case) -> list[str]:
    """The command line of a short run."""
    return [
        f"size={case.size}", "schedule=single", "evaluations=6", "init=noise", "callbacks.film=null", "metrics=null",
        ours.where(case.device), *case.overrides,
    ]  # fmt: skip


def _train(*words: str) -> int:
    """Call ``nst.train`` in this process; return its exit status. What it prints is shown only if it fails."""
    printed, handlers = io.StringIO(), logging.getLogger().handlers[:]
    with redirect_stdout(printed), redirect_stderr(printed):
        status = train.main(words)
    logging.getLogger().handlers[:] = handlers
    if status:
        print(f"nst.train {' '.join(words)}: exit status {status}\n{printed.getvalue()}", file=sys.stderr)
    return status


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def forecast(case: Case) -> Iterator[Check]:
    """What a run in its own process takes is what was forecast, within a quarter."""
    if case.device.type != "cuda":
        return
    for size in (case.size, 5 * case.size):
        folder = case.folder / f"memory_{size}"
        words = [*_words(case), f"size={size}", f"hydra.run.dir={quoted(folder)}"]
        subprocess.run([sys.executable, "-m", "nst.train", *words], check=True, capture_output=True)
        summary = RunFolder(folder).read_summary()
        ratio = summary["peak_memory_bytes"] / summary["predicted_memory_bytes"]
        yield Check(f"peak memory over its forecast, {size} px, at most", ratio, 1.25)
        yield Check(f"peak memory over its forecast, {size} px, at least", ratio, 0.75, at_least=True)


CHECKS: Sequence[Callable[[Case], Iterator[Check]]] = (
    recorded, regions, wasserstein, range_of_16_bits, tiles, synchronizations, factor_of_target, determinism, resume,
    devices, forecast, gradients,
)  # fmt: skip


def main(words: list[str] | None = None) -> int:
    """Run every check; return 1 if one fails."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description="Checks nst on a GPU and measures its speed."
    )
    parser.add_argument("--device", type=torch.device, default=torch.device("cuda"))
    parser.add_argument("--size", type=int, default=192, help="longest side in px")
    parser.add_argument(
        "--evaluations", type=int, default=150, help="number of evaluations of a nearly finished picture"
    )
    parser.add_argument("--results", type=Path, default=Path("outputs/gpu.json"))
    parser.add_argument(
        "--checks",
        nargs="*",
        default=[check.__name__ for check in CHECKS],
        choices=[check.__name__ for check in CHECKS],
        help="checks to run (default: all)",
        metavar="NAME",
    )
    parser.add_argument("--overrides", nargs="*", default=[], metavar="KEY=VALUE", help="overrides for all checks")
    parser.add_argument(
        "--sizes",
        nargs="+",
        default=["512", "1024", "2048", "4096"],
        help="sizes in px at which an evaluation is timed",
    )
    parser.add_argument("--largest", default="8192", help="size in px at which the peak memory is measured")
    parser.add_argument("--race", default="600", help="number of evaluations of the comparison with the baseline")
    parser.add_argument("--seconds", type=float, default=480, help="seconds after which no further part starts")
    options, began = parser.parse_args(words), time.monotonic()
    if options.device.type == "cuda" and not torch.cuda.is_available():
        print("error: --device=cuda: there is no CUDA device; choose --device=cpu", file=sys.stderr)
        return 2
    options.results.parent.mkdir(parents=True, exist_ok=True)
    found: list[Check] = []
    try:
        with tempfile.TemporaryDirectory() as folder:
            case = Case(options.device, options.size, options.evaluations, options.overrides, Path(folder))
            for check in CHECKS:
                if check.__name__ in options.checks:
                    found += _found(check, case)
                    _keep(found, options)
    except UserError as error:
        print("\n".join(f"error: {line}" for line in error.problems), file=sys.stderr)
        return 2
    statuses = [measure(part, options) for part in speed(options) if time.monotonic() - began < options.seconds]
    return 0 if all(check.passed for check in found) and not any(statuses) else 1


def _found(check: Callable[[Case], Iterator[Check]], case: Case) -> Iterator[Check]:
    """Yield the figures of a check, and print each. A check that fails with an error doesn't end the others."""
    try:
        for figure in check(case):
            sign, failed = ">=" if figure.at_least else "<=", "" if figure.passed else "FAILED"
            print(f"{figure.name:72} {figure.value:12.6g} {sign} {figure.bound:<8g} {failed}", flush=True)
            yield figure
    except UserError:
        raise
    except Exception as error:
        traceback.print_exc()
        print(f"{check.__name__}: {one_line(error)}: FAILED", flush=True)
        yield Check(f"{check.__name__}: {one_line(error)}", math.nan, 0)


def _keep(found: Sequence[Check], options: argparse.Namespace) -> None:
    """Write the figures so far."""
    told = {
        **provenance.of_machine(options.device),
        "size": options.size,
        "checks": [{**asdict(check), "passed": check.passed} for check in found],
    }
    options.results.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


def speed(options: argparse.Namespace) -> list[list[str]]:
    """Return the parts of ``benchmarks.against_baseline`` that measure the device, in the order of what they tell."""
    precisions = ["32", "bf16", "16"] if options.device.type == "cuda" else ["32"]
    pictures = ["--pictures", str(paths.PACKAGE / "assets"), "--contents", "tubingen", "--styles", "starry_night"]
    return [
        ["evaluation", "--pairs", "5", "--sizes", *options.sizes, "--precision", *precisions],
        ["quality", *pictures, "--start", "noise", "--size", options.sizes[0], "--evaluations", options.race],
        ["memory", "--sides", "ours", "--sizes", options.sizes[-1], options.largest],
    ]


def measure(part: list[str], options: argparse.Namespace) -> int:
    """Measure a part; return the exit status. A device whose memory is too small doesn't end the others."""
    results = options.results.with_name(f"{options.results.stem}_speed.json")
    try:
        return against_baseline.main([*part, "--device", options.device.type, "--results", str(results)])
    except torch.OutOfMemoryError as error:
        print(f"{part[0]}: {error}", file=sys.stderr)
        return 0


if __name__ == "__main__":
    sys.exit(main())
