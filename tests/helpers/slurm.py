"""A Slurm of this one machine, for the time of a test: its daemons, from a folder of their own, on loopback."""

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol")
CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,sched_interval=1
ReturnToService=2
KillWait=20
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=1000
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE
"""


def missing() -> str | None:
    """Why Slurm can't be started here, or None."""
    absent = [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]
    if absent:
        return f"Slurm is not installed: there is no {', '.join(absent)}"
    return None if os.geteuid() == 0 else "Slurm's daemons are started by root only"


@contextmanager
def started(folder: Path) -> Iterator[dict[str, str]]:
    """Runs munged, slurmctld and slurmd, and stops them at the end; gives the environment to submit from."""
    ports = _free_ports(2)
    host = socket.gethostname().partition(".")[0]
    for name in ("state", "spool"):
        (folder / name).mkdir()
    conf, key = folder / "slurm.conf", folder / "munge.key"
    conf.write_text(CONF.format(host=host, controller=ports[0], node=ports[1], folder=folder, cpus=os.cpu_count()))
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(128))
    environment = {**os.environ, "PATH": _path(), "SLURM_CONF": str(conf)}
    munge = [
        f"--{name}={folder}/munge.{name.split('-')[0]}" for name in ("key-file", "socket", "pid-file", "seed-file")
    ]
    daemons = [["munged", "--foreground", "--force", *munge], ["slurmctld", "-D"], ["slurmd", "-D"]]
    with ExitStack() as stack:
        for command in daemons:
            stack.enter_context(_running(command, folder / f"{command[0]}.log", environment))
        _wait_for_node(environment, folder)
        yield environment
        subprocess.run(["scancel", "--user=root"], env=environment, check=False)


@contextmanager
def _running(command: list[str], log: Path, environment: dict[str, str]) -> Iterator[None]:
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for_node(environment: dict[str, str], folder: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        state = subprocess.run(
            ["sinfo", "--noheader", "--format=%T"], capture_output=True, text=True, env=environment, check=False
        )
        if state.stdout.strip() == "idle":
            return
        time.sleep(0.2)
    logs = [path.read_text() for path in folder.glob("*.log")]
    raise TimeoutError("\n".join(["Slurm did not start:", state.stdout, state.stderr, *logs]))


def _path() -> str:
    """Daemons are in folders that a user's PATH may not have."""
    return f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin"


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
