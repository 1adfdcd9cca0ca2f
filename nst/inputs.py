"""What goes into a run besides numbers: the two pictures and the weights, found and checked."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nst import architecture as arch
from nst import asset, encoder, image, paths
from nst.asset import Asset
from nst.config import Config, Picture, needed_layers, smallest_side
from nst.errors import UserError, problem
from nst.file import sha256

#: The encoder that stands in for VGG where its weights can't be had, and the seed of its filters.
STAND_IN = "slim"
STAND_IN_SEED = 0


@dataclass(frozen=True)
class Inputs:
    """The files of a run. ``architecture`` is the stand-in's where the one asked for can't be had."""

    content: Asset
    style: Asset
    weights: Asset
    architecture: str

    def warnings(self) -> list[str]:
        """What stands in for what, and how to get the real thing."""
        return [part.detail for part in (self.content, self.style, self.weights) if part.source == "stand-in" and part.detail]

    def provenance(self) -> dict[str, dict[str, str | None]]:
        """Where each came from and its SHA-256, for the summary."""
        parts = {"content": self.content, "style": self.style, "weights": self.weights}
        return {
            name: {**asdict(part), "path": None if part.path is None else str(part.path)}
            for name, part in parts.items()
        }


def problems(raw: Mapping[str, Any]) -> list[str]:
    """What is wrong with the files that a resolved configuration names; nothing is downloaded."""
    lines = []
    for key in ("content.path", "style.path", "init.path"):
        group, name = key.split(".")
        path = raw[group].get(name) if isinstance(raw.get(group), Mapping) else None
        if isinstance(path, str):
            lines += _complaints(lambda path=path, key=key: image.read(Path(path), key=key))
    weights, architecture = (
        raw["encoder"].get(key) if isinstance(raw.get("encoder"), Mapping) else None
        for key in ("weights", "architecture")
    )
    if isinstance(weights, str) and weights not in ("auto", "random") and architecture in arch.BLOCKS:
        lines += _complaints(lambda: _check_depth(raw, Path(weights), str(architecture)))
    return lines


def gather(config: Config) -> Inputs:
    """Finds everything, downloading what is missing.

    Raises UserError for a download with another SHA-256, for missing assets under ``assets=strict``, and for
    pictures too small for the layers, all at once.
    """
    found: dict[str, Asset] = {}
    lines = []
    for key, picture in (("content", config.content), ("style", config.style)):
        lines += _complaints(lambda key=key, picture=picture: found.update({key: _picture(key, picture, config)}))
    lines += _complaints(lambda: found.update(weights=_weights(config)))
    if "content" in found:
        lines += _complaints(lambda: _check_size(config, found["content"]))
    if lines:
        raise UserError(lines)
    stands_in = found["weights"].source == "stand-in"
    return Inputs(**found, architecture=STAND_IN if stands_in else config.encoder.architecture)


def _complaints(check: Callable[[], object]) -> list[str]:
    try:
        check()
    except UserError as error:
        return error.problems
    return []


def _check_depth(raw: Mapping[str, Any], path: Path, architecture: str) -> None:
    held = encoder.available_layers(encoder.load_state(path, architecture), architecture)
    layers = raw.get("layers")
    if not isinstance(layers, Mapping):
        return
    known = arch.layer_names(architecture)
    lines = [
        problem(f"layers.{part}", name, f"deeper than the checkpoint {path}, which has {', '.join(held)}")
        for part in ("content", "style")
        for name in layers.get(part) or []
        if name in known and name not in held
    ]
    if lines:
        raise UserError(lines)


def _check_size(config: Config, content: Asset) -> None:
    needed = smallest_side(config)
    assert content.path is not None
    width, height = image.read(content.path, key="content.path").size
    shape = image.fit(height, width, config.size)
    if min(shape) >= needed:
        return
    deepest = arch.deepest(config.encoder.architecture, needed_layers(config))
    why = f"the picture would be {shape[1]}×{shape[0]} px, but {deepest} needs at least {needed} px on each side"
    raise UserError(problem("size", config.size, f"{why}; choose a larger size or layers less deep"))


def _picture(key: str, picture: Picture, config: Config) -> Asset:
    if picture.path is not None:
        return asset.from_path(Path(picture.path))
    try:
        cache = paths.picture_cache(key)
        return asset.fetch(key=f"{key}.url", url=picture.url, digest=picture.sha256, cache=cache)
    except OSError as error:
        bundled = paths.bundled(key, picture.name)
        if config.assets == "strict" or not bundled.is_file():
            why = f"can be had neither from the cache nor from {picture.url} ({error}); give {key}.path=FILE"
            raise UserError(problem(key, picture.name, why)) from error
        why = (
            f"STAND-IN PICTURE: {key} {picture.name} could not be downloaded ({error}). The bundled stand-in {bundled} takes "
            f"its place. To get the real one, connect to the internet, or give your own with {key}.path=FILE; "
            "assets=strict makes this an error."
        )
        return Asset(bundled, "stand-in", sha256(bundled), why)


def _weights(config: Config) -> Asset:
    wanted = config.encoder
    if wanted.weights == "random":
        return Asset(None, "random", None, f"seeded random filters, seed {config.seed}")
    if wanted.weights != "auto":
        return asset.from_path(Path(wanted.weights))
    try:
        return asset.fetch(key="encoder.url", url=wanted.url, digest=wanted.sha256, cache=paths.weights_cache())
    except OSError as error:
        if config.assets == "strict":
            why = f"can be had neither from the cache nor from {wanted.url} ({error}); give encoder.weights=FILE"
            raise UserError(problem("encoder.weights", wanted.weights, why)) from error
        why = (
            f"STAND-IN ENCODER: the weights of {wanted.architecture} could not be downloaded ({error}). The {STAND_IN} "
            f"encoder with random filters (seed {STAND_IN_SEED}) takes its place, and the picture will not be what "
            f"{wanted.architecture} paints. To get the real weights, connect to the internet, or give a checkpoint with "
            "encoder.weights=FILE; assets=strict makes this an error."
        )
        return Asset(None, "stand-in", None, why)
