"""Groups, options and keys of the configuration, read from the YAML files.

A shell waits for its completion, and Hydra needs most of a second to compose a configuration. What is read here agrees
with what Hydra composes (tests/cli/test_cli.py).
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from nst.files import paths

#: Hydra's groups that a user chooses from, and the node that the project's settings for them set.
PLUGINS = {"hydra/launcher": "launcher", "hydra/sweeper": "sweeper"}

#: Keys of Hydra's own that a user sets: the folder of a run, and that of a sweep.
FOLDERS = ("hydra.run.dir", "hydra.sweep.dir")


def groups() -> list[str]:
    """Return the groups of the configuration, and those of Hydra for which there are settings."""
    top = paths.configs()
    found = {path.parent.relative_to(top).as_posix() for path in top.rglob("*/*.yaml")}
    return [*sorted(group for group in found if not group.startswith("hydra/")), *PLUGINS]


def options(group: str) -> dict[str, str]:
    """Return the options of a group, each with the first line of its file's comment."""
    if group in PLUGINS:
        settings = (paths.configs() / "hydra" / "preset").glob("*.yaml")
        return {path.stem: _comment(path) for path in sorted(settings) if PLUGINS[group] in _read(path)}
    return {path.stem: _comment(path) for path in sorted((paths.configs() / group).glob("*.yaml"))}


def keys(words: Sequence[str]) -> dict[str, Any]:
    """Return the keys of the configuration that some overrides choose, each with its value; of Hydra's own, FOLDERS."""
    given = _given(words)
    chosen: dict[str, Any] = {}
    while True:
        before = dict(chosen)
        found = dict(_leaves("train", "", chosen, given))
        if chosen == before:  # what an option overrides may override others
            return {key: value for key, value in found.items() if key in FOLDERS or not key.startswith("hydra.")}


def leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted keys of a node, and their values."""
    for key, value in node.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _given(words: Sequence[str]) -> dict[str, Any]:
    """Return the options that overrides choose: one, or a list, of each group; of a sweep's, the first."""
    parts = (word.lstrip("+").partition("=") for word in words)
    known = groups()
    given: dict[str, Any] = {}
    for group, _, value in parts:
        if group in known:
            several = [name.strip() for name in value.strip("[]").split(",") if name]
            given[group] = several if value.startswith("[") else next(iter(several), None)
    return given


def _leaves(
    name: str, package: str | None, chosen: dict[str, Any], given: Mapping[str, Any]
) -> Iterator[tuple[str, Any]]:
    """Yield the leaves of a file and of those in its defaults list; put the options that it overrides into ``chosen``.

    ``package`` is where its keys belong, if not where the file or its group says.
    """
    path = paths.configs() / f"{name}.yaml"
    if not path.is_file():
        return
    node = _read(path)
    group = name.rpartition("/")[0]
    place = package if package is not None else paths.package(path, group)
    entries = node.get("defaults", [])
    content = {key: value for key, value in node.items() if key != "defaults"}
    for entry in entries if "_self_" in entries else [*entries, "_self_"]:
        if entry == "_self_":
            yield from leaves(content, f"{place}." if place else "")
        elif isinstance(entry, str):
            yield from _leaves(_beside(group, entry), package, chosen, given)
        else:
            [(key, value)] = entry.items()
            target, _, at = key.removeprefix("override ").partition("@")
            inner = _beside(group, target)
            if key.startswith("override "):
                chosen[inner] = value
                continue
            picked = value if at else given.get(inner, chosen.get(inner, value))
            for option in picked if isinstance(picked, list) else [picked]:
                yield from _leaves(f"{inner}/{option}", place if at == "_here_" else None, chosen, given)


def _beside(group: str, name: str) -> str:
    return name[1:] if name.startswith("/") else f"{group}/{name}".lstrip("/")


def read(path: Path) -> dict[str, Any]:
    """Return the content of a YAML file."""
    content = yaml.load(path.read_bytes(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
    return content if isinstance(content, dict) else {}


_read = functools.cache(read)


def _comment(path: Path) -> str:
    """Return the first line of a file's comment."""
    lines = path.read_text(encoding="utf-8").splitlines()
    texts = [line[2:] for line in lines if line.startswith("# ") and not line.startswith(("# @package", "# python -m"))]
    return texts[0] if texts else ""
