"""Validation of a configuration against its schema. Every mistake is reported in one line."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from nst.config.node_schema import NODES
from nst.config.schema import Config
from nst.encoder import PIXELS
from nst.encoder import architecture as arch
from nst.errors import choices, problem
from nst.metrics.names import MEASURES, OBSERVERS, has_one_style, measured_by

M = TypeVar("M", bound=BaseModel)


def validated(raw: Mapping[str, Any]) -> tuple[Config | None, list[str], list[str]]:
    """Return a resolved configuration as a validated object, None if it has mistakes, and a line for each mistake.

    The mistakes of the first list are wrong by themselves, those of the second don't fit another key.
    """
    config, lines = _checked(Config, raw, "")
    for key, node in _nodes(raw):
        schema = NODES.get(str(node.get("_target_")))
        if schema is not None:
            lines += _checked(schema, node, f"{key}.")[1]
    for group, line in _nameless(raw):
        lines = [line, *(each for each in lines if not each.startswith((f"{group}.", f"{group}=")))]
    unfit = [*_layer_problems(raw), *_weight_problems(raw), *_averaging_problems(raw), *_metric_problems(raw)]
    return (None if lines or unfit else config), lines, unfit


def _nameless(raw: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each node that has the keys of an option, which belong elsewhere, and what the option's file lacks."""
    for group in ("experiment", "pair"):
        if group in raw:
            headless = isinstance(raw[group], Mapping) and raw[group]
            why = (
                "an option of this group sets keys of the whole configuration; begin its file with: # @package _global_"
            )
            yield group, problem(group, raw[group], why if headless else "an option's file must have keys and values")
    for group, key in (("objective.style", "_target_"), ("style.more", "url"), ("style.more", "path")):
        value = _get(raw, *group.split("."), key)
        if value is not None and not isinstance(value, Mapping):
            why = f"this option has no name; begin its file with: # @package {group}.NAME"
            yield group, problem(f"{group}.{key}", value, why)


def _nodes(raw: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the key and the value of every node with a ``_target_`` in these groups, at any depth."""
    for group in ("pooling", "objective", "init", "optimizer", "schedule", "logger", "callbacks"):
        yield from _nodes_in(group, raw.get(group))


def _nodes_in(key: str, value: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(value, Mapping):
        if "_target_" in value:
            yield key, value
        for name, each in value.items():
            yield from _nodes_in(f"{key}.{name}", each)


def _checked(schema: type[M], raw: Mapping[str, Any], prefix: str) -> tuple[M | None, list[str]]:
    try:
        return schema.model_validate(raw), []
    except ValidationError as error:
        found: dict[tuple[str, ...], list[Any]] = {}
        for mistake in error.errors():  # a union such as `int | None` reports each alternative
            location = [str(part) for part in mistake["loc"] if part != "[key]"]
            found.setdefault(tuple(_without_alternatives(location, raw)), []).append(mistake)
        lines = {
            prefix + ".".join(keys): _explain(
                prefix + ".".join(keys), mistakes, schema, _may_be_null(schema, raw, keys)
            )
            for keys, mistakes in found.items()
        }
        # Of the alternatives of a union, report the one that got furthest.
        return None, [line for key, line in lines.items() if not any(each.startswith(f"{key}.") for each in lines)]


def _may_be_null(schema: type[BaseModel], raw: Mapping[str, Any], keys: Sequence[str]) -> bool:
    """Return whether a key may be null: with null, the schema finds no mistake in this key."""
    try:
        schema.model_validate(_with_null(raw, keys))
    except ValidationError as error:
        places = [[str(part) for part in mistake["loc"]][: len(keys)] for mistake in error.errors()]
        return list(keys) not in places
    return True


def _with_null(raw: Any, keys: Sequence[str]) -> Any:
    """Return a copy of nested keys and values in which one is null."""
    if not keys:
        return None
    first, *rest = keys
    if isinstance(raw, Mapping):
        return {**raw, first: _with_null(raw.get(first), rest)}
    return [_with_null(each, rest) if str(number) == first else each for number, each in enumerate(raw)]


def _without_alternatives(location: list[str], raw: Any) -> Iterator[str]:
    """Yield a location's keys without the names of union members, which pydantic appends to the keys."""
    for part in location:
        if isinstance(raw, Mapping):
            yield part
            raw = raw.get(part)
        elif isinstance(raw, list | tuple):
            if part.isdigit() and int(part) < len(raw):
                yield part
                raw = raw[int(part)]
        else:
            return


#: Readable messages for pydantic's error types.
_MESSAGES = {
    "string_too_short": "must not be empty",
    "string_pattern_mismatch": "has characters that are not allowed",
    "too_short": "has too few values",
    "too_long": "has too many values",
    "dict_type": "must have keys, not a value",
    "model_type": "must have keys, not a value",
}


def _explain(key: str, mistakes: Sequence[Any], schema: type[BaseModel], may_be_null: bool) -> str:
    """Return one line about a key, from the mistakes that each type that it may have reports."""
    kind, value = mistakes[0]["type"], mistakes[0]["input"]
    if kind == "extra_forbidden":
        fields = [field.alias or name for name, field in schema.model_fields.items()]
        return problem(key, value, f"there is no such key; {choices(key.rsplit('.', 1)[-1], fields, noun='keys')}")
    if kind == "missing":
        return f"{key}: must be given"
    if kind == "value_error":
        message = str(mistakes[0]["msg"]).removeprefix("Value error, ")
        key = key.rstrip(".")
        return f"{key}: {message}" if key else message
    if kind in _MESSAGES:
        return problem(key, value, f"{_MESSAGES[kind]}{'; null is allowed' if may_be_null else ''}")
    kinds = [
        f"a list: '{key}=[{value}]'"
        if each["type"] == "list_type"
        else str(each["msg"]).removeprefix("Input should be ")
        for each in mistakes
        if each["type"] not in _MESSAGES
    ]
    return problem(key, value, f"must be {' or '.join(dict.fromkeys([*kinds, *(['null'] if may_be_null else [])]))}")


def _layer_problems(raw: Mapping[str, Any]) -> Iterator[str]:
    architecture, layers = _get(raw, "encoder", "architecture"), _get(raw, "layers")
    if _get(raw, "encoder", "network") is not None:
        return
    if not isinstance(layers, Mapping) or not isinstance(architecture, str):
        return
    if architecture not in arch.BLOCKS and architecture not in arch.known():
        return
    valid = [*arch.layer_names(architecture), PIXELS]
    if not all(isinstance(layers.get(part), list) for part in ("content", "style")):
        return
    named = [(part, name) for part in ("content", "style") for name in layers[part]]
    if all(name == PIXELS for _, name in named):
        which = ", ".join(f"layers.{part}=[{', '.join(map(str, layers[part]))}]" for part in ("content", "style"))
        yield f"{which}: at least one layer {'of the network ' if named else ''}is needed; {choices('', valid[:-1])}"
    for part, name in named:
        if name not in valid:
            vgg = arch.layer_names("vgg19")
            advice = "layers=resnet has layers of ResNets; " if name in vgg and architecture not in arch.BLOCKS else ""
            yield problem(f"layers.{part}", name, f"this is no layer of {architecture}; {advice}{choices(name, valid)}")
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
                why = f"this layer is not in layers.{part}; {choices(name, names)}"
                yield problem(f"weights.{part}_layers", name, why)
    if layers.get("style") and _get(raw, "objective", "style") == {}:
        yield "objective/style=[]: at least one style term is needed if layers.style names layers"
    effective = [weights.get(part) for part in ("content", "style") if layers.get(part)]
    if effective and not any([*effective, weights.get("laplacian")]):
        yield "weights: every part that has layers has the weight 0; choose a weight above 0"


def _averaging_problems(raw: Mapping[str, Any]) -> Iterator[str]:
    patience = _get(raw, "schedule", "patience")
    if patience is not None and _get(raw, "optimizer", "averaging") is not None:
        why = "with optimizer.averaging, a scale always uses all of its evaluations; choose null"
        yield problem("schedule.patience", patience, why)


def _metric_problems(raw: Mapping[str, Any]) -> Iterator[str]:
    name, networks = _get(raw, "minimize", "metric"), raw.get("metrics")
    if name not in list(MEASURES) or not isinstance(networks, list | None):
        return  # the schema tells
    if not networks:
        yield problem("minimize.metric", name, f"nothing is measured; choose a network: metrics=[{OBSERVERS[0]}]")
    elif name not in measured_by(networks[0]):
        why = f"{networks[0]} doesn't measure it; choose a measure by the first network of metrics"
        yield problem("minimize.metric", name, why)
    style = raw.get("style")
    if MEASURES[name].of == "style" and isinstance(style, Mapping) and not has_one_style(style):
        valid = [each for each, measure in MEASURES.items() if measure.of != "style"]
        why = "this measure needs a single style without a region or a mask; choices: "
        yield problem("minimize.metric", name, why + ", ".join(valid))


def _get(raw: Any, *keys: str) -> Any:
    for key in keys:
        raw = raw.get(key) if isinstance(raw, Mapping) else None
    return raw
