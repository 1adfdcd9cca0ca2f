"""Roles of the configuration's keys, which the schema declares: how each key relates to the picture."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from pydantic import BaseModel

#: Objects that the runs of a process share: the encoder, the content's features, and the statistics of the styles.
Shared = Literal["encoder", "content", "style"]

#: The losses of an evaluation.
Loss = Literal["total", "content", "style", "tv"]
LOSSES: tuple[Loss, ...] = get_args(Loss)


@dataclass(frozen=True)
class Key:
    """The role of a key in a run. Every top-level key of the schema has one, in the metadata of its type.

    Attributes:
        decides: whether the picture depends on the key. These keys identify what a run computes: in a sweep's folder,
            in the note in a picture, and in a comparison.
        file: whether the key only names a file, which is identified by its SHA-256 instead: True for the main file of
            the group, ``beside`` for an additional one.
        may_change: whether the value may change when a run is resumed.
        minimized: whether the value that a sweeper minimizes depends on the key, although the picture doesn't.
        shared: the shared objects that depend on the key. The default is all of them, so that a forgotten declaration
            costs time, but never reuses an object that was made for another value.
        losses: the losses that can't be compared between runs with other values of the key, because they measure
            something else.
    """

    decides: bool = True
    file: bool | Literal["beside"] = False
    may_change: bool = False
    minimized: bool = False
    shared: tuple[Shared, ...] = ("encoder", "content", "style")
    losses: tuple[Loss, ...] = ()


def parts(schema: type[BaseModel]) -> dict[str, Key]:
    """Return the role of each key of a schema. Raise LookupError for a key without exactly one."""
    return {name: _part(name, field.metadata) for name, field in schema.model_fields.items()}


def file_keys(*schemas: type[BaseModel], beside: bool = True) -> frozenset[str]:
    """Return the keys of some schemas that only name files; with ``beside``, including those of additional files."""
    marks = {name: field.metadata for schema in schemas for name, field in schema.model_fields.items()}
    kinds = (True, "beside") if beside else (True,)
    return frozenset(
        name for name, mark in marks.items() if any(isinstance(each, Key) and each.file in kinds for each in mark)
    )


def _part(name: str, metadata: list[Any]) -> Key:
    found = [each for each in metadata if isinstance(each, Key)]
    if len(found) != 1:
        raise LookupError(f"{name}: its declaration has {len(found)} parts (nst.config.keys.Key); it needs one")
    return found[0]


def without(keys: frozenset[str], node: Any) -> Any:
    """Return a node of a configuration without some keys, at any depth."""
    if not isinstance(node, Mapping):
        return node
    return {key: without(keys, value) for key, value in node.items() if key not in keys}


#: Modules that have moved: the prefix of their names in older configurations, and the current prefix.
MOVED = {
    "pytorch_lightning.loggers.TensorBoardLogger": "nst.logger.TensorBoard",
    "nst.init.": "nst.optimizer.start.",
    "nst.pooling.": "nst.encoder.pooling.",
    "nst.schedule.": "nst.optimizer.schedule.",
}


def renamed(node: Any, *, back: bool = False) -> Any:
    """Return a node with old ``_target_`` names replaced by the current ones; with ``back``, the reverse."""
    if isinstance(node, Mapping):
        return {
            key: _renamed(value, back) if key == "_target_" and isinstance(value, str) else renamed(value, back=back)
            for key, value in node.items()
        }
    return [renamed(each, back=back) for each in node] if isinstance(node, list) else node


def _renamed(name: str, back: bool) -> str:
    for first, now in MOVED.items():
        old, new = (now, first) if back else (first, now)
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name


def with_named_loggers(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration with its loggers by name; older ones have a single logger, without a name."""
    logger = config.get("logger")
    if not isinstance(logger, Mapping) or "_target_" not in logger:
        return dict(config)
    name = str(logger["_target_"]).rpartition(".")[2].lower().removesuffix("logger") or "logs"
    return {**config, "logger": {name: logger}}
