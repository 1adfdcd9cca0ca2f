"""Each mistake on the command line gets one clear message, exit status 2, no traceback, and leaves nothing behind."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from nst.encoder import oxford
from nst.encoder import weights as encoder
from nst.errors import say_what_is_missing
from nst.train import main
from tests.conftest import NOWHERE, Command
from tests.helpers.pages import TOP

Invoke = Callable[..., tuple[int, list[str]]]


@pytest.fixture
def invoke(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], small: list[str]
) -> Invoke:
    """Runs the command line in an empty folder; returns its exit status and the lines of its messages."""
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def run(*arguments: str, defaults: bool = True) -> tuple[int, list[str]]:
        monkeypatch.setattr(sys, "argv", ["nst.train", *(small if defaults else []), *arguments])
        status = main()
        captured = capfd.readouterr()
        assert captured.out == ""
        assert "Traceback" not in captured.err
        assert list(folder.iterdir()) == []
        return status, captured.err.splitlines()

    return run


@pytest.fixture
def files(tmp_path: Path, pictures: tuple[Path, Path], checkpoint: Path, partial_checkpoint: Path) -> dict[str, Path]:
    """Files by the names that the table below uses."""
    whole = pictures[0].read_bytes()
    Image.new("RGB", (200, 100)).save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:-100])
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "file").write_text("in the way")
    torch.save([1, 2], tmp_path / "list.pth")
    Image.new("RGB", (100, 3)).save(tmp_path / "narrow.png")
    return {
        "CUT_JPEG": tmp_path / "cut.jpg",
        "CUT_PNG": tmp_path / "cut.png",
        "TEXT": tmp_path / "text.jpg",
        "FILE": tmp_path / "file",
        "FOLDER": tmp_path,
        "LIST": tmp_path / "list.pth",
        "NARROW": tmp_path / "narrow.png",
        "SLIM": checkpoint,
        "PARTIAL": partial_checkpoint,
    }


TABLE: list[tuple[list[str], list[str]]] = [
    (
        ["layers.style=[relu9_1]"],
        ["layers.style=relu9_1: this is no layer of slim; did you mean", "choices: conv1_1, relu1_1"],
    ),
    (["layers.content=[relu4]"], ["layers.content=relu4: this is no layer of slim"]),
    (["layers.content=[relu1_1,relu1_1]"], ["layers.content=relu1_1: named more than once"]),
    (
        ["encoder=vgg16", "layers.style=[relu3_4]", "encoder.weights=random"],
        ["layers.style=relu3_4: this is no layer of vgg16"],
    ),
    (
        ["encoder=vgg19", "encoder.weights=PARTIAL", "layers.content=[relu2_2]", "layers.style=[relu3_1]"],
        ["layers.style=relu3_1: the checkpoint", "ends before this layer; choices: conv1_1", "relu2_2"],
    ),
    (["layers.content=[]", "layers.style=[]"], ["layers.content=[], layers.style=[]: at least one layer is needed"]),
    (["content.path=NONE.jpg"], ["content.path=NONE.jpg: there is no such file"]),
    (["style.path=FOLDER"], ["style.path=", "this is a folder, not a file"]),
    (["style.path=TEXT"], ["style.path=", "not a picture"]),
    (["content.path=CUT_JPEG"], ["content.path=", "can't be read: ", "truncated"]),
    (["content.path=CUT_PNG"], ["content.path=", "can't be read: "]),
    (["init=image", "init.path=TEXT"], ["init.path=", "not a picture"]),
    (["init=image"], ["init.path: must be given"]),
    (["size=8"], ["size=8: the picture would be 8 x 6 px, but relu5_1 needs at least 16 px on each side"]),
    (["content.path=NARROW", "size=null"], ["size=null: the picture would be 100 x 3 px"]),
    (["weights.style=-1"], ["weights.style=-1: must be greater than or equal to 0"]),
    (["weights.content=nan"], ["weights.content=nan: must be a finite number"]),
    (["weights.style=inf"], ["weights.style=inf: must be a finite number"]),
    (["weights.style=much"], ["weights.style=much: must be a valid number"]),
    (["weights.style=0", "weights.content=0"], ["weights: every part that has layers has the weight 0"]),
    (
        ["+weights.style_layers.relu4_4=2"],
        ["weights.style_layers=relu4_4: this layer is not in layers.style; did you mean relu4_1?"],
    ),
    (["evaluations=0"], ["evaluations=0: must be greater than 0"]),
    (["evaluations=1.5"], ["evaluations=1.5: must be a valid integer"]),
    (["size=0"], ["size=0: must be greater than 0"]),
    (["seed=-1"], ["seed=-1: must be greater than or equal to 0"]),
    (
        ["precision=16", "trainer.accelerator=cpu"],
        ["precision=16: runs on CPU don't support it; choices: auto, bf16, 32, 64"],
    ),
    (["precision=8"], ["precision=8: must be 'auto', 'bf16', 16, 32 or 64"]),
    (["assets=maybe"], ["assets=maybe: must be 'auto' or 'strict'"]),
    (
        ["optimizer=lbfgs_clamped", "optimizer.line_search_fn=armijo"],
        ["optimizer.line_search_fn=armijo: must be 'strong_wolfe'"],
    ),
    (["optimizer=adam", "optimizer.betas=[0.9,1]"], ["optimizer.betas.1=1: must be less than 1"]),
    (["callbacks.snapshot.every_evaluations=0"], ["callbacks.snapshot.every_evaluations=0: must be greater than 0"]),
    (["trainer.accelerator=abacus"], ["trainer.accelerator=abacus: must be 'auto', 'cpu'"]),
    (
        ["style=starry"],
        ["style=starry: there is no such option; did you mean starry_night? choices: composition, picasso"],
    ),
    (["optimizer=sgd"], ["optimizer=sgd: there is no such option; choices: adam, adam_averaged, "]),
    (["optimzer.lr=1"], ["optimzer.lr=1: there is no key optimzer.lr; did you mean optimizer.lr"]),
    (["stlye=picasso"], ["stlye=picasso: there is no key stlye; did you mean style"]),
    (["evaluation=3"], ["evaluation=3: there is no key evaluation; did you mean evaluations"]),
    (["+optimizer.speed=3"], ["optimizer.speed=3: there is no such key; keys: _target_", "lr"]),
    (["size=["], ["size=[: this override can't be read"]),
    (["weights.style=1e5", "1e6"], ["for a sweep over values: -m weights.style=1e5,1e6"]),
    (["nonsense"], ["nonsense: an override has the form KEY=VALUE, such as content.path=nonsense"]),
    (["encoder.weights=SLIM", "encoder=vgg19"], ["encoder.weights=", "is of slim, not of vgg19; choose encoder=slim"]),
    (["encoder.weights=LIST"], ["encoder.weights=", "no dictionary of weights"]),
    (["encoder.weights=TEXT"], ["encoder.weights=", "not a checkpoint of weights"]),
    (["encoder.weights=NONE.pth"], ["encoder.weights=NONE.pth: there is no such file"]),
    (
        ["encoder=torchvision", "layers=resnet", "encoder.weights=."],
        ["encoder.weights=.: this is a folder, not a file"],
    ),
    (
        ["encoder=vgg16", "encoder.weights=auto", "encoder.url=null"],
        ["encoder: weights=auto needs url and sha256"],
    ),
    (["hydra.run.dir=FILE/run"], ["hydra.run.dir=", "can't be written: ", "is not a folder"]),
    (["hydra.run.dir=/proc/run"], ["hydra.run.dir=/proc/run: can't be written"]),
    (["resume=NOWHERE"], ["resume=", "there is no such folder"]),
    (["resume=FOLDER"], ["resume=", "this folder contains no run: it has no config.yaml"]),
    (["size", "512"], ["size 512: an override has the form KEY=VALUE: size=512"]),
    (["-m", "resume=FOLDER", "size=32,64"], ["resume: continues a single run"]),
    (["-m", "++resume=FOLDER", "size=32,64"], ["resume: continues a single run"]),
    (["--cfg", "job", "resume=FOLDER"], ["resume: continues a single run"]),
    (["pair=null"], ["pair=null: this is the default, which can't be given; leave out pair"]),
    (["weights=5"], ["weights=5: there is no such option; to set the style weight: weights.style=5"]),
    (["encoder=null"], ["encoder=null: there is no such option; choices: slim"]),
    (["trainer.accelerator=mps"], ["trainer: ", "MPSAccelerator"]),
    (["trainer.devices=0"], ["trainer.devices=0: must be greater than 0"]),
    (
        ["trainer.devices=2", "tile=off"],
        ["tile=off: trainer.devices=2 needs tiles", "choices: auto, or a size"],
    ),
    (["trainer.devices=2", "tile=40"], ["trainer.devices=2: tile=40 gives only 1 tile of the picture (32 x 26 px)"]),
    (["trainer.devices=3"], ["trainer.devices=3: tile=auto gives only 2 tiles of the picture (32 x 26 px)"]),
    (["trainer.devices=2", "trainer.accelerator=gpu"], ["trainer.accelerator=gpu: ", "choices: auto, cpu"]),
    (["+trainer.strategy=ddp"], ["trainer: strategy: nst sets this itself"]),
    (
        ["trainer.devices=2", "objective=sliced_wasserstein"],
        [
            "trainer.devices=2: the style term sliced_wasserstein (objective/style) reads the picture as a whole",
            "with trainer.devices=1",
        ],
    ),
    (["trainer.deterministic=perhaps"], ["trainer.deterministic=perhaps: must be"]),
    (["+trainer.precision=64"], ["trainer: precision: nst sets this itself, from evaluations, precision"]),
    (["+trainer.bogus=1"], ["trainer: ", "unexpected keyword argument 'bogus'"]),
    (["+trainer.max_steps=3"], ["trainer: max_steps: nst sets this itself, from evaluations"]),
    (["evaluations=true"], ["evaluations=True: must be a valid integer"]),
    (["size=32.0"], ["size=32.0: must be a valid integer"]),
    (["seed=4294967296"], ["seed=4294967296: must be less than 4294967296"]),
    (["layers.style=relu1_1"], ["layers.style=relu1_1: must be a list: 'layers.style=[relu1_1]'"]),
    (["content.path=''"], ["content.path=: must not be empty"]),
    (["name=../x"], ["name=../x: has characters that are not allowed"]),
    ([f"name='{'画' * 70}'"], [": has 210 bytes; at most 200 are allowed"]),
    (["name=.."], ["name=..: has characters that are not allowed"]),
    (["style.path=${nope}"], ["style.path: Interpolation key 'nope' not found"]),
    (["name=a~b"], ["can't be read", "inside the shell's quotes: \"name='…'\""]),
    (["style.path=~/x.jpg"], ["style.path=", "/x.jpg: there is no such file"]),
    (["style.path='~/x.jpg'"], ["style.path=", "/x.jpg: there is no such file"]),
    (["--config-dir", "nowhere"], ["--config-dir=nowhere: there is no such folder"]),
    (["callbacks.snapshot._target_=nst.callbacks.Nope"], ["callbacks", "nst.callbacks.Nope"]),
    (["~callbacks.snapshot._target_"], ["callbacks.snapshot._target_: must be given"]),
    (["callbacks.snapshot._target_=nst.callbacks.ProgressBar"], ["callbacks", "every_evaluations"]),
    (["pooling._target_=torch.nn.Nope"], ["pooling", "torch.nn.Nope"]),
    (["objective.content._target_=nst.nope"], ["objective", "nst.nope"]),
    (
        ["objective/style=[gram,nope]"],
        ["objective/style=nope: there is no such option; choices: covariance, feature_"],
    ),
    (["style=[picasso,scream]"], ["style=[picasso,scream]: takes one option", "style=picasso,scream", "style/more=["]),
    (["optimizer=[adam,lbfgs]"], ["optimizer=[adam,lbfgs]: takes one option", "with -m: optimizer=adam,lbfgs"]),
    (["objective/style=[]"], ["objective/style=[]: at least one style term is needed"]),
    (["objective.style.gram.weight=-1"], ["objective.style.gram.weight=-1: must be greater than or equal to 0"]),
    (["objective.relative=maybe"], ["objective.relative=maybe: must be"]),
    (["objective.tv.exponent=0"], ["objective.tv.exponent=0: must be greater than 0"]),
    (["objective.laplacian.pool=0"], ["objective.laplacian.pool=0: must be greater than 0"]),
    (["weights.laplacian=-1"], ["weights.laplacian=-1: must be greater than or equal to 0"]),
    (
        ["objective=long_range", "objective.style.shifted_gram.statistic.shifts=[0]"],
        ["objective.style.shifted_gram.statistic.shifts.0=0: must be greater than 0"],
    ),
    (
        ["objective=sliced_wasserstein", "tile=32"],
        ["tile=32: the style term sliced_wasserstein (objective/style)", "choices: tile=auto or tile=off"],
    ),
    (["size=abc"], ["size=abc: must be a valid integer or null"]),
    (["threads=0"], ["threads=0: must be greater than 0 or null"]),
    (["metrics=slim"], ["metrics=slim: must be a list: 'metrics=[slim]' or null"]),
    (["schedule.patience=x"], ["schedule.patience=x: must be a valid integer or null"]),
    (["callbacks.checkpoint.every_seconds=0"], ["every_seconds=0: must be greater than 0 or null"]),
    (["name=''"], ["name=", "null is allowed"]),
    (["tile=abc"], ["tile=abc: must be 'auto' or 'off' or a valid integer"]),
    (["memory=0"], ["memory=0: must be 'auto' or greater than 0"]),
    (["optimizer._target_=torch.optim.SGD"], ["optimizer: got an unexpected keyword argument 'history_size'"]),
    (["logger.tensorboard._target_=nowhere.Logger"], ["logger", "nowhere"]),
    (["schedule.patience=0"], ["schedule.patience=0: must be greater than 0"]),
    (["schedule.min_improvement=1"], ["schedule.min_improvement=1: must be less than 1"]),
    (["schedule=single", "schedule.scales=2"], ["schedule.scales=2: there is no key schedule.scales"]),
    (
        ["schedule=pyramid", "schedule.scales=3", "schedule.smallest=null"],
        [
            "schedule.smallest=null: the first scale would be 8 x 6 px, but relu5_1 needs at least 16 px",
            "choose larger scales or shallower layers",
        ],
    ),
    (["schedule=pyramid", "schedule.sizes=[20,32]"], ["schedule.sizes=[20, 32]: the last scale is 32 px"]),
    (["schedule=pyramid", "schedule.sizes=[24,20]"], ["schedule: sizes=[24, 20]: must ascend"]),
    (["schedule=pyramid", "schedule.sizes=[0]"], ["schedule.sizes.0=0: must be greater than 0"]),
    (["schedule=pyramid", "schedule.scales=0"], ["schedule.scales=0: must be greater than 0"]),
    (
        ["schedule=pyramid", "schedule.smallest=null"],
        ["schedule: scales, smallest, sizes: all are null; give at least one of them"],
    ),
    (["schedule=pyramid", "schedule.ratio=1"], ["schedule.ratio=1: must be greater than 1"]),
    (
        ["schedule=pyramid", "schedule.carry=magic"],
        [
            "schedule.carry=magic: must be 'upsample', 'upsample_bilinear', 'content_detail' or "
            "'finest_detail_before_last'"
        ],
    ),
    (
        ["schedule=pyramid", "schedule.scales=1", "schedule.shares=[1,2]"],
        ["schedule.shares=[1, 2]: a value for each of the 1 scales is needed (32 px)"],
    ),
    (
        ["schedule=pyramid", "schedule.sizes=[20]", "schedule.factors.tv=[1]"],
        ["schedule.factors.tv=[1]: a value for each of the 2 scales is needed (20, 32 px)"],
    ),
    (
        ["schedule=pyramid", "schedule.factors.tv=[-1]"],
        ["schedule.factors.tv.0=-1: must be greater than or equal to 0"],
    ),
    (
        ["schedule=pyramid", "schedule.sizes=[20]", "evaluations=1"],
        ["evaluations=1: leaves one of the 2 scales without"],
    ),
    (
        ["schedule=pyramid", "schedule.sizes=[20]", "schedule.shares=[0.01,1]"],
        ["schedule.shares=[0.01, 1]: leaves one of the 2 scales without an evaluation"],
    ),
    (["schedule._target_=nst.optimizer.schedule.nope"], ["schedule", "nst.optimizer.schedule.nope"]),
]


@pytest.mark.parametrize(("overrides", "expected"), TABLE, ids=lambda value: " ".join(value)[:50])
def test_a_mistake_gets_one_clear_message(
    invoke: Invoke, files: dict[str, Path], overrides: list[str], expected: list[str]
) -> None:
    def named(text: str) -> str:
        for name, path in files.items():
            text = text.replace(f"={name}", f"={path}")
        return text

    status, lines = invoke(*map(named, overrides))
    assert status == 2
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    for part in expected:
        assert part in lines[0]


def test_a_checkpoint_in_another_convention_is_named(invoke: Invoke, tmp_path: Path) -> None:
    packaged = oxford.find()
    assert packaged is not None
    theirs = encoder.random_state("vgg19", 0)
    theirs["features.0.weight"][0] = torch.tensor(encoder._PUBLISHED[2][3]).view(3, 3, 3)
    torch.save(theirs, tmp_path / "theirs.pth")
    for option, path, network, right in (
        ("vgg19", packaged.path, "Oxford's VGG-19, in the convention caffe", "vgg19_caffe"),
        ("vgg19_caffe", tmp_path / "theirs.pth", "torchvision's VGG-19, in the convention torchvision", "vgg19"),
    ):
        status, [line] = invoke(f"encoder={option}", f"encoder.weights={path}")
        assert status == 2
        assert line.startswith(f"error: encoder.weights={path}: its first filters are those of {network}")
        assert line.endswith(f"choose encoder={right}")


def test_several_mistakes_are_reported_together(invoke: Invoke, files: dict[str, Path]) -> None:
    status, lines = invoke(
        "weights.style=-1", "evaluations=0", f"content.path={files['TEXT']}", "style.path=NONE",
        "layers.content=[relu6_1]",
        f"hydra.run.dir={files['FILE']}/run",
    )  # fmt: skip
    assert status == 2
    keys = [line.removeprefix("error: ").split("=")[0] for line in lines]
    assert keys == ["weights.style", "evaluations", "layers.content", "content.path", "style.path", "hydra.run.dir"]


def test_unknown_options_and_keys_are_reported_together(invoke: Invoke) -> None:
    status, lines = invoke("style=starry", "optimizr.lr=1", "optimizer=sgd", "sise=3")
    assert status == 2
    assert len(lines) == 4


#: An option's file, and the answer after the file's name.
FILES = [
    (b"size: [128\n", r", line 1: this is not valid YAML: expected ',' or ']'"),
    (b"size: 64\nsize: 65\n", r", line 2: this is not valid YAML: found duplicate key size"),
    (b"size: \xff\n", r": this is not valid YAML: 'utf-8' codec can't decode byte 0xff"),
    (b'size: "\x01"\n', r": this is not valid YAML: unacceptable character #x0001"),
    (b"# @package _global_\n- size\n", r": this file must have keys and values"),
]


@pytest.mark.parametrize(("content", "answer"), FILES)
@pytest.mark.parametrize("more", [[], ["-m", "seed=1,2"], ["--cfg", "job"]], ids=" ".join)
def test_a_file_that_is_no_configuration(
    invoke: Invoke, tmp_path: Path, content: bytes, answer: str, more: list[str]
) -> None:
    file = tmp_path / "own" / "experiment" / "mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    (tmp_path / "own" / "outputs" / "run").mkdir(parents=True)
    (tmp_path / "own" / "outputs" / "run" / "overrides.yaml").write_text("- size=64\n")  # no option's file
    status, [line] = invoke("--config-dir", str(tmp_path / "own"), "experiment=mine", *more)
    assert status == 2
    assert line.startswith(f"error: {file}{answer}")


def test_an_experiment_whose_file_has_no_header(invoke: Invoke, tmp_path: Path) -> None:
    file = tmp_path / "own" / "experiment" / "mine.yaml"
    file.parent.mkdir(parents=True)
    header = "begin its file with: # @package _global_"
    for content, value, why in (
        ("size: 64\n", "{'size': 64}", header), ("- size\n", "['size']", "must have keys and values"),
    ):  # fmt: skip
        file.write_text(content)
        status, [line] = invoke("--config-dir", str(tmp_path / "own"), "experiment=mine")
        assert status == 2
        assert line.startswith(f"error: experiment={value}: ")
        assert line.endswith(f"{why} (set by {file})")


def test_the_file_of_a_wrong_value_is_named(invoke: Invoke, tmp_path: Path) -> None:
    file = tmp_path / "own" / "experiment" / "mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("# @package _global_\nszie: 64\nseed: abc\noptimizer: {lr: -1}\n")
    status, told = invoke("--config-dir", str(tmp_path / "own"), "experiment=mine", "weights.style=x")
    assert status == 2
    lines = {line.partition("=")[0]: line for line in told}
    for key in ("error: szie", "error: seed", "error: optimizer.lr"):
        assert lines[key].endswith(f"(set by {file})")
    assert "set by" not in lines["error: weights.style"]


def test_a_download_with_the_wrong_hash(invoke: Invoke, pictures: tuple[Path, Path], tmp_path: Path) -> None:
    import threading
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(pictures[0].parent))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        status, lines = invoke("content.path=null", f"content.url=http://127.0.0.1:{server.server_port}/content.png")
        server.shutdown()
    assert status == 2
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 1
    assert "content.url=http://127.0.0.1" in errors[0]
    assert "has the SHA-256" in errors[0]
    assert not list((tmp_path / "cache").rglob("*.png"))


def test_strict_assets_are_never_replaced(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oxford, "PACKAGE", "not_installed")
    status, lines = invoke(
        "assets=strict", "content.path=null", "style.path=null", "encoder=vgg19", "encoder.weights=auto",
        *(f"{group}.url={NOWHERE}/{group}.bin" for group in ("content", "style", "encoder")),
    )  # fmt: skip
    assert status == 2
    keys = [line.removeprefix("error: ").split("=")[0] for line in lines]
    assert keys == ["content", "style", "encoder.weights"]
    assert all("can't be reached" in line and ".path=FILE" in line for line in lines[:2])


def test_a_user_who_asks_for_it_gets_the_traceback(nst: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    assert "Traceback" in nst("style=starry").stderr


def test_the_status_reaches_the_shell(nst: Command, small: list[str]) -> None:
    finished = nst(*small, "size=0")
    assert (finished.returncode, finished.stdout) == (2, "")
    assert finished.stderr == "error: size=0: must be greater than 0 or null\n"


def test_a_folder_without_permission(invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    if os.access(locked, os.W_OK):  # the superuser may write anywhere
        monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != locked)
    status, lines = invoke(f"hydra.run.dir={locked}/run")
    assert status == 2
    assert lines == [f"error: hydra.run.dir={locked}/run: can't be written: no permission in {locked}"]


@pytest.mark.parametrize("module", ["nst.train", "nst.compare", "nst.metrics", "nst", "nst.cli.info"])
def test_a_python_without_the_packages_is_told_what_to_do(module: str) -> None:
    """``-S`` hides the installed packages, as if the virtual environment were not active."""
    command = [sys.executable, "-S", "-m", module, *(["train"] if module == "nst" else ["outputs"])]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    finished = subprocess.run(command, cwd=TOP, env=environment, capture_output=True, text=True, check=False)
    [line] = finished.stderr.splitlines()
    assert finished.returncode == 2
    assert f"is not installed for {sys.executable}" in line
    assert "make setup" in line
    assert "source .venv/bin/activate" in line


@pytest.mark.parametrize("name", ["nst.paint", "nst", "hydra.nothing", "zoneinfo", None])
def test_a_bug_keeps_its_traceback(name: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    say_what_is_missing(ModuleNotFoundError, ModuleNotFoundError("no such module", name=name), None)
    assert "ModuleNotFoundError: no such module" in capsys.readouterr().err
