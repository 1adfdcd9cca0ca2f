"""From a configuration to the objects of a run; the only caller of ``hydra.utils.instantiate``."""

import functools
import inspect
import logging
import warnings
from collections.abc import Mapping, Sequence
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

from nst import config as schema
from nst import encoder, image, inputs, precision, shared
from nst.callbacks import Overview, Record, Stop
from nst.checkpoint import WholeCheckpointIO
from nst.config import Config
from nst.encoder import Encoder
from nst.errors import UserError, one_line
from nst.inputs import Inputs
from nst.module import StyleTransfer
from nst.objective import Objective, Weights, content_targets, style_targets
from nst.run_folder import RunFolder
from nst.shared import Recipe


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
    return config, inputs.gather(config)


def _quieten_lightning() -> None:
    """Lightning's remarks on devices, loaders and an unused srun don't apply: there is no data set, and one process."""
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
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    pl.seed_everything(config.seed, verbose=False)
    content, style, start = _pictures(cfg, config, files)
    [stage] = instantiate(cfg.schedule)(shape=tuple(content.shape[-2:]), evaluations=config.evaluations)
    module = StyleTransfer(
        image=start,
        objective=_objective(cfg, config, files, content, style),
        optimizer=_make(cfg, "optimizer"),
        evaluations=stage.evaluations,
    )
    checkpoint = folder.newest_checkpoint() if goes_on else None
    record, stop = Record(folder=folder), Stop()
    overview = Overview(
        pictures={"content": content, "style": style, "start": start},
        config=OmegaConf.to_yaml(cfg),
        assets=OmegaConf.to_yaml(OmegaConf.create(files.provenance())),
        hyperparameters=_hyperparameters(cfg, config, files, choices, shown),
    )
    callbacks = [record, overview, stop, *_callbacks(cfg, folder)]
    trainer = _trainer(cfg, logger=_loggers(cfg, config, folder, checkpoint, goes_on=goes_on), callbacks=callbacks)
    return Run(module, trainer, record, stop, checkpoint)


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
        device = _trainer(cfg, logger=False, callbacks=[]).strategy.root_device
    except UserError as error:
        lines += error.problems
    if lines:
        raise UserError(lines)
    return device


def _trainer(cfg: DictConfig, **arguments: Any) -> pl.Trainer:
    try:
        trainer: pl.Trainer = _make(cfg, "trainer")(
            **arguments,
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


def _pictures(cfg: DictConfig, config: Config, files: Inputs) -> tuple[Tensor, Tensor, Tensor]:
    """The content image at the picture's size, the style image stretched to it as the seed does, and the start."""
    assert files.content.path is not None
    assert files.style.path is not None
    assert config.precision != "auto"
    dtype = precision.PICTURE[config.precision]
    content = image.load(files.content.path, key="content.path").to(dtype)
    height, width = content.shape[-2:]
    content = image.resize(content, image.fit(height, width, config.size))
    height, width = content.shape[-2:]
    style = image.resize(image.load(files.style.path, key="style.path").to(dtype), (height, width))
    generator = torch.Generator().manual_seed(config.seed)
    return content, style, _make(cfg, "init")(content=content, style=style, generator=generator)


def _objective(cfg: DictConfig, config: Config, files: Inputs, content: Tensor, style: Tensor) -> Objective:
    formulas = _make(cfg, "objective")
    content_layers, style_layers = config.layers.content, config.layers.style

    assert config.precision != "auto"
    dtype = precision.ENCODER[config.precision]

    def make_encoder() -> Encoder:
        return Encoder(
            architecture=files.architecture,
            layers=schema.needed_layers(config),
            pooling=_make(cfg, "pooling"),
            state=_weights(config, files),
            dtype=dtype,
        )

    weights = files.weights.sha256 or config.seed
    key = (files.architecture, weights, tuple(schema.needed_layers(config)), str(cfg.pooling), dtype)
    encoder = shared.encoder(Recipe(key, make_encoder))
    seen = (key, tuple(content.shape))
    return Objective(
        encoder=encoder,
        formulas=formulas,
        weights=Weights(**config.weights.model_dump()),
        content=shared.targets(
            Recipe((seen, files.content.sha256), lambda: content_targets(encoder, content, content_layers))
        ),
        style=shared.targets(
            Recipe(
                (seen, files.style.sha256, str(cfg.objective.statistic)),
                lambda: style_targets(encoder, style, style_layers, formulas.statistic),
            )
        ),
    )


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
