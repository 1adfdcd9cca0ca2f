"""The options of the configuration's groups and their keys, with what the comments of the YAML files say of them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import schema
import yaml
from schema import Schema

from nst.files import paths

#: Keys that say of which Python object a node is made; the reference explains them once.
MADE = ("_target_", "_partial_")


@dataclass(frozen=True)
class Key:
    """One key of an option.

    Attributes:
        name: the key as the command line has it, such as ``optimizer.lr``.
        value: its value, as the file has it; empty if it is a mapping of further keys.
        comment: what the file says of it; empty if nothing.
        values: the values that the schema allows, in words.
        choices: the words among these values.
    """

    name: str
    value: str
    comment: str
    values: str
    choices: list[str]


@dataclass
class Option:
    """One file of ``configs/``.

    Attributes:
        group: its group, such as ``objective/style``.
        name: its name, such as ``gram``.
        comment: what the file says of itself, a paragraph for each item.
        package: the node that its keys are put into; empty for those at the top.
        bases: the options of the same group that it is built on.
        targets: the ``_target_`` of each node, by the node's key.
        body: the file without its comments at the top.
    """

    group: str
    name: str
    comment: list[str]
    package: str
    body: str
    bases: list[str] = field(default_factory=list)
    keys: list[Key] = field(default_factory=list)
    targets: dict[str, str] = field(default_factory=dict)


def read(path: Path) -> Option:
    """Return the option that a file of ``configs/`` is."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    group = path.relative_to(paths.configs()).parent.as_posix().removeprefix(".")
    head = [line.removeprefix("#").removeprefix(" ") for line in _leading(lines)]
    named = [line.removeprefix("@package ") for line in head if line.startswith("@package ")]
    package = (named[0] if named else group.replace("/", ".")).replace("_global_", "")
    body = "\n".join(lines[len(head) :]).strip()
    comment = _paragraphs(line for line in head if not line.startswith("@package"))
    option = Option(group, path.stem, comment, package, body)
    tree = yaml.compose(text)
    within: Schema | None = schema.root()
    for part in package.split(".") if package else ():
        within = schema.below(within, part)
    if isinstance(tree, yaml.MappingNode):
        _read_node(option, tree, lines, package, within, top=len(head))
    return option


def read_all() -> dict[str, dict[str, Option]]:
    """Return every option by its group and its name; the group of ``train.yaml`` is empty."""
    found: dict[str, dict[str, Option]] = {}
    for path in sorted(paths.configs().rglob("*.yaml")):
        option = read(path)
        found.setdefault(option.group, {})[option.name] = option
    return found


def groups() -> dict[str, tuple[str, str]]:
    """Return the default option of each group and what a comment beside it says of the group, in the order of use."""
    found = {}
    for name, prefix in (("train", ""), ("objective/gram", "objective/")):
        for line in (paths.configs() / f"{name}.yaml").read_text(encoding="utf-8").splitlines():
            matched = re.match(r"  - ([a-z/]+): (\S+)\s+# (.*)", line)
            if matched:
                found[prefix + matched[1]] = (matched[2], matched[3])
    tops = [group.partition("/")[0] for group in found]
    return dict(sorted(found.items(), key=lambda each: tops.index(each[0].partition("/")[0])))


def _leading(lines: list[str]) -> Iterator[str]:
    for line in lines:
        if not line.startswith("#"):
            return
        yield line


def _paragraphs(lines: Iterator[str]) -> list[str]:
    """Join the lines of a comment. A line that begins with a command is a paragraph, with the indented lines below."""
    found = [""]
    for line in lines:
        if line.startswith("python -m"):
            found += [line, ""]
        elif line.startswith(" ") and len(found) > 1 and not found[-1]:
            found[-2] += f" {line.strip()}"
        else:
            # A command at the end of a line ends there.
            line = re.sub(r"(?<!`)(python -m [^`,;]*[^`,;.])$", r"`\1`.", line)
            found[-1] = f"{found[-1]} {line}".strip()
    return [each for each in found if each]


def _read_node(
    option: Option, node: yaml.MappingNode, lines: list[str], prefix: str, within: Schema | None, *, top: int
) -> None:
    """Add the keys of a node of a file to its option. Comments above the line ``top`` belong to the file."""
    values = {key.value: value for key, value in node.value}
    if "_target_" in values:
        option.targets[prefix] = values["_target_"].value
        within = schema.of_target(values["_target_"].value)
    for key, value in node.value:
        if key.value == "defaults" and not (prefix and node.start_mark.column):
            option.bases += [each.value for each in value.value if str(each.value) in _siblings(option)]
            continue
        if key.value in MADE or (key.value == "hydra" and not option.group):
            continue
        name = f"{prefix}.{key.value}".lstrip(".")
        own = schema.below(within, key.value)
        nested = isinstance(value, yaml.MappingNode) and bool(value.value)
        shown = "" if nested else _source(lines, value)
        comment = _comment(lines, key, value, top)
        option.keys.append(Key(name, shown, comment, schema.words(own), schema.options(own)))
        if nested:
            _read_node(option, value, lines, name, own, top=top)


def _siblings(option: Option) -> set[str]:
    return {path.stem for path in (paths.configs() / option.group).glob("*.yaml")}


def _source(lines: list[str], value: yaml.Node) -> str:
    """Return a value as the file has it, on one line."""
    first, last = value.start_mark, value.end_mark
    if last.line == first.line:
        return lines[first.line][first.column : last.column]
    rows = [lines[first.line][first.column :], *lines[first.line + 1 : last.line + (last.column > 0)]]
    return " ".join(row.strip() for row in rows if row.strip() and not row.strip().startswith("#"))


def _comment(lines: list[str], key: yaml.Node, value: yaml.Node, top: int) -> str:
    """Return the comments above a key and behind it."""
    line = key.start_mark.line
    above = []
    for row in reversed(lines[top:line]):
        if not row.strip().startswith("#"):
            break
        above.insert(0, row.strip().removeprefix("#").strip())
    same = value.end_mark.line == line
    behind = lines[line][value.end_mark.column if same else key.end_mark.column + 1 :].partition("# ")[2]
    return " ".join([*above, behind.strip()]).strip()
