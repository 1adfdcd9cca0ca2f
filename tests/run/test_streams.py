"""Standard streams that are missing, closed, or can't encode a name: runs, sweeps and comparisons end well anyway."""

import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import pytest

import nst
from nst.compare.__main__ import main as compare
from nst.files.streams import unfailing_streams
from nst.train import main
from tests.conftest import Command
from tests.run.test_run import summary


def missing() -> None:
    return None


def unread() -> TextIO:
    """A pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w")


def ascii_only() -> TextIO:
    return io.TextIOWrapper(io.BytesIO(), encoding="ascii")


@contextmanager
def both_streams(make: Callable[[], TextIO | None]) -> Iterator[TextIO | None]:
    """Use one new stream for standard output and error, which must be as before at the end."""
    both = make()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "stdout", both)
        patched.setattr(sys, "stderr", both)
        yield both
        assert sys.stdout is both
        assert sys.stderr is both


STREAMS = pytest.mark.parametrize("make", [missing, unread, ascii_only])


@STREAMS
def test_a_sweep_and_its_comparison(make: Callable[[], TextIO | None], small: list[str], tmp_path: Path) -> None:
    sweep = tmp_path / "日本"
    with both_streams(make) as stream:
        assert main(["-m", *small, f"hydra.sweep.dir={sweep}", "seed=1,2"]) == 0
        assert len(list(sweep.glob("*/result.png"))) == 2
        assert compare([str(sweep)]) == 0
        assert (sweep / "compare" / "index.html").is_file()
        assert main(["-m", *small, f"hydra.sweep.dir={sweep}", "seed=1,x"]) == 1
        if isinstance(stream, io.TextIOWrapper) and isinstance(stream.buffer, io.BytesIO):
            printed = stream.buffer.getvalue().decode()
            assert "python -m nst.compare" in printed
            assert r"\u65e5\u672c" in printed


@STREAMS
def test_stylize(
    make: Callable[[], TextIO | None], small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content, style = (word.partition("=")[2] for word in small[:2])
    with both_streams(make):
        result = nst.stylize(content, style, [*small[2:], f"hydra.run.dir={tmp_path / 'Öl'}"])
    assert result.summary["status"] == "completed"


@pytest.mark.skipif(os.name != "posix", reason="a shell of its own")
def test_a_run_without_descriptors(small: list[str], tmp_path: Path) -> None:
    """The next files that it opens must not get the numbers of standard output and error."""
    command = [sys.executable, "-m", "nst.train", *small, "hydra.run.dir=run", "output=jpeg"]
    closed = 'exec "$@" <&- >&- 2>&-'
    status = subprocess.run(["sh", "-c", closed, "sh", *command], cwd=tmp_path, check=False).returncode
    assert status == 0
    assert summary(tmp_path / "run")["status"] == "completed"
    assert (tmp_path / "run" / "result.jpg").read_bytes()[:2] == b"\xff\xd8"
    assert (tmp_path / "run" / "losses.csv").read_text().startswith("evaluation,")


def test_a_full_disk_behind_standard_output() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with Path("/dev/full").open("w") as full, pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "stdout", full)
        with unfailing_streams():
            print("nobody will read this", flush=True)
            print("nor this")


@pytest.mark.parametrize("word", ["content.path=a\udcff.png", "hydra.run.dir=\udce6\udc97", "name=\udcff"])
def test_a_name_in_another_encoding(inside: Command, small: list[str], word: str) -> None:
    result = inside(*small, word)
    assert result.returncode == 2
    why = "this name isn't in your locale's encoding; rename the file, or set a UTF-8 locale (LC_ALL=C.UTF-8)"
    [line] = result.stderr.splitlines()
    assert line.startswith(f"error: {word.partition('=')[0]}=")
    assert line.endswith(f": {why}")


def test_a_folder_in_another_encoding(
    small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "a\udcff"
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert main(small) == 2
    assert r"a\udcff: this name isn't in your locale's encoding" in capsys.readouterr().err
    assert not list(folder.iterdir())
