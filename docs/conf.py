"""How Sphinx makes a site of the pages here: `make site`.

The pages are plain Markdown, and their links work on a repository host: what is special to a site
is made here. The contents are the links of index.md, the changelog is that of the repository, and
links to other files of the repository lead to its host. A dead one of any kind fails the build.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.util import logging

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
sys.path.insert(0, str(ROOT))

from scripts.headings import anchors  # noqa: E402 - Sphinx does not look into the top folder

REPOSITORY = "https://github.com/heatmap-etl/heatmap-etl/blob/main"

project = "heatmap-etl"
author = "the authors of heatmap-etl"
project_copyright = author
version = release = re.findall(
    r'^__version__ = "(.+)"$', (ROOT / "etl" / "__init__.py").read_text("utf-8"), re.MULTILINE
)[0]

extensions = ["myst_parser"]
myst_heading_anchors = 6  # as repository hosts make them
myst_enable_extensions: set[str] = set()  # plain Markdown
# A page is read on a repository host too: what it shows as a language is nothing to fail for.
suppress_warnings = ["misc.highlighting_failure"]

html_theme = "furo"
html_title = f"heatmap-etl {version}"
html_static_path = ["static"]
html_css_files = ["tables.css"]
html_use_index = False
html_copy_source = False
html_show_sourcelink = False
# Excerpts are fetched page by page, which no browser does for a file.
html_show_search_summary = False

_log = logging.getLogger("site")


class LinksOutOfTheSite(SphinxTransform):
    """Links to other files of the repository lead to its host; to the changelog, to its page."""

    default_priority = 9  # before Sphinx collects downloads, and resolves what is left

    def apply(self, **_: Any) -> None:
        for node in [
            *self.document.findall(addnodes.download_reference),
            *self.document.findall(addnodes.pending_xref),
        ]:
            path, _, anchor = unquote(str(node["reftarget"])).partition("#")
            file = (DOCS / path).resolve()
            if not path or file.is_relative_to(DOCS):
                continue
            if node.get("refdomain") == "doc":  # Sphinx has taken the ending away
                file = file.with_name(f"{file.name}.md")
            if file == ROOT / "CHANGELOG.md":
                node["reftarget"] = "changelog"
            else:
                self._lead_to_the_host(node, file, anchor or str(node.get("reftargetid") or ""))

    def _lead_to_the_host(self, node: nodes.Element, file: Path, anchor: str) -> None:
        if not file.is_relative_to(ROOT):
            _log.warning("leads out of the repository: %s", file, location=node)
            return
        if not file.is_file():
            return  # Sphinx finds none either, and says so
        if anchor and anchor not in anchors(file):
            _log.warning("%s has no heading #%s", file.name, anchor, location=node)
        address = f"{REPOSITORY}/{file.relative_to(ROOT)}" + (f"#{anchor}" if anchor else "")
        node.replace_self(nodes.reference("", "", *node.children, refuri=address))


def read_source(_: Sphinx, page: str, source: list[str]) -> None:
    """What these two pages are on a site, from what they are in the repository."""
    if page == "index":
        source[0] += contents(source[0])
    if page == "changelog":
        text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
        text = re.sub(r"\]\((?![a-z]+:|#)", "](../", text)
        source[0] = text.replace("](../docs/", "](")


def contents(page: str) -> str:
    """A table of contents: for each heading of the page the pages that are linked below it."""
    tables = []
    for section in re.split(r"^## ", page, flags=re.MULTILINE)[1:]:
        title = section.splitlines()[0]
        pages = re.findall(r"^- \[.+?\]\((\S+?)\.md\)", section, re.MULTILINE)
        lines = [":hidden:", f":caption: {title}", "", *pages]
        if pages:
            tables.append("\n".join(["", "```{toctree}", *lines, "```", ""]))
    return "\n".join(tables)


def setup(app: Sphinx) -> None:
    app.connect("source-read", read_source)
    app.add_transform(LinksOutOfTheSite)
