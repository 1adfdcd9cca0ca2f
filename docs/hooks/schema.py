"""The values that a key may have, in words, from the schema that a configuration is checked against."""

import re
from collections.abc import Mapping
from typing import Any

from nst.config.node_schema import NODES
from nst.config.schema import Config

Schema = Mapping[str, Any]

_CONFIG = Config.model_json_schema()


def root() -> Schema:
    """Return the schema of the whole configuration."""
    return {**_CONFIG, "definitions": _CONFIG["$defs"]}


def of_target(target: str) -> Schema | None:
    """Return the schema of a node by its ``_target_``; None if the node has no schema."""
    if target not in NODES:
        return None
    found = NODES[target].model_json_schema(by_alias=True)
    return {**found, "definitions": found.get("$defs", {})}


def below(schema: Schema | None, key: str) -> Schema | None:
    """Return the schema of the value that a mapping has for a key; None if nothing is known of it."""
    if schema is None:
        return None
    for each in _alternatives(schema):
        found = each.get("properties", {}).get(key) or each.get("additionalProperties")
        if isinstance(found, Mapping):
            return {**found, "definitions": schema["definitions"]}
    return None


def options(schema: Schema | None) -> list[str]:
    """Return the words that a value may be."""
    if schema is None:
        return []
    found = []
    for each in _alternatives(schema):
        found += each.get("enum", [each["const"]] if "const" in each else [])
    return [str(each) for each in found]


def words(schema: Schema | None) -> str:
    """Return the values that a schema allows as Markdown: ``a number above 0, or `null` ``. Empty if all are."""
    if schema is None:
        return ""
    found = [_one(each, schema["definitions"]) for each in _alternatives(schema)]
    if "" in found:
        return ""
    *others, last = sorted(dict.fromkeys(found), key=lambda each: each.startswith("a list"))
    return f"{', '.join(others)} or {last}" if others else last


def _alternatives(schema: Schema) -> list[Schema]:
    """Return the members of a union, with references resolved."""
    if "$ref" in schema:
        named = schema["definitions"][schema["$ref"].rpartition("/")[2]]
        return _alternatives({**named, "definitions": schema["definitions"]})
    if "anyOf" in schema:
        return [
            each
            for member in schema["anyOf"]
            for each in _alternatives({**member, "definitions": schema["definitions"]})
        ]
    return [schema]


def _one(schema: Schema, definitions: Schema) -> str:
    if "enum" in schema:
        return ", ".join(f"`{each}`" for each in schema["enum"])
    if "const" in schema:
        return f"`{str(schema['const']).lower()}`"
    kind = schema.get("type")
    if kind == "array":
        one = words({**schema.get("items", {}), "definitions": definitions}) or "a value"
        return "a list of " + re.sub(r"^an? ([a-z]+)", r"\1s", one)
    named = {"integer": "an integer", "number": "a number", "string": "a string", "boolean": "`true`, `false`"}
    return {**named, "null": "`null`"}.get(str(kind), "") + _bounds(schema)


#: The words for the bounds of a number.
_BOUNDS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}


def _bounds(schema: Schema) -> str:
    """Return the bounds of a number, after a space; nothing if there are none."""
    found = [f"{text} {schema[key]:,}" for key, text in _BOUNDS.items() if key in schema]
    return f" {' and '.join(found)}" if found else ""
