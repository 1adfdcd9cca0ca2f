"""How time and memory grow with the picture and with the processes, and what a gigapixel would take on several GPUs.

    python -m benchmarks.scale sizes [--megapixels 1 2 4 12 25 100] [--gigabytes 20]
    python -m benchmarks.scale processes [--numbers 1 2 4] [--size 1024] [--pairs 3]
    python -m benchmarks.scale predict [--megapixels 100 1000] [--gpus 1 2 4 8 16 32 64]

``sizes`` measures an evaluation and an iteration of L-BFGS with ten pairs, at each size in a process of its own.
``processes`` measures runs of ``nst.train`` with several processes, and compares them with the model in ``seconds``.
``predict`` uses the same model, and the forecast of a run's memory, for GPUs: their speed is that of the GPU in
docs/benchmarks.md, and the bandwidth between them is an assumption.
"""

import argparse
import json
import math
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.errors import HydraException
from rich.console import Console
from rich.table import Table
from torch import distributed, multiprocessing

from benchmarks.against_baseline import memory as of_baseline
from benchmarks.against_baseline import ours, pictures
from benchmarks.against_baseline.clock import seconds as timed
from benchmarks.against_baseline.results import Record, Results
from nst.errors import UserError, one_line
from nst.image import Shape
from nst.objective.processes import Team
from nst.plan import memory
from nst.plan.forecast import forecast
from nst.plan.layout import Layout
from nst.plan.planning import make_plan

#: Ten pairs of 16 bits.
HISTORY = ["optimizer.history_size=10", "optimizer.history_dtype=bfloat16"]

CPU = torch.device("cpu")

#: Height and width in px of the picture whose evaluation tells how much several processes slow each other down.
CROP = (256, 256)

#: Seconds of an evaluation per pixel on an NVIDIA H200 in bf16, without the optimizer: 33.6 ms at 2048 x 2048 px.
H200_SECONDS = 33.6e-3 / 2048**2

#: Bytes a second that an H200 reads from its memory, and that it sends to others in a machine and beyond it; from the
#: manufacturer's data sheets: HBM3e, NVLink in one direction, a network adapter of 400 Gbit/s for each GPU.
H200_MEMORY, NVLINK, NETWORK = 4.8e12, 450e9, 50e9


def shape_of(megapixels: float) -> Shape:
    """Return the height and the width of a picture of 3:4, as multiples of 16."""
    height = 16 * round(math.sqrt(megapixels * 1e6 * 3 / 4) / 16)
    return height, 16 * round(height * 4 / 3 / 16)


def work(layout: Layout, tile: int | None, processes: int) -> float:
    """Return the pixels of the busiest process, so many that an evaluation of a whole picture has those of the picture.

    A process reads halos as well, and all of its tiles but one a second time without a gradient.
    """
    return memory.busiest(layout.geometry, layout.shape, tile, processes)[1] / 2


def exchanged(shape: Shape, itemsize: int = 4) -> int:
    """Return the bytes of an image tensor: of the gradient, and of the picture, that the processes exchange."""
    return 3 * math.prod(shape) * itemsize


def seconds(*, alone: float, work: float, slowdown: float, exchange: float) -> float:
    """Return the seconds of an iteration in the busiest of several processes.

    ``alone`` are the seconds of an iteration in a single process, ``work`` is the share of it that the busiest process
    computes, ``slowdown`` is how much longer the same work takes while the other processes work, and ``exchange`` are
    the seconds in which the gradient is summed over the processes, and the parts of the picture are sent to all.
    """
    return alone * work * slowdown + exchange


def exchange_of(bytes_: int, processes: int, bandwidth: float) -> float:
    """Return the seconds of a ring's sum of the gradients, and of the broadcasts of the picture's parts, on GPUs.

    Each GPU sends ``2 (n - 1) / n`` gradients for the sum (Patarasu and Yuan 2009, J. Parallel Distrib. Comput. 69),
    and the picture arrives once.
    """
    return (2 * (processes - 1) / processes + (processes > 1)) * bytes_ / bandwidth


def measure_sizes(options: argparse.Namespace, results: Results) -> None:
    """Measure each size, and print how time and memory grow."""
    overrides = [*HISTORY, f"memory={options.gigabytes:g}", *options.overrides]
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        for megapixels in options.megapixels:
            shape = shape_of(megapixels)
            key = {"size": pictures.named(shape), "overrides": overrides, "threads": torch.get_num_threads()}
            if results.done("sizes", key):
                continue
            task = {
                "side": "ours", "pixels": shape, "device": "cpu", "overrides": [*overrides, f"scratch={scratch}"],
                "threads": torch.get_num_threads(), "history": True, "before": 0,
            }  # fmt: skip
            results.keep("sizes", key, of_baseline.in_own_process(task))
    records = sorted(results.of("sizes"), key=lambda record: pictures.megapixels(record["key"]["size"]))
    table = Table("size", "megapixels", "peak, GB", "forecast, GB", "evaluation, s", "iteration, s", "s / megapixel")
    points = []
    for record in records:
        values, name = record["values"], record["key"]["size"]
        if "failed" in values:
            table.add_row(name, f"{pictures.megapixels(name):.1f}", values["failed"])
            continue
        point = pictures.megapixels(name), values["bytes"] / 1e9, values["seconds"], values["iteration"]
        points.append(point)
        row = [point[0], point[1], values["forecast"] / 1e9, *point[2:], point[2] / point[0]]
        table.add_row(name, *(f"{number:.3g}" for number in row))
    Console().print(table)
    if len(points) > 1:
        sizes, gigabytes, taken, _ = np.array(points).T
        slope, base = np.polyfit(sizes, gigabytes, 1)
        power, _ = np.polyfit(np.log(sizes), np.log(taken), 1)
        print(f"memory: {base:.2f} GB and {slope:.3f} GB per megapixel; seconds: megapixels to the power {power:.2f}")


def _rank(
    rank: int, processes: int, folder: str, size: int, overrides: Sequence[str], barrier: Barrier, answers: Any
) -> None:
    """Measure in one of several processes: an evaluation while all compute one, and the exchange of a picture."""
    torch.set_num_threads(1)
    own = Path(folder) / str(rank)
    own.mkdir()
    evaluate = ours.evaluation(ours.ready(CROP, [*overrides, "tile=off"], CPU, own))
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=processes)
    team, vector = Team.present(), torch.rand(size)

    def exchange() -> None:
        team.add_up([vector])
        team.share(vector)

    found = []
    for action in (evaluate, exchange):
        action()
        times = []
        for _ in range(5):
            barrier.wait()
            times.append(timed(action, CPU))
        found.append(statistics.median(times))
    barrier.wait()
    distributed.destroy_process_group()
    if rank == 0:
        answers.put(found)


def in_processes(processes: int, numbers: int, overrides: Sequence[str]) -> tuple[float, float]:
    """Return the seconds of the same evaluation while all processes compute it, and those to exchange a picture."""
    context = multiprocessing.get_context("spawn")
    answers, barrier = context.Queue(), context.Barrier(processes)
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(_rank, (processes, folder, numbers, overrides, barrier, answers), nprocs=processes)
    crop, exchange = answers.get()
    return crop, exchange


def iteration(processes: int, run: Sequence[str], evaluations: tuple[int, int]) -> float:
    """Return the seconds of an iteration of a run: the difference of two runs' seconds by that of their evaluations."""
    taken = []
    with tempfile.TemporaryDirectory() as folder:
        for number in evaluations:
            words = [*run, f"trainer.devices={processes}", f"evaluations={number}", f"hydra.run.dir={folder}/{number}"]
            done = subprocess.run(
                [sys.executable, "-m", "nst.train", *words], capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise UserError(done.stderr.strip().splitlines())
            summary = json.loads((Path(folder) / str(number) / "summary.json").read_text(encoding="utf-8"))
            taken.append(summary["seconds"])
    return (taken[1] - taken[0]) / (evaluations[1] - evaluations[0])


def measure_processes(options: argparse.Namespace, results: Results) -> None:
    """Measure runs with several processes by turns, and print the model's seconds beside theirs."""
    run = [
        f"size={options.size}", "schedule=single", "logger=none", "callbacks.film=null", "metrics=null", "threads=1",
        f"tile={options.tile}", "trainer.accelerator=cpu", *options.overrides,
    ]  # fmt: skip
    layout = make_plan(ours.compose(run)).layout
    bytes_ = exchanged(layout.shape)
    for pair in range(options.pairs):
        key = {"run": run, "pair": pair, "evaluations": options.evaluations}
        if results.done("processes", key):
            continue
        found = {}
        for number in dict.fromkeys([1, *options.numbers]):
            crop, exchange = in_processes(number, bytes_ // 4, [*options.overrides, "threads=1"])
            measured = iteration(number, run, (2, 2 + options.evaluations))
            found[number] = {"crop": crop, "exchange": exchange, "iteration": measured}
            found[number]["work"] = work(layout, options.tile, number)
        results.keep("processes", key, {str(number): each for number, each in found.items()})
    table = Table("processes", "work", "slowdown", "exchange, s", "measured, s", "model, s", "measured / model")
    for number, row in compared([record for record in results.of("processes") if record["key"]["run"] == run]).items():
        table.add_row(number, *(f"{each:.3g}" for each in row))
    Console().print(table)


def compared(records: Sequence[Record]) -> dict[str, list[float]]:
    """Return by number of processes the medians over the rounds of what ``measure_processes`` prints."""
    found = {}
    for number in records[0]["values"]:
        rows = []
        for each in (record["values"] for record in records):
            own, alone = each[number], each["1"]
            share, slowdown = own["work"] / alone["work"], own["crop"] / alone["crop"]
            exchange = own["exchange"] if number != "1" else 0.0
            modelled = seconds(alone=alone["iteration"], work=share, slowdown=slowdown, exchange=exchange)
            rows.append((share, slowdown, exchange, own["iteration"], modelled, own["iteration"] / modelled))
        found[number] = [statistics.median(column) for column in zip(*rows, strict=True)]
    return found


def predict(options: argparse.Namespace) -> None:
    """Print what pictures would take on GPUs: seconds of an iteration, and memory of each GPU."""
    plan = make_plan(ours.compose(["size=512", "schedule=single", "precision=bf16", *HISTORY, *options.overrides]))
    table = Table(
        "megapixels", "GPUs", "tile, px", "memory of each, GB", "fits", "compute, s", "L-BFGS, s", "exchange, s",
        "iteration, s", "350 evaluations, h",
    )  # fmt: skip
    room = int(options.gigabytes * 1e9)
    for megapixels in options.megapixels:
        for number in options.gpus:
            trainer = plan.config.trainer.model_copy(update={"devices": number})
            config = plan.config.model_copy(update={"trainer": trainer, "tile": "auto", "size": None})
            layout = replace(plan.layout, config=config, shape=shape_of(megapixels))
            taken = forecast(layout, torch.device("cuda"), room)
            picture = exchanged(layout.shape)
            passes = work(layout, taken.tile, number)
            pairs = 2 * picture / 2 * config.optimizer["history_size"] / number
            parts = (
                passes * H200_SECONDS,
                (2 * pairs + 12 * picture / number) / H200_MEMORY,  # both passes read all pairs
                exchange_of(picture, number, NVLINK if number <= options.per_machine else NETWORK),
            )
            row = [*parts, sum(parts), 350 * sum(parts) / 3600]
            name = [f"{megapixels:g}", str(number), "whole" if taken.tile is None else str(taken.tile)]
            gigabytes = f"{taken.total / 1e9:.3g}"
            if taken.total > room:
                table.add_row(*name, gigabytes, "no")
            else:
                table.add_row(*name, gigabytes, "yes", *(f"{each:.3g}" for each in row))
    Console().print(table)


def main(words: Sequence[str] | None = None) -> int:
    """Measure or predict; return the exit status: 2 for a mistake, told in a line for each."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scale",
        description="Measures how time and memory grow with the picture and with the processes.",
    )
    parts = parser.add_subparsers(dest="part", required=True, metavar="PART")
    sizes = parts.add_parser("sizes", help="time and memory of each size")
    sizes.add_argument("--megapixels", nargs="+", type=float, default=[1, 2, 4, 12, 25, 100])
    sizes.add_argument("--gigabytes", type=float, default=20, help="memory that a run may use")
    sizes.add_argument(
        "--scratch", type=Path, help="folder on a disk for the history; default: that of temporary files"
    )
    processes = parts.add_parser("processes", help="runs with several processes, and the model")
    processes.add_argument("--numbers", nargs="+", type=int, default=[1, 2, 4])
    processes.add_argument("--size", type=int, default=1024, help="longest side in px")
    processes.add_argument("--tile", type=int, default=256, help="side of the tiles in px")
    processes.add_argument("--pairs", type=int, default=3, help="number of rounds")
    processes.add_argument("--evaluations", type=int, default=4)
    for each in (sizes, processes):
        each.add_argument("--results", type=Path, default=Path("outputs/scale.json"), help="file of all measurements")
        each.add_argument("--again", action="store_true", help="repeat measurements that the results already contain")
    prediction = parts.add_parser("predict", help="time and memory on several GPUs")
    prediction.add_argument("--megapixels", nargs="+", type=float, default=[100, 1000])
    prediction.add_argument("--gpus", nargs="+", type=int, default=[1, 2, 4, 8, 16, 32, 64])
    prediction.add_argument("--gigabytes", type=float, default=141, help="memory of a GPU")
    prediction.add_argument("--per-machine", type=int, default=8, help="GPUs in a machine")
    for each in (sizes, processes, prediction):
        each.add_argument("--overrides", nargs="*", default=[], metavar="KEY=VALUE")
    words = sys.argv[1:] if words is None else list(words)
    options = parser.parse_args(words)
    try:
        if options.part == "predict":
            predict(options)
        else:
            command = shlex.join(["python", "-m", "benchmarks.scale", *words])
            results = Results(options.results, command=command, again=options.again)
            {"sizes": measure_sizes, "processes": measure_processes}[options.part](options, results)
    except (UserError, HydraException) as error:
        for line in error.problems if isinstance(error, UserError) else [one_line(error)]:
            print(f"error: {line}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
