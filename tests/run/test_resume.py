"""A run that is stopped anywhere, in any way, and goes on ends as the one that was left alone: bit by bit."""

import itertools
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.conftest import Command, server
from tests.run.test_run import summary

STEPS = ["lbfgs", "lbfgs_clamped", "lbfgs_line_search", "adam"]
SCALES = {"single": ["schedule=single"], "pyramid": ["schedule.smallest=16", "schedule.scales=2", "size=48"]}
SUMS = {"gram": [], "paper": ["objective=paper", "weights=paper", "weights.tv=1"]}

#: Optimizer, schedule, objective, and the signal that stops the run.
CASES = [
    ("lbfgs", "pyramid", "gram", signal.SIGKILL),
    ("lbfgs_clamped", "single", "gram", signal.SIGTERM),
    ("lbfgs_line_search", "single", "paper", signal.SIGKILL),
    ("adam", "pyramid", "paper", signal.SIGINT),
]


def words_of(small: list[str], steps: str, scales: str, sums: str) -> list[str]:
    return [
        *small, f"optimizer={steps}", *SCALES[scales], *SUMS[sums], "evaluations=240",
        "callbacks.checkpoint.every_evaluations=7", "callbacks.snapshot.every_evaluations=50",
    ]  # fmt: skip


def stop(folder: Path, *words: str, number: signal.Signals, after: float, evaluations: int) -> None:
    """Begins a command, and stops it so many seconds after there is a checkpoint of that many evaluations."""
    process = server.start(words, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def reached() -> bool:
        return any(int(path.stem) >= evaluations for path in folder.glob("run/checkpoints/[0-9]*.ckpt"))

    while process.poll() is None and evaluations and not reached():
        time.sleep(0.005)
    time.sleep(after)
    process.send_signal(number)
    process.wait(timeout=120)


def assert_alike(run: Path, whole: Path) -> None:
    """Same picture, same losses, same summary of them, and curves with each evaluation once."""
    for name in ("result.png", "losses.csv", "progress.mp4"):
        assert (run / name).read_bytes() == (whole / name).read_bytes(), name
    found, expected = summary(run), summary(whole)
    for key in ("status", "evaluations", "best_evaluation", "losses", "recoveries", "width", "height"):
        assert found[key] == expected[key]
    assert found["status"] == "completed"
    for path in whole.glob("snapshots/*"):
        assert path.read_bytes() == (run / "snapshots" / path.name).read_bytes()


@pytest.mark.parametrize(("steps", "scales", "sums", "number"), CASES)
def test_stopped_once_it_ends_as_if_nothing_had_been(
    nst: Command, small: list[str], tmp_path: Path, steps: str, scales: str, sums: str, number: signal.Signals
) -> None:
    words = words_of(small, steps, scales, sums)
    assert nst(*words, "hydra.run.dir=whole").returncode == 0
    stop(tmp_path, *words, "hydra.run.dir=run", number=number, after=0, evaluations=30)
    assert summary(tmp_path / "run")["status"] == ("running" if number == signal.SIGKILL else "interrupted")
    finished = nst("resume=run")
    assert finished.returncode == 0, finished.stderr
    assert "Resuming after" in finished.stderr
    assert_alike(tmp_path / "run", tmp_path / "whole")


@pytest.mark.soak
@pytest.mark.parametrize(("steps", "scales", "sums"), [*itertools.product(STEPS, SCALES, SUMS)])
def test_killed_again_and_again_it_ends_as_if_nothing_had_been(
    nst: Command, small: list[str], tmp_path: Path, steps: str, scales: str, sums: str
) -> None:
    """At any moment: while Python starts, while the run is set up, between checkpoints, and at its end."""
    words = words_of(small, steps, scales, sums)
    assert nst(*words, "hydra.run.dir=whole").returncode == 0
    chance = random.Random(f"{steps} {scales} {sums}")
    for _ in range(6):
        begun = (tmp_path / "run" / "config.yaml").is_file()
        again = ["resume=run"] if begun else [*words, "hydra.run.dir=run"]
        evaluations = chance.choice([0, 0, 30, 100, 180])
        stop(
            tmp_path, *again, number=signal.SIGKILL, after=chance.uniform(0, 0.5 if evaluations else 6),
            evaluations=evaluations,
        )  # fmt: skip
    finished = nst(*(["resume=run"] if (tmp_path / "run" / "config.yaml").is_file() else [*words, "hydra.run.dir=run"]))
    assert finished.returncode == 0, finished.stderr
    assert_alike(tmp_path / "run", tmp_path / "whole")
    [curves] = tmp_path.glob("run/tensorboard/*")
    accumulator = EventAccumulator(str(curves), size_guidance={"scalars": 0})
    accumulator.Reload()
    steps = [event.step for event in accumulator.Scalars("loss/total")]
    assert steps == list(range(1, int(str(summary(tmp_path / "run")["evaluations"])) + 1))


def test_fewer_evaluations_than_were_made_are_refused(inside: Command, small: list[str], tmp_path: Path) -> None:
    """The configuration and the picture would tell of a run that was never made."""
    assert inside(*small, "hydra.run.dir=run").returncode == 0
    files = {name: (tmp_path / "run" / name).read_bytes() for name in ("config.yaml", "result.png", "summary.json")}
    refused = inside("resume=run", "evaluations=3")
    assert refused.returncode == 2
    assert "error: evaluations=3: the run has already made 6; choose more" in refused.stderr
    assert files == {name: (tmp_path / "run" / name).read_bytes() for name in files}
    again = inside("resume=run")
    assert again.returncode == 0
    assert (
        "The run is complete after 6 evaluations: its files are written again. evaluations=N continues it"
        in again.stderr
    )
    assert "Resuming" not in again.stderr
    assert "empty history" not in again.stderr
    assert (tmp_path / "run" / "result.png").read_bytes() == files["result.png"]


def test_a_run_from_before_a_key_existed_goes_on(inside: Command, small: list[str], tmp_path: Path) -> None:
    assert inside(*small, "evaluations=2", "hydra.run.dir=run").returncode == 0
    saved = tmp_path / "run" / "config.yaml"
    lines = saved.read_text(encoding="utf-8").splitlines()
    saved.write_text("\n".join(line for line in lines if "cuda_graphs" not in line), encoding="utf-8")
    assert len(saved.read_text(encoding="utf-8").splitlines()) == len(lines) - 1
    resumed = inside("resume=run", "evaluations=3")
    assert resumed.returncode == 0, resumed.stderr
