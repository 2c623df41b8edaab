"""RUM analytics: which views of which applications were visited, as buckets."""

from __future__ import annotations

import base64
import re
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

import msgspec

from etl.fake_datadog.organization import Traffic

SPAN = timedelta(days=30)  # RUM keeps events this long
UNITS = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
MAX_BUCKETS = 10_000  # the product of the limits of all groups


class BadRequest(Exception):
    """The request is malformed; the text goes into the response."""


class _Filter(msgspec.Struct):
    from_: str = msgspec.field(name="from", default="now-15m")
    to: str = "now"
    query: str = "*"


class _Compute(msgspec.Struct):
    aggregation: Literal["count"]
    type: Literal["total"] = "total"


class _Sort(msgspec.Struct):
    order: Literal["asc", "desc"] = "desc"


class _GroupBy(msgspec.Struct):
    facet: str
    limit: Annotated[int, msgspec.Meta(ge=1)] = 10
    sort: _Sort = msgspec.field(default_factory=_Sort)


class _Page(msgspec.Struct):
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 10
    cursor: str = ""


class _Request(msgspec.Struct):
    filter: _Filter = msgspec.field(default_factory=_Filter)
    compute: list[_Compute] = msgspec.field(default_factory=lambda: [_Compute("count")])
    group_by: list[_GroupBy] = msgspec.field(default_factory=list)
    page: _Page = msgspec.field(default_factory=_Page)


_Visits = list[tuple[dict[str, str], int]]  # facets, how often
_Bucket = tuple[dict[str, str], int]  # by, count


def aggregate(body: bytes, traffic: Sequence[Traffic], now: datetime) -> dict[str, object]:
    """The response to the body of an aggregate request: one page of buckets.

    Raises `BadRequest` for a malformed body.
    """
    try:
        request = msgspec.json.decode(body, type=_Request)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(str(error)) from error
    _check_limits(request.group_by)
    buckets = _buckets(_visits(request.filter, traffic, now), request.group_by)
    offset = _offset(request.page.cursor)
    end = offset + request.page.limit
    meta: dict[str, object] = {"elapsed": 12, "request_id": "pddv1fake", "status": "done"}
    if end < len(buckets):
        meta["page"] = {"after": _cursor(end)}
    return {
        "meta": meta,
        "data": {
            "buckets": [
                {"by": by, "computes": {f"c{n}": count for n in range(len(request.compute))}}
                for by, count in buckets[offset:end]
            ]
        },
    }


def _check_limits(groups: list[_GroupBy]) -> None:
    buckets = 1
    for group in groups:
        buckets *= group.limit
    if buckets > MAX_BUCKETS:
        raise BadRequest(f"the product of the group_by limits is over {MAX_BUCKETS}")


def _visits(filters: _Filter, traffic: Sequence[Traffic], now: datetime) -> _Visits:
    """Visits in the time of the filter; of its query only the application is used."""
    start, end = _moment(filters.from_, now), _moment(filters.to, now)
    if start > end:
        raise BadRequest("filter.from is after filter.to")
    share = max(end - max(start, now - SPAN), timedelta(0)) / SPAN
    wanted = re.findall(r'@application\.id:"?([\w-]+)', filters.query)
    facets = [
        ({"@view.name": t.view_name, "@application.id": t.application_id}, t.views_30d)
        for t in traffic
        if not wanted or t.application_id in wanted
    ]
    visits = [(facet, int(views * share)) for facet, views in facets]
    return [(facet, count) for facet, count in visits if count > 0]


def _buckets(visits: _Visits, groups: list[_GroupBy]) -> list[_Bucket]:
    """Grouped by the first facet, each group by the next; limits count within a group."""
    if not groups:
        total = sum(count for _, count in visits)
        return [({}, total)] if total else []
    first, *rest = groups
    totals: Counter[str] = Counter()
    for facets, count in visits:
        if first.facet in facets:
            totals[facets[first.facet]] += count
    direction = 1 if first.sort.order == "asc" else -1
    ordered = sorted(totals, key=lambda value: (direction * totals[value], value))
    return [
        ({first.facet: value} | by, count)
        for value in ordered[: first.limit]
        for by, count in _buckets([v for v in visits if v[0].get(first.facet) == value], rest)
    ]


def _moment(text: str, now: datetime) -> datetime:
    """`now`, `now-30d`, epoch milliseconds or ISO 8601."""
    relative = re.fullmatch(r"now(?:-(\d{1,4})([smhdw]))?", text)
    try:
        if relative:
            amount, unit = relative.groups()
            return now - int(amount) * UNITS[unit] if amount else now
        if text.isdecimal():
            return datetime.fromtimestamp(int(text) / 1000, UTC)
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError, OSError) as error:
        raise BadRequest(f"not a time: {text!r}") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _cursor(offset: int) -> str:
    return base64.urlsafe_b64encode(b"after:%d" % offset).decode()


def _offset(cursor: str) -> int:
    if not cursor:
        return 0
    try:
        return int(base64.urlsafe_b64decode(cursor).removeprefix(b"after:"))
    except ValueError as error:
        raise BadRequest("page.cursor is not one of ours") from error
