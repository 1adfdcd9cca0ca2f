"""Presets: what each related task looks at, and what it doesn't."""

import csv
from pathlib import Path

import pytest
from PIL import Image

from nst.files import paths
from tests.conftest import Command, paint

PRESETS = sorted(
    path.stem
    for path in (paths.configs() / "experiment").glob("*.yaml")
    if "sweeper" not in path.read_text(encoding="utf-8")
)


def rows(folder: Path) -> list[dict[str, float]]:
    with (folder / "losses.csv").open(encoding="utf-8", newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_runs(inside: Command, small: list[str], tmp_path: Path, preset: str) -> None:
    paint(5, 32, 40).save(tmp_path / "start.png")
    words = ["init.path=start.png"] if preset == "continued" else []
    finished = inside(f"experiment={preset}", *small, *words, "size=64", "hydra.run.dir=run")
    assert finished.returncode == 0, finished.stderr
    assert (tmp_path / "run" / "result.png").is_file()


@pytest.mark.parametrize("schedule", ["pyramid_upsample", "single"])
@pytest.mark.parametrize(
    ("preset", "unseen", "silent"),
    [("texture_synthesis", "content", "content"), ("feature_inversion", "style", "style")],
)
def test_what_a_task_does_not_look_at_changes_nothing(
    inside: Command, small: list[str], tmp_path: Path, preset: str, unseen: str, silent: str, schedule: str
) -> None:
    paint(9, 32, 40).save(tmp_path / "other.png")
    words = [*small, f"experiment={preset}", "size=64", f"schedule={schedule}"]
    assert inside(*words, "hydra.run.dir=one").returncode == 0
    assert inside(*words, f"{unseen}.path=other.png", "hydra.run.dir=two").returncode == 0
    one, two = tmp_path / "one", tmp_path / "two"
    assert Image.open(one / "result.png").tobytes() == Image.open(two / "result.png").tobytes()
    assert all(row[silent] == 0 for row in rows(one))
    assert rows(one)[-1]["total"] < rows(one)[-2]["total"] * 1.5


def test_two_sizes(inside: Command, small: list[str], tmp_path: Path) -> None:
    assert inside(*small, "experiment=two_sizes", "size=64", "hydra.run.dir=run").returncode == 0
    assert [row["size"] for row in rows(tmp_path / "run")] == [32, 32, 32, 64, 64, 64]


def test_painting_on_begins_with_the_picture(inside: Command, small: list[str], tmp_path: Path) -> None:
    assert inside(*small, "schedule=single", "hydra.run.dir=one").returncode == 0
    words = ["experiment=continued", "init.path=one/result.png", "precision=64", "hydra.run.dir=two"]
    assert inside(*small, *words).returncode == 0
    best = min(row["total"] for row in rows(tmp_path / "one"))
    assert rows(tmp_path / "two")[0]["total"] == pytest.approx(best, rel=0.1)  # but for the rounding to 8 bits
