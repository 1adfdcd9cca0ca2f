"""The configuration's typed schema, and everything about it that can be checked without reading a file."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, field_validator, model_validator

from nst import architecture as arch
from nst.errors import choices, problem
from nst.node_schema import NODES, Node, NonNegative, Positive, Sha256, Strict, Text


class Picture(Strict):
    """One of the groups ``content`` and ``style``."""

    name: Text
    path: Text | None
    url: Text | None
    sha256: Sha256 | None

    @model_validator(mode="after")
    def _can_be_had(self) -> "Picture":
        if self.path is None and (self.url is None or self.sha256 is None):
            raise ValueError("path, or url and sha256, must be given")
        return self

    @property
    def title(self) -> str:
        """What the picture is called: its file's name without the ending, where a file is named."""
        return self.name if self.path is None else Path(self.path).stem


class StylePicture(Picture):
    """A style's picture, and how it is used."""

    weight: NonNegative
    region: Text | None
    mask: Text | None
    fit: Literal["stretch", "fit", "crop", "own"]
    scale: Annotated[float, Field(gt=0, le=16)]


class StyleConfig(StylePicture):
    """The group ``style``: a picture, and those beside it by name."""

    more: dict[Annotated[str, Field(pattern=r"^\w+$")], StylePicture]

    @field_validator("more")
    @classmethod
    def _are_no_keys(cls, more: dict[str, StylePicture]) -> dict[str, StylePicture]:
        taken = sorted(set(more) & {*cls.model_fields, *EncoderConfig.model_fields})
        if taken:
            raise ValueError(f"{', '.join(taken)}: this is the name of a key; choose another for the style")
        return more

    @model_validator(mode="after")
    def _has_one(self) -> "StyleConfig":
        if not any(style.weight for style in (self, *self.more.values())):
            raise ValueError("weight: every style has the weight 0; choose one above")
        return self


class EncoderConfig(Strict):
    """The group ``encoder``."""

    architecture: Text
    weights: Text
    url: Text | None = None
    sha256: Sha256 | None = None
    convention: Literal["torchvision", "caffe"]
    padding: Literal["zeros", "reflect", "replicate"]
    normalize_on: Text | None
    calibrate: bool = False  # runs from before this key were not calibrated

    @property
    def is_graph(self) -> bool:
        """Whether it is one of torchvision's models as it is, not a VGG of ours."""
        return self.architecture not in arch.BLOCKS

    @field_validator("architecture")
    @classmethod
    def _exists(cls, architecture: str) -> str:
        if architecture not in arch.BLOCKS and architecture not in arch.known():
            raise ValueError(f"there is no model {architecture}; {choices(architecture, arch.known())}")
        return architecture

    @model_validator(mode="after")
    def _is_whole(self) -> "EncoderConfig":
        if self.is_graph:
            if (self.convention, self.padding, self.normalize_on) != ("torchvision", "zeros", None):
                raise ValueError(
                    f"convention, padding, normalize_on: {self.architecture} is taken as it is; choices: torchvision, "
                    "zeros, null, or a VGG"
                )
        elif self.weights == "auto" and self.architecture != "slim" and (self.url is None or self.sha256 is None):
            raise ValueError(
                f"no weights to download are known for it; choices: encoder={self.architecture}, random, or a path"
            )
        elif self.weights == "auto" and self.architecture == "slim" and self.convention != "torchvision":
            raise ValueError(f"convention={self.convention}: the bundled weights have torchvision's")
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


#: Lightning's arguments that a run sets itself, or that would break its way of counting.
OURS = (
    "accumulate_grad_batches", "barebones", "callbacks", "enable_checkpointing", "enable_model_summary",
    "enable_progress_bar", "fast_dev_run", "gradient_clip_algorithm", "gradient_clip_val", "limit_train_batches",
    "logger", "max_epochs", "max_steps", "min_epochs", "min_steps", "num_nodes", "overfit_batches", "plugins",
    "precision", "strategy",
)  # fmt: skip


class TrainerConfig(Node):
    """The group ``trainer``: Lightning's own arguments, of which these are checked here."""

    model_config = ConfigDict(extra="allow")
    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps"]
    devices: PositiveInt
    deterministic: bool | Literal["warn"] | None

    @model_validator(mode="after")
    def _leaves_the_run_alone(self) -> "TrainerConfig":
        taken = [name for name in self.model_extra or {} if name in OURS]
        if taken:
            raise ValueError(
                f"{', '.join(taken)}: the run itself decides on this, by evaluations, precision and the like"
            )
        return self


class Minimize(Strict):
    """What a run returns to a sweeper."""

    loss: Literal["total", "content", "style", "tv"]
    content_at_most: Positive | None


class RecoveryConfig(Strict):
    """What a run does when its loss explodes."""

    at_most: Annotated[int, Field(ge=0)]
    explosion: Annotated[float, Field(gt=1, allow_inf_nan=False)] | None
    shrink: Annotated[float, Field(gt=0, le=1)]


class Callback(BaseModel):
    """A node of the group ``callbacks``; ``nst.nodes`` finds out whether its keys fit."""

    model_config = ConfigDict(extra="allow", frozen=True)
    target: Text = Field(alias="_target_")


class Config(Strict):
    """The whole configuration. Nodes that become objects are checked by the schema of their ``_target_``."""

    content: Picture
    style: StyleConfig
    encoder: EncoderConfig
    pooling: dict[str, Any]
    layers: Layers
    objective: dict[str, Any]
    weights: WeightsConfig
    init: dict[str, Any]
    optimizer: dict[str, Any]
    schedule: dict[str, Any]
    trainer: TrainerConfig
    logger: dict[str, Any]
    callbacks: dict[str, Callback | None]
    size: PositiveInt | None
    max_pixels: PositiveInt
    evaluations: PositiveInt
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    precision: Literal["auto", "bf16", 16, 32, 64]
    tile: Literal["auto", "off"] | PositiveInt
    memory: Literal["auto"] | Positive
    threads: PositiveInt | None
    color: Literal["style", "match", "luminance", "yiq", "lab"]
    recovery: RecoveryConfig
    minimize: Minimize
    assets: Literal["auto", "strict"]
    output: Literal["png", "png16", "jpeg", "tiff"]
    resume: Text | None
    rerun: Text | None
    name: Annotated[str, Field(pattern=r"^[^/\\]*[^/\\.][^/\\]*$", max_length=200)] | None

    @property
    def styles(self) -> dict[str, StylePicture]:
        """Every style by its key."""
        return {"style": self.style, **{f"style.more.{name}": more for name, more in self.style.more.items()}}


def problems(raw: Mapping[str, Any]) -> list[str]:
    """Every mistake in a resolved configuration, a line each."""
    lines = list(_schema_problems(Config, raw, ""))
    for key, node in _nodes(raw):
        schema = NODES.get(str(node.get("_target_")))
        if schema is not None:
            lines += _schema_problems(schema, node, f"{key}.")
    return [*lines, *_layer_problems(raw), *_weight_problems(raw)]


def styles_in(raw: Mapping[str, Any]) -> dict[str, Any]:
    """What stands for each style by its key, in a configuration that wasn't checked."""
    more = _get(raw, "style", "more")
    return {
        "style": raw.get("style"),
        **({f"style.more.{name}": style for name, style in more.items()} if isinstance(more, Mapping) else {}),
    }


def needed_layers(config: Config) -> list[str]:
    """Every layer that the objective reads."""
    return [*config.layers.content, *config.layers.style]


def smallest_side(config: Config, layers: Sequence[str]) -> int:
    """The smallest side in px of a picture of which the deepest of the layers still has a position."""
    if config.encoder.is_graph:
        from nst import graph

        return graph.smallest_side(config.encoder.architecture, tuple(layers))
    kernel, stride = (int(config.pooling.get(key, 2)) for key in ("kernel_size", "stride"))
    left = 2 if config.encoder.padding == "reflect" else 1  # a mirror image about an edge needs two
    return arch.smallest_side(layers, kernel=kernel, stride=stride, left=left)


def _nodes(raw: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every node that Hydra makes an object of, in whatever other it stands, by its key."""
    for group in ("pooling", "objective", "init", "optimizer", "schedule", "logger", "callbacks"):
        yield from _nodes_in(group, raw.get(group))


def _nodes_in(key: str, value: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(value, Mapping):
        if "_target_" in value:
            yield key, value
        for name, each in value.items():
            yield from _nodes_in(f"{key}.{name}", each)


def _schema_problems(schema: type[BaseModel], raw: Mapping[str, Any], prefix: str) -> Iterator[str]:
    try:
        schema.model_validate(raw)
    except ValidationError as error:
        seen = set()
        for mistake in error.errors():
            location = [str(part) for part in mistake["loc"] if part != "[key]"]
            key = prefix + ".".join(_without_alternatives(location, raw))
            if key in seen:  # `int | None` reports each alternative
                continue
            seen.add(key)
            yield _explain(key, mistake, schema)


def _without_alternatives(location: list[str], raw: Any) -> Iterator[str]:
    """Drops the names of union members, which pydantic appends to the keys."""
    for part in location:
        if isinstance(raw, Mapping):
            yield part
            raw = raw.get(part)
        elif isinstance(raw, list | tuple) and part.isdigit() and int(part) < len(raw):
            yield part
            raw = raw[int(part)]
        else:
            return


#: What pydantic says in its own terms.
_MESSAGES = {
    "string_too_short": "must not be empty",
    "string_too_long": "is too long",
    "string_pattern_mismatch": "has characters that don't belong here",
    "too_short": "has too few values",
    "too_long": "has too many values",
}


def _explain(key: str, mistake: Any, schema: type[BaseModel]) -> str:
    kind, value = mistake["type"], mistake["input"]
    if kind == "extra_forbidden":
        fields = [field.alias or name for name, field in schema.model_fields.items()]
        return problem(key, value, f"there is no such key; {choices(key.rsplit('.', 1)[-1], fields, noun='keys')}")
    if kind == "missing":
        return f"{key}: must be given"
    if kind == "value_error":
        message = str(mistake["msg"]).removeprefix("Value error, ")
        key = key.rstrip(".")
        return f"{key}: {message}" if key else message
    if kind in _MESSAGES:
        return problem(key, value, _MESSAGES[kind])
    return problem(key, value, f"must be {str(mistake['msg']).removeprefix('Input should be ')}")


def _layer_problems(raw: Mapping[str, Any]) -> Iterator[str]:
    architecture, layers = _get(raw, "encoder", "architecture"), _get(raw, "layers")
    if not isinstance(layers, Mapping) or not isinstance(architecture, str):
        return
    if architecture not in arch.BLOCKS and architecture not in arch.known():
        return
    valid = arch.layer_names(architecture)
    if not all(isinstance(layers.get(part), list) for part in ("content", "style")):
        return
    named = [(part, name) for part in ("content", "style") for name in layers[part]]
    if not named:
        yield f"layers.content=[], layers.style=[]: at least one layer is needed; {choices('', valid)}"
    for part, name in named:
        if name not in valid:
            yield problem(f"layers.{part}", name, f"no layer of {architecture}; {choices(name, valid)}")
    for part in ("content", "style"):
        names = layers[part]
        for name in sorted({str(name) for name in names if names.count(name) > 1}):
            yield problem(f"layers.{part}", name, "named more than once")


def _weight_problems(raw: Mapping[str, Any]) -> Iterator[str]:
    weights, layers = _get(raw, "weights"), _get(raw, "layers")
    if not isinstance(weights, Mapping) or not isinstance(layers, Mapping):
        return
    for part in ("content", "style"):
        factors, names = weights.get(f"{part}_layers"), layers.get(part) or []
        for name in factors if isinstance(factors, Mapping) else ():
            if name not in names:
                why = f"not among layers.{part}; {choices(name, names)}"
                yield problem(f"weights.{part}_layers", name, why)
    if layers.get("style") and _get(raw, "objective", "style") == {}:
        yield "objective/style=[]: at least one way to compare styles is needed, where layers.style names layers"
    effective = [weights.get(part) for part in ("content", "style") if layers.get(part)]
    if effective and not any([*effective, weights.get("laplacian")]):
        yield "weights: every part that has layers has the weight 0, so there is nothing to paint"


def _get(raw: Any, *keys: str) -> Any:
    for key in keys:
        raw = raw.get(key) if isinstance(raw, Mapping) else None
    return raw
