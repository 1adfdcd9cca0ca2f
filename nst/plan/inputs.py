"""Input files of a run: functions that find and check pictures, masks and weights."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from nst import image
from nst.config.schema import Config, Picture
from nst.errors import UserError, attempt, file_problem, problem
from nst.files import asset, paths
from nst.files.asset import Asset
from nst.files.atomic import sha256
from nst.files.run_folder import RunFolder
from nst.plan import network
from nst.plan.checking import normalizing_pictures


@dataclass(frozen=True)
class Inputs:
    """The input files of a run.

    Attributes:
        pictures: ``content``, ``style``, ``style.more.NAME``, ``init``, and masks such as ``style.region``.
        weights: the encoder's weights.
        normalization: the pictures on which its filters are normalized; the asset's digest combines their digests.
        architecture: the encoder's architecture; the stand-in's if the requested weights are not available.
        shown: the files of the pictures as the user named them, for messages.
    """

    pictures: Mapping[str, Asset]
    weights: Asset
    normalization: Asset | None
    architecture: str
    shown: Mapping[str, Path]

    def path(self, name: str) -> Path:
        """Return the file of one of the pictures."""
        path = self.pictures[name].path
        assert path is not None
        return path

    def warnings(self) -> list[str]:
        """Return one line for each stand-in, with how to get the real file, and for each animation.

        Only the first frame of an animation is used.
        """
        parts = (*self.pictures.values(), self.weights)
        stand_ins = [part.detail for part in parts if part.source == "stand-in" and part.detail]
        return [*stand_ins, *(line for name in self.pictures for line in _animated(key_of(name), self.path(name)))]

    def notices(self) -> list[str]:
        """Return a line that names the packaged weights, if they are used."""
        return [str(self.weights.detail)] if self.weights.source == "package" else []

    def provenance(self) -> dict[str, dict[str, str | None]]:
        """Return where each file came from and its SHA-256, for the summary."""
        parts = {**self.pictures, "weights": self.weights}
        if self.normalization is not None:
            parts["normalization"] = self.normalization
        return {
            name: {**asdict(part), "path": None if part.path is None else str(part.path)}
            for name, part in parts.items()
        }

    def digests(self) -> dict[str, str | None]:
        """Return the SHA-256 of each file; None for random weights."""
        return {name: found["sha256"] for name, found in self.provenance().items()}

    def unlike(self, digests: Mapping[str, Any]) -> list[str]:
        """Return one line for each file that has another SHA-256 than in ``digests``, those of an earlier picture."""
        return [
            f"The {name} that the picture was made from had the SHA-256 {digests[name]}; this one has {found}: "
            "the picture will differ."
            for name, found in self.digests().items()
            if name in digests and digests[name] != found
        ]

    def check(self, folder: RunFolder) -> None:
        """Raise UserError if the run in ``folder`` began with other pictures or weights."""
        began = folder.read_summary().get("assets", {})
        lines = [
            f"resume={folder.path}: {name} had the SHA-256 {began[name]['sha256']} when the run began, but "
            f"{found['path']} has {found['sha256']}"
            for name, found in self.provenance().items()
            if name in began and began[name]["sha256"] != found["sha256"]
        ]
        if lines:
            raise UserError(lines)


def gather(config: Config) -> Inputs:
    """Find every file of a run, and download those that are missing.

    Raise UserError, with all problems at once, for missing files, for downloads with another SHA-256, and for
    unavailable assets under ``assets=strict``.
    """
    lines: list[str] = []
    named: dict[str, str] = {}
    pictures: dict[str, Asset | None] = {}
    shown: dict[str, Path] = {}
    for key, picture in {"content": config.content, **config.styles}.items():
        if picture.path is not None:
            shown[key] = paths.of_user(picture.path)
        pictures[key] = attempt(lines, partial(_picture, key, picture, config))
    for key, style in config.styles.items():
        named |= {f"{key}.{part}": path for part in ("region", "mask") if (path := getattr(style, part)) is not None}
    if config.init.get("path") is not None:
        named["init"] = config.init["path"]
    for key, path in named.items():
        shown[key] = paths.of_user(path)
        pictures[key] = attempt(lines, partial(_named, key_of(key), path))
    weights = attempt(lines, partial(network.find, config))
    normalization = attempt(lines, partial(_normalization, config))
    if weights is None or lines:
        raise UserError(lines)
    found = {key: each for key, each in pictures.items() if each is not None}
    stands_in = weights.source == "stand-in"
    return Inputs(found, weights, normalization, network.BUNDLED if stands_in else config.encoder.architecture, shown)


def is_mask(name: str) -> bool:
    """Return whether the name of one of a run's pictures is that of a mask."""
    return name.endswith((".region", ".mask"))


def key_of(name: str) -> str:
    """Return the key that names a picture's file: a mask's own name, otherwise the name with ``.path``."""
    return name if is_mask(name) else f"{name}.path"


def _named(key: str, path: str) -> Asset:
    """Return a file that the user named, without any fallback. Raise UserError if it is not a file."""
    found = paths.of_user(path)
    if (why := file_problem(found)) is not None:
        raise UserError(problem(key, found, why))
    return asset.from_path(found)


def _picture(key: str, picture: Picture, config: Config) -> Asset:
    if picture.path is not None:
        return _named(f"{key}.path", picture.path)
    assert picture.url is not None
    assert picture.sha256 is not None
    kind = key.partition(".")[0]
    try:
        cache = paths.picture_cache(kind)
        return asset.fetch(key=f"{key}.url", url=picture.url, digest=picture.sha256, cache=cache)
    except OSError as error:
        bundled = paths.bundled(kind, picture.name)
        if config.assets == "strict" or not bundled.is_file():
            why = f"not in the cache, and can't be downloaded from {picture.url} ({error}); give {key}.path=FILE"
            raise UserError(problem(key, picture.name, why)) from error
        why = (
            f"STAND-IN PICTURE: {key} {picture.name} could not be downloaded ({error}). The bundled stand-in "
            f"{bundled} is used instead. To get the real one, connect to the internet, or give your own with "
            f"{key}.path=FILE; assets=strict makes this an error."
        )
        return Asset(bundled, "stand-in", sha256(bundled), why)


def _normalization(config: Config) -> Asset | None:
    wanted = config.encoder.normalize_on
    if wanted is None:
        return None
    files = normalizing_pictures(wanted)
    digest = hashlib.sha256("".join(map(sha256, files)).encode()).hexdigest()
    return Asset(files[0].parent, "bundled" if wanted == "bundled" else "path", digest)


def _animated(key: str, path: Path) -> Iterator[str]:
    number = image.frames(path, key=key)
    if number > 1:
        yield problem(key, path, f"this is an animation of {number} frames; nst uses the first one")
