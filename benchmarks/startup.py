"""Seconds until a run computes, help is shown, and a mistake is told; this checkout and another by turns.

    python -m benchmarks.startup [--against CHECKOUT] [--pairs 5]

Quote the medians of the pairs' ratios, and the seconds beyond those of ``python -c "import hydra"``.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TRAIN = [sys.executable, "-m", "nst.train"]
RUN = [
    *TRAIN,
    "encoder=slim",
    "size=96",
    "evaluations=1",
    "logger=none",
    "callbacks.film=null",
    "schedule=single",
    "metrics=null",
]
COMMANDS = {
    "import hydra": [sys.executable, "-c", "import hydra"],
    "help": [*TRAIN, "--help"],
    "mistake: a value": [*TRAIN, "weights.style=-1"],
    "mistake: an option": [*TRAIN, "optimizer=lbgfs"],
    "mistake: a file": [*TRAIN, "content.path=none.jpg"],
    "first evaluation": RUN,
}


def seconds(command: list[str], checkout: Path) -> float:
    """Of a command in a checkout, to its end; of a run, until it has made its first evaluation."""
    with tempfile.TemporaryDirectory() as folder:
        whole = [*command, f"hydra.run.dir={folder}"] if command is RUN else command
        environment = {**os.environ, "PYTHONPATH": str(checkout), "NST_CACHE": folder, "TORCH_HOME": folder}
        began = time.perf_counter()
        with subprocess.Popen(
            whole, cwd=checkout, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stderr is not None
            for line in process.stderr:
                if line.startswith("evaluation 1/"):
                    taken = time.perf_counter() - began
                    break
            else:
                process.wait()
                taken = time.perf_counter() - began
            process.stderr.read()
    return taken


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.startup",
        description="Measures the time that commands need until their first output.",
    )
    parser.add_argument("--against", type=Path, help="another checkout of nst to compare with")
    parser.add_argument("--pairs", type=int, default=5)
    options = parser.parse_args()
    here = Path(__file__).resolve().parents[1]
    checkouts = [here, *([options.against.resolve()] if options.against else [])]
    base = 0.0
    for name, command in COMMANDS.items():
        for checkout in checkouts:
            seconds(command, checkout)  # fills the caches of the file system, and of Python's compiled files
        rounds = [[seconds(command, checkout) for checkout in checkouts] for _ in range(options.pairs)]
        medians = [statistics.median(column) for column in zip(*rounds, strict=True)]
        base = base or medians[0]
        told = f"{name}: {medians[0]:.2f} s, {medians[0] - base:+.2f} s to import hydra"
        if options.against:
            ratios = sorted(each[0] / each[1] for each in rounds)
            middle = statistics.median(ratios)
            told += f"; there {medians[1]:.2f} s; ratio {middle:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        print(told, flush=True)


if __name__ == "__main__":
    main()
