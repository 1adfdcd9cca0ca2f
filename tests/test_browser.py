"""The page in a real browser, from the disk: the runs, what varies, the pictures, and how quickly it answers."""

import os
from pathlib import Path

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.select import Select

from nst.compare.__main__ import main

from .helpers.run_folders import input_of, make_run, noisy
from .test_compare import EVIL

SLOWNESS = float(os.environ.get("NST_TEST_SLOWNESS", "1"))


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two styles by two contents, one of them with every character that HTML minds, one failed, one a stand-in."""
    folder = tmp_path_factory.mktemp("runs #1") / "sweep"
    for number, (style, content) in enumerate((s, c) for s in ("picasso", EVIL) for c in ("ballerina", "tubingen")):
        assets = {"style": input_of("x", "stand-in")} if number == 1 else {}
        make_run(folder / str(number), style=style, content=content, total=0.4 - 0.1 * number, assets=assets)
    make_run(folder / "4", style="scream", status="failed")
    (folder / "4" / "result.png").unlink()
    assert main([str(folder)]) == 0
    return folder


def opened(browser: Chrome, folder: Path) -> None:
    browser.get_log("browser")
    browser.get((folder / "compare" / "index.html").as_uri())


def shown(browser: Chrome, selector: str = "#cards .card") -> list[str]:
    """The numbers of the runs that can be seen, in order."""
    elements = browser.find_elements(By.CSS_SELECTOR, selector)
    return [str(element.get_attribute("data-run")) for element in elements if element.is_displayed()]


def test_the_page_shows_runs_pictures_and_what_varies(browser: Chrome, sweep: Path) -> None:
    opened(browser, sweep)
    assert browser.find_element(By.TAG_NAME, "h1").text == "5 runs by content, style"
    assert len(shown(browser)) == len(shown(browser, "#table tbody tr")) == 5
    widths = browser.execute_script("return [...document.images].map((i) => [i.complete, i.naturalWidth])")
    assert widths == [[True, 64]] * 4
    header = [cell.text for cell in browser.find_elements(By.CSS_SELECTOR, "#table thead th")]
    assert header[:4] == ["run", "content", "style", "total"]
    differing = [cell.text for cell in browser.find_elements(By.CSS_SELECTOR, "#differences tbody tr td")]
    assert [differing[0].split()[i] for i in (0, 2, 3, 5)] == ["ballerina", "2", "tubingen", "3"]
    widths = browser.execute_script(
        "return [...document.querySelectorAll('#lines path')].map((p) => p.getBBox().width)"
    )
    assert [width > 0 for width in widths] == [True] * 5
    marks = [mark.text for mark in browser.find_elements(By.CSS_SELECTOR, "#cards .mark")]
    assert sorted(marks) == ["failed", "stand-in style"]


def test_nothing_runs_but_our_script_and_nothing_is_asked_of_a_server(browser: Chrome, sweep: Path) -> None:
    opened(browser, sweep)
    assert browser.get_log("browser") == []
    asked = browser.execute_script("return performance.getEntriesByType('resource').map((e) => e.name)")
    assert not [name for name in asked if not name.startswith(("data:", "file:"))]
    assert browser.execute_script("return document.querySelectorAll('img[src=x]').length") == 0
    titles = [title.text for title in browser.find_elements(By.CSS_SELECTOR, "#cards h2")]
    assert any("</script><img src=x onerror=alert(1)>" in title for title in titles)


def test_filters_by_words_by_numbers_and_by_value(browser: Chrome, sweep: Path) -> None:
    opened(browser, sweep)
    field = browser.find_element(By.ID, "filter")
    field.send_keys("picasso ballerina")
    first = shown(browser)
    assert len(first) == 1
    assert browser.find_element(By.ID, "count").text == "1 of 5 runs"
    assert shown(browser, "#table tbody tr") == shown(browser, "#provenance tbody tr") == first
    field.clear()
    field.send_keys("total<0.25")
    assert len(shown(browser)) == 2
    field.clear()
    field.send_keys("nothing fits")
    assert shown(browser) == []
    browser.find_element(By.ID, "all-too").click()
    assert len(shown(browser)) == 5
    Select(browser.find_element(By.CSS_SELECTOR, "select[data-key=style]")).select_by_index(1)
    assert len(shown(browser)) == 2
    hidden = browser.execute_script("return document.querySelectorAll('#lines path[hidden]').length")
    assert hidden == 3


def test_sorts_by_a_header(browser: Chrome, sweep: Path) -> None:
    opened(browser, sweep)
    total = browser.find_element(By.CSS_SELECTOR, "button[data-sort=total]")
    orders = []
    for state in ("ascending", "descending"):
        total.click()
        assert total.find_element(By.XPATH, "..").get_attribute("aria-sort") == state
        cells = browser.find_elements(By.CSS_SELECTOR, "#table tbody td:nth-child(4)")
        orders.append([float(cell.text) for cell in cells])
        assert shown(browser) == shown(browser, "#table tbody tr")
    assert orders[0] == sorted(orders[0])
    assert orders[1] == orders[0][::-1]


def test_dark_and_light(browser: Chrome, sweep: Path) -> None:
    opened(browser, sweep)
    paper = "return getComputedStyle(document.body).backgroundColor"
    light = browser.execute_script(paper)
    browser.find_element(By.ID, "theme").click()
    assert browser.execute_script(paper) == "rgb(22, 23, 25)" != light
    browser.find_element(By.ID, "theme").click()
    assert browser.execute_script(paper) == light
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    opened(browser, sweep)
    assert browser.execute_script(paper) == "rgb(22, 23, 25)"
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_details_show_the_full_picture_and_provenance(browser: Chrome, sweep: Path) -> None:
    opened(browser, sweep)
    browser.find_element(By.CSS_SELECTOR, "#cards .card .details").click()
    dialog = browser.find_element(By.ID, "dialog")
    assert dialog.is_displayed()
    assert "0123456789abcdef" in dialog.text
    image = "const image = document.querySelector('#dialog img');"
    source = f"{image} return image.decode().then(() => [image.src.slice(0, 5), image.naturalWidth])"
    assert browser.execute_script(source) == ["file:", 64]
    dialog.find_element(By.CSS_SELECTOR, "form button").click()
    assert not dialog.is_displayed()


#: Milliseconds from a word in the filter to the end of the layout that follows.
TIMED = """
const field = document.getElementById("filter");
const started = performance.now();
field.value = arguments[0];
field.dispatchEvent(new Event("input"));
document.body.getBoundingClientRect();
return performance.now() - started;
"""


def test_a_hundred_runs_are_filtered_in_a_tenth_of_a_second(browser: Chrome, tmp_path: Path) -> None:
    for number in range(100):
        changes = {"seed": number % 10, "weights.style": 1e4 * 10 ** (number // 10 / 3)}
        make_run(tmp_path / f"{number:03d}", picture=noisy(number), changes=changes, total=1 / (number + 1))
    assert main([str(tmp_path)]) == 0
    opened(browser, tmp_path)
    words = ("seed=3", "", "total<0.05", "seed=3 total<0.05", "")
    rounds = [{word: browser.execute_script(TIMED, word) for word in words} for _ in range(3)]
    times = {word: min(times[word] for times in rounds) for word in words}  # other tests run beside this one
    assert len(shown(browser)) == 100
    assert max(times.values()) < 100 * SLOWNESS, times
