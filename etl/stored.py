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
_AS_JSON = 10_000  # ids in one parameter

_MINE = "id, content_hash, source, missing_since IS NOT NULL"
_OF_VIEW = "FROM snapshots WHERE view_key = {mark} AND removed_at IS NULL"
_OTHERS = "id, content_hash, view_key, source, removed_at IS NOT NULL"
_LISTED = "FROM snapshots WHERE id IN ({among})"
# A join or IN would read the whole table for each view wherever PostgreSQL holds it for small, as
# in a first load, which it has no statistics of. This looks up one id after the other.
_ONE_BY_ONE = (  # noqa: S608
    "SELECT s.* FROM json_array_elements_text(%s::json) AS listed(id)"
    " CROSS JOIN LATERAL (SELECT {} {} OFFSET 0) AS s"
).format(_OTHERS, _LISTED.format(among="listed.id"))


def read_known(connection: Connection, view_key: str, listed: Iterable[str]) -> dict[str, Known]:
    """Live rows of the view, and every stored row of a listed id."""
    read_mine, read_others, at_once = _WAYS.get(connection.dialect.name, _MYSQL)
    with driver_cursor(connection) as cursor:
        known = {
            identifier: Known(content_hash, view_key, source, False, bool(is_missing))
            for identifier, content_hash, source, is_missing in read_mine(cursor, view_key)
        }
        for batch in batches(sorted({i for i in listed if i not in known}), at_once):
            for identifier, content_hash, owner, source, is_removed in read_others(cursor, batch):
                known[identifier] = Known(content_hash, owner, source, bool(is_removed))
    return known


def _mine(cursor: Any, view_key: str) -> Sequence[Any]:
    return _fetched(cursor, f"SELECT {_MINE} {_OF_VIEW.format(mark='%s')}", (view_key,))


def _others_by_mysql(cursor: Any, ids: Sequence[str]) -> Sequence[Any]:
    among = ", ".join(["%s"] * len(ids))
    return _fetched(cursor, f"SELECT {_OTHERS} {_LISTED.format(among=among)}", ids)


def _others_by_postgresql(cursor: Any, ids: Sequence[str]) -> Sequence[Any]:
    """The same text for any number of ids, so that it is parsed once."""
    return _fetched(cursor, _ONE_BY_ONE, (_json(ids),))


def _fetched(cursor: Any, query: str, parameters: Sequence[Any]) -> Sequence[Any]:
    cursor.execute(query, parameters)
    rows: Sequence[Any] = cursor.fetchall()
    return rows


def _mine_by_sqlite(cursor: Any, view_key: str) -> Sequence[Any]:
    return _as_one(cursor, _MINE, _OF_VIEW.format(mark="?"), view_key)


def _others_by_sqlite(cursor: Any, ids: Sequence[str]) -> Sequence[Any]:
    among = "SELECT value FROM json_each(?)"
    return _as_one(cursor, _OTHERS, _LISTED.format(among=among), _json(ids))


def _as_one(cursor: Any, columns: str, source: str, parameter: str) -> Sequence[Any]:
    """All rows as one text: the driver gives up the interpreter's lock for each row."""
    query = f"SELECT json_group_array(json_array({columns})) {source}"
    ((text,),) = cursor.execute(query, (parameter,)).fetchall()
    rows: Sequence[Any] = msgspec.json.decode(text)
    return rows


def _json(ids: Sequence[str]) -> str:
    return msgspec.json.encode(ids).decode()


_MYSQL = (_mine, _others_by_mysql, BATCH)
_WAYS = {
    "sqlite": (_mine_by_sqlite, _others_by_sqlite, _AS_JSON),
    "postgresql": (_mine, _others_by_postgresql, _AS_JSON),
}


def batches(ids: Sequence[str], at_once: int = BATCH) -> Iterator[Sequence[str]]:
    """So many ids at a time that a statement can name them all."""
    for start in range(0, len(ids), at_once):
        yield ids[start : start + at_once]
