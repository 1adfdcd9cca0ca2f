"""The loggers and callbacks of a run, and the hyperparameters that loggers show."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from omegaconf import OmegaConf
from pytorch_lightning.loggers import Logger, TensorBoardLogger

from nst.callbacks import Checkpoint
from nst.files.run_folder import RunFolder
from nst.metrics.names import MEASURES
from nst.plan.planning import Plan

#: The logger whose event files a resumed run goes on with.
TENSORBOARD = "pytorch_lightning.loggers.TensorBoardLogger"


def make_loggers(plan: Plan, folder: RunFolder, checkpoint: Path | None, *, goes_on: bool) -> list[Any]:
    """Make the loggers of a run, which may go on from a ``checkpoint``."""
    make = plan.nodes.logger
    if make is None:
        return []
    logger = plan.config.logger["_target_"]
    if logger != TENSORBOARD:
        # A folder of its own for each session, as Lightning's CSV logger deletes what it finds in its folder.
        kind, session = logger.rpartition(".")[2], f"from_{checkpoint.stem}" if checkpoint is not None else ""
        return [make(save_dir=folder.logs(kind) / session)]
    if goes_on:
        # Purge the steps that an interrupted run logged after its checkpoint, because they are computed again.
        make = functools.partial(make, purge_step=0 if checkpoint is None else int(checkpoint.stem) + 1)
    return [make(save_dir=folder.events(str(plan.config.name)))]


def make_callbacks(plan: Plan, folder: RunFolder) -> list[pl.Callback]:
    """Make the callbacks that the configuration names."""
    made = [make for make in plan.nodes.callbacks.values() if make is not None]
    ready = [make(folder=folder) if isinstance(make, functools.partial) else make for make in made]
    return sorted(ready, key=lambda callback: not isinstance(callback, Checkpoint))  # before others, as a film may fail


def hyperparameters(plan: Plan, choices: Mapping[str, str], shown: Sequence[str]) -> dict[str, str | float]:
    """Return the pictures, the encoder used (which may be a stand-in) and the keys ``shown``; numbers as numbers."""
    config, files = plan.config, plan.files
    named = {"content": config.content.title, "style": config.style.title}
    values = {
        key: choices.get(key, OmegaConf.select(plan.saved, key)) for key in shown if key not in (*named, "encoder")
    }
    plain = {key: _plain(value) for key, value in values.items()}
    return {**named, "encoder": f"{files.architecture} ({files.weights.source})", **plain}


def log_hyperparameters(
    made: Sequence[Logger],
    hyperparameters: dict[str, str | float],
    losses: Mapping[str, float],
    measures: Mapping[str, Any],
    *,
    step: int,
) -> None:
    """Write the hyperparameters of a run to TensorBoard, with the losses and the measures of its picture.

    TensorBoard shows the results that it is told of first, so this is called once, when all of them are known.
    """
    values = {f"summary/{name}": loss for name, loss in losses.items()}
    for observer, measured in measures.items():
        known = {name: value for name, value in measured["values"].items() if name in MEASURES and value is not None}
        values |= {f"{observer}/{name}": value for name, value in known.items()}
    for logger in made:
        if isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(hyperparameters, values, step=step)
            logger.finalize("success")


def _plain(value: Any) -> str | float:
    if isinstance(value, int | float):
        return float(value)
    return " ".join(map(str, value)) if OmegaConf.is_list(value) else "null" if value is None else str(value)
