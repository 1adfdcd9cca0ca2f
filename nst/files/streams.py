"""Standard output and error that never fail: a run must not end because nobody reads what it prints."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO, cast

from nst.errors import typed


class Unfailing:
    """A text file that ignores errors in writing, for example after its reader has gone.

    Characters that its encoding lacks are written as escapes (``\\u65e5``).
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> int:
        try:
            self._file.write(text)
        except UnicodeEncodeError:
            encoding = self._file.encoding
            self.write(text.encode(encoding, "backslashreplace").decode(encoding))
        except OSError:
            self._give_up()
        return len(text)

    def flush(self) -> None:
        try:
            self._file.flush()
        except OSError:
            self._give_up()

    def _give_up(self) -> None:
        """Send the rest to the null device; otherwise Python would fail to write its buffer at exit."""
        with suppress(OSError), Path(os.devnull).open("w") as nobody:
            os.dup2(nobody.fileno(), self._file.fileno())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class CurrentStderr:
    """The ``sys.stderr`` of the moment, so that a log written while a progress bar is shown appears above the bar."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


class New(logging.Filter):
    """Filter of the console's log handler: it drops what other runs of the same sweep have said already."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not getattr(record, "repeated", False)


class Typed(logging.Filter):
    """Filter of Hydra's own messages: it writes the numbers in the overrides of a run as they are typed."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = " ".join(map(typed, record.getMessage().split(" "))), None
        return True


#: The stream of the console's log handler (configs/hydra/job_logging/nst.yaml).
stderr = CurrentStderr()


@contextmanager
def unfailing_streams() -> Iterator[None]:
    """Let no write to ``sys.stdout`` and ``sys.stderr`` fail, even if they are missing; restore them afterwards."""
    _open_descriptors()
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (_unfailing(stream, number) for number, stream in enumerate(before, start=1))
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before


def _unfailing(stream: Any, number: int) -> TextIO:
    if isinstance(stream, Unfailing):
        return cast(TextIO, stream)
    return cast(TextIO, Unfailing(open(number, "w", closefd=False) if stream is None else stream))


def _open_descriptors() -> None:
    """Open the null device for closed standard descriptors, which the next opened files would get otherwise."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number
