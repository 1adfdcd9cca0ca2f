"""What a run computes: its pictures, its scales, and the objective of each of them."""

from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from nst import architecture as arch
from nst import config as schema
from nst import encoder, image, memory, nodes, precision, shared
from nst.config import Config
from nst.encoder import Encoder
from nst.errors import UserError, problem
from nst.inputs import Inputs
from nst.module import StyleTransfer
from nst.objective import Objective, Weights, content_targets, style_targets
from nst.recovery import Recovery
from nst.schedule import Schedule, Stage
from nst.shared import Recipe
from nst.team import Team
from nst.tile import windows


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
        needed = schema.smallest_side(config)
        if min(height, width) < needed:
            deepest = arch.deepest(config.encoder.architecture, schema.needed_layers(config))
            key = "schedule.smallest" if cfg.schedule.get("sizes") is None else "schedule.sizes"
            why = f"the first scale would be {width} x {height} px, but {deepest} needs at least {needed} px on each"
            why = f"{why} side; choose larger ones, or layers less deep"
            raise UserError(problem(key, OmegaConf.select(cfg, key), why))
        return schedule

    @cached_property
    def pictures(self) -> dict[str, Tensor]:
        """The content image at the picture's size, the style image stretched to it as the seed does, and the start.

        Image tensors (1, 3, H, W); the start has the shape of the first stage.
        """
        assert self.files.content.path is not None
        assert self.files.style.path is not None
        assert self.config.precision != "auto"
        dtype, shape = precision.PICTURE[self.config.precision], self.files.shape
        limit = self.config.max_pixels

        def picture(path: Path, key: str) -> Tensor:
            return image.resize(image.load(path, key=key, max_pixels=limit).to(dtype), shape)

        content = picture(self.files.content.path, "content.path")
        style = picture(self.files.style.path, "style.path")
        generator = torch.Generator().manual_seed(self.config.seed)
        first = self.schedule.stages[0].shape
        small = {"content": image.resize(content, first), "style": image.resize(style, first)}
        given = {"max_pixels": limit} if "max_pixels" in self.cfg.init else {}  # it may change when a run goes on
        start = nodes.make(self.cfg, "init")(**small, generator=generator, **given)
        return {"content": content, "style": style, "start": start}

    @property
    def largest_file(self) -> int:
        """The pixels of the largest one of the picture files."""
        files = {"content.path": self.files.content.path, "style.path": self.files.style.path}
        if "path" in self.cfg.init:
            files["init.path"] = Path(self.cfg.init.path)
        return max(image.pixels(path, key=key) for key, path in files.items() if path is not None)

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
            optimizer=nodes.make(self.cfg, "optimizer"),
            recovery=Recovery(**self.config.recovery.model_dump()),
            loss_scale=precision.LossScale() if self.config.precision == 16 else None,
        )

    @property
    def _encoder_key(self) -> Hashable:
        """What tells the encoder from others."""
        weights = self.files.weights.sha256 or self.config.seed
        layers = tuple(schema.needed_layers(self.config))
        return self.files.architecture, weights, layers, str(self.cfg.pooling), self.config.precision

    @property
    def _encoder(self) -> Encoder:
        """The encoder, which the runs of a process share."""
        return shared.encoder(Recipe(self._encoder_key, lambda: self._make_encoder(self._weights())))

    @cached_property
    def geometry(self) -> Encoder:
        """The same encoder without its weights' values, which takes neither time nor memory."""
        return self._make_encoder(encoder.no_state(self.files.architecture))

    def _make_encoder(self, state: encoder.State) -> Encoder:
        assert self.config.precision != "auto"
        return Encoder(
            architecture=self.files.architecture,
            layers=schema.needed_layers(self.config),
            pooling=nodes.make(self.cfg, "pooling"),
            state=state,
            dtype=precision.ENCODER[self.config.precision],
        )

    def _weights(self) -> encoder.State:
        files = self.files
        if files.weights.path is not None:
            return encoder.load_state(files.weights.path, files.architecture)
        return encoder.random_state(files.architecture, self.config.seed)

    def _objective(self, stage: Stage, device: torch.device, tile: int | None) -> Objective:
        """What a stage minimizes; each process computes the targets for itself, from both pictures at its size."""

        def picture(name: str) -> Tensor:
            return image.resize(self.pictures[name], stage.shape).to(device)

        formulas = nodes.make(self.cfg, "objective")
        layers = self.config.layers
        encoder, team = self._encoder.to(device), Team.present()
        if tile is not None and team.size > 1 and len(windows(encoder, stage.shape, tile)) < team.size:
            tile = memory.share_out(encoder, stage.shape, tile, team.size)  # a smaller scale has fewer
        here = (stage.shape, tile, device, torch.get_num_threads())
        weights = self.config.weights.model_dump()
        for name in ("content", "style", "tv"):
            weights[name] *= getattr(stage, name)
        weights["laplacian"] *= stage.content
        return Objective(
            encoder=encoder,
            formulas=formulas,
            weights=Weights(**weights),
            picture=picture("content") if self.config.weights.laplacian else None,
            tile=tile,
            team=team,
            content=shared.content_targets((self._encoder_key, self.files.content.sha256, self.files.shape))(
                Recipe(here, lambda: content_targets(encoder, picture("content"), layers.content, tile=tile))
            ),
            style=shared.style_targets(
                Recipe(
                    (self._encoder_key, here, self.files.style.sha256, formulas.kept),
                    lambda: style_targets(encoder, picture("style"), layers.style, formulas.statistics, tile=tile),
                )
            ),
        ).to(device)
