"""The loggers and callbacks of a run, and what loggers show besides its losses."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf
from pytorch_lightning.loggers import Logger

from nst.callbacks import Checkpoint
from nst.files.run_folder import RunFolder
from nst.logger import RunLogger, Session, Status, kind_of
from nst.metrics.names import MEASURES
from nst.plan.planning import Plan


def make_loggers(plan: Plan, folder: RunFolder, checkpoint: Path | None, *, goes_on: bool) -> list[Any]:
    """Make the loggers of a run, which may go on from a ``checkpoint``."""
    done = 0 if checkpoint is None else int(checkpoint.stem)
    made = []
    for name, make in plan.nodes.logger.items():
        if kind_of(make) is not None:
            session = Session(folder, str(plan.config.name), name, _sweep(), done if goes_on else None)
            made.append(make(session=session))
        else:
            # A folder of its own for each session, as Lightning's CSV logger deletes what it finds in its folder.
            made.append(make(save_dir=folder.logs(name) / ("" if checkpoint is None else f"from_{checkpoint.stem}")))
    return made


def _sweep() -> str | None:
    """Return the folder of the sweep that this run is part of; None if it is a single run."""
    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.MULTIRUN:
        return None
    path = Path(HydraConfig.get().sweep.dir)
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


@contextmanager
def ended(made: Sequence[Logger]) -> Iterator[None]:
    """Execute the block, then end the run for each logger, however the block ends."""
    status: Status = "failed"
    try:
        yield
        status = "completed"
    except (SystemExit, KeyboardInterrupt):
        status = "interrupted"
        raise
    finally:
        for logger in made:
            if isinstance(logger, RunLogger):
                logger.end(status)


def hints(plan: Plan, folder: RunFolder) -> Iterator[str]:
    """Yield one line for each logger of a run that says how to look at what it has logged."""
    kept = folder.read_summary().get("loggers", {})
    for name, make in plan.nodes.logger.items():
        kind = kind_of(make)
        if kind is not None:
            yield kind.hint(folder, kept.get(name, {}))


def make_callbacks(plan: Plan, folder: RunFolder) -> list[pl.Callback]:
    """Make the callbacks that the configuration names."""
    made = plan.nodes.callbacks.values()
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


def log_results(
    made: Sequence[Logger],
    hyperparameters: dict[str, str | float],
    losses: Mapping[str, float],
    measures: Mapping[str, Any],
    *,
    step: int,
) -> None:
    """Give the loggers the losses and the measures of a run's picture, once all of them are known."""
    values = {f"summary/{name}": loss for name, loss in losses.items()}
    for observer, measured in measures.items():
        known = {name: value for name, value in measured["values"].items() if name in MEASURES and value is not None}
        values |= {f"{observer}/{name}": value for name, value in known.items()}
    for logger in made:
        if isinstance(logger, RunLogger):
            logger.results(hyperparameters, values, step)


def _plain(value: Any) -> str | float:
    if isinstance(value, int | float):
        return float(value)
    return " ".join(map(str, value)) if OmegaConf.is_list(value) else "null" if value is None else str(value)
