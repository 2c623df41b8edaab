"""Looks at a dashboard in Chromium: python look.py datasette|superset URL [PICTURE]

Prints what it saw as JSON. SUPERSET_TRY_PASSWORD holds Superset's password.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from browser import Browser, browser
from PIL import Image

WIDTH = {"datasette": 1280, "superset": 1400}
_BOXES = "[...document.querySelectorAll('.dashboard-component-chart-holder')]"


def open_datasette(b: Browser, url: str) -> None:
    b.open(url)
    b.wait(
        "document.querySelector('[data-chart]') && "
        "[...document.querySelectorAll('[data-chart]')].every((e) => e.dataset.drawn)",
        "all charts",
    )


def open_superset(b: Browser, url: str) -> None:
    b.open(f"{url}/login/")
    b.wait("document.querySelector('#password')", "the login")
    b.fill("#username", "admin")
    b.fill("#password", os.environ["SUPERSET_TRY_PASSWORD"])
    b.run("document.querySelector('button[type=submit]').click()")
    b.wait("!location.pathname.startsWith('/login')", "being logged in")
    # As high as it is: charts outside the window would not be loaded.
    b.size(WIDTH["superset"], 4500)
    b.open(f"{url}/superset/dashboard/heatmaps/?standalone=1&expand_filters=0")
    b.wait(f"{_BOXES}.length >= 14", "the charts")
    busy = "[data-test=loading-indicator], .loading"
    quiet_since = time.monotonic()
    while time.monotonic() - quiet_since < 4:
        if b.run(f"return document.querySelector('{busy}')"):
            quiet_since = time.monotonic()
        time.sleep(0.2)


def main(what: str, url: str, picture: str = "") -> None:
    with browser() as b:
        b.size(WIDTH[what], 1000)
        {"datasette": open_datasette, "superset": open_superset}[what](b, url)
        if picture:
            height = None
            if what == "superset":
                bottom = f"Math.max(...{_BOXES}.map((e) => e.getBoundingClientRect().bottom))"
                height = int(float(str(b.run(f"return {bottom}")))) + 16
            b.picture(Path(picture), width=WIDTH[what], height=height)
            if what == "datasette":
                take_top(b, Path(picture))
            smaller(Path(picture))
        seen = {
            "title": b.driver.title,
            "made": b.run("return document.querySelectorAll('img[onerror], img[src=x]').length"),
            "text": b.text(),
            "outside": b.outside(),
            "complaints": b.complaints,
            "asked": b.chart_queries,
            "errors": b.run(
                "return [...document.querySelectorAll('.error')].map((e) => e.innerText)"
            ),
        }
    json.dump(seen, sys.stdout)


def take_top(b: Browser, picture: Path) -> None:
    """The first rows of the page as `dashboard.png`, for README and docs."""
    bottom = "document.getElementById('card-weeks').getBoundingClientRect().bottom"
    height = int(float(str(b.run(f"return {bottom} + window.scrollY")))) + 12
    top = picture.with_name("dashboard.png")
    with Image.open(picture) as image:
        image.crop((0, 0, image.width, height)).save(top)
    smaller(top)


def smaller(file: Path) -> None:
    """256 colours: a chart has no more, and the file is a third."""
    with Image.open(file) as image:
        image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(file, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
