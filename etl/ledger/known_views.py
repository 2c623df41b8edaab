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
    """`read_before`: each name that was read. `traffic`: page views in 30 days, by name."""

    read_before: tuple[ReadBefore, ...] = ()
    traffic: Mapping[str, int] = msgspec.field(default_factory=dict)
    discovered_at: datetime | None = None

    def with_traffic(self, discovered: Iterable[Traffic]) -> KnownViews:
        """With page views that were discovered just now, whether or not they are stored."""
        return msgspec.structs.replace(
            self, traffic={**self.traffic, **traffic_by_name(discovered)}
        )


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
    discovered_at = select(sources.c.discovered_at).where(sources.c.source == source)
    asked_at = connection.execute(discovered_at).scalar()
    return KnownViews(tuple(read_before.values()), traffic, asked_at)


def _read_before(row: Row[Any], other: ReadBefore | None) -> ReadBefore:
    """What one row of `view_state` adds to `other`, what earlier rows say of the same name.

    A name that was read under filters only was read in parts, and not yet as a whole.
    """
    had_snapshots = row.last_nonempty_at is not None or row.listed > 0 or row.held > 0
    had_snapshots = had_snapshots or bool(other and other.had_snapshots)
    if row.application_id is None and row.device_type is None:
        is_failing = row.consecutive_failures > 0
        return ReadBefore(row.view_name, had_snapshots, is_failing, row.last_run_at)
    return msgspec.structs.replace(other or ReadBefore(row.view_name), had_snapshots=had_snapshots)
