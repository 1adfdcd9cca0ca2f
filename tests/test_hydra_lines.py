"""Both lines of Hydra run the program: 1.3, which is installed, and the release candidate of 1.4."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from nst import paths

CONSTRAINTS = (paths.PACKAGE.parent / "constraints-hydra-1.4.txt").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which Hydra 1.4 is found before the installed one."""
    folder = tmp_path_factory.mktemp("hydra-1.4")
    wanted = re.findall(r"^(?:hydra-core|omegaconf)==\S+$", CONSTRAINTS, re.MULTILINE)
    assert len(wanted) == 2
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--pre", "--no-deps", "--target", str(folder)]
    if subprocess.run([*command, *wanted], capture_output=True, check=False).returncode != 0:
        pytest.skip("Hydra 1.4 can't be installed")
    return {**os.environ, "PYTHONPATH": f"{folder}:{paths.PACKAGE.parent}"}


def train(environment: dict[str, str], folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nst.train", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_a_run_a_sweep_and_a_mistake(newer: dict[str, str], small: list[str], tmp_path: Path) -> None:
    code = "import hydra; print(hydra.__version__)"
    told = subprocess.run([sys.executable, "-c", code], env=newer, capture_output=True, text=True, check=True)
    assert told.stdout.startswith("1.4.")
    finished = train(newer, tmp_path, *small, "hydra.run.dir=run")
    assert finished.returncode == 0, finished.stderr
    assert (tmp_path / "run" / "result.png").is_file()
    again = train(newer, tmp_path, "resume=run", "evaluations=8")
    assert again.returncode == 0, again.stderr
    sweep = train(newer, tmp_path, "-m", *small, "weights.style=1e4,1e5", "hydra.sweep.dir=sweep")
    assert sweep.returncode == 0, sweep.stderr
    assert "2 of 2 runs are complete" in sweep.stdout
    wrong = train(newer, tmp_path, "weights.style=-1", "optimzer=adam")
    assert wrong.returncode == 2
    assert "Traceback" not in wrong.stderr
    assert len(list((tmp_path / "sweep").glob("*/result.png"))) == 2
