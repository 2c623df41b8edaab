"""Which views a table shows: all of a few; of hundreds only bad ones and those with news.

Bad ones are preferred where even these are too many.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from etl.formatting import many

T = TypeVar("T")

ALL_SHOWN = 20
MOST_SHOWN = 40


def choose_shown(
    items: Sequence[T], is_bad: Callable[[T], bool], has_news: Callable[[T], bool]
) -> list[T]:
    """The items to show, in their order."""
    if len(items) <= ALL_SHOWN:
        return list(items)
    bad = [n for n, item in enumerate(items) if is_bad(item)]
    news = [n for n, item in enumerate(items) if has_news(item) and not is_bad(item)]
    return [items[n] for n in sorted((bad + news)[:MOST_SHOWN])]


def omitted_line(total: int, shown: int, ending: str) -> list[str]:
    """The line that says how many views are not shown, if any."""
    return [f"... and {many(total - shown, 'more view')}{ending}"] if total > shown else []
