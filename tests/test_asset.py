"""Path → cache → download → stand-in, over a real HTTP server on this machine."""

import hashlib
import os
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from nst import asset
from nst.errors import UserError

from .conftest import NOWHERE


class Server(ThreadingHTTPServer):
    """Serves a folder and counts the requests."""

    requests = 0


class Handler(SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Server)
        self.server.requests += 1
        if self.path == "/slow.jpg":
            threading.Event().wait(3)
            return
        super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "x.jpg").write_bytes(b"picture")
    with Server(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


DIGEST = hashlib.sha256(b"picture").hexdigest()


def fetch(server: Server, cache: Path, name: str = "x.jpg", digest: str = DIGEST) -> asset.Asset:
    url = f"http://127.0.0.1:{server.server_port}/{name}"
    return asset.fetch(key="content.url", url=url, digest=digest, cache=cache)


@pytest.mark.parametrize("digits", [8, 64])
def test_downloaded_once_then_from_the_cache(server: Server, tmp_path: Path, digits: int) -> None:
    first = fetch(server, tmp_path / "kept", digest=DIGEST[:digits])
    assert (first.source, first.sha256) == ("download", DIGEST)
    asset._outcome.cache_clear()
    second = fetch(server, tmp_path / "kept", digest=DIGEST[:digits])
    assert (second.source, second.path, server.requests) == ("cache", first.path, 1)
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["x.jpg"]


def test_a_damaged_file_in_the_cache_is_downloaded_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(b"pict")
    assert fetch(server, tmp_path).source == "download"
    assert (tmp_path / "x.jpg").read_bytes() == b"picture"


def test_a_download_with_another_hash_is_refused_and_not_kept(server: Server, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"content.url=.*has the SHA-256 {DIGEST}, expected 00000000"):
        fetch(server, tmp_path / "kept", digest="0" * 64)
    assert list((tmp_path / "kept").iterdir()) == []


def test_a_server_that_does_not_answer_is_given_up_and_not_asked_again(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asset, "TIMEOUT", 0.2)
    for _ in range(2):
        with pytest.raises(OSError, match=r"127.0.0.1 did not answer within 0.2 s"):
            fetch(server, tmp_path, "slow.jpg")
    assert server.requests == 1


def test_a_missing_page_and_a_missing_server(server: Server, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="404"):
        fetch(server, tmp_path, "none.jpg")
    with pytest.raises(OSError, match=r"127.0.0.1 can't be reached"):
        asset.fetch(key="content.url", url=f"{NOWHERE}/x.jpg", digest=DIGEST, cache=tmp_path)


@pytest.mark.skipif("NST_TEST_DATA" not in os.environ, reason="NST_TEST_DATA names no folder of test data")
@pytest.mark.parametrize(
    "name", ["content/tubingen", "content/ballerina", "style/starry_night", "style/picasso", "style/scream"]
)
def test_the_named_pictures_have_the_hashes_in_their_configurations(name: str, tmp_path: Path) -> None:
    from omegaconf import OmegaConf

    from nst import paths

    config = OmegaConf.load(paths.configs() / f"{name}.yaml")
    folder = Path(os.environ["NST_TEST_DATA"]) / "images"
    with Server(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        fetched = fetch(running, tmp_path, f"{name}.jpg", config.sha256)
        running.shutdown()
    assert fetched.source == "download"
    assert config.url.endswith(f"/{name}.jpg")
