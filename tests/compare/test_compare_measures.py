"""Measures, seeds and choices of runs in a comparison."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from nst.compare.__main__ import main
from nst.compare.comparison import compare
from nst.compare.keys import Condition, conditions_in
from nst.compare.results import Spread, standing
from nst.compare.runs import find
from nst.compare.sheet import layout, tiles
from tests.helpers.run_folders import WEIGHTS, make_run

PIXELS, OXFORD, SLIM = "512px-v1", "oxford_vgg19-512px-v1", "slim-512px-v1"


def measured(folder: Path, number: int, *observers: str, **more: Any) -> Path:
    values = {"cfsd": 0.1 * number, "gram": 1 / number, "frechet": 1.5 * number, "gram/relu1_1": 9.0}
    metrics = dict.fromkeys(observers, values)
    changes = {"objective.relative": number % 2 == 0, "weights.style": 10.0**number}
    return make_run(folder / str(number), changes=changes, metrics={**metrics, PIXELS: {"ssim": 0.5 / number}}, **more)


def test_measures_are_results_and_come_first_where_totals_do_not_compare(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2, 3):
        measured(tmp_path, number, OXFORD)
    monkeypatch.setenv("COLUMNS", "100")
    assert main([str(tmp_path)]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split() == ["run", "weights.style", "objective.relative", "frechet", "ssim", "cfsd", "total"]
    assert lines[1].split()[-4:] == ["3", "0.25", "0.2", "0.5"]
    assert "lower is better: frechet, cfsd; higher is better: ssim" in lines
    comparison = compare(find([tmp_path], side=64)[0])
    grid = layout.chosen(comparison, "run", "weights.style")
    [[_, *_], [_, tile, *_], *_] = tiles.arranged(comparison, grid)
    assert tile is not None
    assert [text for text, _ in tile.lines] == ["frechet 1.5", "ssim 0.5"], "totals that don't compare are no caption"
    assert (
        main([str(tmp_path), "--metrics", "ssim,seconds", "--sort", "-cfsd", "--where", "gram<0.7 and ssim>0.1"]) == 0
    )
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split()[-2:] == ["ssim", "seconds"]
    assert [line.split()[0] for line in lines[:2]] == ["3", "2"]
    with (tmp_path / "compare" / "runs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["cfsd"] for row in rows] == ["0.30000000000000004", "0.2"]
    assert main([str(tmp_path), "--metrics", "beauty"]) == 2
    assert "--metrics=beauty: there is no such key; choices: total" in capsys.readouterr().err


def test_measures_of_two_observers_are_never_one_column(tmp_path: Path) -> None:
    measured(tmp_path, 1, OXFORD)
    measured(tmp_path, 2, SLIM)
    measured(tmp_path, 3, SLIM, OXFORD)
    (tmp_path / "4").mkdir()
    make_run(tmp_path / "4" / "run", metrics={OXFORD: {"cfsd": None, "gram": 1.0}})
    (tmp_path / "4" / "run" / "metrics.json").write_text(
        (tmp_path / "4" / "run" / "metrics.json").read_text().replace("1.0", "NaN")
    )
    comparison = compare(find([tmp_path], side=64)[0])
    assert [key for key in comparison.titles if "cfsd" in key] == ["oxford_vgg19/cfsd", "slim/cfsd"]
    assert "by slim-512px-v1; lower is better" in comparison.titles["slim/cfsd"]
    assert "without a network (512px-v1); higher is better" in comparison.titles["ssim"]
    held = {entry.run.name: entry.results for entry in comparison.entries}
    assert held["1"]["slim/cfsd"] is None
    assert held["2"]["slim/cfsd"] == pytest.approx(0.2)
    assert held["4/run"]["oxford_vgg19/cfsd"] is None
    assert held["4/run"]["oxford_vgg19/gram"] is None


def test_a_picture_that_its_own_network_has_measured_is_marked(tmp_path: Path) -> None:
    """Not if the network only painted by layers that don't count, and not for another's measure."""
    for name, layers, observer in (("own", ["relu1_1"], OXFORD), ("far", ["relu1_2"], OXFORD), ("held", [], SLIM)):
        changes = {"layers.style": layers} if layers else {}
        weights = {"weights": {**WEIGHTS, "sha256": OXFORD.encode().hex()}}
        make_run(tmp_path / name, changes=changes, assets=weights, metrics={observer: {"cfsd": 0.1}})
    comparison = compare(find([tmp_path], side=64)[0])
    marks = {entry.run.name: [mark.short for mark in entry.marks] for entry in comparison.entries}
    assert marks == {"own": ["measured by own network"], "far": [], "held": []}
    [notice] = [line for line in comparison.notices if line.startswith("1 of 3 runs: measured by the network")]
    assert notice.endswith("--observer slim")
    for run in find([tmp_path], side=64)[0]:
        own = run.metrics.get(OXFORD, {"sha256": None, "values": {}})
        run.folder.write_metrics({OXFORD: own, SLIM: {"sha256": None, "values": {"cfsd": 0.2}}})
    notices = compare(find([tmp_path], side=64)[0]).notices
    assert any(line.endswith("slim-512px-v1, which has measured them, too, is another opinion") for line in notices)


def test_seeds_are_one_row_with_mean_and_range(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    totals = [0.5, 0.25, 0.75, 1.0, 0.5]
    for seed, total in enumerate(totals):
        make_run(tmp_path / f"a{seed}", changes={"seed": seed}, total=total)
        make_run(tmp_path / f"b{seed}", changes={"seed": seed, "size": 128}, total=total + 0.1)
        make_run(tmp_path / f"c{seed}", changes={"seed": seed, "size": 256}, total=total + 9)
    make_run(tmp_path / "d", changes={"seed": 5}, total=0.1, status="interrupted")
    monkeypatch.setenv("COLUMNS", "100")
    assert main([str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:4] == ["5", "seeds", "64", "0"]
    assert "0.6 (0.25 to 1)" in lines[1]
    assert "0.7 (0.35 to 1.1)" in lines[3]
    assert lines[2].split()[0] == "d"
    told = json.loads((tmp_path / "compare" / "runs.json").read_text())
    assert len(told["runs"]) == 16
    assert told["seeds"][0]["runs"] == ["a0", "a1", "a2", "a3", "a4"]
    assert told["seeds"][0]["results"]["total"] == {"mean": pytest.approx(0.6), "lowest": 0.25, "highest": 1.0}
    page = (tmp_path / "compare" / "index.html").read_text()
    assert "<b>0.6 (0.25 to 1)</b>" in page
    assert "≈ 0.7 (0.35 to 1.1)" in page
    assert '<td class="number">9.6 (9.25 to 10)</td>' in page


def test_a_run_made_twice_is_no_seed(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        make_run(tmp_path / folder)
    comparison = compare(find([tmp_path], side=64)[0])
    assert [len(row.entries) for row in comparison.rows] == [1, 1]


def test_a_difference_counts_if_it_is_larger_than_the_spread() -> None:
    one, other = Spread.of([1.0, 2.0, 3.0]), Spread.of([3.5, 4.5, 4.0])
    assert (one.mean, one.lowest, one.highest) == (2, 1, 3)
    assert not one.differs_from(other)
    assert Spread.of([1.0, 2.5]).differs_from(other)
    assert standing([one, None, other], higher_is_better=True) == ["same", None, "best"]
    assert standing([Spread.of([9.0]), other], higher_is_better=False) == ["worse", "best"]


def test_the_latest_runs_of_several_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(4):
        made = {"started": f"2026-11-2{number}T10:00:00"}
        make_run(tmp_path / f"sweep{number % 2}" / str(number), changes={"size": 32 + number}, made=made)
    folders = [str(tmp_path / "sweep0"), str(tmp_path / "sweep1")]
    assert main([*folders, "--latest", "2", "--where", "size<35"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:3]] == ["sweep1/1", "sweep0/2"]
    assert main([*folders, "--latest", "0"]) == 2
    assert "error: --latest=0: must be above 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a=1 and b<2", ["a=1", "b<2"]),
        ("style=war and peace and size >= 384", ["style=war and peace", "size >= 384"]),
        ("optimizer=adam", ["optimizer=adam"]),
    ],
)
def test_conditions_are_joined_by_and(text: str, words: list[str]) -> None:
    assert conditions_in(text) == words
    assert Condition.parse("--where", 'style="a \\"b\\" and c=1"').wanted == 'a "b" and c=1'
    parsed = Condition.parse("--where", "size >= 384")
    assert (parsed.key, parsed.sign, parsed.wanted) == ("size", ">=", "384")
