"""One run of a sweep: the task that Hydra's launchers start."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from nst.config.hydra_edge import original_cwd
from nst.config.identity import identity
from nst.config.source import keys
from nst.errors import DivergedError, UserError, typed
from nst.files.run_folder import RunFolder
from nst.plan.planning import Plan, make_plan
from nst.run import job, measuring, provenance
from nst.sweep.folder import Outcome, Sweep

log = logging.getLogger(__name__)


def paint(cfg: DictConfig) -> float:
    """Keep a finished run, resume an interrupted one, or start a new one; return the value that ``minimize`` selects.

    The outcome is written to the sweep's folder.
    """
    hydra = HydraConfig.get()
    sweep = Sweep(Path(hydra.sweep.dir))
    outcome = Outcome(hydra.job.num, list(hydra.overrides.task), "running")
    sweep.record(outcome)
    own = [typed(word) for word in outcome.overrides if keys([word])[0] in sweep.varied()]
    log.info("Run %s", ": ".join(filter(None, [sweep.place(outcome.number), " ".join(own)])))
    try:
        with original_cwd(), _folder_of(cfg, sweep, outcome.overrides) as (planned, folder):
            summary = folder.read_summary()
            outcome = replace(outcome, folder=str(folder.path))
            if summary.get("status") == "completed" and folder.result.is_file():
                outcome = replace(outcome, state="kept")
                measures = measuring.measured(planned.config, folder, planned.device)
                return measuring.value(planned.config, summary["losses"], measures)
            goes_on = folder.config.is_file()
            sweep.record(outcome)
            value = job.run(planned, folder, shown=sweep.varied(), goes_on=goes_on, is_new=sweep.is_new)
            outcome = replace(outcome, state="continued" if goes_on else "ran")
            return value
    except Exception as error:
        outcome = replace(outcome, state="failed", error=str(error) or type(error).__name__)
        if not isinstance(error, UserError | DivergedError):
            log.exception("The run failed")  # the table has only the message
        raise
    except BaseException:  # SystemExit, from a signal
        outcome = replace(outcome, state="interrupted")
        raise
    finally:
        sweep.record(outcome)


@contextmanager
def _folder_of(cfg: DictConfig, sweep: Sweep, words: list[str]) -> Iterator[tuple[Plan, RunFolder]]:
    """Yield the plan of a configuration and the folder of its run, locked for this job.

    For an invalid configuration, write only a summary to the folder, and raise UserError.
    """
    provenance.forget_peak_memory()  # reading the pictures counts
    try:
        planned = make_plan(cfg, words=words, named=sweep.varied())
    except UserError as error:
        asked: Any = OmegaConf.to_container(cfg)
        with sweep.claim(
            identity(asked, {key: asked[key] for key in ("content", "style", "encoder")}), "invalid"
        ) as folder:
            job.note_failure(folder, error)
        raise
    with sweep.claim(planned.identity, planned.title) as folder, job.log_to(folder), folder.alone():
        yield planned, folder
