"""The documentation site: complete, without a dead link, and it asks nobody when it is opened."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.support.environments import SITE
from tests.support.paths import ROOT

# What a browser asks for by itself when it opens a page.
LOADED = {
    *(("script", "src"), ("img", "src"), ("img", "srcset"), ("iframe", "src"), ("source", "src")),
    *(("source", "srcset"), ("video", "src"), ("audio", "src"), ("embed", "src"), ("link", "href")),
    *(
        ("object", "data"),
        ("use", "href"),
        ("image", "href"),
        ("input", "src"),
        ("body", "background"),
    ),
}
STRICT = ["-W", "--keep-going", "-n", "-q"]


@pytest.fixture(autouse=True)
def there() -> None:
    if not SITE.is_there():
        pytest.skip("LOUD: the site is not built: build/site-venv is not there or of another lock")


def build(docs: Path, target: Path) -> tuple[int, str]:
    """As `make site` does; exit code and warnings."""
    command = [str(SITE.python), "-m", "sphinx", *STRICT, "-d", str(target.with_name("doctrees"))]
    done = subprocess.run(
        [*command, str(docs), str(target)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stderr


class Page(HTMLParser):
    """Addresses that are loaded with a page, those that it links to, and the ids in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if (tag, name) in LOADED:
                self.loaded.append(value or "")
            if (tag, name) == ("a", "href"):
                self.links.append(value or "")
            if name == "id":
                self.ids.add(value or "")


def asks_outside(text: str) -> list[str]:
    """What of a page, a style or a script another host is asked for."""
    loaded = Page(text).loaded if "<html" in text else []
    for pair in re.findall(r"url\(\s*['\"]?([^'\")]*)|@import\s+['\"]([^'\"]*)", text):
        loaded += pair
    return [address for address in loaded if urlsplit(address).netloc]


@pytest.mark.slow
def test_the_site_is_complete_and_asks_nobody(tmp_path: Path):
    site = tmp_path / "site"
    assert build(ROOT / "docs", site) == (0, "")
    pages = {path.name: Page(path.read_text("utf-8")) for path in site.glob("*.html")}
    written = {path.with_suffix(".html").name for path in (ROOT / "docs").glob("*.md")}
    assert pages.keys() == written | {"search.html"}

    files = [path for path in site.rglob("*") if path.suffix in {".html", ".css"}]
    assert len(files) > len(pages)
    assert [found for path in files for found in asks_outside(path.read_text("utf-8"))] == []

    for name, page in pages.items():
        for address in [*page.links, *page.loaded]:
            parts = urlsplit(address)
            if parts.scheme:
                assert parts.scheme in {"https", "data"}, (name, address)
                continue
            target = site / unquote(parts.path) if parts.path else site / name
            assert target.is_file(), (name, address)
            if parts.fragment and target.suffix == ".html":
                assert unquote(parts.fragment) in pages[target.name].ids, (name, address)
    # From the first page each other can be reached.
    assert written - set(pages["index.html"].links) - {"index.html"} == set()

    index = (site / "searchindex.js").read_text(encoding="utf-8")
    found = json.loads(index.removeprefix("Search.setIndex(").removesuffix(")"))
    for word in ("truncat", "superset", "keep"):
        assert word in found["terms"], word
    changelog = (site / "changelog.html").read_text(encoding="utf-8")
    assert "Unreleased" in changelog


WRONG = """\
# Wrong

[a](nowhere-a.md), [b](other.md#nowhere-b), [c](#nowhere-c), [d](../nowhere-d.txt),
[e](../README.md#nowhere-e), ![f](nowhere-f.png), [g](../CHANGELOG.md#nowhere-g) and
[h](../../nowhere-h.md).
"""
RIGHT = """\
# Right

[a](other.md), [b](other.md#a-heading), [c](#right), [d](../crontab.example),
[e](../README.md#what-it-is), [f](../CHANGELOG.md), [g](../deploy/x.service).

```md
[a](nowhere.md)
```
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A small one with the same conf.py."""
    (tmp_path / "nowhere-h.md").write_text("# Outside\n", encoding="utf-8")
    root = tmp_path / "repository"
    files = {
        "README.md": "# It\n\n## What it is\n\nIt.\n",
        "CHANGELOG.md": "# Changelog\n\n## [Unreleased]\n\n- See [it](docs/other.md).\n",
        "crontab.example": "",
        "deploy/x.service": "",
        "etl/__init__.py": '__version__ = "1.2.3"\n',
        "scripts/headings.py": (ROOT / "scripts" / "headings.py").read_text(encoding="utf-8"),
        "docs/static/tables.css": "",
        "docs/index.md": "# Docs\n\n## All\n\n- [o](other.md)\n- [p](page.md)\n"
        "- [c](changelog.md)\n",
        "docs/other.md": "# Other\n\n## A heading\n\nIt.\n",
        "docs/changelog.md": "# Changelog\n\n[It](../CHANGELOG.md).\n",
        "docs/page.md": RIGHT,
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    shutil.copy(ROOT / "docs" / "conf.py", root / "docs")
    return root


@pytest.mark.slow
def test_links_to_pages_headings_and_files_lead_there(repository: Path):
    site = repository.parent / "site"
    assert build(repository / "docs", site) == (0, "")
    links = Page((site / "page.html").read_text("utf-8")).links
    host = "https://github.com/heatmap-etl/heatmap-etl/blob/main"
    assert {"other.html", "other.html#a-heading", "#right", "changelog.html"} <= set(links)
    assert {f"{host}/crontab.example", f"{host}/deploy/x.service"} <= set(links)
    assert f"{host}/README.md#what-it-is" in links
    assert "other.html" in Page((site / "changelog.html").read_text("utf-8")).links
    assert "heatmap-etl 1.2.3" in (site / "index.html").read_text("utf-8")


@pytest.mark.slow
def test_a_dead_link_of_any_kind_fails_the_build(repository: Path):
    (repository / "docs" / "page.md").write_text(WRONG, encoding="utf-8")
    (repository / "docs" / "forgotten.md").write_text("# Forgotten\n", encoding="utf-8")
    code, warnings = build(repository / "docs", repository.parent / "site")
    assert code == 1, warnings
    for letter in "abcdefgh":
        assert f"nowhere-{letter}" in warnings, letter
    assert re.search(r"forgotten\.md: .*isn't included in any toctree", warnings)


@pytest.mark.parametrize(
    "text",
    [
        '<html><script src="https://x.example/a.js"></script>',
        '<html><link rel="stylesheet" href="//x.example/a.css">',
        '<html><img src="http://x.example/a.png">',
        "@import 'https://x.example/a.css';",
        "@font-face { src: url(https://x.example/a.woff2) }",
    ],
)
def test_what_asks_another_host_would_be_found(text: str):
    assert asks_outside(text)


def test_a_link_for_a_reader_asks_nobody():
    assert asks_outside('<html><a href="https://x.example/">x</a> <img src="a.png">') == []


@pytest.mark.slow
def test_readability_counts_running_text_alone(tmp_path: Path):
    easy = "# A title of many words\n\nIt reads a file. It runs `one long command of words`.\n"
    hard = "Organizational considerations necessitate comprehensive documentation.\n"
    for name, text in (("easy.md", easy), ("hard.md", hard)):
        (tmp_path / name).write_text(text, encoding="utf-8")
    done = subprocess.run(
        [SITE.python, "-m", "scripts.readability", tmp_path / "easy.md", tmp_path / "hard.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    header, *rows = [re.split(r"  +", line) for line in done.stdout.splitlines()]
    assert header[1:6] == ["words", "sentences", "words a sentence", "longest", "over 25"]
    assert [row[1:6] for row in rows] == [
        ["17", "2", "3.5", "4", "0"],
        ["5", "1", "5.0", "5", "0"],
        ["22", "3", "4.0", "5", "0"],
    ]
    ease, grade = ([float(row[column]) for row in rows[:2]] for column in (6, 7))
    assert ease[0] > 80
    assert ease[1] < 20
    assert grade[0] < 5
    assert grade[1] > 12
