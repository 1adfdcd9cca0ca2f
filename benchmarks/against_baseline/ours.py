"""Our side, always made from the real configuration."""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import hydra
import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from benchmarks.against_baseline import pictures
from benchmarks.against_baseline.clock import seconds
from nst.config.source import quoted
from nst.encoder.precision import full_float32
from nst.errors import UserError
from nst.files import paths
from nst.files.run_folder import RunFolder
from nst.image import output
from nst.optimizer.lbfgs import LBFGS
from nst.plan.planning import make_plan
from nst.run.build import Run, build


def compose(overrides: Sequence[str]) -> DictConfig:
    """The configuration of ``python -m nst.train`` with the overrides."""
    with hydra.initialize_config_dir(str(paths.configs()), version_base="1.3"):
        return hydra.compose("train", overrides=list(overrides))


def settle(overrides: Sequence[str]) -> DictConfig:
    """The same, checked, and with what it leaves to the machine decided. Raises UserError for what is wrong with it."""
    return OmegaConf.create(dict(make_plan(compose(overrides)).raw))


def make(overrides: Sequence[str], folder: Path) -> Run:
    """The run that ``python -m nst.train`` would do in ``folder``. Raises UserError for what is wrong with it."""
    return build(make_plan(compose(overrides)), RunFolder(folder), choices={}, shown=[], goes_on=False)


def fit(run: Run, *callbacks: pl.Callback) -> None:
    """Does a run with some callbacks more, which are the last to hear."""
    trainer: Any = run.trainer
    trainer.callbacks.extend(callbacks)
    with full_float32():
        trainer.fit(run.module, itertools.repeat(0))


def where(device: torch.device) -> str:
    """The override for a device."""
    return f"trainer.accelerator={'gpu' if device.type == 'cuda' else device.type}"


class Ready(pl.Callback):
    """Ends a run before its first evaluation, when everything that it needs is made and in its place."""

    def on_train_start(self, trainer: pl.Trainer, module: Any) -> None:
        trainer.should_stop = True


def random_filters(content: Path, style: Path, device: torch.device) -> list[str]:
    """The overrides of a run of which only the cost counts, on two pictures of one shape."""
    return [
        f"content.path={quoted(content)}", f"style.path={quoted(style)}", "encoder=vgg19", "encoder.weights=random",
        "encoder.calibrate=false", "weights=seed", "size=null", "schedule=single", "logger=none", where(device),
    ]  # fmt: skip


def ready(pixels: pictures.Shape, overrides: Sequence[str], device: torch.device, folder: Path) -> Run:
    """A run at a shape on the bundled pictures with random filters, as it is before its first evaluation."""
    run = make([*random_filters(*_saved(pixels, folder), device), *overrides], folder)
    fit(run, Ready())
    run.module.to(device)  # Lightning has put it back where it found it
    run.module.image.data = pictures.anything(pixels).to(run.module.image)
    return run


def _saved(pixels: pictures.Shape, folder: Path) -> tuple[Path, Path]:
    """The files of the bundled pictures at a shape."""
    files = folder / "content.png", folder / "style.png"
    for picture, path in zip(pictures.bundled(pixels), files, strict=True):
        output.save(picture, path)
    return files


def evaluation(run: Run) -> Callable[[], Tensor]:
    """One evaluation of a run: forward, and backward to the pixels. It returns the loss."""
    module, precision = run.module, run.trainer.precision_plugin

    def evaluate() -> Tensor:
        module.image.grad = None
        with precision.train_step_context():
            total: Tensor = module.objective(module.image).total
        total.backward()
        return total

    return evaluate


def iterate(run: Run, evaluate: Callable[[], Tensor]) -> float:
    """One iteration of the run's L-BFGS, which has its history full by then: of steps that cost little, on a quadratic.

    Returns its seconds, with those of its evaluation.

    Raises UserError for an optimizer without a history.
    """
    image = run.module.image
    optimizer = run.module.make_optimizer([image])
    if not isinstance(optimizer, LBFGS):
        raise UserError(f"--history: {type(optimizer).__name__} has none; choose an L-BFGS")
    curvature = torch.logspace(0, 6, 1024).tolist()

    def cheap() -> Tensor:
        image.grad = image.detach() - 0.4
        loss = image.new_zeros(())
        for part, factor in zip(image.grad.view(-1).chunk(len(curvature)), curvature, strict=False):
            loss += part.square().sum() * factor / 2
            part *= factor
        return loss

    for _ in range(2 * optimizer.history_size):
        optimizer.step(cheap)
        if len(optimizer.history) == optimizer.history_size:
            break
    else:
        raise RuntimeError("the history of L-BFGS was not filled")
    return seconds(lambda: optimizer.step(evaluate), image.device)
