"""A sweep from the command line: how many runs it names, and at its end what became of each."""

import math
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from rich.console import Console

from nst.errors import UserError, problem
from nst.source import Source, make_folder, quoted
from nst.sweep import Outcome, Sweep

#: Hydra's own sweeper, which runs a grid.
GRID = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"


def run(source: Source, words: list[str], task: Callable[[], Any]) -> int:
    """Runs a ``hydra.main`` task over a sweep; returns the exit status, 0 where every run of it is complete.

    ``words`` are the user's overrides, for the command that goes on.
    """
    cfg = source.compose(RunMode.MULTIRUN)
    params = [f"{key}={value}" for key, value in (cfg.hydra.sweeper.get("params") or {}).items()]
    grid = cfg.hydra.sweeper._target_ == GRID
    expected = expected_runs(source.parse(params), source.parse(source.overrides)) if grid else None
    sweep = Sweep(make_folder("hydra.sweep.dir", Path(str(cfg.hydra.sweep.dir)).absolute(), source.overrides))
    sweep.forget()
    sys.argv[1:] = [*source.flags, "--multirun", *source.overrides, f"hydra.sweep.dir={quoted(sweep.path)}"]
    failure: BaseException | None = None
    try:
        task()
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        failure = error
    outcomes = sweep.outcomes()
    if failure is not None and all(_is_complete(outcome) for outcome in outcomes):
        raise failure  # of the sweep itself, not of a run
    return _tell(sweep, outcomes, len(outcomes) if expected is None else expected, words)


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


def _tell(sweep: Sweep, outcomes: list[Outcome], expected: int, words: list[str]) -> int:
    """Prints the table of a sweep, and how to go on; returns the exit status."""
    Console(highlight=False, width=None if sys.stdout.isatty() else 1000).print(sweep.table(outcomes))
    missing = expected - sum(_is_complete(outcome) for outcome in outcomes)
    print(f"{expected - missing} of {expected} runs are complete; to compare them:", flush=True)
    print(f"python -m nst.compare {shlex.quote(str(sweep.path))}", flush=True)
    if not missing:
        return 0
    kept = [word for word in words if not word.startswith("hydra.sweep.dir=")]
    again = shlex.join(["python", "-m", "nst.train", "-m", *kept, f"hydra.sweep.dir={sweep.path}"])
    print(f"error: {missing} of {expected} runs are not complete. To go on: {again}", file=sys.stderr)
    return 128 + signal.SIGINT if any(outcome.state == "interrupted" for outcome in outcomes) else 1
