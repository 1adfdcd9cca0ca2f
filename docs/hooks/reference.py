"""The pages of the reference of the configuration: every key of every option, from ``configs/`` and the schema."""

import html
import re
from collections.abc import Iterator
from dataclasses import replace

import options
from options import Key, Option

from nst.config.keys import parts
from nst.config.schema import Config

FOLDER = "reference/configuration"

#: Every option by its group and its name.
Options = dict[str, dict[str, Option]]

#: Groups whose files set keys of other groups; their pages show the files.
WHOLE = ("pair", "pair/adam", "experiment")
#: A file in the format of Python's logging, which explains its keys.
ELSEWHERE = ("hydra/help", "hydra/hydra_logging", "hydra/job_logging")
#: What is shown as code within a comment: commands, assignments, keys, files and what is quoted already.
CODE = re.compile(
    r"(`[^`]+`|python -m [\w.]*\w"
    r"|[+~]?[\w/.@]+=(?:\[[^\]]*\]|\{[^}]*\}|[^\s,;:)]*[^\s,;:).])"
    rf"|\b(?:{'|'.join(Config.model_fields)}|configs|docs|hydra)[./][\w./*]*\w)"
)


def pages() -> Iterator[tuple[str, str]]:
    """Yield the path and the Markdown of each page."""
    found = options.read_all()
    about = options.groups()
    yield f"{FOLDER}/index.md", "\n".join(_index(found[""]["train"], about))
    for top in dict.fromkeys(group.partition("/")[0] for group in [*about, *found] if group):
        mine = {group: found[group] for group in sorted(found) if group.partition("/")[0] == top}
        yield f"{FOLDER}/{top}.md", "\n".join(_page(top, mine, about, found[""]["train"], found))


def undocumented() -> list[str]:
    """Return every key that no comment explains, with its file."""
    found = options.read_all()
    return [
        f"configs/{option.group}/{option.name}.yaml: {key.name}"
        for group, named in found.items()
        for option in named.values()
        for key in option.keys
        if group not in ELSEWHERE and key.value and not _comment(key, option, found)
    ]


def _comment(key: Key, option: Option, found: Options) -> str:
    """Return what is said of a key: by its file, by one that its file is built on, or by the group that it is of."""
    if option.group not in WHOLE:
        return _comments(option, found).get(key.name, "")
    if key.comment:
        return key.comment
    if key.name.startswith("hydra.sweeper.params."):
        return f"the values of {key.name.removeprefix('hydra.sweeper.params.')} that the study runs"
    own = [option for group in found if group not in WHOLE for option in found[group].values()]
    known = {each.name: each.comment for option in own for each in option.keys if each.comment}
    names = [key.name.rsplit(".", depth)[0] for depth in range(key.name.count(".") + 1)]
    return next((known[name] for name in names if name in known), "")


def _comments(option: Option, found: Options) -> dict[str, str]:
    """Return the comments of the keys of an option, with those of ``train.yaml`` and of the options it is built on."""
    train = {key.name: key.comment for key in found[""]["train"].keys}
    below = [_comments(found[option.group][base], found) for base in option.bases]
    own = {key.name: key.comment for key in option.keys if key.comment}
    return {name: text for each in (train, *below, own) for name, text in each.items() if text}


def _index(train: Option, about: dict[str, tuple[str, str]]) -> Iterator[str]:
    yield "# Configuration\n"
    yield (
        "This reference lists every key with its default, its meaning and its values. It is generated from the YAML "
        "files in `configs/`. `group=option` selects a file of a group, and `group.key=value` changes one of its "
        "values. Quote a list for the shell: `'layers.content=[relu4_1]'`. `_target_` names the Python class or "
        "function that a node instantiates. With `_partial_: true`, the run adds further arguments, such as the "
        "pixels.\n"
    )
    yield "## Groups\n"
    for group, (default, text) in about.items():
        page = group.partition("/")[0]
        anchor = "" if group == page else f"#{_slug(group)}"
        yield f"- [`{group}`]({page}.md{anchor}): {marked(text)}. Default: `{default}`."
    yield "- [`hydra`](hydra.md): settings for Hydra's launchers and sweepers.\n"
    yield "## Keys at the root\n"
    own = [key for key in train.keys if key.name.partition(".")[0] not in {group.partition("/")[0] for group in about}]
    yield from _keys(own, "train")
    role = parts(Config)
    groups = sorted(name for name, each in role.items() if each.may_change)
    yield "## What may change when a run is resumed\n"
    yield f"With `resume=FOLDER`, these keys may change: {', '.join(f'`{each}`' for each in groups)}.\n"
    yield "## What identifies a run\n"
    not_deciding = sorted(name for name, each in role.items() if not each.decides)
    yield (
        "A sweep, the configuration in a picture's file and `nst.compare` identify a run by the keys that its picture "
        f"depends on. These keys are not used: {', '.join(f'`{each}`' for each in not_deciding)}. A file is identified "
        "by its SHA-256, not by its path.\n"
    )


def _page(
    top: str,
    mine: dict[str, dict[str, Option]],
    about: dict[str, tuple[str, str]],
    train: Option,
    found: Options,
) -> Iterator[str]:
    yield f"# {top}\n"
    if top in about:
        default, text = about[top]
        yield f"{_sentence(marked(text))} Default: `{default}`.\n"
    shared = [key for key in train.keys if key.name.startswith(f"{top}.")]
    if shared and top != "hydra":
        yield "## Keys of every option\n"
        yield from _keys(shared, "every")
    for group, named in mine.items():
        if group != top:
            yield f"## {group} {{ #{_slug(group)} }}\n"
            if group in about:
                default, text = about[group]
                yield f"{_sentence(marked(text))} Default: `{default}`.\n"
        for option in named.values():
            yield from _option(option, found, deep=group != top)


def _option(option: Option, found: Options, *, deep: bool) -> Iterator[str]:
    yield f"{'###' if deep else '##'} {option.name} {{ #{_slug(option.group)}-{_slug(option.name)} }}\n"
    for text in option.comment:
        yield f"```sh\n{text}\n```\n" if text.startswith("python -m") else f"{marked(text)}\n"
    if option.group in (*WHOLE, *ELSEWHERE):
        yield f"```yaml\n{option.body}\n```\n"
        return
    for base in option.bases:
        yield f"Like [`{base}`](#{_slug(option.group)}-{_slug(base)}), except for the following.\n"
        if not option.keys:
            yield f"```yaml\n{option.body}\n```\n"
    explained = [replace(key, comment=_comment(key, option, found)) for key in option.keys]
    yield from _keys(explained, _slug(f"{option.group}-{option.name}"), option.targets)


def _keys(keys: list[Key], prefix: str, targets: dict[str, str] | None = None) -> Iterator[str]:
    """Yield a list of definitions: each key with its value, what it means and the values that it may have."""
    made = dict(targets or {})
    for node, target in made.items():
        if not any(key.name == node for key in keys):
            yield f"`{node}` instantiates `{target}`.\n"
    for key in keys:
        text = [_sentence(marked(key.comment, key.choices))] if key.comment else []
        if key.name in made:
            text.append(f"Instantiates `{made[key.name]}`.")
        if key.values and key.value:
            text.append(f"Values: {key.values}.")
        if text:
            value = f" = `{key.value}`" if key.value else ""
            yield f"`{key.name}`{{ #{prefix}-{_slug(key.name)} .key }}{value}\n:   {' '.join(text)}\n"


def marked(text: str, choices: list[str] | None = None) -> str:
    """Return a comment as Markdown, with commands, keys and the names of values as code."""
    named = "|".join(map(re.escape, [*sorted(choices or [], key=len, reverse=True), "null", "true", "false"]))
    text = re.sub(rf"(?<![\w`=.])({named})(?=[:,] |;| or |$)", r"`\1`", text)
    found = CODE.split(text)
    return "".join(_code(part) if place % 2 else _escaped(part) for place, part in enumerate(found))


def _code(part: str) -> str:
    return part if part.startswith("`") else f"`{part}`"


def _escaped(part: str) -> str:
    return re.sub(r"([*_\[\]|])", r"\\\1", html.escape(part, quote=False))


def _sentence(text: str) -> str:
    """Return a text that begins with a capital, unless it begins with code or a formula, and ends with a full stop."""
    formula = re.match(r"\w+\(", text)
    return f"{text[:1] if formula else text[:1].upper()}{text[1:]}{'' if text.endswith(('.', '…')) else '.'}"


def _slug(text: str) -> str:
    return re.sub(r"[^\w.]+", "-", text)
