"""Mixed runs in the table and on the page: readable at any width, complete, and told by keys that filter."""

import csv
import html
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from nst.compare.__main__ import main
from nst.compare.comparison import FOREMOST, LABELLED
from nst.compare.page import CHOICES
from nst.compare.results import RESULTS
from nst.compare.values import shown
from tests.helpers.run_folders import input_of, make_run

ADAM = {"_target_": "torch.optim.Adam", "_partial_": True, "lr": 0.01, "eps": 1e-8}
MORE = {"name": "scream", "path": None, "weight": 0.5, "region": None, "mask": None, "fit": "stretch", "scale": 1.0}

#: Values of keys that mixed runs have: the first is what a run has that says nothing.
VALUES: dict[str, list[Any]] = {
    "size": [64, 48, 56],
    "evaluations": [30, 3, 4, 5],
    "seed": list(range(9)),
    "color": ["style", "luminance", "match"],
    "precision": [32, "bf16"],
    "weights.style": [1e6, 1e5, 3e7, 123456.5],
    "weights.tv": [0.0, 3.0],
    "layers.content": [["relu4_2"], ["relu3_1", "relu5_1"]],
    "layers.style": [["relu1_1", "relu2_1"], ["relu1_1"]],
    "style.region": [None, "/a folder/with a very long name/of pictures/and masks/sky.png", 'a "quoted" name.png'],
    "style.scale": [1.0, 2.0],
    "style.more": [{}, {"scream": MORE}],
    "optimizer.lr": [1.0, 0.1],
    "schedule.patience": [None, 50],
    "objective.relative": [False, True],
    "encoder.padding": ["zeros", "reflect"],
}

#: A mixed run: a number for each key, mostly 0, and its style and optimizer.
MIXED = st.fixed_dictionaries(
    {key: st.integers(0, 12).map(lambda n: n if n < 9 else 0) for key in VALUES}
    | {"chosen style": st.sampled_from(["picasso", "scream", "starry_night"]), "adam": st.booleans()}
)


def mix(folder: Path, runs: Sequence[dict[str, Any]]) -> Path:
    """Run folders as drawn, below a folder that is made anew."""
    shutil.rmtree(folder, ignore_errors=True)
    for number, drawn in enumerate(runs):
        optimizer = {"optimizer": dict(ADAM)} if drawn["adam"] else {}
        changes = optimizer | {key: values[drawn[key] % len(values)] for key, values in VALUES.items()}
        choices = {"optimizer": "adam" if drawn["adam"] else "lbfgs"}
        make_run(folder / f"{number:04d}", style=drawn["chosen style"], changes=changes, choices=choices)
    return folder


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty mixed runs: each differs from the majority in a few keys, some in none."""
    runs = []
    for number in range(30):
        drawn = dict.fromkeys(VALUES, 0) | {"chosen style": ("scream", "picasso")[number % 3 == 0], "adam": False}
        for key in [*VALUES][number % 16 : number % 16 + min(3, number % 5)]:
            drawn[key] = 1 + number // 16
        runs.append(drawn | {"adam": number % 7 == 0})
    return mix(tmp_path_factory.mktemp("mixed") / "runs", runs)


def compared(folder: Path, *words: str, columns: int | None = None) -> list[str]:
    """The lines that the command prints, in a process of its own."""
    environment = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
    environment |= {} if columns is None else {"COLUMNS": str(columns)}
    command = [sys.executable, "-m", "nst.compare", str(folder), *words]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (finished.returncode, finished.stderr) == (0, "")
    return finished.stdout.splitlines()


def record(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "compare" / "runs.json").read_text())
    return found


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_the_table_has_whole_names_at_any_width(mixed: Path, width: int) -> None:
    lines = compared(mixed, columns=width)
    last = next(number for number, line in enumerate(lines) if line.startswith(("!", "The page")))
    header = lines[0].split()
    known = {"run", *RESULTS, *record(mixed)["varied"], "also"}
    assert set(header) <= known
    assert header[0] == "run"
    assert header[-1] == "also"
    assert max(map(cell_len, lines[:last])) <= width
    assert len(lines) < 4 * 30 + 12, "columns are squeezed"


def test_more_room_has_more_columns_but_never_more_than_six_keys(mixed: Path) -> None:
    headers = [compared(mixed, columns=width)[0].split() for width in (60, 80, 120, 200)] + [compared(mixed)[0].split()]
    counts = [len(header) for header in headers]
    assert counts == sorted(counts)
    assert all(len(set(header) - {"run", "also", *RESULTS}) <= FOREMOST for header in headers)


def test_the_keys_that_distinguish_most_come_first(tmp_path: Path) -> None:
    for number in range(12):  # half of the runs differ in the size, a quarter in the seed, one in each other key
        changes = {"size": 64 + number % 2, "seed": int(number % 4 == 0), f"weights.key{number}": 1.0}
        make_run(tmp_path / f"{number:02d}", changes=changes)
    narrow = compared(tmp_path, columns=52)[0].split()
    assert narrow == ["run", "size", "seed", "total", "also"]
    assert {"size", "seed"} < set(compared(tmp_path, columns=120)[0].split())


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(runs=st.lists(MIXED, min_size=2, max_size=12))
def test_a_row_and_what_is_usual_say_everything_that_varies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], runs: list[dict[str, Any]]
) -> None:
    folder = mix(tmp_path / "runs", runs)
    monkeypatch.delenv("COLUMNS", raising=False)
    assert main([str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    found = record(folder)
    header = [name for name in re.split(r"\s{2,}", lines[0].strip()) if name != "also"]
    usual = next(
        (line for line in lines if line.startswith("unless the table says otherwise: ")),
        "unless the table says otherwise: ",
    )
    known = pairs(usual.removeprefix("unless the table says otherwise: "))
    values = {run["run"]: run["values"] for run in found["runs"]}
    for line in lines[1 : 1 + len(runs)]:
        cells = re.split(r"\s{2,}", line.strip(), maxsplit=len(header))
        row = dict(zip(header, cells, strict=False)) | pairs(" ".join(cells[len(header) :]))
        for key in found["varied"]:
            if key in values[row["run"]]:
                assert row.get(key, known.get(key)) == shown(values[row["run"]][key])


def pairs(text: str) -> dict[str, str]:
    """What a list says, as it is typed into a filter."""
    return dict(word.split("=", 1) for word in shlex.split(text))


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(runs=st.lists(MIXED, min_size=2, max_size=9), data=st.data())
def test_what_a_card_shows_is_what_filters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], runs: list[dict[str, Any]], data: st.DataObject
) -> None:
    folder = mix(tmp_path / "runs", runs)
    assert main([str(folder)]) == 0
    page = (folder / "compare" / "index.html").read_text()
    cards = re.findall(r'<p class="pairs">(.*?)</p>', page)
    shown_pairs = [[html.unescape(text) for text in re.findall("<code>(.*?)</code>", card)] for card in cards]
    if not any(shown_pairs):
        return
    card = data.draw(st.sampled_from([each for each in shown_pairs if each]))
    word = data.draw(st.sampled_from(card))
    [(key, value)] = pairs(word).items()
    assert main([str(folder), "--where", f"{key}={value}", "--out", str(tmp_path / "filtered")]) == 0
    kept = json.loads((tmp_path / "filtered" / "runs.json").read_text())["runs"]
    assert len(kept) == sum(word in each for each in shown_pairs)
    assert {shown(run["values"][key]) for run in kept} == {value}
    assert f"{len(kept)} of {len(runs)} runs, those with {key}={value}" in capsys.readouterr().out


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(runs=st.lists(MIXED, min_size=1, max_size=12))
def test_titles_are_short_and_each_is_different(tmp_path: Path, runs: list[dict[str, Any]]) -> None:
    folder = mix(tmp_path / "runs", [*runs, runs[0], runs[0]])
    assert main([str(folder)]) == 0
    page = (folder / "compare" / "index.html").read_text()
    titles = [html.unescape(title) for title in re.findall(r"<h2>(.*?)</h2>", page)]
    assert len(set(titles)) == len(titles) == len(runs) + 2
    assert max(title.count(", ") for title in titles) <= LABELLED + 1
    assert page.count("<select data-key") <= FOREMOST + 1


def test_a_usual_value_is_one_that_more_than_half_of_the_runs_have(tmp_path: Path) -> None:
    for number, (size, seed) in enumerate([(48, 0), (48, 0), (64, 0), (64, 7)]):
        make_run(tmp_path / str(number), changes={"size": size, "seed": seed})
    assert main([str(tmp_path)]) == 0
    page = (tmp_path / "compare" / "index.html").read_text()
    titles = re.findall(r"<h2>(.*?)</h2>", page)
    assert titles == ["size=48, 0", "size=48, 1", "size=64", "size=64, seed=7"]
    assert re.findall("<code>(.*?)</code>", page.split("Unless a picture says otherwise:")[1])[0] == "seed=0"


def test_a_title_begins_with_the_pictures_even_if_other_keys_distinguish_more(tmp_path: Path) -> None:
    for number in range(9):
        changes = {f"weights.key{key}": float(number) for key in range(9)}
        make_run(tmp_path / str(number), content="ballerina" if number == 8 else "tubingen", changes=changes)
    assert main([str(tmp_path)]) == 0
    [title] = re.findall(r"<h2>(ballerina.*?)</h2>", (tmp_path / "compare" / "index.html").read_text())
    assert title == "ballerina, weights.key0=8, weights.key1=8, weights.key2=8, weights.key3=8, and 5 more"


@pytest.mark.parametrize(
    ("folders", "names"),
    [
        (["t-p-style1e-5-0123456789", "t-p-style1e-6-00000000ff"], ["style1e-5", "style1e-6"]),
        (["a/t-p-0123456789", "a/t-s-00000000ff"], ["p", "s"]),
        (["a/t-0123456789", "b/t-0123456789", "b/t-00000000ff"], ["a/t", "b/t-00000000ff", "b/t-0123456789"]),
        (["t-p-0123456789", "2026-11-24/12-00-00"], ["2026-11-24/12-00-00", "t-p"]),
    ],
)
def test_runs_of_a_sweep_are_named_by_their_settings(tmp_path: Path, folders: list[str], names: list[str]) -> None:
    """A run whose name another one has, too, has its whole name."""
    for number, name in enumerate(folders):
        make_run(tmp_path / name, changes={"size": 48 + number})
    assert sorted(line.split()[0] for line in compared(tmp_path, columns=100)[1 : 1 + len(folders)]) == names


def test_a_style_of_its_own_and_how_it_is_used_are_both_told(tmp_path: Path) -> None:
    """The style's picture doesn't decide its region, even if no two runs share it."""
    make_run(tmp_path / "1", style="scream", changes={"style.region": "sky.png"})
    make_run(tmp_path / "2", style="picasso", changes={"style.region": None, "style.more": {"scream": MORE}})
    assert main([str(tmp_path)]) == 0
    assert record(tmp_path)["varied"] == ["style", "style.region", "style.more.scream"]


def test_terms_of_the_style_loss_are_one_key(tmp_path: Path) -> None:
    gram, moments = ({"_target_": "nst.objective.Term", "weight": weight} for weight in (1.0, 1e-4))
    make_run(tmp_path / "1", changes={"objective.style": {"gram": gram}})
    make_run(tmp_path / "2", changes={"objective.style": {"gram": gram, "mean_std": moments}})
    assert main([str(tmp_path), "--where", "objective.style=gram mean_std"]) == 0
    assert main([str(tmp_path)]) == 0
    assert record(tmp_path)["varied"] == ["objective.style"]


def test_marks_that_every_run_has_are_told_once(tmp_path: Path) -> None:
    for number in range(3):
        make_run(tmp_path / str(number), changes={"size": 32 + number}, assets={"style": input_of("x", "stand-in")})
    assert "".join(compared(tmp_path)).count("stand-in style") == 1
    make_run(tmp_path / "3", changes={"size": 35}, status="diverged")
    lines = compared(tmp_path, "--sort", "run")
    assert [("stand-in style" in line, "diverged" in line) for line in lines[1:5]] == [(True, False)] * 3 + [
        (False, True)
    ]


@pytest.mark.parametrize(
    ("words", "messages"),
    [
        (["stile=x"], ["--where=stile: there is no such key; did you mean style?"]),
        (["lr=0.1"], ["--where=lr: there is no such key; did you mean optimizer.lr?"]),
        (["weigths.style<1"], ["--where=weigths.style: there is no such key; did you mean weights.style"]),
        (["padding=zero"], ["--where=padding: there is no such key; did you mean encoder.padding?"]),
        (["zzz=1"], ["--where=zzz: there is no such key; choices: run, status, style, "]),
        (
            ["style=pcasso"],
            ["--where=style=pcasso: no run has this value; did you mean picasso? choices: picasso, scream"],
        ),
        (["style"], ["--where=style: must be KEY=VALUE, or KEY<NUMBER with <, >, <= or >="]),
        (["size="], ["--where=size=: must be KEY=VALUE"]),
        (["size<big"], ["--where=size<big: big must be a number"]),
        (
            ["color=style", "color=match"],
            ["--where=color=style and color=match: no run meets all of these conditions; leave one out"],
        ),
        (["stile=x", "sise=1"], ["--where=stile: there is no such key", "--where=sise: there is no such key"]),
    ],
)
def test_a_mistake_in_a_filter_is_told_before_anything_is_written(
    mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], messages: list[str]
) -> None:
    options = [part for word in words for part in ("--where", word)]
    assert main([str(mixed), *options, "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    lines = told.err.splitlines()
    assert len(lines) == len(messages)
    assert all(line.startswith(f"error: {message}") for line, message in zip(lines, messages, strict=True))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["size=56"], ["size=5.6e1"], ["size>=56"], ["weights.style<1000000"], ["style=PICASSO"], ["style.region=null"],
        ["optimizer=adam", "size<=64"], ["total<0.6"], ["run=0007"], ["status=completed"], ["weights.content=1"],
        ["layers.content=relu3_1 relu5_1"], ['style.region=a "quoted" name.png'], ["objective.relative=true"],
        ["style.more.scream=scream"], ["stile=x"], ["size<big"], ["style=nobody"],
    ],
)  # fmt: skip
def test_the_page_and_the_command_line_filter_alike(
    browser: Chrome, mixed: Path, tmp_path: Path, words: list[str]
) -> None:
    """The same words keep the same runs, and a mistake is told in both."""
    assert main([str(mixed), "--out", str(tmp_path / "page")]) == 0
    options = [part for word in words for part in ("--where", word)]
    status = main([str(mixed), *options, "--out", str(tmp_path / "filtered")])
    kept = []
    if status == 0:
        with (tmp_path / "filtered" / "runs.csv").open() as file:
            kept = sorted(row["run"] for row in csv.DictReader(file))
    typed = [re.sub(r'(["\\])', r"\\\1", word) for word in words]
    browser.get((tmp_path / "page" / "index.html").as_uri())
    browser.execute_script("$('filter').value = arguments[0]; filter();", " ".join(f'"{word}"' for word in typed))
    script = "return runs.filter((_, number) => shown[number]).map((run) => run.values.run).sort()"
    assert (len(kept) == 0) == (words in (["stile=x"], ["size<big"], ["style=nobody"]))
    assert browser.execute_script(script) == kept
    assert browser.find_element(By.ID, "wrong").is_displayed() == (status == 2)


def test_an_unknown_key_is_told_on_the_page_with_the_nearest(browser: Chrome, mixed: Path, tmp_path: Path) -> None:
    assert main([str(mixed), "--out", str(tmp_path / "page")]) == 0
    browser.get((tmp_path / "page" / "index.html").as_uri())
    field, wrong = browser.find_element(By.ID, "filter"), browser.find_element(By.ID, "wrong")
    field.send_keys("padding=zeros")
    assert wrong.text == "padding: there is no such key; did you mean encoder.padding?"
    field.clear()
    field.send_keys("wieghts.style=1e6")
    assert "did you mean weights.style" in wrong.text
    field.clear()
    field.send_keys("zzz=1")
    assert "choices: run, status, style, " in wrong.text
    field.clear()
    field.send_keys("color=")  # not typed yet
    assert not wrong.is_displayed()
    field.send_keys("luminance")
    assert not wrong.is_displayed()


def test_a_value_of_the_page_is_clicked_to_filter(browser: Chrome, mixed: Path, tmp_path: Path) -> None:
    assert main([str(mixed), "--out", str(tmp_path / "page")]) == 0
    browser.get((tmp_path / "page" / "index.html").as_uri())
    buttons = browser.find_elements(By.CSS_SELECTOR, "#differences [data-filter]")
    for button in buttons:
        browser.execute_script("$('filter').value = ''; arguments[0].click()", button)
        told = browser.execute_script("return arguments[0].closest('.value').textContent", button)
        kept = browser.execute_script("return shown.filter(Boolean).length")
        assert told.split()[-1] == str(kept), button.get_attribute("data-filter")
    assert len(buttons) > 20


def test_two_hundred_mixed_runs_stay_readable(browser: Chrome, tmp_path: Path) -> None:
    runs = []
    for number in range(200):
        drawn = dict.fromkeys(VALUES, 0) | {"chosen style": ("scream", "picasso")[number % 2], "adam": number % 3 == 0}
        runs.append(drawn | {key: (number * 7 // (place + 1)) % 9 for place, key in enumerate(VALUES)})
    folder = mix(tmp_path / "runs", runs)
    assert main([str(folder)]) == 0
    browser.set_window_size(1400, 1000)
    browser.get((folder / "compare" / "index.html").as_uri())
    assert len(browser.find_elements(By.CSS_SELECTOR, "#toolbar select[data-key]")) <= FOREMOST + 1
    options = browser.execute_script(
        "return [...document.querySelectorAll('select[data-key]')].map((select) => select.options.length)"
    )
    assert max(options) <= CHOICES + 1
    heights = browser.execute_script(
        "return [...document.querySelectorAll('.card h2')].map((title) => title.clientHeight / 20)"
    )
    assert max(heights) < 10
    top = browser.execute_script("return document.getElementById('cards').getBoundingClientRect().top")
    assert top < 700, "the pictures begin below the fold"
