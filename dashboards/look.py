"""Looks at a dashboard in Chromium: python look.py datasette|superset URL [PICTURE]
or at the other pages of Datasette, at three sizes: python look.py pages URL [FOLDER]

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
# All charts are drawn, and all choices have more than their first.
_DRAWN = (
    "document.readyState === 'complete' && "
    "[...document.querySelectorAll('[data-chart]')].every((e) => e.dataset.drawn) && "
    "[...document.querySelectorAll('[data-options]')].every((e) => e.options.length > 1)"
)
_BOXES = "[...document.querySelectorAll('.dashboard-component-chart-holder')]"


def open_datasette(b: Browser, url: str) -> None:
    b.open(url)
    b.wait(f"document.querySelector('[data-chart]') && {_DRAWN}", "all charts")


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


# The screens of a desk, of a laptop and of a telephone.
SIZES = {1920: 1080, 1280: 720, 390: 844}
PAGES = (
    "/",
    "/heatmaps",
    "/heatmaps/current_snapshots",
    "/heatmaps/snapshot_versions",
    "/heatmaps/snapshot_changes",
    "/heatmaps/view_coverage",
    "/heatmaps/sync_health",
    "/heatmaps/views-with-old-snapshots",
    "/heatmaps/replays-before-a-change",
    "/heatmaps?sql=SELECT+*+FROM+view_coverage",
    "/-/dashboards/heatmaps",
    "/-/dashboards/heatmaps/gaps",
    "/-/dashboards/heatmaps/health",
)
# Which of them are shown in the docs, as a screen of which width.
PICTURES = {
    ("/heatmaps", 1280): "datasette-queries.png",
    ("/heatmaps/views-with-old-snapshots", 1280): "datasette-question.png",
    ("/heatmaps/sync_health", 390): "datasette-390.png",
}
# `per_line`: how many characters of a long text stand in a line, at the least.
_MEASURE = """
const cells = [...document.querySelectorAll("tbody td")];
const texts = (selector) => [...new Set(
  cells.filter((cell) => cell.matches(selector)).map((cell) => cell.innerText.trim()))];
const lines = (cell) => {
  const range = document.createRange();
  range.selectNodeContents(cell);
  return new Set([...range.getClientRects()].map((r) => Math.round(r.top))).size;
};
const row = document.querySelector("tbody tr");
const number = document.querySelector("tbody td.number");
return {
  width: document.documentElement.scrollWidth,
  first_row: row && row.getBoundingClientRect().bottom + scrollY,
  numbers: texts(".number:not([data-label$=id])"),
  tallest: Math.max(...[...document.querySelectorAll("tbody tr")]
    .map((row) => row.getBoundingClientRect().height), 0),
  booleans: texts(".boolean"),
  number_align: number && getComputedStyle(number).textAlign,
  instants: texts(".instant"),
  per_line: Math.min(...cells.filter((cell) => cell.matches(".long"))
    .map((cell) => cell.innerText.length / lines(cell)), 1000),
  unnamed: cells.filter((cell) => getComputedStyle(cell).display !== "none"
    && getComputedStyle(cell, "::before").content !== `"${cell.dataset.label}"`).length,
  cut: cells.filter((cell) => cell.scrollWidth > cell.clientWidth + 1
    && !cell.matches(".key")).map((cell) => cell.innerText),
  links: [...document.querySelectorAll("tbody td a[target=_blank]")]
    .map((link) => [link.innerText, link.href]),
  clipped: [...document.querySelectorAll("[data-chart] svg text")].filter((text) => {
    const [inner, outer] = [text, text.closest("svg")].map((e) => e.getBoundingClientRect());
    return inner.left < outer.left - 1 || inner.right > outer.right + 1;
  }).map((text) => text.textContent),
  made: document.querySelectorAll("img[onerror], img[src=x]").length,
  title: document.title,
  text: document.body.innerText,
  options: [...document.querySelectorAll("select[data-options]")]
    .map((select) => [select.name, select.options.length]),
};
"""


def look_at_pages(b: Browser, url: str, folder: Path | None) -> list[object]:
    """What is measured on each page at each size; pictures of some."""
    seen = []
    for path in PAGES:
        for width, height in SIZES.items():
            b.size(width, height)
            b.open(f"{url}{path}")
            b.wait(_DRAWN, "all charts and choices")
            seen.append({"path": path, "screen": [width, height], **b.run(_MEASURE)})
            if folder and (path, width) in PICTURES:
                picture = folder / PICTURES[path, width]
                bottom = "document.querySelector('footer').getBoundingClientRect().bottom"
                end = int(float(str(b.run(f"return Math.ceil({bottom})"))))
                b.picture(picture, width=width, height=min(height, end))
                smaller(picture)
    return seen


def answer_a_question(b: Browser, url: str) -> object:
    """The first column of an answer, for a choice that was made by hand."""
    b.size(1280, 720)
    b.open(f"{url}/-/dashboards/heatmaps")
    for link in ("Twelve questions", "8. What was pinned at a given moment?"):
        b.follow(link)
    b.wait(_DRAWN, "the choices")
    b.run(
        "const view = document.querySelector('select[name=view]'); view.value = '/cart';"
        "view.form.querySelector('input[type=submit]').click()"
    )
    b.wait("location.search.includes('view=')", "the answer")
    return b.run(
        "return [...document.querySelectorAll('tbody tr')].map((row) => row.cells[0].innerText)"
    )


def main(what: str, url: str, picture: str = "") -> None:
    if what == "pages":
        with browser() as b:
            pages = look_at_pages(b, url, Path(picture) if picture else None)
            answer = answer_a_question(b, url)
            seen = {"pages": pages, "answer": answer, "outside": b.outside()}
            json.dump({**seen, "complaints": b.complaints, "errors": []}, sys.stdout)
        return
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
                # The README's, and one without the last tables: below 200 kB.
                take_top(b, Path(picture), "weeks", Path(picture).with_name("dashboard.png"))
                take_top(b, Path(picture), "health", Path(picture))
            else:
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


def take_top(b: Browser, picture: Path, card: str, target: Path) -> None:
    """The page down to the end of that card."""
    bottom = f"document.getElementById('card-{card}').getBoundingClientRect().bottom"
    height = int(float(str(b.run(f"return {bottom} + window.scrollY")))) + 12
    with Image.open(picture) as image:
        top = image.crop((0, 0, image.width, height))
    top.save(target)
    smaller(target)


def smaller(file: Path) -> None:
    """256 colours: a chart has no more, and the file is a third."""
    with Image.open(file) as image:
        image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(file, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
