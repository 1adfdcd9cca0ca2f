"""Sources of a configuration: the project's YAML files, or the folder or a picture of an earlier run."""

import argparse
import atexit
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nst.config import hydra_edge
from nst.config.hydra_edge import Composed, parse
from nst.config.identity import FIRST_LINE, HOW, MAY_CHANGE, of_files
from nst.config.keys import renamed
from nst.config.overrides import quoted
from nst.config.schema import Config
from nst.errors import UserError, count, file_problem, folder_problem, one_line, problem, written
from nst.files import paths
from nst.files.atomic import write_text
from nst.files.run_folder import RunFolder

#: Group of the project's settings for launchers and sweepers, each option with the name of a launcher or sweeper.
PLUGIN_SETTINGS = "hydra/preset"


@dataclass(frozen=True)
class Source:
    """Arguments from which Hydra composes a configuration.

    Attributes:
        folder: the folder of the YAML files.
        name: the name of the primary file.
        overrides: the user's overrides and those that nst adds.
        given: the user's overrides, parsed.
        resumed: the folder of the run to resume; None otherwise.
    """

    folder: Path
    name: str
    overrides: list[str]
    given: list[Override] = field(default_factory=list)
    resumed: Path | None = None

    @property
    def flags(self) -> list[str]:
        """The options of Hydra's command line for the folder and the name."""
        return ["--config-path", str(self.folder), "--config-name", self.name]

    def gives(self, key: str) -> bool:
        """Return whether the user's overrides contain a key."""
        return any(override.key_or_group == key for override in self.given)

    def parse(self, overrides: list[str]) -> list[Override]:
        """Return the overrides as parsed by Hydra; globs can find the options of their group."""
        with self.options() as options:
            return parse(overrides, options)

    def options(self) -> AbstractContextManager[ConfigLoader]:
        """Return a context manager for a config loader that knows the options, also those of ``--config-dir``."""
        return hydra_edge.loader(self.folder, self._searched)

    def compose(self, mode: RunMode = RunMode.RUN) -> Composed:
        """Compose the configuration, including the ``hydra`` node; for a sweep, the one that its runs start from."""
        with self.readable():
            return hydra_edge.compose(self.folder, self.name, self.overrides, mode)

    def readable(self) -> AbstractContextManager[None]:
        """Return a context manager that raises UserError for YAML files that can't be read."""
        return hydra_edge.readable(self.folder, self._searched)

    @property
    def _searched(self) -> list[str]:
        """The further places of ``hydra.searchpath``."""
        given = parse([word for word in self.overrides if word.lstrip("+").startswith("hydra.searchpath=")])
        searched: Any = given[-1].value() if given else []
        return [str(each) for each in searched]


def source_of(arguments: argparse.Namespace) -> Source:
    """Return the source for a command line: an earlier run with ``resume`` or ``rerun``, otherwise the YAML files.

    ``arguments`` are those of Hydra's command line. Raise UserError if ``resume``, ``rerun`` or ``--config-dir`` can't
    be used, and HydraException if an override can't be parsed.
    """
    overrides = list(arguments.overrides)
    given = parse(overrides)
    resumed, picture = _named("resume", given), _named("rerun", given)
    if resumed is not None:
        return _resumed(resumed, overrides, given)
    if picture is not None:
        return _rerun(picture, overrides, given)
    added = []
    if arguments.config_dir is not None:
        if (why := folder_problem(Path(arguments.config_dir))) is not None:
            raise UserError(problem("--config-dir", arguments.config_dir, why))
        added.append(_search(Path(arguments.config_dir).absolute()))
    folder = Path(arguments.config_path).absolute() if arguments.config_path is not None else paths.configs()
    name = arguments.config_name if arguments.config_name is not None else "train"
    return Source(folder, name, [*overrides, *added, *_plugin_settings(folder, given)], given)


def _no_run(folder: Path) -> str:
    """Return why a folder can't be resumed: it is a sweep's, or isn't a run's at all."""
    runs = sorted(path.parent for path in folder.glob(f"*/{RunFolder(folder).config.name}"))
    if folder.is_file() and RunFolder(folder.parent).config.is_file():
        return f"this is a file of a run; resume its folder: resume={shlex.quote(str(folder.parent))}"
    if runs:
        return (
            f"this folder has {count(len(runs), 'run')}, each in a folder of its own; resume one of them, such as "
            f"resume={shlex.quote(str(runs[0]))}, or give the command of a sweep once more to continue it"
        )
    no_run = (
        f"this folder contains no run: it has no {RunFolder(folder).config.name}; give a folder that nst.train made"
    )
    return folder_problem(folder) or no_run


def _resumed(folder: Path, overrides: list[str], given: list[Override]) -> Source:
    saved = RunFolder(folder).config
    if not saved.is_file():
        raise UserError(problem("resume", folder, _no_run(folder)))
    try:
        began = OmegaConf.load(saved)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise UserError(problem("resume", folder, f"its {saved.name} can't be read: {one_line(error)}")) from error
    needed = {name for name, key in Config.model_fields.items() if key.is_required()}
    absent = sorted(needed - set(began)) if OmegaConf.is_dict(began) else ["keys"]
    if absent:
        why = f"its {saved.name} has no {', '.join(absent)}: it is damaged, or was made by another version of nst"
        raise UserError(problem("resume", folder, why))
    allowed, picture = ", ".join(MAY_CHANGE), RunFolder(folder).result
    anew = f"; rerun={picture} makes another run with it" if picture.is_file() else ""
    why = "can't change when a run is resumed"
    lines = [
        problem("resume", folder, f"{key} {why}{value}; keys that can change: {allowed}{anew}")
        for key, value in ((each.key_or_group, _value_in(began, each.key_or_group)) for each in given)
        if key != "resume" and key.partition(".")[0] not in MAY_CHANGE
    ]
    if lines:
        raise UserError(lines)
    hydra = [
        _search(paths.configs()),
        "hydra/job_logging=nst",
        "hydra.output_subdir=null",  # .hydra/ keeps the configuration that the run started with
        f"hydra.run.dir={quoted(folder)}",
    ]
    return Source(folder, saved.stem, [*overrides, *hydra], given, folder)


def read_note(picture: Path, *, key: str) -> dict[str, Any]:
    """Return the configuration embedded in a picture of an earlier run. Raise UserError if there is none."""
    from nst.image import output  # imports torch, which would slow down --help

    if (why := file_problem(picture)) is not None:
        raise UserError(problem(key, picture, why))
    try:
        found = yaml.safe_load(next(text for text in output.notes(picture, key=key) if text.startswith(FIRST_LINE)))
    except Exception as error:  # decoders raise arbitrary exceptions for damaged files
        why = "there is no configuration in this file; give a picture that nst.train has saved"
        raise UserError(problem(key, picture, why)) from error
    if not isinstance(found, dict):
        raise UserError(problem(key, picture, "the configuration in this file is damaged: it contains no keys"))
    return found


def _rerun(picture: Path, overrides: list[str], given: list[Override]) -> Source:
    """Write the configuration embedded in a picture to a temporary file; return a source that starts from it.

    Raise UserError if it names targets that are not nst's own.
    """
    saved = of_files(renamed(read_note(picture, key="rerun")))
    foreign = sorted(set(_targets(saved)) - _own_targets())
    if foreign:
        why = f"its configuration names {', '.join(foreign)}, which is not part of nst; rerun only uses nst's classes"
        raise UserError(problem("rerun", picture, why))
    groups = _groups_anew(picture, given)
    cfg: Any = OmegaConf.to_container(_with_anew(saved, groups))
    raw: Any = yaml.safe_load((paths.configs() / "train.yaml").read_text(encoding="utf-8"))
    cfg |= {
        "defaults": [
            "_self_",
            *({f"override hydra/{group}": "nst"} for group in ("help", "hydra_logging", "job_logging")),
        ]
    }
    cfg["hydra"] = raw["hydra"]
    folder = Path(tempfile.mkdtemp(prefix="nst-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    write_text(folder / "train.yaml", yaml.safe_dump(cfg, sort_keys=False))
    rest = [text for text in overrides if text not in groups]
    return Source(folder, "train", [*rest, _search(paths.configs())], given)


def _groups_anew(picture: Path, given: list[Override]) -> dict[str, str]:
    """Return the overrides that choose a group's option, each with the key of the group.

    Raise UserError for choices that don't work with ``rerun``.
    """
    with hydra_edge.loader(paths.configs()) as options:
        groups = [override for override in given if options.get_group_options(override.key_or_group)]
    lines = [
        problem(
            "rerun",
            picture,
            f"{override.input_line} can't be combined with rerun; give keys or options of single groups instead",
        )
        for override in groups
        if override.is_sweep_override()
        or override.package is not None
        or override.key_or_group in ("pair", "pair/adam", "experiment", "style/use")
        or override.key_or_group.startswith("hydra/")
    ]
    if lines:
        raise UserError(lines)
    return {str(override.input_line): override.key_or_group.replace("/", ".") for override in groups}


def _with_anew(saved: Mapping[str, Any], groups: Mapping[str, str]) -> DictConfig:
    """Return the default configuration, updated by the saved one and then by the newly chosen options of groups."""
    usual = Source(paths.configs(), "train", list(groups)).compose().cfg
    kept = {key: value for key, value in saved.items() if key in Config.model_fields and key not in HOW}
    if isinstance(kept.get("encoder"), dict):
        kept["encoder"].setdefault("calibrate", False)  # older pictures don't have the key
    whole: Any = OmegaConf.to_container(usual)
    own = {key: value for key, value in whole.items() if key != "hydra"}
    cfg = OmegaConf.create({**own, **kept})
    for place in groups.values():
        OmegaConf.update(cfg, place, OmegaConf.select(usual, place), merge=False)
    return cfg


def _targets(node: Any) -> Iterator[str]:
    """Yield every ``_target_`` and every string with an interpolation, at any depth of a configuration."""
    if isinstance(node, Mapping):
        yield from (str(value) for key, value in node.items() if key == "_target_")
        yield from (each for value in node.values() for each in _targets(value))
    elif isinstance(node, list):
        yield from (each for value in node for each in _targets(value))
    elif isinstance(node, str) and "${" in node:
        yield node


def _own_targets() -> set[str]:
    """Return every ``_target_`` in the project's own YAML files."""
    texts = (path.read_text(encoding="utf-8") for path in paths.configs().rglob("*.yaml"))
    return {target for text in texts for target in re.findall(r"^\s*_target_: (\S+)", text, re.MULTILINE)}


def _value_in(config: Any, key: str) -> str:
    """Return the value of a key, for a message; an empty string if it is null or a node."""
    value = OmegaConf.select(config, key) if OmegaConf.is_dict(config) else None
    if value is None or OmegaConf.is_config(value):
        return ""
    return f" (it is {written(value) if isinstance(value, float) else value})"


def _named(key: str, given: Sequence[Override]) -> Path | None:
    """Return the path in the last override of a key, or None. Raise UserError if the key is swept."""
    found = [override for override in given if override.key_or_group == key]
    if any(override.is_sweep_override() for override in found):
        raise UserError(f"{key}: takes one value and can't be swept")
    value = OmegaConf.create({key: found[-1].value()})[key] if found else None  # without escapes
    return None if value is None else paths.of_user(str(value)).absolute()


def _plugin_settings(folder: Path, given: Sequence[Override]) -> list[str]:
    """Return the override that adds the settings in ``folder`` for the chosen launcher and sweeper, if it has any.

    Files with the names of a plugin's own options aren't possible, so these settings are a group of their own, which is
    applied on top of the plugin's options.
    """
    groups = ("hydra/launcher", "hydra/sweeper")
    chosen = {override.key_or_group: override.value() for override in given if override.key_or_group in groups}
    names = [str(name) for name in chosen.values() if (folder / PLUGIN_SETTINGS / f"{name}.yaml").is_file()]
    return [f"+{PLUGIN_SETTINGS}=[{','.join(names)}]"] if names else []


def keys(words: Sequence[str]) -> list[str]:
    """Return the keys and groups of some overrides."""
    return [word.partition("=")[0].lstrip("+~") for word in words]


def with_experiment(source: Source, option: str) -> Source:
    """Return the source with another ``experiment``."""
    others = [word for word in source.overrides if not word.startswith("experiment=")]
    return replace(source, overrides=[*others, f"experiment={option}"])


def _search(folder: Path) -> str:
    return f"hydra.searchpath=[{quoted(f'file://{folder}')}]"
