"""What the tables know of the views of a source."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, select

from etl.database.schema import discovered_views, sources
from etl.extract.discovery import SPAN, Traffic, traffic_by_name
from etl.extract.view_selection import ReadBefore
from etl.ledger.view_state import read_view_states


class KnownViews(msgspec.Struct, frozen=True):
    """`read_before`: each name that was read; `traffic`: views of 30 days by name."""

    read_before: tuple[ReadBefore, ...] = ()
    traffic: Mapping[str, int] = msgspec.field(default_factory=dict)
    discovered_at: datetime | None = None

    def with_traffic(self, found: Iterable[Traffic]) -> KnownViews:
        """With what was discovered just now, which need not be stored."""
        return msgspec.structs.replace(self, traffic={**self.traffic, **traffic_by_name(found)})


def read_known_views(connection: Connection, source: str, now: datetime) -> KnownViews:
    """From `view_state`, `discovered_views` and `sources`."""
    read_before: dict[str, ReadBefore] = {}
    for row in read_view_states(connection, source).values():
        if row.last_read_at is not None:
            read_before[row.view_name] = _read_before(row, read_before.get(row.view_name))
    d = discovered_views.c
    query = select(d.view_name, d.application_id, d.views_30d).where(
        d.source == source, d.sampled_at >= now - SPAN
    )
    traffic = traffic_by_name(Traffic(*row) for row in connection.execute(query))
    at = select(sources.c.discovered_at).where(sources.c.source == source)
    return KnownViews(tuple(read_before.values()), traffic, connection.execute(at).scalar())


def _read_before(row: Row[Any], other: ReadBefore | None) -> ReadBefore:
    """A name may have been read in parts before, by filters: then not yet as a whole."""
    had_snapshots = row.last_nonempty_at is not None or row.listed > 0 or row.held > 0
    had_snapshots = had_snapshots or bool(other and other.had_snapshots)
    if row.application_id is None and row.device_type is None:
        is_failing = row.consecutive_failures > 0
        return ReadBefore(row.view_name, had_snapshots, is_failing, row.last_run_at)
    return msgspec.structs.replace(other or ReadBefore(row.view_name), had_snapshots=had_snapshots)
