"""The identity of a run: digests and notes of what it computes, derived from its configuration and its files."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from nst.config.keys import Loss, Shared, file_keys, parts, renamed, without
from nst.config.schema import Config, EncoderConfig, Picture, StylePicture
from nst.files import paths
from nst.files.atomic import sha256

PARTS = parts(Config)

#: Keys that decide how a run is executed and how its picture is used, but not what it computes.
HOW = frozenset(name for name, part in PARTS.items() if not part.decides)

#: The keys in HOW, and the keys that only name files.
NOT_COMPUTED = HOW | {name for name, part in PARTS.items() if part.file}

#: Keys and groups that may change when a run is resumed.
MAY_CHANGE = tuple(name for name, part in PARTS.items() if part.may_change)

#: Keys that may change when a search is continued, because the minimized value doesn't depend on them.
NOT_MINIMIZED = frozenset(name for name in HOW if not PARTS[name].minimized)

#: Keys that name the file of a picture, a style or an encoder; and these plus the keys that name additional files.
NAMES = file_keys(Picture, StylePicture, EncoderConfig, beside=False)
FILES = file_keys(Picture, StylePicture, EncoderConfig)

#: Key of the files' digests in a note, and the first line of a note.
DIGESTS = "sha256"
FIRST_LINE = "# nst.train: run it again with rerun=FILE\n"


def identity(config: Mapping[str, Any], files: Mapping[str, Any]) -> str:
    """Return 10 hexadecimal digits that identify what a run computes: its pictures, weights and numbers.

    ``config`` is a resolved configuration; ``files`` identifies the pictures and weights that are really used.
    Paths, loggers, callbacks, devices and threads don't affect the result.
    """
    kept = {key: value for key, value in config.items() if key not in NOT_COMPUTED}
    kept |= {group: without(FILES, kept.get(group)) for group in ("style", "encoder")}
    if isinstance(kept["encoder"], dict) and kept["encoder"].get("network") is None:
        kept["encoder"].pop("network", None)  # older configurations don't have the key
    start = kept.get("init")
    if isinstance(start, Mapping):
        start = {key: value for key, value in start.items() if key not in NOT_COMPUTED}
        path = paths.of_user(str(start.get("path")))
        kept["init"] = {**start, "path": sha256(path)} if path.is_file() else start
    return _digest({**renamed(kept, back=True), "files": files})[:10]


def fingerprint(config: Mapping[str, Any], what: Shared) -> str:
    """Return a digest of the keys that the shared object ``what`` depends on, without those that name files."""
    return _digest(
        {name: without(FILES, config[name]) for name, part in PARTS.items() if part.decides and what in part.shared}
    )


def incomparable(key: str) -> tuple[Loss, ...]:
    """Return the losses that can't be compared between runs that differ in a key or in the option of a group.

    Another content or style doesn't count: the losses measure the same of other pictures. An additional style counts,
    because it adds its own losses.
    """
    part = PARTS.get(_parts(key)[0])
    other = names_picture(key) and "more" not in _parts(key)
    return () if part is None or other else part.losses


def of_encoder(key: str) -> bool:
    """Return whether only the encoder depends on a key: the features of runs that differ in it are different ones."""
    return PARTS[_parts(key)[0]].shared == ("encoder",)


def names_picture(key: str) -> bool:
    """Return whether a key or a group names a picture: the content, the style or an additional style."""
    parts = _parts(key)
    node = parts[:-1] if parts[-1] in NAMES else parts
    return node in (["content"], ["style"]) or (node[:2] == ["style", "more"] and len(node) < 4)


def _parts(key: str) -> list[str]:
    """Return the parts of a key, ``a.b``, or of a group, ``a/b``."""
    return re.split(r"[./]", key)


def note(config: Mapping[str, Any], digests: Mapping[str, str | None]) -> str:
    """Return the note for a picture: the keys of a resolved configuration that decide what was computed, as YAML.

    The note contains no paths and no times. ``digests`` are the SHA-256 of the picture's input files, by name.
    """
    computed = {key: _without_paths(value) for key, value in of_files(config).items() if key not in HOW}
    return FIRST_LINE + yaml.safe_dump({**computed, DIGESTS: dict(digests)}, sort_keys=False)


def of_files(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration in which a picture from a file has no name, address and digest of a group's option."""
    found = {key: of_files(value) if isinstance(value, Mapping) else value for key, value in config.items()}
    own = "url" in found and found.get("path") is not None
    return {**found, "name": "file", "url": None, "sha256": None} if own else found


def _without_paths(value: Any) -> Any:
    """Return ``value`` with ``???``, which stands for a mandatory value, in place of each absolute path."""
    if isinstance(value, Mapping):
        return {key: _without_paths(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_paths(item) for item in value]
    return "???" if isinstance(value, str) and Path(value).is_absolute() else value


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(_plain(value), sort_keys=True).encode()).hexdigest()


def _plain(value: Any) -> Any:
    """Return ``value`` with integers as floats, so that equal numbers such as 1e5 and 100000 have the same digest."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
