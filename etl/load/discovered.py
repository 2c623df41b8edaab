"""What RUM answered -> `applications` and `discovered_views`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Column, Connection, Table, delete, insert, select, update

from etl.database.batches import batches
from etl.database.schema import applications, discovered_views, sources
from etl.extract.discovery import Applications, Discovery
from etl.extract.side_question import APPLICATIONS, DISCOVERY, ORGANIZATION
from etl.ledger.side_questions import note_answered


def applications_asked_at(connection: Connection, source: str) -> datetime | None:
    """When RUM was last asked for the applications of the source."""
    query = select(sources.c.applications_read_at).where(sources.c.source == source)
    asked_at: datetime | None = connection.execute(query).scalar()
    return asked_at


def note_applications_asked(connection: Connection, source: str, now: datetime) -> None:
    """Keep when they were asked for."""
    of_source = update(sources).where(sources.c.source == source)
    connection.execute(of_source.values(applications_read_at=now))


def application_names(connection: Connection, source: str) -> dict[str, str]:
    """Name by id, of those that have one."""
    query = select(applications.c.application_id, applications.c.name).where(
        applications.c.source == source
    )
    return {row.application_id: row.name for row in connection.execute(query) if row.name}


def save_applications(
    connection: Connection, source: str, listed: Applications, now: datetime
) -> None:
    """Write the applications listed now; the others stay as they were last listed."""
    rows = {
        item.application_id: {
            "source": source,
            "application_id": item.application_id,
            "name": item.name,
            "type": item.type,
            "is_active": item.is_active,
            "last_seen_at": now,
        }
        for item in listed
    }
    _replace(connection, applications, applications.c.application_id, rows, now)
    note_applications_asked(connection, source, now)
    for question in (APPLICATIONS, ORGANIZATION):
        note_answered(connection, source, question)


def save_discovery(
    connection: Connection, source: str, discovery: Discovery, now: datetime
) -> None:
    """Write the page views counted now; views without any keep what was last counted.

    A count that was cut short stays due.
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
        for item in discovery.traffic
    }
    _replace(connection, discovered_views, discovered_views.c.discovered_key, rows, now)
    note_answered(connection, source, DISCOVERY)
    if not discovery.is_cut_short:
        of_source = update(sources).where(sources.c.source == source)
        connection.execute(of_source.values(discovered_at=now))


def _replace(
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
        in_batch = (table.c.source == source) & key.in_(batch)
        known = connection.execute(select(key, table.c.first_seen_at).where(in_batch))
        first_seen = {row[0]: row[1] for row in known}
        connection.execute(delete(table).where(in_batch))
        new = [rows[k] | {"first_seen_at": first_seen.get(k, now)} for k in batch]
        connection.execute(insert(table), new)
