"""Start of a single run from the command line or from Python: it is composed and planned before its folder is made."""

import argparse
import os
import shlex
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nst.config import hydra_edge
from nst.config.hydra_edge import Composed
from nst.config.identity import MAY_CHANGE
from nst.config.mistakes import check_groups, explain
from nst.config.overrides import with_quoted_paths
from nst.config.schema import Config
from nst.config.source import Source, keys, source_of
from nst.errors import UserError, problem
from nst.files.run_folder import RunFolder, make_folder, name_problem
from nst.plan.checking import check, check_files

if TYPE_CHECKING:
    from nst.plan.planning import Plan

#: Hydra composes one configuration at a time.
_COMPOSING = threading.Lock()


def run(
    arguments: argparse.Namespace,
    *,
    own_logging: bool = True,
    settle: "Callable[[Plan, RunFolder], Plan] | None" = None,
) -> RunFolder:
    """Execute the run that Hydra's ``arguments`` request; return its folder.

    Args:
        arguments: the parsed arguments of Hydra's command line.
        own_logging: whether Hydra configures the logging, as for a standalone program. Otherwise a log is still
            written to the run's folder.
        settle: returns a changed plan, given the plan and the new folder.

    Raise UserError with all problems found, before anything is written.
    """
    source = source_of(arguments)
    composed = _composed(source)
    path = Path(str(OmegaConf.select(composed.cfg, "hydra.run.dir"))).absolute()
    chosen = source.resumed is not None or source.gives("hydra.run.dir")
    words = _words(composed)
    problems = list(_folder_problems(path, fresh=chosen and source.resumed is None, resumed=source.resumed))
    try:
        valid = check(composed.cfg)
        check_files(valid[0])
        from nst.plan.planning import make_plan  # imports torch, for which a mistake need not wait
        from nst.run import provenance

        provenance.forget_peak_memory()  # reading the pictures counts
        plan = make_plan(composed.cfg, words=words, named=fixed(words), checked=valid)
    except UserError as error:
        problems = [*error.problems, *problems]
    if problems:
        raise UserError(problems)
    from nst.run import job  # before the folder is made, which an interruption would leave empty

    folder = RunFolder(make_folder("hydra.run.dir", path, chosen=chosen))
    if settle is not None:
        plan = settle(plan, folder)
    composed.set("hydra.run.dir", str(folder.path))

    def task(cfg: Any) -> float:
        with ExitStack() as stack:
            stack.enter_context(hydra_edge.original_cwd())
            if not own_logging:
                stack.enter_context(job.log_to(folder))
            value = job.paint(plan, folder, words)
            if own_logging:
                job.tell_what_next(plan, folder)
            return value

    hydra_edge.run(composed, task, logging=own_logging)
    return folder


def planned(words: Sequence[str]) -> "tuple[Plan, dict[str, str]]":
    """Return the plan of the run that overrides request, without making a folder, and the chosen option of each group.

    Raise UserError with all problems found.
    """
    arguments, composed, valid = _checked(words)
    from nst.plan.planning import make_plan

    with explained(arguments):
        return make_plan(composed.cfg, words=_words(composed), checked=valid), _chosen(composed)


def checked(words: Sequence[str]) -> tuple[Config, dict[str, str]]:
    """Return the configuration of the run that overrides request, and the chosen option of each group.

    No picture is read, unless there is a mistake. Raise UserError with all problems of the configuration.
    """
    _, composed, (_, config) = _checked(words)
    return config, _chosen(composed)


def _checked(words: Sequence[str]) -> tuple[argparse.Namespace, Composed, tuple[dict[str, Any], Config]]:
    """Compose and check the configuration of overrides, one thread at a time."""
    arguments = hydra_edge.arguments([])
    arguments.overrides = with_quoted_paths(words, sweep=False)
    with _COMPOSING, explained(arguments):
        check_groups(hydra_edge.parse(arguments.overrides))
        composed = _composed(source_of(arguments))
        return arguments, composed, check(composed.cfg)


@contextmanager
def explained(arguments: argparse.Namespace) -> Iterator[None]:
    """Turn what Hydra and OmegaConf raise for a command line into UserError."""
    try:
        yield
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        raise UserError(explain(error, arguments)) from error


def _composed(source: Source) -> Composed:
    """Return the configuration of a single run. Raise UserError if it sweeps."""
    composed = source.compose()
    params = OmegaConf.select(composed.cfg, "hydra.sweeper.params")
    if params:
        named = OmegaConf.select(composed.cfg, "hydra.runtime.choices.experiment")
        raise UserError(problem("experiment", named, f"this study sweeps {', '.join(params)}; run it with -m"))
    return composed


def _chosen(composed: Composed) -> dict[str, str]:
    """Return the chosen option of each group of a configuration."""
    found: Any = OmegaConf.to_container(OmegaConf.select(composed.cfg, "hydra.runtime.choices"))
    return dict(found)


def _words(composed: Composed) -> list[str]:
    """Return the overrides that a configuration was composed with."""
    found: Any = OmegaConf.to_container(composed.cfg.hydra.overrides.task)
    return list(found)


def fixed(words: Sequence[str]) -> list[str]:
    """Return the keys and groups of some overrides that a run can't change when it goes on: they make its name."""
    return [key for key in keys(words) if key.partition(".")[0] not in MAY_CHANGE]


def _folder_problems(folder: Path, *, fresh: bool, resumed: Path | None) -> Iterator[str]:
    if fresh and RunFolder(folder).config.is_file():
        resuming = shlex.quote(f"resume={folder}")
        why = f"this folder already contains a run; resume it with {resuming}, or choose another folder"
        yield problem("hydra.run.dir", folder, why)
    if resumed is not None and resumed != folder:
        why = f"a run is resumed in its own folder, not in {folder}; leave out hydra.run.dir"
        yield problem("resume", resumed, why)
    unusable = name_problem("hydra.run.dir", folder)
    if unusable is not None:
        yield unusable
        return
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir():
        yield problem("hydra.run.dir", folder, f"can't be written: {existing} is not a folder")
    elif not os.access(existing, os.W_OK | os.X_OK):
        yield problem("hydra.run.dir", folder, f"can't be written: no permission in {existing}")
