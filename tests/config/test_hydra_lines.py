"""Both lines of Hydra run the program: 1.3, which is installed, and the release candidate of 1.4."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from nst.files import paths

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


#: Runs each of the command lines in the JSON of its argument; prints Hydra's version, and their exit statuses.
SCRIPT = """
import hydra, json, sys
from nst.train import main
statuses = []
for words in json.loads(sys.argv[1]):
    sys.argv = ["nst.train", *words]
    try:
        statuses.append(main())
    except SystemExit as error:
        statuses.append(error.code)
print(json.dumps([hydra.__version__, statuses]))
"""


def test_a_run_a_sweep_and_a_mistake(newer: dict[str, str], small: list[str], tmp_path: Path) -> None:
    lines = [
        [*small, "hydra.run.dir=run"],
        ["resume=run", "evaluations=8"],
        ["-m", *small, "weights.style=1e4,1e5", "hydra.sweep.dir=sweep"],
        ["weights.style=-1", "optimzer=adam"],
        ["--help"],
        ["--help-all"],
    ]
    command = [sys.executable, "-c", SCRIPT, json.dumps(lines)]
    finished = subprocess.run(command, cwd=tmp_path, env=newer, capture_output=True, text=True, check=True)
    version, statuses = json.loads(finished.stdout.splitlines()[-1])
    assert version.startswith("1.4.")
    assert statuses == [0, 0, 0, 2, 0, 0], finished.stderr
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["evaluations"] == 8
    assert "2 of 2 runs are complete" in finished.stdout
    assert "  python -m nst.train experiment=strotss style=scream\n" in finished.stdout
    assert "\nschedule: pyramid, pyramid_upsample, single\n" in finished.stdout
    assert "optimzer=adam: there is no key optimzer" in finished.stderr
    assert "Traceback" not in finished.stderr
    assert len(list((tmp_path / "sweep").glob("*/result.png"))) == 2
