"""Processes that ``torchrun`` has started all at once: the first is the run, and tells the others its folder."""

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

#: Under which name they hear of it, in the store that torchrun keeps for its processes.
_FOLDER = "nst/folder"


def started() -> int:
    """How many processes torchrun has started; 0 where it had no part in this one."""
    return int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else 0


def is_first() -> bool:
    """Whether this process is the run; so is every process that torchrun had no part in."""
    return not started() or os.environ["RANK"] == "0"


def tell(folder: Path) -> None:
    """Lets the others begin."""
    _store().set(_FOLDER, str(folder.absolute()))


def hear() -> Path:
    """Waits for the run's folder; torchrun ends those that wait where the first process fails."""
    return Path(_store().get(_FOLDER).decode())


def _store() -> Any:
    from torch import distributed  # which --help need not wait for

    store = distributed.TCPStore  # type: ignore[attr-defined]
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    # The first process may take its time to download the run's files.
    return store(address, port, is_master=False, timeout=timedelta(days=1))
