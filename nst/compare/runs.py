"""Reading of run folders. Missing, half-written or damaged files are reported, and the rest is used."""

import contextlib
import csv
import io
import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from nst.errors import check_encoding
from nst.files.atomic import sha256
from nst.files.run_folder import RunFolder, run_folders
from nst.metrics.names import MEASURES, STYLE_LAYERS

STATES = ("completed", "running", "interrupted", "diverged", "failed")
#: The columns of the losses that are compared.
CURVES = ("total", "content", "style")
#: Seconds without a written file after which a run with the status ``running`` is considered dead.
SILENCE = 600.0

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass
class Run:
    """The content of one run's folder.

    Attributes:
        name: the run's path below the requested folder.
        config: the resolved configuration; empty if it can't be read.
        summary: the content of ``summary.json``; empty if it can't be read.
        metrics: the measures of the picture, by the observer's full name (``nst.metrics``).
        losses: a list for ``evaluation``, each of ``CURVES`` and, if the table has it, ``size``.
        picture: the result, else the newest snapshot, reduced in size; None if there is neither.
        problems: missing or damaged files, one line each.
    """

    name: str
    folder: RunFolder
    config: Mapping[str, Any] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    losses: Mapping[str, list[float]] = field(default_factory=dict)
    picture: Image.Image | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def status(self) -> str:
        """One of ``STATES``, ``stale`` for a running run that has not written for ``SILENCE``, or ``unknown``."""
        told = self.summary.get("status")
        if told not in STATES:
            return "unknown"
        return "stale" if told == "running" and self._silent() else str(told)

    def asset(self, name: str) -> Mapping[str, Any]:
        """Return where the content, the style or the weights came from; empty if unknown."""
        return section(section(self.summary, "assets"), name)

    def input(self, name: str, *, side: int) -> tuple[Image.Image | None, str]:
        """Return the content or the style picture, reduced to ``side`` px, or None and the reason."""
        asset = self.asset(name)
        if not asset.get("path"):
            return None, f"{name} is not known"
        path = Path(str(asset["path"]))
        picture = load_picture(path, side, [])
        if picture is None:
            return None, f"{path.name} is missing"
        changed = f"{path.name} has changed since the run"
        return (picture, "") if sha256(path) == asset.get("sha256") else (None, changed)

    def results(self) -> dict[str, float | None]:
        """Return the losses of the best picture (of an unfinished run, so far), and the evaluations and seconds."""
        losses = section(self.summary, "losses") or self._best_so_far()
        return {
            "total": number(losses.get("total")),
            **{f"{name}_loss": number(losses.get(name)) for name in ("content", "style", "tv")},
            "best_evaluation": number(self.summary.get("best_evaluation", losses.get("evaluation"))),
            "evaluations_done": number(self.summary.get("evaluations")) or (self.losses["evaluation"] or [0])[-1],
            "seconds": number(self.summary.get("seconds")),
        }

    def measures(self) -> dict[tuple[str, str], float]:
        """Return the measures of the picture that are known, by the observer's full name and the measure."""
        values = {observer: section(section(self.metrics, observer), "values") for observer in self.metrics}
        return {
            (observer, name): value
            for observer, held in values.items()
            for name in MEASURES
            if (value := number(held.get(name))) is not None and math.isfinite(value)
        }

    def own_judges(self) -> list[str]:
        """Return the observers that have the weights and a style layer of the encoder that painted the picture."""
        layers = section(self.config, "layers").get("style")
        if not isinstance(layers, list) or not set(layers) & set(STYLE_LAYERS):
            return []
        digest = self.asset("weights").get("sha256")
        return [name for name in self.metrics if digest and section(self.metrics, name).get("sha256") == digest]

    def _best_so_far(self) -> dict[str, float]:
        rows = [dict(zip(self.losses, row, strict=True)) for row in zip(*self.losses.values(), strict=True)]
        # Totals of different sizes don't compare.
        finite = [row for row in rows if math.isfinite(row["total"]) and row.get("size") == rows[-1].get("size")]
        return min(finite, key=lambda row: row["total"], default={})

    def _silent(self) -> bool:
        times = [_written(path) for path in (self.folder.summary, self.folder.losses, self.folder.log)]
        return time.time() - max(times) > SILENCE


def section(mapping: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return the mapping under ``key``; an empty one if there is none."""
    value = mapping.get(key)
    return value if isinstance(value, Mapping) else {}


def number(value: object) -> float | None:
    """Return ``value`` if it is a number; None otherwise."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        float(value)
    except OverflowError:  # a whole number of hundreds of digits
        return None
    return value


def find(folders: Sequence[Path], *, side: int) -> tuple[list[Run], list[str]]:
    """Return every run in and below the folders, once each, by name; and a line for each folder that can't be read.

    Pictures are reduced to ``side`` px on their longest side. Raise UserError for a missing folder, and if there is no
    run at all.
    """
    found, unread = run_folders(folders)
    top = os.path.commonpath([folder.absolute() for folder in folders])
    check_encoding([top, *map(str, found)])
    named = sorted((os.path.relpath(path.absolute(), top), path) for path in found)
    runs = [read(path, path.resolve().name if name == "." else name, side=side) for name, path in named]
    return runs, unread


def common(folders: Sequence[Path | str]) -> Path:
    """Return the folder that contains all of some folders; the current one if they share nothing but the root.

    A relative path stays relative.
    """
    given = list(map(Path, folders))
    given = [each.absolute() for each in given] if any(each.is_absolute() for each in given) else given
    try:
        found = Path(os.path.commonpath(given))
    except ValueError:  # folders of several drives
        return Path()
    return Path() if found == Path(found.anchor) else found


def read(path: Path, name: str, *, side: int) -> Run:
    """Return the run in the folder ``path``."""
    folder = RunFolder(path)
    run = Run(name, folder)
    run.summary = _mapping(folder.summary, json.loads, run.problems)
    # A run that failed before it began has only a summary.
    optional = run.summary.get("status") == "failed"
    run.config = _mapping(folder.config, _yaml, run.problems, optional=optional)
    run.metrics = folder.read_metrics()
    run.losses = _losses(folder.losses, run.problems)
    for candidate in (folder.result, *folder.saved_snapshots()[-1:]):
        run.picture = run.picture or load_picture(candidate, side, run.problems)
    if run.picture is None and run.status == "completed" and not folder.result.exists():
        run.problems.append(f"{folder.result.name} is missing")
    return run


def load_picture(path: Path, side: int, problems: list[str]) -> Image.Image | None:
    """Return a picture, reduced to ``side`` px on its longest side; None if there is none that can be read."""
    try:
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        problems.append(f"{path.name} can't be read: {_reason(error)}")
        return None
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    return picture


def _mapping(
    path: Path, parse: Callable[[str], Any], problems: list[str], *, optional: bool = False
) -> Mapping[str, Any]:
    try:
        value = parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        problems += [] if optional else [f"{path.name} is missing"]
        return {}
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        problems.append(f"{path.name} can't be read: {_reason(error)}")
        return {}
    if not isinstance(value, Mapping):
        problems.append(f"{path.name} can't be read: it contains no keys")
        return {}
    return value


def _losses(path: Path, problems: list[str]) -> dict[str, list[float]]:
    """Return the columns that are compared. Incomplete lines are left out and reported in ``problems``."""
    columns: dict[str, list[float]] = {"evaluation": [], **{name: [] for name in CURVES}}
    try:
        text = path.read_text(encoding="utf-8")
        header, *rows = list(csv.reader(io.StringIO(text))) or [[]]
        columns |= {"size": []} if "size" in header else {}
        places = [header.index(name) for name in columns] if header else []
    except FileNotFoundError:
        return columns
    except (OSError, ValueError, csv.Error) as error:
        problems.append(f"{path.name} can't be read: {_reason(error)}")
        return columns
    torn = len(rows) - 1 if not text.endswith("\n") else None
    for number, row in enumerate(rows):
        if len(row) == len(header) and number != torn:
            with contextlib.suppress(ValueError):
                values = [float(row[place]) for place in places]
                for column, value in zip(columns.values(), values, strict=True):
                    column.append(value)
    left_out = len(rows) - len(columns["evaluation"])
    if left_out:
        problems.append(f"{path.name}: {left_out} of {len(rows)} lines are incomplete and were left out")
    return columns


def _yaml(text: str) -> Any:
    return yaml.load(text, _Loader)  # noqa: S506 - a safe loader, in C if available


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _reason(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split())[:200]
