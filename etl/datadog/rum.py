"""The bodies of the RUM endpoints -> applications, and buckets of views. Pure.

What is missing or of a wrong type is left out; the rest of the answer is used.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from etl.errors import DatadogResponseError

VIEW, APPLICATION = "@view.name", "@application.id"
LONGEST_NAME = 1000  # bytes; percent-encoded three times that, and servers end at 8000
_INT64 = 2**63


class Application(msgspec.Struct, frozen=True):
    """One RUM application; None: missing, null, or not of the type it should have."""

    application_id: str
    name: str | None = None
    type: str | None = None
    is_active: bool | None = None
    org_id: int | None = None


class Page(msgspec.Struct, frozen=True):
    """One page of counts: name and application, how often."""

    buckets: tuple[tuple[tuple[str, str | None], int], ...]
    skipped: int
    is_timeout: bool
    warnings: tuple[str, ...]
    after: str


def _object(body: bytes) -> dict[str, Any]:
    # Not msgspec: one view name with half a surrogate pair would cost the whole answer.
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise DatadogResponseError("the body is not JSON") from None
    if not isinstance(found, dict):
        raise DatadogResponseError("the body is not a JSON object")
    return found


def applications_of(body: bytes) -> tuple[list[Application], int]:
    """Each id once, and how many items have none; raises `DatadogResponseError`."""
    data = _object(body).get("data")
    if not isinstance(data, list):
        raise DatadogResponseError('the body has no list "data"')
    if any(isinstance(item, dict) and item.get("type") == "snapshots" for item in data):
        raise DatadogResponseError("the body lists snapshots, and no applications")
    found: dict[str, Application] = {}
    read = [application for application in map(_application, data) if application]
    for application in read:
        found.setdefault(application.application_id, application)
    return list(found.values()), len(data) - len(read)


def _application(item: object) -> Application | None:
    """None: nothing that has an id."""
    if not isinstance(item, dict):
        return None
    attributes = item.get("attributes")
    attributes = attributes if isinstance(attributes, dict) else {}
    ids = (_text(attributes.get("application_id")), _text(item.get("id")))
    identifier = next((text for text in ids if text and len(text) <= 255), None)
    if identifier is None:
        return None
    is_active, org_id = attributes.get("is_active"), attributes.get("org_id")
    return Application(
        identifier,
        name=_text(attributes.get("name")),
        type=_text(attributes.get("type")),
        is_active=is_active if isinstance(is_active, bool) else None,
        org_id=org_id if type(org_id) is int and -_INT64 <= org_id < _INT64 else None,
    )


def page_of(body: bytes) -> Page:
    """What can be used of a page; raises `DatadogResponseError`."""
    found = _object(body)
    data, meta = found.get("data"), found.get("meta")
    buckets = data.get("buckets") if isinstance(data, dict) else None
    if not isinstance(buckets, list):
        raise DatadogResponseError('the body has no list "data.buckets"')
    meta = meta if isinstance(meta, dict) else {}
    page, warnings = meta.get("page"), meta.get("warnings")
    after = page.get("after") if isinstance(page, dict) else None
    read = [bucket for bucket in map(_bucket, buckets) if bucket]
    return Page(
        tuple(read),
        skipped=len(buckets) - len(read),
        is_timeout=meta.get("status") == "timeout",
        warnings=tuple(map(_warning, warnings)) if isinstance(warnings, list) else (),
        after=after if isinstance(after, str) else "",
    )


def _bucket(item: object) -> tuple[tuple[str, str | None], int] | None:
    by = item.get("by") if isinstance(item, dict) else None
    computes = item.get("computes") if isinstance(item, dict) else None
    if not isinstance(by, dict) or not isinstance(computes, dict):
        return None
    name, application, count = _text(by.get(VIEW)), by.get(APPLICATION), _count(computes.get("c0"))
    if not name or len(name.encode()) > LONGEST_NAME or count is None:
        return None
    if application is not None and not _text(application):
        return None
    return (name, application), count


def _text(value: object) -> str | None:
    """Text that every database and every request can carry."""
    if not isinstance(value, str) or "\0" in value:
        return None
    return None if any("\ud800" <= c <= "\udfff" for c in value) else value


def _count(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if 0 <= value < _INT64 else None  # neither NaN nor infinite


def _warning(item: object) -> str:
    parts = [item.get(n) for n in ("title", "detail", "code")] if isinstance(item, dict) else [item]
    text = ": ".join(dict.fromkeys(" ".join(t.split()) for t in parts if isinstance(t, str) and t))
    printable = "".join(c if c.isprintable() else "?" for c in text) or "it gives no reason"
    return printable if len(printable) <= 200 else printable[:197] + "..."
