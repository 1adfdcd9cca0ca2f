"""Forecast of a run's memory before its first evaluation: how much it needs, whether it fits, and what would fit."""

import math
import shutil
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from nst import image
from nst.errors import UserError, folder_problem, problem
from nst.files import paths
from nst.objective import statistics
from nst.objective.terms import JointTerm
from nst.optimizer import compact
from nst.plan import memory
from nst.plan.layout import Layout, network


@dataclass(frozen=True)
class Forecast:
    """The predicted memory of one process of a run.

    Attributes:
        tile: the size of the tiles in px; None if the picture is read as a whole.
        parts: bytes at the peak of an evaluation at the picture's final size, by their use.
        reading: bytes while the picture files are read, before the first evaluation.
        notice: a notice to the user, if any.
    """

    tile: int | None
    parts: dict[str, int]
    reading: int
    notice: str | None = None

    @property
    def total(self) -> int:
        """Bytes at the peak."""
        return max(self.reading, sum(self.parts.values()))

    def __str__(self) -> str:
        if self.reading > sum(self.parts.values()):
            return f"{_gb(self.reading)} while the pictures are read"
        told = (f"{name} {_gb(taken)}" for name, taken in sorted(self.parts.items(), key=lambda part: -part[1]))
        return f"{_gb(self.total)} ({', '.join(told)})"


def forecast(layout: Layout, device: torch.device, room: int) -> Forecast:
    """Return the memory that a run needs on a device. ``tile=auto`` is chosen to stay well within ``room`` bytes."""
    config, geometry = layout.config, layout.geometry
    kept = _kept(layout, device)
    if config.tile == "auto" and layout.not_tiled():
        tile = None
    else:
        besides = sum(kept.values())
        tile = memory.settle(
            config.tile, geometry, layout.shape, room=room, besides=besides, processes=config.trainer.devices
        )
    itemsize = geometry.picture_dtype.itemsize
    reading = kept["program"] + memory.reading_bytes(layout.largest_file, itemsize) if device.type == "cpu" else 0
    evaluation = memory.evaluation_bytes(geometry, layout.shape, tile)
    for style in layout.style_shapes(layout.schedule.stages[-1]).values():
        evaluation = max(evaluation, memory.evaluation_bytes(geometry, style, tile, traced=False))
    return Forecast(tile, {**kept, "evaluation": evaluation}, reading)


def _kept(layout: Layout, device: torch.device) -> dict[str, int]:
    """Return the bytes that stay allocated between evaluations, by their use."""
    config, geometry = layout.config, layout.geometry
    stages = layout.schedule.stages
    itemsize = geometry.picture_dtype.itemsize
    numbers = 3 * math.prod(layout.shape) * itemsize
    styles = sum(3 * math.prod(style) * itemsize for style in layout.style_shapes(stages[-1]).values())
    shapes = geometry.shapes(layout.shape)
    return {
        "program": memory.of_program(device),
        "encoder": sum(weight.nbytes for weight in (*geometry.parameters(), *geometry.buffers())),
        "optimizer": _optimizer_bytes(layout, device, numbers),
        # content, image, best image, gradient, and the start of the scale if needed; and the styles and masks
        "pictures": (5 if layout.nodes.objective.matches else 4) * numbers + styles + len(layout.masks) * numbers // 3,
        "content targets": sum(
            memory.feature_bytes(geometry, stage.shape, config.layers.content) for stage in stages
        ),
        "statistics": sum(
            statistics.kept_bytes(term.statistic, shapes[name], weighted=region is not None)
            for region in layout.regions
            for term in layout.nodes.objective.statistics.values()
            for name in config.layers.style
        ) + _joint_bytes(layout),
    }  # fmt: skip


def _optimizer_bytes(layout: Layout, device: torch.device, numbers: int) -> int:
    """Return the bytes of the optimizer, for an image tensor of ``numbers`` bytes.

    L-BFGS has its pairs and about five vectors besides. Adam has two moments and the memory of a step, of which a
    pyramid makes a third more, and a mean.
    """
    config = layout.config
    vectors = 5 if layout.has_history else 12 if "averaging" in config.optimizer else 8
    pairs = _pair_bytes(layout, device, numbers)
    if config.scratch is not None:  # the vectors of a file are in memory one by one
        pairs = min(pairs, numbers)
    return (vectors * numbers + pairs) // _sharing(layout)


def _pair_bytes(layout: Layout, device: torch.device, numbers: int) -> int:
    """Return the bytes of the curvature pairs in all processes, for an image tensor of ``numbers`` bytes.

    There is at most one pair for each evaluation of the last scale: as planned, or all evaluations if it may begin
    earlier.
    """
    config, optimizer, stages = layout.config, layout.config.optimizer, layout.schedule.stages
    planned = config.resume is None and config.schedule.get("patience") is None
    coarse = [stage.end for stage in stages if stage.shape != stages[-1].shape]
    last = stages[-1].end - (coarse[-1] if planned and coarse else 0)
    pairs: int = min(optimizer.get("history_size", 0), last)
    if device.type != "cpu" or _sharing(layout) > 1:
        pairs = compact.places(pairs, optimizer.get("history_size", 0))
    return 2 * pairs * numbers // (1 if optimizer.get("history_dtype") is None else 2)


def _sharing(layout: Layout) -> int:
    """Return the number of processes that each keep a part of the optimizer's vectors."""
    optimizer = layout.config.optimizer
    shared = layout.has_history and optimizer.get("line_search_fn") is None
    return layout.config.trainer.devices if shared else 1


def _check_scratch(layout: Layout, device: torch.device) -> None:
    """Raise UserError if the curvature pairs can't be kept in the folder ``scratch``."""
    if layout.config.scratch is None or not layout.has_history:
        return
    folder = paths.of_user(layout.config.scratch)
    why = folder_problem(folder)
    if device.type != "cpu":
        why = f"the curvature pairs of a run on {device.type} are in its memory; choices: null"
    elif why is None:
        needed = _pair_bytes(layout, device, 3 * math.prod(layout.shape) * layout.geometry.picture_dtype.itemsize)
        free = shutil.disk_usage(folder).free
        if needed > free:
            why = f"the curvature pairs need {_gb(needed)}, but only {_gb(free)} are free on this disk"
            why += "; choose another folder, or a smaller optimizer.history_size"
    if why is not None:
        raise UserError(problem("scratch", layout.config.scratch, why))


def _joint_bytes(layout: Layout) -> int:
    """Return the bytes that the joint terms keep at the stage of the final size that needs most."""
    objective, shapes = layout.nodes.objective, layout.geometry.shapes(layout.shape)
    content, style = layout.config.layers.content, layout.config.layers.style
    of_content = 0
    if isinstance(objective.content, JointTerm):
        of_content = objective.content.kept_bytes({name: shapes[name] for name in content}, weighted=False)
    needed = [
        sum(
            term.kept_bytes({name: shapes[name] for name in style}, weighted=region is not None)
            for region in layout.regions
            for term in objective.weighted(stage.terms, stage.only).joint.values()
        )
        for stage in layout.schedule.stages
        if stage.shape == layout.shape
    ]
    return of_content + max(needed)


def settle(layout: Layout, device: torch.device) -> Forecast:
    """Return the memory that a run needs, with the size of its tiles.

    Raise UserError if there is less memory, with changes that would fit.
    """
    _check_scratch(layout, device)
    config = layout.config
    room = memory.room(device, config.memory, config.trainer.devices)
    chosen = forecast(layout, device, room)
    if chosen.total > room:
        fitting = list(_fitting(layout, device, room))
        what = f"choices that fit: {', '.join(fitting)}" if fitting else "nothing smaller would fit either"
        whose = "free" if config.memory == "auto" else "allowed"
        each = f" for each of its {config.trainer.devices} processes" if config.trainer.devices > 1 else ""
        why = f"the run needs about {chosen}{each}, but only {_gb(room)} are {whose}; {what}"
        raise UserError(problem("memory", config.memory, why))
    if config.tile == "auto" and chosen.tile is not None:
        whole = forecast(_changed(layout, "tile", "off"), device, room)
        if whole.total > memory.USED * room:
            notice = (
                f"The picture is computed in tiles of {chosen.tile} px. They need {_gb(chosen.total)} of the available "
                f"{_gb(room)}. Without tiles (tile=off), the picture would need about {_gb(whole.total)}."
            )
            return replace(chosen, notice=notice)
    return chosen


def _fitting(layout: Layout, device: torch.device, room: int) -> Iterator[str]:
    """Yield changes of one key with which the run would fit, each with the memory that it would need."""

    def taken(key: str, value: Any) -> int | None:
        """Return the bytes with the changed key; None if the changed configuration can't be run at all."""
        try:
            changed = _changed(layout, key, value)
            changed.check()
            return forecast(changed, device, room).total
        except UserError:
            return None

    def told(key: str, value: Any) -> Iterator[str]:
        total = taken(key, value)
        if total is not None and total <= room:
            yield f"{key}={value} ({_gb(total)})"

    def largest(key: str, values: Sequence[int]) -> Iterator[str]:
        """Yield the largest of ascending values that fits. The values that can't be run are the smallest ones."""
        first = bisect_left(values, True, key=lambda value: taken(key, value) is not None)
        possible = values[first:]
        number = bisect_left(possible, True, key=lambda value: (taken(key, value) or 0) > room)
        if number:
            yield from told(key, possible[number - 1])

    config = layout.config
    if config.tile != "auto" and not layout.not_tiled():
        yield from told("tile", "auto")
    if config.scratch is None and device.type == "cpu" and layout.has_history:
        yield from told("scratch", ".")
    if config.resume is not None:  # nothing else may change in a resumed run
        return
    if config.precision in (32, 64) and config.encoder.kind == "vgg":
        yield from told("precision", "bf16")
    if config.optimizer.get("history_dtype", "none") is None:
        yield from told("optimizer.history_dtype", "bfloat16")
    yield from largest("optimizer.history_size", range(1, config.optimizer.get("history_size", 0)))
    yield from largest("size", range(32, max(layout.shape), 32))


def _changed(layout: Layout, key: str, value: Any) -> Layout:
    """Return the layout with one key changed."""
    group, _, name = key.partition(".")
    update = {group: {**getattr(layout.config, group), name: value}} if name else {key: value}
    changed = replace(layout, config=layout.config.model_copy(update=update))
    if key == "precision":
        return replace(changed, geometry=network(changed.config, layout.nodes, layout.architecture).make())
    return replace(changed, shape=image.fit(*layout.shape, value)) if key == "size" else changed


def _gb(number: float) -> str:
    return f"{number / 1e9:.2f} GB"
