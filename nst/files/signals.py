"""Signals that end processes, on systems that have few of them.

Windows has no SIGHUP, SIGUSR2 and SIGKILL. There, Ctrl-Break is the only signal that one process can send to another
without ending it at once, and it goes to a group of processes.
"""

import signal
import subprocess
from typing import Any


def _existing(*names: str) -> tuple[signal.Signals, ...]:
    return tuple(getattr(signal, name) for name in names if hasattr(signal, name))


#: The signals that ask this process to end.
ENDINGS = _existing("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")

#: The signal by which submitit tells a job on a cluster that its time is nearly over; empty on Windows.
REQUEUE = _existing("SIGUSR2")

#: The signal that asks another process to end.
ASK: int = getattr(signal, "CTRL_BREAK_EVENT", signal.SIGTERM)

#: Arguments of ``subprocess.Popen`` for a process that doesn't get the signals of this terminal, but can get ``ASK``.
APART: dict[str, Any] = (
    {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    if hasattr(subprocess, "CREATE_NEW_PROCESS_GROUP")
    else {"start_new_session": True}
)
