"""Text for people: aligned tables, numbers, ages, and foreign text made safe to print. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

LONGEST_NAME = 60
CLOCKS_DIFFER = timedelta(seconds=60)
"""How far the clocks of two machines may be apart before it is worth a word."""
LARGEST_SKEW_S = 3600.0
"""A run under a clock that is further ahead would stamp instants that nobody should trust."""


def clean(text: str) -> str:
    """`text` on one line, with every character escaped that a terminal might obey or hide."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def escaped(text: str) -> str:
    """As `clean`, but no two texts become one: a backslash is doubled."""
    return clean(text.replace("\\", "\\\\"))


def shortened(text: str, longest: int = LONGEST_NAME) -> str:
    """`text` without its middle when it is too long: names often differ in their ends."""
    if len(text) <= longest:
        return text
    head = (longest - 3) // 2
    return f"{text[:head]}...{text[len(text) - (longest - 3 - head) :]}"


def clipped(text: str, longest: int) -> str:
    """`text` without its end when it is too long."""
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


class Styled(str):
    """A line that may hold colour codes; foreign text in it is cleaned already."""

    __slots__ = ()


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: str | Sequence[str] = "",
    style: Callable[[str], str] = str,
) -> list[str]:
    """Aligned lines, the header first. `right`: the columns that hold numbers, as words or a list.

    `style` gives a clean cell its colour, except in the header and first column.
    """
    cells = [list(header), *([clean(cell) for cell in row] for row in rows)]
    widths = [max(map(_width, column)) for column in zip(*cells, strict=True)]
    numbers = right.split() if isinstance(right, str) else right
    is_right = [name in numbers for name in header]
    shapes = list(zip(widths, is_right, strict=True))
    head, *body = cells
    return [_line(head, shapes, str), *(_line(row, shapes, style) for row in body)]


def _line(
    row: Sequence[str], shapes: Sequence[tuple[int, bool]], style: Callable[[str], str]
) -> Styled:
    texts = []
    for number, (cell, (width, is_right)) in enumerate(zip(row, shapes, strict=True)):
        gap = " " * (width - _width(cell))
        text = style(cell) if number else cell
        texts.append(gap + text if is_right else text + gap)
    return Styled("  ".join(texts).rstrip())


def _width(text: str) -> int:
    """Columns on a terminal: East Asian letters take two, combining marks none."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(bool(unicodedata.combining(c)) for c in text)


def count(number: int) -> str:
    """A number in a table; `-` for zero, so that the others are easy to find."""
    return f"{number:,}" if number else "-"


def many(number: int, noun: str) -> str:
    """`1 view`, `2 views`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def counted(number: int, name: str) -> str:
    """`1 duplicate`, `3 new`: as `many`, for names of counts, of which some are no nouns."""
    return many(number, name[:-1]) if name.endswith("s") else f"{number:,} {name}"


def duration(seconds: float) -> str:
    """How long something took, or how old it is, in one fitting unit: `5 min`."""
    if seconds < 10:
        return f"{max(seconds, 0):.1f} s"
    for unit, size, end in (("s", 1, 120), ("min", 60, 7200), ("h", 3600, 172_800)):
        if seconds < end:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} days"


def skew_text(skew_s: float) -> str:
    """For people: `2 h ahead`, `90 s behind`."""
    return f"{duration(abs(skew_s))} {'behind' if skew_s < 0 else 'ahead'}"


def is_future(instant: datetime | None, now: datetime) -> bool:
    """Whether an instant lies ahead of `now` by more than the clocks of two machines may differ."""
    return instant is not None and instant - now > CLOCKS_DIFFER


def age(instant: datetime | None, now: datetime) -> str:
    """`5 min ago`; `never` for no instant; `in the future` for one that a wrong clock has left."""
    if instant is None:
        return "never"
    if is_future(instant, now):
        return "in the future"
    seconds = (now - instant).total_seconds()
    return "just now" if seconds < 1 else f"{duration(round(seconds))} ago".replace(".0 s", " s")


def moment(instant: datetime) -> str:
    """An instant in a table: `2026-01-31 12:00:00Z`."""
    return f"{instant.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"


def iso(instant: datetime) -> str:
    """An instant as in all JSON of this program: `2026-01-31T12:00:00.000000Z`."""
    return instant.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


EXTRAS = {
    "postgres": ("psycopg[binary]>=3.2.10,<4",),
    "mysql": ("PyMySQL[rsa]>=1.2,<2",),
    "metrics": ("prometheus-client>=0.21,<1",),
    "dashboard": ("datasette>=0.65.1,<1", "datasette-dashboards>=0.8,<0.9"),
    "parquet": ("pyarrow>=18",),
    "socks": ("httpx[socks]>=0.28,<0.29",),
}
"""What each extra of `pyproject.toml` brings; a copy, as a hint must not cost a search for it."""


def to_install(extra: str) -> str:
    """What brings the packages of an extra, however the program was installed.

    It names the packages: our own name is on no public index, where a stranger could take it.
    """
    return f"python -m pip install {' '.join(map(repr, EXTRAS[extra]))}"
