"""The studio in a process of its own, and its page as a person uses it: by labels, buttons and tabs."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import psutil
from selenium.common.exceptions import WebDriverException
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from nst.studio.queue import Queue

T = TypeVar("T")

SLOWNESS = float(os.environ.get("NST_TEST_SLOWNESS", "1"))

#: An address at which no proxy listens, so that nothing is downloaded.
NOWHERE = "http://127.0.0.1:9"


class Studio:
    """A studio that serves a folder on a free port, and begins at once.

    Attributes:
        seconds: seconds of a processor until it says its address.
    """

    def __init__(self, folder: Path, *words: str) -> None:
        self.folder = folder
        self.outputs = folder / "outputs"
        self.words = words
        self.start()

    def start(self) -> None:
        proxies = {"http_proxy": NOWHERE, "https_proxy": NOWHERE, "no_proxy": "127.0.0.1,localhost"}
        caches = {"NST_CACHE": str(self.folder / "cache"), "TORCH_HOME": str(self.folder / "torch")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "nst.studio", "--port", "0", *self.words],
            cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, **proxies, **caches},
        )  # fmt: skip
        assert self.process.stdout is not None
        self.said = self.process.stdout.readline()
        self.seconds = sum(psutil.Process(self.process.pid).cpu_times()[:2])
        found = re.search(r"http://\S+", self.said)
        assert found is not None, self.said + self.process.communicate()[0]
        self.address = found[0]

    def kill(self) -> None:
        """Kill the server, and nothing else."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """End the server as Ctrl-C does, and whatever it has started."""
        children = [process for job in Queue(self.outputs).jobs() if (process := job.running()) is not None]
        self.process.send_signal(signal.SIGINT)
        self.process.communicate(timeout=30 * SLOWNESS)
        for child in children:
            if child.is_running():
                child.kill()


def until(found: Callable[[], T], *, seconds: float = 30.0, what: str = "") -> T:
    """Return the first result that counts as true."""
    end = time.monotonic() + SLOWNESS * seconds
    while True:
        try:
            result = found()
        except (WebDriverException, StopIteration):  # not there yet, or replaced in between
            result = None  # type: ignore[assignment]
        if result:
            return result
        assert time.monotonic() < end, f"there is no {what}"
        time.sleep(0.4)  # a look takes the browser a while


class Page:
    """The studio's page in a browser."""

    def __init__(self, browser: Chrome, address: str) -> None:
        self.browser = browser
        browser.get(address)
        until(lambda: self.button("Start"), what="page")

    @property
    def text(self) -> str:
        """Everything that can be read."""
        return str(self.browser.execute_script("return document.body.innerText"))

    def says(self, words: str, *, seconds: float = 30.0) -> str:
        """Wait until the page says something; return the line."""

        def line() -> str | None:
            return next((line for line in self.text.splitlines() if words in line), None)

        try:
            return until(line, seconds=seconds, what=words) or ""
        except AssertionError as error:
            raise AssertionError(f"{error} on the page:\n{self.text}") from None

    def button(self, name: str) -> WebElement:
        found = self.browser.execute_script(
            "return [...document.querySelectorAll('button')].find((button) => button.checkVisibility() && "
            "button.innerText.trim().split('\\n')[0] === arguments[0])",
            name,
        )
        if found is None:
            raise StopIteration(name)
        return found  # type: ignore[no-any-return]

    def runs(self) -> list[WebElement]:
        """Return the pictures of the gallery."""
        return self.block("Runs, the newest first").find_elements(By.TAG_NAME, "img")

    def press(self, name: str) -> None:
        """Press a button as soon as it can be pressed."""
        found = until(lambda: [each for each in [self.button(name)] if each.is_enabled()], what=f"button {name}")[0]
        self.browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", found)
        found.click()

    def open(self, tab: str) -> None:
        """Open a tab."""
        tabs = self.browser.find_elements(By.CSS_SELECTOR, "[role=tab]")
        next(each for each in tabs if each.text.strip() == tab and each.is_displayed()).click()

    def block(self, label: str) -> WebElement:
        """Return the field of a label."""

        def found() -> Any:
            return self.browser.execute_script(
                "return [...document.querySelectorAll('.block')].find((block) => block.checkVisibility() && [...block."
                "querySelectorAll('[data-testid=block-label], [data-testid=block-info]')].some((label) => "
                "label.textContent.trim() === arguments[0]))",
                label,
            )

        element: WebElement = until(found, what=f"field {label}")
        return element

    def drop(self, label: str, file: Path) -> None:
        """Drop a picture onto a field, in place of the one that it has."""

        def emptied() -> WebElement:
            for each in self.block(label).find_elements(By.CSS_SELECTOR, "button[aria-label='Remove Image']"):
                each.click()
            return self.block(label).find_element(By.CSS_SELECTOR, "input[type=file]")

        until(emptied, what=f"empty field {label}").send_keys(str(file))

    def type(self, label: str, value: str) -> None:
        """Type a value into a field."""
        fields = self.block(label).find_elements(By.CSS_SELECTOR, "textarea, input[type=number], input:not([type])")
        fields[0].send_keys(Keys.CONTROL, "a")
        fields[0].send_keys(value or Keys.DELETE, Keys.TAB)

    def choose(self, label: str, option: str) -> None:
        """Choose an option of a dropdown."""
        field = self.block(label).find_element(By.TAG_NAME, "input")
        field.click()
        options = until(
            lambda: [
                each
                for each in self.browser.find_elements(By.CSS_SELECTOR, "[role=option]")
                if each.get_attribute("aria-label") == option
            ],
            what=f"option {option}",
        )
        options[0].click()

    def sees_pictures(self, number: int) -> None:
        """Wait until a run has shown so many different pictures."""
        seen: set[str] = set()

        def look() -> bool:
            for each in self.browser.find_elements(By.CSS_SELECTOR, ".nst-run img"):
                seen.add(str(each.get_attribute("src")))
            return len(seen) >= number

        until(look, seconds=90, what=f"{number} pictures")
