"""A search with Optuna goes on with the trials it has, and never mixes trials that don't compare."""

from pathlib import Path

import optuna
import pytest

from nst.files.run_folder import RunFolder
from nst.metrics.names import named
from nst.sweep.folder import Sweep
from tests.conftest import Command
from tests.sweep.test_sweep import files, kill, summaries

SEARCH = [
    "hydra/sweeper=optuna", "hydra.sweeper.sampler.seed=1", "weights.style=tag(log,interval(1e4,1e7))",
    "minimize.loss=style", "evaluations=120", "callbacks.checkpoint.every_evaluations=20",
]  # fmt: skip


def test_a_killed_search_goes_on_with_the_trials_it_has(inside: Command, small: list[str], tmp_path: Path) -> None:
    sweep = kill(tmp_path, *small, *SEARCH, "hydra.sweeper.n_trials=4", run=3)
    finished = [sweep / name for name, summary in summaries(sweep).items() if summary["status"] == "completed"]
    [begun] = [sweep / name for name, summary in summaries(sweep).items() if summary["status"] == "running"]
    before = [files(folder) for folder in finished]
    assert len(before) == 2
    again = inside("-m", *small, *SEARCH, "hydra.sweeper.n_trials=4", "hydra.sweep.dir=sweep")
    assert again.returncode == 0, again.stderr
    assert "4 of 4 trials are complete" in again.stdout
    assert [outcome.state for outcome in Sweep(sweep).outcomes()] == ["continued", "ran"]
    assert "Resuming after " in (begun / "train.log").read_text()
    assert [files(folder) for folder in finished] == before, "a finished run was touched"
    assert [summary["status"] for summary in summaries(sweep).values()] == ["completed"] * 4, "a trial was drawn twice"
    enough = inside("-m", *small, *SEARCH, "hydra.sweeper.n_trials=4", "hydra.sweep.dir=sweep")
    assert enough.returncode == 0, enough.stderr
    assert "4 of 4 trials are complete" in enough.stdout
    assert Sweep(sweep).outcomes() == []


def test_what_a_study_compares_stays_the_same(inside: Command, small: list[str], tmp_path: Path) -> None:
    search = ["-m", *small, "hydra/sweeper=optuna", "hydra.sweep.dir='a sweep'"]
    first = inside(*search, "hydra.sweeper.n_trials=2", "weights.style=choice(1e5,-1)", "hydra.sweeper.sampler.seed=0")
    assert first.returncode == 1, "one of the trials is invalid"
    assert "Traceback" not in first.stderr
    assert "1 of 2 trials are complete" in first.stdout
    other = inside(*search, "weights.style=choice(1e5,-1)", "evaluations=7")
    assert other.returncode == 2
    assert "trials were made with evaluations=6, not with evaluations=7; choose another hydra.sweep.dir" in other.stderr
    more = inside(*search, "weights.style=choice(1e5,1e6)", "threads=2")
    assert more.returncode == 2
    assert "the study can't be resumed: CategoricalDistribution does not support dynamic value space" in more.stderr
    assert "Traceback" not in other.stderr + more.stderr


def test_a_study_that_cannot_be_opened_is_the_users_mistake(inside: Command, small: list[str]) -> None:
    finished = inside(
        "-m", *small, "hydra/sweeper=optuna", "seed=1,2", "hydra.sweeper.storage=nowhere", "hydra.sweep.dir=s"
    )
    assert finished.returncode == 2
    assert finished.stderr.startswith("error: hydra.sweeper.storage=nowhere: Could not parse")


def test_losses_of_different_meaning_are_told(inside: Command, small: list[str]) -> None:
    search = ["-m", *small, "hydra/sweeper=optuna", "hydra.sweeper.n_trials=1", "evaluations=1", "seed=choice(1,2)"]
    meant = "the values of this key change what minimize.loss={} measures"
    told = inside(*search, "layers=choice(seed,paper)", "weights.style=choice(1e5,1e6)", "minimize.loss=style").stderr
    assert "warning: layers: " + meant.format("style") in told
    assert "warning: weights.style" not in told
    assert "warning: seed" not in told
    told = inside(*search, "weights.style=choice(1e5,1e6)").stderr
    assert "warning: weights.style: " + meant.format("total") in told


def test_a_search_for_a_measure_takes_any_keys(
    inside: Command, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nst.metrics.observer.SIDE", 128)
    search = ["-m", *small, "hydra/sweeper=optuna", "hydra.sweeper.n_trials=1", "evaluations=1"]
    words = ["layers=choice(seed,paper)", "metrics=[slim]", "minimize.metric=gram", "hydra.sweep.dir=sweep"]
    found = inside(*search, *words)
    assert found.returncode == 0, found.stderr
    assert "warning: layers" not in found.stderr
    [trial] = optuna.load_study(study_name=None, storage=f"sqlite:///{tmp_path}/sweep/study.db").trials
    [folder] = (path.parent for path in tmp_path.glob("sweep/*/result.png"))
    assert trial.value == pytest.approx(named(RunFolder(folder).read_metrics(), "slim")["gram"])
