"""Pictures as files: their numbers, their profile, and the configuration from which they can be made again."""

import hashlib
import io
import shutil
from pathlib import Path

import numpy as np
import png
import pytest
import tifffile
import torch
import yaml
from PIL import Image, ImageCms

from nst import image
from nst.config.identity import FIRST_LINE, note
from nst.config.source import read_note
from nst.errors import UserError
from nst.image import output
from tests.conftest import Command


@pytest.mark.parametrize("format", output.SUFFIXES)
def test_a_picture_has_its_numbers_its_profile_and_its_note(tmp_path: Path, format: str) -> None:  # noqa: A002
    values = torch.rand(1, 3, 9, 14, generator=torch.Generator().manual_seed(0))
    path = tmp_path / f"x{output.SUFFIXES[format]}"
    output.save(values, path, format=format, note=note({"size": 14, "style": {"name": "Grüße"}}, {"content": "ab"}))
    assert read_note(path, key="rerun") == {"size": 14, "style": {"name": "Grüße"}, "sha256": {"content": "ab"}}
    with Image.open(path) as opened:
        profile = opened.info["icc_profile"]
        assert "sRGB" in ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile)))
    exact = values[0].permute(1, 2, 0).numpy()
    if format == "tiff":
        assert np.array_equal(tifffile.imread(path), np.round(exact * 65535).astype(np.uint16))
    elif format == "png16":
        width, height, rows, facts = png.Reader(filename=str(path)).read()
        found = np.array([list(row) for row in rows]).reshape(height, width, 3)
        assert facts["bitdepth"] == 16
        assert np.array_equal(found, np.round(exact * 65535))
    read = image.load(path, key="x")
    assert (read - values).abs().max() < {"png": 0.51 / 255, "jpeg": 0.3}.get(format, 1.01 / 255)
    again = tmp_path / f"again{path.suffix}"
    output.save(values, again, format=format, note=note({"size": 14, "style": {"name": "Grüße"}}, {"content": "ab"}))
    assert path.read_bytes() == again.read_bytes()


def test_a_note_has_no_paths_and_nothing_of_how_a_run_is_made() -> None:
    config = {"size": 3, "style": {"path": "/home/me/x.jpg", "more": [{"mask": "/y.png"}]}, "trainer": {"devices": 4}}
    noted = note(config, {})
    assert "/home" not in noted
    assert "trainer" not in noted
    assert noted.endswith("size: 3\nstyle:\n  path: ???\n  more:\n  - mask: ???\nsha256: {}\n")


@pytest.mark.parametrize("format", output.SUFFIXES)
def test_a_picture_is_made_again_from_itself(inside: Command, small: list[str], tmp_path: Path, format: str) -> None:  # noqa: A002
    pictures = small[:2]
    words = [*small, "optimizer=adam", "layers.style=[relu1_1,relu2_1]", "color=yiq", f"output={format}"]
    assert inside(*words, "hydra.run.dir=one").returncode == 0
    picture = tmp_path / "one" / f"result{output.SUFFIXES[format]}"
    assert (tmp_path / "one" / "result.png").is_file()
    moved = shutil.copy(picture, tmp_path / f"moved{picture.suffix}")
    usual = ["trainer.accelerator=cpu", "threads=1", "metrics=null", f"output={format}"]
    finished = inside(f"rerun={moved}", *pictures, *usual, "hydra.run.dir=two")
    assert finished.returncode == 0, finished.stderr
    assert picture.read_bytes() == (tmp_path / "two" / picture.name).read_bytes()
    assert (tmp_path / "one" / "losses.csv").read_bytes() == (tmp_path / "two" / "losses.csv").read_bytes()


def test_a_picture_is_made_again_with_changes(inside: Command, small: list[str], tmp_path: Path) -> None:
    assert inside(*small, "optimizer=adam", "hydra.run.dir=one").returncode == 0
    words = ["rerun=one/result.png", *small[:2], "trainer.accelerator=cpu", "threads=1", "metrics=null"]
    assert inside(*words, "init=image", "init.path=one/result.png", "hydra.run.dir=two").returncode == 0
    assert "_target_: nst.optimizer.start.image" in (tmp_path / "two" / "config.yaml").read_text()
    assert "_target_: torch.optim.Adam" in (tmp_path / "two" / "config.yaml").read_text()
    finished = inside("-m", *words, "weights.style=1e3,1e7", "hydra.sweep.dir=sweep")
    assert finished.returncode == 0, finished.stderr
    assert "2 of 2 runs are complete" in finished.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["experiment=preview"], "rerun={}/one/result.png: experiment=preview can't be combined with rerun"),
        (["rerun=none.png"], "rerun={}/none.png: there is no such file"),
        (["rerun=plain.png"], "rerun={}/plain.png: there is no configuration in this file"),
        (["nosuch=3"], "nosuch=3: there is no key nosuch"),
        (["-m", "rerun=a.png,b.png"], "rerun: takes one value and can't be swept"),
        (["style=picasso,scream"], "rerun={}/one/result.png: style=picasso,scream can't be combined with rerun"),
    ],
)
def test_mistakes(inside: Command, small: list[str], tmp_path: Path, words: list[str], said: str) -> None:
    assert inside(*small, "hydra.run.dir=one").returncode == 0
    Image.new("RGB", (40, 32)).save(tmp_path / "plain.png")
    finished = inside("rerun=one/result.png", *words)
    assert finished.returncode == 2
    assert finished.stderr.startswith(f"error: {said.format(tmp_path)}"), finished.stderr


def test_the_file_that_is_missing_is_named(inside: Command, small: list[str], tmp_path: Path) -> None:
    assert inside(*small, "hydra.run.dir=one", "init=image", f"init.{small[1].removeprefix('style.')}").returncode == 0
    (tmp_path / "one" / "result.png").rename(tmp_path / "alone.png")
    shutil.copy(tmp_path / "alone.png", tmp_path / "one")
    content, style = (Path(word.partition("=")[2]) for word in small[:2])
    files = {"content.path": content, "init.path": style, "style.path": style}
    for picture, beside in (("alone.png", False), ("one/alone.png", True)):
        finished = inside(f"rerun={picture}")
        assert finished.returncode == 2
        assert finished.stderr.splitlines() == [
            f"error: {key}: must be given; the picture was made from {path if beside else 'a file'} with the SHA-256 "
            f"{hashlib.sha256(path.read_bytes()).hexdigest()}"
            for key, path in files.items()
        ]


def test_of_a_nested_group_only_that_is_anew(inside: Command, small: list[str], tmp_path: Path) -> None:
    words = [*small, "objective=relative", "weights=relative", "style.scale=1.5"]
    assert inside(*words, "hydra.run.dir=one").returncode == 0
    shutil.copy(small[1].partition("=")[2], tmp_path / "more.png")
    again = [
        "rerun=one/result.png",
        *small[:2],
        "trainer.accelerator=cpu",
        "metrics=null",
        "objective/style=[mean_std]",
    ]
    finished = inside(*again, "style/more=[second]", "style.more.second.path=more.png", "hydra.run.dir=two")
    assert finished.returncode == 0, finished.stderr
    made = yaml.safe_load((tmp_path / "two" / "config.yaml").read_text())
    assert list(made["objective"]["style"]) == ["mean_std"]
    assert made["objective"]["relative"] is True
    assert made["style"]["scale"] == 1.5
    assert list(made["style"]["more"]) == ["second"]


@pytest.mark.parametrize(
    "node", [{"_target_": "pathlib.Path.touch", "_partial_": True}, {"kernel_size": "${oc.env:HOME}"}]
)
def test_nothing_that_a_picture_names_is_made(
    inside: Command, small: list[str], tmp_path: Path, node: dict[str, object]
) -> None:
    picture = tmp_path / "evil.png"
    hidden = {"pooling": {"_target_": "torch.nn.AvgPool2d", "inner": node}, "callbacks": {"x": node}}
    output.save(torch.rand(1, 3, 4, 4), picture, note=FIRST_LINE + yaml.safe_dump(hidden))
    finished = inside(f"rerun={picture}", *small[:2], "metrics=null")
    assert finished.returncode == 2
    assert "which is not part of nst; rerun only uses nst's classes" in finished.stderr


def test_other_files_than_a_picture_was_made_of_are_told(inside: Command, small: list[str], tmp_path: Path) -> None:
    assert inside(*small, "hydra.run.dir=one").returncode == 0
    shutil.copy(small[0].partition("=")[2], tmp_path / "same.png")
    words = ["rerun=one/result.png", "trainer.accelerator=cpu", "metrics=null"]
    same = inside(*words, "content.path=same.png", small[1])
    assert same.returncode == 0, same.stderr
    assert "the picture will be another" not in same.stderr
    other = inside(*words, "content.path=same.png", "style.path=same.png")
    assert other.returncode == 0
    assert "The style that the picture was made from had the SHA-256" in other.stderr


def test_a_start_that_was_changed_is_refused(inside: Command, small: list[str], tmp_path: Path) -> None:
    start = shutil.copy(small[0].partition("=")[2], tmp_path / "start.png")
    assert inside(*small, "init=image", "init.path=start.png", "evaluations=2", "hydra.run.dir=run").returncode == 0
    shutil.copy(small[1].partition("=")[2], start)
    finished = inside("resume=run", "evaluations=3")
    assert finished.returncode == 2
    assert "init had the SHA-256" in finished.stderr


def test_what_a_picture_holds_can_be_shown(inside: Command, small: list[str]) -> None:
    assert inside(*small, "optimizer=adam", "hydra.run.dir=one").returncode == 0
    shown = inside("rerun=one/result.png", "--cfg", "job")
    assert shown.returncode == 0, shown.stderr
    assert "_target_: torch.optim.Adam" in shown.stdout
    content = yaml.safe_load(shown.stdout)["content"]
    assert content == {"name": "file", "path": "???", "url": None, "sha256": None}, "not those of content=tubingen"
    [refused] = inside("rerun=one/result.png", "content.path=null", small[1]).stderr.splitlines()
    assert refused == "error: content: path, or url and sha256, must be given"


def test_a_note_that_jpeg_can_not_hold_costs_no_picture(tmp_path: Path) -> None:
    output.save(torch.rand(1, 3, 4, 4), tmp_path / "x.jpg", format="jpeg", note=FIRST_LINE + "# x" * 40000)
    assert image.load(tmp_path / "x.jpg", key="x").shape == (1, 3, 4, 4)


def test_a_damaged_note_is_refused(tmp_path: Path) -> None:
    output.save(torch.rand(1, 3, 4, 4), tmp_path / "x.png", note=f"{FIRST_LINE}- a\n- b\n")
    with pytest.raises(UserError, match="contains no keys"):
        read_note(tmp_path / "x.png", key="rerun")


def test_the_picture_that_was_asked_for_is_named(inside: Command, small: list[str], tmp_path: Path) -> None:
    finished = inside(*small, "evaluations=1", "output=jpeg", "hydra.run.dir=run")
    assert finished.returncode == 0
    [line] = finished.stdout.splitlines()
    assert line == f"The picture is at {tmp_path}/run/result.jpg"
    assert (tmp_path / "run" / "result.jpg").is_file()
