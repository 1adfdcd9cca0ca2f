"""What goes into a run besides numbers: pictures, masks and the weights, found and checked."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from nst import architecture as arch
from nst import asset, encoder, graph, image, oxford, paths
from nst.asset import Asset, Source
from nst.config import Config, Picture, needed_layers, smallest_side, styles_in
from nst.errors import UserError, problem
from nst.file import sha256
from nst.run_folder import RunFolder

T = TypeVar("T")

#: The longest side in px of the pictures on which an encoder's filters are normalized, and its layers calibrated.
NORMALIZING = 256

#: The architecture of the bundled encoder, which stands in for VGG where its weights can't be had.
BUNDLED = "slim"


@dataclass(frozen=True)
class Inputs:
    """The files of a run.

    Attributes:
        pictures: ``content``, ``style``, ``style.more.NAME``, ``init``, and masks such as ``style.region``.
        weights: the encoder's.
        normalization: the pictures on which its filters are normalized; their digests make up the asset's.
        architecture: the stand-in's where the one asked for can't be had.
        shape: the height and width in px of the picture that is to be painted.
    """

    pictures: Mapping[str, Asset]
    weights: Asset
    normalization: Asset | None
    architecture: str
    shape: tuple[int, int]

    def path(self, name: str) -> Path:
        """The file of one of the pictures."""
        path = self.pictures[name].path
        assert path is not None
        return path

    def warnings(self) -> list[str]:
        """What stands in for what, and how to get the real thing; and what of an animation is taken."""
        parts = (*self.pictures.values(), self.weights)
        stand_ins = [part.detail for part in parts if part.source == "stand-in" and part.detail]
        return [*stand_ins, *(line for name in self.pictures for line in _animated(_key(name), self.path(name)))]

    def notices(self) -> list[str]:
        """Return a line that names the packaged weights, where they are used."""
        return [str(self.weights.detail)] if self.weights.source == "package" else []

    def provenance(self) -> dict[str, dict[str, str | None]]:
        """Where each came from and its SHA-256, for the summary."""
        parts = {**self.pictures, "weights": self.weights}
        if self.normalization is not None:
            parts["normalization"] = self.normalization
        return {
            name: {**asdict(part), "path": None if part.path is None else str(part.path)}
            for name, part in parts.items()
        }

    def digests(self) -> dict[str, str | None]:
        """The SHA-256 of each; None of random weights."""
        return {name: found["sha256"] for name, found in self.provenance().items()}

    def unlike(self, digests: Mapping[str, Any]) -> list[str]:
        """Which of the files aren't those that a picture was made of."""
        return [
            f"The {name} that the picture was made of had the SHA-256 {digests[name]}, what is taken now has {found}: "
            "the picture will be another."
            for name, found in self.digests().items()
            if name in digests and digests[name] != found
        ]

    def check(self, folder: RunFolder) -> None:
        """Raises UserError where a run began with other pictures or weights."""
        began = folder.read_summary().get("assets", {})
        lines = [
            f"resume={folder.path}: the {name} that the run began with had the SHA-256 {began[name]['sha256']}, but "
            f"what is found now ({found['path']}) has {found['sha256']}"
            for name, found in self.provenance().items()
            if name in began and began[name]["sha256"] != found["sha256"]
        ]
        if lines:
            raise UserError(lines)


def problems(raw: Mapping[str, Any]) -> list[str]:
    """What is wrong with the files that a resolved configuration names; nothing is downloaded."""
    lines: list[str] = []
    limit = raw["max_pixels"] if isinstance(raw.get("max_pixels"), int) else image.MAX_PIXELS
    for key, node in {"content": raw.get("content"), **styles_in(raw), "init": raw.get("init")}.items():
        for part, read in {"path": image.read, "region": image.read_mask, "mask": image.read_mask}.items():
            path = node.get(part) if isinstance(node, Mapping) else None
            if isinstance(path, str) and path not in ("", "???"):
                _attempt(lines, partial(read, paths.of_user(path), key=f"{key}.{part}", max_pixels=limit))
    weights, architecture = _get(raw, "encoder", "weights"), _get(raw, "encoder", "architecture")
    if isinstance(weights, str) and weights not in ("", "auto", "random") and architecture in arch.known():
        check = partial(_check_checkpoint, raw) if architecture in arch.BLOCKS else graph.load_state
        _attempt(lines, partial(check, paths.of_user(weights), str(architecture)))
    return lines


def gather(config: Config) -> Inputs:
    """Finds everything, downloading what is missing.

    Raises UserError for a download with another SHA-256, for missing assets under ``assets=strict``, and for
    pictures too small for the layers, all at once.
    """
    lines: list[str] = []
    found = {"content": _attempt(lines, partial(_picture, "content", config.content, config))}
    for key, style in config.styles.items():
        found[key] = _attempt(lines, partial(_picture, key, style, config))
    pictures = {key: asset for key, asset in found.items() if asset is not None}
    pictures |= _masks(config, pictures, lines)
    if config.init.get("path") is not None:
        pictures["init"] = asset.from_path(paths.of_user(config.init["path"]))
    weights = _attempt(lines, partial(_weights, config))
    shape = None if "content" not in pictures else _attempt(lines, partial(_shape, config, pictures["content"]))
    normalization = _attempt(lines, partial(_normalization, config))
    if weights is None or shape is None or lines:
        raise UserError(lines)
    stands_in = weights.source == "stand-in"
    return Inputs(pictures, weights, normalization, BUNDLED if stands_in else config.encoder.architecture, shape)


def _attempt(lines: list[str], action: Callable[[], T]) -> T | None:
    """The action's result; None and its complaints in ``lines`` where the user made a mistake."""
    try:
        return action()
    except UserError as error:
        lines += error.problems
        return None


def _get(raw: Mapping[str, Any], group: str, key: str) -> object:
    node = raw.get(group)
    return node.get(key) if isinstance(node, Mapping) else None


def _check_checkpoint(raw: Mapping[str, Any], path: Path, architecture: str) -> None:
    """Refuse a checkpoint of another architecture or convention, or one that ends before the layers."""
    state = encoder.load_state(path, architecture)
    _check_convention(state, path, architecture, _get(raw, "encoder", "convention"))
    held = encoder.available_layers(state, architecture)
    layers = raw.get("layers")
    if not isinstance(layers, Mapping):
        return
    known = arch.layer_names(architecture)
    lines = [
        problem(f"layers.{part}", name, f"deeper than the checkpoint {path}, which has {', '.join(held)}")
        for part in ("content", "style")
        for name in (layers[part] if isinstance(layers.get(part), list) else ())
        if name in known and name not in held
    ]
    if lines:
        raise UserError(lines)


def _check_convention(state: encoder.State, path: Path, architecture: str, convention: object) -> None:
    published = encoder.published_convention(state)
    if published is None or published[1] == convention or convention not in encoder.CONVENTIONS:
        return
    network, theirs = published
    option = architecture + {"caffe": "_caffe", "torchvision": ""}[theirs]
    why = f"its first filters are those of {network}, in the convention {theirs}, but encoder.convention={convention}"
    raise UserError(problem("encoder.weights", path, f"{why}; choose encoder={option}"))


def _masks(config: Config, pictures: Mapping[str, Asset], lines: list[str]) -> dict[str, Asset]:
    """The masks by their keys; those whose shape isn't their picture's are complained of in ``lines``."""
    masks = {}
    for key, style in config.styles.items():
        for part, path, of in (("region", style.region, "content"), ("mask", style.mask, key)):
            if path is not None:
                mask = masks[f"{key}.{part}"] = asset.from_path(paths.of_user(path))
                if of in pictures:
                    _attempt(lines, partial(_check_mask, f"{key}.{part}", mask, of, pictures[of], config.max_pixels))
    return masks


def _check_mask(key: str, mask: Asset, of: str, picture: Asset, max_pixels: int) -> None:
    """Refuses a mask of another shape than its picture's, a pixel more or less."""
    assert mask.path is not None
    assert picture.path is not None
    width, height = image.read(mask.path, key=key, max_pixels=max_pixels).size
    whole = image.read(picture.path, key=f"{of}.path", max_pixels=max_pixels).size
    if abs(width * whole[1] - height * whole[0]) > max(*whole, width, height):
        why = f"the mask is {width} x {height} px, its picture ({of}) {whole[0]} x {whole[1]} px"
        raise UserError(problem(key, mask.path, f"{why}; they must have the same shape"))


def is_mask(name: str) -> bool:
    """Whether one of a run's pictures is a mask, by its name among them."""
    return name.endswith((".region", ".mask"))


def _key(name: str) -> str:
    """The key that names a picture's file: masks are files themselves."""
    return name if is_mask(name) else f"{name}.path"


def _shape(config: Config, content: Asset) -> tuple[int, int]:
    needed = smallest_side(config, needed_layers(config))
    if not needed:
        why = f"of {config.encoder.architecture} doesn't return features (1, C, H, W) of pictures of any size"
        parts = {"content": config.layers.content, "style": config.layers.style}
        wrong = [(part, name) for part, names in parts.items() for name in names if not smallest_side(config, [name])]
        raise UserError([problem(f"layers.{part}", name, why) for part, name in wrong])
    assert content.path is not None
    width, height = image.read(content.path, key="content.path", max_pixels=config.max_pixels).size
    shape = image.fit(height, width, config.size)
    if min(shape) >= needed:
        return shape
    deepest = arch.deepest(config.encoder.architecture, needed_layers(config))
    why = f"the picture would be {shape[1]} x {shape[0]} px, but {deepest} needs at least {needed} px on each side"
    raise UserError(problem("size", config.size, f"{why}; choose a larger size or layers less deep"))


def _animated(key: str, path: Path) -> Iterator[str]:
    number = image.frames(path, key=key)
    if number > 1:
        yield problem(key, path, f"this is an animation of {number} frames; the first one is taken")


def _picture(key: str, picture: Picture, config: Config) -> Asset:
    if picture.path is not None:
        return asset.from_path(paths.of_user(picture.path))
    assert picture.url is not None
    assert picture.sha256 is not None
    kind = key.partition(".")[0]
    try:
        cache = paths.picture_cache(kind)
        return asset.fetch(key=f"{key}.url", url=picture.url, digest=picture.sha256, cache=cache)
    except OSError as error:
        bundled = paths.bundled(kind, picture.name)
        if config.assets == "strict" or not bundled.is_file():
            why = f"can be had neither from the cache nor from {picture.url} ({error}); give {key}.path=FILE"
            raise UserError(problem(key, picture.name, why)) from error
        why = (
            f"STAND-IN PICTURE: {key} {picture.name} could not be downloaded ({error}). The bundled stand-in "
            f"{bundled} takes its place. To get the real one, connect to the internet, or give your own with "
            f"{key}.path=FILE; assets=strict makes this an error."
        )
        return Asset(bundled, "stand-in", sha256(bundled), why)


def normalizing_pictures(wanted: str) -> list[Path]:
    """The files that ``encoder.normalize_on`` means. Raises UserError where it is no folder of pictures."""
    if wanted == "bundled":
        return [path for kind in ("content", "style") for path in paths.bundled_pictures(kind)]
    folder = paths.of_user(wanted).absolute()
    files = sorted(path for path in folder.glob("[!.]*") if path.is_file())
    if not files:
        why = "there is no such folder with pictures in it; choices: null, bundled, or a folder"
        raise UserError(problem("encoder.normalize_on", wanted, why))
    return files


def _normalization(config: Config) -> Asset | None:
    wanted = config.encoder.normalize_on
    if wanted is None:
        return None
    files = normalizing_pictures(wanted)
    lines: list[str] = []
    needed = smallest_side(config, [arch.layer_names(config.encoder.architecture)[-1]])
    for path in files:
        read = partial(image.read, path, key="encoder.normalize_on", max_pixels=config.max_pixels)
        picture = _attempt(lines, read)
        if picture is not None and min(image.fit(picture.height, picture.width, NORMALIZING)) < needed:
            why = f"at {NORMALIZING} px this picture is less than {needed} px wide or high; leave it out"
            lines.append(problem("encoder.normalize_on", path, why))
    if lines:
        raise UserError(lines)
    digest = hashlib.sha256("".join(map(sha256, files)).encode()).hexdigest()
    return Asset(files[0].parent, "bundled" if wanted == "bundled" else "path", digest)


def _weights(config: Config) -> Asset:
    wanted = config.encoder
    if wanted.weights == "random":
        return Asset(None, "random", None, f"seeded random filters, seed {config.seed}")
    if wanted.weights != "auto":
        return asset.from_path(paths.of_user(wanted.weights))
    if wanted.architecture == BUNDLED:
        return _bundled("bundled")
    if config.resume is not None:
        began = _began_with(RunFolder(paths.of_user(config.resume)))
        if began is not None:
            return began
    if wanted.is_graph:
        url, digest = graph.download(wanted.architecture)
        try:
            return asset.fetch(key="encoder.weights", url=url, digest=digest, cache=paths.weights_cache())
        except OSError as error:
            why = f"can be had neither from the cache nor from {url} ({error}), and nothing stands in for it"
            why = f"{why}; give encoder.weights=FILE, or random"
            raise UserError(problem("encoder.weights", wanted.weights, why)) from error
    return _vgg(config)


def _vgg(config: Config) -> Asset:
    """The weights of a VGG: cache → download → package → stand-in; of Caffe's VGG-19 the package comes first."""
    wanted = config.encoder
    assert wanted.url is not None
    assert wanted.sha256 is not None
    shipped = wanted.architecture == oxford.ARCHITECTURE
    if shipped and wanted.convention == "caffe":
        packaged = _packaged()
        if packaged is not None:
            return packaged
    try:
        return asset.fetch(key="encoder.url", url=wanted.url, digest=wanted.sha256, cache=paths.weights_cache())
    except OSError as error:
        missing = f"can be had neither from the cache nor from {wanted.url} ({error})"
        packaged = _packaged(f"; other weights {missing}") if shipped else None
        if packaged is not None:
            return packaged
        if config.assets == "strict":
            raise UserError(
                problem("encoder.weights", wanted.weights, f"{missing}; give encoder.weights=FILE")
            ) from error
        package = f"install the package {oxford.PACKAGE}, " if shipped else ""
        why = (
            f"STAND-IN ENCODER: the weights of {wanted.architecture} could not be downloaded ({error}). "
            f"The small encoder that is bundled ({BUNDLED}) takes its place, and the picture will not be what "
            f"{wanted.architecture} paints. To get the real weights, connect to the internet, {package}or give a "
            "checkpoint with encoder.weights=FILE; assets=strict makes this an error."
        )
        return _bundled("stand-in", why)


def _bundled(source: Source, detail: str | None = None) -> Asset:
    return Asset(paths.bundled_encoder(), source, sha256(paths.bundled_encoder()), detail)


def _packaged(why: str = "") -> Asset | None:
    found = oxford.find()
    return None if found is None else replace(found, detail=f"The encoder is {found.detail}{why}.")


def _began_with(folder: RunFolder) -> Asset | None:
    """The weights that a run began with, where they come with a package: what else can be had now would be others."""
    began = folder.read_summary().get("assets", {}).get("weights", {})
    if began.get("source") == "stand-in":
        found: Asset | None = _bundled("stand-in", began.get("detail"))
    else:
        found = _packaged() if began.get("source") == "package" else None
    return found if found is not None and found.sha256 == began.get("sha256") else None
