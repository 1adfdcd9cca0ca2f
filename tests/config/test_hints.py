"""A natural mistake is answered by the next thing to type."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nst.run import single
from tests.conftest import Command

#: A command line that somebody who knows other programs types, and what the answer must contain.
MISTAKES = [
    ("content=photo.jpg", "content.path=photo.jpg"),
    ("style=pictures/painting.png", "style.path=pictures/painting.png"),
    ("photo.jpg painting.jpg", "content.path=photo.jpg"),
    ("--style picasso", "style=picasso"),
    ("--content-image photo.jpg", "overrides start without dashes"),
    ("content.path=https://example.org/a.jpg", "download the picture and give its file"),
    ("style.mask=http://example.org/a.png", "download the picture"),
    ("content_image=photo.jpg", "did you mean content.path?"),
    ("style_img=photo.jpg", "did you mean style.path?"),
    ("iterations=500", "did you mean evaluations?"),
    ("num_steps=300", "did you mean evaluations?"),
    ("epochs=3", "did you mean evaluations?"),
    ("lr=0.1", "did you mean optimizer.lr?"),
    ("optimizer.learning_rate=0.1", "optimizer.lr"),
    ("style_weight=1e6", "did you mean weights.style?"),
    ("content_weight=5", "did you mean weights.content?"),
    ("tv_weight=1", "did you mean weights.tv?"),
    ("weights=1e6", "weights.style=1e6"),
    ("weights.stlye=1e6", "did you mean weights.style"),
    ("device=cuda", "did you mean trainer.accelerator?"),
    ("gpu=0", "did you mean trainer.accelerator?"),
    ("trainer.accelerator=gpu", "choices: auto, cpu"),
    ("precision=16", "choices: auto, bf16, 32, 64"),
    ("precision=half", "'auto', 'bf16', 16, 32 or 64"),
    ("image_size=512", "did you mean size?"),
    ("size=512px", "must be a valid integer"),
    ("size=512,1024", "need -m"),
    ("weights.style=1e5,1e6", "need -m"),
    ("style=picasso,scream", "need -m"),
    ("style=[picasso,scream]", "style/more=["),
    ("layers.content=conv4_2,conv5_2", "'layers.content=[conv4_2,conv5_2]'"),
    ("layers.style=relu1_1", "'layers.style=[relu1_1]'"),
    ("layers=relu1_1", "'layers.style=[relu1_1]'"),
    ("layers.style=[relu6_1]", "did you mean relu"),
    ("weights.style_layers.relu1_1=0.5", "+weights.style_layers.relu1_1=0.5"),
    ("style.more.scream.weight=0.5", "'style/more=[scream]'"),
    ("objective=histogram", "'objective/style=[histogram]'"),
    ("optimizer=LBFGS", "did you mean lbfgs?"),
    ("optimizer=sgd", "choices: adam"),
    ("style=picaso", "did you mean picasso?"),
    ("pooling=average", "did you mean avg?"),
    ("encoder=torchvision encoder.weights=random", "layers=resnet"),
    ("preserve_color=true", "did you mean color=luminance?"),
    ("output=jpg", "'jpeg'"),
    ("output_dir=out", "did you mean hydra.run.dir?"),
    ("experiment=seed_lbfgs", "run it with -m"),
    ("resume=nowhere", "there is no such folder"),
    ("model=vgg16", "did you mean encoder?"),
    ("experiment=null", "leave out experiment"),
    ("objective.style=mean_std", "chosen with a slash: 'objective/style=[mean_std]'"),
    ("style.more=[picasso,scream]", "chosen with a slash: 'style/more=[picasso,scream]'"),
    ("-m objective.style=gram,mean_std", "chosen with a slash: objective/style=gram,mean_std"),
    ("hydra.launcher=joblib", "chosen with a slash: hydra/launcher=joblib"),
    ("objective.style.gram=2", "must have keys, not a value"),
    ("+logger=csv", "leave out the +: logger=csv; several: 'logger=[NAME,csv]'"),
    ("-m style=picasso, scream", "no spaces after the commas: style=picasso,scream"),
    ("weights.style", "KEY=VALUE: weights.style=VALUE"),
    ("seed", "KEY=VALUE: seed=VALUE"),
    ("init.path=photo.jpg", "init=image init.path=photo.jpg"),
    ("optimizer.betas=[0,0.9]", "optimizer=adam optimizer.betas=[0,0.9]"),
    ("weights.style = 1e5", "weights.style = 1e5: an override has the form KEY=VALUE, without spaces"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "hint"), MISTAKES)
def test_a_natural_mistake_is_answered_by_what_to_type(inside: Command, line: str, hint: str) -> None:
    if line.startswith("trainer.accelerator") and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    finished = inside(*line.split(" "))
    assert finished.returncode == 2
    assert "Traceback" not in finished.stderr
    told = finished.stderr.splitlines()
    assert all(each.startswith("error: ") for each in told)
    assert any(hint in each for each in told), finished.stderr
    assert len(finished.stderr) < 2500
    if "://" in line:
        assert len(told) == 1


def test_a_missing_file_is_answered_by_the_one_most_like_it(inside: Command, tmp_path: Path) -> None:
    for name in ("Photo.JPG", "painting.png", "notes.txt"):
        (tmp_path / name).touch()
    finished = inside("content.path=photo.jpg", "style.path=paintng.png", "encoder.weights=vgg.pth")
    assert finished.returncode == 2
    assert finished.stderr.splitlines() == [
        "error: content.path=photo.jpg: there is no such file; did you mean Photo.JPG?",
        "error: style.path=paintng.png: there is no such file; did you mean painting.png?",
        "error: encoder.weights=vgg.pth: there is no such file",
    ]


def test_a_folder_is_no_file_and_a_file_no_folder(inside: Command, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "file").touch()
    for words, why in {
        "rerun=runs": "this is a folder, not a file",
        "encoder.weights=runs": "this is a folder, not a file",
        "resume=file": "this is a file, not a folder",
        "resume=run": "there is no such folder; did you mean runs?",
        "--config-dir file": "this is a file, not a folder",
    }.items():
        [line] = inside(*words.split(" ")).stderr.splitlines()
        assert line.endswith(f"{re.split('[= ]', words)[1]}: {why}")


def test_a_text_among_the_files_is_told_before_torch_is_imported(tmp_path: Path) -> None:
    """It would cost the user eight seconds for each picture that isn't one."""
    (tmp_path / "notes.txt").write_text("not a picture")
    keys = ("content.path", "style.path", "style.region", "style.mask", "init.path", "encoder.weights")
    words = ["init=image", *(f"{key}=notes.txt" for key in keys), "encoder.normalize_on=notes.txt"]
    command = [sys.executable, "-X", "importtime", "-m", "nst.train", *words]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    lines = finished.stderr.splitlines()
    told = [line for line in lines if line.startswith("error: ")]
    assert sorted(line.split("=")[0] for line in told) == sorted(
        f"error: {key}" for key in (*keys, "encoder.normalize_on")
    )
    imported = {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}
    assert "pydantic" in imported
    assert not {"torch", "pytorch_lightning", "torchvision"} & imported
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_weights_for_means_beside_the_papers_sum(inside: Command, small: list[str]) -> None:
    told = "with weights.style=1e6, the picture stays a photograph. Add weights=paper"
    said = inside(*small, "objective=paper", "evaluations=1").stderr
    assert told in said
    [command] = re.findall(r"python -m nst\.train (objective=paper .*)", said)
    config, chosen = single.checked(command.split())
    assert {chosen[group] for group in ("objective", "weights", "layers")} == {"paper"}
    assert (config.encoder.normalize_on, config.weights.style) == ("bundled", 3e7)
    told = "style.weight=2 changes nothing: it is relative to the weights of other styles"
    assert told in inside(*small, "style.weight=2", "evaluations=1").stderr
    assert "photograph" not in inside(*small, "objective=paper", "weights=paper", "evaluations=1").stderr


def test_a_mistake_beside_an_option_of_ones_own(inside: Command, tmp_path: Path) -> None:
    (tmp_path / "mine" / "style").mkdir(parents=True)
    (tmp_path / "mine" / "style" / "mystyle.yaml").write_text("name: mystyle\npath: mystyle.jpg\n")
    finished = inside("--config-dir", "mine", "experiment=TYPO", "style=mystyle")
    assert finished.returncode == 2
    [line] = finished.stderr.splitlines()
    assert line.startswith("error: experiment=TYPO: there is no such option; ")
    misspelled = inside("--config-dir", "mine", "style=mystlye")
    assert "did you mean mystyle? choices: " in misspelled.stderr
