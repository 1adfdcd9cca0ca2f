"""Processes started together by ``torchrun``: the first is the run, and sends its folder to the others."""

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

#: Key of the run's folder in the store that torchrun provides to its processes.
_FOLDER = "nst/folder"


def started() -> int:
    """Return how many processes torchrun has started; 0 if it did not start this one."""
    return int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else 0


def is_first() -> bool:
    """Return whether this process is the run, as is every process that torchrun did not start."""
    return not started() or os.environ["RANK"] == "0"


def tell(folder: Path) -> None:
    """Send the run's folder to the other processes, so that they begin."""
    _store().set(_FOLDER, str(folder.absolute()))


def hear() -> Path:
    """Wait for the run's folder and return it. If the first process fails, torchrun ends the waiting ones."""
    return Path(_store().get(_FOLDER).decode())


def _store() -> Any:
    from torch import distributed  # would slow down --help

    store = distributed.TCPStore  # type: ignore[attr-defined]
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    # The first process may need long to download the run's files.
    return store(address, port, is_master=False, timeout=timedelta(days=1))
