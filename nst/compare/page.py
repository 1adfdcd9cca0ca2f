"""The page: one self-contained HTML file that works from disk and requests nothing from a server."""

import base64
import hashlib
import io
import itertools
import json
import math
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
from PIL import Image

from nst.compare.comparison import FOREMOST, Comparison, Entry
from nst.compare.results import LOSSES, standing
from nst.compare.runs import CURVES, Run
from nst.compare.table import finite
from nst.compare.values import ABSENT, INPUTS, few, pair, shown
from nst.config.overrides import command
from nst.errors import count, typed
from nst.files.atomic import write_text
from nst.metrics.names import REPORTED, higher_is_better

#: Longest side in px of a picture on the page, unless the byte limit requires a smaller one.
SIDE = 480
#: Maximum bytes of all pictures of a page together, and of a single one, as JPEG; below, the same for the inputs.
ALL_PICTURES, ONE_PICTURE = 5_000_000, 96_000
ALL_INPUTS, ONE_INPUT = 800_000, 12_000
#: Maximum number of points of a curve.
POINTS = 120

#: At most so many values of a key can be chosen from a list, or are shown in the table of what differs.
CHOICES, EXAMPLES = 20, 10

_MIME = "data:image/jpeg;base64,"


def write(comparison: Comparison, path: Path) -> None:
    """Write the page atomically."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("nst.compare", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    script = _asset(environment, "page.filter.js") + _asset(environment, "page.js")
    inputs = _inputs(comparison)
    shared = {key: shown(value) for key, value in comparison.shared.items()}
    text = environment.get_template("page.html.j2").render(
        comparison=comparison,
        results=comparison.titles,
        reported=REPORTED,
        columns=list(dict.fromkeys([*comparison.foremost_results, *comparison.results])),
        cards=[_card(comparison, entry, path.parent) for entry in comparison.entries],
        by=few(comparison.foremost, FOREMOST),
        options={key: _counts(comparison, key) for key in _separating(comparison)},
        differences={key: _counts(comparison, key) for key in comparison.differing},
        examples=EXAMPLES,
        usual=comparison.usual_pairs(),
        pair=pair,
        count=count,
        shared=shared,
        provenance=[_provenance(entry) for entry in comparison.entries],
        colour=_telling(comparison),
        data=embedded([_data(comparison, entry, list(inputs), path.parent) for entry in comparison.entries]),
        common=embedded(
            {
                "inputs": list(inputs.values()),
                "shared": shared,
                "results": list(comparison.titles),
                "apart": [key for key in LOSSES if key not in comparison.losses],
                "better": {
                    key: "higher" if higher_is_better(key) else "lower" for key in comparison.ordered(comparison.titles)
                },
            }
        ),
        axes=_axes(comparison),
        seeds=_seeds(comparison),
        compared=_compared(comparison),
        directions=comparison.directions(comparison.foremost_results),
        style=_asset(environment, "page.css"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    write_text(path, text)


def embedded(value: Any) -> str:
    """Return ``value`` as JSON for a script element, escaped so that no name in it can end the element or start one."""
    text = json.dumps(finite(value), separators=(",", ":"), allow_nan=False, default=str)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def jpeg(picture: Image.Image, limit: int) -> tuple[str, int, int]:
    """Return the picture as a data URI of at most ``limit`` bytes (before base64), and its width and height in px.

    Reduce the quality first, then the size, down to a longest side of 48 px, at which the limit may be exceeded.
    """
    picture = picture.copy()
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    while True:
        for quality in (85, 75, 65, 55):
            file = io.BytesIO()
            picture.save(file, "JPEG", quality=quality, optimize=True)
            if file.tell() <= limit or max(picture.size) <= 48:
                return _MIME + base64.b64encode(file.getvalue()).decode(), *picture.size
        picture.thumbnail((picture.width * 4 // 5, picture.height * 4 // 5), Image.Resampling.LANCZOS)


def thinned(evaluations: Sequence[float], losses: Sequence[float], points: int = POINTS) -> list[list[float]]:
    """Return a curve as evaluations and losses in at most ``points`` points: the lowest and highest of each section.

    This keeps a spike of a single evaluation. Values that a logarithmic axis can't show are left out.
    """
    curve = [(at, loss) for at, loss in zip(evaluations, losses, strict=True) if loss > 0 and math.isfinite(loss)]
    if len(curve) > points:
        edges = [len(curve) * i // (points // 2) for i in range(points // 2 + 1)]
        stretches = [curve[start:end] for start, end in itertools.pairwise(edges)]
        by_loss = [(min(s, key=lambda p: p[1]), max(s, key=lambda p: p[1])) for s in stretches]
        curve = [point for pair in by_loss for point in sorted(set(pair))]
    return [[int(at) for at, _ in curve], [float(f"{loss:.4g}") for _, loss in curve]]


def _asset(environment: jinja2.Environment, name: str) -> str:
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _card(comparison: Comparison, entry: Entry, page: Path) -> dict[str, Any]:
    limit = min(ONE_PICTURE, ALL_PICTURES // len(comparison.entries))
    result = entry.run.folder.result
    picture = entry.run.picture
    return {
        "entry": entry,
        "label": comparison.label(entry),
        "also": comparison.unusual(entry, besides=comparison.foremost),
        "picture": None if picture is None else jpeg(picture, limit),
        "href": _link(result, page) if picture is not None and result.is_file() else None,
    }


def _link(target: Path, page: Path) -> str:
    relative = os.path.relpath(target.absolute(), page.absolute())
    return quote(Path(relative).as_posix())


def _counts(comparison: Comparison, key: str) -> list[tuple[str, int]]:
    """Return the values of a key, in order, and how many runs have each."""
    counts = Counter(entry.text(key) for entry in comparison.entries)
    return [(text, counts[text]) for text in comparison.values(key)]


def _separating(comparison: Comparison) -> list[str]:
    """Return the keys to choose values from: those that distinguish the runs best, without those of too many values."""
    few_values = [key for key in comparison.ranked if len(comparison.values(key)) <= CHOICES][:FOREMOST]
    status = ["status"] if len(comparison.values("status")) > 1 else []
    return [*(key for key in comparison.varied if key in few_values), *status]


def _provenance(entry: Entry) -> dict[str, str]:
    """Return the provenance of a run as readable texts."""
    run, told = entry.run, entry.run.summary
    versions = told.get("versions")
    memory = told.get("peak_memory_bytes")
    facts = {
        "started": told.get("started"),
        "commit": told.get("git_commit"),
        "device": told.get("device"),
        "precision": told.get("precision"),
        "threads": told.get("threads"),
        "seconds": entry.text("seconds"),
        "peak memory": f"{memory / 2**20:.0f} MiB" if isinstance(memory, int) else None,
        "size": f"{told.get('width')} x {told.get('height')} px" if told.get("width") else None,
        **{name: _origin(run, name) for name in INPUTS.values()},
        "versions": ", ".join(f"{k} {v}" for k, v in versions.items()) if isinstance(versions, dict) else None,
        "folder": str(run.folder.path.absolute()),
    }
    return {name: ABSENT if fact is None else str(fact) for name, fact in facts.items()}


def _command(run: Run) -> str | None:
    """Return the command that a run was started with; None if it isn't known."""
    words = run.summary.get("overrides")
    return command([typed(str(word)) for word in words]) if isinstance(words, list) else None


def _origin(run: Run, name: str) -> str | None:
    asset = run.asset(name)
    parts = [asset.get("source"), asset.get("path"), asset.get("sha256") and f"SHA-256 {asset['sha256']}"]
    if asset.get("source") == "random":
        parts.append(asset.get("detail"))
    return " · ".join(str(part) for part in parts if part) or None


def _inputs(comparison: Comparison) -> dict[str, str]:
    """Return each content and style picture once, as a small data URI, by its SHA-256."""
    known = {
        str(entry.run.asset(name).get("sha256")): (entry.run, name)
        for entry in comparison.entries
        for name in ("content", "style")
    }
    limit = min(ONE_INPUT, ALL_INPUTS // max(1, len(known)))
    found = {digest: run.input(name, side=SIDE // 3)[0] for digest, (run, name) in known.items()}
    return {digest: jpeg(picture, limit)[0] for digest, picture in found.items() if picture is not None}


def _telling(comparison: Comparison) -> str:
    """Return the key to colour curves by: the one with the most values up to 8, which colours can still distinguish."""
    counts = {key: len(comparison.values(key)) for key in comparison.foremost}
    return max((key for key, count in counts.items() if count <= 8), key=lambda key: counts[key], default="run")


def _axes(comparison: Comparison) -> dict[str, str]:
    """Return the results that the scatter plot begins with: one of the content against one of the style."""
    comparable = [key for key in comparison.results if key not in LOSSES or key in comparison.losses]
    known = {key.rpartition("/")[2]: key for key in reversed(comparable)}  # by the first observer, if there are several
    pairs = [("ssim", "frechet"), ("cfsd", "gram"), ("content_loss", "style_loss")]
    found = [(known[x], known[y]) for x, y in pairs if {x, y} <= known.keys()]
    held = comparison.results
    rest = pairs[-1] if set(pairs[-1]) <= set(held) else ((held or ["total"])[0],) * 2
    x, y = found[0] if found else rest
    return {"x": x, "y": y}


def _compared(comparison: Comparison) -> list[str]:
    """Return the results by which pictures are better or worse, those first that are shown first."""
    told = [key for key in comparison.results if key not in ("best_evaluation", "evaluations_done")]
    return list(dict.fromkeys([*comparison.foremost_results, *told]))


def _seeds(comparison: Comparison) -> list[dict[str, Any]]:
    """Return the rows of the runs that differ in ``seed`` alone: their results, and whether they are really apart."""
    rows = [row for row in comparison.rows if len(row.entries) > 1]
    keys = _compared(comparison)
    columns = [standing([row.spread(key) for row in rows], higher_is_better=higher_is_better(key)) for key in keys]
    firsts = [row.entries[0] for row in rows]
    labels = [", ".join(first.label(key) for key in comparison.unusual(first, ["seed"])) for first in firsts]
    return [
        {
            "label": labels[n] or "the usual values",
            "seeds": row.text("seed"),
            "results": [(row.text(key), column[n]) for key, column in zip(keys, columns, strict=True)],
        }
        for n, row in enumerate(rows)
    ]


def _data(comparison: Comparison, entry: Entry, inputs: Sequence[str], page: Path) -> dict[str, Any]:
    """Return the script's data of a run: values to sort and filter by, curves, and the content of its details."""
    keys = ("run", "status", *comparison.differing, *comparison.titles)
    losses = entry.run.losses
    return {
        "label": comparison.label(entry),
        "values": {key: entry.key(key) for key in keys},
        "texts": {key: entry.text(key) for key in keys},
        "marks": [mark.text for mark in entry.marks],
        "search": " ".join(
            [
                entry.run.name,
                entry.run.status,
                *(mark.short for mark in entry.marks),
                *map(entry.text, comparison.varied),
            ]
        ),
        "provenance": _provenance(entry),
        "command": _command(entry.run),
        "film": next((_link(film, page) for film in entry.run.folder.films() if film.is_file()), None),
        "inputs": {
            name: inputs.index(str(digest))
            for name in ("content", "style")
            if (digest := entry.run.asset(name).get("sha256")) in inputs
        },
        "curves": {name: thinned(losses["evaluation"], losses[name]) for name in CURVES},
    }
