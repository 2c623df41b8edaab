"""What a refusal says about `page[limit]`, whose maximum is not documented. Pure."""

from __future__ import annotations

import re

_NUMBER = r"(\d{1,3}(?:[,_']\d{3})+|\d{1,9})(?![\w/])"
_BOUND = (
    r"(?:max\w*|exceed\w*|than|most|above|over|between|and|to|be|in|limit|[<=\u2264])"
    r"(?:[^\w/]{1,6}(?:a|allowed|is|maximum|of|page|permitted|range|size|supported|the|value))*"
    rf"[^\w/]{{1,12}}(?:\d{{1,3}}(?:\.\.+|-|\u2013|, ?))?{_NUMBER}"
    rf"|{_NUMBER} (?:is the max|or (?:less|fewer))"
)


def lowered_limit(limit: int, refusal: str) -> int:
    """The limit to ask for after a refusal: the number it names as a bound, else the half.

    Such texts hold other numbers too: of paths, versions and requests.
    """
    bounds = re.findall(_BOUND, refusal, re.IGNORECASE)
    named = [int(re.sub(r"\D", "", "".join(found))) for found in bounds]
    return max((n for n in named if 0 < n < limit), default=limit // 2)
