"""From a configuration to the objects of a run; the only caller of ``hydra.utils.instantiate``."""

import functools
import inspect
import logging
import math
import os
import warnings
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning_fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor

from nst import architecture as arch
from nst import config as schema
from nst import encoder, image, inputs, memory, paths, precision, shared, torchrun
from nst.callbacks import Overview, Record, Stop
from nst.checkpoint import WholeCheckpointIO, shape_in
from nst.config import Config
from nst.encoder import Encoder
from nst.errors import UserError, one_line, problem
from nst.inputs import Inputs
from nst.module import StyleTransfer
from nst.objective import Formulas, Objective, Weights, content_targets, functional, style_targets
from nst.run_folder import RunFolder
from nst.schedule import Schedule, Stage
from nst.shared import Recipe
from nst.strategy import TileStrategy
from nst.team import Team
from nst.tile import windows


@dataclass(frozen=True)
class Run:
    """All that a run consists of."""

    module: StyleTransfer
    trainer: pl.Trainer
    record: Record
    stop: Stop
    checkpoint: Path | None


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
    device = _check_nodes(cfg)
    cfg.precision = precision.settle(raw["precision"], device)
    config = Config.model_validate({**raw, "precision": cfg.precision})
    files = inputs.gather(config)
    schedule = _schedule(cfg, config, files)
    _check_shares(cfg, config, files)
    if config.resume is not None:
        _check_goal(schedule, RunFolder(paths.of_user(config.resume)))
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
    pictures = _pictures(cfg, config, files)
    checkpoint = folder.newest_checkpoint() if goes_on else None
    record, stop = Record(folder=folder), Stop()
    overview = Overview(
        pictures=pictures,
        config=OmegaConf.to_yaml(cfg),
        assets=OmegaConf.to_yaml(OmegaConf.create(files.provenance())),
        hyperparameters=_hyperparameters(cfg, config, files, choices, shown),
    )
    callbacks = [record, overview, stop, *_callbacks(cfg, folder)]
    loggers = _loggers(cfg, config, folder, checkpoint, goes_on=goes_on)
    trainer = _trainer(cfg, folder, logger=loggers, callbacks=callbacks)
    return Run(_module(cfg, config, files, pictures, trainer), trainer, record, stop, checkpoint)


def build_follower(
    cfg: DictConfig, config: Config, files: Inputs, folder: RunFolder
) -> tuple[StyleTransfer, pl.Trainer]:
    """Makes what computes the run in a folder once more, but writes nothing and shows nothing."""
    _seed(config)
    trainer = _trainer(cfg, folder, logger=False, callbacks=[Stop()])
    return _module(cfg, config, files, _pictures(cfg, config, files), trainer), trainer


def _seed(config: Config) -> None:
    """Settles the threads and what is random, the same in every process of a run."""
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    elif config.trainer.devices > 1 and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // config.trainer.devices))
    pl.seed_everything(config.seed, verbose=False)


def _module(
    cfg: DictConfig, config: Config, files: Inputs, pictures: Mapping[str, Tensor], trainer: pl.Trainer
) -> StyleTransfer:
    tile = _tile(cfg, config, files, trainer.strategy.root_device)
    content, style = pictures["content"], pictures["style"]
    schedule = _schedule(cfg, config, files)
    return StyleTransfer(
        image=pictures["start"],
        schedule=schedule,
        objective=functools.partial(_objective, cfg, config, files, content, style, tile),
        carry=lambda picture, shape: schedule.carry(picture, image.resize(content, shape)),
        optimizer=_make(cfg, "optimizer"),
        loss_scale=precision.LossScale() if config.precision == 16 else None,
    )


def _make(cfg: DictConfig, group: str) -> Any:
    try:
        return instantiate(cfg[group], _convert_="all")
    except InstantiationException as error:
        raise UserError(f"{group}: {one_line(error)}") from error


def _check_nodes(cfg: DictConfig) -> torch.device:
    """Makes what the nodes describe, to learn whether it can be made; of what is made later, whether the keys fit.

    Returns the device that the run will use.
    """
    lines = []
    for group in ("pooling", "objective", "init", "optimizer", "schedule", "logger", "callbacks"):
        try:
            made = _make(cfg, group)
        except UserError as error:
            lines += error.problems
            continue
        for name, each in made.items() if group == "callbacks" else [("", made)]:
            if isinstance(each, functools.partial):
                try:
                    inspect.signature(each.func).bind_partial(*each.args, **each.keywords)
                except TypeError as error:
                    lines.append(f"{group}{name and '.'}{name}: {error}")
    try:
        device = _trainer(cfg, RunFolder(Path()), logger=False, callbacks=[]).strategy.root_device
    except UserError as error:
        lines += error.problems
    tiled = cfg.trainer.devices > 1 or isinstance(cfg.tile, int)
    if not lines and tiled:
        why = "is no sum or mean over positions, so it can't be taken tile by tile"
        lines += [
            f"tile={cfg.tile}, trainer.devices={cfg.trainer.devices}: {key}._target_="
            f"{OmegaConf.select(cfg, key)._target_} {why}; choices: tile=off on one device, or another objective"
            for key in _not_tiled(cfg)
        ]
    if lines:
        raise UserError(lines)
    return device


def _trainer(cfg: DictConfig, folder: RunFolder, **arguments: Any) -> pl.Trainer:
    try:
        trainer: pl.Trainer = _make(cfg, "trainer")(
            **arguments,
            strategy="auto" if cfg.trainer.devices == 1 else TileStrategy(folder=folder.path),
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


def _schedule(cfg: DictConfig, config: Config, files: Inputs) -> Schedule:
    """The stages of a run; raises UserError where they don't fit the picture, the evaluations or the layers."""
    schedule: Schedule = _make(cfg, "schedule")(shape=files.shape, evaluations=config.evaluations)
    height, width = schedule.stages[0].shape
    needed = schema.smallest_side(config)
    if min(height, width) < needed:
        deepest = arch.deepest(config.encoder.architecture, schema.needed_layers(config))
        sizes = [max(stage.shape) for stage in schedule.stages]
        why = f"the first scale would be {width} x {height} px, but {deepest} needs at least {needed} px on each side"
        raise UserError(problem("schedule.sizes", sizes, f"{why}; choose fewer or larger ones, or layers less deep"))
    return schedule


def _check_shares(cfg: DictConfig, config: Config, files: Inputs) -> None:
    """Refuses more processes than a picture has tiles."""
    devices, tile = config.trainer.devices, config.tile
    started = torchrun.started() or devices
    if started != devices:
        raise UserError(problem("trainer.devices", devices, f"torchrun has started {started} processes; give as many"))
    if devices == 1:
        return
    if tile == "off":
        why = f"trainer.devices={devices} share out the tiles of a picture; choices: auto, or a size in px"
        raise UserError(problem("tile", "off", why))
    skeleton = Encoder(
        architecture=files.architecture,
        layers=schema.needed_layers(config),
        pooling=_make(cfg, "pooling"),
        state=encoder.random_state(files.architecture, 0),
    )
    number = len(windows(skeleton, files.shape, 1 if tile == "auto" else tile))
    if number < devices:
        size = f"{files.shape[1]} x {files.shape[0]} px"
        why = f"tile={tile} can cut the picture, {size}, into {number} only; choose fewer devices or smaller tiles"
        raise UserError(problem("trainer.devices", devices, why))


def _check_goal(schedule: Schedule, folder: RunFolder) -> None:
    """Refuses fewer evaluations than a run has made on its way up: its picture would never get its size."""
    checkpoint = folder.newest_checkpoint()
    if checkpoint is None or int(checkpoint.stem) < schedule.evaluations:
        return
    height, width = shape_in(checkpoint)
    if (height, width) != schedule.stages[-1].shape:
        why = f"the run has made {int(checkpoint.stem)}, and its picture is still {width} x {height} px; choose more"
        raise UserError(problem("evaluations", schedule.evaluations, why))


def _pictures(cfg: DictConfig, config: Config, files: Inputs) -> dict[str, Tensor]:
    """The content image at the picture's size, the style image stretched to it as the seed does, and the start.

    The start has the shape of the first stage.
    """
    assert files.content.path is not None
    assert files.style.path is not None
    assert config.precision != "auto"
    dtype = precision.PICTURE[config.precision]
    content = image.resize(image.load(files.content.path, key="content.path").to(dtype), files.shape)
    style = image.resize(image.load(files.style.path, key="style.path").to(dtype), files.shape)
    generator = torch.Generator().manual_seed(config.seed)
    first = _schedule(cfg, config, files).stages[0].shape
    small = {"content": image.resize(content, first), "style": image.resize(style, first)}
    return {"content": content, "style": style, "start": _make(cfg, "init")(**small, generator=generator)}


def _encoder(cfg: DictConfig, config: Config, files: Inputs) -> tuple[Hashable, Encoder]:
    """The encoder, which the runs of a process share, and what tells it from others."""
    assert config.precision != "auto"
    dtype = precision.ENCODER[config.precision]
    layers = schema.needed_layers(config)

    def make() -> Encoder:
        state, pooling = _weights(config, files), _make(cfg, "pooling")
        return Encoder(architecture=files.architecture, layers=layers, pooling=pooling, state=state, dtype=dtype)

    key = (files.architecture, files.weights.sha256 or config.seed, tuple(layers), str(cfg.pooling), dtype)
    return key, shared.encoder(Recipe(key, make))


def _tile(cfg: DictConfig, config: Config, files: Inputs, device: torch.device) -> int | None:
    """The size of the tiles at the picture's own size, which the configuration keeps from here on."""
    if config.tile == "auto" and _not_tiled(cfg):
        tile = None
    else:
        _, encoder = _encoder(cfg, config, files)
        pixels = 3 * math.prod(files.shape) * encoder.mean.element_size()
        # Of the optimizer: its memory, and about eight vectors besides.
        pairs = cfg.optimizer.get("history_size", 0) * (1 if cfg.optimizer.get("history_dtype") is None else 0.5)
        kept = int(pixels * (8 + 2 * pairs))
        kept += memory.feature_bytes(encoder, files.shape, config.layers.content)
        processes = config.trainer.devices
        tile = memory.settle(config.tile, encoder, files.shape, device=device, besides=kept, processes=processes)
    cfg.tile = "off" if tile is None else tile
    return tile


def _not_tiled(cfg: DictConfig) -> list[str]:
    """What an objective has that can't be taken tile by tile."""
    formulas: Formulas = _make(cfg, "objective")
    parts = {"content": formulas.content, "statistic": formulas.statistic}
    return [f"objective.{key}" for key, function in parts.items() if functional.combines(function) is None]


def _objective(
    cfg: DictConfig,
    config: Config,
    files: Inputs,
    content: Tensor,
    style: Tensor,
    tile: int | None,
    stage: Stage,
    device: torch.device,
) -> Objective:
    """What a stage minimizes; each process computes the targets for itself, from both pictures at the stage's size."""
    content, style = (image.resize(picture, stage.shape).to(device) for picture in (content, style))
    formulas = _make(cfg, "objective")
    content_layers, style_layers = config.layers.content, config.layers.style
    key, encoder = _encoder(cfg, config, files)
    encoder.to(device)
    team = Team.present()
    if tile is not None and team.size > 1 and len(windows(encoder, stage.shape, tile)) < team.size:
        tile = memory.share_out(encoder, stage.shape, tile, team.size)  # a smaller scale has fewer
    seen = (key, stage.shape, tile, device)
    factors = config.weights.model_dump()
    for name in ("content", "style", "tv"):
        factors[name] *= getattr(stage, name)
    return Objective(
        encoder=encoder,
        formulas=formulas,
        weights=Weights(**factors),
        tile=tile,
        team=team,
        content=shared.content_targets(
            Recipe((seen, files.content.sha256), lambda: content_targets(encoder, content, content_layers, tile=tile))
        ),
        style=shared.style_targets(
            Recipe(
                (seen, files.style.sha256, str(cfg.objective.statistic)),
                lambda: style_targets(encoder, style, style_layers, formulas.statistic, tile=tile),
            )
        ),
    ).to(device)


def _weights(config: Config, files: Inputs) -> encoder.State:
    if files.weights.path is not None:
        return encoder.load_state(files.weights.path, files.architecture)
    return encoder.random_state(files.architecture, config.seed)


def _loggers(cfg: DictConfig, config: Config, folder: RunFolder, checkpoint: Path | None, *, goes_on: bool) -> Any:
    make = _make(cfg, "logger")
    if not callable(make):
        return False
    if cfg.logger._target_ == "pytorch_lightning.loggers.TensorBoardLogger" and goes_on:
        # What an interrupted run logged after its checkpoint is computed again.
        make = functools.partial(make, purge_step=0 if checkpoint is None else int(checkpoint.stem) + 1)
    return make(save_dir=folder.logs(str(config.name)))


def _callbacks(cfg: DictConfig, folder: RunFolder) -> list[pl.Callback]:
    made = [make for make in _make(cfg, "callbacks").values() if make is not None]
    return [make(folder=folder) if isinstance(make, functools.partial) else make for make in made]


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
