"""A search with Optuna that is kept on disk: how its study goes on when the command is given again."""

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

from nst.errors import UserError, problem
from nst.sweep import HOW

#: Hydra's sweeper that searches with Optuna.
OPTUNA = "hydra_plugins.hydra_optuna_sweeper.optuna_sweeper.OptunaSweeper"
#: The keys that may differ between the trials of a study, as they have no part in what is minimized.
MAY_DIFFER = {*HOW, "hydra"} - {"minimize"}


@dataclass(frozen=True)
class Study:
    """What the configuration of a sweep says of its study.

    Attributes:
        storage: the URL of the database.
        name: the study's name there.
        trials: how many of them are to be complete.
        seed: what the sampler draws from; None for another draw each time.
    """

    storage: str
    name: str
    trials: int
    seed: int | None

    def complete(self) -> int:
        """How many trials have a result."""
        return sum(trial.state.name == "COMPLETE" for trial in self._trials())

    def go_on(self, overrides: Sequence[Override]) -> list[str]:
        """Puts what an ended process left unfinished first in line; returns the overrides for what is missing.

        Raises UserError where ``overrides`` would paint anything else than the study's trials so far.
        """
        self._check(overrides)
        study, trials = self._load(), self._trials()
        for trial in trials:
            if trial.state.name == "RUNNING":
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # enqueue_trial is called experimental
                    study.enqueue_trial(trial.params)
                study.tell(trial.number, state=type(trial.state).FAIL)
        words = [f"hydra.sweeper.n_trials={max(0, self.trials - self.complete())}"]
        if self.seed is not None:  # or it would draw again what it drew before
            words.append(f"hydra.sweeper.sampler.seed={self.seed + len(trials)}")
        return words

    def _check(self, overrides: Sequence[Override]) -> None:
        complete = [trial for trial in self._trials() if trial.state.name == "COMPLETE"]
        if complete:
            began = _compared(complete[-1].user_attrs)  # where the sweeper keeps them
            fixed = [override for override in overrides if not override.is_sweep_override()]
            now = _compared({o.get_key_element(): o.get_value_element_as_str() for o in fixed})
            changed = sorted(key for key in {*began, *now} if began.get(key) != now.get(key))
            if changed:
                why = f"the study's trials were made with {_words(began, changed)}, not with {_words(now, changed)}"
                raise UserError(problem("hydra.sweeper.storage", self.storage, f"{why}; take another hydra.sweep.dir"))

    def _trials(self) -> list[Any]:
        study = self._load()
        return [] if study is None else study.get_trials(deepcopy=False)

    def _load(self) -> Any:
        """Optuna's own object, or None before the first trial."""
        import optuna  # an extra
        from sqlalchemy.exc import SQLAlchemyError

        try:
            return optuna.load_study(study_name=self.name, storage=self.storage)
        except KeyError:
            return None
        except (ImportError, SQLAlchemyError, optuna.exceptions.OptunaError) as error:
            raise UserError(problem("hydra.sweeper.storage", self.storage, str(error).splitlines()[0])) from error


def study_of(cfg: DictConfig, folder: Path) -> Study | None:
    """The study of a sweep into ``folder``; None where its sweeper keeps none."""
    sweeper = cfg.hydra.sweeper
    if sweeper._target_ != OPTUNA:
        return None
    cfg.hydra.sweep.dir = str(folder)  # which the storage may refer to
    if sweeper.storage is None or sweeper.study_name is None:
        return None
    return Study(str(sweeper.storage), sweeper.study_name, sweeper.n_trials, sweeper.sampler.get("seed"))


def _compared(overrides: Mapping[str, str]) -> dict[str, str]:
    """Of the overrides those that what is minimized depends on."""
    parts = {key: re.split(r"[./]", key.lstrip("+"))[0] for key in overrides}
    return {key: value for key, value in overrides.items() if parts[key] not in MAY_DIFFER}


def _words(overrides: Mapping[str, str], keys: Sequence[str]) -> str:
    return " ".join(f"{key}={overrides[key]}" for key in keys if key in overrides) or "the defaults"
