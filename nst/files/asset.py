"""Sources of pictures and weights: path → cache → download → package → bundled stand-in."""

import functools
import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import pooch
import requests

from nst.errors import UserError, problem
from nst.files.atomic import sha256

log = logging.getLogger(__name__)

#: Seconds to wait for a server's answer, and between two pieces of a file.
TIMEOUT = 10

Source = Literal["path", "cache", "download", "package", "bundled", "stand-in", "random"]


@dataclass(frozen=True)
class Asset:
    """The source of a picture or a set of weights; ``path`` is None for weights that are generated, not read."""

    path: Path | None
    source: Source
    sha256: str | None
    detail: str | None = None


def from_path(path: Path) -> Asset:
    """Return the asset of a file that the user named, without a fallback. The file must exist."""
    return Asset(path.resolve(), "path", sha256(path))


def fetch(*, key: str, url: str, digest: str, cache: Path) -> Asset:
    """Return the file at ``url`` from the folder ``cache``; download it first if it is missing or damaged there.

    Args:
        key: the configuration key, for the message.
        url: address of the file.
        digest: SHA-256 of the file in hexadecimal, or its first digits.
        cache: folder that holds the file under the last part of ``url``.

    Raises:
        UserError: the downloaded file has another SHA-256.
        OSError: the file can't be obtained: no network, no such address, time-out, no way to store the file.
    """
    outcome = _outcome(key, url, digest, cache)
    if isinstance(outcome, OSError):
        raise outcome
    return outcome


@functools.cache
def _outcome(key: str, url: str, digest: str, cache: Path) -> Asset | OSError:
    """Return the asset, or the error, and keep the outcome for this process.

    So the runs of a sweep don't wait again for a server that didn't answer.
    """
    cached = cache / url.rsplit("/", 1)[-1]
    if cached.is_file():
        found = sha256(cached)
        if found.startswith(digest):
            return Asset(cached, "cache", found)
        log.warning("%s is damaged (its SHA-256 is %s, expected %s): downloading it again", cached, found, digest)
    try:
        return Asset(cached, "download", _download(key, url, digest, cached))
    except OSError as error:  # requests' exceptions are OSErrors, too
        return OSError(_reason(error, url))


def _reason(error: OSError, url: str) -> str:
    host = urlsplit(url).hostname
    if isinstance(error, requests.Timeout):
        return f"{host} did not answer within {TIMEOUT} s"
    if isinstance(error, requests.ConnectionError):
        return f"{host} can't be reached"
    return str(error)


def _download(key: str, url: str, digest: str, target: Path) -> str:
    log.info("Downloading %s", url)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".download-", dir=target.parent) as folder:
        received = Path(folder) / target.name
        pooch.HTTPDownloader(progressbar=True, timeout=TIMEOUT)(url, str(received), None)
        found = sha256(received)
        if not found.startswith(digest):
            why = f"the file downloaded from there has the SHA-256 {found}, expected {digest}; it was not kept"
            raise UserError(problem(key, url, why))
        received.replace(target)
    return found
