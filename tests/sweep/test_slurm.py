"""Sweeps on a Slurm of this one machine: its jobs run, and what is preempted goes on."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nst.sweep.folder import Sweep
from tests.helpers import slurm

pytestmark = pytest.mark.skipif(slurm.missing() is not None, reason=str(slurm.missing()))
SLURM = ["-m", "hydra/launcher=submitit_slurm", "hydra.launcher.cpus_per_task=1", "hydra.sweep.dir=sweep"]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a user of a Slurm that runs as long as this module's tests."""
    with slurm.started(tmp_path_factory.mktemp("slurm")) as environment:
        yield environment


@contextmanager
def sweep(cluster: dict[str, str], folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The command line, as it waits for its jobs; what tests set in its environment, sbatch hands on to them."""
    command = [sys.executable, "-m", "nst.train", *arguments, *SLURM]
    process = subprocess.Popen(command, cwd=folder, env={**os.environ, **cluster}, stdout=-1, stderr=-1, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_sweep_runs_as_jobs_and_an_invalid_point_fails_alone(
    cluster: dict[str, str], small: list[str], tmp_path: Path
) -> None:
    with sweep(cluster, tmp_path, *small, "weights.style=1e4,-1,1e5") as process:
        out, err = process.communicate(timeout=100)
    assert process.returncode == 1
    assert "Traceback" not in err
    assert "2 of 3 runs are complete" in out
    states = [outcome.state for outcome in Sweep(tmp_path / "sweep").outcomes()]
    assert states == ["ran", "failed", "ran"]


@pytest.mark.parametrize("preempt", [["scontrol", "requeue"], ["scancel", "--signal=USR2"]], ids=["requeue", "timeout"])
def test_a_preempted_job_goes_on(cluster: dict[str, str], small: list[str], tmp_path: Path, preempt: list[str]) -> None:
    # No checkpoint but the one that the signal asks for.
    long = ["evaluations=400", "callbacks.checkpoint.every_evaluations=4000", "optimizer=adam"]
    with sweep(cluster, tmp_path, *small, *long) as process:
        deadline = time.monotonic() + 60
        while not (begun := list(tmp_path.glob("sweep/*/snapshots/*.png"))) and time.monotonic() < deadline:
            time.sleep(0.05)
        [job] = [path.name for path in (tmp_path / "sweep" / ".submitit").glob("[0-9]*")]
        subprocess.run([*preempt, job], env=cluster, check=True)
        _, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    [outcome] = Sweep(tmp_path / "sweep").outcomes()
    assert outcome.state == "continued"
    run = begun[0].parents[1]
    assert "Resuming after " in (run / "train.log").read_text()
    assert json.loads((run / "summary.json").read_text())["evaluations"] == 400
