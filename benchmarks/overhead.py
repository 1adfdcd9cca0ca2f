"""What the framework costs: an evaluation of ours against one of a bare loop, in one process, by turns.

    python -m benchmarks.overhead [--size 256] [--pairs 20] [--architecture vgg19] [--block 3]

Both sides have the same encoder (random filters: only the cost counts), the same objective, the same L-BFGS and the
same clamping. Ours runs under Lightning with everything a run has switched on: the losses' table, TensorBoard,
snapshots, the progress bar, checkpoints. The two take turns, a block of evaluations each, so that a change in the
machine's speed meets both; the median of the blocks' ratios is what to quote.
"""

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch import Tensor, nn

from nst import callbacks, image
from nst.callbacks.checkpoint_io import WholeCheckpointIO
from nst.encoder import vgg
from nst.encoder import weights as encoder
from nst.files import paths
from nst.files.run_folder import RunFolder
from nst.logger import Session, TensorBoard
from nst.objective import Objective, Style, Weights, content_targets, style_targets
from nst.optimizer import schedule
from nst.optimizer.lbfgs import LBFGS
from nst.optimizer.module import StyleTransfer
from nst.optimizer.recovery import Recovery


def make_objective(size: int, architecture: str) -> Objective:
    """The baseline's objective with its layers, on random pictures of size × size px."""
    with initialize_config_dir(str(paths.configs()), version_base="1.3"):
        cfg = compose("train")
    generator = torch.Generator().manual_seed(0)
    content, style = (torch.rand(1, 3, size, size, generator=generator) for _ in range(2))
    network = vgg.VGG(
        architecture=architecture,
        layers=[*cfg.layers.content, *cfg.layers.style],
        pooling=instantiate(cfg.pooling),
        state=encoder.random_state(architecture, 0),
    )
    formulas = instantiate(cfg.objective)
    return Objective(
        encoder=network,
        formulas=formulas,
        weights=Weights(content=1, style=1e6, tv=0),
        content=content_targets(network, content, list(cfg.layers.content)),
        styles=[Style(targets=style_targets(network, style, list(cfg.layers.style), formulas))],
    )


def bare(objective: Objective, start: Tensor, block: int) -> Iterator[float]:
    """Seconds of each block of evaluations in a loop without any framework."""
    image = nn.Parameter(start.clone())
    optimizer = torch.optim.LBFGS([image], max_iter=1, tolerance_grad=0, tolerance_change=0)

    def closure() -> Tensor:
        with torch.no_grad():
            image.clamp_(0, 1)
        optimizer.zero_grad()
        loss = objective(image).total
        loss.backward()
        return loss

    while True:
        began = time.perf_counter()
        for _ in range(block):
            optimizer.step(closure)
        yield time.perf_counter() - began


class TakingTurns(pl.Callback):
    """After each block of ours lets the other side have its turn, and keeps both times."""

    def __init__(self, other: Iterator[float], block: int) -> None:
        self.other = other
        self.block = block
        self.times: list[tuple[float, float]] = []
        self.began = 0.0

    def on_train_batch_start(self, trainer: pl.Trainer, module: Any, batch: Any, index: int) -> None:
        if index % self.block == 0:
            if index:
                self.times.append((time.perf_counter() - self.began, next(self.other)))
            self.began = time.perf_counter()


def measure(size: int, architecture: str, pairs: int, block: int) -> list[tuple[float, float]]:
    """Seconds of (our, the bare loop's) blocks, after one block of each that isn't counted."""
    objective = make_objective(size, architecture)
    start = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(1))
    turns = TakingTurns(bare(objective, start, block), block)
    evaluations = (pairs + 2) * block
    module = StyleTransfer(
        image=start,
        schedule=schedule.single((size, size), evaluations),
        objective=lambda *_: objective,
        carry=image.resize,
        finish=lambda picture: picture,
        optimizer=partial(LBFGS),
        recovery=Recovery(at_most=5, explosion=100, shrink=0.5),
    )
    with tempfile.TemporaryDirectory() as name:
        folder = RunFolder(Path(name))
        trainer = pl.Trainer(
            accelerator="cpu",
            max_epochs=-1,
            logger=TensorBoard(session=Session(folder, "benchmark", "tensorboard", None, None), name="", version=""),
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            plugins=[WholeCheckpointIO()],
            callbacks=[
                turns,
                callbacks.Record(folder=folder),
                callbacks.Snapshot(folder=folder, every_evaluations=50),
                callbacks.Checkpoint(folder=folder, every_evaluations=100, every_seconds=300, keep_history=False),
                callbacks.ProgressBar(),
            ],
        )
        trainer.fit(module, itertools.repeat(0))
    return turns.times[1:]


def main() -> None:
    """Measures and prints the ratios."""
    parser = argparse.ArgumentParser(description="Compares nst with a plain optimization loop.")
    parser.add_argument("--size", type=int, default=256, help="side of the picture in px")
    parser.add_argument("--pairs", type=int, default=20, help="number of blocks of nst, and of the plain loop")
    parser.add_argument("--block", type=int, default=3, help="number of evaluations in a block")
    parser.add_argument("--architecture", default="vgg19", help="network: vgg16, vgg19 or slim")
    options = parser.parse_args()
    times = measure(options.size, options.architecture, options.pairs, options.block)
    ratios = sorted(ours / theirs for ours, theirs in times)
    ours, theirs = (statistics.median(side) / options.block for side in zip(*times, strict=True))
    print(f"{options.architecture} at {options.size} px, {len(ratios)} pairs of {options.block} evaluations:")
    print(f"ours {ours:.4f} s, bare {theirs:.4f} s per evaluation (medians)")
    print(f"ratio: median {statistics.median(ratios):.3f}, from {ratios[0]:.3f} to {ratios[-1]:.3f}")


if __name__ == "__main__":
    main()
