"""What a response that is no answer says: its error text, and how long to wait. Pure.

Headers must be case-insensitive, as those of httpx are: Datadog's spelling varies.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

LONGEST_TEXT = 200
# Datadog's longest known rate-limit period is an hour; more than a day is no delta (an epoch, say).
ABSURD_S = 86400.0


def stated_wait(status: int | None, headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds that the server asks to wait after `status` (None: no answer); None: it does not ask.

    429: `X-RateLimit-Reset`, which is a delta (Datadog, "Rate Limits"), else `Retry-After`;
    503: `Retry-After`. Neither 0 (which would burn all tries) nor nonsense counts.
    """
    stated = _seconds(headers.get("X-RateLimit-Reset")) if status == 429 else None
    if status in (429, 503):
        stated = stated or _retry_after(headers.get("Retry-After"), now)
    return stated or None


def error_text(body: bytes) -> str:
    """The first error text of an answer that is not a 200, in any known shape; "" for none."""
    text = body.decode("utf-8", "replace").strip()
    with contextlib.suppress(ValueError, RecursionError):
        return _first_error(json.loads(text))
    if not text.startswith("<"):
        return text[:20_000]
    import html  # with two thousand names of characters; no usual run sees a page

    page = text[:20_000]
    heading = re.search(r"<(?:title|h1)\b[^<>]*>\s*([^<\s][^<]*)", page, re.IGNORECASE)
    return html.unescape(heading[1] if heading else re.sub(r"<[^<>]*>", " ", page)).strip()


def _first_error(found: object) -> str:
    """The text of one error, of the first of several, or of the object that holds them."""
    if isinstance(found, str):
        return found
    if isinstance(found, list):
        return next(filter(None, map(_first_error, found)), "")
    if not isinstance(found, dict):
        return ""
    texts = [
        found[key] for key in ("title", "detail", "message") if isinstance(found.get(key), str)
    ]
    source = found.get("source")
    if texts and isinstance(source, dict) and isinstance(source.get("parameter"), str):
        texts.append(source["parameter"])
    inner = (_first_error(found[key]) for key in ("errors", "error") if key in found)
    return next(filter(None, inner), "") or ": ".join(filter(None, texts))


def reset_seconds(headers: Mapping[str, str]) -> float | None:
    """Seconds until the rate limit's window ends; None when the headers do not say."""
    return _seconds(headers.get("X-RateLimit-Reset"))


def _seconds(value: str | None) -> float | None:
    """A delta in seconds, or None for junk, a negative or an absurd one."""
    try:
        seconds = float((value or "").split(",")[0])
    except ValueError:
        return None
    return seconds if 0 <= seconds <= ABSURD_S else None


def _retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds or an HTTP date (RFC 9110, 10.2.3), as a delta."""
    seconds = _seconds(value)
    if seconds is not None or not value:
        return seconds
    try:
        at = parsedate_to_datetime(value)
        return _seconds(str((at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds()))
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def remaining(headers: Mapping[str, str]) -> int | None:
    """Requests left in the rate-limit window; None when the headers do not say."""
    count = headers.get("X-RateLimit-Remaining", "").split(",")[0].strip()
    return int(count) if re.fullmatch(r"[0-9]{1,9}", count) else None


def host_of(location: str) -> str:
    """The host that a Location header names, without the user in it; "" for none."""
    found = re.match(r"(?:\w+:)?//(?:[^/?#]*@)?([^/?#:@]+)", location)
    return found[1] if found else ""


def one_line(text: str, secrets: Iterable[str] = ()) -> str:
    """Foreign text made fit for a message: one short line, the secrets blotted out."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    for secret in secrets:  # in any case: some texts are made small on their way
        text = re.sub(re.escape(secret), "***", text, flags=re.IGNORECASE)
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 3] + "..."
