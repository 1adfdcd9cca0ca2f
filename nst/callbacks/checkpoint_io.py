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

    def save_part(self, checkpoint: dict[str, Any], path: Path, rank: int) -> None:
        """Save what only this process of the run has of a checkpoint: its part of the optimizer's state."""
        self.save_checkpoint({"optimizer_states": checkpoint["optimizer_states"]}, part_of(path, rank))

    def load_checkpoint(
        self, path: str | Path, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        checkpoint = _load(Path(path), map_location)
        optimizer = checkpoint.get("optimizer_states", [{}])[0]
        parts = [_load(each, map_location, of=Path(path)) for each in parts_of(Path(path), checkpoint)]
        optimizer["others"] = [part["optimizer_states"][0] for part in parts]
        return checkpoint


def part_of(path: Path, rank: int) -> Path:
    """Return the path of a process's part of a checkpoint."""
    return path.with_suffix(f".part{rank}")


def parts_of(path: Path, checkpoint: dict[str, Any]) -> list[Path]:
    """Return the paths of the other parts of a checkpoint, one for each process but the first."""
    number = checkpoint.get("optimizer_states", [{}])[0].get("parts", 1)
    return [part_of(path, rank) for rank in range(1, number)]


def _load(path: Path, map_location: Any | None, of: Path | None = None) -> dict[str, Any]:
    check_whole(path, of)
    loaded: dict[str, Any] = torch.load(path, map_location=map_location, weights_only=True, mmap=_MAPPED)
    return loaded


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
    for part in parts_of(path, checkpoint):
        check_whole(part, of=path)
    return height, width


def check_whole(path: Path, of: Path | None = None) -> None:
    """Raise UserError if anything in a checkpoint, or in a part ``of`` one, differs from its CRC-32 in the file."""
    whole, name = (path, "") if of is None else (of, f"{path.name}: ")
    try:
        with zipfile.ZipFile(path) as parts:
            changed = parts.testzip()
    except Exception as error:  # zipfile raises many types for damaged files
        why = "there is no such file" if isinstance(error, FileNotFoundError) else str(error) or type(error).__name__
        raise _damaged(whole, name + why) from error
    if changed is not None:
        raise _damaged(whole, f"{name}{changed} has changed since it was written")


def _damaged(path: Path, what: str) -> UserError:
    why = f"this checkpoint can't be read ({what}); remove it to resume from the previous one"
    return UserError(problem("resume", path, why))
