"""Plots of what was measured, as PNG."""

import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from benchmarks.against_baseline import evaluation as evaluations
from benchmarks.against_baseline import memory as memories
from benchmarks.against_baseline import pictures
from benchmarks.against_baseline.results import Record, Results, described
from nst.files.atomic import replacing

BASELINE = "#c1121f"


def evaluation(results: Results, path: Path) -> None:
    """Seconds of one evaluation against the size."""
    curves: dict[str, list[tuple[float, float]]] = {}
    for record in results.of("evaluation"):
        key, found = record["key"], evaluations.summary(record["values"])
        size = pictures.megapixels(key["size"])
        curves.setdefault(f"baseline, {key['device']}", []).append((size, found["baseline"]))
        curves.setdefault(f"ours {described(key)}, {key['device']}", []).append((size, found["ours"]))
    _save_curves(curves, "seconds of one evaluation", path)


def memory(results: Results, path: Path) -> None:
    """Peak memory of one evaluation against the size; what did not fit is left out."""
    curves: dict[str, list[tuple[float, float]]] = {}
    for record in results.of("memory"):
        if "bytes" in record["values"]:
            point = pictures.megapixels(record["key"]["size"]), record["values"]["bytes"] / 1e9
            curves.setdefault(f"{memories.label(record['key'])}, {record['key']['device']}", []).append(point)
    _save_curves(curves, "peak memory, GB", path)


def quality(results: Results, path: Path) -> None:
    """The loss of the best picture so far against seconds, a panel for each pair and start."""
    panels: dict[str, list[Record]] = {}
    for record in results.of("quality"):
        key = record["key"]
        panels.setdefault(f"{key['pair']}, {key['start']}, {key['size']} px, {key['device']}", []).append(record)
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(5 * columns, 3.8 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for panel in axes[len(panels) :]:
        panel.set_axis_off()
    for panel, (title, records) in zip(axes, panels.items(), strict=False):
        panel.set_title(title, fontsize=10)
        _race(panel, records, results)
    _save(figure, path)


def _race(axes: Axes, records: list[Record], results: Results) -> None:
    """The baseline's curve and ours, and where the baseline's best is; loss and seconds on logarithmic axes."""
    latest = records[-1]
    reference = _reference(latest["key"], results)
    if reference is not None:
        losses = [math.inf if loss is None else loss for loss in reference["losses"]]
        seconds = [latest["values"]["turn"] * (1 + number) for number in range(len(losses))]
        axes.plot(seconds, list(itertools.accumulate(losses, min)), color=BASELINE, label="baseline, best so far")
    axes.axhline(latest["values"]["baseline"]["loss"], color=BASELINE, linewidth=0.8, linestyle=":")
    for record in records:
        ours, reached = record["values"]["ours"], record["values"]["ours"]["reached"]
        label = f"ours {described(record['key'])}"
        points = [(seconds, loss) for _, seconds, loss in ours["curve"]]
        if points:
            [line] = axes.plot(*zip(*points, strict=True), label=label)
            if reached:
                axes.plot(reached[1], reached[2], "o", color=line.get_color())
    axes.set(xlabel="seconds", ylabel="the baseline's objective")
    _make_logarithmic(axes)
    axes.legend(fontsize=8)


def _reference(key: Mapping[str, Any], results: Results) -> dict[str, Any] | None:
    """The baseline's run that a record's raced against."""
    for record in results.of("reference"):
        if all(key[name] == value for name, value in record["key"].items()):
            values: dict[str, Any] = record["values"]
            return values
    return None


def _save_curves(curves: Mapping[str, list[tuple[float, float]]], what: str, path: Path) -> None:
    """Each curve against megapixels, on logarithmic axes."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for name, points in sorted(curves.items(), reverse=True):
        axes.plot(
            *zip(*sorted(points), strict=True),
            "o-",
            label=name,
            color=BASELINE if name.startswith("baseline") else None,
        )
    axes.set(xlabel="megapixels", ylabel=what)
    _make_logarithmic(axes)
    axes.legend(fontsize=8)
    _save(figure, path)


def _make_logarithmic(axes: Axes) -> None:
    """Both axes, with plain numbers at 1, 2 and 5 of each decade."""
    axes.set(xscale="log", yscale="log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.grid(visible=True, alpha=0.3)


def _save(figure: Figure, path: Path) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
