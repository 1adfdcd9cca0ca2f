"""What the bundled encoder saves: one evaluation of slim against one of VGG-19, in one process, by turns.

    python -m benchmarks.encoders [--size 256] [--pairs 20]

Both have the same objective at the same layers on the same pictures, with random filters: only the cost counts. An
evaluation is a forward and a backward pass. The median of the pairs' ratios is what to quote.
"""

import argparse
import statistics
import time

import torch

from benchmarks.overhead import make_objective
from nst.objective import Objective


def seconds(objective: Objective, picture: torch.Tensor) -> float:
    """Of one evaluation."""
    picture.grad = None
    started = time.perf_counter()
    objective(picture).total.backward()
    return time.perf_counter() - started


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description="Compares the time of an evaluation of slim and of VGG-19.")
    parser.add_argument("--size", type=int, default=256, help="side of the picture in px")
    parser.add_argument("--pairs", type=int, default=20)
    options = parser.parse_args()
    objectives = {name: make_objective(options.size, name) for name in ("slim", "vgg19")}
    generator = torch.Generator().manual_seed(1)
    picture = torch.rand(1, 3, options.size, options.size, generator=generator, requires_grad=True)
    for objective in objectives.values():
        seconds(objective, picture)
    rounds = [
        {name: seconds(objective, picture) for name, objective in objectives.items()} for _ in range(options.pairs)
    ]
    for name in objectives:
        print(f"{name}: median {statistics.median(each[name] for each in rounds) * 1000:.0f} ms per evaluation")
    ratios = sorted(each["vgg19"] / each["slim"] for each in rounds)
    middle = statistics.median(ratios)
    print(f"slim is {middle:.1f} times faster (median of {len(ratios)} pairs; {ratios[0]:.1f} to {ratios[-1]:.1f})")


if __name__ == "__main__":
    main()
