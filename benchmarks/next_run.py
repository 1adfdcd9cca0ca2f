"""How long a sweep takes from the end of one run's optimization to the start of the next one's, in one process.

    python -m benchmarks.next_run [overrides of nst.train]

A sweep over style weights with VGG-19's shape and random filters at the default size: encoder and targets are shared.
"""

import statistics
import sys
import tempfile
import time

import pytorch_lightning as pl

from nst.train import main as train

#: Seconds on the clock: the starts and the ends of the runs.
STARTS: list[float] = []
ENDS: list[float] = []


class Clock(pl.Callback):
    """Notes when a run is about to evaluate for the first time, and when its last evaluation is done."""

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        STARTS.append(time.monotonic())

    def on_after_backward(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if len(ENDS) < len(STARTS):
            ENDS.append(0.0)
        ENDS[-1] = time.monotonic()


def main() -> None:
    """Runs the sweep and prints the seconds between its runs."""
    with tempfile.TemporaryDirectory() as folder:
        sys.argv[1:] = [
            "-m", "encoder=vgg19", "encoder.weights=random", "evaluations=2", "metrics=null",
            "weights.style=1e4,1e5,1e6,1e7,1e8", "+callbacks.clock={_target_: benchmarks.next_run.Clock}",
            f"hydra.sweep.dir={folder}", *sys.argv[1:],
        ]  # fmt: skip
        status = train()
    from benchmarks import next_run  # under `python -m` this module is __main__, and Hydra makes another's Clock

    between = [start - end for end, start in zip(next_run.ENDS, next_run.STARTS[1:], strict=False)]
    shown = ", ".join(f"{seconds:.2f}" for seconds in between)
    print(f"seconds between two runs: {shown}; median {statistics.median(between):.2f}")
    sys.exit(status)


if __name__ == "__main__":
    main()
