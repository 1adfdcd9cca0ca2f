"""Every code block of the README, the documentation and the studies' pages works, or fits what it is for."""

import contextlib
import functools
import importlib.util
import itertools
import re
import shlex
import shutil
import subprocess
import sys
import time
import tomllib
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

import nst as library
from benchmarks import against_peer
from benchmarks.against_baseline import __main__ as against_baseline
from nst.compare import __main__ as compare
from nst.config import hydra_edge
from nst.config.overrides import with_quoted_paths
from nst.files import paths
from nst.metrics import __main__ as metrics
from nst.run import single
from nst.studio import __main__ as studio
from nst.train import main
from tests.conftest import NOWHERE, Command, free_port
from tests.experiments.test_studies import STUDIES
from tests.helpers.pages import TOP, Block, blocks, commands

#: Pages whose blocks belong together, and the tests that run them.
ELSEWHERE = {
    "docs/extending.md": "tests/docs/test_extending.py",
    "docs/research/studies.md": "tests/docs/test_learn.py",
}

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


#: Commands that need the internet, an administrator, a cluster or another server. Benchmarks have tests of their own.
NOT_RUN = re.compile(
    r"(git|make|docker|wandb|pipx|source) |(python -m )?pip install|python -m (venv|benchmarks)"
    r"|.*(submitit_slurm|tracking_uri=|completion SHELL)"
)
#: Pages of the documentation that no other soak test runs.
SOAKED = [page for page in COMMANDS if not re.match("experiments/|docs/(learn|research|benchmarks)", page)]


def scaled_down(words: list[str]) -> list[str]:
    """Return the words of a run as a small one; only what a page is about stays as it is."""
    text, keys = " ".join(words), {word.partition("=")[0] for word in words}
    if "resume" in keys:
        return [*(f"{word.partition('=')[0]}=4" if word.startswith("evaluations=") else word for word in words)]
    small = [word for word in TINY if word.partition("=")[0] not in keys or word.startswith(("size=", "evaluations="))]
    small += ["size=64"]  # what every network and padding can read
    if "encoder" in keys:  # its own weights
        small = [word for word in small if word != "encoder.weights=random"]
    if "encoder=torchvision" in words:
        small += ["encoder.weights=random", "encoder.calibrate=false"]
    if "rerun" in keys:
        small = ["evaluations=2", "metrics=null"]
    if "strotss" in text or "nnst" in text:
        small += ["size=48", "evaluations=9", "schedule.scales=2"]
    if "schedule.sizes" in text:
        small += ["size=48", "schedule.sizes=[24]"]
    if "schedule.smallest" in text:
        small += ["size=48", "schedule.smallest=24"]
    if "trainer.devices" in keys:
        small += ["trainer.devices=2"]
    return [*words, *small, *(["hydra.sweeper.n_trials=2"] if "hydra/sweeper" in keys else [])]


def answers(command: list[str], folder: Path) -> None:
    """Start a server on a free port, wait until it serves its page, and stop it."""
    port = free_port()
    process = subprocess.Popen([*command, "--port", str(port)], cwd=folder, stderr=subprocess.PIPE, text=True)
    try:
        for _ in range(240):
            assert process.poll() is None, process.stderr and process.stderr.read()
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as page:
                assert page.status == 200
                return
            time.sleep(0.25)
        pytest.fail(f"{command} does not answer")
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.soak
@pytest.mark.parametrize("page", SOAKED)
def test_every_command_of_a_page_runs(page: str, reader: Path, inside: Command, nst: Command, tmp_path: Path) -> None:
    shutil.copytree(reader, tmp_path, dirs_exist_ok=True)
    for number, name in enumerate(("sky.png", "town.png")):
        Image.linear_gradient("L").rotate(180 * number).resize((768, 576)).save(tmp_path / name)
    for number, command in enumerate(COMMANDS[page]):
        if NOT_RUN.match(command):
            continue
        words = shlex.split(command.replace("cfsd<0.1", "cfsd<100"))  # of a picture of two evaluations
        if "--where" in words:
            assert inside(*TINY, "optimizer=adam", "metrics=[slim]", "hydra.run.dir=outputs/adam").returncode == 0
        match words:
            case ["python", "-m", "nst.train", *given]:
                into = "hydra.sweep.dir" if "-m" in given else "hydra.run.dir"
                own = (
                    []
                    if {"--help", "--help-all", "--cfg"} & {*given} or f"{into}=" in command
                    else [f"{into}=run{number}"]
                )
                if any(word.startswith("resume=") for word in given):
                    own = []
                run = nst if "trainer.devices" in command else inside
                finished = run(*(scaled_down(given) if "--help" not in command else given), *own)
                assert finished.returncode == 0, f"{command}\n{finished.stderr}"
            case ["torchrun", _, "-m", "nst.train", *given]:
                launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "-m", "nst.train"]
                subprocess.run([*launcher, *scaled_down(given), f"hydra.run.dir=run{number}"], cwd=tmp_path, check=True)
            case ["tensorboard", *given]:
                answers([sys.executable, "-m", "tensorboard.main", *given], tmp_path)
            case ["python", "-m", "nst.studio", *given] if "--help" not in given:
                asked = itertools.takewhile(lambda word: word != "--port", given)
                inside_folder = [word.replace("/data", str(tmp_path)) for word in asked]
                answers([sys.executable, "-m", "nst.studio", *inside_folder], tmp_path)
            case _:
                subprocess.run([sys.executable, *words[1:]], cwd=tmp_path, check=True, capture_output=True)


PYTHON = [block for block in blocks("python") if block.page not in ELSEWHERE]


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.page)
@pytest.mark.filterwarnings("ignore:STAND-IN PICTURE")
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
