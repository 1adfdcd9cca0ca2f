"""The trainer of a run, and a strategy for several processes on one machine that compute one picture.

Each process has its own tiles. The first process is the run. The others (``nst.run.follow``) build the same run from
its folder, and write nothing. Either the first process starts the others, or ``torchrun`` starts all of them.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytorch_lightning as pl
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.utilities.exceptions import MisconfigurationException
from lightning_utilities.core.rank_zero import rank_zero_only
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.strategies.launchers.launcher import _Launcher
from torch import distributed

from nst.callbacks.checkpoint_io import WholeCheckpointIO
from nst.config.nodes import Nodes
from nst.config.schema import Config
from nst.errors import UserError, one_line, problem
from nst.files.signals import APART
from nst.plan import torchrun

#: Seconds that the first process has for its report after another process has failed.
GRACE = 60.0


def make_trainer(config: Config, nodes: Nodes) -> pl.Trainer:
    """Make the trainer of a run, without callbacks and loggers.

    Raise UserError if Lightning refuses the arguments, or if torchrun has not started as many processes as
    ``trainer.devices``.
    """
    number = config.trainer.devices
    started = torchrun.started() or number
    if not torchrun.started():
        rank_zero_only.rank = 0  # type: ignore[attr-defined] # RANK or SLURM_PROCID of a job around this process doesn't count
    if started != number:
        why = f"torchrun has started {started} processes; set trainer.devices={started}"
        raise UserError(problem("trainer.devices", number, why))
    try:
        trainer: pl.Trainer = nodes.trainer(
            logger=False,
            strategy="auto" if number == 1 else TileStrategy(),
            plugins=[WholeCheckpointIO(), *([LightningEnvironment()] if number == 1 else [])],  # no cluster's
            precision=64 if config.precision == 64 else 32,
            max_epochs=-1,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
    except (MisconfigurationException, TypeError, ValueError) as error:
        if "MPS accelerator" in str(error):  # it refuses the strategy of several processes
            why = "there is only one MPS device; choices: 1, or trainer.accelerator=cpu"
            raise UserError(problem("trainer.devices", number, why)) from error
        if "backend found" in str(error):  # MisconfigurationException has no finer type
            why = "this machine has no such device that torch can use; choices: auto, cpu"
            raise UserError(problem("trainer.accelerator", config.trainer.accelerator, why)) from error
        raise UserError(f"trainer: {one_line(error)}") from error
    return trainer


class TileStrategy(DDPStrategy):
    """DDP strategy in which every process has the picture and the same gradient.

    The objective sums the gradient over the processes, so the module is not wrapped; the image is another one at each
    scale. L-BFGS divides its state among the processes; other optimizers are the same in each. Lightning's barriers do
    nothing, because a process waits for another's files only when it saves a checkpoint.

    Attributes:
        folder: the run's folder, from which the other processes build the same run. Set before the fit.
    """

    folder: Path

    def __init__(self) -> None:
        environment = TorchElasticEnvironment() if torchrun.started() else LightningEnvironment()
        super().__init__(cluster_environment=environment)

    def _configure_launcher(self) -> None:
        self._launcher = Launcher(self)

    def configure_ddp(self) -> None:
        pass

    def barrier(self, *args: Any, **kwargs: Any) -> None:
        pass

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any | None = None) -> None:
        """Save the parts of the other processes, if they have any, and then the first one's, which makes it whole."""
        if checkpoint["optimizer_states"][0].get("parts", 1) > 1:
            if not self.is_global_zero:
                assert isinstance(self.checkpoint_io, WholeCheckpointIO)
                self.checkpoint_io.save_part(checkpoint, Path(filepath), self.global_rank)
            distributed.barrier()
        super().save_checkpoint(checkpoint, filepath, storage_options)

    def teardown(self) -> None:
        """Remove the process group and its environment variables, so that this process's next run doesn't use them."""
        super().teardown()
        if distributed.is_initialized():
            distributed.destroy_process_group()
        if not torchrun.started():
            for name in ("MASTER_ADDR", "MASTER_PORT"):
                os.environ.pop(name, None)


class Launcher(_Launcher):
    """Launcher that starts the other processes and ends them with the first, or sends torchrun's the run's folder."""

    def __init__(self, strategy: TileStrategy) -> None:
        self.strategy = strategy
        self.processes: list[subprocess.Popen[bytes]] = []
        self._over = threading.Event()

    @property
    def is_interactive_compatible(self) -> bool:
        return False

    def launch(self, function: Callable[..., Any], *args: Any, trainer: Any = None, **kwargs: Any) -> Any:
        """Call the function while all processes are running, and return its result."""
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
            for process in self.processes:
                process.kill()
                process.wait()

    def kill(self, signum: Any) -> None:
        """Send a signal to the processes that are alive."""
        for process in self.processes:
            process.send_signal(signum)

    def _start(self, address: str, port: int) -> None:
        for rank in range(1, self.strategy.num_processes):
            place = {"LOCAL_RANK": str(rank), "MASTER_ADDR": address, "MASTER_PORT": str(port)}
            self.processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "nst.run.follow", str(self.strategy.folder.absolute())],
                    env={**os.environ, **place},
                    stdin=subprocess.PIPE,  # end of file means that the first process has ended
                    stdout=subprocess.DEVNULL,
                    **APART,  # only the first process gets Ctrl-C
                )
            )
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        """Kill all processes if another one has failed and the first would wait for it forever."""
        while not self._over.wait(1):
            failed = [process for process in self.processes if process.poll()]
            if failed and not self._over.wait(GRACE):
                print(f"error: a process of the run ended with status {failed[0].returncode}", file=sys.stderr)
                for process in self.processes:
                    process.kill()
                psutil.Process().kill()

    def _explain(self, error: RuntimeError) -> None:
        """Raise RuntimeError that names the failed process, if any; ``error`` only says that one doesn't answer."""
        for rank, process in enumerate(self.processes, start=1):
            with suppress(subprocess.TimeoutExpired):  # its connections close shortly before it ends
                process.wait(2)
            if process.poll():
                raise RuntimeError(f"process {rank} of the run ended with status {process.returncode}") from error

    def _wait(self, seconds: float = 10) -> None:
        """Wait until the processes have ended by themselves, but no longer once one takes more than ``seconds``."""
        for process in self.processes:
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                return
