"""Checkpoints on disk: written atomically, and read without executing code in them."""

import sys
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch
from lightning_fabric.plugins.io import TorchCheckpointIO

from nst.errors import UserError, problem
from nst.files.atomic import replacing

#: Mapped tensors take no memory; otherwise the history of L-BFGS would be in memory twice. Windows doesn't remove or
#: replace a file that is mapped.
_MAPPED = sys.platform != "win32"


class WholeCheckpointIO(TorchCheckpointIO):
    """Checkpoint I/O that streams to a temporary file and renames it; Lightning's own copies through memory first."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        Path(path).parent.mkdir(exist_ok=True)
        with replacing(Path(path)) as temporary, temporary.open("wb") as file:
            stream(checkpoint, file)

    def load_checkpoint(
        self, path: str | Path, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        check_whole(Path(path))
        checkpoint: dict[str, Any] = torch.load(path, map_location=map_location, weights_only=True, mmap=_MAPPED)
        return checkpoint


def stream(checkpoint: dict[str, Any], file: BinaryIO) -> None:
    """Write a checkpoint without making a copy of it. Raise OSError if it can't be written."""
    try:
        torch.save(checkpoint, file)
    except RuntimeError as error:  # raised by torch if the file is shorter than the data written to it
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


#: Keys that a checkpoint of a run must have.
KEYS = frozenset({"state_dict", "optimizer_states", "evaluation", "best", "stage", "recoveries", "random_state"})


def shape_in(path: Path) -> tuple[int, int]:
    """Return the height and width in px of the best picture in a checkpoint, without loading tensors into memory.

    Raise UserError if the file is not a checkpoint of a run, or is damaged.
    """
    check_whole(path)
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=_MAPPED)
        missing = sorted(KEYS - set(checkpoint))
        height, width = checkpoint["state_dict"]["best_image"].shape[-2:]
    except Exception as error:  # torch raises many types for damaged files
        missing = [str(error).partition(chr(10))[0] or type(error).__name__]
    if missing:
        raise _damaged(path, ", ".join(missing))
    return height, width


def check_whole(path: Path) -> None:
    """Raise UserError if a part of a checkpoint differs from its CRC-32 in the file."""
    try:
        with zipfile.ZipFile(path) as parts:
            changed = parts.testzip()
    except Exception as error:  # zipfile raises many types for damaged files
        raise _damaged(path, str(error) or type(error).__name__) from error
    if changed is not None:
        raise _damaged(path, f"{changed} has changed since it was written")


def _damaged(path: Path, what: str) -> UserError:
    why = f"this checkpoint can't be read ({what}); remove it to resume from the previous one"
    return UserError(problem("resume", path, why))
