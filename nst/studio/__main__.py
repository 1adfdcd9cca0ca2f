"""Command line of the studio, ``python -m nst.studio``, which serves a page on this machine."""

import argparse
import contextlib
import importlib.util
import os
import secrets
import signal
import socket
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from nst.files.streams import unfailing_streams

DESCRIPTION = """\
Serves a page to start, watch, stop, continue and compare runs. It starts the same commands as a shell, and saves their
runs in the folder of --outputs. A run continues if the studio ends.
"""

#: The environment variable with the password.
PASSWORD = "NST_STUDIO_PASSWORD"  # noqa: S105 - its name, not its value

#: The file in the folder of the runs with the address of the studio that uses it.
ADDRESS = Path(".studio", "address")


@unfailing_streams()
def main(words: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status: 0, or 2 if the user made a mistake, reported in one message."""
    arguments = parser().parse_args(sys.argv[1:] if words is None else words)
    if importlib.util.find_spec("gradio") is None:
        print("error: the studio needs an extra: pip install 'nst[studio]'", file=sys.stderr)
        return 2
    from nst.errors import UserError, of_disk, problem
    from nst.files.lock import locked

    outputs = arguments.outputs.absolute()
    try:
        try:
            (outputs / ".studio").mkdir(parents=True, exist_ok=True)
            with locked(outputs / ".studio" / "lock", timeout=0):
                return _serve(outputs, arguments.host, arguments.port)
        except TimeoutError:
            where = ""
            with contextlib.suppress(OSError):
                where = f", at {(outputs / ADDRESS).read_text(encoding='utf-8')}"
            why = f"another studio uses this folder{where}; open that one, or choose another folder"
            raise UserError(problem("--outputs", outputs, why)) from None
        except OSError as error:
            raise UserError(problem("--outputs", outputs, f"can't be used: {of_disk(error)}")) from None
    except UserError as error:
        for line in error.problems:
            print(f"error: {line}", file=sys.stderr)
        return 2


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m nst.studio", description=DESCRIPTION)
    add = parser.add_argument
    add("--outputs", type=Path, default=Path("outputs"), help="folder of the runs (default: outputs)")
    add(
        "--host",
        default="127.0.0.1",
        help=f"address to listen on (default: 127.0.0.1); any other requires a password: {PASSWORD}, or a new one",
    )
    add("--port", type=int, default=7860, help="port to listen on; 0 for a free one (default: 7860)")
    return parser


def _serve(outputs: Path, host: str, port: int) -> int:
    """Serve the page until the process is asked to end."""
    from nst.errors import UserError, of_disk, problem

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(100)  # from here on a browser waits for the page
    except (OSError, OverflowError) as error:
        listening.close()
        why = of_disk(error) if isinstance(error, OSError) else "a port is a number from 0 to 65535"
        raise UserError(problem("--port", port, f"can't listen on {host}: {why}")) from None
    password = os.environ.pop(PASSWORD, "")  # runs need not know it
    with tempfile.TemporaryDirectory(prefix="nst-studio-") as folder, listening:
        # Gradio reads these when it is imported.
        os.environ.update(GRADIO_ANALYTICS_ENABLED="False", HF_HUB_OFFLINE="1", GRADIO_TEMP_DIR=folder)
        import uvicorn

        from nst.files.atomic import write_text
        from nst.studio.estimate import Speeds
        from nst.studio.queue import Queue
        from nst.studio.server import LOOPBACK, application

        port = listening.getsockname()[1]
        own = host in LOOPBACK
        asked = None if own else password or secrets.token_urlsafe(12)
        hosts = [f"[{name}]:{port}" if ":" in name else f"{name}:{port}" for name in LOOPBACK] if own else None
        queue = Queue(outputs)
        speeds = Speeds(outputs)
        app = application(queue, speeds, hosts=hosts, password=asked)
        queue.start()
        shown = f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{port}/"
        write_text(outputs / ADDRESS, address)
        print(f"The studio is at {address} (Ctrl-C stops it)", flush=True)
        if asked is not None and not password:
            print(f"Its password is {asked}, with any user name", flush=True)
        config = uvicorn.Config(
            app,
            log_level="warning",
            limit_concurrency=100,
            timeout_keep_alive=10,
            timeout_graceful_shutdown=2,
            lifespan="on",
        )
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # uvicorn raises a signal again when it has ended
        try:
            uvicorn.Server(config).run(sockets=[listening])
        except KeyboardInterrupt:
            pass
        finally:
            (outputs / ADDRESS).unlink(missing_ok=True)
            queue.close()
            speeds.close()
        if any(job.running() for job in queue.jobs()):
            print("The run continues; start the studio again to see it.", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
