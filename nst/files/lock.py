"""Lock files, also on file systems that have no locks."""

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

log = logging.getLogger(__name__)

_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


@contextmanager
def locked(path: Path, *, timeout: float = -1) -> Iterator[None]:
    """Hold the lock of a file, which is made if it doesn't exist.

    If the file system has no locks, log a warning and go on without one.

    Raise ``filelock.Timeout`` if another process holds it after ``timeout`` seconds (-1: wait for ever), and OSError,
    with ``path`` in it, if the file can't be made.
    """
    lock = FileLock(path, timeout=timeout)
    try:
        lock.acquire()
    except OSError as error:  # Timeout is one, without a number
        if error.errno is None:
            raise
        if error.errno not in _NO_LOCKS:
            raise OSError(error.errno, error.strerror, str(path)) from error
        _warn(path)
    except NotImplementedError:
        _warn(path)
    try:
        yield
    finally:
        lock.release()


def _warn(path: Path) -> None:
    log.warning("%s: this file system has no locks; start no second process that uses this folder", path.parent)
