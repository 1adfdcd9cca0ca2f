"""What a disk can do to a run: it ends clearly, nothing that looks whole is corrupt, and the picture is not lost."""

import errno
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import NoReturn

import pytest
import torch
from PIL import Image

from nst import stylize
from nst.callbacks.checkpoint_io import WholeCheckpointIO, stream
from nst.errors import UserError
from nst.files.atomic import UNFINISHED, replacing, write_text
from nst.files.run_folder import RunFolder
from nst.optimizer import LBFGS
from tests.conftest import Command
from tests.run.test_run import begin, summary

#: A shell on a small disk of its own at $1, on systems that let users have one.
SMALL_DISK = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]


def on_small_disk(folder: Path, size: str, script: str) -> subprocess.CompletedProcess[str]:
    """Runs a script where ``folder`` is a disk of ``size``, and is itself again afterwards."""
    folder.mkdir()
    command = [*SMALL_DISK, f'mount -t tmpfs -o size=$2 tmpfs "$1" && {script}', "sh", str(folder), size]
    environment = {**os.environ, "HOME": str(folder.parent)}
    return subprocess.run(
        command, cwd=folder.parent, env=environment, capture_output=True, text=True, timeout=240, check=False
    )


@pytest.fixture
def small_disk(tmp_path: Path) -> None:
    if shutil.which("unshare") is None or on_small_disk(tmp_path / "probe", "1m", "true").returncode != 0:
        pytest.skip("this system gives users no disk of their own")


@pytest.mark.parametrize("fails", ["write", "fsync", "rename"])
def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
    path = tmp_path / "folder" / "file.txt"
    path.parent.mkdir()
    write_text(path, "the old one")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    target = {"write": (Path, "write_text"), "fsync": (os, "fsync"), "rename": (Path, "replace")}[fails]
    monkeypatch.setattr(*target, full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_text(path, "the new one")
    assert caught.value.filename == str(path)
    assert [each.name for each in path.parent.iterdir()] == ["file.txt"]
    assert path.read_text() == "the old one"


def test_the_data_are_on_the_disk_before_the_name_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a power failure may leave a name without its data."""
    happened = []
    fsync, replace = os.fsync, Path.replace

    def note(file: int) -> None:
        status = os.fstat(file)
        happened.append("folder" if stat.S_ISDIR(status.st_mode) else status.st_size)
        fsync(file)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(Path, "replace", lambda self, to: (happened.append("renamed"), replace(self, to))[1])
    write_text(tmp_path / "file.txt", "five!")
    assert happened == [5, "renamed", "folder"]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EIO])
def test_not_every_file_system_can_put_a_name_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Some have no way to do so (EINVAL); others have, and fail (EIO)."""
    fsync = os.fsync

    def refuse(file: int) -> None:
        if stat.S_ISDIR(os.fstat(file).st_mode):
            raise OSError(number, os.strerror(number))
        fsync(file)

    monkeypatch.setattr(os, "fsync", refuse)
    with nullcontext() if number == errno.EINVAL else pytest.raises(OSError, match="Input/output error"):
        write_text(tmp_path / "file.txt", "five!")
    assert (tmp_path / "file.txt").read_text() == "five!"


def test_a_history_that_is_loaded_is_there_once(tmp_path: Path) -> None:
    """Beside the file's own pages, which make room: 40 pairs of 16 bits, 160 MB, for a tensor of 32."""
    script = (
        "import torch; from nst.callbacks.checkpoint_io import WholeCheckpointIO\n"
        "from nst.optimizer import LBFGS\n"
        "from nst.run.provenance import peak_memory\n"
        "x = torch.nn.Parameter(torch.zeros(1_000_000)); cpu = torch.device('cpu')\n"
        "optimizer = LBFGS([x], history_size=40, history_dtype='bfloat16')\n"
        "before = peak_memory(cpu)\n"
        "optimizer.load_state_dict(WholeCheckpointIO().load_checkpoint('x.ckpt')['optimizer'])\n"
        "assert len(optimizer.history) == 40 and optimizer.history.y[0].dtype == torch.bfloat16\n"
        "print(peak_memory(cpu) - before)\n"
    )
    x = torch.nn.Parameter(torch.zeros(1_000_000))
    optimizer = LBFGS([x], history_size=40, history_dtype="bfloat16")
    pairs = {name: [torch.ones_like(x, dtype=torch.bfloat16) for _ in range(40)] for name in ("y", "s")}
    optimizer.state[x]["loss"] = 1.0
    optimizer.history.load(pairs)
    WholeCheckpointIO().save_checkpoint({"optimizer": optimizer.state_dict()}, tmp_path / "x.ckpt")
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 2 * 160e6 + 40e6


def test_a_history_in_files_takes_no_memory(tmp_path: Path) -> None:
    """20 pairs of 32 bits, 400 MB, in files of a disk, for one process and for one of several."""
    script = (
        "import pathlib, torch\n"
        "from nst.optimizer import compact; from nst.optimizer.history import Loops\n"
        "from nst.files.pages import Pages\n"
        "from nst.run.provenance import peak_memory\n"
        "x = torch.ones(2_500_000); cpu = torch.device('cpu'); compact.SPAN = 100\n"
        "for kind in Loops, compact.Compact:\n"
        "    history = kind(20, x, x.dtype, Pages(pathlib.Path('.')))\n"
        "    pairs = [x.clone(), x.clone()]\n"
        "    history.learn(x, pairs); history.direction(x)\n"
        "    before = peak_memory(cpu)\n"
        "    for _ in range(20):\n"
        "        history.learn(x, pairs)\n"
        "    history.direction(x)\n"
        "    assert len(history) == 20\n"
        "    print(peak_memory(cpu) - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert max(map(int, done.stdout.split())) < 125e6  # Linux may map 2 MB of each vector at once


def test_the_folder_of_a_history_must_exist(inside: Command, small: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    for name, why in {"nowhere": "there is no such folder", "file": "this is a file, not a folder"}.items():
        finished = inside(*small, "optimizer=lbfgs", f"scratch={name}", "hydra.run.dir=run")
        assert finished.returncode == 2
        assert f"error: scratch={name}: {why}" in finished.stderr
    assert not (tmp_path / "run").exists()
    assert inside(*small, "optimizer=lbfgs", "scratch=.", "hydra.run.dir=run").returncode == 0
    assert f"scratch: {tmp_path}" in (tmp_path / "run" / "config.yaml").read_text()


def test_a_disk_without_room_for_the_history(small_disk: None, small: list[str], tmp_path: Path) -> None:
    """The forecast refuses it; if another program takes the room later, it is an error, not a crash."""
    words = " ".join(f"'{word}'" for word in [*small, "optimizer=lbfgs", "hydra.run.dir=run", "scratch=disk"])
    words += " size=200 schedule=single precision=32"  # 200 x 160 px: 0.77 MB a pair
    run = f"{sys.executable} -m nst.train {words}"
    refused = on_small_disk(tmp_path / "disk", "2m", f"{run} evaluations=40")
    assert refused.returncode == 2, refused.stderr
    assert "error: scratch=disk: the curvature pairs need 0.03 GB, but only 0.00 GB are free" in refused.stderr
    assert not (tmp_path / "run").exists()
    from nst.files.pages import Pages

    script = (
        "import pathlib, torch; from nst.files.pages import Pages\n"
        "Pages(pathlib.Path('disk2')).tensors(8, (1_000_000,), torch.float32)\n"
    )
    full = on_small_disk(tmp_path / "disk2", "2m", f'{sys.executable} -c "{script}"')
    assert "OSError: [Errno 28] No space left on device: 'disk2'" in full.stderr
    assert Pages(tmp_path).tensors(2, (3, 5), torch.bfloat16)[1].tolist() == [[0.0] * 5] * 3


def test_a_process_killed_while_it_writes_leaves_no_half_file(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.checkpoints.mkdir()
    folder.checkpoint(7).write_bytes(b"the old one")
    child = os.fork()
    if child == 0:
        with replacing(folder.checkpoint(8)) as temporary:
            temporary.write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert folder.saved_checkpoints() == [folder.checkpoint(7)]
    [left] = set(folder.checkpoints.iterdir()) - {folder.checkpoint(7)}
    assert left.name.startswith(UNFINISHED)
    with folder.alone():
        assert list(folder.checkpoints.iterdir()) == [folder.checkpoint(7)]


def test_a_checkpoint_takes_no_second_copy_of_itself(tmp_path: Path) -> None:
    """Streamed, 400 MB need a buffer only."""
    script = (
        "import torch, pathlib; from nst.callbacks.checkpoint_io import WholeCheckpointIO;"
        "from nst.run.provenance import peak_memory;"
        "x = {'state': [torch.zeros(25_000_000) for _ in range(4)]};"
        "before = peak_memory(torch.device('cpu'));"
        "WholeCheckpointIO().save_checkpoint(x, pathlib.Path('x.ckpt'));"
        "print(peak_memory(torch.device('cpu')) - before)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (tmp_path / "x.ckpt").stat().st_size > 400e6
    assert int(done.stdout) < 100e6


def test_a_full_disk_ends_a_run_and_the_picture_is_saved_elsewhere(
    small_disk: None, nst: Command, small: list[str], tmp_path: Path
) -> None:
    words = " ".join(f"'{word}'" for word in [*small, "evaluations=100000", "hydra.run.dir=disk/run"])
    script = (
        f"{sys.executable} -m nst.train {words} callbacks.checkpoint.every_evaluations=10 & run=$!; "
        "until ls disk/run/checkpoints/0*.ckpt 2>/dev/null; do sleep 0.1; done; "
        "head -c 100m /dev/zero > disk/filler 2>/dev/null; wait $run; status=$?; cp -r disk/run copy; exit $status"
    )
    finished = on_small_disk(tmp_path / "disk", "30m", script)
    assert finished.returncode == 1, finished.stderr
    assert "error: the run failed: disk/run/" in finished.stderr.replace(str(tmp_path) + "/", "")
    assert "No space left on device" in finished.stderr
    assert "Traceback" not in finished.stderr
    assert f"The picture is at {tmp_path}/disk_run.png" in finished.stdout
    assert Image.open(tmp_path / "disk_run.png").size == (32, 26)
    copy = RunFolder(tmp_path / "copy")
    assert json.loads(copy.summary.read_text())["status"] == "running"  # as it could not be written any more
    assert not list(copy.path.rglob(f"{UNFINISHED}*"))
    done = max(int(path.stem) for path in copy.saved_checkpoints())
    for path in copy.saved_checkpoints():
        torch.load(path, weights_only=True)
    assert nst("resume=copy", f"evaluations={done + 3}").returncode == 0


def test_a_folder_removed_under_a_run_stays_removed(small: list[str], tmp_path: Path) -> None:
    process = begin(small, tmp_path, checkpoints=1)
    (tmp_path / "run").rename(tmp_path / "gone")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "error: the run failed: " in errors
    assert "No such file or directory" in errors
    assert "Traceback" not in errors
    assert {path.name for path in tmp_path.iterdir()} == {"gone", f"{tmp_path.name}_run.png"}
    assert Image.open(tmp_path / f"{tmp_path.name}_run.png").size == (32, 26)


def test_two_processes_do_not_go_on_with_one_run(nst: Command, small: list[str], tmp_path: Path) -> None:
    process = begin(small, tmp_path, checkpoints=1)
    second = nst("resume=run", "evaluations=200000")
    assert second.returncode == 2
    assert f"resume={tmp_path / 'run'}: another process is using this folder" in second.stderr
    assert "Traceback" not in second.stderr
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    assert summary(tmp_path / "run")["status"] == "interrupted"


def test_only_one_process_at_a_time_is_alone(tmp_path: Path) -> None:
    with RunFolder(tmp_path).alone(), pytest.raises(UserError, match="another process is using this folder"):
        RunFolder(tmp_path).alone().__enter__()
    with RunFolder(tmp_path).alone():
        pass


def refuse(number: int) -> Callable[..., NoReturn]:
    def refused(*_: object, **__: object) -> NoReturn:
        raise OSError(number, os.strerror(number))

    return refused


def test_a_file_system_without_modes(inside: Command, small: list[str], tmp_path: Path) -> None:
    """Mounts of FAT and of Windows shares refuse chmod."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "chmod", refuse(errno.EPERM))
        assert inside(*small, "hydra.run.dir=run").returncode == 0
        with Image.open(small[0].partition("=")[2]) as content:
            result = stylize(content, content, [*small[2:], "hydra.run.dir=other"])
    assert summary(tmp_path / "run")["status"] == "completed"
    assert result.summary["status"] == "completed"


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_without_locks(inside: Command, small: list[str], tmp_path: Path, number: int) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("fcntl.flock", refuse(number))
        result = inside("-m", *small, "hydra.sweep.dir=sweep")
    assert result.returncode == 0
    [run] = (tmp_path / "sweep").glob("*/result.png")
    if number != errno.ENOSYS:  # filelock takes a file instead
        assert f"{run.parent}: this file system has no locks" in result.stderr
    assert inside("-m", *small, "hydra.sweep.dir=sweep", "evaluations=6").returncode == 0


def test_a_lock_that_can_not_be_made(inside: Command, small: list[str], tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("fcntl.flock", refuse(errno.EIO))
        result = inside(*small, "hydra.run.dir=run")
    assert result.returncode == 1
    assert result.stderr.splitlines() == [f"error: the run failed: {tmp_path / 'run' / '.lock'}: Input/output error"]


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="no second file system here")
def test_outputs_may_lie_on_another_file_system(nst: Command, small: list[str], tmp_path: Path) -> None:
    elsewhere = Path("/dev/shm") / f"{tmp_path.name}-{time.time_ns()}"
    elsewhere.mkdir()
    try:
        (tmp_path / "outputs").symlink_to(elsewhere)
        assert nst(*small, "hydra.run.dir=outputs/run").returncode == 0
        assert nst("resume=outputs/run", "evaluations=8").returncode == 0
        assert summary(elsewhere / "run")["evaluations"] == 8
    finally:
        shutil.rmtree(elsewhere)


def test_torch_can_not_hide_that_the_disk_is_full() -> None:
    """torch reports a short file in words of its own."""
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with pytest.raises(OSError, match="No space left on device"), Path("/dev/full").open("wb", buffering=0) as file:
        stream({"x": torch.zeros(100_000)}, file)
