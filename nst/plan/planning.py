"""The plan of a run: everything that is decided before its first evaluation, once, and not changed afterwards."""

import copy
import logging
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from nst import image
from nst.callbacks.checkpoint_io import shape_in
from nst.config import nodes as making
from nst.config.identity import identity
from nst.config.nodes import Nodes
from nst.config.overrides import literal
from nst.config.schema import Config, styles_in
from nst.config.source import keys
from nst.encoder import PIXELS, precision
from nst.encoder import architecture as arch
from nst.errors import UserError, attempt, count, problem, written
from nst.files import paths
from nst.files.run_folder import RunFolder
from nst.logger import kind_of
from nst.optimizer.schedule import Schedule
from nst.plan import devices, forecast, inputs, memory, pictures
from nst.plan.checking import check, normalizing_pictures
from nst.plan.forecast import Forecast
from nst.plan.inputs import Inputs
from nst.plan.layout import Layout, deepest, network
from nst.plan.network import NORMALIZING
from nst.plan.pictures import Pictures


@dataclass(frozen=True)
class Plan:
    """The plan of a run, made from a configuration and not changed afterwards.

    Attributes:
        title: the pictures and the distinguishing overrides, as a valid file name:
            ``tubingen-picasso,weights.style=1e5``.
        raw: the resolved configuration as saved in the run's folder: with absolute paths, and with the precision, the
            tiles and the name decided.
        config: the same configuration, validated.
        nodes: the objects and factories made from its nodes.
        files: the files of the pictures and the weights.
        pictures: the decoded pictures.
        layout: the sizes.
        start: the start image, at the shape of the first stage.
        trainer: Lightning's trainer, without its callbacks and loggers.
        device: the device that the run computes on.
        forecast: the predicted memory, and the size of the tiles.
    """

    title: str
    raw: Mapping[str, Any]
    config: Config
    nodes: Nodes
    files: Inputs
    pictures: Pictures
    layout: Layout
    start: Tensor
    trainer: pl.Trainer
    device: torch.device
    forecast: Forecast

    @property
    def schedule(self) -> Schedule:
        """The schedule of the scales."""
        return self.layout.schedule

    @property
    def optimizer(self) -> Callable[..., Any]:
        """What makes the optimizer. L-BFGS keeps its pairs in the folder ``scratch``, if there is one."""
        make, scratch = self.nodes.optimizer, self.config.scratch
        uses = scratch is not None and self.layout.has_history
        return partial(make, scratch=paths.of_user(str(scratch))) if uses else make

    @cached_property
    def saved(self) -> DictConfig:
        """The configuration as saved in the run's folder."""
        found: DictConfig = OmegaConf.create(literal(self.raw))
        return found

    @property
    def yaml(self) -> str:
        """The configuration as saved in the run's folder, as YAML."""
        return OmegaConf.to_yaml(self.saved)

    @property
    def identity(self) -> str:
        """The digest of what the run computes, which is part of its folder's name in a sweep."""
        files = {**self.files.digests(), "architecture": self.files.architecture}
        return identity(self.config.model_dump(by_alias=True), files)

    def moved(self, files: Mapping[str, Path]) -> "Plan":
        """Return the plan with new paths of some of its pictures, by name."""
        raw: dict[str, Any] = {**self.raw}
        found = dict(self.files.pictures)
        for name, path in files.items():
            raw[name] = {**raw[name], "path": str(path)}
            found[name] = replace(found[name], path=path)
        return replace(self, raw=raw, files=replace(self.files, pictures=found))


def make_plan(
    cfg: DictConfig,
    *,
    words: Sequence[str] = (),
    named: Sequence[str] = (),
    checked: tuple[dict[str, Any], Config] | None = None,
) -> Plan:
    """Plan the run of a composed configuration, without writing anything but downloaded files.

    ``words`` are the overrides that it was composed with; those of the keys and groups ``named`` are part of the
    run's name. ``checked`` is the result of ``nst.plan.checking.check``, if the configuration was checked before.

    Raise UserError with all problems of the first step that finds any. Nothing is downloaded for an invalid
    configuration.
    """
    _quieten_lightning()
    raw, config = checked or check(cfg)
    nodes = making.make(raw)
    _check_loggers(nodes)
    trainer = devices.make_trainer(config, nodes)
    device = trainer.strategy.root_device
    narrow = config.encoder.kind == "vgg"
    config = config.model_copy(update={"precision": precision.settle(config.precision, device, narrow=narrow)})
    files = inputs.gather(config)
    geometry = network(config, nodes, files.architecture).make()
    needed = geometry.smallest_side()
    if not needed:
        raise UserError(_unreadable(config, nodes, files.architecture))
    _check_normalizing(config, nodes, files.architecture)
    memory.of_program(device)  # measured once, before the pictures are in memory
    painted = pictures.load(config, files, needed=needed, deepest=deepest(config), dtype=geometry.picture_dtype)
    masks = {name: asset.sha256 for name, asset in files.pictures.items() if inputs.is_mask(name)}
    layout = Layout(config, nodes, files.architecture, geometry, painted.shape, painted.sizes, masks)
    layout.check()
    start = _start(layout, painted)
    if config.resume is not None:
        folder = RunFolder(paths.of_user(config.resume))
        files.check(folder)
        _check_goal(layout.schedule, folder)
    taken = forecast.settle(layout, device)
    tile = "off" if taken.tile is None else taken.tile
    title = _title(config, named, words)
    name = config.name or title
    config = config.model_copy(update={"tile": tile, "name": name})
    settled = _settled(raw, {"precision": config.precision, "tile": tile, "name": name})
    return Plan(
        title, settled, config, nodes, files, painted, replace(layout, config=config), start, trainer, device, taken
    )


def _check_loggers(nodes: Nodes) -> None:
    """Raise UserError for loggers that can't work, such as that of a server that isn't there."""
    lines: list[str] = []
    for name, make in nodes.logger.items():
        kind = kind_of(make)
        if kind is not None:
            lines += kind.problems(f"logger.{name}", make.keywords)
    if lines:
        raise UserError(lines)


def _settled(raw: Mapping[str, Any], decided: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration with absolute paths and the values decided, which a resumed run must not change."""
    whole = copy.deepcopy(dict(raw))
    files = [(whole["content"], "path"), (whole["init"], "path")]
    files += [(whole["encoder"], "weights"), (whole["encoder"], "normalize_on"), (whole, "scratch")]
    files += [(style, key) for style in styles_in(whole).values() for key in ("path", "region", "mask")]
    for node, key in files:
        if node.get(key) not in (None, "auto", "random", "bundled"):
            node[key] = str(paths.of_user(node[key]).absolute())
    return {**whole, **decided, "resume": None, "rerun": None}


def _start(layout: Layout, painted: Pictures) -> Tensor:
    """Return the start image, at the shape of the first stage."""
    config = layout.config
    first = layout.schedule.stages[0].shape
    small = {name: image.resize(painted.tensors[name], first) for name in ("content", "style")}
    given: dict[str, Any] = {"max_pixels": config.max_pixels} if "max_pixels" in config.init else {}
    if config.init.get("path") is not None:
        given["path"] = str(paths.of_user(config.init["path"]))
    start: Tensor = layout.nodes.init(**small, generator=torch.Generator().manual_seed(config.seed), **given)
    return start


def _unreadable(config: Config, nodes: Nodes, architecture: str) -> list[str]:
    """Return one line for each layer that doesn't return features (1, C, H, W) for pictures of any size."""
    why = f"this layer of {architecture} doesn't return features (1, C, H, W) for pictures of any size"
    lines = []
    for part, names in (("content", config.layers.content), ("style", config.layers.style)):
        for name in names:
            if name == PIXELS:
                continue
            alone = replace(network(config, nodes, architecture), layers=[name]).make()
            if not alone.smallest_side():
                lines.append(problem(f"layers.{part}", name, why))
    return lines


def _check_normalizing(config: Config, nodes: Nodes, architecture: str) -> None:
    """Raise UserError for pictures in ``encoder.normalize_on`` that can't be read or are too small."""
    wanted = config.encoder.normalize_on
    if wanted is None:
        return
    lines: list[str] = []
    last = arch.layer_names(architecture)[-1]
    needed = replace(network(config, nodes, architecture), layers=[last]).make().smallest_side()
    for path in normalizing_pictures(wanted):
        read = partial(image.read, path, key="encoder.normalize_on", max_pixels=config.max_pixels)
        picture = attempt(lines, read)
        if picture is not None and min(image.fit(picture.height, picture.width, NORMALIZING)) < needed:
            why = f"at {NORMALIZING} px this picture is less than {needed} px wide or high; leave it out"
            lines.append(problem("encoder.normalize_on", path, why))
    if lines:
        raise UserError(lines)


def _check_goal(schedule: Schedule, folder: RunFolder) -> None:
    """Raise UserError if a resumed run has too few evaluations to reach its final size from its current one.

    The shape in its checkpoint must be that of a stage; if all evaluations are used up, that of the last one.
    """
    checkpoint = folder.newest_checkpoint()
    if checkpoint is None:
        return
    done, (height, width) = int(checkpoint.stem), shape_in(checkpoint)
    shapes = [stage.shape for stage in schedule.stages]
    if (height, width) not in (shapes if done < schedule.evaluations else shapes[-1:]):
        why = (
            f"the run has made {count(done, 'evaluation')}, and its picture is still {width} x {height} px; choose more"
        )
        raise UserError(problem("evaluations", schedule.evaluations, why))
    if schedule.evaluations < done:
        raise UserError(problem("evaluations", schedule.evaluations, f"the run has already made {done}; choose more"))


def _title(config: Config, named: Sequence[str], words: Sequence[str]) -> str:
    """Return the part of a folder's name that says what a run is: its pictures, and what distinguishes it in a sweep.

    It has no character with a meaning for shells or for Hydra, and at most 120 bytes.
    """
    pictures = f"{config.content.title}-{config.style.title}"
    said = ("content", "style", "content.path", "style.path", "assets", "threads", "name", "pair", "resume")
    values = {key: word.partition("=")[2] for key, word in zip(keys(words), words, strict=True)}
    told = [key for key in named if key not in said and key.partition(".")[0] != "logger"]
    chosen = {key: value for key, value in values.items() if key in told}
    short = {key: re.split(r"[./]", key)[-1] for key in chosen}
    name = {key: last if list(short.values()).count(last) == 1 else key for key, last in short.items()}
    parts = [pictures, *(_short(name[key], value) for key, value in chosen.items())]
    text = "-".join(re.sub(r"[^\w.+-]+", "_", part).strip("_") for part in parts)
    return text.encode()[:120].decode(errors="ignore")


def _short(name: str, value: str) -> str:
    """Return an override as a folder's name has it: style1e5 for 100000.0, and of words and paths the last part."""
    try:
        return name + written(float(value))
    except ValueError:
        word = Path(value.strip("'\"")).name
        return word if word.isidentifier() and word not in ("true", "false", "null") else f"{name}{word}"


def _quieten_lightning() -> None:
    """Silence Lightning's messages on devices, loaders and an unused srun.

    They don't apply: a run has no data set and uses one machine.
    """
    for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_fabric")
