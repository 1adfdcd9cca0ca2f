"""How many pictures a minute a sweep of small runs makes, one after the other and side by side.

    python -m benchmarks.throughput [--points 8] [--jobs 2] [--pairs 3] [--size 256] [--evaluations 200]

The same sweep runs with Hydra's own launcher, one run after the other in one process, and with joblib's, as many at a
time as ``--jobs``, each with one thread. The two take turns. The seconds are those of the whole command. Quote the
median of the rounds' ratios.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence


def seconds(words: Sequence[str]) -> float:
    """Return the seconds of a sweep in a new folder."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "nst.train", "-m", *words, f"hydra.sweep.dir={folder}/sweep"]
        began = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stderr)
        return time.perf_counter() - began


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.throughput", description="Compares sweeps with one and with several runs at a time."
    )
    parser.add_argument("--points", type=int, default=8, help="number of runs of a sweep")
    parser.add_argument("--jobs", type=int, default=2, help="number of runs at a time")
    parser.add_argument("--pairs", type=int, default=3, help="number of rounds")
    parser.add_argument("--size", type=int, default=256, help="longest side in px")
    parser.add_argument("--evaluations", type=int, default=200)
    parser.add_argument("--overrides", nargs="*", default=[], metavar="KEY=VALUE")
    options = parser.parse_args(words)
    weights = ",".join(f"{1e5 * (1 + point):g}" for point in range(options.points))
    sweep = [
        f"weights.style={weights}", "encoder=slim", f"size={options.size}", f"evaluations={options.evaluations}",
        "metrics=null", "callbacks.film=null", *options.overrides,
    ]  # fmt: skip
    beside = [*sweep, "hydra/launcher=joblib", f"hydra.launcher.n_jobs={options.jobs}", "threads=1"]
    rounds = [(seconds(sweep), seconds(beside)) for _ in range(options.pairs)]
    for name, column in zip(("one at a time", f"{options.jobs} at a time"), zip(*rounds, strict=True), strict=True):
        print(f"{name}: {60 * options.points / statistics.median(column):.2f} pictures a minute")
    ratios = sorted(one / other for one, other in rounds)
    print(f"ratio: {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")


if __name__ == "__main__":
    main()
