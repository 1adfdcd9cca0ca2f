"""Optuna searches that are stored on disk: continuation of the study if the command is given again."""

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

from nst.config.hydra_edge import OPTUNA
from nst.config.identity import NOT_MINIMIZED
from nst.errors import UserError, problem


@dataclass(frozen=True)
class Study:
    """The study of a sweep, as its configuration describes it.

    Attributes:
        storage: the URL of the database.
        name: the study's name in the database.
        trials: how many trials to complete.
        seed: the seed of the sampler; None for another one each time.
    """

    storage: str
    name: str
    trials: int
    seed: int | None

    def complete(self) -> int:
        """Return the number of trials that have a result."""
        return sum(trial.state.name == "COMPLETE" for trial in self._trials())

    def go_on(self, overrides: Sequence[Override]) -> dict[str, int]:
        """Enqueue the trials that an ended process left unfinished; return Hydra's keys for the missing trials.

        Raise UserError if ``overrides`` don't match those of the study's trials so far.
        """
        self._check(overrides)
        study, trials = self._load(), self._trials()
        for trial in trials:
            if trial.state.name == "RUNNING":
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # enqueue_trial is marked experimental
                    study.enqueue_trial(trial.params)
                study.tell(trial.number, state=type(trial.state).FAIL)
        values = {"hydra.sweeper.n_trials": max(0, self.trials - self.complete())}
        if self.seed is not None:  # otherwise the sampler would repeat its draws
            values["hydra.sweeper.sampler.seed"] = self.seed + len(trials)
        return values

    def _check(self, overrides: Sequence[Override]) -> None:
        complete = [trial for trial in self._trials() if trial.state.name == "COMPLETE"]
        if complete:
            began = _compared(complete[-1].user_attrs)  # the sweeper stores the overrides there
            fixed = [override for override in overrides if not override.is_sweep_override()]
            now = _compared({o.get_key_element(): o.get_value_element_as_str() for o in fixed})
            changed = sorted(key for key in {*began, *now} if began.get(key) != now.get(key))
            if changed:
                why = f"the study's trials were made with {_words(began, changed)}, not with {_words(now, changed)}"
                why = f"{why}; choose another hydra.sweep.dir"
                raise UserError(problem("hydra.sweeper.storage", self.storage, why))

    def _trials(self) -> list[Any]:
        study = self._load()
        return [] if study is None else study.get_trials(deepcopy=False)

    def _load(self) -> Any:
        """Return Optuna's own object, or None before the first trial."""
        import optuna  # an extra
        from sqlalchemy.exc import SQLAlchemyError

        try:
            return optuna.load_study(study_name=self.name, storage=self.storage)
        except KeyError:
            return None
        except (ImportError, SQLAlchemyError, optuna.exceptions.OptunaError) as error:
            raise UserError(problem("hydra.sweeper.storage", self.storage, str(error).splitlines()[0])) from error


def study_of(cfg: DictConfig) -> Study | None:
    """Return the study of a sweep; None if its sweeper keeps none."""
    sweeper = cfg.hydra.sweeper
    if sweeper._target_ != OPTUNA:
        return None
    if sweeper.storage is None or sweeper.study_name is None:
        return None
    return Study(str(sweeper.storage), sweeper.study_name, sweeper.n_trials, sweeper.sampler.get("seed"))


def _compared(overrides: Mapping[str, str]) -> dict[str, str]:
    """Return the overrides that the minimized value depends on."""
    parts = {key: re.split(r"[./]", key.lstrip("+"))[0] for key in overrides}
    return {key: value for key, value in overrides.items() if parts[key] not in {*NOT_MINIMIZED, "hydra"}}


def _words(overrides: Mapping[str, str], keys: Sequence[str]) -> str:
    return " ".join(f"{key}={overrides[key]}" for key in keys if key in overrides) or "the defaults"
