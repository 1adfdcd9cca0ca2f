"""A run says what it will take in memory before it begins, and isn't begun where that is more than there is."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from nst.errors import UserError
from nst.files import paths
from nst.plan import memory
from nst.run import single
from tests.conftest import Command
from tests.run.test_run import summary

GROUPS = Path("/sys/fs/cgroup/memory")

#: Size, optimizer, pairs of L-BFGS, precision, tile: what a run's memory depends on.
RUNS = [
    "384 lbfgs 5 32 off",
    "640 adam 0 bf16 off",
    "512 lbfgs 20 bf16 off",
    "640 lbfgs_clamped 10 32 off",
    "1024 adam 0 32 256",
]
MORE = [
    "256 adam 0 bf16 off",
    "256 lbfgs 100 32 off",
    "512 lbfgs_line_search 10 bf16 off",
    "512 adam 0 64 off",
    "1024 lbfgs 5 32 off",
    "1024 lbfgs 60 bf16 off",
    "1536 adam 0 bf16 off",
    "1536 lbfgs 10 32 512",
]


@pytest.mark.parametrize("run", [*RUNS, *(pytest.param(run, marks=pytest.mark.soak) for run in MORE)])
@pytest.mark.parametrize("encoder", ["slim", pytest.param("vgg19", marks=pytest.mark.soak)])
def test_a_run_takes_what_was_foretold(nst: Command, tmp_path: Path, encoder: str, run: str) -> None:
    size, optimizer, pairs, precision, tile = run.split()
    history = [] if optimizer == "adam" else [f"optimizer.history_size={pairs}"]
    finished = nst(
        f"encoder={encoder}", "encoder.weights=random", "trainer.accelerator=cpu", f"size={size}", f"tile={tile}",
        f"optimizer={optimizer}", *history, f"precision={precision}", f"evaluations={int(pairs) + 3}",
        f"content.path={paths.bundled('content', 'tubingen')}", "metrics=null", "hydra.run.dir=run",
        f"style.path={paths.bundled('style', 'starry_night')}",
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    found = summary(tmp_path / "run")
    assert found["predicted_memory_bytes"] == pytest.approx(found["peak_memory_bytes"], rel=0.25)


def test_a_large_file_counts_while_it_is_read(nst: Command, small: list[str], tmp_path: Path) -> None:
    Image.new("RGB", (8000, 6000), (200, 100, 50)).save(tmp_path / "large.png")
    assert nst(*small, "content.path=large.png", "hydra.run.dir=run").returncode == 0
    found = summary(tmp_path / "run")
    assert found["predicted_memory_bytes"] == pytest.approx(found["peak_memory_bytes"], rel=0.25)
    assert "GB while the pictures are read, but only 0.50 GB are allowed" in refusal(
        nst, [*small, "content.path=large.png"], memory=0.5
    )


def refusal(command: Command, run: list[str], *, memory: float) -> str:
    """Return the line that says why a run isn't begun."""
    memory = round(memory, 2)  # 1.89 - 0.05 is 1.8399999999999999, which a message shows as 1.84
    finished = command(*run, f"memory={memory}", "hydra.run.dir=refused")
    assert finished.returncode == 2, finished.stderr
    assert "Traceback" not in finished.stderr
    [line] = [line for line in finished.stderr.splitlines() if line.startswith("error: ")]
    assert line.startswith(f"error: memory={memory}: the run needs about ")
    return line


def parts(line: str) -> dict[str, float]:
    """What a run would take, in GB: each part, and ``total``."""
    told = re.search(r"needs about ([\d.]+) GB \((.*?)\), but only", line)
    assert told is not None, line
    return {"total": float(told[1])} | {
        name.strip(): float(gb) for name, gb in re.findall(r"([a-z ]+?) ([\d.]+) GB", told[2])
    }


def suggested(line: str) -> list[str]:
    """The overrides in what would fit."""
    return re.findall(r"([\w.]+=\S+) \([\d.]+ GB\)", line.split("choices that fit: ")[1])


def test_what_does_not_fit_is_not_begun_and_what_would_is_said(
    inside: Command, small: list[str], tmp_path: Path
) -> None:
    run = [*small, "size=896", "precision=32", "tile=off", "evaluations=400", "schedule=single"]
    line = refusal(inside, run, memory=0.01)
    assert "nothing smaller would fit either" in line
    taken = parts(line)
    assert taken["optimizer"] == max(taken[part] for part in taken if part != "total")
    memory = round(taken["total"] - 0.4 * taken["optimizer"], 2)
    overrides = suggested(refusal(inside, run, memory=memory))
    assert [word.split("=")[0] for word in overrides] == [
        "scratch", "optimizer.history_dtype", "optimizer.history_size", "size",
    ]  # fmt: skip
    assert not (tmp_path / "refused").exists(), "nothing is written before the plan is made"
    for number, override in enumerate(overrides):
        begun = inside(*run, override, f"memory={memory}", "evaluations=2", f"hydra.run.dir=fits{number}")
        assert begun.returncode == 0, begun.stderr
    less = round(taken["total"] - 0.7 * taken["optimizer"], 2)
    going_on = inside("resume=fits1", "evaluations=400", f"memory={less}")
    assert going_on.returncode == 2
    assert re.search(r"choices that fit: (tile=auto \([\d.]+ GB\), )?scratch=\. \(", going_on.stderr)
    assert "size=" not in going_on.stderr, "a run that goes on keeps its size and its history"


def test_a_scale_that_was_asked_for_is_no_smaller_than_what_would_fit(inside: Command, small: list[str]) -> None:
    scales = ["schedule=pyramid", "schedule.sizes=[900]", "evaluations=4"]
    run = [*small, "size=1024", "precision=32", "tile=off", "optimizer=adam", *scales]
    [size] = suggested(refusal(inside, run, memory=parts(refusal(inside, run, memory=0.01))["total"] - 0.05))[-1:]
    assert 900 < int(size.removeprefix("size=")) < 1024


def test_tiles_are_chosen_for_the_memory_that_is_allowed(fresh: Command, small: list[str], tmp_path: Path) -> None:
    # In a forked process, pages of libraries count only when it uses them, which is mostly after the forecast.
    run = [*small, "size=1024", "optimizer=adam", "evaluations=2", "schedule=single", "precision=32"]
    whole = parts(refusal(fresh, [*run, "tile=off"], memory=0.01))["total"]
    finished = fresh(*run, f"memory={whole - 0.1}", "hydra.run.dir=run")
    assert finished.returncode == 0, finished.stderr
    notice = r"computed in tiles of \d+ px\. .* Without tiles \(tile=off\), the picture would need about ([\d.]+) GB"
    told = re.search(notice, finished.stderr)
    assert told is not None
    assert float(told[1]) == pytest.approx(whole, abs=0.03), "but for what the process has had at the time"
    assert summary(tmp_path / "run")["peak_memory_bytes"] < 1e9 * (whole - 0.1)


@pytest.mark.skipif(not os.access(GROUPS, os.W_OK), reason="this system gives users no control groups")
def test_the_limit_of_a_control_group_is_found(small: list[str], tmp_path: Path) -> None:
    group = GROUPS / f"nst-{os.getpid()}"
    group.mkdir()
    try:
        (group / "memory.limit_in_bytes").write_text("1500000000")
        command = ["sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh", sys.executable, "-m", "nst.train"]
        run = [*small, "size=2048", "tile=off", "precision=32"]
        finished = subprocess.run([*command, *run], cwd=tmp_path, capture_output=True, text=True, check=False)
    finally:
        group.rmdir()
    assert finished.returncode == 2, finished.stderr
    room = re.search(r"error: memory=auto: .* but only (\d\.\d+) GB are free; choices that fit: ", finished.stderr)
    assert room is not None
    # Files that the program has mapped are no memory of the group's.
    assert 1.2 < float(room[1]) < 1.5 + parts(finished.stderr)["program"]


def test_a_picture_larger_than_the_memory_is_refused_before_it_is_made(
    small: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """10000 x 8000 px take 0.96 GB in 32 bits, for each of content and style."""
    monkeypatch.setattr(memory, "room", lambda device, limit, processes: 1_900_000_000)
    with pytest.raises(
        UserError,
        match=r"size=10000: the picture would be 10000 x 8000 px; .* need 1\.92 GB, but only 1\.90",
    ):
        single.planned([*small, "size=10000"])
