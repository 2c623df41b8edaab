"""Measures how readable pages are, by textstat. `make readability` measures all.

    python -m scripts.readability README.md docs/*.md

Words: as `wc -w` counts, with code. The rest is of running text alone, whole sentences without
headings, tables and code: Flesch's reading ease (60 and more is plain English), and the American
school grade of Flesch and Kincaid.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

import textstat

from scripts.prose_texts import CODE, of_markdown

_HEADER = (
    *("page", "words", "sentences", "words a sentence", "longest", "over 25"),
    *("reading ease", "grade"),
)


def sentences_of(text: str) -> list[str]:
    """Those that end as a sentence does; a piece of code is one word."""
    found = [sentence for _, sentence in of_markdown("page.md", text).sentences()]
    found = [re.sub(f"{CODE}+", CODE, sentence).strip(" *_[]") for sentence in found]
    return [sentence for sentence in found if re.search(r"[.!?:]\W*$", sentence)]


def measured(name: str, text: str) -> tuple[str, ...]:
    """A row of the table."""
    sentences = sentences_of(text)
    if not sentences:
        return (name, str(len(text.split())), "0", "", "", "", "", "")
    lengths = [len(sentence.split()) for sentence in sentences]
    # A colon ends no sentence for textstat, and a dot inside of one would.
    prose = "\n".join(re.sub(r"[.!?:](?=.)", "", sentence[:-1]) + "." for sentence in sentences)
    return (
        name,
        f"{len(text.split()):,}",
        str(len(sentences)),
        f"{sum(lengths) / len(lengths):.1f}",
        str(max(lengths)),
        str(sum(length > 25 for length in lengths)),
        f"{textstat.flesch_reading_ease(prose):.0f}",
        f"{textstat.flesch_kincaid_grade(prose):.1f}",
    )


def table(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = list(zip(row, widths, strict=True))
        numbers = [cell.rjust(width) for cell, width in cells[1:]]
        lines.append("  ".join([row[0].ljust(widths[0]), *numbers]))
    return "\n".join(lines)


def main(names: Sequence[str]) -> None:
    texts = [(name, Path(name).read_text(encoding="utf-8")) for name in names]
    rows = [measured(name, text) for name, text in texts]
    everything = measured("all", "\n\n".join(text for _, text in texts))
    print(table([_HEADER, *rows, everything]))


if __name__ == "__main__":
    main(sys.argv[1:])
