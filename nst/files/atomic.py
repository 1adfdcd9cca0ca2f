"""Atomic writing: a file is written as a whole or not at all."""

import errno
import hashlib
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

#: Prefix of a file's name until the file is complete. Files that a killed process has left may be removed.
UNFINISHED = ".unfinished-"

#: How often a file is renamed before the error counts; a reader may have it open for a moment.
_TRIES = 40 if sys.platform == "win32" else 1


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of ``path`` that replaces ``path`` if the block ends without an error.

    The data are flushed to the disk before the file is renamed, so a crash leaves the old file or the new one. The new
    name is flushed before the context exits, so of two files the later one never exists without the earlier one. The
    folder is not made: if it was removed during a run, it stays removed, and the run ends.
    Raise OSError, with ``path`` in it, if the file can't be written.
    """
    temporary = None
    try:
        descriptor, name = tempfile.mkstemp(prefix=UNFINISHED, suffix=path.suffix, dir=path.parent)
        os.close(descriptor)
        temporary = Path(name)
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        with suppress(PermissionError, NotImplementedError):  # a file system without modes refuses them
            temporary.chmod(0o666 & ~_umask())
        _rename(temporary, path)
        _settle(path.parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    finally:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def unused(path: Path) -> Path:
    """Return ``path``, with a number before its suffix if the name is taken."""
    names = (path.with_stem(f"{path.stem}-{number}") for number in itertools.count(2))
    return path if not path.exists() else next(name for name in names if not name.exists())


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _rename(source: Path, target: Path) -> None:
    """Rename a file over another one. Windows refuses this while any process has the other one open."""
    for _ in range(_TRIES - 1):
        try:
            source.replace(target)
            return
        except PermissionError:
            time.sleep(0.05)
    source.replace(target)


def _settle(folder: Path) -> None:
    """Flush the names in a folder to the disk, if the system and its file system support that."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.ENOSYS):
            raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
