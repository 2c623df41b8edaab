"""What the tables hold of a view and of listed ids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Connection, Select, bindparam, select

from etl.database.batches import batches
from etl.database.cursor import driver_cursor
from etl.database.dialects import dialect_of
from etl.database.schema import snapshots
from etl.load.changeset import StoredId
from etl.load.versions import Owner, StoredRow
from etl.transform.snapshot import CONTENT


def read_known(
    connection: Connection, owner: Owner, listed: Iterable[str]
) -> tuple[dict[str, str], dict[str, StoredId]]:
    """Live rows of the view, and every stored row of a listed id.

    First the content hashes of rows as most are: of the view and its source, with no removal
    held. Then all others.
    """
    dialect = dialect_of(connection)
    with driver_cursor(connection) as cursor:
        plain, odd = dialect.read_live(cursor, owner.view_key, owner.source)
        known = {
            identifier: StoredId(content_hash, owner.view_key, source, False, bool(is_missing))
            for identifier, content_hash, source, is_missing in odd
        }
        unread = {i for i in listed if i not in plain and i not in known}
        for batch in batches(sorted(unread), dialect.ids_at_once):
            for row in dialect.read_ids(cursor, batch):
                known[row[0]] = StoredId(row[1], row[2], row[3], bool(row[4]))
    return plain, known


# Built once: to build it takes longer than to execute it.
THESE = snapshots.c.id.in_(bindparam("ids", expanding=True))
"""Rows of the bound `ids`, which `batches` makes few enough."""


@cache
def _selecting() -> Select[Any]:
    s = snapshots.c
    place = (s.first_seen_at, s.version, s.began, s.changed_columns, s.valid_from, s.removed_at)
    return select(s.id, *(s[name] for name in CONTENT), *place, s.content_hash).where(THESE)


def read_stored(connection: Connection, ids: Sequence[str]) -> dict[str, StoredRow]:
    """Rows that will be written again."""
    end = 1 + len(CONTENT)
    return {
        row[0]: StoredRow(tuple(row[1:end]), *row[end:])
        for batch in batches(ids)
        for row in connection.execute(_selecting(), {"ids": batch})
    }
