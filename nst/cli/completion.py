"""Completion of the command ``nst`` in a shell, by argcomplete: commands, flags, groups, options, keys and files."""

import argparse
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import argcomplete
import yaml
from argcomplete.completers import BaseCompleter, DirectoriesCompleter, FilesCompleter
from argcomplete.shell_integration import shellcode

from nst.cli import COMMANDS, vocabulary
from nst.files import paths
from nst.files.run_folder import RunFolder

HELP = """\
Usage: nst completion SHELL

Print the completion of nst for a shell. To use it from now on:
  bash  echo 'eval "$(nst completion bash)"' >> ~/.bashrc
  zsh   echo 'autoload -Uz compinit; compinit; eval "$(nst completion zsh)"' >> ~/.zshrc
  fish  nst completion fish > ~/.config/fish/completions/nst.fish"""

SHELLS = ("bash", "zsh", "fish")


def main(words: Sequence[str]) -> int:
    """Print the script that a shell reads; return the exit status."""
    if list(words) in (["-h"], ["--help"]):
        print(HELP)
        return 0
    if len(words) != 1 or words[0] not in SHELLS:
        given = " ".join(["completion", *words])
        print(f"error: {given}: give the name of one shell; choices: {', '.join(SHELLS)}", file=sys.stderr)
        return 2
    print(shellcode(["nst"], shell=words[0]))
    return 0


def answer() -> None:
    """Answer the shell that asks for completions, and end the process."""
    line = os.environ.get("COMP_LINE", "")
    words = [*line.split(), *([""] if line.endswith(" ") else [])]
    argcomplete.autocomplete(_parser(words), always_complete_options=False, default_completer=Words())


def _parser(line: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser of a command line. The commands that the line doesn't have are only known by name."""
    parser = argparse.ArgumentParser("nst")
    parser.add_argument("--version", action="store_true", help="show the version")
    commands = parser.add_subparsers()
    for name, meaning in COMMANDS.items():
        given = [_parser_of(name, line)] if line[1:2] == [name] and len(line) > 2 else []
        commands.add_parser(name, help=meaning, parents=given, add_help=False)
    return parser


def _parser_of(command: str, line: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser of a command, of which only what it needs is imported."""
    parser = argparse.ArgumentParser(add_help=False)
    match command:
        case "compare":
            from nst.compare.__main__ import parser as compare

            return compare()
        case "metrics":
            from nst.metrics.__main__ import parser as metrics

            return metrics()
        case "studio":
            from nst.studio.__main__ import parser as studio

            return studio()
        case "completion":
            parser.add_argument("shell", choices=SHELLS)
        case "resume":
            parser.add_argument("folder")
            parser.add_argument("overrides", nargs="*")
        case "train" | "sweep" if line[-1].startswith("-") or _takes_a_value(line[-2]):
            from nst.config import hydra_edge  # a slow import

            parser = hydra_edge.flags()
            parser.add_argument("--help-all", action="store_true", help="All groups with their options, and all keys")
        case "train" | "sweep":
            parser.add_argument("-m", "--multirun", action="store_true")
            parser.add_argument("overrides", nargs=argparse.REMAINDER)  # flags may stand between them
    return parser


def _takes_a_value(word: str) -> bool:
    return word.startswith("-") and word not in ("-m", "--multirun")


class Words(BaseCompleter):
    """The words that complete an argument: folders, overrides, otherwise files."""

    def __call__(
        self, *, prefix: str, action: argparse.Action, parser: argparse.ArgumentParser, parsed_args: argparse.Namespace
    ) -> Iterable[str]:
        """Return words, and maybe others, that begin with ``prefix``; of an override, with their descriptions."""
        if action.dest == "folder":
            return DirectoriesCompleter()(prefix)
        if action.dest != "overrides":
            return FilesCompleter()(prefix)
        folder = getattr(parsed_args, "folder", None)
        if folder is None:
            return _overrides(prefix, vocabulary.groups(), vocabulary.keys(parsed_args.overrides or []))
        return _overrides(prefix, [], _changeable(folder))


def _overrides(prefix: str, groups: Sequence[str], keys: Mapping[str, Any]) -> dict[str, str]:
    """Return the overrides of groups and keys, each with a description."""
    key, equals, value = prefix.partition("=")
    name = key.lstrip("+~")
    if equals:
        found = _options(name, value) if name in groups else _values(name, value, keys)
        return {f"{key}={each}": meaning for each, meaning in found.items()}
    sign = key.removesuffix(name)
    return {f"{sign}{each}=": meaning for each, meaning in _names(name, groups, keys).items()}


def _names(prefix: str, groups: Sequence[str], keys: Mapping[str, Any]) -> dict[str, str]:
    """Return groups, and keys with their values; at first without those of nodes, and without targets."""
    shown = {
        key: _text(value)
        for key, value in keys.items()
        if value != {} and (prefix or "." not in key) and ("._" not in key or "._" in prefix)
    }
    return {**dict.fromkeys(groups, "group"), **shown}


def _options(group: str, value: str) -> dict[str, str]:
    """Return the options of a group; after several, those that aren't among them."""
    before = value[: max(value.rfind(","), value.rfind("[")) + 1]
    named = before.strip("[,").split(",")
    options = vocabulary.options(group).items()
    return {f"{before}{option}": meaning for option, meaning in options if option not in named}


def _values(key: str, value: str, keys: Mapping[str, Any]) -> dict[str, str]:
    """Return files, or the value that a key has and those that its type lists."""
    from nst.config.overrides import names_file  # a slow import

    if names_file(key):
        return dict.fromkeys(_files(value), "")
    from nst.config.schema import Config  # a slow import

    annotation: Any = Config
    for part in key.split("."):
        field = getattr(annotation, "model_fields", {}).get(part)
        annotation = None if field is None else field.annotation
    now = {_text(keys[key]): "as it is"} if not isinstance(keys.get(key, {}), list | dict) else {}
    return {**dict.fromkeys(_listed(annotation), ""), **now}


def _listed(annotation: Any) -> Iterator[str]:
    """Yield the values that a type lists."""
    if get_origin(annotation) is Literal:
        yield from map(str, get_args(annotation))
    elif get_origin(annotation) in (Union, UnionType, Annotated):
        for part in get_args(annotation):
            yield from _listed(part)
    else:
        yield from {bool: ("true", "false"), NoneType: ("null",)}.get(annotation, ())


def _files(prefix: str) -> list[str]:
    """Return the files and folders whose names begin with ``prefix``."""
    folder, slash, start = prefix.rpartition("/")
    found = []
    with suppress(OSError):
        for path in sorted(paths.of_user(f"{folder}{slash}" or ".").iterdir()):
            if path.name.startswith(start) and (start or not path.name.startswith(".")):
                found.append(f"{folder}{slash}{path.name}{'/' if path.is_dir() else ''}")
    return found


def _changeable(folder: str) -> dict[str, Any]:
    """Return the keys that may change when the run in a folder is resumed."""
    from nst.config.identity import MAY_CHANGE  # a slow import

    with suppress(OSError, ValueError, yaml.YAMLError):
        saved = vocabulary.read(RunFolder(paths.of_user(folder)).config)
        return {key: value for key, value in vocabulary.leaves(saved) if key.partition(".")[0] in MAY_CHANGE}
    return {}


def _text(value: Any) -> str:
    """Return a value as it is written in YAML."""
    return yaml.safe_dump(value, default_flow_style=True, width=1000).partition("\n")[0]
