"""Measures of the picture in a run's folder, kept in its ``metrics.json``."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from nst import image as images
from nst.errors import UserError, file_problem, one_line, problem
from nst.files.atomic import sha256
from nst.files.run_folder import RunFolder
from nst.metrics import functional
from nst.metrics.names import PIXELS, has_one_style
from nst.metrics.observer import Observer, observed


def measure(folder: RunFolder, observer: Observer) -> dict[str, Any]:
    """Measure the picture of a run, and keep its measures in the folder. Return all of them, by observer.

    What was measured of the same picture before is kept. The style is the first one; with several styles, or a style in
    a region, only the content and the picture itself are measured.

    Raise UserError if the picture, the content or the style is missing, or isn't the one that the run had.
    """
    before = folder.read_metrics()
    if observer.name in before:
        return before
    if (why := file_problem(folder.result)) is not None:
        raise UserError(problem("result", folder.result, f"{why}; the run hasn't saved its picture yet"))
    picture = images.load(folder.result, key="result").to(observer.device)
    content = input_picture(folder, "content").to(observer.device)
    style = input_picture(folder, "style").to(observer.device) if has_style(folder) else None
    pictures = as_observed(picture, content, style)
    if PIXELS not in before:  # by another observer
        before[PIXELS] = {"sha256": None, "values": _finite(of_pixels(picture, *pictures))}
    found = {**before, observer.name: {"sha256": observer.sha256, "values": _finite(observer.values(*pictures))}}
    folder.write_metrics(found)
    return found


def as_observed(picture: Tensor, content: Tensor, style: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return image tensors (1, 3, H, W) at the sizes at which they are measured: the content has the picture's."""
    seen = observed(picture)
    return seen, images.resize(content, (seen.shape[-2], seen.shape[-1])), None if style is None else observed(style)


def of_pixels(picture: Tensor, seen: Tensor, own: Tensor, other: Tensor | None) -> dict[str, float]:
    """Return the measures of a picture that need no network; without a style, only those of it and its content.

    The other image tensors are the ones that ``as_observed`` returns.
    """
    values = {
        "clipped": functional.clipped(picture),
        "ssim": functional.structural_similarity(seen, own),
        "edge_ssim": functional.edge_similarity(seen, own),
    }
    if other is None:
        return values
    return values | {
        "palette": functional.palette_distance(seen, other),
        "color_histogram": functional.color_histogram_distance(seen, other),
        "grain": functional.grain(seen, own, other),
    }


def _finite(values: Mapping[str, float]) -> dict[str, float | None]:
    """Return the values, with None for those that are no number, as of a picture that is too small."""
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def input_picture(folder: RunFolder, name: str) -> Tensor:
    """Return the content or the style picture of a run. Raise UserError if it is missing, or was changed since."""
    asset = folder.read_summary().get("assets", {}).get(name) or {}
    path = asset.get("path")
    if not path:
        raise UserError(problem(name, path, "the run's summary doesn't name its picture"))
    if (why := file_problem(Path(path))) is not None:
        raise UserError(problem(name, path, why))
    if sha256(Path(path)) != asset.get("sha256"):
        raise UserError(problem(name, path, "the file has changed since the run"))
    return images.load(Path(path), key=name)


def has_style(folder: RunFolder) -> bool:
    """Return whether all of a run's picture has the same style. Raise UserError if its configuration can't be read."""
    try:
        return has_one_style(yaml.safe_load(folder.config.read_text(encoding="utf-8"))["style"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise UserError(problem("config", folder.config, f"this file can't be read: {one_line(error)}")) from error
