"""Windows and macOS lack parts of Python that Linux has; nst works without them. Tried by taking them away."""

import os
import runpy
import signal
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import psutil
import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser

from nst.config.overrides import with_quoted_paths
from nst.files import atomic, signals
from nst.run import provenance
from tests.project.test_house import imports, modules

#: What other libraries import on Linux comes first. Then the rest of the script is as on Windows.
SCRIPT = """
import importlib, os, pkgutil, signal, sys
from pathlib import Path
import hydra.main, multiprocessing.popen_spawn_posix, torch.utils.tensorboard, torchvision.models
for name in os.environ["OTHERS"].split():
    importlib.import_module(name)

for name in ("resource", "fcntl", "termios", "grp", "pwd", "pty", "tty", "syslog"):
    sys.modules[name] = None
for name in ("fork", "forkpty", "sched_getaffinity", "getuid", "geteuid", "getgid", "killpg", "setsid", "mkfifo",
             "chown", "getloadavg", "sysconf", "nice", "sync", "statvfs", "posix_spawn", "wait3", "wait4", "uname"):
    if name in vars(os):
        delattr(os, name)
for name in ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGQUIT", "SIGALRM", "SIGSTOP", "SIGTSTP", "SIGPIPE", "SIGKILL"):
    if name in vars(signal):
        delattr(signal, name)

import pytorch_lightning.trainer.connectors.signal_connector as lightning
lightning._IS_WINDOWS = True
signal.valid_signals = lambda: {signal.SIGABRT, signal.SIGFPE, signal.SIGINT, signal.SIGSEGV, signal.SIGTERM}
import nst
for module in pkgutil.walk_packages(nst.__path__, "nst."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print("imported", flush=True)
from nst.train import main
sys.exit(main())
"""


def test_every_module_is_imported_and_a_run_made_without_what_windows_lacks(small: list[str], tmp_path: Path) -> None:
    others = {target.split(".")[0] for path in modules().values() for target in imports(path)}
    others -= {"nst", *sys.stdlib_module_names}
    found = subprocess.run(
        [sys.executable, "-c", SCRIPT, *small, "hydra.run.dir=run"],
        cwd=tmp_path, capture_output=True, text=True, check=False, env={**os.environ, "OTHERS": " ".join(others)},
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith("imported")
    assert (tmp_path / "run" / "result.png").is_file()
    names = [path.name for path in tmp_path.rglob("*")]
    assert not [name for name in names if set(name) & set('<>:"|?*\\') or name.endswith((".", " "))]


def test_signals_are_those_that_the_system_has(monkeypatch: pytest.MonkeyPatch) -> None:
    assert signal.SIGHUP in signals.ENDINGS
    assert signals.ASK == signal.SIGTERM
    for name in ("SIGHUP", "SIGUSR2"):
        monkeypatch.delattr(signal, name)
    monkeypatch.setattr(signal, "SIGBREAK", 21, raising=False)
    monkeypatch.setattr(signal, "CTRL_BREAK_EVENT", 1, raising=False)
    monkeypatch.setattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 512, raising=False)
    there = runpy.run_path(str(signals.__file__))
    assert there["ENDINGS"] == (signal.SIGINT, signal.SIGTERM, 21)
    assert (there["REQUEUE"], there["ASK"], there["APART"]) == ((), 1, {"creationflags": 512})


def test_the_peak_of_the_memory_without_proc_and_resource(monkeypatch: pytest.MonkeyPatch) -> None:
    here = provenance.peak_memory(torch.device("cpu"))

    def missing(self: Path, **_: object) -> str:
        raise FileNotFoundError(self)

    monkeypatch.setattr(Path, "read_text", missing)
    assert provenance.peak_memory(torch.device("cpu")) == pytest.approx(here, rel=0.5)
    monkeypatch.setitem(sys.modules, "resource", None)
    memory = namedtuple("memory", "peak_wset")(7)
    monkeypatch.setattr(psutil.Process, "memory_info", lambda self: memory)
    assert provenance.peak_memory(torch.device("cpu")) == 7


def test_a_file_that_is_being_read_is_replaced_when_its_reader_has_closed_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows, where a rename over an open file is refused."""
    path, refusals, replace = tmp_path / "file", [PermissionError(13, "open")] * 2, Path.replace

    def refuse(self: Path, target: Path) -> Path:
        if refusals:
            raise refusals.pop()
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", refuse)
    monkeypatch.setattr(atomic, "_TRIES", 3)
    atomic.write_text(path, "new")
    assert path.read_text(encoding="utf-8") == "new"
    refusals += [PermissionError(13, "open")] * 3
    with pytest.raises(PermissionError):
        atomic.write_text(path, "newer")
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("path", [r"C:\Users\me\my photo.jpg", r"\\server\share\a,b.png", "D:\\pictures\\"])
def test_windows_paths_are_typed_as_they_are(path: str) -> None:
    [word] = with_quoted_paths([f"content.path={path}"], sweep=False)
    [override] = OverridesParser.create().parse_overrides([word])
    assert override.value() == path
