"""The studio as a person meets it: in a browser, by labels and buttons, and over killed servers."""

import importlib.util
import json
import shlex
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from selenium.webdriver import ActionChains, Chrome
from selenium.webdriver.common.by import By

from nst.files.atomic import sha256
from nst.studio.queue import Job, Queue
from tests.conftest import paint, server
from tests.helpers.run_folders import make_run
from tests.helpers.studio import Page, Studio, until

pytestmark = pytest.mark.skipif(importlib.util.find_spec("gradio") is None, reason="gradio is not installed")

#: Overrides that make any run of the tests quick.
QUICK = "encoder=slim encoder.weights=random metrics=null precision=32 threads=1 trainer.accelerator=cpu"


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    found = Studio(tmp_path_factory.mktemp("a studio"))
    yield found
    found.close()


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("photos")
    paint(1, 192, 256).save(folder / "content.png")
    paint(2, 200, 160).save(folder / "style.jpg")
    return folder / "content.png", folder / "style.jpg"


def summaries(studio: Studio) -> dict[str, str]:
    """The status of each run."""
    return {
        str(path.parent.relative_to(studio.outputs)): json.loads(path.read_text())["status"]
        for path in sorted(studio.outputs.glob("*/*/summary.json"))
    }


def test_a_newcomers_path(browser: Chrome, studio: Studio, photos: tuple[Path, Path], tmp_path: Path) -> None:
    page = Page(browser, studio.address)
    page.type("Further overrides", QUICK)
    (tmp_path / "notes.pdf").write_text("no picture")
    page.drop("Content picture", tmp_path / "notes.pdf")
    page.says("content.path=notes.pdf: this file is not a picture")
    until(lambda: not page.button("Start").is_enabled(), what="disabled button")
    page.drop("Content picture", photos[0])
    page.drop("Style picture", photos[1])
    page.choose("Preset", "preview")
    page.says("A first look: a small picture and few evaluations.")
    page.says("192 x 144 px, 150 evaluations: about ", seconds=90)
    page.type("Size", "176")
    page.type("Evaluations", "300")
    page.says("176 x 132 px, 300 evaluations: about ")
    page.press("Start")

    page.says("Speed", seconds=60)
    page.sees_pictures(3)
    page.press("Pause")
    page.says("Paused")
    page.press("Go on")
    page.press("Stop and keep the picture")
    page.says("Stopped; can be resumed")
    [name] = summaries(studio)
    assert summaries(studio) == {name: "interrupted"}
    done = json.loads((studio.outputs / name / "summary.json").read_text())["evaluations"]
    page.type("Evaluations in total", str(done + 10))
    page.press("Continue")
    page.says("Completed", seconds=90)
    assert summaries(studio) == {name: "completed"}

    page.open("Look")
    until(page.runs, what="run")[0].click()
    page.says(f"outputs/{name}")
    assert page.says("Size") == "Size"
    until(lambda: slid(browser), what="slider that moves")

    page.open("Mask")
    page.press("Load the content picture")
    canvas = until(lambda: browser.find_elements(By.TAG_NAME, "canvas"), what="canvas")[0]
    until(lambda: canvas.is_displayed(), what="content")
    until(lambda: brushed(page), seconds=60, what="region")
    page.open("Paint")
    command = page.says("style.region=")
    page.type("Evaluations", "20")
    command = page.says("evaluations=20")
    page.press("Start")
    until(lambda: len(summaries(studio)) == 2 and set(summaries(studio).values()) == {"completed"}, seconds=60)
    pasted = shlex.split(command)
    assert pasted[:3] == ["python", "-m", "nst.train"]
    assert server.run([*pasted[3:], "hydra.run.dir=shell"], cwd=tmp_path).returncode == 0
    with Image.open(tmp_path / "shell" / "result.png") as one, Image.open(newest(studio) / "result.png") as two:
        assert one.tobytes() == two.tobytes()


def slid(browser: Chrome) -> bool:
    """Drag the divider between two pictures; return whether it moves, which needs loaded pictures."""
    handle = browser.find_element(By.CSS_SELECTOR, "[role=none] .outer, .handle, .outer")
    before = handle.location["x"]
    ActionChains(browser).drag_and_drop_by_offset(handle, 60, 0).perform()
    return bool(handle.location["x"] > before + 20)


def newest(studio: Studio) -> Path:
    return sorted(studio.outputs.glob("*/*/summary.json"))[-1].parent


def brushed(page: Page) -> bool:
    """Brush over the middle of the content; return whether the region is used, which needs a loaded content."""
    canvas = page.browser.find_element(By.TAG_NAME, "canvas")
    strokes = ActionChains(page.browser).move_to_element_with_offset(canvas, -80, 0).click_and_hold()
    for number in range(8):
        strokes = strokes.move_by_offset(20, (-1) ** number * 15)
    strokes.release().perform()
    page.press("Use as its region")
    time.sleep(2)
    return bool(page.block("Regions").find_elements(By.TAG_NAME, "img"))


def test_a_killed_server_loses_no_run(browser: Chrome, studio: Studio, photos: tuple[Path, Path]) -> None:
    """Neither one that outlives it, nor one that was killed with it, nor those that wait."""
    page = Page(browser, studio.address)
    before = set(summaries(studio))
    page.drop("Content picture", photos[0])
    page.type("Further overrides", QUICK)
    page.type("Size", "192")
    page.type("Evaluations", "2000")
    page.says("evaluations=2000")
    page.press("Start")
    page.says("Speed", seconds=60)
    page.open("Paint")
    page.type("Evaluations", "10")
    page.says("evaluations=10 ")
    page.press("Start")
    page.says("Next")
    page.open("Watch")
    page.press("Pause")
    page.says("Paused")

    studio.kill()
    studio.start()
    page = Page(browser, studio.address)
    page.open("Watch")
    page.says("of 2000")
    page.says("evaluations=10 ")
    page.press("Go on")
    page.sees_pictures(2)

    studio.kill()
    begun, waiting = jobs(studio)
    process = begun.running()
    assert process is not None
    process.kill()
    until(lambda: begun.running() is None, what="end")
    waiting.file.unlink()  # or the next studio begins it, and shows it
    studio.start()
    page = Page(browser, studio.address)
    page.open("Watch")
    page.says("The process ended during the run")
    page.open("Look")
    page.says("stopped: ")
    page.open("Watch")
    page.press("Continue")
    page.says("Running", seconds=60)
    page.press("Stop and keep the picture")
    page.says("Stopped; can be resumed")
    [name] = set(summaries(studio)) - before
    assert summaries(studio)[name] == "interrupted"


def jobs(studio: Studio) -> list[Job]:
    return Queue(studio.outputs).jobs()


def test_runs_are_found_loaded_and_compared(browser: Chrome, studio: Studio, photos: tuple[Path, Path]) -> None:
    for number, style in enumerate(("picasso", "scream")):
        made = {"overrides": [f"style={style}", "size=64", "weights.tv=0", "name='a b'"], "name": f"tubingen-{style}"}
        made |= {"started": f"2026-01-0{number + 1}T00:00:00+00:00", "width": 64, "height": 48}
        assets = {
            name: {"path": str(path), "sha256": sha256(path)}
            for name, path in zip(("content", "style"), photos, strict=True)
        }
        metrics = {"512px-v1": {"ssim": 0.5}} if number else None  # the other one is measured
        make_run(studio.outputs / "earlier" / style, style=style, made=made, assets=assets, metrics=metrics)
    Image.open(studio.outputs / "earlier" / "scream" / "result.png").save(studio.folder / "unnoted.png")
    page = Page(browser, studio.address)
    page.open("Look")
    for style in ("picasso", "scream"):
        page.type("Filter", f"{style} size=64")
        until(lambda: len(page.runs()) == 1, what=f"run of {style}")
        until(lambda: page.runs()[0].click() or True, what="run that nothing covers")  # type: ignore[func-returns-value]
        page.says(f"outputs/earlier/{style}")
        page.press("Add to the comparison")
        page.says("Added: press to remove")
    page.press("Compare 2 runs")
    link = until(lambda: browser.find_element(By.LINK_TEXT, "Open the comparison"), seconds=120, what="comparison")
    address = str(link.get_attribute("href"))
    page.press("Again with changes")
    words = page.says("content=tubingen style=scream")
    assert words == "python -m nst.train content=tubingen style=scream size=64 weights.tv=0 \"name='a b'\""
    page.open("Look")
    page.press("A picture that nst has saved")
    page.drop("Drop a result.png to paint it again", studio.folder / "unnoted.png")
    page.says("rerun=")
    page.says("there is no configuration in this file")
    asked = browser.execute_script("return performance.getEntriesByType('resource').map((each) => each.name)")
    assert not [name for name in asked if not name.startswith((studio.address, "data:", "blob:"))]
    browser.get(address)
    assert browser.find_element(By.TAG_NAME, "h1").text == "2 runs"  # their style is the same file
    assert "frechet" in browser.find_element(By.ID, "meanings").text, "they were measured before they were compared"
    links = "[...document.querySelectorAll('.card a, nav a:not([href^=\"#\"])')].map((link) => link.href)"
    found = browser.execute_script(f"return {links}")
    assert len(found) == 3, "two pictures and the contact sheet"
    for link in found:
        with urllib.request.urlopen(link) as answer:
            assert answer.headers["content-type"] == "image/png"
