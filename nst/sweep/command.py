"""Sweeps from the command line: the number of runs, their execution, and a report on the outcome of each."""

import math
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig
from rich.console import Console

from nst.config import hydra_edge
from nst.config.hydra_edge import Composed
from nst.config.identity import incomparable
from nst.config.overrides import command, searched
from nst.config.source import Source, with_experiment
from nst.errors import UserError, count, problem
from nst.files.run_folder import make_folder, name_problem
from nst.files.streams import unfailing_streams
from nst.sweep.folder import Outcome, Sweep
from nst.sweep.optuna import Study, study_of


def run(source: Source, words: list[str]) -> int:
    """Run a sweep; return the exit status, 0 if every run of it is complete.

    ``words`` are the user's overrides, to print the command that resumes the sweep.
    """
    composed = source.compose(RunMode.MULTIRUN)
    hydra = composed.cfg.hydra
    overrides = source.parse(source.overrides)
    _check_studies(source, overrides)
    params = source.parse([f"{key}={value}" for key, value in (hydra.sweeper.get("params") or {}).items()])
    expected = expected_runs(params, overrides) if hydra.sweeper._target_ == hydra_edge.GRID else None
    chosen = source.gives("hydra.sweep.dir")
    path = Path(str(hydra.sweep.dir)).absolute()
    unusable = name_problem("hydra.sweep.dir", path)
    if unusable is not None:
        raise UserError(unusable)
    searches = hydra.sweeper._target_ != hydra_edge.GRID
    minimized = composed.cfg.minimize
    by_loss = searches and minimized.metric is None  # measures compare, whatever is searched
    for warning in _incomparable([*params, *overrides], minimized.loss) if by_loss else ():
        print(f"warning: {warning}", file=sys.stderr)
    sweep = Sweep(make_folder("hydra.sweep.dir", path, chosen=chosen))
    composed.set("hydra.sweep.dir", str(sweep.path))  # the storage of a study may refer to it
    study = study_of(composed.cfg)
    for key, value in ({} if study is None else study.go_on([*params, *overrides])).items():
        composed.set(key, value)
    varied = [override.key_or_group for override in [*params, *overrides] if override.is_sweep_override()]
    sweep.begin(varied, hydra.sweeper.get("n_trials") if expected is None else expected)
    interrupted = False
    if study is None or study.complete() < study.trials:
        interrupted = _run(composed, sweep, study)
    outcomes = sweep.outcomes()
    again = list(dict.fromkeys([*searched(source.overrides), *words]))
    if study is not None:
        status = _tell(sweep, study.complete(), study.trials, "trial", again)
    else:
        complete = sum(map(_is_complete, outcomes))
        status = _tell(sweep, complete, len(outcomes) if expected is None else expected, "run", again)
    interrupted = interrupted or any(outcome.state == "interrupted" for outcome in outcomes)
    return 128 + signal.SIGINT if status and interrupted else status


def _run(composed: Composed, sweep: Sweep, study: Study | None) -> bool:
    """Run the jobs; return whether Ctrl-C ended them.

    The failure of a run is recorded in its outcome; a failure of the sweep itself is raised.
    """
    failure: BaseException | None = None
    try:
        hydra_edge.sweep(composed, paint)
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        failure = error
    if failure is not None and all(map(_is_complete, sweep.outcomes())):
        if study is not None and isinstance(failure, ValueError):  # the choices differ from the study's
            why = f"the study can't be resumed: {failure} Keep the searched values, or choose another hydra.sweep.dir"
            raise UserError(problem("hydra.sweeper.storage", study.storage, why)) from failure
        raise failure
    return isinstance(failure, KeyboardInterrupt)


@unfailing_streams()  # of a launcher's process
def paint(cfg: DictConfig) -> float:
    """Run one point of a sweep; a launcher may call this in another process.

    torch is imported here, after the launcher has set the environment that torch reads.
    """
    from nst.sweep import point

    return point.paint(cfg)


def _check_studies(source: Source, overrides: Sequence[Override]) -> None:
    """Raise UserError for a sweep over studies: Hydra would run each study once, without its own sweep."""
    for override in overrides:
        if override.key_or_group != "experiment" or not override.is_sweep_override():
            continue
        for option in override.sweep_string_iterator():
            one = with_experiment(source, option)
            if one.compose(RunMode.MULTIRUN).cfg.hydra.sweeper.get("params"):
                raise UserError(problem("experiment", option, "this study is a sweep; give one sweep at a time"))


def expected_runs(params: Sequence[Override], overrides: Sequence[Override]) -> int:
    """Return the number of runs of a grid, from its configuration (``hydra.sweeper.params``) and the command line.

    Raise UserError for a grid without runs, and for a study that sweeps ``experiment``, which Hydra would run once.
    """
    named = {override.key_or_group: override for override in params}
    if "experiment" in named:
        why = "a study can't sweep experiment, because Hydra would run it once; sweep pair or another group"
        raise UserError(problem("hydra.sweeper.params.experiment", named["experiment"].get_value_string(), why))
    named |= {override.key_or_group: override for override in overrides}
    counts = {
        key: sum(1 for _ in override.sweep_string_iterator())
        for key, override in named.items()
        if override.is_sweep_override() and override.is_discrete_sweep()
    }
    lines = [
        f"{key}={named[key].get_value_string()}: no value is given, so there is nothing to run"
        for key, count in counts.items()
        if count == 0
    ]
    if lines:
        raise UserError(lines)
    return math.prod(counts.values())


def _incomparable(overrides: Sequence[Override], loss: str) -> Iterator[str]:
    """Yield one line for each key whose values change what the minimized loss means."""
    for override in overrides:
        key = str(override.key_or_group)
        if override.is_sweep_override() and loss in incomparable(key):
            yield (
                f"{key}: the values of this key change what minimize.loss={loss} measures, so the search finds small "
                "numbers, not good pictures; choose minimize.metric=NAME, which can be compared"
            )


def _is_complete(outcome: Outcome) -> bool:
    return outcome.state in ("ran", "kept", "continued")


def _tell(sweep: Sweep, complete: int, expected: int, noun: str, words: list[str]) -> int:
    """Print the table of a sweep, and how to resume it; return the exit status."""
    outcomes = sweep.outcomes()
    if outcomes:
        Console(highlight=False, width=None if sys.stdout.isatty() else 1000).print(sweep.table(outcomes))
    total = f"{count(expected, noun)} {'is' if expected == 1 else 'are'}"
    print(f"{complete} of {total} complete{'; to compare them:' if complete else ''}", flush=True)
    if complete:
        print(f"python -m nst.compare {shlex.quote(str(sweep.path))}", flush=True)
    if complete >= expected:
        return 0
    failed = all(outcome.state == "failed" for outcome in outcomes if not _is_complete(outcome))
    ahead = "Correct what failed, and continue" if failed else "To resume"
    kept = [word for word in words if not word.startswith("hydra.sweep.dir=")]
    again = command([*kept, f"hydra.sweep.dir={sweep.path}"], "-m")
    print(f"error: {expected - complete} of {total} not complete. {ahead}: {again}", file=sys.stderr)
    return 1
