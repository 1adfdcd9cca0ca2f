"""Loss curves of runs."""

import csv
from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path

import matplotlib.pyplot as plt

from nst.files.run_folder import RunFolder


def draw(runs: Mapping[str, RunFolder], file: Path) -> None:
    """Write a plot of the lowest total so far, by the runs' labels."""
    figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    for label, run in runs.items():
        with run.losses.open(encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines))
        numbers, totals = ([float(row[name]) for row in rows] for name in ("evaluation", "total"))
        axes.plot(numbers, list(accumulate(totals, min)), label=label)
    axes.set(xlabel="evaluation", ylabel="lowest total so far", yscale="log")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)
