"""The format of a file of weights, found without torch, so that another file is told from one quickly."""

from pathlib import Path
from typing import Literal

from nst.errors import UserError, file_problem, problem

#: Why a file that is read as weights can't be used.
NO_WEIGHTS = (
    "this file is not a checkpoint of weights: it was not written by torch.save or as safetensors, or contains more "
    "than tensors"
)


def check_format(path: Path, *, key: str) -> None:
    """Raise UserError if the file that ``key`` names is missing, or can't be one of weights by its first bytes."""
    if (why := file_problem(path)) is None:
        try:
            why = NO_WEIGHTS if format_of(path) is None else None
        except OSError as error:
            why = f"this file can't be read: {error.strerror}"
    if why is not None:
        raise UserError(problem(key, path, why))


def format_of(path: Path) -> Literal["safetensors", "torch"] | None:
    """Return the format that a file's first bytes belong to; None if it is that of neither.

    A file of safetensors begins with the length of a header in JSON, and the header; one of ``torch.save`` is a zip, or
    a pickle.
    """
    with path.open("rb") as file:
        start = file.read(9)
    if len(start) == 9 and start[8:] == b"{" and int.from_bytes(start[:8], "little") <= path.stat().st_size - 8:
        return "safetensors"
    return "torch" if start.startswith((b"PK", b"\x80")) else None
