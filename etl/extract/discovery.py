"""Extract: which applications and views RUM knows -> `applications`, `discovered_views`.

The list endpoint needs a view name and no endpoint lists them; RUM counts traffic by name.
It keeps 30 days and may answer in part, so what it says is a hint: everything that makes
an answer less than whole is kept in `Discovery.warnings`.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Column, Connection, Table, delete, insert, select, update

from etl.database.batches import batches
from etl.database.connection import Database
from etl.database.schema import applications, discovered_views, sources
from etl.datadog.client import Datadog
from etl.datadog.rum import APPLICATION, VIEW, Application, Page, applications_of, page_of
from etl.errors import DatadogAuthError, DatadogError, StoreError

SPAN = timedelta(days=30)  # RUM keeps events this long
MAX_BUCKETS = 10_000  # Datadog's bound on the product of the limits of all facets
MAX_PAGES = 100
_QUERY = "@type:view @session.type:user"
_LIMITS = {VIEW: 1000, APPLICATION: 10}
DAY_S = 86400.0
_SLACK = 0.98  # a cron job of yesterday at 3:00:02 is not early at 3:00:01

log = logging.getLogger(__name__)


class Traffic(msgspec.Struct, frozen=True):
    """Views of one name in one application."""

    view_name: str
    application_id: str | None
    views_30d: int

    def key(self, source: str) -> str:
        """32 hex digits: a hash of source, name and application."""
        parts = json.dumps([source, self.view_name, self.application_id])
        return hashlib.sha256(parts.encode()).hexdigest()[:32]


class Discovery(msgspec.Struct, frozen=True):
    """What RUM said, busiest first, each pair of name and application once."""

    traffic: tuple[Traffic, ...]
    warnings: tuple[str, ...] = ()
    is_cut_short: bool = False  # RUM gave up before it had counted everything
    skipped: int = 0  # buckets that name no view that could be asked for
    requests: int = 0


# --- ask ----------------------------------------------------------------------------------


def read_applications(client: Datadog) -> list[Application]:
    """Every application of the organization, each id once; raises `DatadogError`."""
    return client.list_applications(read=applications_of).content


def discover(client: Datadog) -> Discovery:
    """Traffic of 30 days by view name and application; raises `DatadogError`."""
    inquiry = _Inquiry(client)
    try:
        inquiry.ask(_QUERY, _LIMITS)
    except DatadogAuthError as error:
        raise _without_permission(error) from None
    if inquiry.is_full:
        inquiry.ask_by_application()
    found = [Traffic(name, app, count) for (name, app), count in inquiry.counts.items()]
    found.sort(key=lambda t: (-t.views_30d, t.view_name, t.application_id or ""))
    return Discovery(
        tuple(found),
        tuple(inquiry.all_warnings()),
        inquiry.is_cut_short,
        inquiry.skipped,
        inquiry.requests,
    )


def _without_permission(error: DatadogAuthError) -> DatadogAuthError:
    if error.status != 403:
        return error
    text = f"{error}; to discover views, the keys need the permission rum_apps_read"
    clear = DatadogAuthError(text, status=error.status, detail=error.detail)
    clear.requests = error.requests
    return clear


class _Inquiry(msgspec.Struct):
    """All questions of one discovery, and what they brought together."""

    client: Datadog
    counts: dict[tuple[str, str | None], int] = msgspec.field(default_factory=dict)
    warnings: list[str] = msgspec.field(default_factory=list)
    is_cut_short: bool = False
    skipped: int = 0
    requests: int = 0

    @property
    def is_full(self) -> bool:
        """Whether a facet has as many values as were asked for: there may be more."""
        names: dict[str, int] = {}
        for name, _ in self.counts:
            names[name] = names.get(name, 0) + 1
        most = max(names.values(), default=0)
        return len(names) >= _LIMITS[VIEW] or most >= _LIMITS[APPLICATION]

    def ask_by_application(self) -> None:
        """Each application by itself has room for more names."""
        for application in self._all_applications():
            quoted = application.replace("\\", "\\\\").replace('"', '\\"')
            try:
                query = f'{_QUERY} {APPLICATION}:"{quoted}"'
                count = self.ask(query, {VIEW: MAX_BUCKETS}, application)
            except DatadogError as error:
                self.warn(f"the list of views may be cut: {error}")
                return
            if count >= MAX_BUCKETS:
                self.warn(
                    f"RUM names no more than {MAX_BUCKETS:,} views of application {application}:"
                    " the list may be cut"
                )

    def _all_applications(self) -> list[str]:
        seen = sorted({app for _, app in self.counts if app is not None})
        try:
            listed = [a.application_id for a in read_applications(self.client)]
        except DatadogError as error:
            self.warn(f"the list of views may be cut, applications are not known: {error}")
            return seen
        self.requests += 1
        return sorted({*seen, *listed})

    def ask(self, query: str, limits: Mapping[str, int], application: str | None = None) -> int:
        """Every page of one question; returns how many buckets came."""
        body, cursors, count = _question(query, limits), {""}, 0
        for _ in range(MAX_PAGES):
            answer = self.client.aggregate_rum(body, read=page_of)
            self.requests += answer.requests
            self._take(answer.content, application)
            count += len(answer.content.buckets) + answer.content.skipped
            cursor = answer.content.after
            if not cursor:
                return count
            if cursor in cursors:
                self.warn("RUM sends the same page again and again: the list of views may be cut")
                return count
            cursors.add(cursor)
            body["page"] = body["page"] | {"cursor": cursor}
        self.warn(f"RUM sends more than {MAX_PAGES} pages: the list of views may be cut")
        return count

    def _take(self, page: Page, application: str | None) -> None:
        for (name, seen_in), count in page.buckets:
            pair = (name, application or seen_in)
            self.counts[pair] = max(count, self.counts.get(pair, 0))
        self.skipped += page.skipped
        if page.is_timeout:
            self.is_cut_short = True
            self.warn("RUM ran out of time: views may be missing, and the counts too small")
        for text in page.warnings:
            self.warn(f"RUM warns: {text}")

    def warn(self, text: str) -> None:
        """Say it, once."""
        if text not in self.warnings:
            self.warnings.append(text)

    def all_warnings(self) -> list[str]:
        """The warnings, with one for what was skipped."""
        skipped = f"{self.skipped:,} of RUM's counts name no view that could be asked for"
        return self.warnings + [skipped] * bool(self.skipped)


def _question(query: str, limits: Mapping[str, int]) -> dict[str, Any]:
    # Without `from` RUM counts 15 minutes, without limits it names ten.
    busiest = {"aggregation": "count", "order": "desc", "type": "measure"}
    return {
        "filter": {"from": "now-30d", "to": "now", "query": query},
        "compute": [{"aggregation": "count", "type": "total"}],
        "group_by": [{"facet": f, "limit": n, "sort": busiest} for f, n in limits.items()],
        "page": {"limit": 1000},
    }


# --- store --------------------------------------------------------------------------------


def is_due(before: datetime | None, every_s: float, now: datetime) -> bool:
    """Whether so much time has passed; an instant in the future is a clock that was set back."""
    return before is None or not 0 <= (now - before).total_seconds() < every_s * _SLACK


def refresh_applications(
    client: Datadog,
    database: Database,
    source: str,
    guard: Callable[[Connection], None],
    now: datetime,
) -> None:
    """Read the applications once a day. Nothing depends on them: a failure is only logged."""
    query = select(sources.c.applications_read_at).where(sources.c.source == source)
    if not is_due(database.read(lambda c: c.execute(query).scalar()), DAY_S, now):
        return
    found: list[Application] | None = None
    try:
        found = read_applications(client)
    except DatadogError as error:
        log.debug("the applications stay as they are: %s", error)

    def save(connection: Connection) -> None:
        guard(connection)
        if found is None:
            note_applications_asked(connection, source, now)
        else:
            save_applications(connection, source, found, now)

    try:
        database.transaction(save)
    except StoreError as error:
        log.warning("the applications could not be stored: %s", error)


def save_applications(
    connection: Connection, source: str, found: Sequence[Application], now: datetime
) -> None:
    """Write the applications listed now; the others stay as they were last listed."""
    a = applications.c
    rows = {
        item.application_id: {
            "source": source,
            "application_id": item.application_id,
            "name": item.name,
            "type": item.type,
            "is_active": item.is_active,
            "last_seen_at": now,
        }
        for item in found
    }
    _put(connection, applications, a.application_id, rows, now)
    note_applications_asked(connection, source, now)


def note_applications_asked(connection: Connection, source: str, now: datetime) -> None:
    """Keep when they were asked for, so that a refusal too costs one request a day."""
    this = update(sources).where(sources.c.source == source)
    connection.execute(this.values(applications_read_at=now))


def save_discovery(connection: Connection, source: str, found: Discovery, now: datetime) -> None:
    """Write the traffic counted now; views without any keep what was last counted.

    A count that was cut short is due again in the next run.
    """
    rows = {
        item.key(source): {
            "discovered_key": item.key(source),
            "source": source,
            "view_name": item.view_name,
            "application_id": item.application_id,
            "views_30d": item.views_30d,
            "sampled_at": now,
        }
        for item in found.traffic
    }
    _put(connection, discovered_views, discovered_views.c.discovered_key, rows, now)
    if not found.is_cut_short:
        this = update(sources).where(sources.c.source == source)
        connection.execute(this.values(discovered_at=now))


def _put(
    connection: Connection,
    table: Table,
    key: Column[Any],
    rows: Mapping[str, dict[str, Any]],
    now: datetime,
) -> None:
    """Replace `rows` of one source, by key; they keep their `first_seen_at`.

    Deleted and inserted in batches: one UPDATE for each row is what MariaDB is slow at.
    """
    if not rows:
        return
    source = next(iter(rows.values()))["source"]
    for batch in batches(sorted(rows)):
        these = (table.c.source == source) & key.in_(batch)
        first = connection.execute(select(key, table.c.first_seen_at).where(these))
        known = {row[0]: row[1] for row in first}
        connection.execute(delete(table).where(these))
        new = [rows[k] | {"first_seen_at": known.get(k, now)} for k in batch]
        connection.execute(insert(table), new)


def application_names(connection: Connection, source: str) -> dict[str, str]:
    """Name by id, of those that have one."""
    query = select(applications.c.application_id, applications.c.name).where(
        applications.c.source == source
    )
    return {row.application_id: row.name for row in connection.execute(query) if row.name}
