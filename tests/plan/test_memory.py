"""How much memory an evaluation takes is foretold, and decides on the tiles."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from nst.encoder import weights as encoder
from nst.encoder.vgg import VGG
from nst.plan import memory

LAYERS = ["relu4_2", "relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"]
SHAPE = (1536, 2048)
CPU = torch.device("cpu")

MEASURE = """
import psutil, re, torch
from pathlib import Path
from torch import nn
from nst.encoder import vgg
from nst.encoder import weights as encoder
from nst.objective.functional import gram_per_element
state = encoder.random_state("slim", 0)
network = vgg.VGG(architecture="slim", layers={layers}, pooling=lambda: nn.AvgPool2d(2, 2), state=state)
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


def make(architecture: str = "vgg19", dtype: torch.dtype = torch.float32) -> VGG:
    state = encoder.random_state(architecture, 0)
    return VGG(architecture=architecture, layers=LAYERS, pooling=lambda: nn.AvgPool2d(2, 2), state=state, dtype=dtype)


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
    assert memory.settle("auto", make("slim"), (64, 64), room=10**9, besides=0) is None


@pytest.mark.parametrize(("room", "tile"), [(4e9, 1536), (1e9, 512), (1e6, 256)])
def test_auto_takes_the_largest_tiles_that_fit(room: float, tile: int) -> None:
    assert memory.settle("auto", make(), SHAPE, room=int(room), besides=0) == tile
    if room > 1e6:
        assert memory.evaluation_bytes(make(), SHAPE, tile) <= memory.USED * room


def test_what_is_kept_between_evaluations_counts() -> None:
    assert memory.settle("auto", make(), SHAPE, room=10**10, besides=0) is None
    assert memory.settle("auto", make(), SHAPE, room=10**10, besides=7 * 10**9) is not None


@pytest.mark.parametrize(("asked", "tile"), [("off", None), (300, 300)])
def test_what_is_asked_for_is_done(asked: object, tile: int | None) -> None:
    assert memory.settle(asked, make("slim"), SHAPE, room=0, besides=0) == tile  # type: ignore[arg-type]


def test_a_limit_is_for_all_processes_of_a_processor_and_for_each_gpu() -> None:
    assert memory.room(CPU, 8, 2) == 4 * 10**9
    assert memory.room(torch.device("cuda"), 8, 2) == 8 * 10**9


def write_group(folder: Path, files: dict[str, str]) -> None:
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text)


def test_a_container_has_what_its_control_groups_leave(tmp_path: Path) -> None:
    """Of the second version: a job within a container, of which the tighter one counts."""
    own, root = tmp_path / "cgroup", tmp_path / "fs"
    own.write_text("0::/box/job\n")
    outer = {"memory.max": "4000\n", "memory.current": "1500\n", "memory.stat": "anon 900\ninactive_file 500\n"}
    write_group(root / "box", outer)
    write_group(root / "box" / "job", {"memory.max": "max\n", "memory.current": "7\n", "memory.stat": "anon 7\n"})
    assert list(memory._left_by_groups(own, root)) == [4000 - 1500 + 500]


def test_a_job_of_a_cluster_has_what_its_control_groups_leave(tmp_path: Path) -> None:
    """Of the first version, where memory has a hierarchy of its own; the groups above may be out of sight."""
    own, root = tmp_path / "cgroup", tmp_path / "fs"
    own.write_text("5:devices:/slurm\n4:memory:/slurm/job_1\n0::/\n")
    files = {"memory.limit_in_bytes": "3000", "memory.usage_in_bytes": "3500", "memory.stat": "total_inactive_file 100"}
    write_group(root / "memory" / "slurm" / "job_1", files)
    assert list(memory._left_by_groups(own, root)) == [0]  # never less than nothing


def test_without_control_groups_there_is_no_limit(tmp_path: Path) -> None:
    assert list(memory._left_by_groups(tmp_path / "none", tmp_path)) == []
