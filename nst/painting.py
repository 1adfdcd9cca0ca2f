"""What a run computes: its pictures, its scales, and the objective of each of them."""

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from nst import architecture as arch
from nst import color, encoder, graph, image, memory, nodes, oxford, precision, shared
from nst import config as schema
from nst.config import Config
from nst.encoder import AnyEncoder, Encoder
from nst.errors import UserError, problem
from nst.graph import GraphEncoder
from nst.inputs import BUNDLED, NORMALIZING, Inputs, is_mask, normalizing_pictures
from nst.module import StyleTransfer
from nst.objective import Formulas, Objective, Style, Weights, content_targets, functional, style_targets
from nst.recovery import Recovery
from nst.schedule import Schedule, Shape, Stage
from nst.shared import Recipe
from nst.team import Team
from nst.tile import windows


class Setting(NamedTuple):
    """What decides the bits of targets besides what they are made of: shape and tiles in px, device and threads."""

    shape: Shape
    tile: int | None
    device: torch.device
    threads: int


@dataclass(frozen=True)
class Painting:
    """The parts of a run that decide its picture, each made when it is asked for.

    Attributes:
        cfg: the composed configuration, for its nodes.
        config: the same, checked.
        files: the pictures and the weights.
    """

    cfg: DictConfig
    config: Config
    files: Inputs

    @cached_property
    def schedule(self) -> Schedule:
        """The scales; raises UserError where they don't fit the picture, the evaluations or the layers."""
        cfg, config = self.cfg, self.config
        schedule: Schedule = nodes.make(cfg, "schedule")(shape=self.files.shape, evaluations=config.evaluations)
        height, width = schedule.stages[0].shape
        needed = schema.smallest_side(config, schema.needed_layers(config))
        if min(height, width) < needed:
            deepest = arch.deepest(config.encoder.architecture, schema.needed_layers(config))
            key = "schedule.smallest" if cfg.schedule.get("sizes") is None else "schedule.sizes"
            why = f"the first scale would be {width} x {height} px, but {deepest} needs at least {needed} px on each"
            why = f"{why} side; choose larger ones, or layers less deep"
            raise UserError(problem(key, OmegaConf.select(cfg, key), why))
        return schedule

    @cached_property
    def pictures(self) -> dict[str, Tensor]:
        """The content image at the picture's size, the style images and masks at theirs, by name, and the start.

        Image tensors (1, 3, H, W), and masks (1, 1, H, W); the start has the shape of the first stage.
        """
        pictures = {"content": self._content_in_color}
        for key, style in self.config.styles.items():
            placed = partial(image.place, shape=self.files.shape, fit=style.fit, scale=style.scale)
            pictures[key] = placed(self._load(key))
            if self.config.color == "match":
                pictures[key] = color.matched(pictures[key], pictures["content"])
            if style.mask is not None:
                pictures[f"{key}.mask"] = placed(self._load(f"{key}.mask"))
            if style.region is not None:
                pictures[f"{key}.region"] = image.resize(self._load(f"{key}.region"), self.files.shape)
        if self.config.color == "luminance":
            pictures = {name: color.luminance(it) if it.shape[1] == 3 else it for name, it in pictures.items()}
        generator = torch.Generator().manual_seed(self.config.seed)
        first = self.schedule.stages[0].shape
        small = {name: image.resize(pictures[name], first) for name in ("content", "style")}
        limit = self.config.max_pixels
        given = {"max_pixels": limit} if "max_pixels" in self.cfg.init else {}  # it may change when a run goes on
        start = nodes.make(self.cfg, "init")(**small, generator=generator, **given)
        return {**pictures, "start": start}

    @cached_property
    def _content_in_color(self) -> Tensor:
        return image.resize(self._load("content"), self.files.shape)

    def _load(self, name: str) -> Tensor:
        """One of the pictures, or of the masks, at its own size."""
        assert self.config.precision != "auto"
        read = image.load_mask if is_mask(name) else image.load
        loaded = read(self.files.path(name), key=name, max_pixels=self.config.max_pixels)
        return loaded.to(precision.PICTURE[self.config.precision])

    def _finish(self, painted: Tensor) -> Tensor:
        """The picture that is kept: with the content's colours, where these are asked for."""
        finish = color.FINISHES.get(self.config.color)
        if finish is None:
            return painted
        return finish(image.resize(self._content_in_color, (painted.shape[-2], painted.shape[-1])), painted)

    @property
    def largest_file(self) -> int:
        """The pixels of the largest one of the picture files."""
        return max(image.pixels(self.files.path(name), key=name) for name in self.files.pictures)

    @cached_property
    def formulas(self) -> Formulas:
        """What makes up the objective."""
        made: Formulas = nodes.make(self.cfg, "objective")
        return made

    def style_shapes(self, stage: Stage) -> dict[str, Shape]:
        """The height and width in px of each style that counts, in a stage: in proportion to the picture's."""
        return {
            key: _in_proportion(placed, self.files.shape, stage.shape) for key, placed in self._placed_shapes.items()
        }

    @property
    def regions(self) -> set[str | None]:
        """The regions that have a style of their own, by the SHA-256 of their masks; None is all of the picture."""
        masks = [self.files.pictures.get(f"{key}.region") for key, style in self.config.styles.items() if style.weight]
        return {None if mask is None else mask.sha256 for mask in masks}

    @cached_property
    def _placed_shapes(self) -> dict[str, Shape]:
        """The height and width in px of each style that counts, beside the finished picture."""
        shapes = {}
        for key, style in self.config.styles.items():
            own = self.files.shape
            if style.weight and style.fit in ("fit", "own"):
                width, height = image.read(self.files.path(key), key=key, max_pixels=self.config.max_pixels).size
                own = height, width
            if style.weight:
                shapes[key] = image.placed_shape(own, self.files.shape, fit=style.fit, scale=style.scale)
        return shapes

    def check_styles(self) -> None:
        """Raises UserError for a style that is too small for the layers in one of the stages."""
        # The encoder reads a style up to the deepest layer of all.
        needed = schema.smallest_side(self.config, schema.needed_layers(self.config)) if self.config.layers.style else 1
        lines = []
        for key, (height, width) in self.style_shapes(self.schedule.stages[0]).items():
            if min(height, width) < needed:
                style = self.config.styles[key]
                why = f"at the first scale it would be {width} x {height} px, but the layers need {needed} px a side"
                lines.append(problem(f"{key}.scale", style.scale, f"fit={style.fit}: {why}; choose larger ones"))
        for key, style in self.config.styles.items():
            if style.mask is not None and style.fit == "crop":
                mask = image.place(self._load(f"{key}.mask"), self.files.shape, fit=style.fit, scale=style.scale)
                if not mask.any():
                    why = "what it marks is cut away by fit=crop; choose another fit, or mark what is in the middle"
                    lines.append(problem(f"{key}.mask", style.mask, why))
        if lines:
            raise UserError(lines)

    def check_shares(self) -> None:
        """Raises UserError for more processes than a picture has tiles."""
        devices, tile, shape = self.config.trainer.devices, self.config.tile, self.files.shape
        if devices == 1:
            return
        if tile == "off":
            why = f"trainer.devices={devices} share out the tiles of a picture; choices: auto, or a size in px"
            raise UserError(problem("tile", "off", why))
        number = len(windows(self.geometry, shape, 1 if tile == "auto" else tile))
        if number < devices:
            size = f"{shape[1]} x {shape[0]} px"
            why = f"tile={tile} can cut the picture, {size}, into {number} only; choose fewer devices or smaller tiles"
            raise UserError(problem("trainer.devices", devices, why))

    def module(self, device: torch.device) -> StyleTransfer:
        """The module that paints it on a device; ``cfg.tile`` has been settled."""
        assert self.cfg.tile != "auto"
        tile = None if self.cfg.tile == "off" else int(self.cfg.tile)
        content, schedule = self.pictures["content"], self.schedule
        return StyleTransfer(
            image=self.pictures["start"],
            schedule=schedule,
            objective=lambda stage, device: self._objective(stage, device, tile),
            carry=lambda picture, shape: schedule.carry(picture, image.resize(content, shape)),
            finish=self._finish,
            optimizer=nodes.make(self.cfg, "optimizer"),
            recovery=Recovery(**self.config.recovery.model_dump()),
            loss_scale=precision.LossScale() if self.config.precision == 16 else None,
        )

    @property
    def _encoder_key(self) -> Hashable:
        """What tells the encoder from others."""
        weights = self.files.weights.sha256 or self.config.seed
        layers = frozenset(schema.needed_layers(self.config))
        normalized = None if self.files.normalization is None else self.files.normalization.sha256
        made_of = (weights, self._convention, self.config.encoder.padding, normalized, self._calibrated)
        return self.files.architecture, made_of, layers, str(self.cfg.pooling), self.config.precision, self._reach

    @property
    def _reach(self) -> int:
        """How many positions beyond its own the objective looks at."""
        return max(map(functional.reach, self.formulas.statistics), default=0)

    @property
    def _content_key(self) -> Hashable:
        """What tells the content image tensor, and what is asked of it, from others."""
        layers, grey = tuple(self.config.layers.content), self.config.color == "luminance"
        return self.files.pictures["content"].sha256, self.files.shape, grey, layers

    def _style_key(self, key: str) -> Hashable:
        """What tells a style image tensor, with its mask and what is asked of it, from others."""
        style, files = self.config.styles[key], self.files.pictures
        digests = [files[name].sha256 for name in (key, f"{key}.mask") if name in files]
        seen = self._content_key if self.config.color == "match" else self.config.color
        asked = tuple(self.config.layers.style), self.formulas.kept
        return *digests, self.files.shape, style.fit, style.scale, seen, asked

    @property
    def _encoder(self) -> AnyEncoder:
        """The encoder, which the runs of a process share."""
        return shared.encoder(Recipe(self._encoder_key, lambda: self._make_encoder(self._weights())))

    @cached_property
    def geometry(self) -> AnyEncoder:
        """The same encoder without its weights' values, which takes neither time nor memory."""
        return self._make_encoder(None)

    def _make_encoder(self, state: encoder.State | None) -> AnyEncoder:
        assert self.config.precision != "auto"
        architecture, layers = self.files.architecture, schema.needed_layers(self.config)
        dtype = precision.ENCODER[self.config.precision]
        if self.config.encoder.is_graph:
            model = GraphEncoder(architecture, layers, state=state, dtype=dtype)
            if state is not None and self._calibrated:
                model.calibrate(self._small(normalizing_pictures("bundled"), key="encoder.calibrate"))
            return model
        return Encoder(
            architecture=architecture,
            layers=layers,
            pooling=nodes.make(self.cfg, "pooling"),
            state=encoder.no_state(architecture) if state is None else state,
            convention=self._convention,
            padding=self.config.encoder.padding,
            reach=self._reach,
            dtype=dtype,
        )

    @property
    def _convention(self) -> str:
        """The convention of the weights that were found."""
        own = {"package": "caffe", "stand-in": "torchvision"}
        return own.get(self.files.weights.source, self.config.encoder.convention)

    @property
    def _calibrated(self) -> bool:
        """Whether the layers are scaled; normalized filters are already."""
        return self.config.encoder.calibrate and self.config.encoder.normalize_on is None

    def _weights(self) -> encoder.State:
        files, wanted = self.files, self.config.encoder
        kind = graph if wanted.is_graph else encoder
        if files.weights.path is not None:
            state: encoder.State = kind.load_state(files.weights.path, files.architecture)
        else:
            state = kind.random_state(files.architecture, self.config.seed)
        if wanted.is_graph:
            return state
        state = encoder.up_to(state, files.architecture, schema.needed_layers(self.config))
        if wanted.normalize_on is not None:
            pictures = self._small(normalizing_pictures(wanted.normalize_on), key="encoder.normalize_on")
            pooling = nodes.make(self.cfg, "pooling")
            means = encoder.mean_activations(
                state,
                files.architecture,
                pictures,
                pooling=pooling,
                convention=self._convention,
                padding=wanted.padding,
            )
            return encoder.normalize(state, files.architecture, means)
        return encoder.calibrate(state, files.architecture, self._means(state)) if self._calibrated else state

    def _means(self, state: encoder.State) -> Mapping[str, float]:
        """The mean activation of each layer on the bundled pictures: known, or measured."""
        pooling = nodes.make(self.cfg, "pooling")
        if self.files.weights.source == "package" and str(pooling()) == str(torch.nn.AvgPool2d(2)):
            return oxford.MEANS
        if self.files.architecture == BUNDLED:
            return dict.fromkeys(encoder.available_layers(state, BUNDLED), encoder.SLIM_MEAN)
        pictures = self._small(normalizing_pictures("bundled"), key="encoder.calibrate")
        means = encoder.mean_activations(
            state, self.files.architecture, pictures, pooling=pooling, convention=self._convention
        )
        return {name: float(mean.mean()) for name, mean in means.items()}

    def _small(self, files: Sequence[Path], *, key: str) -> Iterator[Tensor]:
        """Pictures at the size for normalizing and calibrating, or larger where the layers need it."""
        limit = image.MAX_PIXELS if key == "encoder.calibrate" else self.config.max_pixels
        needed = schema.smallest_side(self.config, schema.needed_layers(self.config))
        for path in files:
            picture = image.load(path, key=key, max_pixels=limit)
            height, width = picture.shape[-2:]
            longest = max(NORMALIZING, math.ceil(needed * max(height, width) / min(height, width)))
            yield image.resize(picture, image.fit(height, width, longest))

    def _objective(self, stage: Stage, device: torch.device, tile: int | None) -> Objective:
        """What a stage minimizes; each process computes the targets for itself, from both pictures at its size."""

        def content() -> Tensor:
            return image.resize(self.pictures["content"], stage.shape).to(device)

        layers = self.config.layers
        encoder, team = self._encoder.to(device), Team.present()
        if tile is not None and team.size > 1 and len(windows(encoder, stage.shape, tile)) < team.size:
            tile = memory.share_out(encoder, stage.shape, tile, team.size)  # a smaller scale has fewer
        here = Setting(stage.shape, tile, device, torch.get_num_threads())
        weights = self.config.weights.model_dump()
        for name in ("content", "style", "tv"):
            weights[name] *= getattr(stage, name)
        weights["laplacian"] *= stage.content
        return Objective(
            encoder=encoder,
            formulas=self.formulas,
            weights=Weights(**weights),
            picture=content() if self.config.weights.laplacian else None,
            view=color.luminance if self.config.color == "luminance" else None,
            tile=tile,
            team=team,
            content=shared.content_targets((self._encoder_key, self._content_key))(
                Recipe(here, lambda: content_targets(encoder, content(), layers.content, tile=tile))
            ),
            styles=list(self._styles(stage, encoder, here)),
        ).to(device)

    def _styles(self, stage: Stage, encoder: AnyEncoder, here: Setting) -> Iterator[Style]:
        """The styles that count, at a stage's size; equal regions are one."""
        regions: dict[str | None, Tensor | None] = {None: None}
        for key, shape in self.style_shapes(stage).items():

            def targets(key: str = key, shape: Shape = shape) -> dict[str, list[Tensor]]:
                picture, mask = (self.pictures.get(name) for name in (key, f"{key}.mask"))
                assert picture is not None
                return style_targets(
                    encoder,
                    image.resize(picture, shape).to(here.device),
                    self.config.layers.style,
                    self.formulas.statistics,
                    mask=None if mask is None else image.resize(mask, shape).to(here.device),
                    tile=here.tile,
                )

            style = self.config.styles[key]
            region = self.files.pictures.get(f"{key}.region")
            digest = None if region is None else region.sha256
            if digest not in regions:
                regions[digest] = image.resize(self.pictures[f"{key}.region"], stage.shape).to(here.device)
            yield Style(
                targets=shared.style_targets(Recipe((self._encoder_key, here, self._style_key(key)), targets)),
                weight=style.weight,
                region=regions[digest],
            )


def _in_proportion(shape: Shape, whole: Shape, stage: Shape) -> Shape:
    """``shape`` beside a picture of the size ``whole``, where that has the size of a stage."""
    height, width = (max(1, round(own * part / all_)) for own, part, all_ in zip(shape, stage, whole, strict=True))
    return height, width
