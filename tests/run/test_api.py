"""``nst.stylize``: the command line's run, from Python."""

import importlib.metadata
import io
import logging
import math
import os
import random
import signal
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from IPython.display import DisplayHandle
from omegaconf import OmegaConf
from PIL import Image, ImageFile

import nst
from nst import image
from nst.config.hydra_edge import parse
from nst.config.overrides import from_keywords
from nst.errors import DivergedError, UserError
from nst.files import paths
from tests.conftest import NOWHERE, Command, assert_equal


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


def test_keywords_beside_overrides(few: list[str], pictures: tuple[Path, Path], tmp_path: Path) -> None:
    """They make the same picture, and a text stays a text."""
    few = [word for word in few if word != "metrics=null"] + ["evaluations=2"]
    words = [
        *few,
        "metrics=null",
        "optimizer=adam",
        "optimizer.lr=0.05",
        "layers.content=[relu2_1]",
        "objective/style=[gram,mean_std]",
    ]
    written = nst.stylize(*pictures, [*words, "init=image", f"init.path={pictures[0]}", "schedule=single", "color=lab"])
    result = nst.stylize(
        *pictures,
        few,
        optimizer="adam",
        optimizer__lr=np.float32(0.05),
        layers__content=("relu2_1",),
        objective__style=["gram", "mean_std"],
        init="image",
        init__path=pictures[0],
        schedule="single",
        color="lab",
        metrics=None,
        trainer__deterministic=False,
        hydra__run__dir=tmp_path / "a, b = [c]",
        name="512",
    )
    assert result.folder.name == "a, b = [c]"
    assert result.summary["name"] == "512"
    assert result.picture.tobytes() == written.picture.tobytes()


def test_keywords_are_written_in_hydras_grammar() -> None:
    values = [
        None, True, False, 0, -3, 10**20, 0.1, 1e-5, 1e300, -2.5e16, math.inf, -math.inf, "adam", "null", "True", "nan",
        "512", "1e5", "", "a b", "it's", "${x}", "a,b", "[a]", "choice(a,b)", "ü", "x=y", "end\\",
        [], ["a", "1", None, [0.5, "b c"]],
    ]  # fmt: skip
    for value in values:
        [override] = parse(from_keywords({"key": value}))
        assert not override.is_sweep_override()
        read = OmegaConf.to_container(OmegaConf.create({"key": override.value()}), resolve=True)
        assert read == {"key": value}
        assert type(read["key"]) is type(value)
    names = ["style__more", "style__more__scream__weight", "objective__content", "weights__style", "size"]
    keys = ["style/more", "style.more.scream.weight", "objective/content", "weights.style", "size"]
    assert [override.key_or_group for override in parse(from_keywords(dict.fromkeys(names, 1)))] == keys


@pytest.mark.parametrize(
    ("overrides", "settings", "said"),
    [
        (["size=32"], {"size": 48}, "size=48: this key is given twice, by a keyword and by size=32"),
        ([], {"content__path": "a.png"}, "content.path=.*given twice, by a keyword and by content.path="),
        ([], {"siz": 3, "optimizer__lrr": 1}, "no key siz; did you mean size(.|\n)*did you mean optimizer.lr"),
        ([], {"optimizer": "sgd"}, "optimizer=sgd: there is no such option"),
        ([], {"weights": {"style": 1}}, "weights=.*: give a mapping by its keys, such as weights__style=…"),
        ([], {"size": object()}, "size=.*: object; choices: None, a bool"),
        ([], {"size": "32"}, "size=32: "),
        ("size=32", {}, "overrides=size=32: this is a text; give a list of texts"),
    ],
)
def test_mistakes_in_keywords(
    pictures: tuple[Path, Path], few: list[str], overrides: list[str], settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(nst.UserError, match=said):
        nst.stylize(*pictures, overrides, **settings)
    assert not list(Path.cwd().iterdir())


def test_the_package_has_its_version_and_its_exceptions() -> None:
    assert nst.__version__ == importlib.metadata.version("nst")
    assert (nst.UserError, nst.DivergedError) == (UserError, DivergedError)
    quick = (
        "import sys, nst; nst.UserError, nst.__version__; assert not {'torch', 'hydra', 'pydantic'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", quick], check=True)


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
    with pytest.raises(UserError, match=r"hydra\.mode: stylize makes a single run"):
        nst.stylize(*pictures, [*few, "hydra.mode=MULTIRUN"])


def test_options_by_name(few: list[str]) -> None:
    urls = [f"{group}.url={NOWHERE}/{group}.bin" for group in ("content", "style")]
    with pytest.warns(UserWarning, match=r"STAND-IN PICTURE: style picasso") as told:
        result = nst.stylize("ballerina", "picasso", [*few, *urls, "evaluations=1"])
    assert len(told) == 2
    assert result.summary["assets"]["style"]["source"] == "stand-in"
    assert result.summary["name"].startswith("ballerina-picasso")


@pytest.mark.parametrize(
    ("content", "overrides", "said"),
    [
        ("none.jpg", [], "content.path=.*none.jpg: there is no such file"),
        (
            torch.rand(2, 3, 8, 8),
            [],
            r"content=tensor of shape \(2, 3, 8, 8\), torch.float32: an image tensor has the shape",
        ),
        (
            Image.new("RGB", (40, 30)),
            ["optimizer=sgd", "siz=3"],
            "optimizer=sgd: there is no such option(.|\n)*no key siz",
        ),
        (Image.new("RGB", (40, 30)), ["size=0", "color=red"], "size=0: (.|\n)*color=red"),
        (torch.full((3, 20, 20), 255.0), [], "content=tensor .*from 255 to 255; divide by 255"),
        (torch.randn(3, 20, 20), [], "content=tensor .*undo the normalization"),
        (torch.full((3, 20, 20), torch.nan), [], "content=tensor .*infinite or NaN"),
        (torch.full((20, 20, 3), 0.5), [], r"channels last: permute it by \(2, 0, 1\)"),
        (torch.zeros(3, 20, 20, dtype=torch.int64), [], "floats in .*or uint8"),
        (np.full((20, 20, 3), 200.0), [], "content=array .*divide by 255"),
        (np.zeros((3, 20, 20)), [], r"channels first: transpose it by \(1, 2, 0\)"),
        (np.zeros((20, 20, 3), dtype=np.int32), [], "an array has uint8, or floats"),
        (np.zeros((0, 20, 3), dtype=np.uint8), [], r"an array has the shape \(H, W\)"),
        (b"no picture", [], "content=10 bytes: this file is not a picture"),
        (io.StringIO("text"), [], "open it with mode 'rb'"),
        (3, [], "content=int: this is not a picture; choices: the name of an option"),
        (None, [], "content=NoneType: this is not a picture"),
        (Image.new("RGB", (40, 30)), ["experiment=pooling"], "experiment=pooling: this study sweeps"),
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


def test_pictures_in_memory_make_the_picture_of_their_file(few: list[str], pictures: tuple[Path, Path]) -> None:
    with Image.open(pictures[0]) as opened:
        array = np.asarray(opened.convert("RGB"))
    given = [
        array,
        array / 255,
        (array / 255).astype(np.float32),
        torch.from_numpy(array.copy()).permute(2, 0, 1),
        torch.from_numpy(array / 255).permute(2, 0, 1)[None],
        pictures[0].read_bytes(),
        bytearray(pictures[0].read_bytes()),
        io.BytesIO(pictures[0].read_bytes()),
        pictures[0].open("rb"),
    ]
    few = [*few, "evaluations=1"]
    expected = nst.stylize(*pictures, few).picture.tobytes()
    for each in given:
        result = nst.stylize(each, pictures[1], few)
        assert result.picture.tobytes() == expected
        assert (result.folder / "inputs" / "content.png").is_file()
    grey = array[..., 0]
    made = [
        nst.stylize(each, pictures[1], few).picture.tobytes()
        for each in (grey, grey[..., None], np.stack([grey] * 3, 2))
    ]
    assert len(set(made)) == 1


def test_calls_of_several_threads_make_what_each_makes_alone(few: list[str], pictures: tuple[Path, Path]) -> None:
    calls = [
        [*few, "evaluations=2", f"seed={seed}", f"threads={1 + seed % 2}", f"hydra.run.dir=run{seed}"]
        for seed in range(12)
    ]
    with ThreadPoolExecutor(6) as pool:
        found = [result.picture.tobytes() for result in pool.map(lambda words: nst.stylize(*pictures, words), calls)]
    assert len(set(found)) == 12, "each has a picture of its own"
    alone = [nst.stylize(*pictures, [*words, f"hydra.run.dir=alone{n}"]) for n, words in enumerate(calls)]
    assert found == [result.picture.tobytes() for result in alone]


def host() -> dict[str, Any]:
    """The state of this process that a run may not change."""
    loggers = [logging.getLogger(name) for name in (None, "pytorch_lightning", "lightning_fabric", "nst", "hydra")]
    return {
        "random": random.getstate(),
        "numpy": str(np.random.get_state()),
        "torch": torch.get_rng_state().tolist(),
        "threads": torch.get_num_threads(),
        "dtype": torch.get_default_dtype(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "float32": torch.backends.cuda.matmul.fp32_precision,
        "environment": dict(os.environ),
        "folder": Path.cwd(),
        "words": sys.argv[:],
        "path": sys.path[:],
        "logging": [(each.level, each.handlers[:], each.propagate, each.disabled) for each in loggers],
        "warnings": warnings.filters[:],
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "pillow": (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES),
        "hooks": (sys.excepthook, sys.stdout, sys.stderr),
        "gradients": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
    }


@pytest.mark.parametrize("ends", ["well", "refused", "diverged"])
def test_the_program_that_calls_it_is_left_as_it_was(
    few: list[str], pictures: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    stylize = nst.stylize  # its first use imports Lightning, which sets up its loggers
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 12_345_678)
    random.seed(7)
    torch.set_num_threads(2)
    words = {
        "well": ["trainer.deterministic=true", "precision=64", "threads=1"],
        "refused": ["size=8"],
        "diverged": ["weights.style=1e308", "weights.content=1e308", "+weights.style_layers.relu1_1=1e30"],
    }[ends]
    drawn: list[tuple[float, float]] = []
    try:
        for _ in range(2):
            before = host()
            try:
                stylize(*pictures, [*few, *words])
            except (UserError, DivergedError):
                assert ends != "well"
            assert host() == before
            drawn.append((torch.rand(1).item(), random.random()))
        assert drawn[0] != drawn[1], "a loop of the caller would draw the same again and again"
    finally:
        torch.set_num_threads(1)


def test_it_computes_gradients_where_the_caller_does_not(few: list[str], pictures: tuple[Path, Path]) -> None:
    expected = nst.stylize(*pictures, few).picture.tobytes()
    for context in (torch.inference_mode, torch.no_grad):
        with context():
            tensor = image.load(pictures[0], key="content") * 1.0
            assert nst.stylize(tensor, pictures[1], few).picture.tobytes() == expected
