"""The encoder of a run: functions that find and check its weights, and the description that it is built from."""

import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nst import image
from nst.config.schema import Config, EncoderConfig
from nst.encoder import architecture as arch
from nst.encoder import oxford, precision, torchvision_models
from nst.encoder import weights as reading
from nst.encoder.base import Encoder
from nst.encoder.checkpoint import State
from nst.encoder.torchvision_models import TorchvisionEncoder
from nst.encoder.vgg import CONVENTIONS, VGG
from nst.errors import UserError, file_problem, problem
from nst.files import asset, paths
from nst.files.asset import Asset, Source
from nst.files.atomic import sha256
from nst.files.run_folder import RunFolder

#: The longest side in px of the pictures on which an encoder's filters are normalized, and its layers calibrated.
NORMALIZING = 256

#: Architecture of the bundled encoder, which stands in for a VGG without available weights.
BUNDLED = "slim"


@dataclass(frozen=True)
class Network:
    """The description that an encoder is built from.

    Attributes:
        config: the group ``encoder``.
        layers: the layers that the objective reads.
        dtype: the dtype of the features.
        reach: how many positions beyond its own a tile needs.
        pooling: makes a pooling module.
        own: makes the user's own encoder; None for any other encoder.
        architecture: the encoder's architecture; the stand-in's if the requested weights are not available.
        weights: the source of the weights; None for an encoder without values, which has a geometry only.
        seed: the seed of random weights.
        small: yields the pictures on which filters are normalized or layers calibrated, given the key that needs them.
    """

    config: EncoderConfig
    layers: Sequence[str]
    dtype: torch.dtype
    reach: int
    pooling: Callable[[], Any]
    own: Callable[..., Encoder] | None
    architecture: str
    weights: Asset | None = None
    seed: int = 0
    small: Callable[[str], Iterator[Tensor]] = lambda key: iter(())

    def make(self) -> Encoder:
        """Make the encoder."""
        kind = self.config.kind
        if kind == "own":
            return self._make_own()
        state = None if self.weights is None else self._state(self.weights)
        if kind == "torchvision":
            model = TorchvisionEncoder(self.architecture, self.layers, state=state, dtype=self.dtype)
            if state is not None and self.calibrated:
                model.calibrate(self.small("encoder.calibrate"), whole=self.config.calibrate == "whole")
            return model
        return VGG(
            architecture=self.architecture,
            layers=self.layers,
            pooling=self.pooling,
            state=reading.no_state(self.architecture) if state is None else state,
            convention=self.convention,
            padding=self.config.padding,
            reach=self.reach,
            dtype=self.dtype,
        )

    @property
    def convention(self) -> str:
        """The convention of the weights that were found."""
        own = {"package": "caffe", "stand-in": "torchvision"}
        source = None if self.weights is None else self.weights.source
        return own.get(str(source), self.config.convention)

    @property
    def calibrated(self) -> bool:
        """Whether the layers are calibrated. Normalized filters are not, as they are scaled already."""
        return bool(self.config.calibrate) and self.config.normalize_on is None

    def _make_own(self) -> Encoder:
        assert self.own is not None
        path = None if self.weights is None else self.weights.path
        given = {} if path is None else {"weights": path}
        made: Any = self.own(layers=list(self.layers), dtype=self.dtype, **given)
        if not isinstance(made, Encoder):
            why = f"makes a {type(made).__name__}, not an nst.encoder.base.Encoder"
            raise UserError(f"encoder.network: {why}")
        return made.requires_grad_(requires_grad=False).eval()

    def _state(self, weights: Asset) -> State:
        kind: Any = torchvision_models if self.config.kind == "torchvision" else reading
        if weights.path is not None:
            state: State = kind.load_state(weights.path, self.architecture)
        else:
            state = kind.random_state(self.architecture, self.seed)
        if self.config.kind == "torchvision":
            return state
        state = reading.up_to(state, self.architecture, self.layers)
        if self.config.normalize_on is not None:
            return reading.normalize(state, self.architecture, self._means(state, "encoder.normalize_on"))
        if not self.calibrated:
            return state
        means = self._layer_means(state)
        if self.config.calibrate == "whole":
            names = [name for name in reading.available_layers(state, self.architecture) if name.startswith("relu")]
            means = dict.fromkeys(names, sum(means[name] for name in names) / len(names))
        return reading.calibrate(state, self.architecture, means)

    def _layer_means(self, state: State) -> Mapping[str, float]:
        """Return the mean activation of each layer on the bundled pictures, from a table or measured."""
        pooling = self.pooling()
        plain = isinstance(pooling, torch.nn.AvgPool2d) and type(pooling) is torch.nn.AvgPool2d
        if (
            self.weights is not None
            and self.weights.source == "package"
            and plain
            and ((pooling.kernel_size, pooling.stride) == (2, 2))
        ):
            return oxford.MEANS
        if self.architecture == BUNDLED:
            return dict.fromkeys(reading.available_layers(state, BUNDLED), reading.SLIM_MEAN)
        return {name: float(mean.mean()) for name, mean in self._means(state, "encoder.calibrate").items()}

    def _means(self, state: State, key: str) -> Mapping[str, Tensor]:
        padding = self.config.padding if key == "encoder.normalize_on" else "zeros"
        return reading.mean_activations(
            state,
            self.architecture,
            self.small(key),
            pooling=self.pooling,
            convention=self.convention,
            padding=padding,
        )

    @property
    def key(self) -> Hashable:
        """The key that, together with the configuration, identifies the encoder's weights."""
        weights = None if self.weights is None else self.weights.sha256 or self.seed
        return self.architecture, weights, self.convention, self.reach


def small_pictures(files: Sequence[Path], *, key: str, needed: int, max_pixels: int) -> Iterator[Tensor]:
    """Yield pictures at the size for normalizing and calibrating, or larger if the layers need it."""
    for path in files:
        picture = image.load(path, key=key, max_pixels=max_pixels)
        height, width = picture.shape[-2:]
        longest = max(NORMALIZING, math.ceil(needed * max(height, width) / min(height, width)))
        yield image.resize(picture, image.fit(height, width, longest))


def find(config: Config) -> Asset:
    """Return the weights: path → cache → download → package → stand-in; for Caffe's VGG-19 the package comes first.

    Raise UserError if they are not available, or belong to another network.
    """
    wanted = config.encoder
    if wanted.weights == "random":
        return Asset(None, "random", None, f"seeded random filters, seed {config.seed}")
    if wanted.weights != "auto":
        path = paths.of_user(wanted.weights)
        if (why := file_problem(path)) is not None:
            raise UserError(problem("encoder.weights", path, why))
        if wanted.kind != "own":
            check(path, wanted.model_dump(), config.layers.model_dump())
        return asset.from_path(path)
    if wanted.architecture == BUNDLED:
        return _bundled("bundled")
    if config.resume is not None:
        began = _began_with(RunFolder(paths.of_user(config.resume)))
        if began is not None:
            return began
    if wanted.kind == "torchvision":
        url, digest = torchvision_models.download(wanted.architecture)
        try:
            return asset.fetch(key="encoder.weights", url=url, digest=digest, cache=paths.weights_cache())
        except OSError as error:
            why = f"not in the cache, and can't be downloaded from {url} ({error}), and there is no stand-in"
            why = f"{why}; give encoder.weights=FILE, or random"
            raise UserError(problem("encoder.weights", wanted.weights, why)) from error
    return _vgg(config)


def check(path: Path, encoder: Mapping[str, Any], layers: Any) -> None:
    """Raise UserError for a checkpoint with another architecture or convention, or without weights of some layers.

    ``encoder`` and ``layers`` are the groups of the configuration.
    """
    architecture = str(encoder["architecture"])
    if architecture not in arch.BLOCKS:
        torchvision_models.load_state(path, architecture)
        return
    state = reading.load_state(path, architecture)
    _check_convention(state, path, architecture, encoder.get("convention"))
    held = reading.available_layers(state, architecture)
    if not isinstance(layers, Mapping):
        return
    known = arch.layer_names(architecture)
    lines = [
        problem(f"layers.{part}", name, f"the checkpoint {path} ends before this layer; choices: {', '.join(held)}")
        for part in ("content", "style")
        for name in (layers[part] if isinstance(layers.get(part), list) else ())
        if name in known and name not in held
    ]
    if lines:
        raise UserError(lines)


def _check_convention(state: State, path: Path, architecture: str, convention: object) -> None:
    published = reading.published_convention(state)
    if published is None or published[1] == convention or convention not in CONVENTIONS:
        return
    network, theirs = published
    option = architecture + {"caffe": "_caffe", "torchvision": ""}[theirs]
    why = f"its first filters are those of {network}, in the convention {theirs}, but encoder.convention={convention}"
    raise UserError(problem("encoder.weights", path, f"{why}; choose encoder={option}"))


def _vgg(config: Config) -> Asset:
    """Return a VGG's weights: cache → download → package → stand-in; for Caffe's VGG-19 the package comes first."""
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
        missing = f"not in the cache, and can't be downloaded from {wanted.url} ({error})"
        packaged = _packaged(f". Torchvision's weights, which it replaces, are {missing}") if shipped else None
        if packaged is not None:
            return packaged
        if config.assets == "strict":
            why = f"{missing}; give encoder.weights=FILE"
            raise UserError(problem("encoder.weights", wanted.weights, why)) from error
        package = f"install the package {oxford.PACKAGE}, " if shipped else ""
        why = (
            f"STAND-IN ENCODER: the weights of {wanted.architecture} could not be downloaded ({error}). "
            f"The small encoder that is bundled ({BUNDLED}) is used instead, and the picture will differ from "
            f"one by {wanted.architecture}. To get the real weights, connect to the internet, {package}or give a "
            "checkpoint with encoder.weights=FILE; assets=strict makes this an error."
        )
        return _bundled("stand-in", why)


def _bundled(source: Source, detail: str | None = None) -> Asset:
    return Asset(paths.bundled_encoder(), source, sha256(paths.bundled_encoder()), detail)


def _packaged(why: str = "") -> Asset | None:
    found = oxford.find()
    return None if found is None else replace(found, detail=f"The encoder is {found.detail}{why}.")


def _began_with(folder: RunFolder) -> Asset | None:
    """Return the weights that a run began with if they are packaged or bundled; None otherwise.

    The search could find other weights by now.
    """
    began = folder.read_summary().get("assets", {}).get("weights", {})
    if began.get("source") == "stand-in":
        found: Asset | None = _bundled("stand-in", began.get("detail"))
    else:
        found = _packaged() if began.get("source") == "package" else None
    return found if found is not None and found.sha256 == began.get("sha256") else None


def features_dtype(config: Config) -> torch.dtype:
    """Return the dtype of an encoder's features for a precision other than ``auto``."""
    assert config.precision != "auto"
    return precision.ENCODER[config.precision]
