"""What the headers of a response say about the rate limit, and about waiting. Pure.

Headers must be case-insensitive, as those of httpx are: Datadog's spelling varies.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime

from etl.datadog.dates import http_date, server_date

# Datadog's longest known rate-limit period is an hour; more than a day is no delta (an epoch, say).
ABSURD_S = 86400.0


def stated_wait(status: int | None, headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds that the server asks to wait after `status` (None: no answer); None: it does not ask.

    429: `X-RateLimit-Reset`, which is a delta (Datadog, "Rate Limits"), else `Retry-After`;
    503: `Retry-After`. Neither 0 (which would burn all tries) nor nonsense counts. A date is
    counted from the answer's own `Date`; where it has none from `now`, by this machine's clock.
    """
    stated = _seconds(headers.get("X-RateLimit-Reset")) if status == 429 else None
    if status in (429, 503):
        answered_at = server_date(headers) or now
        stated = stated or _retry_after(headers.get("Retry-After"), answered_at)
    return stated or None


def reset_seconds(headers: Mapping[str, str]) -> float | None:
    """Seconds until the rate limit's window ends; None when the headers do not say."""
    return _seconds(headers.get("X-RateLimit-Reset"))


def remaining(headers: Mapping[str, str]) -> int | None:
    """Requests left in the rate-limit window; None when the headers do not say."""
    count = headers.get("X-RateLimit-Remaining", "").split(",")[0].strip()
    return int(count) if re.fullmatch(r"[0-9]{1,9}", count) else None


def _seconds(value: str | None) -> float | None:
    """A delta in seconds, or None for junk, a negative or an absurd one."""
    try:
        seconds = float((value or "").split(",")[0])
    except ValueError:
        return None
    return seconds if 0 <= seconds <= ABSURD_S else None


def _retry_after(value: str | None, answered_at: datetime) -> float | None:
    """Seconds or an HTTP date (RFC 9110, 10.2.3), as a delta."""
    seconds = _seconds(value)
    if seconds is not None or not value:
        return seconds
    at = http_date(value)
    return _seconds(str((at - answered_at).total_seconds())) if at else None
