"""Groups what is to be said by its cause: one outage is one line, however many views it hits."""

from __future__ import annotations

from collections.abc import Iterable

from etl.formatting import many, shortened

MOST_LINES = 40
NAMES_SHOWN = 3


def cause_lines(causes: Iterable[tuple[str, str]], *, most: int = MOST_LINES) -> list[str]:
    """A line for each text, with the first names that have it and how many there are.

    One outage of Datadog is one line, however many views it hits. `causes`: pairs of a view's name
    and why something is to be said of it. Lines stand in the order in which their texts come, at
    most `most` of them and one that counts the others.
    """
    names_by_text: dict[str, list[str]] = {}
    for name, text in causes:
        names_by_text.setdefault(text, []).append(shortened(name))
    lines = [f"{_who(names)}: {text}" for text, names in names_by_text.items()]
    omitted = len(lines) - most
    return lines[:most] + [f"... and {many(omitted, 'more cause')}"] * (omitted > 0)


def _who(names: list[str]) -> str:
    if len(names) == 1:
        return names[0]
    more = ", ..." * (len(names) > NAMES_SHOWN)
    return f"{many(len(names), 'view')} ({', '.join(names[:NAMES_SHOWN])}{more})"
