"""Wrappers around Hydra, including its private names, which no other module uses.

Hydra's own command line composes the configuration of a run itself. The functions here run a configuration that was
composed and checked beforehand. A test fails if Hydra removes one of the private names, and ``pyproject.toml`` sets an
upper bound for Hydra's version.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml
from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra._internal.utils import get_args_parser
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus, configure_log, run_job
from hydra.errors import ConfigCompositionException
from hydra.experimental.callback import Callback
from hydra.types import HydraContext, RunMode
from hydra.utils import get_original_cwd
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import KeyValidationError

from nst.config.overrides import literal, quoted
from nst.errors import UserError, one_line
from nst.files import paths

#: Hydra's basic sweeper, which runs a grid, and the Optuna sweeper, which searches.
GRID = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"
OPTUNA = "hydra_plugins.hydra_optuna_sweeper.optuna_sweeper.OptunaSweeper"


def flags() -> Any:
    """Return the argument parser of Hydra's command line."""
    parser = get_args_parser()
    for action in parser._actions:  # Hydra finds out how to complete itself when its help is shown
        action.help = action.help if isinstance(action.help, str) else "Install or uninstall Hydra's own completion"
    return parser


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """Return a command line as parsed by Hydra's argument parser. Raise UserError for options that it doesn't have."""
    parser = flags()

    def refuse(message: str) -> None:
        why = "overrides start without dashes, such as style=picasso; --help shows the options"
        raise UserError(f"{message.replace('unrecognized arguments: ', '')}: {why}")

    parser.error = refuse  # argparse would print its usage and exit
    return cast(argparse.Namespace, parser.parse_intermixed_args(list(words)))


@contextmanager
def loader(folder: Path, searched: Sequence[str] = ()) -> Iterator[ConfigLoader]:
    """Yield a Hydra config loader for a folder, and for the further places of ``hydra.searchpath``.

    Hydra looks up the options for a glob in the loader, which doesn't know that key.

    On exit, restore the previous global Hydra instance of a program that uses Hydra itself.
    """
    others, GlobalHydra.instance().hydra = GlobalHydra.instance().hydra, None
    try:
        with initialize_config_dir(str(folder), job_name="train", version_base="1.3"):
            options: Any = GlobalHydra.instance().config_loader()
            places = options.get_search_path()
            for place in searched:
                places.prepend("hydra.searchpath", place, anchor="schema")
            options.repository.initialize_sources(places)
            yield options
    finally:
        GlobalHydra.instance().hydra = others  # looked up again, as Hydra replaces the singleton


@contextmanager
def shared_store() -> Iterator[None]:
    """Let all config loaders use one config store, which Hydra would copy for each group that ``--help`` lists.

    A config store copies what is loaded from it, so no loader changes it.
    """
    setattr(ConfigStore, "__deepcopy__", lambda store, memo: store)  # noqa: B010
    try:
        yield
    finally:
        delattr(ConfigStore, "__deepcopy__")


def parse(overrides: list[str], options: ConfigLoader | None = None) -> list[Override]:
    """Return the overrides as parsed by Hydra. A glob needs the config loader ``options`` to find its choices.

    Raise HydraException if an override can't be parsed.
    """
    return OverridesParser.create(options).parse_overrides(overrides)


@dataclass(frozen=True)
class Composed:
    """A composed configuration, including the ``hydra`` node, and the folder and name it was composed from."""

    cfg: DictConfig
    folder: Path
    name: str

    def set(self, key: str, value: Any) -> None:
        """Set a key of the ``hydra`` node, also as an override for the runs of a sweep, which are composed again."""
        with read_write(self.cfg), open_dict(self.cfg):
            OmegaConf.update(self.cfg, key, literal(value))
            self.cfg.hydra.overrides.hydra.append(f"{key}={quoted(value) if isinstance(value, str) else value}")


class Quiet(JobReturn):
    """The result of a run that raises its exception without Hydra's own report, since nst reports it."""

    @property
    def return_value(self) -> Any:
        """The value that the run returned; raise its exception if it failed."""
        if self.status == JobStatus.FAILED:
            raise self._return_value
        return self._return_value

    @return_value.setter
    def return_value(self, value: Any) -> None:
        self._return_value = value


class Forget(Callback):
    """Hydra callback that drops a run's configuration, and Hydra's report of a failure, when the run ends.

    Hydra would keep each configuration, a quarter of a megabyte, until the end of the sweep.
    """

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        job_return.cfg = job_return.hydra_cfg = None
        job_return.__class__ = Quiet


def compose(folder: Path, name: str, overrides: list[str], mode: RunMode) -> Composed:
    """Compose the configuration of a single run, or the configuration that all runs of a sweep start from."""
    with loader(folder) as options:
        given = (
            overrides if any("hydra.mode" in word for word in overrides) else [*overrides, f"hydra.mode={mode.name}"]
        )
        cfg = options.load_configuration(config_name=name, overrides=given, run_mode=mode, from_shell=False)
    return Composed(cfg, folder, name)


@contextmanager
def readable(folder: Path, searched: Sequence[str]) -> Iterator[None]:
    """Raise UserError for YAML files that can't be read, if composing a configuration fails.

    The files are those of a folder and of the further places of ``hydra.searchpath``.
    """
    try:
        yield
    except (yaml.YAMLError, UnicodeDecodeError, ConfigCompositionException, KeyValidationError) as error:
        if isinstance(error, ConfigCompositionException) and "raised while composing" not in str(error):
            raise  # an override is wrong, not a file
        folders = [folder, *(Path(place.removeprefix("file://")) for place in searched)]
        if not (lines := [line for each in folders for line in _unreadable(each)]):
            raise
        raise UserError(lines) from error


def _unreadable(folder: Path) -> Iterator[str]:
    """Yield one line for each YAML file in a folder, and in its folders for groups, that can't be read."""
    groups = [str(path.relative_to(paths.configs())) for path in paths.configs().rglob("*") if path.is_dir()]
    for path in sorted(path for group in (".", *groups) for path in (folder / group).glob("*.yaml")):
        try:
            if not isinstance(OmegaConf.load(path), DictConfig):
                yield f"{path}: this file must have keys and values"
        except yaml.MarkedYAMLError as error:
            mark = error.context_mark if "<stream end>" in str(error.problem) else error.problem_mark
            line = f", line {mark.line + 1}" if mark is not None else ""
            yield f"{path}{line}: this is not valid YAML: {error.problem}"
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            yield f"{path}: this is not valid YAML: {one_line(error)}"


def run(composed: Composed, task: Callable[[DictConfig], Any], *, logging: bool = True) -> None:
    """Run a task as a Hydra job, with its folder and its logging. Raise the task's exception, if any."""
    with loader(composed.folder) as options:
        if logging:
            configure_log(composed.cfg.hydra.hydra_logging, composed.cfg.hydra.verbose)
        callbacks = Callbacks(composed.cfg)
        callbacks.on_run_start(config=composed.cfg, config_name=composed.name)
        result = run_job(
            task_function=task,
            config=composed.cfg,
            job_dir_key="hydra.run.dir",
            job_subdir_key=None,
            hydra_context=HydraContext(config_loader=options, callbacks=callbacks),
            configure_logging=logging,
        )
        callbacks.on_run_end(config=composed.cfg, config_name=composed.name, job_return=result)
    result.__class__ = Quiet
    result.return_value  # noqa: B018


@contextmanager
def original_cwd() -> Iterator[None]:
    """Execute a part of a job in the folder that the command was started in, which ``hydra.job.chdir=true`` leaves."""
    with chdir(get_original_cwd()) if HydraConfig.get().job.chdir else nullcontext():
        yield


class ComposedOnce:
    """Keep the first configurations of a sweep that its sweeper composes to check them, for its launcher.

    Other processes get none of them.
    """

    most = 100

    def __init__(self, loader: ConfigLoader, folder: Path, searched: Sequence[str]) -> None:
        self._loader = loader
        self._folder = folder
        self._searched = searched
        self._kept: dict[tuple[str, ...], DictConfig] = {}

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """Return the configuration of a run, composed by the first of two calls."""
        key = tuple(sweep_overrides)
        if key in self._kept:
            return self._kept.pop(key)
        with readable(self._folder, self._searched):
            found = self._loader.load_sweep_config(master_config, sweep_overrides)
        if len(self._kept) < self.most:
            self._kept[key] = found
        return found

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": {}}

    def __getattr__(self, name: str) -> Any:
        if name == "_loader":  # while it is unpickled
            raise AttributeError(name)
        return getattr(self._loader, name)


def sweep(composed: Composed, task: Callable[[DictConfig], Any]) -> None:
    """Run a task over a sweep, with its launcher and sweeper. Raise the exception of the first run that failed."""
    searched = list(composed.cfg.hydra.searchpath)
    with loader(composed.folder, searched) as options:
        configure_log(composed.cfg.hydra.hydra_logging, composed.cfg.hydra.verbose)
        callbacks = Callbacks(composed.cfg)
        callbacks.on_multirun_start(config=composed.cfg, config_name=composed.name)
        sweeper = Plugins.instance().instantiate_sweeper(
            config=composed.cfg,
            hydra_context=HydraContext(
                config_loader=cast(ConfigLoader, ComposedOnce(options, composed.folder, searched)), callbacks=callbacks
            ),
            task_function=task,
        )
        words: Any = OmegaConf.to_container(composed.cfg.hydra.overrides.task, resolve=False)
        sweeper.sweep(arguments=words)
        callbacks.on_multirun_end(config=composed.cfg, config_name=composed.name)
