"""How much memory an evaluation takes is foretold, and decides on the tiles."""

import logging
import subprocess
import sys

import pytest
import torch
from torch import nn

from nst import encoder, memory
from nst.encoder import Encoder

LAYERS = ["relu4_2", "relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"]
SHAPE = (1536, 2048)
CPU = torch.device("cpu")

MEASURE = """
import psutil, re, torch
from pathlib import Path
from torch import nn
from nst import encoder
from nst.objective.functional import gram_per_element
state = encoder.random_state("slim", 0)
network = encoder.Encoder(architecture="slim", layers={layers}, pooling=lambda: nn.AvgPool2d(2, 2), state=state)
def evaluate(size):
    features = network(torch.rand(1, 3, size, size, requires_grad=True))
    total = sum(gram_per_element(feature).square().sum() for feature in features.values())
    del features
    total.backward()
evaluate({size})
Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
before = psutil.Process().memory_info().rss
evaluate({size})
peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())
print(int(peak[1]) * 1024 - before)
"""


def make(architecture: str = "vgg19", dtype: torch.dtype = torch.float32) -> Encoder:
    state = encoder.random_state(architecture, 0)
    return Encoder(
        architecture=architecture, layers=LAYERS, pooling=lambda: nn.AvgPool2d(2, 2), state=state, dtype=dtype
    )


def test_tiles_and_16_bits_take_less() -> None:
    network = make()
    whole, half, tiles = (
        memory.evaluation_bytes(each, SHAPE, tile)
        for each, tile in ((network, None), (make(dtype=torch.bfloat16), None), (network, 512))
    )
    assert 0.4 * whole < half < 0.6 * whole
    assert tiles < 0.25 * whole
    assert memory.evaluation_bytes(network, (3072, 4096), 512) - tiles < 2 * 3 * 4 * (3072 * 4096 - 1536 * 2048) + 1


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process forget its peak")
def test_it_is_near_what_a_process_takes() -> None:
    script = MEASURE.format(layers=LAYERS, size=1024)
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    taken = int(finished.stdout)
    foretold = memory.evaluation_bytes(make("slim"), (1024, 1024), None)
    assert 0.8 * foretold < taken < 1.25 * foretold


def test_auto_reads_the_whole_where_it_fits() -> None:
    assert memory.settle("auto", make("slim"), (64, 64), device=CPU, besides=0) is None


@pytest.mark.parametrize(("free", "tile"), [(4e9, 1536), (1e9, 512), (1e6, 256)])
def test_auto_takes_the_largest_tiles_that_fit(
    free: float, tile: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda device: int(free))
    with caplog.at_level(logging.WARNING):
        assert memory.settle("auto", make(), SHAPE, device=CPU, besides=0) == tile
    assert f"The picture is read in tiles of {tile} px" in caplog.text
    if free > 1e6:
        assert memory.evaluation_bytes(make(), SHAPE, tile) <= memory.USED * free


def test_what_is_kept_between_evaluations_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda device: 10**10)
    assert memory.settle("auto", make(), SHAPE, device=CPU, besides=0) is None
    assert memory.settle("auto", make(), SHAPE, device=CPU, besides=7 * 10**9) is not None


@pytest.mark.parametrize(("asked", "tile"), [("off", None), (300, 300)])
def test_what_is_asked_for_is_done(asked: object, tile: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda device: 0)
    assert memory.settle(asked, make("slim"), SHAPE, device=CPU, besides=0) == tile  # type: ignore[arg-type]
