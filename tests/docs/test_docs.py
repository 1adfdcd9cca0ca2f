"""The documentation's site, and the reference of the configuration."""

import importlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from selenium.webdriver import Chrome
from selenium.webdriver.support.ui import WebDriverWait

from nst.files import paths
from tests.config.test_config import OPTIONS, composed
from tests.conftest import NOWHERE
from tests.helpers.pages import TOP


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built strictly: a dead link or anchor, or a page outside the navigation, is an error."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    proxies = dict.fromkeys(("http_proxy", "https_proxy"), NOWHERE)
    environment = {**os.environ, **proxies, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=TOP, env=environment, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    assert "WARNING" not in built.stderr
    return folder


class Loaded(HTMLParser):
    """What a page loads by itself: scripts, styles, pictures, frames. Links that a reader follows don't count.

    Attributes:
        found: the addresses.
        ids: the anchors of the page.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        self.ids.add(given.get("id", ""))
        self.found += [given[name] for name in ("src", "srcset", "data", "poster") if name in given]
        if tag == "link" and given.get("rel") not in ("canonical", "prev", "next"):
            self.found.append(given["href"])


def test_no_page_loads_anything_from_another_host(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 60
    for page in pages:
        text = page.read_text(encoding="utf-8")
        found = Loaded(text).found
        assert found
        assert not [each for each in found if re.match(r"(https?:)?//", each)], page
        assert "@import" not in text
    for style in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", style.read_text(encoding="utf-8")), style


def test_a_loaded_address_is_found() -> None:
    text = '<link rel="stylesheet" href="//a/b.css"><script src="https://a/c.js"></script><a href="https://a/">a</a>'
    assert Loaded(text).found == ["//a/b.css", "https://a/c.js"]


def test_the_reference_has_every_key_and_option(site: Path) -> None:
    folder = site / "reference" / "configuration"
    ids = set().union(*(Loaded(page.read_text(encoding="utf-8")).ids for page in folder.glob("*.html")))
    for option in OPTIONS:
        group, _, name = option.replace("=", "/").rpartition("/")
        assert f"{group.replace('/', '-')}-{name}" in ids, option
    shown = " ".join(page.read_text(encoding="utf-8") for page in folder.glob("*.html"))
    for key in _leaves(OmegaConf.to_container(composed())):
        assert f">{key}</code>" in shown, key


def _leaves(node: object, prefix: str = "") -> Iterator[str]:
    if not isinstance(node, dict) or not node:
        yield prefix.lstrip(".")
        return
    for key, value in node.items():
        if key not in ("_target_", "_partial_"):
            yield from _leaves(value, f"{prefix}.{key}")


@pytest.fixture
def reference(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module that makes the reference's pages."""
    monkeypatch.syspath_prepend(str(TOP / "docs" / "hooks"))
    return importlib.import_module("reference")


def test_every_key_of_every_option_is_documented(reference: Any) -> None:
    assert reference.undocumented() == []


def test_an_undocumented_key_is_found(reference: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(paths.configs(), tmp_path / "configs")
    adam = tmp_path / "configs" / "optimizer" / "adam.yaml"
    adam.write_text(adam.read_text(encoding="utf-8") + "amsgrad: false\n")
    preset = tmp_path / "configs" / "experiment" / "preview.yaml"
    preset.write_text(preset.read_text(encoding="utf-8") + "extra: 1\n")
    monkeypatch.setattr(paths, "configs", lambda: tmp_path / "configs")
    assert reference.undocumented() == [
        "configs/experiment/preview.yaml: extra",
        "configs/optimizer/adam.yaml: optimizer.amsgrad",
    ]


#: Pages with wide tables, long commands, formulas or many pictures, and one that is generated.
SHOWN = [
    "index", "guide/methods", "comparison", "benchmarks", "reference/configuration/encoder", "reference/python",
    "experiments/slim_encoder/index", "experiments/bundled_pictures/index",
]  # fmt: skip


def test_pages_show_in_a_browser_from_a_folder(site: Path, browser: Chrome) -> None:
    """Without a server: every picture is there, and a narrow page doesn't scroll sideways, light or dark."""
    browser.get_log("browser")
    colours = set()
    for width, scheme in ((400, "dark"), (1400, "light")):
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [_preference(scheme)]})
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", _screen(width))
        for page in SHOWN:
            browser.get((site / f"{page}.html").as_uri())
            found = browser.execute_script(
                "return [document.documentElement.scrollWidth <= innerWidth,"
                " [...document.images].filter(each => !each.naturalWidth).map(each => each.src),"
                " getComputedStyle(document.body).backgroundColor]"
            )
            assert found[:2] == [True, []], (page, scheme)
            colours.add(found[2])
    assert len(colours) == 2
    assert browser.get_log("browser") == []


def _preference(scheme: str) -> dict[str, str]:
    return {"name": "prefers-color-scheme", "value": scheme}


def _screen(width: int) -> dict[str, object]:
    return {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}


def test_the_search_finds_a_key_from_a_folder(site: Path, browser: Chrome) -> None:
    browser.get((site / "index.html").as_uri())
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", _screen(1400))
    browser.execute_script("document.querySelector('.md-search__input').focus()")
    browser.switch_to.active_element.send_keys("every_evaluations")
    results = WebDriverWait(browser, 20).until(
        lambda shown: shown.find_elements("css selector", ".md-search-result__link")
    )
    assert any("callbacks" in result.get_attribute("href") for result in results)


def test_formulas_are_mathml(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(TOP / "docs" / "hooks"))
    pages = importlib.import_module("pages")
    text = r'<p><span class="arithmatex">\(a &lt; b\)</span></p><div class="arithmatex">\[x^2\]</div>'
    shown = pages.on_page_content(text, None, None, None)
    assert "arithmatex" not in shown
    assert shown.count("<math") == 2
    assert "<msup><mi>x</mi><mn>2</mn></msup>" in shown
