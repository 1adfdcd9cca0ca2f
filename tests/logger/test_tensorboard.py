"""TensorBoard in a real browser: a sweep's runs, what varies, its curves and its pictures."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from selenium.webdriver import Chrome
from selenium.webdriver.support.wait import WebDriverWait

from tests.conftest import Command, free_port

#: What a page shows, within the shadow roots of its elements, too: texts, and the widths of its pictures.
SHOWN = """
const texts = [], widths = [];
const walk = (node) => {
    if (node.nodeName === "IMG") widths.push(node.naturalWidth);
    const seen = node.nodeType === Node.TEXT_NODE && node.parentElement?.checkVisibility();
    if (seen) texts.push(node.textContent.trim());
    if (node.shadowRoot) walk(node.shadowRoot);
    node.childNodes.forEach(walk);
};
walk(document.body);
return [texts.filter((text) => text), widths];
"""


@pytest.fixture
def sweep(inside: Command, small: list[str], tmp_path: Path) -> Path:
    """Four runs, whose style weight and optimizer vary."""
    varied = ["weights.style=1e4,1e5", "optimizer=lbfgs,adam"]
    finished = inside("-m", *small, "callbacks.snapshot.every_evaluations=3", *varied, "hydra.sweep.dir=sweep")
    assert finished.returncode == 0, finished.stderr
    return tmp_path / "sweep"


@pytest.fixture
def address(sweep: Path) -> Iterator[str]:
    """TensorBoard's address, on this machine alone."""
    port = str(free_port())
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(sweep), "--host", "127.0.0.1", "--port", port]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        address, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 60
        while time.monotonic() < deadline:
            with contextlib.suppress(requests.ConnectionError):
                if len(requests.get(f"{address}/data/runs", timeout=10).json()) == 4:
                    break
            time.sleep(0.2)
        yield address
        process.terminate()


def page(
    browser: Chrome, address: str, complete: Callable[[list[str], list[int]], bool]
) -> tuple[list[str], list[int]]:
    """The texts and the pictures' widths of a page, once it is ``complete``."""

    def look(_: Chrome) -> tuple[list[str], list[int]] | None:
        texts, widths = browser.execute_script(SHOWN)
        return (texts, widths) if complete(texts, widths) else None

    browser.get("about:blank")  # or another part of the page that is there would be no new page
    browser.get(address)
    found = WebDriverWait(browser, 60, poll_frequency=0.5).until(look)
    assert found is not None
    return found


def test_tensorboard_compares_a_sweep(browser: Chrome, sweep: Path, address: str) -> None:
    names = {str(path.parent.relative_to(sweep)) for path in sweep.rglob("events.*")}
    assert all(name.endswith("/tensorboard") and name.count("content-style") == 1 for name in names)
    varied = {"weights.style", "optimizer"}
    assert len(names) == 4

    def told(texts: list[str], words: set[str]) -> bool:
        return all(any(word in text for text in texts) for word in words)

    values = {"lbfgs", "adam", "1.0000e+5", "summary/total"}
    texts, _ = page(browser, f"{address}/#hparams", lambda texts, _: told(texts, {*varied, *values}))
    columns = texts[texts.index("Trial ID") :]
    assert varied <= set(columns[: columns.index("summary/total")]), "what varies stands before the metrics"

    texts, _ = page(browser, f"{address}/#scalars", lambda texts, _: told(texts, {*names, "gradient_norm"}))
    tags = list(
        dict.fromkeys(text.partition("/")[0] for text in texts if text in {"loss", "optimizer", "share", "summary"})
    )
    assert tags == ["loss", "optimizer", "share", "summary"], (
        "the page begins with the losses, and ends with single points"
    )

    _, widths = page(browser, f"{address}/#images", lambda texts, widths: len([w for w in widths if w]) >= 12)
    assert set(widths) == {32}

    page(browser, f"{address}/#custom_scalars", lambda texts, _: told(texts, {"shares of the total", "Matches (20)"}))
