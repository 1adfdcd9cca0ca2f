"""A sweep from the command line: how many runs it names, and at its end what became of each."""

import math
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig
from rich.console import Console

from nst.errors import UserError, problem
from nst.source import Source, make_folder, quoted
from nst.study import Study, study_of
from nst.sweep import Outcome, Sweep


class Forget(Callback):
    """Lets go of a run's configuration at its end: Hydra would keep it to the sweep's, a quarter of a megabyte each."""

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        job_return.cfg = job_return.hydra_cfg = None


#: Hydra's own sweeper, which runs a grid.
GRID = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"


def run(source: Source, words: list[str], task: Callable[[], Any]) -> int:
    """Runs a ``hydra.main`` task over a sweep; returns the exit status, 0 where every run of it is complete.

    ``words`` are the user's overrides, for the command that goes on.
    """
    cfg = source.compose(RunMode.MULTIRUN)
    overrides = source.parse(source.overrides)
    _check_studies(source, overrides)
    params = source.parse([f"{key}={value}" for key, value in (cfg.hydra.sweeper.get("params") or {}).items()])
    grid = cfg.hydra.sweeper._target_ == GRID
    expected = expected_runs(params, overrides) if grid else None
    sweep = Sweep(make_folder("hydra.sweep.dir", Path(str(cfg.hydra.sweep.dir)).absolute(), source.overrides))
    study = study_of(cfg, sweep.path)
    missing = [] if study is None else study.go_on([*params, *overrides])
    sweep.begin([override.key_or_group for override in [*params, *overrides] if override.is_sweep_override()])
    interrupted = False
    if study is None or study.complete() < study.trials:
        settled = [*missing, f"hydra.sweep.dir={quoted(sweep.path)}"]
        sys.argv[1:] = [*source.flags, "--multirun", *source.overrides, *settled]
        interrupted = _run(task, sweep, study)
    outcomes = sweep.outcomes()
    if study is not None:
        status = _tell(sweep, study.complete(), study.trials, "trials", words)
    else:
        complete = sum(map(_is_complete, outcomes))
        status = _tell(sweep, complete, len(outcomes) if expected is None else expected, "runs", words)
    interrupted = interrupted or any(outcome.state == "interrupted" for outcome in outcomes)
    return 128 + signal.SIGINT if status and interrupted else status


def _run(task: Callable[[], Any], sweep: Sweep, study: Study | None) -> bool:
    """Runs the task; returns whether Ctrl-C ended it.

    What goes wrong with a run, its outcome tells; what goes wrong with the sweep itself is raised.
    """
    failure: BaseException | None = None
    try:
        task()
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        failure = error
    if failure is not None and all(map(_is_complete, sweep.outcomes())):
        if study is not None and isinstance(failure, ValueError):  # other values to choose from than before
            why = f"the study can't go on: {failure} Keep the values to choose from, or take another hydra.sweep.dir"
            raise UserError(problem("hydra.sweeper.storage", study.storage, why)) from failure
        raise failure
    return isinstance(failure, KeyboardInterrupt)


def _check_studies(source: Source, overrides: Sequence[Override]) -> None:
    """Refuses to sweep over studies: Hydra would run each once, without what it sweeps."""
    for override in overrides:
        if override.key_or_group != "experiment" or not override.is_sweep_override():
            continue
        others = [word for word in source.overrides if not word.startswith("experiment=")]
        for option in override.sweep_string_iterator():
            one = replace(source, overrides=[*others, f"experiment={option}"])
            if one.compose(RunMode.MULTIRUN).hydra.sweeper.get("params"):
                raise UserError(problem("experiment", option, "a study, which sweeps by itself; give one at a time"))


def expected_runs(params: Sequence[Override], overrides: Sequence[Override]) -> int:
    """How many runs a grid names by its configuration (``hydra.sweeper.params``) and on the command line.

    Raises UserError for a grid without runs, and for a study that Hydra would not run as it says.
    """
    named = {override.key_or_group: override for override in params}
    if "experiment" in named:
        why = "a study can't sweep experiment: Hydra would run it once; sweep pair, or another group"
        raise UserError(problem("hydra.sweeper.params.experiment", named["experiment"].get_value_string(), why))
    named |= {override.key_or_group: override for override in overrides}
    counts = {
        key: sum(1 for _ in override.sweep_string_iterator())
        for key, override in named.items()
        if override.is_sweep_override() and override.is_discrete_sweep()
    }
    lines = [
        f"{key}={named[key].get_value_string()}: this names no value, so there is nothing to run"
        for key, count in counts.items()
        if count == 0
    ]
    if lines:
        raise UserError(lines)
    return math.prod(counts.values())


def _is_complete(outcome: Outcome) -> bool:
    return outcome.state in ("ran", "kept", "continued")


def _tell(sweep: Sweep, complete: int, expected: int, noun: str, words: list[str]) -> int:
    """Prints the table of a sweep, and how to go on; returns the exit status."""
    outcomes = sweep.outcomes()
    if outcomes:
        Console(highlight=False, width=None if sys.stdout.isatty() else 1000).print(sweep.table(outcomes))
    print(f"{complete} of {expected} {noun} are complete; to compare them:", flush=True)
    print(f"python -m nst.compare {shlex.quote(str(sweep.path))}", flush=True)
    if complete >= expected:
        return 0
    kept = [word for word in words if not word.startswith("hydra.sweep.dir=")]
    again = shlex.join(["python", "-m", "nst.train", "-m", *kept, f"hydra.sweep.dir={sweep.path}"])
    print(f"error: {expected - complete} of {expected} {noun} are not complete. To go on: {again}", file=sys.stderr)
    return 1
