"""A page on loopback that shows one run while it is optimized, and can stop it."""

import html
import secrets
import signal
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from nst.live.progress import progress
from nst.live.view import CSS, run_html

#: Nothing may be loaded from another host, and no other page may show this one in a frame.
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; style-src 'unsafe-inline'; "
    "script-src 'nonce-{nonce}'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{name} · nst</title>
<style>:root {{ color-scheme: light dark; }} body {{ font: 15px system-ui, sans-serif; margin: 1.5rem; }}
button {{ font: inherit; padding: .4rem 1rem; margin-bottom: 1rem; }}
{css}</style></head>
<body><button id="stop">Stop and keep the picture</button><main>{run}</main>
<script nonce="{nonce}">
const [button, main] = [document.querySelector("button"), document.querySelector("main")];
button.onclick = async () => {{
  button.disabled = true;
  await fetch("stop", {{ method: "POST", headers: {{ "X-Token": "{token}" }} }});
}};
async function refresh() {{
  try {{
    const answer = await fetch("run");
    if (!answer.ok) throw new Error(answer.statusText);
    main.innerHTML = await answer.text();
  }} catch {{
    button.disabled = true;
    button.textContent = "The run has ended";
    return;
  }}
  setTimeout(refresh, document.hidden ? 5000 : 1000);
}}
refresh();
</script></body></html>"""


class LiveServer:
    """A server for the run in a folder, which begins to serve in a thread of the run's process.

    Args:
        folder: the run's folder.
        port: port on loopback; 0 for a free one.

    Raise OSError if the port isn't free.
    """

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.folder = folder
        self.token = secrets.token_urlsafe(16)
        self._server = _Server(("127.0.0.1", port), _handler(self))
        self._server.daemon_threads = True
        every = {"poll_interval": 0.05}  # in seconds; closing waits for the end of one
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs=every, name="nst-live", daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """The page's address."""
        return f"http://127.0.0.1:{self._server.server_port}/"

    def close(self) -> None:
        """Stop serving the page."""
        self._server.shutdown()
        self._server.server_close()

    def page(self, nonce: str) -> str:
        """Return the whole page."""
        run = run_html(progress(self.folder))
        return _PAGE.format(name=html.escape(self.folder.name), css=CSS, run=run, nonce=nonce, token=self.token)


class _Server(ThreadingHTTPServer):
    def handle_error(self, *args: Any) -> None:
        """Say nothing of a browser that hangs up."""


def _handler(live: LiveServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 20  # seconds that a connection may be silent

        def do_GET(self) -> None:
            if not self._own_host():
                self._answer(HTTPStatus.FORBIDDEN)
            elif self.path == "/":
                nonce = secrets.token_urlsafe(16)
                self._answer(HTTPStatus.OK, live.page(nonce), nonce)
            elif self.path == "/run":
                self._answer(HTTPStatus.OK, run_html(progress(live.folder)))
            else:
                self._answer(HTTPStatus.NOT_FOUND)

        def do_POST(self) -> None:
            # Another site can't read the token, and can't send this header without being asked for its permission.
            known = secrets.compare_digest(self.headers.get("X-Token", "").encode(), live.token.encode())
            if not (self._own_host() and known and self.path == "/stop"):
                self._answer(HTTPStatus.FORBIDDEN)
                return
            self._answer(HTTPStatus.OK, "stopping")
            signal.raise_signal(signal.SIGTERM)  # a second one, unlike a second Ctrl-C, changes nothing

        def _own_host(self) -> bool:
            """Return whether the request names this server; another name may be a site's that resolves to loopback."""
            own = live.address.removeprefix("http://").rstrip("/")
            return self.headers.get("Host") in (own, own.replace("127.0.0.1", "localhost"))

        def _answer(self, status: HTTPStatus, body: str = "", nonce: str = "") -> None:
            data = (body or status.phrase).encode()
            self.send_response(status)
            for name, value in HEADERS.items():
                self.send_header(name, value.format(nonce=nonce))
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: Any) -> None:
            """Log nothing: the page asks for the run every second."""

    return Handler
