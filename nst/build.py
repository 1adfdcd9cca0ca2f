"""From a configuration to the objects of a run."""

import functools
import logging
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nst import config as schema
from nst import inputs, nodes, output, paths, precision, torchrun
from nst.architecture import BLOCKS
from nst.callbacks import Checkpoint, Overview, Record, Stop
from nst.checkpoint import shape_in
from nst.config import Config
from nst.errors import UserError, one_line, problem
from nst.forecast import Forecast, settle
from nst.inputs import Inputs
from nst.module import StyleTransfer
from nst.painting import Painting
from nst.run_folder import RunFolder
from nst.schedule import Schedule

#: What torch chose for this process, or OMP_NUM_THREADS says: for runs that say nothing.
THREADS = torch.get_num_threads()


@dataclass(frozen=True)
class Run:
    """All that a run consists of; ``format`` is its picture's, which has the ``note``."""

    module: StyleTransfer
    trainer: pl.Trainer
    record: Record
    stop: Stop
    checkpoint: Path | None
    forecast: Forecast
    format: str
    note: str


def prepare(cfg: DictConfig) -> tuple[Config, Inputs]:
    """Checks a composed configuration and finds the files that it needs, before anything is built or written.

    Raises UserError with everything that is wrong with it; what has to be downloaded is looked at last.
    """
    _quieten_lightning()
    missing = [f"{key}: must be given" for key in sorted(OmegaConf.missing_keys(cfg))]
    try:
        raw: Any = OmegaConf.to_container(cfg, resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(one_line(error)) from error
    found = [*missing, *schema.problems(raw), *inputs.problems(raw)]
    if found:
        raise UserError(found)
    device = nodes.check(cfg)
    cfg.precision = precision.settle(raw["precision"], device, narrow=cfg.encoder.architecture in BLOCKS)
    config = Config.model_validate({**raw, "precision": cfg.precision})
    files = inputs.gather(config)
    painting = Painting(cfg, config, files)
    schedule = painting.schedule
    _check_processes(config)
    painting.check_shares()
    painting.check_styles()
    if config.resume is not None:
        folder = RunFolder(paths.of_user(config.resume))
        files.check(folder)
        _check_goal(schedule, folder)
    return config, files


def _quieten_lightning() -> None:
    """Lightning's remarks on devices, loaders and an unused srun don't apply: there is no data set, and one machine."""
    for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_fabric")


def build(
    cfg: DictConfig,
    config: Config,
    files: Inputs,
    folder: RunFolder,
    *,
    choices: Mapping[str, str],
    shown: Sequence[str],
    goes_on: bool,
) -> Run:
    """Makes the objects of a run whose configuration was checked by ``prepare``.

    ``choices`` are the names of the options that were picked, by group, and ``shown`` the keys and groups that tell the
    run from others, which are TensorBoard's hyperparameters. A run that ``goes_on`` does so
    from its newest checkpoint, or from the start where it was stopped before its first.
    """
    _seed(config)
    painting = Painting(cfg, config, files)
    forecast = settle(painting, nodes.device(cfg))
    checkpoint = folder.newest_checkpoint() if goes_on else None
    record, stop = Record(folder=folder), Stop()
    overview = Overview(
        pictures=painting.pictures,
        config=OmegaConf.to_yaml(cfg),
        assets=OmegaConf.to_yaml(OmegaConf.create(files.provenance())),
        hyperparameters=_hyperparameters(cfg, config, files, choices, shown),
    )
    callbacks = [record, overview, stop, *_callbacks(cfg, folder)]
    loggers = _loggers(cfg, config, folder, checkpoint, goes_on=goes_on)
    trainer = nodes.make_trainer(cfg, folder.path, logger=loggers, callbacks=callbacks)
    settled: Any = OmegaConf.to_container(cfg)
    module = painting.module(trainer.strategy.root_device)
    return Run(
        module, trainer, record, stop, checkpoint, forecast, config.output, output.note(settled, files.digests())
    )


def build_follower(
    cfg: DictConfig, config: Config, files: Inputs, folder: RunFolder
) -> tuple[StyleTransfer, pl.Trainer]:
    """Makes what computes the run in a folder once more, but writes nothing and shows nothing."""
    _seed(config)
    trainer = nodes.make_trainer(cfg, folder.path, logger=False, callbacks=[Stop()])
    return Painting(cfg, config, files).module(trainer.strategy.root_device), trainer


def _seed(config: Config) -> None:
    """Settles the threads and what is random, the same in every process of a run."""
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    elif config.trainer.devices > 1 and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // config.trainer.devices))
    else:
        torch.set_num_threads(THREADS)
    pl.seed_everything(config.seed, verbose=False)


def _check_processes(config: Config) -> None:
    """Refuses a number of devices that torchrun has not started as many processes for."""
    devices = config.trainer.devices
    started = torchrun.started() or devices
    if started != devices:
        raise UserError(problem("trainer.devices", devices, f"torchrun has started {started} processes; give as many"))


def _check_goal(schedule: Schedule, folder: RunFolder) -> None:
    """Refuses so few evaluations that a run on its way up would never get its size, or would not pass where it is."""
    checkpoint = folder.newest_checkpoint()
    if checkpoint is None:
        return
    done, (height, width) = int(checkpoint.stem), shape_in(checkpoint)
    shapes = [stage.shape for stage in schedule.stages]
    if (height, width) not in (shapes if done < schedule.evaluations else shapes[-1:]):
        why = f"the run has made {done}, and its picture is still {width} x {height} px; choose more"
        raise UserError(problem("evaluations", schedule.evaluations, why))


def _loggers(cfg: DictConfig, config: Config, folder: RunFolder, checkpoint: Path | None, *, goes_on: bool) -> Any:
    make = nodes.make(cfg, "logger")
    if not callable(make):
        return False
    if cfg.logger._target_ == "pytorch_lightning.loggers.TensorBoardLogger" and goes_on:
        # What an interrupted run logged after its checkpoint is computed again.
        make = functools.partial(make, purge_step=0 if checkpoint is None else int(checkpoint.stem) + 1)
    return make(save_dir=folder.logs(str(config.name)))


def _callbacks(cfg: DictConfig, folder: RunFolder) -> list[pl.Callback]:
    made = [make for make in nodes.make(cfg, "callbacks").values() if make is not None]
    ready = [make(folder=folder) if isinstance(make, functools.partial) else make for make in made]
    return sorted(ready, key=lambda callback: not isinstance(callback, Checkpoint))  # before what may fail, as a film


def _hyperparameters(
    cfg: DictConfig, config: Config, files: Inputs, choices: Mapping[str, str], shown: Sequence[str]
) -> dict[str, str | float]:
    """What is shown, after the pictures and the encoder, which may stand in for another; numbers as numbers."""
    named = {"content": config.content.title, "style": config.style.title}
    values = {key: choices.get(key, OmegaConf.select(cfg, key)) for key in shown if key not in (*named, "encoder")}
    plain = {key: _plain(value) for key, value in values.items()}
    return {**named, "encoder": f"{files.architecture} ({files.weights.source})", **plain}


def _plain(value: Any) -> str | float:
    if isinstance(value, int | float):
        return float(value)
    return " ".join(map(str, value)) if OmegaConf.is_list(value) else "null" if value is None else str(value)
