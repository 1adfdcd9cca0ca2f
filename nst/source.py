"""Where a configuration is composed from: the project's YAML files, or what an earlier run saved."""

import argparse
import atexit
import contextlib
import itertools
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import Container, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nst import paths
from nst.config import Config
from nst.errors import UserError, one_line, problem
from nst.file import write_text
from nst.run_folder import RunFolder
from nst.sweep import HOW, MAY_CHANGE

#: The group of what the project sets for launchers and sweepers, by their names.
PRESETS = "hydra/preset"


@dataclass(frozen=True)
class Source:
    """What Hydra needs to compose a configuration."""

    folder: Path
    name: str
    overrides: list[str]
    flags: list[str]
    resumed: Path | None = None

    @contextlib.contextmanager
    def initialized(self) -> Iterator[None]:
        """Hydra, ready to compose from here."""
        others, GlobalHydra.instance().hydra = GlobalHydra.instance().hydra, None  # of a program that uses Hydra itself
        try:
            with initialize_config_dir(str(self.folder), job_name="train", version_base="1.3"):
                yield
        finally:
            GlobalHydra.instance().hydra = others  # Hydra makes a new singleton

    def parse(self, overrides: list[str]) -> list[Override]:
        """The overrides as Hydra reads them; a glob knows the options that it stands for."""
        with self.initialized():
            return OverridesParser.create(GlobalHydra.instance().config_loader()).parse_overrides(overrides)

    def compose(self, mode: RunMode = RunMode.RUN) -> DictConfig:
        """The configuration, Hydra's own part included; of a sweep, what all of its runs begin with."""
        with self.initialized():
            hydra = GlobalHydra.instance().hydra
            assert hydra is not None
            return hydra.compose_config(self.name, self.overrides, mode, from_shell=False, with_log_configuration=False)


def source_of(arguments: argparse.Namespace) -> Source:
    """The project's configurations, or what an earlier run saved when it is to go on."""
    overrides = list(arguments.overrides)
    resumed, picture = resumed_folder(overrides), _named("rerun", overrides)
    if resumed is not None:
        return _resumed(resumed, overrides)
    if picture is not None:
        return _rerun(picture, overrides)
    if arguments.config_dir is not None:  # Hydra's compose() knows it by this name only
        if not Path(arguments.config_dir).is_dir():
            raise UserError(f"--config-dir={arguments.config_dir}: there is no such folder")
        overrides.append(_search(Path(arguments.config_dir).absolute()))
    folder = Path(arguments.config_path).absolute() if arguments.config_path is not None else paths.configs()
    name = arguments.config_name if arguments.config_name is not None else "train"
    overrides += presets(folder, overrides)
    return Source(folder, name, overrides, ["--config-path", str(folder), "--config-name", name])


def _resumed(folder: Path, overrides: list[str]) -> Source:
    saved = RunFolder(folder).config
    if not saved.is_file():
        why = f"this folder is no run: it has no {saved.name}" if folder.is_dir() else "there is no such folder"
        raise UserError(problem("resume", folder, f"{why}; give a folder that nst.train made"))
    try:
        began = OmegaConf.load(saved)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise UserError(problem("resume", folder, f"its {saved.name} can't be read: {one_line(error)}")) from error
    absent = sorted(set(Config.model_fields) - set(began)) if OmegaConf.is_dict(began) else ["keys"]
    if absent:
        why = f"its {saved.name} has no {', '.join(absent)}: it is damaged, or of another version of nst"
        raise UserError(problem("resume", folder, why))
    allowed = ", ".join(MAY_CHANGE)
    lines = [
        problem("resume", folder, f"goes on with the {key} that the run began with{value}; may change: {allowed}")
        for key, value in ((o.key_or_group, _told(began, o.key_or_group)) for o in parse(overrides))
        if key != "resume" and key.partition(".")[0] not in MAY_CHANGE
    ]
    if lines:
        raise UserError(lines)
    hydra = [
        _search(paths.configs()),
        "hydra/job_logging=nst",
        "hydra.output_subdir=null",  # .hydra/ keeps what the run began with
        f"hydra.run.dir={quoted(folder)}",
    ]
    flags = ["--config-path", str(folder), "--config-name", saved.stem]
    return Source(folder, saved.stem, [*overrides, *hydra], flags, folder)


def _rerun(picture: Path, overrides: list[str]) -> Source:
    """The configuration in a picture, as a file that Hydra can begin with."""
    from nst import output  # imports torch, which --help need not wait for

    saved = output.read_note(picture, key="rerun")
    foreign = sorted(set(_targets(saved)) - _own_targets())
    if foreign:
        why = f"names {', '.join(foreign)}, which isn't nst's own, so it isn't made"
        raise UserError(problem("rerun", picture, why))
    groups = _groups_anew(picture, overrides)
    cfg: Any = OmegaConf.to_container(_with_anew(saved, groups))
    raw: Any = yaml.safe_load((paths.configs() / "train.yaml").read_text(encoding="utf-8"))
    cfg |= {"defaults": ["_self_", {"override hydra/job_logging": "nst"}], "hydra": raw["hydra"]}
    folder = Path(tempfile.mkdtemp(prefix="nst-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    write_text(folder / "train.yaml", yaml.safe_dump(cfg, sort_keys=False))
    rest = [text for text in overrides if text not in groups]
    flags = ["--config-path", str(folder), "--config-name", "train"]
    return Source(folder, "train", [*rest, _search(paths.configs())], flags)


def _groups_anew(picture: Path, overrides: list[str]) -> dict[str, str]:
    """The overrides that pick a group's option, and where it stands. Raises UserError for those that can't."""
    with Source(paths.configs(), "train", [], []).initialized():
        loader = GlobalHydra.instance().config_loader()
        groups = [override for override in parse(overrides) if loader.get_group_options(override.key_or_group)]
    lines = [
        problem("rerun", picture, f"{override.input_line} is of no use with it; give keys, or options of single groups")
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
    """What a picture holds on top of the usual configuration, and on top of that the groups that are given anew."""
    usual = Source(paths.configs(), "train", list(groups), []).compose()
    kept = {key: value for key, value in saved.items() if key in Config.model_fields and key not in HOW}
    if isinstance(kept.get("encoder"), dict):
        kept["encoder"].setdefault("calibrate", False)  # older pictures don't have the key
    cfg = OmegaConf.create({**OmegaConf.to_container(usual), **kept})  # type: ignore[dict-item]
    for place in groups.values():
        OmegaConf.update(cfg, place, OmegaConf.select(usual, place), merge=False)
    return cfg


def _targets(node: Any) -> Iterator[str]:
    """What Hydra would make, and what isn't plain, wherever in a configuration it is."""
    if isinstance(node, Mapping):
        yield from (str(value) for key, value in node.items() if key == "_target_")
        yield from (each for value in node.values() for each in _targets(value))
    elif isinstance(node, list):
        yield from (each for value in node for each in _targets(value))
    elif isinstance(node, str) and "${" in node:
        yield node


def _own_targets() -> set[str]:
    """What the project's own configurations make."""
    texts = (path.read_text(encoding="utf-8") for path in paths.configs().rglob("*.yaml"))
    return {target for text in texts for target in re.findall(r"^\s*_target_: (\S+)", text, re.MULTILINE)}


def _told(config: Container, key: str) -> str:
    """The value of a key, to be read after its name; nothing where it is none or a group."""
    value = OmegaConf.select(config, key) if OmegaConf.is_dict(config) else None
    return "" if value is None or OmegaConf.is_config(value) else f" ({value})"


def resumed_folder(overrides: list[str]) -> Path | None:
    """The folder that ``resume`` names, however it is spelled; None for a new run."""
    return _named("resume", overrides)


def _named(key: str, overrides: list[str]) -> Path | None:
    """The path that the last override of a key gives."""
    with contextlib.suppress(HydraException):
        given = [override for override in parse(overrides) if override.key_or_group == key]
        if any(override.is_sweep_override() for override in given):
            raise UserError(f"{key}: takes one at a time, and can't be swept")
        named = [override.value() for override in given]
        if named and named[-1] is not None:
            return paths.of_user(str(named[-1])).absolute()
    return None


def presets(folder: Path, overrides: list[str]) -> list[str]:
    """The override that adds what ``hydra/preset`` in ``folder`` says for the launcher and the sweeper that are chosen.

    A plugin's own options can't be files of the same names, so ours stand apart and are put on top of them.
    """
    groups = ("hydra/launcher", "hydra/sweeper")
    chosen = {
        override.key_or_group: override.value() for override in parse(overrides) if override.key_or_group in groups
    }
    names = [str(name) for name in chosen.values() if (folder / PRESETS / f"{name}.yaml").is_file()]
    return [f"+{PRESETS}=[{','.join(names)}]"] if names else []


def parse(overrides: list[str]) -> list[Override]:
    """The overrides as Hydra reads them; raises HydraException for one that it can't read."""
    return OverridesParser.create().parse_overrides(overrides)


def make_folder(key: str, folder: Path, overrides: list[str]) -> Path:
    """Makes the folder that ``key`` names; one that is named by the clock gets a number where the name is taken.

    Raises UserError where that can't be done.
    """
    chosen = any(override.key_or_group == key for override in parse(overrides))
    try:
        if chosen:
            folder.mkdir(parents=True, exist_ok=True)
            return folder
        return _numbered(folder)
    except OSError as error:
        raise UserError(problem(key, folder, f"can't be written: {error.strerror}")) from error


def _numbered(folder: Path) -> Path:
    for number in itertools.count(1):
        numbered = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        with contextlib.suppress(FileExistsError):
            numbered.mkdir(parents=True)
            return numbered
    raise AssertionError


def quoted(value: object) -> str:
    """A value as Hydra's grammar reads it back, whatever characters it has."""
    escaped = str(value).replace("'", "\\'")
    return f"'{escaped}'"


def _search(folder: Path) -> str:
    return f"hydra.searchpath=[{quoted(f'file://{folder}')}]"
