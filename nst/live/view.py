"""The progress of a run as HTML. It needs no script, no font and no other file."""

import base64
import html
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from PIL import Image

from nst.errors import count, written
from nst.live.progress import Progress

#: Longest side in px of the picture.
SIDE = 960

#: Width and height in px of the curves, the width of the labels to their left, and the curves' colours.
_WIDTH, _HEIGHT, _LEFT = 360, 150, 42
_COLORS = {"total": "#3b82f6", "content": "#10b981", "style": "#f59e0b"}

CSS = """
.nst-run { display: grid; grid-template-columns: minmax(0, 3fr) minmax(0, 2fr); gap: 1.2rem; line-height: 1.5; }
.nst-run img { width: 100%; max-height: 70vh; object-fit: contain; border-radius: 6px; display: block; }
.nst-run h2 { margin: 0 0 .4rem; font-size: 1.05rem; overflow-wrap: anywhere; }
.nst-run dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: .8rem 0; }
.nst-run dt { opacity: .7; } .nst-run dd { margin: 0; overflow-wrap: anywhere; }
.nst-run progress { width: 100%; accent-color: #3b82f6; }
.nst-run figure { margin: 0; } .nst-run figcaption { font-size: .85rem; opacity: .8; }
.nst-run svg { width: 100%; height: auto; }
.nst-run svg text { fill: currentColor; font: 11px system-ui, sans-serif; }
.nst-run .nst-empty { padding: 4rem 1rem; text-align: center; border: 1px dashed currentColor; border-radius: 6px; opacity: .6; }
.nst-run .nst-error { color: #dc2626; white-space: pre-wrap; overflow-wrap: anywhere; }
@media (max-width: 700px) { .nst-run { grid-template-columns: minmax(0, 1fr); } }
"""  # noqa: E501

STATUS = {
    "running": "Running",
    "paused": "Paused",
    "completed": "Completed",
    "interrupted": "Stopped; can be resumed",
    "killed": "The process ended during the run; can be resumed from the last checkpoint",
    "diverged": "Diverged",
    "failed": "Failed",
    "unknown": "Starting…",
    "starting": "Starting…",
    "stopping": "Stopping; the picture and a checkpoint are being saved",
    "measuring": "Measuring the picture",
    "finishing": "Finishing",
}

#: What is said instead of a run without a picture and an evaluation.
_UNBEGUN = {
    "interrupted": "Stopped before the first evaluation, so there is no picture yet; can be resumed",
    "killed": "The process ended before it saved a picture; can be resumed",
}


def run_html(progress: Progress, *, status: str | None = None) -> str:
    """Return the picture, the facts and the curves of a run, as an element that ``CSS`` styles.

    ``status`` is the text of its status, if it isn't that of ``STATUS``. The numbers of a run that is starting are
    those of its earlier session, so they aren't shown.
    """
    starts = progress.status in ("unknown", "starting")
    known = [("Status", status or _status(progress)), *([] if starts else _facts(progress)), *_stand_ins(progress)]
    facts = "".join(f"<dt>{name}</dt><dd>{html.escape(text)}</dd>" for name, text in known)
    error = f'<p class="nst-error">{html.escape(progress.error)}</p>' if progress.error and not starts else ""
    done = "" if starts else f'max="{max(1, progress.budget)}" value="{progress.evaluations}"'
    curves = "" if starts else _curves(progress.losses)
    return (
        f'<div class="nst-run"><div>{_picture(progress)}</div><div><h2>{html.escape(folder_name(progress.folder))}</h2>'
        f'<progress {done} aria-label="evaluations"></progress><dl>{facts}</dl>{error}{curves}</div></div>'
    )


def folder_name(folder: Path) -> str:
    """Return a folder's path from the folder that the program was started in, if it is below it."""
    return str(folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder)


def duration(seconds: float) -> str:
    """Return a duration as text: ``40 s``, ``3 min 20 s``, ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def stand_in_text(names: Sequence[str]) -> str:
    """Return which inputs of a run are bundled stand-ins, and why."""
    originals = "the original" if len(names) == 1 else "the originals"
    return f"{' and '.join(names)} ({originals} couldn't be downloaded)"


def evaluations_text(progress: Progress) -> str:
    """Return the number of evaluations, and how many there will be at most: ``20 of 300``."""
    return f"{progress.evaluations} of {progress.budget}" if progress.budget else str(progress.evaluations)


def _status(progress: Progress) -> str:
    begun = progress.picture is not None or progress.evaluations > 0
    return (STATUS if begun else {**STATUS, **_UNBEGUN}).get(progress.status, progress.status)


def _stand_ins(progress: Progress) -> Iterator[tuple[str, str]]:
    if progress.stand_ins:
        yield "Stand-in", stand_in_text(progress.stand_ins)


def _facts(progress: Progress) -> Iterator[tuple[str, str]]:
    yield "Evaluations", evaluations_text(progress)
    if progress.shape:
        place, number = progress.scale
        width, height = progress.shape
        yield "Size", f"{width} x {height} px" + (f", scale {place} of {number}" if number > 1 else "")
    if progress.rate is not None:
        yield "Speed", f"{progress.rate:.2g} evaluations/s"
    if progress.left is not None:
        yield "Left", f"about {duration(progress.left)}"
    elif progress.seconds is not None:
        yield "Took", duration(progress.seconds)
    if progress.memory is not None:
        yield "Memory", f"{progress.memory / 1e9:.2f} GB"
    for name, points in progress.losses.items():
        if points:
            yield f"Loss: {name}", written(progress.kept.get(name, points[-1][1]), 4)


def _picture(progress: Progress) -> str:
    if progress.picture is None:
        return '<div class="nst-empty">No picture yet</div>'
    try:
        data = _jpeg(progress.picture, progress.picture.stat().st_mtime)
    except OSError:  # it was moved in between
        return '<div class="nst-empty">No picture yet</div>'
    return (
        f'<img alt="the picture after {count(progress.evaluations, "evaluation")}" src="data:image/jpeg;base64,{data}">'
    )


@lru_cache(8)
def _jpeg(path: Path, changed: float) -> str:
    """Return a picture of at most ``SIDE`` px as a JPEG in base 64."""
    with Image.open(path) as opened:
        small = opened.convert("RGB")
    small.thumbnail((SIDE, SIDE))
    written_to = io.BytesIO()
    small.save(written_to, "JPEG", quality=90)
    return base64.b64encode(written_to.getvalue()).decode("ascii")


def _curves(losses: Mapping[str, Sequence[tuple[int, float]]]) -> str:
    """Return the losses relative to their largest values, on a logarithmic axis, as SVG."""
    largest = {name: max((value for _, value in points), default=0.0) for name, points in losses.items()}
    relative = {
        name: [(number, math.log10(value / largest[name])) for number, value in points]
        for name, points in losses.items()
        if len(points) > 1
    }
    if not relative:
        return ""
    levels = [level for points in relative.values() for _, level in points]
    low, high = min(-1, math.floor(min(levels))), 0
    last = max(points[-1][0] for points in relative.values())

    def place(number: int, level: float) -> str:
        x, y = number / last, (high - level) / (high - low)
        return f"{_LEFT + (_WIDTH - _LEFT - 10) * x:.1f},{10 + (_HEIGHT - 20) * y:.1f}"

    lines = []
    for level in range(low, high + 1):
        y = place(0, level).split(",")[1]
        lines.append(f'<path d="M{_LEFT} {y}H{_WIDTH - 10}" stroke="currentColor" stroke-opacity=".2"/>')
        lines.append(
            f'<text x="{_LEFT - 5}" y="{y}" text-anchor="end" dominant-baseline="middle">{written(10.0**level)}</text>'
        )
    for name, points in relative.items():
        path = " ".join(place(*point) for point in points)
        lines.append(f'<polyline points="{path}" fill="none" stroke="{_COLORS[name]}" stroke-width="1.8"/>')
    names = " ".join(f'<b style="color: {_COLORS[name]}">—</b> {name}' for name in relative)
    label = f"losses up to evaluation {last}, each relative to its largest value"
    svg = f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">{"".join(lines)}</svg>'
    return f"<figure>{svg}<figcaption>{names}: {label}</figcaption></figure>"
