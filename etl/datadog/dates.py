"""The instants that headers name. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from etl.datadog.cache_headers import cache_header


def http_date(value: str | None) -> datetime | None:
    """The instant that a header names, aware; None for none, or nonsense."""
    try:
        at = parsedate_to_datetime(value or "")
        return (at.replace(tzinfo=UTC) if at.tzinfo is None else at).astimezone(UTC)
    except Exception:  # noqa: BLE001 - what nonsense makes that parser raise is written nowhere
        return None


def server_date(headers: Mapping[str, str]) -> datetime | None:
    """When the server answered, by its own clock; None where it does not say, or a cache did."""
    return None if cache_header(headers) else http_date(headers.get("Date"))
