"""The headings of Markdown files, as the addresses that a repository host gives them."""

from __future__ import annotations

import re
from pathlib import Path


def anchors(file: Path) -> set[str]:
    """`what-to-monitor` for `## What to monitor`."""
    titles = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
