"""Typed schema of the configuration: the type, the bounds and the role of each key."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationInfo,
    field_validator,
    model_validator,
)

from nst.config.base import Node, NonNegative, Positive, Sha256, Strict, Text
from nst.config.keys import LOSSES, Key, Loss
from nst.encoder import architecture as arch
from nst.errors import choices
from nst.metrics.names import MeasureName, ObserverName


def is_address(path: str) -> bool:
    """Return whether a text is a web address rather than a path."""
    return re.match(r"https?://", path) is not None


def _is_no_address(path: str) -> str:
    if is_address(path):
        raise ValueError(f"{path} is a web address, which nst doesn't open; download the picture and give its file")
    return path


def _is_file_name(name: str) -> str:
    if len(name.encode()) > 200:
        raise ValueError(f"has {len(name.encode())} bytes; at most 200 are allowed")
    return name


#: The file of a picture.
PictureFile = Annotated[Text, AfterValidator(_is_no_address)]


class Picture(Strict):
    """The group ``content``, and the base of ``style``."""

    name: Annotated[Text, Key(file=True)]
    path: Annotated[PictureFile | None, Key(file=True)]
    url: Annotated[Text | None, Key(file=True)]
    sha256: Annotated[Sha256 | None, Key(file=True)]

    @model_validator(mode="after")
    def _can_be_had(self) -> "Picture":
        if self.path is None and (self.url is None or self.sha256 is None):
            raise ValueError("path, or url and sha256, must be given")
        return self

    @property
    def title(self) -> str:
        """The picture's title: the file name of ``path`` without its ending if given, otherwise ``name``."""
        return self.name if self.path is None else Path(self.path).stem


class StylePicture(Picture):
    """A style's picture, and how it is used."""

    weight: NonNegative
    region: Annotated[PictureFile | None, Key(file="beside")]
    mask: Annotated[PictureFile | None, Key(file="beside")]
    fit: Literal["stretch", "fit", "crop", "own"]
    scale: Annotated[float, Field(gt=0, le=16)]


class StyleConfig(StylePicture):
    """The group ``style``: a style picture, and additional styles by name."""

    more: dict[Annotated[str, Field(pattern=r"^\w+$")], StylePicture]

    @field_validator("more")
    @classmethod
    def _are_no_keys(cls, more: dict[str, StylePicture]) -> dict[str, StylePicture]:
        taken = sorted(set(more) & {*cls.model_fields, *EncoderConfig.model_fields})
        if taken:
            raise ValueError(f"{', '.join(taken)}: this is the name of a key; choose another name for the style")
        return more

    @model_validator(mode="after")
    def _has_one(self) -> "StyleConfig":
        if not any(style.weight for style in (self, *self.more.values())):
            raise ValueError("weight: every style has the weight 0; at least one must be above 0")
        return self


class Own(BaseModel):
    """A node with the user's own target. ``nst.config.nodes`` checks its keys."""

    model_config = ConfigDict(extra="allow", frozen=True)
    target: Text = Field(alias="_target_")
    partial: Literal[True] = Field(alias="_partial_")


class EncoderConfig(Strict):
    """The group ``encoder``. ``network`` is the node of the user's own encoder."""

    network: Own | None = None
    architecture: Annotated[Text, Key(file=True)]
    weights: Annotated[Text, Key(file=True)]
    url: Annotated[Text | None, Key(file=True)] = None
    sha256: Annotated[Sha256 | None, Key(file=True)] = None
    convention: Literal["torchvision", "caffe"]
    padding: Literal["zeros", "reflect", "replicate"]
    normalize_on: Annotated[Text | None, Key(file="beside")]
    calibrate: bool | Literal["whole"] = False  # runs from before this key were not calibrated

    @property
    def kind(self) -> Literal["vgg", "torchvision", "own"]:
        """``own`` for the user's network, ``vgg`` for a VGG, ``torchvision`` for any other torchvision model."""
        if self.network is not None:
            return "own"
        return "vgg" if self.architecture in arch.BLOCKS else "torchvision"

    @field_validator("architecture")
    @classmethod
    def _exists(cls, architecture: str, found: ValidationInfo) -> str:
        own = found.data.get("network") is not None
        if not own and architecture not in arch.BLOCKS and architecture not in arch.known():
            raise ValueError(f"there is no model {architecture}; {choices(architecture, arch.known())}")
        return architecture

    @model_validator(mode="after")
    def _is_whole(self) -> "EncoderConfig":
        if self.kind == "own":
            if self.weights == "auto":
                raise ValueError("weights=auto: nst has no weights for your own network; choices: random, or a path")
        elif self.kind == "torchvision":
            if (self.convention, self.padding, self.normalize_on) != ("torchvision", "zeros", None):
                raise ValueError(
                    f"convention, padding, normalize_on: {self.architecture} uses torchvision's preprocessing; "
                    "choices: torchvision, zeros, null, or a VGG"
                )
        elif self.weights == "auto" and self.architecture != "slim" and (self.url is None or self.sha256 is None):
            raise ValueError(
                f"weights=auto needs url and sha256; choices: encoder={self.architecture}, random, or a path"
            )
        elif self.weights == "auto" and self.architecture == "slim" and self.convention != "torchvision":
            raise ValueError(f"convention={self.convention}: the bundled weights need torchvision")
        return self


class Layers(Strict):
    content: list[str]
    style: list[str]


class WeightsConfig(Strict):
    content: NonNegative
    style: NonNegative
    tv: NonNegative
    laplacian: NonNegative
    content_layers: dict[str, NonNegative]
    style_layers: dict[str, NonNegative]


#: Arguments of Lightning's Trainer that a run sets itself, or that would break its counting of evaluations.
OURS = (
    "accumulate_grad_batches", "barebones", "callbacks", "enable_checkpointing", "enable_model_summary",
    "enable_progress_bar", "fast_dev_run", "gradient_clip_algorithm", "gradient_clip_val", "limit_train_batches",
    "logger", "max_epochs", "max_steps", "min_epochs", "min_steps", "num_nodes", "overfit_batches", "plugins",
    "precision", "strategy",
)  # fmt: skip


class TrainerConfig(Node):
    """The group ``trainer``: arguments of Lightning's Trainer. Only these are checked here; OURS are refused."""

    model_config = ConfigDict(extra="allow")
    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps"]
    devices: PositiveInt
    deterministic: bool | Literal["warn"] | None

    @model_validator(mode="after")
    def _leaves_the_run_alone(self) -> "TrainerConfig":
        taken = [name for name in self.model_extra or {} if name in OURS]
        if taken:
            why = "nst sets this itself, from evaluations, precision and other keys; leave it out"
            raise ValueError(f"{', '.join(taken)}: {why}")
        return self


class Minimize(Strict):
    """The node ``minimize``: the value that a run returns to a sweeper."""

    loss: Loss
    metric: MeasureName | None = None  # runs from before this key have none
    content_at_most: Positive | None


class RecoveryConfig(Strict):
    """The node ``recovery``: the reaction to an exploding loss."""

    at_most: Annotated[int, Field(ge=0)]
    explosion: Annotated[float, Field(gt=1, allow_inf_nan=False)] | None
    shrink: Annotated[float, Field(gt=0, le=1)]


class Callback(BaseModel):
    """A node of the group ``callbacks``. ``nst.config.nodes`` checks its keys."""

    model_config = ConfigDict(extra="allow", frozen=True)
    target: Text = Field(alias="_target_")


class Config(Strict):
    """The whole configuration. Nodes that become objects are checked by the schema of their ``_target_``."""

    content: Annotated[Picture, Key(file=True, shared=("content", "style"))]
    style: Annotated[StyleConfig, Key(shared=("style",), losses=("total", "style"))]
    encoder: Annotated[EncoderConfig, Key(shared=("encoder",), losses=LOSSES)]
    pooling: Annotated[dict[str, Any], Key(shared=("encoder",), losses=LOSSES)]
    layers: Annotated[Layers, Key(losses=LOSSES)]
    objective: Annotated[dict[str, Any], Key(shared=("style",), losses=LOSSES)]
    weights: Annotated[WeightsConfig, Key(shared=(), losses=("total",))]
    init: Annotated[dict[str, Any], Key(shared=())]
    optimizer: Annotated[dict[str, Any], Key(shared=())]
    schedule: Annotated[dict[str, Any], Key(shared=())]
    trainer: Annotated[TrainerConfig, Key(decides=False, may_change=True)]
    logger: Annotated[dict[Annotated[str, Field(pattern=r"^\w+$")], Own | None], Key(decides=False)]
    callbacks: Annotated[dict[str, Callback | None], Key(decides=False, may_change=True)]
    size: Annotated[PositiveInt | None, Key(shared=("content", "style"))]
    max_pixels: Annotated[PositiveInt, Key(decides=False, may_change=True)]
    evaluations: Annotated[PositiveInt, Key(may_change=True, shared=())]
    seed: Annotated[int, Field(ge=0, lt=2**32), Key(shared=())]
    precision: Annotated[Literal["auto", "bf16", 16, 32, 64], Key()]
    cuda_graphs: Annotated[bool, Key(decides=False, may_change=True)] = True  # older runs lack it
    tile: Annotated[Literal["auto", "off"] | PositiveInt, Key(decides=False, may_change=True)]
    memory: Annotated[Literal["auto"] | Positive, Key(decides=False, may_change=True)]
    scratch: Annotated[Text | None, Key(decides=False, may_change=True)] = None  # older runs lack it
    threads: Annotated[PositiveInt | None, Key(decides=False, may_change=True)]
    color: Annotated[Literal["style", "match", "luminance", "yiq", "lab", "chroma"], Key(shared=("content", "style"))]
    recovery: Annotated[RecoveryConfig, Key(may_change=True, shared=())]
    metrics: Annotated[list[ObserverName] | None, Key(decides=False, may_change=True, minimized=True)] = None
    minimize: Annotated[Minimize, Key(decides=False, minimized=True)]
    assets: Annotated[Literal["auto", "strict"], Key(decides=False, may_change=True)]
    output: Annotated[Literal["png", "png16", "jpeg", "tiff"], Key(decides=False, may_change=True)]
    resume: Annotated[Text | None, Key(decides=False)]
    rerun: Annotated[Text | None, Key(decides=False)]
    name: Annotated[
        Annotated[str, Field(pattern=r"^[^/\\]*[^/\\.][^/\\]*$"), AfterValidator(_is_file_name)] | None,
        Key(decides=False),
    ]

    @property
    def styles(self) -> dict[str, StylePicture]:
        """Every style by its key."""
        return {"style": self.style, **{f"style.more.{name}": more for name, more in self.style.more.items()}}


def styles_in(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return the node of each style by its key, from a configuration that has not been validated."""
    style = raw.get("style")
    more = style.get("more") if isinstance(style, Mapping) else None
    return {
        "style": style,
        **({f"style.more.{name}": each for name, each in more.items()} if isinstance(more, Mapping) else {}),
    }
