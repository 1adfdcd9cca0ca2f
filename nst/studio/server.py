"""The studio's server, and what it refuses."""

import base64
import re
import secrets
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import FastAPI
from fastapi.responses import FileResponse, Response
from gradio.utils import get_upload_folder

from nst.studio.estimate import Speeds
from nst.studio.page import SCRIPT, STYLE, TEXTS, page, theme
from nst.studio.queue import Queue
from nst.studio.uploads import MOST_BYTES

Message = dict[str, Any]
App = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]

#: Bytes of uploads that Gradio may keep.
MOST_KEPT = 2_000_000_000

#: The files of the folder of outputs that a comparison's page leads to, and this page.
SERVED = re.compile(r"\.studio/compare/[0-9a-f]{16}/(index\.html|sheet\.png)|[^.].*/(result\.png|progress\.(mp4|gif))")

#: How often a file that is replaced while it is read is read.
READ = 5

#: Names of this machine on which a page of another site can't be.
LOOPBACK = ("127.0.0.1", "localhost", "::1")

#: The page loads nothing from another host, and no other page may show it in a frame.
HEADERS = {
    "content-security-policy": "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' data: blob:; "
    "font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:; frame-ancestors 'none'; "
    "form-action 'self'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


class Guard:
    """An ASGI application in front of another one, which refuses what only an attacker would send.

    It refuses requests for another host's name (DNS rebinding), requests that another site's page sends, requests
    without the password if there is one, and bodies that are too large, before they are read.

    Args:
        app: the application behind it.
        hosts: names of the server in the header ``Host``; None for any.
        password: the password of HTTP Basic authentication; None for none.
        full: returns whether no further upload is taken.
    """

    def __init__(
        self, app: Any, *, hosts: Iterable[str] | None, password: str | None, full: Callable[[], bool]
    ) -> None:
        self.app = app
        self.hosts = None if hosts is None else set(hosts)
        self.password = password
        self.full = full

    async def __call__(self, scope: Message, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope.get("headers", [])}
        status = self._refusal(scope, headers)
        if status is not None:
            await _refuse(scope, status, send)
            return
        left = 2 * MOST_BYTES

        async def bounded() -> Any:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                return {"type": "http.disconnect"}
            return message

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", []), *own]}
            await send(message)

        is_file = scope["type"] == "http" and re.search("/file=|^/runs/", scope["path"])
        answer = self._answer_whole if is_file else self.app
        await answer(scope, bounded, with_headers)

    async def _answer_whole(self, scope: Message, receive: Any, send: Any) -> None:
        """Answer with a file that is read as a whole, and read again if it was replaced meanwhile.

        Otherwise its length may be another one than the header says, which the server refuses to send. A file that was
        removed meanwhile is answered like one that was never there, without a traceback on the terminal.
        """
        for _ in range(READ):
            messages: list[Message] = []

            async def keep(message: Message, kept: list[Message] = messages) -> None:
                kept.append(message)

            try:
                await self.app(scope, receive, keep)
            except (FileNotFoundError, RuntimeError) as error:
                if not _is_gone(error):
                    raise
                await _refuse(scope, 404, send)
                return
            if scope["method"] != "GET" or _is_whole(messages):
                break
        else:
            await _refuse(scope, 503, send)
            return
        for message in messages:
            await send(message)

    def _refusal(self, scope: Message, headers: dict[str, str]) -> int | None:
        """Return the status of the answer to a request that is refused; None for one that isn't."""
        host = headers.get("host", "")
        if self.hosts is not None and host not in self.hosts:
            return 403
        path = scope.get("path", "")
        if re.search(r"=\w+:/|/process_recording", path):  # Gradio would ask another host, or keep a recording
            return 403
        origin = headers.get("origin")
        if origin is not None and re.sub(r"^(https?|wss?)://", "", origin) != host:
            return 403
        opens = scope.get("method") == "GET" and headers.get("sec-fetch-mode") == "navigate"  # a link on another page
        if not opens and headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return 403
        if self.password is not None and not self._knows(headers.get("authorization", "")):
            return 401
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > 2 * MOST_BYTES:
            return 413
        if path.endswith("/upload") and self.full():
            return 429
        return None

    def _knows(self, authorization: str) -> bool:
        kind, _, value = authorization.partition(" ")
        try:
            _, _, given = base64.b64decode(value, validate=True).decode().partition(":")
        except ValueError:
            return False
        return kind.lower() == "basic" and secrets.compare_digest(given.encode(), str(self.password).encode())


def _is_whole(messages: Iterable[Message]) -> bool:
    """Return whether an answer has as many bytes as its header says, if it says so."""
    headers = [pair for message in messages for pair in message.get("headers", [])]
    said = next((int(value) for name, value in headers if name.lower() == b"content-length"), None)
    return said is None or said == sum(len(message.get("body", b"")) for message in messages)


def _is_gone(error: Exception) -> bool:
    """Return whether an error says that a file was removed after it was found. Starlette says so by a RuntimeError."""
    return (
        isinstance(error, FileNotFoundError)
        or re.fullmatch(r"File at path .* does not exist\.", str(error)) is not None
    )


async def _refuse(scope: Message, status: int, send: Any) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    asks = [(b"www-authenticate", b'Basic realm="nst studio"')] if status == 401 else []
    headers = [(b"content-type", b"text/plain"), (b"connection", b"close"), *asks]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"refused\n"})


def application(queue: Queue, speeds: Speeds, *, hosts: Iterable[str] | None, password: str | None) -> Guard:
    """Return the studio as an ASGI application. It serves the page, the queue's run folders, and nothing else."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)

    @app.get("/runs/{path:path}")
    def of_run(path: str) -> Response:
        file = queue.outputs / path
        allowed = SERVED.fullmatch(path) and ".." not in Path(path).parts and file.is_file()
        return FileResponse(file) if allowed else Response(status_code=404)

    blocks = page(queue, speeds)
    blocks.has_launched = True  # or Gradio takes paths from a browser for paths of ours, and serves any file
    hidden = [str(queue.outputs / ".studio")]
    gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        allowed_paths=[str(queue.outputs)],
        blocked_paths=hidden,
        max_file_size=MOST_BYTES,
        ssr_mode=False,
        enable_monitoring=False,
        show_error=True,
        footer_links=[],
        i18n=gr.I18n(**TEXTS),
        theme=theme(),
        css=STYLE,
        js=SCRIPT,
    )
    return Guard(app, hosts=hosts, password=password, full=_full)


def _full() -> bool:
    """Return whether Gradio keeps as many bytes of uploads and small pictures as it may."""
    files = [path for path in Path(get_upload_folder()).rglob("*") if path.is_file()]
    return sum(path.stat().st_size for path in files) > MOST_KEPT
