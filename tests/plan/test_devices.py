"""Several processes paint the picture that one paints, each reads its share of the tiles, and none leaves a trace."""

import csv
import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from torch import distributed

from nst.objective.processes import Team
from nst.objective.tiles import windows
from nst.optimizer import ProjectedLBFGS
from nst.plan import memory
from tests.conftest import Command, image, server
from tests.helpers.forking import Process
from tests.objective.test_tile import make

SHAPE = (96, 72)
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "lbfgs": ProjectedLBFGS,
    "adam": functools.partial(torch.optim.Adam, lr=0.02),
}
#: The optimizer, the tiles' size in px, and how many windows one process and each of two read.
CASES = {
    "lbfgs": ("lbfgs", 48, [4], [2, 2]),
    "adam": ("adam", 48, [4], [2, 2]),
    "odd": ("lbfgs", 33, [9], [5, 4]),
    "idle": ("lbfgs", None, [1], [1, 0]),
}


def optimize(optimizer: str, tile: int | None) -> dict[str, Any]:
    """Ten evaluations: their losses, the image, and the windows whose contribution this process counted."""
    objective = make("avg", 0, "mean", 0, SHAPE, tile, torch.float64)
    objective.team = Team.present()
    picture = image(1, *SHAPE).requires_grad_()
    losses: list[float] = []

    def closure() -> torch.Tensor:
        picture.grad = None
        total = objective(picture).total
        total.backward()
        losses.append(total.item())
        return total

    made = OPTIMIZERS[optimizer]([picture])
    while len(losses) < 10:
        made.step(closure)
        picture.data.clamp_(0, 1)
    own = objective.team.own(windows(objective.encoder, SHAPE, tile))
    return {
        "kept": kept_bytes(made.state_dict()),
        "losses": losses,
        "image": picture.detach(),
        "places": [str(part.place["relu1_1"]) for part in own],
    }


def kept_bytes(state: Any) -> int:
    """The bytes of all tensors in an optimizer's state."""
    if isinstance(state, torch.Tensor):
        return state.nbytes
    parts = state.values() if isinstance(state, dict) else state if isinstance(state, list) else []
    return sum(map(kept_bytes, parts))


def work(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    for name, (optimizer, tile, *_) in CASES.items():
        torch.save(optimize(optimizer, tile), folder / f"{name}-{rank}.pt")
    distributed.barrier()  # gloo's threads don't bear that the other process ends first
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what two processes found in each case."""
    folder = tmp_path_factory.mktemp("pair")
    both = [server.start([str(rank), str(folder)], cwd=folder, module=__name__) for rank in range(2)]
    assert [process.wait(120) for process in both] == [0, 0]
    return folder


@pytest.mark.parametrize("case", CASES)
def test_two_processes_find_what_one_finds(pair: Path, case: str) -> None:
    optimizer, tile, alone, shared = CASES[case]
    one = optimize(optimizer, tile)
    first, second = (torch.load(pair / f"{case}-{rank}.pt") for rank in range(2))
    assert torch.equal(first["image"], second["image"]), "they would drift apart"
    assert first["losses"] == second["losses"]
    assert first["losses"] == pytest.approx(one["losses"], rel=1e-6)
    assert (first["image"] - one["image"]).abs().max() <= 1e-6
    assert [len(one["places"])] == alone
    if optimizer == "lbfgs":
        assert max(first["kept"], second["kept"]) < 0.55 * one["kept"]
    assert [len(first["places"]), len(second["places"])] == shared
    assert sorted(first["places"] + second["places"]) == sorted(one["places"])


def test_each_process_reads_its_own_windows_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward and backward: every window of its own twice, but for the last, which is kept."""
    monkeypatch.setattr(Team, "add_up", lambda *_: None)  # the others are not there
    reads = []
    for rank in range(2):
        objective = make("avg", 0, "mean", 0, SHAPE, 24, torch.float64)
        objective.team = Team(rank, 2)
        crops: list[tuple[int, ...]] = []
        objective.encoder.register_forward_pre_hook(lambda _, inputs, crops=crops: crops.append(inputs[0].shape))
        objective(image(1, *SHAPE).requires_grad_()).total.backward()
        reads.append(len(crops))
    assert len(windows(objective.encoder, SHAPE, 24)) == 12
    assert reads == [2 * 6 - 1] * 2


@pytest.mark.parametrize("processes", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("shape", [(768, 1024), (1536, 2048), (200, 1000)])
def test_tiles_are_cut_so_that_all_have_work_and_are_done_soon(shape: tuple[int, int], processes: int) -> None:
    network = make("avg", 0, "mean", 0, SHAPE, None, torch.float32).encoder
    tile = memory.share_out(network, shape, 1024, processes)
    assert tile <= 1024
    parts = windows(network, shape, tile)
    assert len(parts) >= processes
    assert memory.busiest(network, shape, tile, processes) <= memory.busiest(network, shape, 256, processes)


@pytest.fixture
def two(small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Overrides for a small run on two processes; whatever they leave in folders for temporary files is seen."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    return [*small, "size=96", "tile=48", "precision=64", "evaluations=10", "trainer.devices=2"]


def table(folder: Path) -> np.ndarray:
    with (folder / "losses.csv").open() as file:
        return np.array([[float(value) for value in row] for row in list(csv.reader(file))[1:]])


def summary(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return found


def followers(folder: Path, first: int | None = None) -> list[psutil.Process]:
    """The processes that work in ``folder``, but for the first process of a run and this one."""
    found = psutil.process_iter(["cwd"])
    return [
        process for process in found if process.info["cwd"] == str(folder) and process.pid not in (first, os.getpid())
    ]


def test_two_processes_paint_what_one_paints_and_leave_nothing_else(
    nst: Command, inside: Command, two: list[str], tmp_path: Path
) -> None:
    single = inside(*two, "trainer.devices=1", "hydra.run.dir=one")
    assert single.returncode == 0, single.stderr
    finished = inside(*two, "hydra.run.dir=two")  # the other process starts Python anew
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout == f"The picture is at {tmp_path}/two/result.png\n"
    told, expected = (
        [
            line for line in text.splitlines() if not line.startswith(("INFO: The picture has ", "INFO: To "))
        ]  # its own folder
        for text in (finished.stderr, single.stderr)
    )
    assert told == expected
    assert (tmp_path / "two/result.png").read_bytes() == (tmp_path / "one/result.png").read_bytes()
    np.testing.assert_allclose(table(tmp_path / "two"), table(tmp_path / "one"), rtol=1e-6)
    assert [summary(tmp_path / name)["devices"] for name in ("one", "two")] == [1, 2]
    made = [{path.name for path in (tmp_path / name).iterdir()} for name in ("one", "two")]
    assert made[0] == made[1]
    assert {path.name for path in tmp_path.iterdir()} <= {"one", "two", "temporary", "cache", "torch"}
    assert list((tmp_path / "temporary").iterdir()) == []
    assert followers(tmp_path) == []
    # It goes on, on one device or on two.
    assert nst("resume=one", "evaluations=15", "trainer.devices=2").returncode == 0
    assert nst("resume=two", "evaluations=15", "trainer.devices=1").returncode == 0
    np.testing.assert_allclose(table(tmp_path / "two"), table(tmp_path / "one"), rtol=1e-6)
    assert (summary(tmp_path / "one")["devices"], len(table(tmp_path / "one"))) == (2, 15)


def test_scales_and_sweeps_go_over_both(nst: Command, two: list[str], tmp_path: Path) -> None:
    scales = ["schedule.scales=3", "schedule.smallest=16", "tile=auto", "seed=1,2"]
    finished = nst("-m", *two, *scales, "hydra.sweep.dir=two")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert nst("-m", *two, *scales, "trainer.devices=1", "hydra.sweep.dir=one").returncode == 0
    for path in tmp_path.glob("one/*/losses.csv"):
        with path.open() as file:
            sizes = [row["size"] for row in csv.DictReader(file)]
        assert list(dict.fromkeys(sizes)) == ["24", "48", "96"]
        np.testing.assert_allclose(table(tmp_path / "two" / path.parent.name), table(path.parent), rtol=1e-6)
    assert len(list(tmp_path.glob("two/*/result.png"))) == 2


def test_torchrun_starts_them_too(inside: Command, two: list[str], tmp_path: Path) -> None:
    words = ["--nproc-per-node=2", "-m", "nst.train", *two, "hydra.run.dir=two"]
    started = server.start(
        words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, module="torch.distributed.run"
    )
    told, errors = started.communicate(timeout=300)
    assert started.wait(10) == 0, errors
    assert told == f"The picture is at {tmp_path}/two/result.png\n"
    assert inside(*two, "trainer.devices=1", "hydra.run.dir=one").returncode == 0
    np.testing.assert_allclose(table(tmp_path / "two"), table(tmp_path / "one"), rtol=1e-6)


def test_of_torchruns_processes_the_first_tells_a_mistake_and_the_others_wait(two: list[str], tmp_path: Path) -> None:
    """Until torchrun ends them."""
    store = distributed.TCPStore("127.0.0.1", 0, is_master=True)
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "2"}
    first, other = (
        server.start(
            [*two, "trainer.devices=1"], cwd=tmp_path, stderr=subprocess.PIPE,
            env={**os.environ, **place, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    )  # fmt: skip
    why = "error: trainer.devices=1: torchrun has started 2 processes; set trainer.devices=2\n"
    assert first.communicate(timeout=120)[1] == why
    assert first.returncode == 2
    with pytest.raises(subprocess.TimeoutExpired):
        other.wait(1)
    other.terminate()
    assert other.communicate(timeout=10)[1] == ""


def begin(two: list[str], folder: Path) -> tuple[Process, list[psutil.Process]]:
    """A long run in ``folder``/run that has saved a checkpoint, and the processes that follow it."""
    words = [*two, "evaluations=100000", "hydra.run.dir=run", "callbacks.checkpoint.every_evaluations=10"]
    process = server.start(words, cwd=folder, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not list(folder.glob("run/checkpoints/[0-9]*.ckpt")) and time.monotonic() < deadline:
        time.sleep(0.05)
    return process, followers(folder, process.pid)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_between_two_iterations(
    nst: Command, two: list[str], tmp_path: Path, number: signal.Signals
) -> None:
    process, others = begin(two, tmp_path)
    assert len(others) == 1
    others[0].send_signal(signal.SIGUSR2)  # as Slurm does to all that belong to a job
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + number
    assert "Traceback" not in errors
    assert errors.count("Stopping after this iteration") == 1
    assert summary(tmp_path / "run")["status"] == "interrupted"
    done = int(summary(tmp_path / "run")["evaluations"])
    saved = sorted(path.name for path in (tmp_path / "run/checkpoints").iterdir())
    assert saved == [f"{done:06d}.ckpt", f"{done:06d}.part1"]
    assert psutil.wait_procs(others, timeout=5)[1] == []
    assert nst("resume=run", f"evaluations={done + 5}", "trainer.devices=1").returncode == 0
    assert [row[0] for row in table(tmp_path / "run")] == list(range(1, done + 6))


@pytest.mark.parametrize(
    ("first", "second"), [(2, 1), *(pytest.param(*each, marks=pytest.mark.soak) for each in ((1, 2), (2, 2)))]
)
def test_a_history_in_parts_goes_on_with_any_number_of_processes(
    nst: Command, two: list[str], tmp_path: Path, first: int, second: int
) -> None:
    kept = [*two, "schedule=single", "callbacks.checkpoint.keep_history=true"]
    assert nst(*kept, "trainer.devices=1", "evaluations=20", "hydra.run.dir=whole").returncode == 0
    assert nst(*kept, f"trainer.devices={first}", "hydra.run.dir=run").returncode == 0
    names = {path.name for path in (tmp_path / "run/checkpoints").iterdir()}
    assert names == ({"000010.ckpt", "000010.part1"} if first == 2 else {"000010.ckpt"})
    goes_on = nst("resume=run", "evaluations=20", f"trainer.devices={second}")
    assert goes_on.returncode == 0, goes_on.stderr
    assert "empty history" not in goes_on.stderr
    np.testing.assert_allclose(table(tmp_path / "run"), table(tmp_path / "whole"), rtol=1e-6)


def test_a_part_that_is_damaged_or_missing_is_told(inside: Command, two: list[str], tmp_path: Path) -> None:
    assert inside(*two, "trainer.devices=1", "hydra.run.dir=run").returncode == 0
    [path] = (tmp_path / "run/checkpoints").iterdir()
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["optimizer_states"][0]["parts"] = 2
    torch.save(checkpoint, path)
    missing = inside("resume=run", "evaluations=25", "trainer.devices=1")
    assert "this checkpoint can't be read (000010.part1: there is no such file); remove it to" in missing.stderr
    path.with_suffix(".part1").write_bytes(b"half")
    damaged = inside("resume=run", "evaluations=25", "trainer.devices=1")
    assert damaged.returncode == 2
    assert "000010.ckpt: this checkpoint can't be read (000010.part1: File is not a zip file)" in damaged.stderr


def test_no_process_outlives_another(two: list[str], tmp_path: Path) -> None:
    process, [other] = begin(two, tmp_path)
    other.kill()
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "RuntimeError: process 1 of the run ended with status -9" in errors
    assert summary(tmp_path / "run")["status"] == "failed"
    assert followers(tmp_path) == []


def test_killed_without_a_word_the_first_leaves_no_other(two: list[str], tmp_path: Path) -> None:
    process, others = begin(two, tmp_path)
    process.kill()
    process.communicate(timeout=120)
    assert psutil.wait_procs(others, timeout=10)[1] == []


def test_a_run_that_diverges_says_so_once(nst: Command, two: list[str], tmp_path: Path) -> None:
    finished = nst(*two, "weights.style=1e308", "weights.content=1e308", "+weights.style_layers.relu1_1=1e30")
    assert finished.returncode == 1
    assert "Traceback" not in finished.stderr
    assert finished.stderr.count("error: the run diverged") == 1
    assert followers(tmp_path) == []


if __name__ == "__main__":
    work(int(sys.argv[1]), Path(sys.argv[2]))
