"""Construction of a run's objects from its plan: the module, its objectives and the trainer."""

import functools
import os
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import pytorch_lightning as pl
import torch
from omegaconf import OmegaConf
from pytorch_lightning.profilers import PassThroughProfiler
from torch import Tensor

from nst import image
from nst.callbacks import Checkpoint, Overview, Record, Stop
from nst.config.identity import fingerprint, note
from nst.encoder import precision
from nst.encoder.base import Encoder
from nst.files.run_folder import RunFolder
from nst.image import Shape, color
from nst.objective import Formulas, Objective, Style, Weights, content_targets, matched, style_targets
from nst.objective.processes import Team
from nst.objective.terms import Targets
from nst.objective.tiles import windows
from nst.optimizer.graphs import RecordedObjective
from nst.optimizer.module import StyleTransfer
from nst.optimizer.recovery import Recovery
from nst.optimizer.schedule import Stage
from nst.plan import memory
from nst.plan.checking import normalizing_pictures
from nst.plan.devices import TileStrategy
from nst.plan.forecast import Forecast
from nst.plan.layout import network
from nst.plan.network import small_pictures
from nst.plan.planning import Plan
from nst.run import loggers

T = TypeVar("T")

#: Number of threads for runs that don't set it: torch's choice for this process, or OMP_NUM_THREADS.
THREADS = torch.get_num_threads()


class Kept(Generic[T]):
    """A cache that makes objects by key, and keeps the last few for the next runs of this process.

    Args:
        most: how many objects are kept. An old one is dropped before a new one is made, so there are never more.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._made: dict[Hashable, T] = {}

    def __call__(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return the object of a key, made anew if none is kept."""
        if key in self._made:
            made = self._made.pop(key)
        else:
            while len(self._made) >= self.most:
                del self._made[next(iter(self._made))]
            made = make()
        self._made[key] = made
        return made


#: Only the last encoder, since VGG-19 takes 80 MB.
encoders: Kept[Encoder] = Kept(1)
#: The targets of recent styles and scales. They are small, whatever the picture's size.
style_statistics: Kept[Targets] = Kept(24)
#: The content's features at the scales of a picture: only the last picture's, since they grow with its size.
content_features: Kept[Kept[dict[str, Tensor]]] = Kept(1)


class Setting(NamedTuple):
    """Settings that affect targets bit by bit, besides their inputs: shape and tiles in px, device and threads."""

    shape: Shape
    tile: int | None
    device: torch.device
    threads: int


@dataclass(frozen=True)
class Run:
    """The objects of a run.

    Attributes:
        hyperparameters: what loggers show as such.
        format: the file format of the picture.
        note: the text that is embedded in the picture.
    """

    module: StyleTransfer
    trainer: pl.Trainer
    record: Record
    stop: Stop
    checkpoint: Path | None
    forecast: Forecast
    hyperparameters: dict[str, str | float]
    format: str
    note: str


def build(plan: Plan, folder: RunFolder, *, choices: Mapping[str, str], shown: Sequence[str], goes_on: bool) -> Run:
    """Make the objects of a run in a folder.

    ``choices`` are the names of the chosen options, by group. ``shown`` are the keys and groups that distinguish the
    run from others; they become the loggers' hyperparameters. With ``goes_on``, the run is resumed from its newest
    checkpoint, or restarted if it has none.
    """
    _seed(plan)
    checkpoint = folder.newest_checkpoint() if goes_on else None
    record, stop = Record(folder=folder), Stop()
    hyperparameters = loggers.hyperparameters(plan, choices, shown)
    assets = OmegaConf.to_yaml(OmegaConf.create(plan.files.provenance()))
    overview = Overview(
        pictures={**plan.pictures.tensors, "start": plan.start},
        texts={"configuration": plan.yaml, "assets": assets},
        hyperparameters=hyperparameters,
    )
    trainer: Any = plan.trainer
    trainer.callbacks.extend([record, overview, stop, *loggers.make_callbacks(plan, folder)])
    trainer.loggers = loggers.make_loggers(plan, folder, checkpoint, goes_on=goes_on)
    _place(trainer, folder)
    return Run(
        module=_module(plan),
        trainer=trainer,
        record=record,
        stop=stop,
        checkpoint=checkpoint,
        forecast=plan.forecast,
        hyperparameters=hyperparameters,
        format=plan.config.output,
        note=note(plan.raw, plan.files.digests()),
    )


def build_follower(plan: Plan, folder: RunFolder) -> tuple[StyleTransfer, pl.Trainer]:
    """Make the module and the trainer of a process that computes the same run.

    It writes nothing except a profile and its part of checkpoints.
    """
    _seed(plan)
    trainer: Any = plan.trainer
    saving = [each for each in loggers.make_callbacks(plan, folder) if isinstance(each, Checkpoint)]
    trainer.callbacks.extend([*saving, Stop()])
    _place(trainer, folder)
    return _module(plan), trainer


def _place(trainer: Any, folder: RunFolder) -> None:
    """Give the run's folder to the strategy, and to a profiler, which would otherwise only log its report."""
    if isinstance(trainer.strategy, TileStrategy):
        trainer.strategy.folder = folder.path
    if not isinstance(trainer.profiler, PassThroughProfiler):
        trainer.profiler.dirpath = trainer.profiler.dirpath or folder.profile
        trainer.profiler.filename = trainer.profiler.filename or "report"


def _seed(plan: Plan) -> None:
    """Set the number of threads and the random seed, the same in every process of a run."""
    config = plan.config
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    elif config.trainer.devices > 1 and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // config.trainer.devices))
    else:
        torch.set_num_threads(THREADS)
    pl.seed_everything(config.seed, verbose=False)


def _module(plan: Plan) -> StyleTransfer:
    """Return the module that optimizes the picture."""
    content, schedule, config = plan.pictures.tensors["content"], plan.schedule, plan.config
    return StyleTransfer(
        image=plan.start,
        schedule=schedule,
        objective=functools.partial(_objective, plan),
        carry=lambda picture, shape: schedule.carry(picture, image.resize(content, shape)),
        finish=lambda painted: plan.pictures.finish(painted, config),
        optimizer=plan.optimizer,
        recovery=Recovery(**config.recovery.model_dump()),
        loss_scale=precision.LossScale() if config.precision == 16 else None,
        draws=plan.nodes.objective.draws,
        matches=plan.nodes.objective.matches,
    )


def _objective(plan: Plan, stage: Stage, device: torch.device, start: Tensor | None = None) -> Objective:
    """Return the objective of a stage, which may depend on its ``start``.

    Each process computes the targets itself, from the pictures at that size.
    """
    config, tensors = plan.config, plan.pictures.tensors
    formulas = plan.nodes.objective.weighted(stage.terms, stage.only)
    view = color.luminance if config.color == "luminance" else None

    def content() -> Tensor:
        return image.resize(tensors["content"], stage.shape).to(device)

    tile = plan.forecast.tile
    key, encoder = _encoder(plan)
    encoder, team = encoder.to(device), Team.present()
    if tile is not None and team.size > 1 and len(windows(encoder, stage.shape, tile)) < team.size:
        tile = memory.share_out(encoder, stage.shape, tile, team.size)  # a smaller scale has fewer tiles
    here = Setting(stage.shape, tile, device, torch.get_num_threads())
    weights = config.weights.model_dump()
    for name in ("content", "style", "tv"):
        weights[name] *= getattr(stage, name)
    weights["laplacian"] *= stage.content
    of_content = (key, fingerprint(plan.raw, "content"), plan.files.pictures["content"].sha256, plan.pictures.shape)
    regions = {
        str(plan.files.pictures[f"{name}.region"].sha256): image.resize(tensors[f"{name}.region"], stage.shape).to(
            device
        )
        for name, style in config.styles.items()
        if style.weight and style.region is not None
    }
    styles = list(_styles(plan, stage, formulas, key, encoder, here))
    if formulas.matches:
        picture = None if start is None else start.to(device) if view is None else view(start.to(device))
        match = functools.partial(matched, encoder, layers=config.layers.style, formulas=formulas, content=content())
        masks: dict[str | None, Tensor | None] = {None: None}
        masks.update(regions)
        styles = [
            replace(style, targets=match(style.targets, picture=picture, mask=masks[style.region])) for style in styles
        ]
    made = RecordedObjective if config.cuda_graphs else Objective
    return made(
        encoder=encoder,
        formulas=formulas,
        weights=Weights(**weights),
        content=content_features(of_content, lambda: Kept(8))(
            here, lambda: content_targets(encoder, content(), config.layers.content, tile=tile)
        ),
        styles=styles,
        regions=regions,
        picture=content() if config.weights.laplacian else None,
        view=view,
        tile=tile,
        team=team,
        seed=config.seed,
    ).to(device)


def _styles(
    plan: Plan, stage: Stage, formulas: Formulas, key: Hashable, encoder: Encoder, here: Setting
) -> Iterator[Style]:
    """Yield the styles with a nonzero weight, at a stage's size. Regions with equal masks are one region."""
    config, tensors, files = plan.config, plan.pictures.tensors, plan.files.pictures
    terms = tuple(formulas.style)
    of_all = (key, here, fingerprint(plan.raw, "style"), plan.pictures.shape, files["content"].sha256, terms)
    for name, shape in plan.layout.style_shapes(stage).items():

        def targets(name: str = name, shape: Shape = shape) -> Targets:
            mask = tensors.get(f"{name}.mask")
            return style_targets(
                encoder,
                image.resize(tensors[name], shape).to(here.device),
                config.layers.style,
                formulas,
                mask=None if mask is None else image.resize(mask, shape).to(here.device),
                tile=here.tile,
                seed=config.seed,
            )

        digests = tuple(files[each].sha256 for each in (name, f"{name}.mask") if each in files)
        region = files.get(f"{name}.region")
        yield Style(
            # The targets of joint terms grow with the picture, and depend on the seed.
            targets=targets() if formulas.joint else style_statistics((of_all, name, digests), targets),
            weight=config.styles[name].weight,
            region=None if region is None else str(region.sha256),
        )


def _encoder(plan: Plan) -> tuple[Hashable, Encoder]:
    """Return the key that identifies the encoder, and the encoder, which the runs of a process share."""
    config, files = plan.config, plan.files

    def small(key: str) -> Iterator[Tensor]:
        own = key == "encoder.normalize_on"
        wanted = config.encoder.normalize_on if own else "bundled"
        return small_pictures(
            normalizing_pictures(str(wanted)),
            key=key,
            needed=plan.layout.geometry.smallest_side(),
            max_pixels=config.max_pixels if own else image.MAX_PIXELS,
        )

    made_of = network(config, plan.nodes, files.architecture, weights=files.weights, seed=config.seed, small=small)
    normalized = None if files.normalization is None else files.normalization.sha256
    key = (fingerprint(plan.raw, "encoder"), made_of.key, normalized)
    return key, encoders(key, made_of.make)
