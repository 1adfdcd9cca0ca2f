"""``nst.stylize``: the command line's run, from Python."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from IPython.display import DisplayHandle
from PIL import Image

import nst
from nst import image, paths
from nst.errors import UserError

from .conftest import NOWHERE, Command, assert_equal


@pytest.fixture
def few(small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Overrides for a small run, but for its pictures."""
    monkeypatch.chdir(tmp_path)
    return [word for word in small if ".path=" not in word]


def test_it_is_the_command_lines_run(
    inside: Command, small: list[str], few: list[str], pictures: tuple[Path, Path], tmp_path: Path
) -> None:
    assert inside(*small, "hydra.run.dir=line").returncode == 0
    result = nst.stylize(str(pictures[0]), pictures[1], [*few, "hydra.run.dir=python"])
    assert result.folder == tmp_path / "python"
    assert_equal(tmp_path / "line", result.folder)
    names = {path.name for path in (tmp_path / "line").iterdir()}
    assert {path.name for path in result.folder.iterdir()} | {"train.log"} == names
    assert result.summary["status"] == "completed"
    assert result.losses["evaluation"] == [1, 2, 3, 4, 5, 6]
    assert min(result.losses["total"]) == result.summary["losses"]["total"]
    assert np.array_equal(np.asarray(result.picture), np.asarray(Image.open(result.folder / "result.png")))
    assert result._repr_png_() == (result.folder / "result.png").read_bytes()


def test_pictures_that_are_no_files(few: list[str], pictures: tuple[Path, Path], tmp_path: Path) -> None:
    """They are kept beside the run, which can therefore go on, and make the same picture as their files."""
    files = nst.stylize(*pictures, few)
    with Image.open(pictures[0]) as content:
        memory = nst.stylize(content, image.load(pictures[1], key="style")[0], few)
    assert files.picture.tobytes() == memory.picture.tobytes()
    assert files.folder != memory.folder
    kept = memory.folder / "inputs" / "content.png"
    assert memory.summary["assets"]["content"]["path"] == str(kept)
    assert np.array_equal(np.asarray(Image.open(kept)), np.asarray(Image.open(pictures[0])))


def test_pil_images_of_any_kind(few: list[str], pictures: tuple[Path, Path], tmp_path: Path) -> None:
    """As their files are read: upright, in sRGB."""
    with Image.open(pictures[0]) as content:
        exif = content.getexif()
        exif[0x0112] = 6  # turned by a quarter
        content.save(tmp_path / "turned.jpg", exif=exif)
        assert nst.stylize(content.convert("CMYK"), pictures[1], few).picture.size == (32, 26)
    with Image.open(tmp_path / "turned.jpg") as turned:
        one, two = (nst.stylize(it, pictures[1], few) for it in (turned, tmp_path / "turned.jpg"))
    assert one.picture.size == (26, 32)
    assert one.picture.tobytes() == two.picture.tobytes()


def test_within_a_program_that_uses_hydra_itself(few: list[str], pictures: tuple[Path, Path]) -> None:
    with initialize_config_dir(str(paths.configs()), version_base="1.3"):
        nst.stylize(*pictures, few)
        assert compose("train").size == 384
    with pytest.raises(UserError, match=r"hydra\.mode: this makes a single run"):
        nst.stylize(*pictures, [*few, "hydra.mode=MULTIRUN"])


def test_options_by_name(few: list[str]) -> None:
    urls = [f"{group}.url={NOWHERE}/{group}.bin" for group in ("content", "style")]
    result = nst.stylize("ballerina", "picasso", [*few, *urls, "evaluations=1"])
    assert result.summary["assets"]["style"]["source"] == "stand-in"
    assert result.summary["name"].startswith("ballerina-picasso")


@pytest.mark.parametrize(
    ("content", "overrides", "said"),
    [
        ("none.jpg", [], "content.path=.*none.jpg: there is no such file"),
        (torch.rand(2, 3, 8, 8), [], r"content=tensor of shape \(2, 3, 8, 8\), torch.float32: an image tensor is"),
        (
            Image.new("RGB", (40, 30)),
            ["optimizer=sgd", "siz=3"],
            "optimizer=sgd: there is no such option(.|\n)*no key siz",
        ),
        (Image.new("RGB", (40, 30)), ["size=0", "color=red"], "size=0: (.|\n)*color=red"),
        (Image.new("RGB", (40, 30)), ["experiment=pooling"], "experiment=pooling: a study"),
    ],
)
def test_mistakes(
    few: list[str], pictures: tuple[Path, Path], tmp_path: Path, content: Any, overrides: list[str], said: str
) -> None:
    before = set(tmp_path.iterdir())
    with pytest.raises(UserError, match=said):
        nst.stylize(content, pictures[1], [*few, *overrides])
    assert set(tmp_path.iterdir()) == before


def test_a_notebook_sees_the_picture_on_its_way(
    few: list[str], pictures: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[tuple[str, Image.Image]] = []
    monkeypatch.setattr(DisplayHandle, "display", lambda self, it: shown.append(("first", it)))
    monkeypatch.setattr(DisplayHandle, "update", lambda self, it: shown.append(("next", it)))
    result = nst.stylize(*pictures, [*few, "callbacks.preview.every_evaluations=2"], preview=True)
    assert [how for how, _ in shown] == ["first", "next", "next", "next"]
    assert shown[-1][1].tobytes() == result.picture.tobytes()
    monkeypatch.setitem(sys.modules, "IPython.display", None)
    with pytest.raises(UserError, match=r"callbacks.preview: needs an extra: pip install 'nst\[notebook\]'"):
        nst.stylize(*pictures, few, preview=True)
