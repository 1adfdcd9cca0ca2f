"""Long runs, and many runs in one process, take no more memory, files or threads as they go on."""

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
import pytorch_lightning as pl
from omegaconf import DictConfig

from nst.files import paths
from tests.conftest import Command

MB = 10**6


class Watch(pl.Callback):
    """Writes down what the process has, every so many evaluations, and at the end of a run."""

    def __init__(self, file: str, every: int) -> None:
        self.file, self.every = Path(file), every

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *args: object) -> None:
        if module.evaluation.number % self.every == 0:  # type: ignore[union-attr, operator]
            self.note()

    def on_train_end(self, *args: object) -> None:
        self.note()

    def note(self) -> None:
        gc.collect()
        process = psutil.Process()
        nodes = sum(isinstance(each, DictConfig) for each in gc.get_objects())
        had = process.memory_info().rss, process.num_fds(), process.num_threads(), nodes
        with self.file.open("a") as file:
            file.write(" ".join(map(str, had)) + "\n")


class Had(NamedTuple):
    memory: int
    files: int
    threads: int
    nodes: int  # of configurations


def noted(path: Path) -> list[Had]:
    return [Had(*map(int, line.split())) for line in path.read_text().splitlines()]


def assert_flat(had: Sequence[Had], *, settled: int, growth: int) -> None:
    """Nothing grows after the first so many notes; the memory by at most ``growth`` bytes from there to the end.

    A file or a thread that is there at one note only, such as a snapshot that is being written, doesn't count.
    """
    early, late = had[settled : 2 * settled], had[-settled:]
    assert len(had) >= 3 * settled
    print(f"memory {[round(each.memory / MB, 1) for each in had]}, files {had[-1].files}, threads {had[-1].threads}")
    assert min(each.memory for each in late) - min(each.memory for each in early) <= growth
    assert min(each.files for each in late) <= max(each.files for each in early)
    assert min(each.threads for each in late) <= max(each.threads for each in early)
    assert max(each.nodes for each in late) <= max(each.nodes for each in early)


@pytest.fixture
def watched(small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("PYTHONPATH", str(paths.PACKAGE.parent))
    return [*small, "size=16", "layers.style=[relu1_1,relu2_1]", "layers.content=[relu2_2]", "schedule=single"]


def watch(path: Path, every: int) -> str:
    return f"+callbacks.watch={{_target_: tests.run.test_long_and_crowded.Watch, file: {path}, every: {every}}}"


@pytest.mark.parametrize("evaluations", [500, pytest.param(20_000, marks=pytest.mark.soak)])
@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_a_long_run_does_not_grow(
    nst: Command, watched: list[str], tmp_path: Path, optimizer: str, evaluations: int
) -> None:
    """But for its table of losses, which it keeps, at about half a kilobyte a row."""
    file = tmp_path / "had"
    finished = nst(
        *watched, f"optimizer={optimizer}", f"evaluations={evaluations}", watch(file, evaluations // 15),
        "hydra.run.dir=run",
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    assert_flat(noted(file), settled=3, growth=3 * MB + 500 * evaluations)


@pytest.mark.parametrize("runs", [12, pytest.param(200, marks=pytest.mark.soak)])
def test_many_runs_in_one_process_do_not_grow(nst: Command, watched: list[str], tmp_path: Path, runs: int) -> None:
    file = tmp_path / "had"
    finished = nst("-m", *watched, "evaluations=3", f"seed=range({runs})", watch(file, 1000), "hydra.sweep.dir=sweep")
    assert finished.returncode == 0, finished.stderr
    had = noted(file)
    assert len(had) == runs
    assert_flat(had, settled=runs // 4, growth=5 * MB)
