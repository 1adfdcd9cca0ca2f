"""Every code block of the README, the documentation and the studies' pages works, or fits what it is for."""

import functools
import importlib.util
import itertools
import re
import shlex
import shutil
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import nst as library
from benchmarks import against_peer
from benchmarks.against_baseline import __main__ as against_baseline
from nst import paths
from nst.compare import __main__ as compare
from nst.config import hydra_edge
from nst.config.overrides import with_quoted_paths
from nst.metrics import __main__ as metrics
from nst.run import single
from nst.studio import __main__ as studio
from nst.train import main

from .conftest import NOWHERE, Command
from .helpers.pages import TOP, Block, blocks, commands
from .test_studies import STUDIES

#: Pages whose blocks belong together, and the tests that run them.
ELSEWHERE = {"docs/extending.md": "tests/test_extending.py", "docs/research/studies.md": "tests/test_learn.py"}

#: A run that takes no network and hardly any time.
TINY = [
    *(f"{group}.url={NOWHERE}/{group}.jpg" for group in ("content", "style")), "encoder=slim", "encoder.weights=random",
    "size=32", "evaluations=2", "threads=1", "trainer.accelerator=cpu", "metrics=null", "logger=none",
    "callbacks.film=null",
]  # fmt: skip


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a reader, who has a run and some pictures."""
    folder = tmp_path_factory.mktemp("reader")
    run = folder / "outputs" / "2026-11-22" / "12-00-00"
    assert main([*TINY, f"hydra.run.dir={run}"]) == 0
    shutil.copy(run / "result.png", folder)
    for name in ("photo.jpg", "painting.png", "painting.jpg", "bark.jpg"):
        shutil.copy(paths.bundled("style", "picasso"), folder / name)
    return folder


@functools.cache
def composes(*words: str) -> None:
    """Compose and check the configuration of a run."""
    single.checked(words)


def train(words: list[str]) -> None:
    """Check a run, or the last run of a sweep. What a study sweeps has tests of its own."""
    if {"--help", "--help-all", "--cfg"} & set(words):
        assert main(words) == 0
        return
    if "-m" not in words:
        composes(*words)
        return
    words = [word for word in words if word != "-m"]
    others = [word for word in words if word.removeprefix("experiment=") not in STUDIES]
    overrides = hydra_edge.parse(with_quoted_paths(others, sweep=True))
    swept = [each for each in overrides if each.is_sweep_override()]
    assert swept or others != words, "nothing is swept"
    point = [each.input_line for each in overrides if each not in swept] + [_values(each)[-1] for each in swept]
    composes(*(word for word in point if not word.endswith("=null")))  # no option, the default


def _values(override: Any) -> list[str]:
    """The overrides of a sweep's points for one key: every choice, or the ends of an interval."""
    if override.is_interval_sweep():
        return [f"{override.key_or_group}={end}" for end in (override.value().start, override.value().end)]
    return [f"{override.key_or_group}={value}" for value in override.sweep_string_iterator()]


def module(name: str) -> Callable[[list[str]], object]:
    """Say how the command of a module is checked: by its parser, or by whether there is such a module."""
    parsers: dict[str, Callable[[list[str]], object]] = {
        "nst.train": train,
        "nst.compare": lambda words: compare.parser().parse_args(compare._joined(words)),
        "nst.metrics": lambda words: metrics.parser().parse_args(words),
        "nst.studio": lambda words: studio.parser().parse_args(words),
        "benchmarks.against_baseline": against_baseline.parse,
        "benchmarks.against_peer": against_peer.parse,
    }
    if name not in parsers:
        assert importlib.util.find_spec(name) is not None, name
    return parsers.get(name, lambda words: None)


def extras(words: list[str]) -> None:
    """Check that an extra that pip is told to install exists."""
    project = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for name in re.findall(r"\[([\w,]+)\]", " ".join(words)):
        assert set(name.split(",")) <= set(project["optional-dependencies"]), name


def targets(words: list[str]) -> None:
    """Check that make has a target."""
    text = (TOP / "Makefile").read_text(encoding="utf-8")
    for word in words:
        assert re.search(rf"^{word}:", text, re.MULTILINE), word


def container(words: list[str]) -> None:
    """Check that the arguments of a container's build exist."""
    for name in re.findall(r"--build-arg (\w+)=", " ".join(words)):
        assert f"ARG {name}=" in (TOP / "Dockerfile").read_text(encoding="utf-8")


def command(words: list[str]) -> None:
    """Check a command of `nst` as that of the module that it stands for."""
    first, *others = words
    stands_for = {"train": ("train", []), "sweep": ("train", ["-m"]), "info": ("cli", []), "completion": ("cli", [])}
    if first == "resume":
        others[0] = f"resume={others[0]}"
        first = "train"
    name, before = stands_for.get(first, (first, []))
    module(f"nst.{name}")([*before, *others])


#: What is checked of the other programs.
PROGRAMS: dict[str, Callable[[list[str]], object]] = {
    "pip": extras,
    "make": targets,
    "docker": container,
    "tensorboard": lambda words: None,
    "mlflow": lambda words: None,
    "wandb": lambda words: None,
    "nst": command,
    "source": lambda words: None,
    **dict.fromkeys(("git", "pipx", "uv"), lambda words: None),
    "cmp": lambda words: None,
}


@functools.cache
def check(command: str) -> None:
    """Check a command. Raise if it is wrong, or if it is none that the documentation may have."""
    words = shlex.split(command)
    while words and re.match(r"[A-Z_]+=", words[0]):  # of the environment
        words = words[1:]
    if words[0] in PROGRAMS:
        PROGRAMS[words[0]](words[1:])
    else:
        assert words[0] in ("python", "torchrun"), words
        place = words.index("-m")
        module(words[place + 1])(words[place + 2 :])


COMMANDS = {
    page: [command for _, command in found]
    for page, found in itertools.groupby(sorted(commands(), key=lambda each: each[0]), key=lambda each: each[0])
    if page not in ELSEWHERE
}


@pytest.mark.parametrize("page", COMMANDS)
def test_the_commands_of_a_page_are_right(
    page: str, reader: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(reader)
    monkeypatch.setattr(sys, "argv", ["nst.train"])
    for command in COMMANDS[page]:
        try:
            check(command)
        except (Exception, SystemExit) as error:
            if isinstance(error, SystemExit) and not error.code:  # after its help
                continue
            pytest.fail(f"{command}\n{error}\n{capsys.readouterr().err}")


@pytest.mark.parametrize(
    "wrong",
    [
        "python -m nst.train stile=picasso",
        "python -m nst.train -m style=picasso,nobody",
        "python -m nst.compare outputs --were x=1",
        "python -m nst.paint",
        "pip install 'nst[studios]'",
        "make coffee",
        "nst sweep style=picasso,nobody",
        "nst paint style=picasso",
        "sudo reboot",
    ],
)
def test_a_wrong_command_is_found(wrong: str, reader: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(reader)
    with pytest.raises((Exception, SystemExit)):
        check(wrong)


def test_the_readmes_commands_paint_and_compare(inside: Command, reader: Path, tmp_path: Path) -> None:
    for name in ("photo.jpg", "painting.png"):
        shutil.copy(reader / name, tmp_path)
    first, own, sweep, compared, _ = [line for line in COMMANDS["README.md"] if "-m nst." in line][:5]
    folder = shlex.split(compared)[-1]
    for command, where in (
        (first, "hydra.run.dir=first"),
        (own, "hydra.run.dir=own"),
        (sweep, f"hydra.sweep.dir={folder}"),
    ):
        finished = inside(*shlex.split(command)[3:], *TINY, where)
        assert finished.returncode == 0, finished.stderr
    assert (tmp_path / "first" / "result.png").is_file()
    assert (tmp_path / "own" / "result.png").is_file()
    assert len(list((tmp_path / folder).glob("*/result.png"))) == 4
    assert compare.main(shlex.split(compared)[3:]) == 0
    assert (tmp_path / folder / "compare" / "index.html").is_file()


PYTHON = [block for block in blocks("python") if block.page not in ELSEWHERE]


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.page)
def test_a_python_block_runs(block: Block, reader: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With small pictures, whatever it asks for."""
    from nst import api

    def small(content: Any, style: Any, overrides: Any = (), **options: Any) -> Any:
        tiny = [word for word in TINY if word.partition("=")[0].replace(".", "__") not in {*options} - {"size"}]
        given = {name: value for name, value in options.items() if name != "size"}
        return api.stylize(content, style, [*overrides, *tiny, f"hydra.run.dir={tmp_path}/run"], **given)

    monkeypatch.chdir(reader)
    monkeypatch.setattr(library, "stylize", small, raising=False)
    exec(compile(block.text, block.page, "exec"), {})


@pytest.mark.parametrize("block", blocks("yaml"), ids=lambda block: block.page)
def test_a_yaml_block_is_yaml(block: Block) -> None:
    assert isinstance(yaml.safe_load(block.text), dict)


def test_no_block_is_left_out() -> None:
    assert {block.language for block in blocks()} <= {"", "sh", "python", "yaml"}
    for page, test in ELSEWHERE.items():
        assert (TOP / page).is_file()
        assert Path(page).name in (TOP / test).read_text(encoding="utf-8")
