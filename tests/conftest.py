"""Small pictures and encoders, and the command line without a network."""

import logging
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from torch import Tensor

from nst.encoder import architecture as arch
from nst.encoder import weights as encoder
from nst.files import asset
from nst.train import main
from tests.helpers.forking import Server

#: An address on this machine where nothing listens.
NOWHERE = "http://127.0.0.1:9"


def paint(seed: int, height: int, width: int) -> Image.Image:
    """A smooth random picture."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A content and a style picture, 40×32 and 36×48 px."""
    folder = tmp_path_factory.mktemp("pictures")
    paint(1, 32, 40).save(folder / "content.png")
    paint(2, 48, 36).save(folder / "style.png")
    return folder / "content.png", folder / "style.png"


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of the slim architecture, as a file in torchvision's layout."""
    path = tmp_path_factory.mktemp("weights") / "slim.pth"
    torch.save(encoder.random_state("slim", 3), path)
    return path


@pytest.fixture(scope="session")
def partial_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """VGG-19's first two blocks with random weights."""
    indices = [index for name, index in arch.convolution_indices("vgg19").items() if name < "conv3"]
    state = encoder.random_state("vgg19", 3)
    path = tmp_path_factory.mktemp("weights") / "first-blocks.pth"
    torch.save({name: w for name, w in state.items() if int(name.split(".")[1]) in indices}, path)
    return path


@pytest.fixture(autouse=True)
def own_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's caches are read or written by a test."""
    monkeypatch.setenv("NST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    asset._outcome.cache_clear()


@pytest.fixture(scope="session")
def small(pictures: tuple[Path, Path]) -> list[str]:
    """Overrides for a run that takes no network and hardly any time."""
    content, style = pictures
    return [
        f"content.path={content}",
        f"style.path={style}",
        "encoder=slim",
        "encoder.weights=random",
        "size=32",
        "evaluations=6",
        "trainer.accelerator=cpu",
        "threads=1",
        "metrics=null",
    ]


#: Modules whose tests answer in a minute together: `pytest -m fast`.
FAST = {
    "test_encoder", "test_film", "test_frozen", "test_graph", "test_house", "test_image", "test_objective",
    "test_optimization", "test_output", "test_precision",
}  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of these modules that start no process, and let those begin first that take or wait longest."""
    items.sort(key=lambda item: item.path.stem not in ("test_launchers", "test_studio", "test_slurm"))
    for item in items:
        needs = set(getattr(item, "fixturenames", ()))
        if item.path.stem in FAST and not needs & {"nst", "fresh"}:
            item.add_marker(pytest.mark.fast)


def free_port() -> int:
    """A port of this machine that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


#: Begins commands in processes of their own.
server = Server()

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def nst(tmp_path: Path) -> Command:
    """Runs ``python -m nst.train`` in a process of its own, in a folder that is not the project's."""

    def run(*arguments: str, cwd: Path = tmp_path) -> subprocess.CompletedProcess[str]:
        return server.run(arguments, cwd=cwd)

    return run


@pytest.fixture
def fresh(tmp_path: Path) -> Command:
    """The same in a process that starts Python anew, for what depends on how it starts."""

    def run(*arguments: str, cwd: Path = tmp_path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "nst.train", *arguments]
        return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, env=os.environ.copy())

    return run


@pytest.fixture
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """The same within this process: a second instead of five."""

    def run(*arguments: str, cwd: Path = tmp_path) -> subprocess.CompletedProcess[str]:
        monkeypatch.chdir(cwd)
        monkeypatch.setattr(sys, "argv", ["nst.train", *arguments])
        capfd.readouterr()
        status, handlers = 0, logging.getLogger().handlers[:]
        try:
            status = main()
        except SystemExit as error:
            status = int(str(error.code))
        finally:
            logging.getLogger().handlers[:] = handlers  # or the next command of this process would log before it runs
        said = capfd.readouterr()
        return subprocess.CompletedProcess(sys.argv, status, said.out, said.err)

    return run


def assert_equal(one: Path, other: Path) -> None:
    """Two runs have the same picture and losses, bit by bit."""
    for name in ("result.png", "losses.csv"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), (one, other, name)


def assert_goes_on(run: Command, folder: Path, *words: str) -> None:
    """A run that goes on after three of its six evaluations, in the folder ``parts``, ends as one made in ``whole``."""
    words = (*words, "schedule=single", "callbacks.checkpoint.keep_history=true")
    assert run(*words, "hydra.run.dir=whole").returncode == 0
    assert run(*words, "evaluations=3", "hydra.run.dir=parts").returncode == 0
    assert run("resume=parts", "evaluations=6").returncode == 0
    assert_equal(folder / "whole", folder / "parts")


def image(seed: int, height: int = 24, width: int = 20) -> Tensor:
    """A random image tensor in float64."""
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


FLAGS = (
    "headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
    "disable-component-update", "disable-sync", "window-size=1400,1800",
)  # fmt: skip


#: No page moves by itself: Chromium draws 60 times a second as long as anything does.
STILL = """
addEventListener("DOMContentLoaded", () => {
  const style = document.createElement("style");
  style.textContent = "*, ::before, ::after { animation: none !important; transition: none !important; }";
  document.head.append(style);
});
"""


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """Chromium without a window."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("chromium or chromedriver is not installed")
    options = ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = Chrome(options=options, service=ChromeService(driver))
    started.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": STILL})
    yield started
    started.quit()
