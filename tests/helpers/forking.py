"""Commands in processes of their own that don't wait for Python and torch to start: about 5 s less for each.

A server imports the program once and forks for each command. What it forks is a process like any other: with its own
folder, environment, output and signals. The other processes of a run on several devices are forked, too. What depends
on how Python starts or ends (its options, a closed output, the number of threads) needs a real start: ``subprocess``.
"""

import array
import atexit
import gc
import json
import os
import runpy
import select
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

from hydra.core.plugins import Plugins
from PIL import Image

#: The command that is forked most.
MAIN = "nst.train"

#: What the server imports beforehand: all that a run needs.
IMPORTS = (
    "nst.train", "nst.run.single", "nst.run.job", "nst.sweep.command", "nst.sweep.point", "nst.run.follow",
    "torch.utils.tensorboard", "skimage.color", "av",
)  # fmt: skip


class Process:
    """A command that the server has forked; it has the methods of ``subprocess.Popen`` that the tests use."""

    def __init__(self, connection: socket.socket, pid: int, args: list[str], streams: list[IO[str] | None]) -> None:
        self._connection = connection
        self.pid = pid
        self.args = args
        self.returncode: int | None = None
        self.stdin, self.stdout, self.stderr = streams

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status, minus the number of the signal that ended it, if one did."""
        if self.returncode is None:
            ready = select.poll()
            ready.register(self._connection, select.POLLIN)
            if not ready.poll(None if timeout is None else 1000 * timeout):
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            told = self._connection.recv(64, socket.MSG_PEEK)  # another thread may wait, too
            self.returncode = os.waitstatus_to_exitcode(int(told))
        return self.returncode

    def poll(self) -> int | None:
        """Return the exit status; None while it runs."""
        with suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Return what it wrote to its output and to its error output, when it has ended."""
        files = {stream: "" for stream in (self.stdout, self.stderr) if stream is not None}
        with selectors.DefaultSelector() as ready:
            for stream in files:
                ready.register(stream, selectors.EVENT_READ)
            parts: dict[IO[str], bytes] = dict.fromkeys(files, b"")
            while ready.get_map():
                for key, _ in ready.select(timeout):
                    stream: Any = key.fileobj
                    read = os.read(stream.fileno(), 2**16)
                    parts[stream] += read
                    if not read:
                        ready.unregister(stream)
        self.wait(timeout)
        texts = {stream: part.decode() for stream, part in parts.items()}
        return tuple("" if stream is None else texts[stream] for stream in (self.stdout, self.stderr))  # type: ignore[return-value]

    def send_signal(self, number: int) -> None:
        """Send a signal, if it has not ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def ask(
    folder: str,
    module: str,
    words: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    stdin: int | None,
    stdout: int | None,
    stderr: int | None = None,
    start_new_session: bool = False,
) -> Process:
    """Let the server in a folder begin ``python -m MODULE WORDS``."""
    given: list[int] = []
    opened: list[int] = []
    streams: list[IO[str] | None] = []
    for number, stream in enumerate((stdin, stdout, stderr)):
        if stream == subprocess.PIPE:
            ends = os.pipe()
            given.append(ends[number > 0])
            streams.append(os.fdopen(ends[number == 0], "r" if number else "w"))
        elif stream == subprocess.DEVNULL:
            given.append(os.open(os.devnull, os.O_RDWR))
            streams.append(None)
        else:
            given.append(number)
            streams.append(None)
            continue
        opened.append(given[-1])
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.connect(f"{folder}/socket")
    request = {
        "module": module, "words": list(words), "cwd": str(cwd), "env": dict(env), "session": start_new_session,
    }  # fmt: skip
    socket.send_fds(connection, [json.dumps(request).encode()], given)
    pid = int(connection.recv(64))
    for descriptor in opened:
        os.close(descriptor)
    return Process(connection, pid, [module, *words], streams)


class Server:
    """The process that forks; it is started with the first command, and ends with the tests."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = tempfile.mkdtemp(prefix="fork-")
        atexit.register(shutil.rmtree, self._folder, ignore_errors=True)

    def start(
        self,
        words: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        module: str = MAIN,
    ) -> Process:
        """Begin ``python -m MODULE WORDS``; an output is inherited, or ``subprocess.PIPE`` or ``DEVNULL``."""
        self._ready()
        outputs = {"stdin": subprocess.DEVNULL, "stdout": stdout, "stderr": stderr}
        return ask(self._folder, module, words, cwd=cwd, env=os.environ if env is None else env, **outputs)

    def run(
        self, words: Sequence[str], *, cwd: Path, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run ``python -m nst.train WORDS`` to its end; return its status and its outputs."""
        process = self.start(words, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        stdout, stderr = process.communicate()
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            stream.close()
        return subprocess.CompletedProcess(process.args, process.wait(), stdout, stderr)

    def _ready(self) -> None:
        if self._process is None:
            command = [sys.executable, "-m", "tests.helpers.forking", self._folder]
            self._process = subprocess.Popen(
                command, cwd=Path(__file__).parents[2], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            atexit.register(self._process.kill)
            assert self._process.stdout is not None
            assert self._process.stdout.readline() == b"ready\n"


def serve(folder: str) -> None:
    """Fork for each request that comes to the socket in a folder, and tell how its process ended."""
    for name in IMPORTS:
        __import__(name)
    Plugins.instance()  # imports all of Hydra's
    Image.init()  # and all of Pillow's
    gc.freeze()  # what is imported is never garbage
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listening.bind(f"{folder}/socket")
    listening.listen()
    waking, wake = socket.socketpair()
    wake.setblocking(False)
    signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests
    print("ready", flush=True)
    children: dict[int, socket.socket] = {}
    with selectors.DefaultSelector() as ready:
        for source in (listening, waking, sys.stdin):
            ready.register(source, selectors.EVENT_READ)
        while True:
            for key, _ in ready.select():
                if key.fileobj is sys.stdin:  # the tests have ended
                    return
                if key.fileobj is waking:
                    waking.recv(1024)
                    _reap(children)
                    continue
                connection, _address = listening.accept()
                message, descriptors, _flags, _address = socket.recv_fds(connection, 2**20, 3)
                pid = os.fork()
                if not pid:
                    signal.set_wakeup_fd(-1)
                    for other in (listening, waking, wake, connection, *children.values()):
                        other.close()
                    _become(json.loads(message), descriptors, folder)
                for descriptor in descriptors:
                    os.close(descriptor)
                children[pid] = connection
                connection.send(str(pid).encode())


def _reap(children: dict[int, socket.socket]) -> None:
    """Tell of every child that has ended how it did."""
    for pid in list(children):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            with suppress(OSError), children.pop(pid) as connection:
                connection.send(str(status).encode())


def _become(request: dict[str, Any], descriptors: "array.array[int] | list[int]", folder: str) -> None:
    """Be the process of a command; doesn't return."""
    status = 1
    try:
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
        if request["session"]:
            os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number in (signal.SIGCHLD, signal.SIGHUP):  # whoever runs the tests may ignore hangups (nohup)
            signal.signal(number, signal.SIG_DFL)
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["env"])
        sys.path[0] = request["cwd"]
        sys.argv[:] = [request["module"], *request["words"]]
        _fork_followers(folder)
        try:
            status = _run(request["module"])
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 1
        except KeyboardInterrupt:
            status = 130
        except BaseException:
            sys.excepthook(*sys.exc_info())
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


def _run(module: str) -> int:
    """Run a module as a program; return the exit status."""
    if module == MAIN:
        from nst.train import main

        return main()
    sys.modules.pop(module, None)
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    return 0


def _fork_followers(folder: str) -> None:
    """Let the server in a folder fork the other processes of this process's runs."""
    from nst.plan import devices

    def fork(command: list[str], **options: Any) -> Process:
        _, _, module, *words = command
        return ask(folder, module, words, cwd=Path.cwd(), **options)

    names = ("PIPE", "DEVNULL", "TimeoutExpired")
    devices.subprocess = SimpleNamespace(Popen=fork, **{name: getattr(subprocess, name) for name in names})


if __name__ == "__main__":
    serve(sys.argv[1])
