"""Every launcher paints what Hydra's own paints, with a share of the processor; and what a user's mistake ends in."""

import json
import os
from pathlib import Path

import pytest

from nst.sweep.folder import Sweep
from tests.conftest import Command, server

#: Two runs, and a point between them that is invalid; the launchers that start slowly do without the second run.
POINTS = ["-m", "weights.style=1e4,-1,1e5"]
LAUNCHERS = {
    "joblib": POINTS,
    "submitit_local": ["-m", "weights.style=1e4,-1"],
    "ray": ["-m", "weights.style=1e4,-1", "hydra.launcher.ray.init.num_cpus=2"],
}


@pytest.fixture(scope="module")
def expected(small: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[bytes]]:
    """The files of the runs by their names, as Hydra's own launcher leaves them with one thread."""
    folder = tmp_path_factory.mktemp("basic")
    server.run([*small, *POINTS, "hydra.sweep.dir=sweep"], cwd=folder)
    return results(folder / "sweep")


def results(sweep: Path) -> dict[str, list[bytes]]:
    return {
        path.parent.name: [path.read_bytes(), path.with_name("losses.csv").read_bytes()]
        for path in sweep.glob("*/result.png")
    }


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_every_launcher_paints_the_same(
    fresh: Command,
    small: list[str],
    expected: dict[str, list[bytes]],
    tmp_path: Path,
    launcher: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    chosen = [f"hydra/launcher={launcher}", "threads=null", "hydra.sweep.dir=sweep"]
    finished = fresh(*small, *LAUNCHERS[launcher], *chosen)
    assert finished.returncode == 1
    assert "Traceback" not in finished.stderr
    assert "Error executing job" not in finished.stderr
    assert "weights.style=-1: must be greater than or equal to 0" in finished.stdout
    states = [outcome.state for outcome in Sweep(tmp_path / "sweep").outcomes()]
    assert states == (["ran", "failed", "ran"] if launcher == "joblib" else ["ran", "failed"])
    made = results(tmp_path / "sweep")
    assert f"{len(made)} of {len(states)} runs are complete" in finished.stdout
    assert len(made) == states.count("ran")
    assert made == {name: expected[name] for name in made}
    if launcher == "joblib":  # its processes share the terminal, so each line says whose it is
        assert all(f"{name}: evaluation 6/6: total " in finished.stderr for name in expected)
    summaries = [json.loads(path.with_name("summary.json").read_text()) for path in tmp_path.glob("sweep/*/result.png")]
    assert [summary["threads"] for summary in summaries] == [1] * len(made)


@pytest.mark.parametrize(
    ("chosen", "extra"),
    [("launcher=joblib", "joblib"), ("launcher=submitit_slurm", "submitit"), ("launcher=ray", "ray"),
     ("sweeper=optuna", "optuna")],
)  # fmt: skip
def test_a_missing_extra_is_named(
    fresh: Command, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: str, extra: str
) -> None:
    (tmp_path / "hydra_plugins").mkdir()
    (tmp_path / "hydra_plugins" / "__init__.py").touch()  # an empty package in the place of the installed plugins
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    finished = fresh("-m", *small, "seed=1,2", f"hydra/{chosen}", "hydra.sweep.dir=sweep")
    assert finished.returncode == 2
    assert finished.stderr == f"error: hydra/{chosen}: needs an extra: pip install 'nst[{extra}]'\n"
    assert not (tmp_path / "sweep").exists()
