"""What one run costs beside another on the same cores, by the spinning of OpenMP's threads.

    python -m benchmarks.side_by_side [--pairs 5] [--spin 300000 3000] [--runs 2]

Each round makes one run alone and several at once with each value of ``GOMP_SPINCOUNT``; GNU's default is 300,000.
Quote the medians of two ratios of a round: alone by alone with the default, and several at once by alone with the
default. Only the seconds of the fit count, not the start of the process.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

DEFAULT = "300000"


def seconds(number: int, spin: str, words: list[str]) -> float:
    """Return the mean seconds of runs that are made at once."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    with tempfile.TemporaryDirectory() as name:
        folders = [Path(name) / str(index) for index in range(number)]
        commands = [[sys.executable, "-m", "nst.train", *words, f"hydra.run.dir={folder}"] for folder in folders]
        processes = [
            subprocess.Popen(
                each,
                env=environment | {"GOMP_SPINCOUNT": spin},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            for each in commands
        ]
        for process in processes:
            _, said = process.communicate()
            if process.returncode:
                raise SystemExit(said)
        told = [json.loads((folder / "summary.json").read_text(encoding="utf-8")) for folder in folders]
    return statistics.mean(summary["seconds"] for summary in told)


def main(words: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.side_by_side",
        description="Compares the time of a run alone with that of runs at the same time on the same cores.",
    )
    parser.add_argument("--pairs", type=int, default=5, help="number of rounds")
    parser.add_argument("--spin", nargs="+", default=[DEFAULT, "3000"], help="values of GOMP_SPINCOUNT to compare")
    parser.add_argument("--runs", type=int, default=2, help="number of runs at the same time")
    parser.add_argument("--size", type=int, default=256, help="longest side in px")
    parser.add_argument("--evaluations", type=int, default=40)
    parser.add_argument("--overrides", nargs="*", default=[], metavar="KEY=VALUE")
    options = parser.parse_args(words)
    run = [
        f"size={options.size}", f"evaluations={options.evaluations}", "schedule=single", "logger=none",
        "callbacks.film=null", "metrics=null", "encoder=vgg19_caffe", *options.overrides,
    ]  # fmt: skip
    alone: dict[str, list[float]] = {spin: [] for spin in options.spin}
    beside: dict[str, list[float]] = {spin: [] for spin in options.spin}
    base: list[float] = []
    for _ in range(options.pairs):
        base.append(seconds(1, DEFAULT, run))
        for spin in options.spin:
            alone[spin].append(base[-1] if spin == DEFAULT else seconds(1, spin, run))
            beside[spin].append(seconds(options.runs, spin, run))
    print(f"alone with {DEFAULT}: {statistics.median(base):.2f} s (median of {options.pairs})")
    for spin in options.spin:
        print(
            f"{spin}: alone {_ratio(alone[spin], base)} times that, {options.runs} at once {_ratio(beside[spin], base)}"
        )


def _ratio(times: list[float], base: list[float]) -> str:
    ratios = sorted(one / other for one, other in zip(times, base, strict=True))
    return f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"


if __name__ == "__main__":
    main()
