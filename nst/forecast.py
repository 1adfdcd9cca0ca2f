"""What a run will take in memory, whether that fits, and what would: told before its first evaluation."""

import copy
import logging
import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from omegaconf import OmegaConf

from nst import image, memory, nodes
from nst.config import Config
from nst.errors import UserError, problem
from nst.inputs import is_mask
from nst.objective import functional
from nst.painting import Painting

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Forecast:
    """What one process of a run will take.

    Attributes:
        tile: the size of the tiles in px; None where the picture is read as a whole.
        parts: bytes at the peak of an evaluation of the picture's own size, by what takes them.
        reading: bytes while the picture files are read, before the first evaluation.
    """

    tile: int | None
    parts: dict[str, int]
    reading: int

    @property
    def total(self) -> int:
        """Bytes at the peak."""
        return max(self.reading, sum(self.parts.values()))

    def __str__(self) -> str:
        if self.reading > sum(self.parts.values()):
            return f"{_gb(self.reading)} while the pictures are read"
        told = (f"{name} {_gb(taken)}" for name, taken in sorted(self.parts.items(), key=lambda part: -part[1]))
        return f"{_gb(self.total)} ({', '.join(told)})"


def forecast(painting: Painting, device: torch.device, room: int) -> Forecast:
    """What a painting will take on a device; ``tile=auto`` is chosen such that it stays well within ``room`` bytes."""
    cfg, config = painting.cfg, painting.config
    kept = _kept(painting, device)
    geometry, shape = painting.geometry, painting.files.shape
    if config.tile == "auto" and nodes.not_tiled(cfg):
        tile = None
    else:
        besides = sum(kept.values())
        tile = memory.settle(config.tile, geometry, shape, room=room, besides=besides, processes=config.trainer.devices)
    itemsize = geometry.mean.element_size()
    reading = kept["program"] + memory.reading_bytes(painting.largest_file, itemsize) if device.type == "cpu" else 0
    evaluation = memory.evaluation_bytes(geometry, shape, tile)
    for style in painting.style_shapes(painting.schedule.stages[-1]).values():
        evaluation = max(evaluation, memory.evaluation_bytes(geometry, style, tile, traced=False))
    return Forecast(tile, {**kept, "evaluation": evaluation}, reading)


def _kept(painting: Painting, device: torch.device) -> dict[str, int]:
    """What stays between evaluations."""
    cfg, config, geometry = painting.cfg, painting.config, painting.geometry
    stages = painting.schedule.stages
    itemsize = geometry.mean.element_size()
    numbers = 3 * math.prod(painting.files.shape) * itemsize
    styles = sum(3 * math.prod(style) * itemsize for style in painting.style_shapes(stages[-1]).values())
    masks = sum(map(is_mask, painting.files.pictures))
    # Of L-BFGS its pairs, and about eight vectors besides; of Adam two moments and what a step needs.
    # As many pairs as the last scale has evaluations: at least what is planned for it, all where it may begin earlier.
    planned = config.resume is None and cfg.schedule.patience is None and len(stages) > 1
    last = stages[-1].end - (stages[-2].end if planned else 0)
    pairs = min(cfg.optimizer.get("history_size", 0), last)
    pairs *= 1 if cfg.optimizer.get("history_dtype") is None else 0.5
    shapes = geometry.shapes(painting.files.shape)
    return {
        "program": memory.of_program(device),
        "encoder": sum(weight.nbytes for weight in (*geometry.parameters(), *geometry.buffers())),
        "optimizer": int(numbers * (8 + 2 * pairs)),
        "pictures": 4 * numbers + styles + masks * numbers // 3,  # content, image, best image, gradient; and those
        "content targets": sum(
            memory.feature_bytes(geometry, stage.shape, config.layers.content) for stage in stages
        ),
        "statistics": sum(
            functional.kept_bytes(statistic, shapes[name][2:].numel(), weighted=region is not None)
            for region in painting.regions
            for statistic in painting.formulas.statistics for name in config.layers.style
        ),
    }  # fmt: skip


def settle(painting: Painting, device: torch.device) -> Forecast:
    """What a painting will take; its configuration has the size of the tiles from here on.

    Raises UserError where it is more than there is, with what would fit.
    """
    cfg, config = painting.cfg, painting.config
    room = memory.room(device, config.memory, config.trainer.devices)
    chosen = forecast(painting, device, room)
    if chosen.total > room:
        fitting = list(_fitting(painting, device, room))
        what = f"what would fit: {', '.join(fitting)}" if fitting else "nothing smaller would fit, either"
        whose = "free" if config.memory == "auto" else "allowed"
        each = f" for each of its {config.trainer.devices} processes" if config.trainer.devices > 1 else ""
        why = f"the run would take about {chosen}{each}, but {_gb(room)} are {whose}; {what}"
        raise UserError(problem("memory", config.memory, why))
    if config.tile == "auto" and chosen.tile is not None:
        whole = forecast(_changed(painting, {"tile": "off"}), device, room)
        if whole.total > memory.USED * room:
            log.warning(
                "The picture is read in tiles of %d px: as a whole it would take about %s, in tiles it takes %s, and "
                "there are %s. tile=off reads the whole.",
                chosen.tile, _gb(whole.total), _gb(chosen.total), _gb(room),
            )  # fmt: skip
    cfg.tile = "off" if chosen.tile is None else chosen.tile
    return chosen


def _fitting(painting: Painting, device: torch.device, room: int) -> Iterator[str]:
    """Changes of one key with which the run would fit, each with what it would take."""

    def taken(key: str, value: Any) -> int | None:
        """The bytes; None where the changed configuration can't be run at all."""
        try:
            changed = _changed(painting, {key: value})
            changed.check_styles()
            return forecast(changed, device, room).total
        except UserError:
            return None

    def told(key: str, value: Any) -> Iterator[str]:
        total = taken(key, value)
        if total is not None and total <= room:
            yield f"{key}={value} ({_gb(total)})"

    def largest(key: str, values: Sequence[int]) -> Iterator[str]:
        """The largest of ascending values that fits; those that can't be run are the smallest ones."""
        first = bisect_left(values, True, key=lambda value: taken(key, value) is not None)
        possible = values[first:]
        number = bisect_left(possible, True, key=lambda value: (taken(key, value) or 0) > room)
        if number:
            yield from told(key, possible[number - 1])

    cfg, config = painting.cfg, painting.config
    if config.tile != "auto" and not nodes.not_tiled(cfg):
        yield from told("tile", "auto")
    if config.resume is not None:  # of a run that goes on, nothing else may change
        return
    if config.precision in (32, 64) and not config.encoder.is_graph:
        yield from told("precision", "bf16")
    if cfg.optimizer.get("history_dtype", "none") is None:
        yield from told("optimizer.history_dtype", "bfloat16")
    yield from largest("optimizer.history_size", range(1, cfg.optimizer.get("history_size", 0)))
    yield from largest("size", range(32, max(painting.files.shape), 32))


def _changed(painting: Painting, changes: dict[str, Any]) -> Painting:
    """The same painting but for some keys."""
    cfg = copy.deepcopy(painting.cfg)
    for key, value in changes.items():
        OmegaConf.update(cfg, key, value)
    config = Config.model_validate(OmegaConf.to_container(cfg, resolve=True))
    files = painting.files
    if "size" in changes:
        files = replace(files, shape=image.fit(*files.shape, config.size))
    return Painting(cfg, config, files)


def _gb(number: float) -> str:
    return f"{number / 1e9:.2f} GB"
