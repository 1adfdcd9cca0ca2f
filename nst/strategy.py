"""Lightning's strategy for several processes of one machine that compute one picture, each with its own tiles.

The first process is the run. The others follow it (``nst.follow``): they make the same run from its folder, and write
nothing. Either the first process starts them, or ``torchrun`` has started all.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.strategies.launchers.launcher import _Launcher
from torch import distributed

from nst import torchrun

#: Seconds that the first process has for its report, once another has failed.
GRACE = 60.0


class TileStrategy(DDPStrategy):
    """Every process has the picture and the optimizer, and the same gradient: the objective has added it up.

    So nothing is wrapped, as the image is another one at each scale, and no process waits for what another writes.

    Args:
        folder: of the run, which the other processes make again.
    """

    def __init__(self, *, folder: Path) -> None:
        environment = TorchElasticEnvironment() if torchrun.started() else LightningEnvironment()
        super().__init__(cluster_environment=environment)
        self.folder = folder

    def _configure_launcher(self) -> None:
        self._launcher = Launcher(self)

    def configure_ddp(self) -> None:
        pass

    def barrier(self, *args: Any, **kwargs: Any) -> None:
        pass

    def teardown(self) -> None:
        """Leaves nothing that the next run of this process would take for its own."""
        super().teardown()
        if distributed.is_initialized():
            distributed.destroy_process_group()
        if not torchrun.started():
            for name in ("MASTER_ADDR", "MASTER_PORT"):
                os.environ.pop(name, None)


class Launcher(_Launcher):
    """Starts the processes that follow the first, and ends them with it; tells torchrun's where the run is."""

    def __init__(self, strategy: TileStrategy) -> None:
        self.strategy = strategy
        self.processes: list[subprocess.Popen[bytes]] = []
        self._over = threading.Event()

    @property
    def is_interactive_compatible(self) -> bool:
        return False

    def launch(self, function: Callable[..., Any], *args: Any, trainer: Any = None, **kwargs: Any) -> Any:
        """Returns what the function does, with all processes at work."""
        environment = self.strategy.cluster_environment
        assert environment is not None
        environment.validate_settings(num_devices=self.strategy.num_processes, num_nodes=1)
        if torchrun.started() and torchrun.is_first():
            torchrun.tell(self.strategy.folder)
        if environment.creates_processes_externally:
            return function(*args, **kwargs)
        try:
            self._start(environment.main_address, environment.main_port)
            result = function(*args, **kwargs)
            self._wait()
            return result
        except RuntimeError as error:
            self._explain(error)
            raise
        finally:
            self._over.set()
            self.kill(signal.SIGKILL)

    def kill(self, signum: Any) -> None:
        """Sends a signal to those that are alive."""
        for process in self.processes:
            process.send_signal(signum)
            if signum == signal.SIGKILL:
                process.wait()

    def _start(self, address: str, port: int) -> None:
        for rank in range(1, self.strategy.num_processes):
            place = {"LOCAL_RANK": str(rank), "MASTER_ADDR": address, "MASTER_PORT": str(port)}
            self.processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "nst.follow", str(self.strategy.folder.absolute())],
                    env={**os.environ, **place},
                    stdin=subprocess.PIPE,  # its end tells that the first process is no more
                    stdout=subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl-C is for the first process alone
                )
            )
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        """Ends the run where another process failed and the first waits for it, without an end."""
        while not self._over.wait(1):
            failed = [process for process in self.processes if process.poll()]
            if failed and not self._over.wait(GRACE):
                print(f"error: a process of the run ended with status {failed[0].returncode}", file=sys.stderr)
                for process in self.processes:
                    process.kill()
                os.kill(os.getpid(), signal.SIGKILL)

    def _explain(self, error: RuntimeError) -> None:
        """Says which process failed where all that the first one knows is that it doesn't answer."""
        for rank, process in enumerate(self.processes, start=1):
            with suppress(subprocess.TimeoutExpired):  # its connections end a little before it does
                process.wait(2)
            if process.poll():
                raise RuntimeError(f"process {rank} of the run ended with status {process.returncode}") from error

    def _wait(self, seconds: float = 10) -> None:
        """They end by themselves; there is nothing that they still have to do."""
        for process in self.processes:
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                return
