"""Sweeps go on where they were stopped, know their runs by what they compute, and say what became of each."""

import json
import subprocess
import time
from pathlib import Path

import pytest
import torch
import yaml

from nst.config.identity import identity, incomparable
from nst.errors import typed
from nst.metrics.names import full_name
from nst.run.build import Kept
from nst.sweep.folder import Outcome, Sweep
from tests.conftest import NOWHERE, Command, server
from tests.helpers.run_folders import make_run


def summaries(sweep: Path) -> dict[str, dict[str, object]]:
    return {path.parent.name: json.loads(path.read_text()) for path in sorted(sweep.glob("*/summary.json"))}


def files(folder: Path) -> dict[Path, tuple[bytes, int]]:
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def kill(folder: Path, *arguments: str, run: int) -> Path:
    """Begins a sweep and kills its process without a warning in its so-many-th run, after a checkpoint."""
    words = ["-m", *arguments, "hydra.sweep.dir=sweep"]
    process = server.start(words, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    sweep, deadline = folder / "sweep", time.monotonic() + 120
    while time.monotonic() < deadline:
        states = [summary["status"] for summary in summaries(sweep).values()]
        running = [sweep / name for name, summary in summaries(sweep).items() if summary["status"] == "running"]
        if len(states) == run and any(list(folder.glob("checkpoints/[0-9]*.ckpt")) for folder in running):
            break
        time.sleep(0.01)
    process.kill()
    process.wait()
    return sweep


@pytest.mark.parametrize(
    ("key", "losses"),
    [
        ("seed", []), ("optimizer.lr", []), ("style", []), ("content", []), ("missing", []),
        ("style.path", []), ("content.path", []),
        ("style.more.b", ["total", "style"]), ("style/more", ["total", "style"]),
        ("weights.style", ["total"]), ("style.use.scale", ["total", "style"]),
        ("pooling", ["total", "content", "style", "tv"]), ("objective/style", ["total", "content", "style", "tv"]),
    ],
)  # fmt: skip
def test_a_key_tells_which_losses_do_not_compare(key: str, losses: list[str]) -> None:
    assert list(incomparable(key)) == losses


FOUR = ["evaluations=120", "callbacks.checkpoint.every_evaluations=20", "optimizer=lbfgs,adam", "seed=1,2"]


@pytest.fixture
def killed(small: list[str], tmp_path: Path) -> Path:
    """A sweep of four runs whose process was killed in its third."""
    return kill(tmp_path, *small, *FOUR, run=3)


def test_a_killed_sweep_goes_on(inside: Command, small: list[str], killed: Path, tmp_path: Path) -> None:
    finished = [killed / name for name, summary in summaries(killed).items() if summary["status"] == "completed"]
    [begun] = [killed / name for name, summary in summaries(killed).items() if summary["status"] == "running"]
    assert len(finished) == 2
    before = [files(folder) for folder in finished]
    first = max(begun.glob("checkpoints/[0-9]*.ckpt"))
    again = inside("-m", *small, *FOUR, "hydra.sweep.dir=sweep")
    assert again.returncode == 0, again.stderr
    assert [files(folder) for folder in finished] == before, "a finished run was touched"
    states = sorted(outcome.state for outcome in Sweep(killed).outcomes())
    assert states == ["continued", "kept", "kept", "ran"]
    assert "4 of 4 runs are complete" in again.stdout
    refused = inside("resume=sweep")
    assert refused.returncode == 2
    assert "this folder has 4 runs, each in a folder of its own; resume one of them" in refused.stderr
    log = (begun / "train.log").read_text()
    assert f"Resuming after {int(first.stem)} evaluations" in log
    whole = inside("-m", *small, *FOUR, "hydra.sweep.dir=whole")
    assert whole.returncode == 0, whole.stderr
    assert summaries(tmp_path / "whole").keys() == summaries(killed).keys()
    for folder in (tmp_path / "whole").glob("*-*"):
        for name in ("result.png", "losses.csv", "config.yaml"):
            assert (folder / name).read_bytes() == (killed / folder.name / name).read_bytes()


def test_new_points_are_added_and_failed_ones_tried_again(inside: Command, small: list[str], tmp_path: Path) -> None:
    first = inside("-m", *small, "weights.style=1e5,-1", "hydra.sweep.dir=sweep")
    assert first.returncode == 1
    assert "Traceback" not in first.stderr
    assert "weights.style=-1: must be greater than or equal to 0" in first.stdout
    assert "1 of 2 runs are complete" in first.stdout
    again = inside("-m", *small, "weights.style=-1,1e6,100000", "hydra.sweep.dir=sweep")
    assert again.returncode == 1
    assert [outcome.state for outcome in Sweep(tmp_path / "sweep").outcomes()] == ["failed", "ran", "kept"]
    assert sorted(summary["status"] for summary in summaries(tmp_path / "sweep").values()) == [
        "completed", "completed", "failed",
    ]  # fmt: skip


def test_a_sweep_says_which_run_begins_and_a_shared_note_once(
    inside: Command, small: list[str], tmp_path: Path
) -> None:
    lacking = [f"content.{key}" for key in ("path=null", f"url={NOWHERE}/content.jpg")]
    words = ["-m", *small, *lacking, "evaluations=1", "weights.style=1e5,2.5e6,-1.0"]
    finished = inside(*words, "weights.tv=3.0,-2.0", "hydra.sweep.dir=sweep")
    begun = [line for line in finished.stderr.splitlines() if line.startswith("INFO: Run ")]
    assert [begun[0], begun[-1]] == [
        "INFO: Run 1 of 6: weights.style=1e5 weights.tv=3",
        "INFO: Run 6 of 6: weights.style=-1 weights.tv=-2",
    ]
    assert finished.stderr.count("STAND-IN PICTURE: content") == 1
    logs = [path.read_text() for path in tmp_path.glob("sweep/*/train.log")]
    assert [text.count("STAND-IN PICTURE: content") for text in logs] == [1, 1]
    table = finished.stdout.splitlines()
    assert not [line for line in table if "HYDRA" in line or "100000" in line]
    mistakes = [line.index("weights") for line in table if "must be" in line]
    assert len(mistakes) == 5
    assert len(set(mistakes)) == 1, "not all lines are indented alike"


@pytest.mark.parametrize(
    ("word", "short"),
    [
        ("weights.style=100000.0", "weights.style=1e5"),
        ("weights.tv=-2.0", "weights.tv=-2"),
        ("weights.tv=123456.789", "weights.tv=123456.789"),  # no digit is lost
        ("seed=100000", "seed=100000"),
        ("name=1e5x", "name=1e5x"),
        ("-m", "-m"),
        ("optimizer.eps=nan", "optimizer.eps=nan"),
    ],
)
def test_numbers_are_shown_as_they_are_typed(word: str, short: str) -> None:
    assert typed(word) == short


def test_a_missing_file_fails_its_run_alone(inside: Command, small: list[str], tmp_path: Path) -> None:
    content = small[0].removeprefix("content.path=")
    paths = f"init.path={tmp_path / 'missing.png'},{content}"
    finished = inside("-m", *small, "init=image", paths, "hydra.sweep.dir=sweep")
    assert finished.returncode == 1
    assert [outcome.state for outcome in Sweep(tmp_path / "sweep").outcomes()] == ["failed", "ran"]
    assert "missing.png: there is no such file" in finished.stdout
    assert "Traceback" not in finished.stderr


def test_an_unexpected_failure_leaves_its_traceback(inside: Command, small: list[str], tmp_path: Path) -> None:
    broken = "+callbacks.broken={_target_: fractions.Fraction}"  # no callback, which Lightning finds out in the fit
    finished = inside("-m", *small, broken, "seed=1,2", "hydra.sweep.dir=sweep")
    assert finished.returncode == 1
    assert [outcome.state for outcome in Sweep(tmp_path / "sweep").outcomes()] == ["failed", "failed"]
    assert "Traceback" in finished.stderr


def test_a_run_that_diverges_fails_alone(inside: Command, small: list[str], tmp_path: Path) -> None:
    finished = inside("-m", *small, "weights.style=1e38,1e5", "hydra.sweep.dir=sweep")
    assert finished.returncode == 1
    assert [outcome.state for outcome in Sweep(tmp_path / "sweep").outcomes()] == ["failed", "ran"]
    assert "at evaluation 1" in finished.stdout


def test_a_sweep_without_runs_is_an_error(inside: Command, small: list[str], tmp_path: Path) -> None:
    finished = inside("-m", *small, "style=glob(nothing*)", "hydra.sweep.dir=sweep")
    assert finished.returncode == 2
    assert "error: style=glob(nothing*): no value is given, so there is nothing to run" in finished.stderr
    assert not (tmp_path / "sweep").exists()


def test_a_glob_finds_the_options_of_ones_own(inside: Command, small: list[str], tmp_path: Path) -> None:
    for name, style in (("mine_weak", 1e4), ("mine_strong", 1e6)):
        file = tmp_path / "options" / "weights" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"defaults: [default]\nstyle: {style}\n")
    words = ["--config-dir", "options", "-m", *small, "weights=glob(mine_*)", "evaluations=1", "hydra.sweep.dir=sweep"]
    finished = inside(*words)
    assert finished.returncode == 0, finished.stderr
    saved = [yaml.safe_load(path.read_text()) for path in tmp_path.glob("sweep/*/config.yaml")]
    assert sorted(each["weights"]["style"] for each in saved) == [1e4, 1e6]


def test_layers_on_either_side_are_told_apart(inside: Command, small: list[str], tmp_path: Path) -> None:
    """Content [a] with style [b, c] and content [a, b] with style [c] read the same layers."""
    words = ["layers.content=[relu2_1],[relu2_1,relu1_1]", "layers.style=[relu1_1,relu3_1],[relu3_1]"]
    assert inside("-m", *small, *words, "hydra.sweep.dir=sweep").returncode == 0
    for path in tmp_path.glob("sweep/*/config.yaml"):
        layers = yaml.safe_load(path.read_text())["layers"]
        header = path.with_name("losses.csv").read_text().partition("\n")[0].split(",")
        parts = {f"share/{part}/{name}" for part, names in layers.items() for name in names}
        assert {column for column in header if column.startswith("share/")} == parts


CONFIG = {"size": 64, "weights": {"style": 1e5}, "name": None, "threads": 1, "init": {"_target_": "nst.init.noise"}}
FILES = {"content": "aa", "style": "bb", "weights": None, "architecture": "slim"}


def test_a_run_is_known_by_what_it_computes() -> None:
    known = identity(CONFIG, FILES)
    assert identity({**CONFIG, "weights": {"style": 100000}}, FILES) == known
    assert identity({**CONFIG, "threads": 2, "name": "another"}, FILES) == known
    assert identity({**CONFIG, "size": 65}, FILES) != known
    assert identity(CONFIG, {**FILES, "style": "cc"}) != known


def test_a_start_picture_is_known_by_its_pixels_not_its_path(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.png", "b.png", "c.png")]
    for path, data in zip(paths, (b"same", b"same", b"other"), strict=True):
        path.write_bytes(data)
    known = [identity({**CONFIG, "init": {"path": str(path), "max_pixels": n}}, FILES) for n, path in enumerate(paths)]
    assert known[0] == known[1] != known[2]


def test_numbers_are_told_as_they_are_typed(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path)
    words = ["weights.style=100000.0", "seed=100000", "optimizer.lr=0.02", "content.path='1e5.png'"]
    for number, word in enumerate(words):
        sweep.record(Outcome(number, [word], "ran"))
    told = list(sweep.table(sweep.outcomes()).columns[1].cells)
    assert told == ["weights.style=1e5", "seed=100000", "optimizer.lr=0.02", "content.path='1e5.png'"]


def test_a_run_that_differs_from_no_other_has_all_its_overrides(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path)
    sweep.record(Outcome(0, ["style=scream", "size=64"], "ran"))
    assert list(sweep.table(sweep.outcomes()).columns[1].cells) == ["style=scream size=64"]


@pytest.mark.parametrize(
    ("varied", "losses"),
    [
        ("style", ["total", "content", "style"]),
        ("weights.style", ["content", "style"]),
        ("objective", []),
        ("layers.content", []),
    ],
)
def test_only_results_that_compare_are_told(tmp_path: Path, varied: str, losses: list[str]) -> None:
    measured = {"slim": {"frechet": 2.0, "gram": 3.0}, "oxford_vgg19": {"frechet": 1.0, "cfsd": 4.0}}
    run = make_run(tmp_path / "run", metrics={full_name(kind): values for kind, values in measured.items()})
    sweep = Sweep(tmp_path)
    sweep.begin([varied], 1)
    sweep.record(Outcome(0, [f"{varied}=1"], "ran", folder=str(run)))
    table = sweep.table(sweep.outcomes())
    assert [column.header for column in table.columns][3:] == [*losses, "frechet", "cfsd"]  # the first observer's
    assert list(table.columns[-2].cells) == ["1"]


def test_a_job_that_died_is_told(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path)
    sweep.record(Outcome(0, ["a=1", "b=[1]"], "running"))
    sweep.record(Outcome(1, ["a=2", "b=[1]"], "failed", None, "[no] markup"))
    [state, *_] = sweep.table(sweep.outcomes()).columns[2].cells
    assert state == "ended without a result"
    assert list(sweep.table(sweep.outcomes()).columns[1].cells) == ["a=1", "a=2", "  \\[no] markup"]
    sweep.begin(["a"], 2)
    assert sweep.place(0) == "1 of 2"
    assert (sweep.outcomes(), sweep.varied()) == ([], ["a"])


def test_runs_of_one_process_share_what_they_can_and_nothing_else(
    inside: Command, small: list[str], tmp_path: Path
) -> None:
    sweep = inside("-m", *small, "weights.style=1e4,1e5", "layers.content=[relu3_1],[relu4_2]", "hydra.sweep.dir=sweep")
    assert sweep.returncode == 0, sweep.stderr
    alone = inside(*small, "weights.style=1e5", "layers.content=[relu4_2]", "hydra.run.dir=alone")
    assert alone.returncode == 0, alone.stderr
    last = Path(str(Sweep(tmp_path / "sweep").outcomes()[-1].folder))
    for name in ("result.png", "losses.csv"):
        assert (last / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()


def test_things_of_equal_keys_are_made_once() -> None:
    made = []

    def make() -> dict[str, torch.Tensor]:
        made.append(1)
        return {}

    few: Kept[dict[str, torch.Tensor]] = Kept(2)
    assert len({id(few(key, make)) for key in (1, 1, 2, 1)}) == len(made) == 2
    few(3, make)
    few(1, make)
    assert len(made) == 3, "the one that was asked for least lately makes room"
    few(2, make)
    assert len(made) == 4
