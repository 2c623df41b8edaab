"""Chromium without a window: opens a page, waits until it is drawn, records its requests.

Needs Debian's chromium and chromium-driver, and selenium from superset/requirements.lock.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--lang=en-US",
)
_WAIT_S = 120


class Browser:
    """One window. `asked`: each address that was requested, `chart_queries`: what Superset's charts
    asked for; `complaints`: what its console said.
    """

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver
        self.asked: list[str] = []
        self.chart_queries: list[dict[str, object]] = []
        self.complaints: list[str] = []

    def open(self, url: str) -> None:
        self.driver.get(url)

    def run(self, script: str) -> object:
        return self.driver.execute_script(script)

    def wait(self, script: str, what: str) -> None:
        """Until the JavaScript expression holds; raises TimeoutError."""
        deadline = time.monotonic() + _WAIT_S
        while not self.run(f"return {script}"):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what}: not within {_WAIT_S} s")
            time.sleep(0.2)
        self._listen()

    def fill(self, selector: str, text: str) -> None:
        self.driver.find_element(By.CSS_SELECTOR, selector).send_keys(text)

    def follow(self, link: str) -> None:
        self.driver.find_element(By.LINK_TEXT, link).click()

    def text(self) -> str:
        return str(self.run("return document.body.innerText"))

    def picture(self, file: Path, *, width: int, height: int | None = None) -> None:
        """The page, by default as long as it is."""
        self.size(width, height or 1000)
        if height is None:
            self.size(width, int(str(self.run("return document.documentElement.scrollHeight"))))
        time.sleep(1)  # charts that grow with the window are drawn again
        self.driver.save_screenshot(str(file))

    def size(self, width: int, height: int) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def _listen(self) -> None:
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] != "Network.requestWillBeSent":
                continue
            request = message["params"]["request"]
            self.asked.append(request["url"])
            if urlsplit(request["url"]).path == "/api/v1/chart/data":
                self.chart_queries.append(json.loads(request["postData"]))
        self.complaints += [f"{e['level']}: {e['message']}" for e in self.driver.get_log("browser")]

    def outside(self) -> list[str]:
        """Requested addresses that are not on this machine."""
        self._listen()
        return [
            url
            for url in self.asked
            if urlsplit(url).scheme not in ("data", "blob", "about", "chrome")
            and urlsplit(url).hostname != "127.0.0.1"
        ]


@contextmanager
def browser() -> Iterator[Browser]:
    """Open until the end of the block."""
    options = Options()
    options.binary_location = "/usr/bin/chromium"
    for flag in _FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
