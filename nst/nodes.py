"""The nodes of a configuration as objects; the only caller of ``hydra.utils.instantiate``."""

import functools
import inspect
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning_fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf

from nst import architecture as arch
from nst.checkpoint import WholeCheckpointIO
from nst.errors import UserError, one_line
from nst.objective import Formulas, functional
from nst.strategy import TileStrategy


def make(cfg: DictConfig, group: str) -> Any:
    """What a group's node describes. Raises UserError where it can't be made."""
    try:
        return instantiate(cfg[group], _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from error
        raise UserError(f"{group}: {one_line(error)}") from error


def make_trainer(cfg: DictConfig, folder: Path, **arguments: Any) -> pl.Trainer:
    """The trainer of a run in a folder. Raises UserError for what Lightning doesn't take."""
    try:
        trainer: pl.Trainer = make(cfg, "trainer")(
            **arguments,
            strategy="auto" if cfg.trainer.devices == 1 else TileStrategy(folder=folder),
            plugins=[WholeCheckpointIO()],
            precision=64 if cfg.precision == 64 else 32,
            max_epochs=-1,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
    except (MisconfigurationException, TypeError, ValueError) as error:
        raise UserError(f"trainer: {one_line(error)}") from error
    return trainer


def check(cfg: DictConfig) -> torch.device:
    """Makes what the nodes describe, to learn whether it can be made; of what is made later, whether the keys fit.

    Returns the device that the run will use. Raises UserError with everything that is wrong.
    """
    lines = []
    for group in ("pooling", "objective", "init", "optimizer", "schedule", "logger", "callbacks"):
        try:
            made = make(cfg, group)
        except UserError as error:
            lines += error.problems
            continue
        if group in ("pooling", "init", "optimizer", "schedule") and not isinstance(made, functools.partial):
            lines.append(f"{group}._partial_: must be true, as what {cfg[group]._target_} makes is made later")
        for name, each in made.items() if group == "callbacks" else [("", made)]:
            if isinstance(each, functools.partial):
                try:
                    inspect.signature(each.func).bind_partial(*each.args, **each.keywords)
                except TypeError as error:
                    lines.append(f"{group}{name and '.'}{name}: {error}")
    try:
        used = device(cfg)
    except UserError as error:
        lines += error.problems
    tiled = cfg.trainer.devices > 1 or isinstance(cfg.tile, int)
    if not lines and tiled:
        lines += [
            f"tile={cfg.tile}, trainer.devices={cfg.trainer.devices}: {what}; choices: tile=off on one device, or "
            f"another {what.partition('.')[0]}"
            for what in not_tiled(cfg)
        ]
    if lines:
        raise UserError(lines)
    return used


def device(cfg: DictConfig) -> torch.device:
    """What the run will use. Raises UserError for what Lightning doesn't take."""
    found: torch.device = make_trainer(cfg, Path(), logger=False, callbacks=[]).strategy.root_device
    return found


def not_tiled(cfg: DictConfig) -> list[str]:
    """What there is that can't be taken tile by tile, and why."""
    formulas: Formulas = make(cfg, "objective")
    parts: dict[str, Any] = {"content": formulas.content}
    parts |= {f"style.{name}.statistic": term.statistic for name, term in formulas.style.items()}
    why = "is no sum or mean over positions, so it can't be taken tile by tile"
    found = [f"objective.{key}" for key, function in parts.items() if functional.combines(function) is None]
    lines = [f"{key}._target_={OmegaConf.select(cfg, key)._target_} {why}" for key in found]
    if cfg.encoder.architecture not in arch.BLOCKS:
        lines.append(f"encoder.architecture={cfg.encoder.architecture} can't be read tile by tile")
    return lines
