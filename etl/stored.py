"""Load: a view and listed ids -> what the tables hold of them, for a decision.

By the driver's own cursor: these rows are as many as there are snapshots, and
nearly all of them are only compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection

from etl.changes import Known
from etl.database import driver_cursor

BATCH = 500

_MINE = (
    "SELECT id, content_hash, source, missing_since IS NOT NULL FROM snapshots"
    " WHERE view_key = {mark} AND removed_at IS NULL"
)
_OTHERS = (
    "SELECT id, content_hash, view_key, source, removed_at IS NOT NULL FROM snapshots"
    " WHERE id IN ({among})"
)
_AMONG_JSON = {
    # A join or IN would read the whole table wherever PostgreSQL holds it for small, as in a
    # first load, which it has no statistics of. This can only look up one id after the other.
    "postgresql": (
        "SELECT s.* FROM json_array_elements_text(%s::json) AS listed(id) CROSS JOIN LATERAL ("
        + _OTHERS.format(among="listed.id")
        + " OFFSET 0) AS s"
    ),
    "sqlite": _OTHERS.format(among="SELECT value FROM json_each(?)"),
}


def read_known(connection: Connection, view_key: str, listed: Iterable[str]) -> dict[str, Known]:
    """Live rows of the view, and every stored row of a listed id."""
    dialect = connection.dialect.name
    mark = "?" if dialect == "sqlite" else "%s"
    with driver_cursor(connection) as cursor:
        cursor.execute(_MINE.format(mark=mark), (view_key,))
        known = {
            identifier: Known(content_hash, view_key, source, False, bool(is_missing))
            for identifier, content_hash, source, is_missing in cursor.fetchall()
        }
        for batch in batches(sorted({i for i in listed if i not in known})):
            cursor.execute(*_among(dialect, batch))
            for identifier, content_hash, owner, source, is_removed in cursor.fetchall():
                known[identifier] = Known(content_hash, owner, source, bool(is_removed))
    return known


def _among(dialect: str, ids: Sequence[str]) -> tuple[str, Sequence[Any]]:
    """Where there is JSON the same text for any number of ids, so that it is prepared once."""
    if dialect in ("mysql", "mariadb"):
        return _OTHERS.format(among=", ".join(["%s"] * len(ids))), ids
    return _AMONG_JSON[dialect], (msgspec.json.encode(ids).decode(),)


def batches(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """So many ids at a time that a statement can name them all."""
    for start in range(0, len(ids), BATCH):
        yield ids[start : start + BATCH]
