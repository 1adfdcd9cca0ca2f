"""Checkpoints on disk: written whole or not at all, read without executing anything in them."""

import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch
from lightning_fabric.plugins.io import TorchCheckpointIO

from nst.errors import UserError, problem
from nst.file import replacing


class WholeCheckpointIO(TorchCheckpointIO):
    """Streams a checkpoint to a temporary file and renames it; Lightning's own copies it through memory first."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        Path(path).parent.mkdir(exist_ok=True)
        with replacing(Path(path)) as temporary, temporary.open("wb") as file:
            stream(checkpoint, file)

    def load_checkpoint(
        self, path: str | Path, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        check_whole(Path(path))
        # What is mapped takes no memory of its own; the history of L-BFGS would be there twice.
        checkpoint: dict[str, Any] = torch.load(path, map_location=map_location, weights_only=True, mmap=True)
        return checkpoint


def stream(checkpoint: dict[str, Any], file: BinaryIO) -> None:
    """Writes a checkpoint without a second copy of it. Raises OSError where that can't be done."""
    try:
        torch.save(checkpoint, file)
    except RuntimeError as error:  # torch's report of a file that is shorter than what was written to it
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


#: What a checkpoint of a run has, besides what is Lightning's.
KEYS = frozenset({"state_dict", "optimizer_states", "evaluation", "best", "stage", "recoveries", "random_state"})


def shape_in(path: Path) -> tuple[int, int]:
    """Height and width in px of the best picture in a checkpoint; no tensor is read.

    Raises UserError where the file is no checkpoint of a run, or damaged.
    """
    check_whole(path)
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        missing = sorted(KEYS - set(checkpoint))
        height, width = checkpoint["state_dict"]["best_image"].shape[-2:]
    except Exception as error:  # what torch raises for damaged files is of many kinds
        missing = [str(error).partition(chr(10))[0] or type(error).__name__]
    if missing:
        raise _damaged(path, ", ".join(missing))
    return height, width


def check_whole(path: Path) -> None:
    """Raises UserError where a part of a checkpoint isn't what was written: its file has a CRC-32 of each."""
    try:
        with zipfile.ZipFile(path) as parts:
            changed = parts.testzip()
    except Exception as error:  # what zipfile raises for damaged files is of many kinds
        raise _damaged(path, str(error) or type(error).__name__) from error
    if changed is not None:
        raise _damaged(path, f"{changed} was changed since")


def _damaged(path: Path, what: str) -> UserError:
    why = f"this checkpoint can't be read ({what}); remove it to go on from the one before"
    return UserError(problem("resume", path, why))
