"""The runs below the folder of outputs, as the gallery shows them."""

import html
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image

from nst.config.overrides import command
from nst.errors import UserError, typed, written
from nst.files.run_folder import RunFolder, run_folders
from nst.image import reading
from nst.live.progress import UNFINISHED, newest_picture, progress, status_of
from nst.live.view import STATUS, duration, evaluations_text, folder_name, stand_in_text
from nst.metrics.names import MEASURES, directions

#: Number of runs that are shown at most; longest side in px of a small picture and of a large one.
SHOWN = 60
SMALL, LARGE = 320, 1024

#: Statuses in the captions, if they aren't the summary's own words.
ENDED = {"interrupted": "stopped", "killed": "stopped"}

#: Number of comparisons whose pages are kept.
COMPARISONS = 20


@dataclass(frozen=True)
class Entry:
    """A run of the gallery.

    Attributes:
        folder: its folder.
        name: the folder's path below the outputs.
        summary: the content of its summary.
    """

    folder: Path
    name: str
    summary: Mapping[str, Any]

    @property
    def title(self) -> str:
        """The run's own name."""
        return str(self.summary.get("name", self.name))

    @property
    def status(self) -> str:
        """The run's status: ``killed`` if its process ended without having said so."""
        return status_of(self.summary)

    def says(self, words: Sequence[str]) -> bool:
        """Return whether the run's name, folder, overrides and choices have all of some words."""
        choices = " ".join(f"{key}={value}" for key, value in (self.summary.get("choices") or {}).items())
        status = f"{self.status} {ENDED.get(self.status, '')}"
        text = " ".join([self.name, self.title, status, choices, *map(str, self.overrides)]).lower()
        return all(word in text for word in words)

    @property
    def overrides(self) -> list[str]:
        """The overrides that the run was started with."""
        return [str(word) for word in self.summary.get("overrides") or []]

    @property
    def picture(self) -> Path | None:
        """The run's newest picture."""
        return newest_picture(RunFolder(self.folder), self.status)

    def content(self) -> Path | None:
        """Return the content's file, if it is there."""
        path = ((self.summary.get("assets") or {}).get("content") or {}).get("path")
        return Path(path) if path and Path(path).is_file() else None

    def film(self) -> Path | None:
        """Return the run's film, if it has one."""
        return next((path for path in RunFolder(self.folder).films() if path.is_file()), None)


def entries(outputs: Path, words: str = "") -> list[Entry]:
    """Return the newest runs below a folder whose texts have all of some words, at most ``SHOWN``.

    A run is as new as its last change: one that is resumed is new again.
    """
    try:
        folders, _ = run_folders([outputs])
    except UserError:  # there is none yet
        return []
    found = [entry for folder in folders if (entry := _entry(folder, outputs)) is not None]
    found.sort(key=lambda entry: RunFolder(entry.folder).changed(), reverse=True)
    wanted = words.lower().split()
    return [entry for entry in found if entry.says(wanted) and entry.picture is not None][:SHOWN]


def captions(shown: Sequence[Entry]) -> list[str]:
    """Return the texts below the pictures of runs: overrides that not all of them have, the rarest first, paths last.

    A run without such overrides has its name. Runs that would have the same text also have the names of their folders.
    """
    words = [list(map(_short, entry.overrides)) for entry in shown]
    numbers = Counter(word for each in words for word in set(each))
    texts = []
    for entry, each in zip(shown, words, strict=True):
        differing = (word for word in each if numbers[word] < len(shown))
        own = sorted(differing, key=lambda word: (_is_path(word), numbers[word]))
        ended = "" if entry.status == "completed" else f"{ENDED.get(entry.status, entry.status)}: "
        texts.append(ended + (" ".join(own) or entry.title))
    again = Counter(texts)
    return [text if again[text] == 1 else f"{entry.name} {text}" for entry, text in zip(shown, texts, strict=True)]


def _is_path(word: str) -> bool:
    return word.partition("=")[0].endswith((".path", ".region", ".mask"))


def _short(word: str) -> str:
    """Return an override without quotes, and with a path's last part alone: a dropped file is in each run's folder."""
    key, _, value = typed(word).partition("=")
    quote = value[:1] if value[:1] in ("'", '"') and value.endswith(value[:1]) else ""
    return f"{key}={value.removeprefix(quote).removesuffix(quote).rpartition('/')[2]}"


def entry_of(outputs: Path, name: str) -> Entry | None:
    """Return the run of a name below the outputs; None if it isn't there any more."""
    folder = outputs / name
    inside = folder.resolve().is_relative_to(outputs.resolve()) and folder.is_dir()
    return _entry(folder, outputs) if inside else None


def _entry(folder: Path, outputs: Path) -> Entry | None:
    try:
        return Entry(folder, str(folder.relative_to(outputs)), RunFolder(folder).read_summary())
    except (UserError, OSError):
        return None


def small(path: Path, side: int = SMALL) -> Image.Image:
    """Return a picture, reduced to a longest side in px. Raise OSError if it isn't there, UserError if it is none."""
    return _small(path, path.stat().st_mtime, side)


@lru_cache(256)
def _small(path: Path, changed: float, side: int) -> Image.Image:
    found = reading.read(path, key="picture")
    found.thumbnail((side, side))
    return found


def beside(entry: Entry) -> tuple[Image.Image, Image.Image] | None:
    """Return the content and the picture at the same size, for a slider; None if one of them is missing."""
    content, picture = entry.content(), entry.picture
    if content is None or picture is None:
        return None
    shown = small(picture, LARGE)
    return small(content, LARGE).resize(shown.size, Image.Resampling.LANCZOS), shown


def about(entry: Entry, status: str | None = None) -> str:
    """Return the facts of a run, and its measures, as HTML; ``status`` is the text of its status, if it has its own.

    A run that was resumed and hasn't ended has results of its earlier session, which aren't shown.
    """
    summary, found = entry.summary, progress(entry.folder)
    facts: list[tuple[str, Any]] = [
        ("Folder", folder_name(entry.folder)),
        ("Command", command(entry.overrides)),
        ("Status", status or STATUS.get(found.status, found.status)),
    ]
    if found.stand_ins:
        facts.append(("Stand-in", stand_in_text(found.stand_ins)))
    facts += [("Size", f"{summary.get('width')} x {summary.get('height')} px"), ("Device", summary.get("device"))]
    facts.append(("Evaluations", evaluations_text(found)))
    if found.seconds is not None:
        facts.append(("Took", duration(found.seconds)))
    if found.error:
        facts.append(("Error", found.error))
    measures = ""
    if found.status not in UNFINISHED:
        facts += [(f"Loss: {name}", written(value, 4)) for name, value in (summary.get("losses") or {}).items()]
        measures = _measures(RunFolder(entry.folder))
    rows = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(str(value))}</dd>" for name, value in facts)
    return f'<div class="nst-facts"><dl>{rows}{measures}</dl></div>'


def _measures(folder: RunFolder) -> str:
    """Return the rows of a picture's measures, each with its meaning as a tooltip, and which values are better."""
    found = {observer: held["values"] for observer, held in folder.read_metrics().items()}
    again = Counter(name for values in found.values() for name in values)
    rows = []
    measured: dict[str, None] = {}
    for name, measure in MEASURES.items():
        for observer, values in found.items():
            if values.get(name) is not None:
                title = html.escape(f"{measure.meaning}; by {observer}")
                shown = html.escape(name if again[name] == 1 else f"{name} ({observer})").replace("_", "_<wbr>")
                rows.append(f'<dt title="{title}">{shown}</dt><dd>{html.escape(written(values[name], 4))}</dd>')
                measured[name] = None
    return "".join(rows) + (f"<dt>Order</dt><dd>{directions(measured)}</dd>" if rows else "")


def configuration(entry: Entry) -> str:
    """Return the configuration of a run, as YAML."""
    try:
        return RunFolder(entry.folder).config.read_text(encoding="utf-8")
    except OSError:
        return ""


def unmeasured(folders: Sequence[Path]) -> list[Path]:
    """Return the folders of runs whose pictures have no measures, such as previews."""
    return [run.path for run in map(RunFolder, folders) if run.result.is_file() and not run.read_metrics()]


def measure(folders: Sequence[Path]) -> None:
    """Measure pictures with ``nst.metrics``. A picture that can't be measured stays without measures."""
    _done("nst.metrics", *folders)


def compare(folders: Sequence[Path], out: Path) -> Path:
    """Compare runs with ``nst.compare``; return its page in the folder ``out``.

    Raise UserError with what it says if it fails.
    """
    done = _done("nst.compare", *folders, "--out", out)
    if done.returncode:
        raise UserError([line.removeprefix("error: ") for line in done.stderr.splitlines()[-5:]])
    for earlier in sorted(out.parent.iterdir(), key=lambda path: path.stat().st_mtime)[:-COMPARISONS]:
        shutil.rmtree(earlier, ignore_errors=True)
    return out / "index.html"


def _done(module: str, *words: Path | str) -> subprocess.CompletedProcess[str]:
    """Run a module in a process of its own until it has ended."""
    command = [sys.executable, "-m", module, *map(str, words)]
    return subprocess.run(command, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL)
