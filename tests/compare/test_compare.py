"""Runs set side by side from their folders: what varies, what is marked, what is drawn, and what can't break it."""

import csv
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from nst.compare.__main__ import main
from nst.compare.comparison import Comparison, compare
from nst.compare.page import _axes, embedded, jpeg, thinned
from nst.compare.runs import common, find
from nst.compare.sheet import layout, tiles
from nst.compare.sheet.drawing import FONTS, Sheet
from nst.compare.values import order, shown, without_identity
from nst.files.atomic import sha256
from tests.conftest import Command
from tests.helpers.run_folders import VERSIONS, input_of, make_run, noisy

RED, GREEN, BLUE, GOLD = (200, 30, 30), (30, 160, 60), (40, 70, 200), (220, 180, 40)

#: The measures of a run.
MEASURED = {"512px-v1": {"ssim": 0.5}}


def compared(*folders: Path, sort: str | None = None) -> Comparison:
    runs, unread = find(folders, side=320)
    return compare(runs, unread, sort=sort)


@pytest.fixture
def four(tmp_path: Path) -> Path:
    """Two styles by two contents, each of its own colour."""
    names = [("picasso", "ballerina", RED), ("picasso", "tubingen", GREEN), ("scream", "ballerina", BLUE)]
    for number, (style, content, colour) in enumerate([*names, ("scream", "tubingen", GOLD)]):
        folder = tmp_path / "sweep" / f"{content}-{style}-{number:010x}"
        make_run(folder, content=content, style=style, colour=colour, total=0.4 - 0.1 * number)
    (tmp_path / "sweep" / ".jobs" / "0").mkdir(parents=True)
    (tmp_path / "sweep" / ".jobs" / "0" / "config.yaml").write_text("size: 1\n")
    return tmp_path / "sweep"


def test_every_run_is_found_once(four: Path) -> None:
    (four / "again").symlink_to(four, target_is_directory=True)
    assert len(compared(four).entries) == 4
    assert len(compared(four, four / ".", *four.glob("*-picasso-*")).entries) == 4
    [single] = compared(next(four.glob("*-tubingen-*"), four / "tubingen-scream-0000000003")).entries
    assert single.run.name == "tubingen-scream-0000000003"


def test_what_varies_is_told_from_what_follows_from_it(tmp_path: Path) -> None:
    adam = {"optimizer._target_": "torch.optim.Adam", "optimizer.eps": 1e-8}
    make_run(tmp_path / "1", changes={"weights.style": 1e5, "threads": 1, "name": "a", "logger.name": "x"})
    make_run(tmp_path / "2", changes={**adam, "optimizer.lr": 0.01}, choices={"optimizer": "adam"})
    make_run(tmp_path / "3", changes={**adam, "optimizer.lr": 0.1}, choices={"optimizer": "adam"})
    comparison = compared(tmp_path)
    assert comparison.varied == ["optimizer", "weights.style", "optimizer.lr"]
    assert {"optimizer._target_", "optimizer.eps"} <= set(comparison.differing)
    assert comparison.shared["size"] == 64
    assert not {"threads", "name", "logger.name"} & {*comparison.differing, *comparison.shared}


def test_inputs_of_one_name_are_told_apart_by_their_files(tmp_path: Path) -> None:
    make_run(tmp_path / "1")
    make_run(tmp_path / "2", assets={"style": {**input_of("other", "stand-in")}})
    comparison = compared(tmp_path)
    assert comparison.varied == ["style"]
    assert {entry.text("style") for entry in comparison.entries} == {"picasso (706963)", "picasso (6f7468)"}


def test_runs_are_sorted_with_unknown_values_last(four: Path) -> None:
    make_run(four / "begun")
    (four / "begun" / "summary.json").write_text('{"status": "running"}')
    (four / "begun" / "losses.csv").unlink()
    totals = [entry.results["total"] for entry in compared(four, sort="total").entries]
    assert totals == [*sorted(total for total in totals if total is not None), None]
    downwards = [entry.results["total"] for entry in compared(four, sort="-total").entries]
    assert downwards == [*reversed(totals[:-1]), None]
    by_style = [entry.text("style") for entry in compared(four, sort="style").entries]
    assert by_style == sorted(by_style)


def test_stand_ins_and_other_weights_are_marked(tmp_path: Path) -> None:
    slim = {"path": "/slim", "source": "stand-in", "sha256": "d60f7e" + "0" * 58}
    random = {"path": None, "source": "random", "sha256": None, "detail": "seeded random filters, seed 0"}
    make_run(tmp_path / "1")
    make_run(tmp_path / "2")
    make_run(tmp_path / "3", assets={"weights": slim, "content": input_of("tubingen", "stand-in")})
    make_run(tmp_path / "4", assets={"weights": random})
    comparison = compared(tmp_path)
    marks = {entry.run.name: [mark.short for mark in entry.marks] for entry in comparison.entries}
    assert marks == {
        "1": [],
        "2": [],
        "3": ["stand-in content", "stand-in weights", "other weights"],
        "4": ["random weights", "other weights"],
    }
    told = "3 different sets of weights, whose losses can't be compared: dcbb9e (2), "
    assert any(notice.startswith(told) for notice in comparison.notices)
    assert comparison.varied == ["encoder"]


def test_the_command_that_measures_is_told(tmp_path: Path) -> None:
    for number in range(3):
        make_run(tmp_path / "a b" / str(number))
    make_run(tmp_path / "3", metrics=MEASURED)
    folders = " ".join(f"'{tmp_path}/a b/{number}'" for number in range(3))
    told = "3 of 4 runs: no measures; to add them: python -m nst.metrics"
    assert compared(tmp_path).notices == [f"{told} {folders}"]
    make_run(tmp_path / "a b" / "4")
    assert compared(tmp_path).notices == [f"{told} '{tmp_path}/a b'".replace("3 of 4", "4 of 5")]


def test_other_pictures_have_losses_of_their_own(tmp_path: Path) -> None:
    make_run(tmp_path / "1", changes={"optimizer.lr": 1.0})
    make_run(tmp_path / "2", changes={"optimizer.lr": 0.5})
    assert not any("same pictures" in notice for notice in compared(tmp_path).notices)
    make_run(tmp_path / "3", style="scream")
    [notice] = [notice for notice in compared(tmp_path).notices if "same pictures" in notice]
    assert notice.startswith("the runs differ in style:")
    assert compared(tmp_path).totals_compare  # within a style


def test_where_and_with_what_runs_were_made_is_told_where_it_differs(tmp_path: Path) -> None:
    make_run(tmp_path / "1", metrics=MEASURED)
    make_run(tmp_path / "2", metrics=MEASURED)
    assert compared(tmp_path).notices == []
    other = {"threads": 16, "processor": "Apple M4 (DEFAULT)", "versions": {**VERSIONS, "torch": "2.16.0"}}
    make_run(tmp_path / "3", made={**other, "git_commit": "fedcba9876543210-dirty"}, metrics=MEASURED)
    [notice] = compared(tmp_path).notices
    assert notice == (
        "the hardware or the software differs, so equal runs may differ in the last bits: "
        "processor AMD EPYC (AVX512) (2), Apple M4 (DEFAULT) (1); threads 2 (2), 16 (1); "
        "git commit 0123456789abcdef (2), fedcba9876543210-dirty (1); "
        "torch 2.15.0 (2), 2.16.0 (1)"
    )


@pytest.fixture
def damaged(four: Path) -> Path:
    """Runs in every state that a crash, a full disk or a copy on its way can leave."""
    for name in ("half", "no_config", "no_summary", "list", "words", "picture", "binary"):
        make_run(four / name)
    (four / "half" / "summary.json").write_text('{"status": "comp')
    (four / "half" / "config.yaml").write_text("size: [1,\n")
    (four / "half" / "losses.csv").write_text(
        "evaluation,total,content,style\n1,0.9,0.5,1e-7\n2,0.8,oops,1\n3,0.85,0.5,1e-7\n4,0.7,0."
    )
    (four / "no_config" / "config.yaml").unlink()
    (four / "no_summary" / "summary.json").unlink()
    (four / "list" / "summary.json").write_text("[]")
    (four / "words" / "summary.json").write_text(
        '{"status": 3, "losses": "low", "assets": [], "choices": 1, "evaluations": "x", "seconds": NaN, "versions": 2}'
    )
    (four / "words" / "config.yaml").write_text("content: tubingen\nweights: null\nlayers: {style: null, 3: [a]}\n")
    (four / "picture" / "result.png").write_bytes((four / "picture" / "result.png").read_bytes()[:60])
    (four / "binary" / "losses.csv").write_bytes(b"\xff\x00\x80")
    (four / "invalid-0123456789").mkdir()
    (four / "invalid-0123456789" / "summary.json").write_text('{"status": "failed", "error": "weights.style=-1: no"}')
    return four


def test_damaged_runs_are_told_and_the_rest_is_used(damaged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    comparison = compared(damaged)
    problems = {entry.run.name: entry.run.problems for entry in comparison.entries}
    assert [line.partition(":")[0] for line in problems["half"]] == [
        "summary.json can't be read", "config.yaml can't be read", "losses.csv",
    ]  # fmt: skip
    assert problems["half"][2] == "losses.csv: 2 of 4 lines are incomplete and were left out"
    assert problems["no_config"] == ["config.yaml is missing"]
    assert problems["no_summary"] == ["summary.json is missing"]
    assert problems["list"] == ["summary.json can't be read: it contains no keys"]
    assert problems["picture"][0].startswith("result.png can't be read")
    assert problems["binary"][0].startswith("losses.csv can't be read")
    assert problems["invalid-0123456789"] == []
    states = {entry.run.name: entry.run.status for entry in comparison.entries}
    assert states["words"] == states["half"] == "unknown"
    [half] = [entry for entry in comparison.entries if entry.run.name == "half"]
    assert half.results["total"] == 0.85
    assert main([str(damaged)]) == 0
    assert "weights.style=-1: no" in (damaged / "compare" / "index.html").read_text()
    assert "Traceback" not in capsys.readouterr().err


def test_of_a_run_at_several_sizes_the_best_so_far_is_one_of_the_last_size(four: Path) -> None:
    folder = make_run(four / "growing", status="running")
    (folder / "summary.json").write_text('{"status": "running"}')
    lines = [
        "evaluation,total,content,style,size",
        "1,9,1,1,32",
        "2,1,1,1,32",
        "3,7,1,1,64",
        "4,5,1,1,64",
        "5,6,1,1,64",
    ]
    (folder / "losses.csv").write_text("".join(f"{line}\n" for line in lines))
    [results] = [entry.results for entry in compared(four).entries if entry.run.name == "growing"]
    assert (results["total"], results["best_evaluation"], results["evaluations_done"]) == (5, 4, 5)


def test_a_running_run_shows_its_newest_snapshot_and_a_silent_one_is_stale(four: Path) -> None:
    folder = make_run(four / "running", status="running")
    (folder / "result.png").unlink()
    (folder / "snapshots").mkdir()
    for number, colour in ((10, RED), (20, GOLD)):
        Image.new("RGB", (64, 48), colour).save(folder / "snapshots" / f"{number:06d}.png")
    [run] = [entry.run for entry in compared(four).entries if entry.run.name == "running"]
    assert (run.status, run.problems) == ("running", [])
    assert run.picture is not None
    assert run.picture.getpixel((5, 5)) == GOLD
    for path in folder.iterdir():
        os.utime(path, (0, 0))
    [mark] = [entry.marks[0] for entry in compared(four).entries if entry.run.name == "running"]
    assert (mark.short, "it has written nothing for over 10 minutes" in mark.text) == ("stale", True)


def sheet_of(folder: Path, *, rows: str | None = None, columns: str | None = None, cell: int = 64) -> Sheet:
    arranged, caption, _ = arranged_of(folder, rows=rows, columns=columns)
    return Sheet(arranged, caption, cell=cell)


def arranged_of(
    folder: Path, *, rows: str | None = None, columns: str | None = None
) -> tuple[tiles.Tiles, list[str], layout.Grid]:
    comparison = compared(folder)
    grid = layout.chosen(comparison, rows, columns)
    return tiles.arranged(comparison, grid), tiles.caption(comparison, grid), grid


def middle(sheet: Sheet, row: int, column: int) -> tuple[int, ...]:
    """The colour in the middle of a cell."""
    left, top, right, bottom = sheet.box(row, column)
    pixel = sheet.image.getpixel(((left + right) // 2, (top + bottom) // 2))
    assert isinstance(pixel, tuple)
    return pixel


def test_the_sheet_has_rows_by_style_and_columns_by_content(four: Path) -> None:
    grid = arranged_of(four)[2]
    assert (grid.row_keys, grid.column_keys) == (("style",), ("content",))
    sheet = sheet_of(four)
    assert [middle(sheet, row, column) for row in (1, 2) for column in (1, 2)] == [RED, GREEN, BLUE, GOLD]
    turned = sheet_of(four, rows="content", columns="style")
    assert [middle(turned, row, column) for row in (1, 2) for column in (1, 2)] == [RED, BLUE, GREEN, GOLD]


def test_the_plot_begins_with_results_that_compare(tmp_path: Path) -> None:
    for style in ("a", "b"):
        make_run(tmp_path / style, style=style, metrics={"slim-512px-v1": {"gram": 0.5, "cfsd": 0.1}})
    assert _axes(compared(tmp_path)) == {"x": "cfsd", "y": "gram"}
    for number in range(2):
        make_run(tmp_path / "alike" / str(number), changes={"optimizer.lr": number})
    assert _axes(compared(tmp_path / "alike")) == {"x": "content_loss", "y": "style_loss"}


def test_the_caption_of_the_sheet_has_what_most_runs_share(tmp_path: Path) -> None:
    for number, (style, seed) in enumerate((("a", 1), ("b", 1), ("c", 1), ("c", 2))):
        make_run(tmp_path / str(number), style=style, changes={"seed": seed})
    _, caption, grid = arranged_of(tmp_path, rows="style", columns="run")
    assert "unless a picture says otherwise: seed=1" in caption  # the style is in the rows
    assert grid.row_keys == ("style",)


def test_the_inputs_stand_along_the_edges_unless_they_are_gone_or_changed(tmp_path: Path) -> None:
    painting = tmp_path / "painting.png"
    Image.new("RGB", (60, 60), GREEN).save(painting)
    asset = {"path": str(painting), "source": "path", "sha256": sha256(painting)}
    make_run(tmp_path / "runs" / "1", style="a", assets={"style": asset})
    make_run(tmp_path / "runs" / "2", style="b", assets={"style": {**asset, "sha256": "0" * 64}})
    make_run(tmp_path / "runs" / "3", style="c")
    edge = arranged_of(tmp_path / "runs")[0][0]
    assert [tile.instead for tile in edge if tile] == ["", "painting.png has changed since the run", "c.jpg is missing"]
    assert middle(sheet_of(tmp_path / "runs"), 0, 0) == GREEN


def test_a_copied_picture_and_a_rerun_are_not_other_settings(tmp_path: Path) -> None:
    """A file has one name, that of most runs, and a run without names of options those of an equal run."""
    picture = tmp_path / "photo.png"
    Image.new("RGB", (30, 60), GREEN).save(picture)
    asset = {"path": str(picture), "source": "path", "sha256": sha256(picture)}
    changes = {"weights.style": 2e5, "weights.content": 1.0}
    for number, name in enumerate(("photo-78e804c0", "photo", "photo", "a")):
        folder = make_run(tmp_path / str(number), content=name, assets={"content": asset}, changes=changes)
        if number == 3:
            kept = json.loads((folder / "summary.json").read_text())
            (folder / "summary.json").write_text(json.dumps({**kept, "choices": {}}))
    found = compared(tmp_path)
    assert found.varied == []
    assert (found.shared["content"], found.shared["weights"]) == ("photo", "seed")


def test_a_style_of_ones_own_has_the_name_of_its_file(tmp_path: Path) -> None:
    """The same settings with the style of an option don't give the file the option's name."""
    alike = {"style.scale": 1.0, "style.weight": 1.0}
    make_run(tmp_path / "1", style="munch", changes=alike)
    make_run(tmp_path / "2", style="picasso", choices={"style": "picasso"}, changes=alike)
    found = compared(tmp_path)
    assert [entry.text("style") for entry in found.entries] == ["munch", "picasso"]
    assert found.losses == []
    assert "total" not in found.directions(["total"])
    assert any("differ in style: only losses of runs with the same pictures" in each for each in found.notices)


def test_a_line_of_the_sheet_is_as_high_as_its_own_pictures(tmp_path: Path) -> None:
    """The wide content that all runs share has no room for a tall style above it."""
    wide = tmp_path / "wide.png"
    Image.new("RGB", (60, 30), BLUE).save(wide)
    for name, colour in (("a", GREEN), ("b", RED)):
        tall = tmp_path / f"{name}.png"
        Image.new("RGB", (30, 60), colour).save(tall)
        style, content = ({"path": str(path), "source": "path", "sha256": sha256(path)} for path in (tall, wide))
        make_run(tmp_path / "runs" / name, style=name, assets={"style": style, "content": content}, colour=RED)
    sheet = sheet_of(tmp_path / "runs", rows="style", columns="seed")
    boxes = [sheet.box(row, 1) for row in range(len(sheet.heights))]
    assert [bottom - top for _, top, _, bottom in boxes] == [32, 0, 64, 64]


def test_inputs_that_all_runs_share_come_first(tmp_path: Path) -> None:
    painting = tmp_path / "painting.png"
    Image.new("RGB", (60, 60), GREEN).save(painting)
    asset = {"path": str(painting), "source": "path", "sha256": sha256(painting)}
    for number in range(4):
        changes = {"weights.style": 10.0**number, "size": 64 + number}
        make_run(tmp_path / "runs" / str(number), changes=changes, assets={"style": asset}, colour=RED)
    [[style, *runs]] = arranged_of(tmp_path / "runs", rows="", columns="run")[0]
    assert style is not None
    assert (style.lines, len(runs)) == ([("style: picasso", "plain")], 4)
    sheet = sheet_of(tmp_path / "runs", rows="weights.style", columns="size")
    assert [middle(sheet, 0, 1), middle(sheet, 2, 1)] == [GREEN, RED]


def test_a_cell_without_a_picture_says_why_and_marks_are_written(four: Path) -> None:
    folder = next(four.glob("tubingen-scream-*"))
    (folder / "result.png").unlink()
    summary = json.loads((folder / "summary.json").read_text())
    summary["assets"]["style"]["source"] = "stand-in"
    (folder / "summary.json").write_text(json.dumps({**summary, "status": "diverged"}))
    arranged, caption, _ = arranged_of(four)
    cell = arranged[2][2]
    assert cell is not None
    assert cell.instead == "diverged, no picture"
    assert [text for text, _ in cell.lines[1:]] == ["diverged", "stand-in style"]
    assert "1 of 4 runs: diverged; 1 of 4 runs: stand-in style" in caption
    sheet = sheet_of(four)
    left, _, right, bottom = sheet.box(2, 2)
    below = sheet.image.crop((left, bottom, right, bottom + sheet.texts[2]))
    colours = {colour for _, colour in below.getcolors(10_000) or []}
    assert any(red > blue + 100 for red, _, blue in colours), "no mark was drawn"


def test_names_in_other_scripts_differ_on_the_sheet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also without a font for them, where each of their characters would be the same box."""

    def drawn(style: str) -> bytes:
        folder = tmp_path / style
        if not folder.exists():
            make_run(folder / "one", style=style)
            make_run(folder / "other", style="picasso")
        assert main([str(folder)]) == 0
        return Image.open(folder / "compare" / "sheet.png").tobytes()

    for fonts in (FONTS, ()):
        monkeypatch.setattr("nst.compare.sheet.drawing.FONTS", fonts)
        for one, other in (("山水", "山火"), ("картина", "партина"), ("Öl", "Äl"), ("🌊", "🌋")):
            assert drawn(one) != drawn(other)


def test_a_folder_in_another_encoding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path / "a\udcff")
    assert main([str(tmp_path)]) == 2
    assert "this name isn't in your locale's encoding" in capsys.readouterr().err
    assert not (tmp_path / "compare").exists()


def test_more_keys_than_two_go_along_the_rows_and_nothing_is_hidden(tmp_path: Path) -> None:
    for number, (style, content, seed) in enumerate((s, c, n) for s in "ab" for c in "xyz" for n in (1, 2)):
        make_run(tmp_path / str(number), style=style, content=content, changes={"seed": seed}, total=1 / (number + 1))
    grid = arranged_of(tmp_path)[2]
    assert grid.row_keys == ("style", "seed")
    assert len(grid.rows) * len(grid.columns) == 12
    assert not grid.crowded
    arranged, caption, _ = arranged_of(tmp_path, rows="style", columns="content")
    assert "6 cells have several runs; each shows the run with the lowest total" in caption
    best = arranged[1][1]
    assert best is not None
    assert [text for text, _ in best.lines[:2]] == ["best of 2 by total", "seed=2"]


def test_runs_scattered_over_many_values_come_one_after_another(tmp_path: Path) -> None:
    for number in range(10):
        changes = {"weights.style": 1e5 * 1.3**number, "optimizer.lr": 0.01 * 1.1**number}
        make_run(tmp_path / str(number), changes=changes, colour=(10 * number, 80, 80))
    sheet = sheet_of(tmp_path)
    assert [len(row) for row in arranged_of(tmp_path)[0]] == [8, 2]
    assert middle(sheet, 1, 1) == (90, 80, 80)


def test_a_sheet_of_a_single_run_and_of_many_values(tmp_path: Path) -> None:
    make_run(tmp_path / "0", colour=RED)
    assert middle(sheet_of(tmp_path), 0, 0) == RED
    for number in range(1, 40):
        make_run(tmp_path / str(number), changes={"seed": number})
    assert sheet_of(tmp_path, cell=2048).image.width * sheet_of(tmp_path, cell=2048).image.height < 1.5e8


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e6, "1e6"), (1e-4, "1e-4"), (512.0, "512"), (123456789, "123456789"), (True, "true"), (None, "null"),
        (0.05, "0.05"), (12345.5, "12345.5"), (-1e5, "-1e5"), (0.001, "0.001"), ("a b", "a b"), (2.5e-7, "2.5e-7"),
        (float("nan"), "nan"),
    ],
)  # fmt: skip
def test_values_are_shown_as_on_the_command_line(value: object, text: str) -> None:
    assert shown(value) == text  # type: ignore[arg-type]


def test_numbers_come_by_size_before_words() -> None:
    assert sorted(["b", 10, 9.5, None, "a", float("nan")], key=order)[:2] == [9.5, 10]


def test_tables_are_exported(four: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(four), "--sort", "-total"]) == 0
    told = capsys.readouterr().out
    names = ["ballerina-picasso", "tubingen-picasso", "ballerina-scream", "tubingen-scream"]
    assert [line.split()[0] for line in told.splitlines()[1:5]] == names
    assert {path.name for path in (four / "compare").iterdir()} == {"index.html", "sheet.png", "runs.csv", "runs.json"}
    with (four / "compare" / "runs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["total"]) for row in rows] == pytest.approx([0.4, 0.3, 0.2, 0.1])
    assert rows[0]["style"] == "picasso"
    assert rows[0]["weights_sha256"] == "dcbb9e" + "0" * 58
    record = json.loads((four / "compare" / "runs.json").read_text())
    assert record["varied"] == ["content", "style"]
    assert record["runs"][3]["values"]["weights.style"] == 1e6
    assert record["runs"][3]["git_commit"] == "0123456789abcdef"
    assert main([str(four)]) == 0, "its own output is no run"


EVIL = "</script><img src=x onerror=alert(1)>\"'&\n<!-- ö 画"


def test_names_never_become_markup(tmp_path: Path) -> None:
    make_run(tmp_path / "1 <b>&'\"", style=EVIL, changes={EVIL: EVIL}, status="failed")
    make_run(tmp_path / "2", assets={"style": {**input_of("x"), "path": f"/{EVIL}"}})
    assert main([str(tmp_path)]) == 0
    page = (tmp_path / "compare" / "index.html").read_text()
    assert "<img src=x" not in page
    assert "<b>&" not in page
    assert page.count("</script>") == 3
    assert "<!--" not in page
    assert "&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;" in page
    [data] = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert EVIL in [run["texts"]["style"] for run in json.loads(data)]
    assert "1%20%3Cb%3E%26%27%22/result.png" in page
    assert not re.search(r'(src|href)="(https?:)?//', page)


def test_embedded_data_are_json_that_html_ignores() -> None:
    text = embedded({EVIL: [float("nan"), float("inf"), 1.5]})
    assert not set("<>&") & set(text)
    assert json.loads(text) == {EVIL: [None, None, 1.5]}


def test_a_thinned_curve_keeps_its_spikes_and_its_end() -> None:
    losses = [1.0] * 1000
    losses[499], losses[700] = 80.0, 0.001
    at, thin = thinned(range(1, 1001), losses)
    assert len(at) <= 120
    assert (500, 80.0) in zip(at, thin, strict=True)
    assert (701, 0.001) in zip(at, thin, strict=True)
    assert at == sorted(at)
    assert thinned([1, 2, 3], [1.0, float("nan"), 0.0]) == [[1], [1.0]]


def test_a_picture_is_made_smaller_until_it_fits() -> None:
    data, width, height = jpeg(noisy(1), 96_000)
    assert (width, height) == (480, 480)
    small, width, _ = jpeg(noisy(1), 4_000)
    assert width < 480
    assert len(small) < 4_000 * 4 / 3 + 40 < len(data)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sort", "totl"], "--sort=totl: there is no such key; did you mean total? choices: run, status, content, "),
        (["--rows", "stile"], "--rows=stile: there is no such key; did you mean style? choices: content, style, run, "),
        (["--rows", "style", "--columns", "x,content"], "--columns=x: there is no such key; choices: content, style"),
    ],
)
def test_an_unknown_key_is_told(
    four: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main([str(four), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (four / "compare").exists()


def test_a_folder_without_runs_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f"error: FOLDER={tmp_path}: there is no run in this folder or below it")
    assert main([str(tmp_path / "nowhere")]) == 2
    assert capsys.readouterr().err == f"error: FOLDER={tmp_path / 'nowhere'}: there is no such folder\n"


def test_a_place_that_cant_be_written_is_told(four: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (four / "file").write_text("")
    assert main([str(four), "--out", str(four / "file" / "below")]) == 2
    assert f"--out={four / 'file' / 'below'}: can't be written" in capsys.readouterr().err


def test_a_sweeps_run_is_named_without_its_identity() -> None:
    assert without_identity("a/tubingen-picasso-size1-0123456789") == "a/tubingen-picasso-size1"
    assert without_identity("2026-11-24/12-00-00") == "2026-11-24/12-00-00"


def test_the_page_of_several_folders_is_in_the_one_that_contains_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("first/one", "first/two", "three"):
        make_run(tmp_path / "outputs" / name)
    monkeypatch.chdir(tmp_path)
    for folders, written in (
        (["outputs/first/one", "outputs/first/two"], "outputs/first/compare"),
        (["outputs/first", "outputs/three"], "outputs/compare"),
        (["outputs/three"], "outputs/three/compare"),
        ([str(tmp_path / "outputs" / "first"), "outputs/three"], str(tmp_path / "outputs" / "compare")),
    ):
        assert main(folders) == 0
        assert f"The page is at {written}/index.html" in capsys.readouterr().out
        assert Path(written, "index.html").is_file()
    assert common([Path("/a/b"), Path("/c")]) == Path()


def test_help_is_quick(tmp_path: Path) -> None:
    started = time.monotonic()
    command = [sys.executable, "-m", "nst.compare", "--help"]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert finished.returncode == 0
    assert "--sort KEY" in finished.stdout
    assert time.monotonic() - started < float(os.environ.get("NST_TEST_SLOWNESS", "1"))


def test_neither_torch_nor_hydra_is_needed(four: Path) -> None:
    code = f"import sys; from nst.compare.__main__ import main; main([{str(four)!r}]); print(*sys.modules)"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in finished.stdout.splitlines()[-1].split()}
    assert "jinja2" in loaded
    assert not {"torch", "torchvision", "hydra", "omegaconf", "pytorch_lightning", "numpy"} & loaded


def test_a_sweep_is_compared_from_the_command_line(inside: Command, small: list[str], tmp_path: Path) -> None:
    sweep = inside("-m", *small, "optimizer=lbfgs,adam", "weights.style=1e5,1e6,-1", "hydra.sweep.dir=sweep")
    assert f"python -m nst.compare {tmp_path / 'sweep'}" in sweep.stdout
    command = [sys.executable, "-m", "nst.compare", "sweep", "--sort", "-total"]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (finished.returncode, finished.stderr) == (0, "")
    record = json.loads((tmp_path / "sweep" / "compare" / "runs.json").read_text())
    assert record["varied"] == ["optimizer", "weights.style"]
    completed = [run for run in record["runs"] if run["status"] == "completed"]
    assert {(run["values"]["optimizer"], run["values"]["weights.style"]) for run in completed} == {
        ("lbfgs", 1e5), ("lbfgs", 1e6), ("adam", 1e5), ("adam", 1e6),
    }  # fmt: skip
    assert [run["status"] for run in record["runs"] if run not in completed] == ["failed", "failed"]
    assert all("random weights" in [mark["short"] for mark in run["marks"]] for run in completed)
    sheet = Image.open(tmp_path / "sweep" / "compare" / "sheet.png")
    assert sheet.format == "PNG"
