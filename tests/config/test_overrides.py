"""Paths need no quotes of Hydra's grammar, and every command line that is printed can be pasted."""

import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from PIL import Image

import nst
from nst.compare.__main__ import main as compare
from nst.config.hydra_edge import parse
from nst.config.overrides import command, with_quoted_paths
from nst.sweep.folder import Sweep
from tests.conftest import Command, server

FOLDER = "my run, a=1 (β) [x]"
NAMES = [
    "a b.png", "a,b.png", "a=b.png", "[a].png", "(a) {b}.png", "it's.png", 'say "x".png', "back\\slash.png",
    "50% ~.png", "#1!.png", "täßt.png", "x: y.png", "a;b&c|d.png", "null .png", "choice(a).png", "${x}.png",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sweep", [False, True])
def test_a_path_is_read_as_it_is_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, *, sweep: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).touch()
    [word] = with_quoted_paths([f"content.path={name}"], sweep=sweep)
    [override] = parse([word])
    assert not override.is_sweep_override()
    assert OmegaConf.create({"name": override.value()}).name == name
    assert with_quoted_paths([word], sweep=sweep) == [word], "quoted once"


def test_what_has_a_meaning_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a, b.png").touch()
    kept = [
        "style.path=choice(a.png,b.png)", "style.path='a b.png'", "content.path=${oc.env:HOME}/a.png",
        "encoder.weights=auto", "weights.style=1e5,1e6", "resume", "~style.path", "style=starry_night,picasso",
    ]  # fmt: skip
    assert with_quoted_paths(kept, sweep=True) == kept
    assert with_quoted_paths(["style.path=a b.png,'c,d.png',e.png"], sweep=True) == [
        "style.path='a b.png','c,d.png',e.png"
    ]
    assert with_quoted_paths(["style.path=a, b.png"], sweep=True) == ["style.path='a, b.png'"]
    assert with_quoted_paths(["style.path=a.png,b.png"], sweep=False) == ["style.path='a.png,b.png'"]


@pytest.fixture
def folder(tmp_path: Path, pictures: tuple[Path, Path]) -> Path:
    """A folder with a name full of what shells and Hydra give a meaning, with two pictures in it."""
    made = tmp_path / FOLDER
    made.mkdir()
    for source, name in zip(pictures, ("a content, x=1.png", "a style [1].png"), strict=True):
        (made / name).write_bytes(source.read_bytes())
    return made


def pasted(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """What a shell makes of a printed command line."""
    words = subprocess.run(["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, text=True, check=True).stdout
    python, m, module, *rest = words.split("\0")[:-1]
    assert (python, m) == ("python", "-m")
    if module == "nst.train":
        return server.run(rest, cwd=folder)
    command = [sys.executable, "-m", module, *rest]
    return subprocess.run(command, cwd=folder, env=os.environ.copy(), capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["size=64", "name='a b'"], "size=64 \"name='a b'\""),
        (["name='$a'"], """'name='"'"'$a'"'"''"""),
        (
            ["hydra.searchpath=['file:///own options']", "size=64"],
            "--config-dir '/own options' size=64",
        ),
        (["hydra.searchpath=[file:///own]", "size=64"], "--config-dir /own size=64"),
    ],
)
def test_a_command_is_shown_as_it_is_typed(words: list[str], shown: str) -> None:
    assert command(words) == f"python -m nst.train {shown}"
    assert shlex.split(command(words, "-m"))[3] == "-m"


def test_every_command_that_is_printed_can_be_pasted(inside: Command, small: list[str], folder: Path) -> None:
    few = [word for word in small if ".path=" not in word]
    given = [*few, "content.path=a content, x=1.png", "style.path=a style [1].png"]
    single = inside(*given, f"hydra.run.dir={folder}/one, two", cwd=folder)
    assert single.returncode == 0, single.stderr
    [larger] = re.findall(r"To make it larger: (.*)$", single.stderr, re.MULTILINE)
    [page] = re.findall(r"To see its inputs, losses and settings: (.*)$", single.stderr, re.MULTILINE)
    [curves] = re.findall(r"To see its curves: (.*)$", single.stderr, re.MULTILINE)
    made = pasted(f"{larger} hydra.run.dir=larger", folder)
    assert made.returncode == 0, made.stderr
    assert Image.open(folder / "larger" / "result.png").width == 64
    assert pasted(page, folder).returncode == 0
    shown = pasted(f"python -m {curves.replace('tensorboard', 'tensorboard.main')} --inspect", folder)
    assert "loss/total" in shown.stdout
    again = inside(*given, f"hydra.run.dir={folder}/one, two", cwd=folder)
    [line] = re.findall(r"resume it with (.*), or choose", again.stderr)
    assert pasted(f"python -m nst.train {line} evaluations=8", folder).returncode == 0
    assert (
        inside(
            f"rerun={folder}/one, two/result.png",
            "init=image",
            f"init.path={folder}/one, two/result.png",
            *given[-2:],
            "schedule=single",
            "metrics=null",
            cwd=folder,
        ).returncode
        == 0
    )
    swept = inside("-m", *given, "weights.style=1e5,-1", f"hydra.sweep.dir={folder}/a sweep", cwd=folder)
    assert swept.returncode == 1
    [line] = re.findall(r"^python -m nst.compare .*$", swept.stdout, re.MULTILINE)
    [resume] = re.findall(r"Correct what failed, and continue: (python .*)$", swept.stderr, re.MULTILINE)
    compared = pasted(line, folder)
    assert compared.returncode == 0, compared.stderr
    assert pasted(resume, folder).returncode == 1, "one of its points is invalid"
    assert [outcome.state for outcome in Sweep(folder / "a sweep").outcomes()] == ["kept", "failed"]
    for run in (folder / "a sweep").glob("*/result.png"):
        assert shlex.quote(run.parent.name) == run.parent.name, "its name needs no quotes"
        assert parse([f"resume={run.parent.name}"])[0].value() == run.parent.name


def test_an_interrupted_run_says_how_to_resume_it(inside: Command, small: list[str], folder: Path) -> None:
    words = [
        *small,
        "evaluations=100000",
        "hydra.run.dir=a, b",
        "callbacks.checkpoint.every_evaluations=10",
        "optimizer=adam",
    ]
    process = server.start(words, cwd=folder, stderr=subprocess.PIPE)
    while not list(folder.glob("a, b/checkpoints/[0-9]*.ckpt")) and process.poll() is None:
        time.sleep(0.05)
    process.terminate()
    _, errors = process.communicate(timeout=60)
    [line] = re.findall(r"To resume: (python .*)$", errors, re.MULTILINE)
    done = json.loads((folder / "a, b" / "summary.json").read_text())["evaluations"]
    finished = pasted(f"{line} evaluations={done + 1}", folder)
    assert finished.returncode == 0, finished.stderr


def test_stylize_takes_paths_as_they_are(small: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    few = [word for word in small if ".path=" not in word]
    result = nst.stylize(
        "a content, x=1.png",
        Path("a style [1].png"),
        [*few, "hydra.run.dir=its, run", "init=image", "init.path=a style [1].png"],
    )
    assert result.folder == folder / "its, run"
    assert nst.stylize("a content, x=1.png", "a style [1].png", few).folder.is_dir()


def test_the_working_directory_of_a_job(inside: Command, small: list[str], folder: Path) -> None:
    """With hydra.job.chdir=true, relative paths still are relative to the folder of the command."""
    few = [word for word in small if ".path=" not in word]
    words = [*few, "content.path=a content, x=1.png", "style.path=a style [1].png", "hydra.job.chdir=true"]
    assert inside(*words, "hydra.run.dir=one", "init=image", "init.path=a style [1].png", cwd=folder).returncode == 0
    assert (
        inside(
            "rerun=one/result.png", *words, "init.path=a style [1].png", "hydra.run.dir=other", cwd=folder
        ).returncode
        == 0
    )
    assert inside("-m", *words, "hydra.sweep.dir=sweep", "seed=1,2", cwd=folder).returncode == 0
    assert len(list(folder.glob("sweep/*/result.png"))) == 2
    assert inside("resume=one", "evaluations=7", cwd=folder).returncode == 0


def test_names_as_long_as_a_file_system_has_them(inside: Command, small: list[str], folder: Path) -> None:
    few = [word for word in small if ".path=" not in word]
    name = "画" * 83  # 249 bytes
    (folder / "a content, x=1.png").rename(folder / f"{name}.png")
    words = [*few, f"content.path={name}.png", f"style.path={name}.png", f"init.path={name}.png", "init=image"]
    assert inside(*words, f"hydra.run.dir={name}/{name}", "output=jpeg", cwd=folder).returncode == 0
    assert inside("-m", *words, f"hydra.sweep.dir={name}/sweep", "seed=1,2", cwd=folder).returncode == 0
    runs = list(folder.glob("*/sweep/*/result.png"))
    assert len(runs) == 2
    assert all(len(run.parent.name.encode()) < 255 for run in runs)
    assert compare([str(folder / name)]) == 0


def test_a_name_like_an_interpolation(inside: Command, small: list[str], folder: Path) -> None:
    (folder / "a style [1].png").rename(folder / "${x}.png")
    few = [word for word in small if ".path=" not in word]
    words = [*few, "content.path=${x}.png", "style.path=${x}.png", "init=image", "init.path=${x}.png"]
    assert inside(*words, "hydra.run.dir=one", cwd=folder).returncode == 0
    assert inside("resume=one", "evaluations=8", cwd=folder).returncode == 0
    read = json.loads((folder / "one" / "summary.json").read_text())["assets"]["init"]["path"]
    assert Path(read) == folder / "${x}.png"
    (folder / "one" / "result.png").rename(folder / "${y}.png")
    assert (
        inside("rerun=${y}.png", *words[-4:-2], words[-1], "metrics=null", "hydra.run.dir=again", cwd=folder).returncode
        == 0
    )
    assert inside("-m", *words, "hydra.sweep.dir=sweep", cwd=folder).returncode == 0
    for refused in (["hydra.run.dir=${y}.png"], ["-m", "hydra.sweep.dir=${y}.png"]):
        finished = inside(*words, *refused, cwd=folder)
        assert finished.returncode == 2
        assert "Hydra reads ${ in a folder's name as an interpolation; choose another" in finished.stderr
