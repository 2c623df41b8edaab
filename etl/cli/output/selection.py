"""A few views are all listed; of hundreds only those that have something to say.

The bad ones come first when even those are too many.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from etl.formatting import many

T = TypeVar("T")

ALL_SHOWN = 20
MOST_SHOWN = 40


def worth_a_line(
    items: Sequence[T], is_bad: Callable[[T], bool], has_news: Callable[[T], bool]
) -> list[T]:
    """Those to show, in their order."""
    if len(items) <= ALL_SHOWN:
        return list(items)
    bad = [n for n, item in enumerate(items) if is_bad(item)]
    news = [n for n, item in enumerate(items) if has_news(item) and not is_bad(item)]
    return [items[n] for n in sorted((bad + news)[:MOST_SHOWN])]


def left_out(total: int, shown: int, what: str) -> list[str]:
    """The line that says how many views are not shown, if any; `what` ends it."""
    return [f"... and {many(total - shown, 'more view')}{what}"] if total > shown else []
