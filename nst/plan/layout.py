"""The sizes of a run: its scales, the style pictures at each scale, and an encoder that only computes shapes."""

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from nst import image
from nst.config.nodes import Nodes, called, untiled
from nst.config.schema import Config
from nst.encoder import PIXELS
from nst.encoder import architecture as arch
from nst.encoder.base import Encoder
from nst.errors import UserError, choices, count, problem, written
from nst.image import Shape
from nst.objective.terms import JointTerm
from nst.objective.tiles import windows
from nst.optimizer.lbfgs import LBFGS
from nst.optimizer.schedule import Schedule, Stage
from nst.plan.network import Network, features_dtype


@dataclass(frozen=True)
class Layout:
    """Everything that decides shapes and memory. It needs neither pictures nor weights.

    Attributes:
        config: the validated configuration, with a precision other than ``auto``.
        nodes: the objects and factories made from its nodes.
        architecture: the encoder's architecture; the stand-in's if the requested weights are not available.
        geometry: the encoder without weights, which gives shapes and memory.
        shape: the height and width in px of the finished picture.
        sizes: the height and width in px of each picture file, by name.
        masks: the SHA-256 of each mask, by name.
    """

    config: Config
    nodes: Nodes
    architecture: str
    geometry: Encoder
    shape: Shape
    sizes: Mapping[str, Shape]
    masks: Mapping[str, str | None]

    @cached_property
    def schedule(self) -> Schedule:
        """The schedule of the scales. Raise UserError if they don't fit the picture, the evaluations or the layers."""
        config = self.config
        schedule: Schedule = self.nodes.schedule(shape=self.shape, evaluations=config.evaluations)
        height, width = schedule.stages[0].shape
        needed = self.geometry.smallest_side()
        if min(height, width) < needed:
            key = "smallest" if config.schedule.get("sizes") is None else "sizes"
            why = f"the first scale would be {width} x {height} px, but {deepest(config)} needs at least {needed} px on"
            why = f"{why} each side; choose larger scales or shallower layers"
            raise UserError(problem(f"schedule.{key}", config.schedule.get(key), why))
        return schedule

    @property
    def regions(self) -> set[str | None]:
        """The regions that have a style, by the SHA-256 of their masks; None is the whole picture."""
        return {self.masks.get(f"{key}.region") for key, style in self.config.styles.items() if style.weight}

    @property
    def largest_file(self) -> int:
        """The number of pixels of the largest picture file."""
        return max(height * width for height, width in self.sizes.values())

    def style_shapes(self, stage: Stage) -> dict[str, Shape]:
        """Return the height and width in px of each style with a nonzero weight, in proportion to a stage's picture."""
        return {key: _in_proportion(placed, self.shape, stage.shape) for key, placed in self._placed.items()}

    @cached_property
    def _placed(self) -> dict[str, Shape]:
        """The height and width in px of each style with a nonzero weight, for the finished picture."""
        return {
            key: image.placed_shape(
                self.sizes[key] if style.fit in ("fit", "own") else self.shape, self.shape, fit=style.fit,
                scale=style.scale,
            )
            for key, style in self.config.styles.items()
            if style.weight
        }  # fmt: skip

    @property
    def has_history(self) -> bool:
        """Whether the optimizer keeps curvature pairs: it is L-BFGS."""
        made = getattr(self.nodes.optimizer, "func", None)
        return isinstance(made, type) and issubclass(made, LBFGS)

    def check(self) -> None:
        """Raise UserError for scales, styles or tiles that don't fit."""
        lines = [*self._style_problems(), *self._share_problems(), *self._term_problems()]
        if lines:
            raise UserError(lines)

    def not_tiled(self) -> list[str]:
        """Return each part of the run that can't be computed tile by tile, as a user calls it."""
        lines = untiled(self.nodes, self.config.objective)
        if self.geometry.steps is None:
            lines.append(f"the encoder {self.config.encoder.architecture}")
        return lines

    def _style_problems(self) -> Iterator[str]:
        """Yield one line for each style that is too small for the layers at the first, smallest scale."""
        # The encoder reads a style up to the deepest layer of all.
        needed = self.geometry.smallest_side() if self.config.layers.style else 1
        for key, (height, width) in self.style_shapes(self.schedule.stages[0]).items():
            if min(height, width) < needed:
                style = self.config.styles[key]
                why = f"at the first scale the style would be {width} x {height} px, but the layers need {needed} px"
                why = f"{why} on each side; choose a larger value, or larger scales"
                yield problem(f"{key}.scale", style.scale, f"fit={style.fit}: {why}")

    def _term_problems(self) -> Iterator[str]:
        """Yield one line for each term that the optimizer can't follow, and each unsuitable layer, weight or stage."""
        objective, config = self.nodes.objective, self.config
        terms: dict[str, tuple[JointTerm, list[str]]] = {
            f"style.{name}": (term, config.layers.style) for name, term in objective.joint.items()
        }
        if isinstance(objective.content, JointTerm):
            terms["content"] = (objective.content, config.layers.content)
        for key, (term, layers) in terms.items():
            named = called(key, config.objective)
            if term.draws and self.has_history:
                why = f"{named} draws new samples at each evaluation, whose losses L-BFGS can't compare"
                yield f"optimizer: {why}; choose optimizer=adam"
            for layer in term.requires:
                if layer not in layers:
                    part = key.partition(".")[0]
                    both = shlex.quote(f"layers.{part}=[{','.join([*layers, layer])}]")
                    why = f"{named} also needs the layer {layer}: {both}"
                    yield problem(f"layers.{part}", f"[{', '.join(layers)}]", why)
        joint = {
            "content": isinstance(objective.content, JointTerm),
            "style": bool(objective.joint) and not objective.terms,
        }
        for part, whole in joint.items():
            weights: dict[str, float] = getattr(config.weights, f"{part}_layers")
            if whole and weights:
                given = ", ".join(f"{layer}: {written(factor)}" for layer, factor in weights.items())
                why = f"objective.{part} compares all layers at once, so single layers have no weights; choices: {{}}"
                yield problem(f"weights.{part}_layers", f"{{{given}}}", why)
        last = self.schedule.stages[-1]
        for key, names in {"finish": last.only or (), "factors.terms": last.terms}.items():
            for name in names:
                if name not in objective.style:
                    yield problem(
                        f"schedule.{key}", name, f"this is no term of objective.style; {choices(name, objective.style)}"
                    )
        if last.only is not None and set(last.only) >= set(objective.style):
            why = "these are all style terms, so the other scales have none; leave one out"
            yield problem("schedule.finish", f"[{', '.join(last.only)}]", why)

    def _share_problems(self) -> Iterator[str]:
        """Yield one line for each reason why the picture can't be cut into tiles, or not into one for each process."""
        devices, tile = self.config.trainer.devices, self.config.tile
        if devices > 1 or isinstance(tile, int):
            whole = self.not_tiled()
            given = f"trainer.devices={devices}" if devices > 1 else f"tile={tile}"
            why = "reads the picture as a whole, not in tiles; choices: tile=auto or tile=off, with trainer.devices=1"
            yield from (f"{given}: {what} {why}" for what in whole)
            if whole or devices == 1:
                return
            if tile == "off":
                why = f"trainer.devices={devices} needs tiles; choices: auto, or a size in px"
                yield problem("tile", "off", why)
                return
            number = len(windows(self.geometry, self.shape, 1 if tile == "auto" else tile))
            if number < devices:
                size = f"{self.shape[1]} x {self.shape[0]} px"
                why = f"tile={tile} gives only {count(number, 'tile')} of the picture ({size})"
                yield problem("trainer.devices", devices, f"{why}; choose fewer devices or smaller tiles")


def network(config: Config, nodes: Nodes, architecture: str, **weights: Any) -> Network:
    """Return the description of a configuration's encoder; without ``weights`` it has a geometry only."""
    return Network(
        config=config.encoder,
        layers=needed_layers(config),
        dtype=features_dtype(config),
        reach=nodes.objective.reach,
        pooling=nodes.pooling,
        own=nodes.network,
        architecture=architecture,
        **weights,
    )


def needed_layers(config: Config) -> list[str]:
    """Return every layer of the network that the objective reads."""
    return [name for name in (*config.layers.content, *config.layers.style) if name != PIXELS]


def deepest(config: Config) -> str:
    """Return the layer that is computed last."""
    layers = needed_layers(config)
    return layers[-1] if config.encoder.kind == "own" else arch.deepest(config.encoder.architecture, layers)


def _in_proportion(shape: Shape, whole: Shape, stage: Shape) -> Shape:
    """Return ``shape``, given for a picture of the size ``whole``, scaled to a picture of the size ``stage``."""
    height, width = (max(1, round(own * part / all_)) for own, part, all_ in zip(shape, stage, whole, strict=True))
    return height, width
