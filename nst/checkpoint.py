"""Checkpoints on disk: written whole or not at all, read without executing anything in them."""

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
        checkpoint: dict[str, Any] = super().load_checkpoint(path, map_location, weights_only=True)
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
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        missing = sorted(KEYS - set(checkpoint))
        height, width = checkpoint["state_dict"]["best_image"].shape[-2:]
    except Exception as error:  # what torch raises for damaged files is of many kinds
        missing = [str(error).partition(chr(10))[0] or type(error).__name__]
    if missing:
        why = f"this checkpoint can't be read ({', '.join(missing)}); remove it to go on from the one before"
        raise UserError(problem("resume", path, why))
    return height, width
