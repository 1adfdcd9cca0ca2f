"""The form of the studio: what was chosen, as overrides of ``python -m nst.train``."""

import math
import re
import shlex
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import get_args

from nst.config.mistakes import options_of
from nst.config.schema import Config
from nst.errors import UserError, written
from nst.files import paths
from nst.run import single

#: The smallest and the largest value of the form's numbers.
RANGES = {"size": (64, 4096), "evaluations": (1, 2000)}

#: The values of ``color``.
COLORS: tuple[str, ...] = get_args(Config.model_fields["color"].annotation)

#: The options of ``style/more`` for pictures of one's own.
FILES = ("second", "third")

#: A picture of the form: the name of a bundled one, a file, or why the file that was given can't be used.
Picture = str | Path | UserError


@dataclass(frozen=True)
class StyleChoice:
    """A style of the form.

    Attributes:
        picture: the name of a bundled picture, a file, or why the given file can't be used.
        weight: weight relative to the other styles.
        region: mask of the content, white where the style applies; None for everywhere.
    """

    picture: Picture
    weight: float = 1.0
    region: Path | None = None


@dataclass(frozen=True)
class Knobs:
    """The numbers and choices of the form.

    Attributes:
        strength: ``weights.style``.
        size: ``size``, in px.
        brush: ``style.scale``, of every style.
        color: ``color``.
        objective: ``objective``.
        evaluations: ``evaluations``.
    """

    strength: float
    size: int
    brush: float
    color: str
    objective: str
    evaluations: int


@dataclass(frozen=True)
class Form:
    """Everything that was chosen.

    Attributes:
        content: the content picture; None if there is none, or an override gives it.
        styles: up to three styles; empty if there is none, or an override gives it.
        preset: an option of ``experiment``; None for the defaults.
        knobs: the knobs; those that the preset has already give no override.
        more: further overrides, as in a shell.
    """

    content: Picture | None
    styles: Sequence[StyleChoice]
    preset: str | None
    knobs: Knobs
    more: str = ""

    def words(self) -> list[str]:
        """Return the overrides.

        Raise UserError if a picture is missing or can't be used, and if ``more`` has an unpaired quote, or keys that
        the studio or a control sets.
        """
        try:
            more = shlex.split(self.more)
        except ValueError as error:
            raise UserError(f"further overrides: {str(error).lower()}; quotes come in pairs") from None
        keys = {word.partition("=")[0].lstrip("+~") for word in more}
        own = sorted(key for key in keys if key == "resume" or re.match(r"hydra\b", key))
        if own:
            raise UserError([f"{key}: the studio sets this key; leave it out, or use a shell" for key in own])
        problems = list(self._picture_problems(keys))
        if problems:
            raise UserError(problems)
        words = list(self._words())
        twice = sorted(keys & {word.partition("=")[0] for word in words})
        if twice:
            why = "a control and the further overrides both set this key; remove it from the further overrides"
            raise UserError([f"{key}: {why}" for key in twice])
        return [*words, *more]

    def _picture_problems(self, keys: Collection[str]) -> Iterator[str]:
        """Yield a line for each picture that can't be used, or that neither the form nor an override's key gives."""
        styles = [style.picture for style in self.styles]
        for group, pictures in (("content", [] if self.content is None else [self.content]), ("style", styles)):
            for picture in pictures:
                yield from picture.problems if isinstance(picture, UserError) else ()
            if not pictures and not any(re.fullmatch(rf"{group}(\.path|\.url)?|rerun|pair(/.*)?", key) for key in keys):
                yield f"{group}: choose a {group} picture, or name one in the further overrides: {group}.path=FILE"

    def _words(self) -> Iterator[str]:
        if self.preset is not None:
            yield f"experiment={self.preset}"
        if self.content is not None:
            yield _picture("content", self.content)
        others = self.styles[1:]
        places = ["style"] * len(self.styles[:1])
        for first in self.styles[:1]:
            yield _picture("style", first.picture)
        free = iter(FILES)
        names = [next(free) if isinstance(style.picture, Path) else str(style.picture) for style in others]
        if names:
            yield f"style/more=[{','.join(names)}]"
        for name, style in zip(names, others, strict=True):
            places.append(f"style.more.{name}")
            if isinstance(style.picture, Path):
                yield f"{places[-1]}.path={style.picture}"
        for place, style in zip(places, self.styles, strict=True):
            if style.weight != 1:
                yield f"{place}.weight={written(style.weight)}"
            if style.region is not None:
                yield f"{place}.region={style.region}"
        usual = knobs_of(self.preset)
        if not math.isclose(self.knobs.strength, usual.strength, rel_tol=1e-3):
            yield f"weights.style={written(self.knobs.strength, 3)}"
        if self.knobs.size != usual.size:
            yield f"size={self.knobs.size}"
        if self.knobs.brush != usual.brush:
            yield from (f"{place}.scale={written(self.knobs.brush)}" for place in places or ["style"])
        for key in ("color", "objective", "evaluations"):
            if getattr(self.knobs, key) != getattr(usual, key):
                yield f"{key}={getattr(self.knobs, key)}"


@dataclass(frozen=True)
class Preset:
    """A preset that makes one picture.

    Attributes:
        name: the option of ``experiment``; None for the defaults.
        about: what it does.
    """

    name: str | None
    about: str


def check(words: Sequence[str]) -> list[str]:
    """Return the problems of some overrides, as lines; none if they make a run."""
    try:
        single.checked(words)
    except UserError as error:
        return error.problems
    return []


@cache
def knobs_of(preset: str | None) -> Knobs:
    """Return the knobs of a preset. Raise UserError if there is no such preset."""
    config, chosen = single.checked([] if preset is None else [f"experiment={preset}"])
    assert config.size is not None
    return Knobs(
        config.weights.style, config.size, config.style.scale, config.color, chosen["objective"], config.evaluations
    )


@cache
def presets() -> list[Preset]:
    """Return the presets that make one picture: the defaults, and the options of ``experiment`` that sweep nothing."""
    about = "The method of the paper: Gram matrices and L-BFGS, here from coarse to fine."
    found = [Preset(None, about)]
    for file in sorted((paths.configs() / "experiment").glob("*.yaml")):
        text = file.read_text(encoding="utf-8")
        lines = [line[2:] for line in text.splitlines() if line.startswith("# ")]
        if "\nhydra:" not in text and not check([f"experiment={file.stem}"]):
            found.append(Preset(file.stem, " ".join(lines[2:])))
    return found


def bundled(group: str) -> dict[str, Path]:
    """Return the bundled pictures of a group, content or style, by the name of their option."""
    return {name: paths.bundled(group, name) for name in options_of(group)}


def _picture(group: str, picture: Picture) -> str:
    return f"{group}.path={picture}" if isinstance(picture, Path) else f"{group}={picture}"


def split(words: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Return the overrides of a run whose values the form can hold, by key, and the others."""
    known: dict[str, str] = {}
    others = []
    for word in words:
        key, equals, quoted = word.partition("=")
        value = re.sub(r"^(['\"])([^'\"\\]*)\1$", r"\2", quoted)
        if equals and _holds(key, value):
            known[key] = value
        else:
            others.append(word)
    return known, others


def _holds(key: str, value: str) -> bool:
    if key in RANGES:
        return value.isdecimal() and RANGES[key][0] <= int(value) <= RANGES[key][1]
    if key in ("content", "style"):
        return value in options_of(key)
    if key in ("content.path", "style.path"):
        return Path(value).is_file()
    if key == "experiment":
        return value in [preset.name for preset in presets()]
    return (key == "color" and value in COLORS) or (key == "objective" and value in options_of("objective"))
