"""The configuration of a run as flat keys with plain values, and functions that format and order values."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from nst.compare.runs import Run, section
from nst.config.identity import NAMES, NOT_COMPUTED
from nst.config.keys import without
from nst.errors import written

Value = str | int | float | bool | None
#: The inputs and their names among the assets. They are files, shown by name and identified by their SHA-256.
INPUTS = {"content": "content", "style": "style", "encoder": "weights"}
#: Text for a value that a run doesn't have.
ABSENT = "–"  # noqa: RUF001


def values_of(run: Run) -> dict[str, Value]:
    """Return the keys that decide what the run computes, its inputs by name, and the option of each group."""
    computed = {str(key): value for key, value in run.config.items() if key not in NOT_COMPUTED}
    computed |= {key: without(NAMES, computed[key]) for key in INPUTS if key in computed}
    if isinstance(computed.get("encoder"), Mapping):
        computed["encoder"] = {"calibrate": False, **computed["encoder"]}  # older runs don't have the key
    options = section(run.summary, "choices")
    groups: dict[str, Value] = {}
    for group, node in computed.items():
        if isinstance(node, Mapping) and group not in INPUTS:
            option = options.get(group, str(node.get("_target_", "")).rpartition(".")[2])
            groups |= {group: str(option)} if option else {}
    terms = section(section(run.config, "objective"), "style")
    groups |= {"objective.style": " ".join(map(str, terms))} if terms else {}
    return {**_inputs(run), **groups, **dict(_flat(computed))}


def shown(value: Value, digits: int = 6) -> str:
    """Return a value as written on the command line: ``1e-4``, ``null``, ``true``."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float):
        return written(value, digits)
    return str(value)


def pair(key: str, text: str) -> str:
    """Return ``key=text`` as it is typed into a filter: with quotes if the text has spaces or quotes."""
    escaped = re.sub(r'(["\\])', r"\\\1", text)
    return f'{key}="{escaped}"' if re.search(r'[\s"]', text) else f"{key}={text}"


def few(texts: Sequence[str], most: int) -> list[str]:
    """Return the first ``most`` texts, and how many more there are."""
    return [*texts[:most], *([f"and {len(texts) - most} more"] if len(texts) > most else [])]


def short(digest: str) -> str:
    """Return the first digits of a SHA-256; another identity unchanged."""
    return digest if " " in digest else digest[:6]


def names_of(runs: Sequence[Run]) -> list[str]:
    """Return the names of the runs, short ones where no other run has the same.

    The name of a sweep's run is without its identity, and without the beginning that the names of all runs share.
    """
    plain = [without_identity(run.name) for run in runs]
    begin = 0
    if all(name != run.name for name, run in zip(plain, runs, strict=True)) and len(runs) > 1:
        begin = _shared_parts(plain)
    names = ["".join(_parts(name)[begin:]) for name in plain]
    counts = Counter(names)
    return [name if counts[name] == 1 else run.name for name, run in zip(names, runs, strict=True)]


def without_identity(name: str) -> str:
    """Return the name of a sweep's run without the identity at its end; any other name unchanged."""
    start, _, identity = name.rpartition("-")
    return start if start and len(identity) == 10 and set(identity) <= set("0123456789abcdef") else name


def _shared_parts(names: Sequence[str]) -> int:
    """Return with how many equal parts the names begin. Of each name, at least the last part is left."""
    columns = zip(*(_parts(name)[:-1] for name in names), strict=False)
    return sum(1 for _ in takewhile(lambda parts: len(set(parts)) == 1, columns))


def _parts(name: str) -> list[str]:
    """Return the folders and the settings in the name of a sweep's run, each with the sign that ends it."""
    return re.split(r"(?<=/)|(?<=\\)|(?<=-)(?<!\de-)", name)  # 1e-5 is one setting


def order(value: Value) -> tuple[int, float, str]:
    """Return a sort key that puts numbers by size before words by alphabet."""
    is_number = isinstance(value, int | float) and value == value
    return (0, float(value), "") if is_number and value is not None else (1, 0.0, str(value))


def weights_of(run: Run) -> str | None:
    """Return the identity of the weights: the SHA-256, or a text with the seed of random ones; None if unknown."""
    asset = run.asset("weights")
    known = asset.get("sha256") or asset.get("detail")
    return str(known) if known else None


def digest_of(run: Run, key: str) -> str | None:
    """Return the identity of an input, which distinguishes it from others of the same name; None if unknown."""
    if key == "encoder":
        return weights_of(run)
    digest = run.asset(INPUTS[key]).get("sha256")
    return str(digest) if digest else None


def _inputs(run: Run) -> dict[str, Value]:
    names: dict[str, Value] = {}
    more = section(section(run.config, "style"), "more")
    nodes = {key: section(run.config, key) for key in ("content", "style")}
    for key, node in {**nodes, **{f"style.more.{name}": section(more, name) for name in more}}.items():
        path, name = node.get("path"), node.get("name")
        if path or name:
            names[key] = Path(str(path)).stem if path else str(name)
    encoder = section(run.config, "encoder")
    if "architecture" in encoder:
        names["encoder"] = _encoder(str(encoder["architecture"]), run.asset("weights"))
    return names


def _encoder(architecture: str, weights: Mapping[str, Any]) -> str:
    source = weights.get("source")
    if source == "path":
        return f"{architecture} from {Path(str(weights.get('path'))).name}"
    if source == "stand-in":
        return f"stand-in for {architecture}"
    if source == "package":
        return f"{architecture}, Oxford's at 8 bits"
    return f"{architecture}, random" if source == "random" else architecture


def _flat(node: Any, prefix: str = "") -> Iterator[tuple[str, Value]]:
    """Yield dotted keys and plain values; a list's items are joined. Skip the keys for how an object is made."""
    for key, value in node.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}.")
        elif isinstance(value, list):
            yield name, " ".join(each if isinstance(each, str) else shown(each) for each in value)
        elif key not in ("_partial_", "_convert_"):
            yield name, value if isinstance(value, str | int | float | None) else str(value)
