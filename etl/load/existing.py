"""Load: a view and listed ids -> what the tables hold of them, for a decision.

Ids and hashes by the driver's own cursor: they are as many as there are snapshots, and
nearly all of them are only compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any

import msgspec
from sqlalchemy import Connection, Select, bindparam, select

from etl.database.connection import driver_cursor
from etl.database.schema import snapshots
from etl.load.changeset import StoredId
from etl.load.versions import Owner, StoredRow
from etl.transform.snapshot import CONTENT

BATCH = 500
_hashes = msgspec.json.Decoder(dict[str, str | None])
_AS_JSON = 10_000  # ids in one parameter

_PLAIN = "source = {mark} AND missing_since IS NULL"
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


def read_known(
    connection: Connection, owner: Owner, listed: Iterable[str]
) -> tuple[dict[str, str], dict[str, StoredId]]:
    """Live rows of the view, and every stored row of a listed id.

    First the content hashes of rows as most are: of the view and its source, with no removal
    held. Then all others.
    """
    read_mine, read_others, at_once = _WAYS.get(connection.dialect.name, _MYSQL)
    with driver_cursor(connection) as cursor:
        plain, odd = read_mine(cursor, owner)
        known = {
            identifier: StoredId(content_hash, owner.view_key, source, False, bool(is_missing))
            for identifier, content_hash, source, is_missing in odd
        }
        unread = {i for i in listed if i not in plain and i not in known}
        for batch in batches(sorted(unread), at_once):
            for row in read_others(cursor, batch):
                known[row[0]] = StoredId(row[1], row[2], row[3], bool(row[4]))
    return plain, known


def _mine(cursor: Any, owner: Owner) -> tuple[dict[str, str], Sequence[Any]]:
    rows = _fetched(cursor, f"SELECT {_MINE} {_OF_VIEW.format(mark='%s')}", (owner.view_key,))
    plain = {row[0]: row[1] for row in rows if row[2] == owner.source and not row[3]}
    return plain, [row for row in rows if row[0] not in plain]


def _mine_as_json(
    cursor: Any, owner: Owner, mark: str, to_object: str
) -> tuple[dict[str, str], Sequence[Any]]:
    """All hashes as one text: to make objects of each row in the driver takes longer.

    Rows that are not plain stand in it without a hash, and are read again: they are few.
    """
    of_view, is_plain = _OF_VIEW.format(mark=mark), _PLAIN.format(mark=mark)
    a_hash = f"CASE WHEN {is_plain} THEN content_hash END"
    query = f"SELECT CAST({to_object}(id, {a_hash}) AS text) {of_view}"
    ((text,),) = _fetched(cursor, query, (owner.source, owner.view_key))
    hashes: dict[str, Any] = _hashes.decode(text or "{}")
    if None not in hashes.values():
        return hashes, ()
    query = f"SELECT {_MINE} {of_view} AND NOT ({is_plain})"
    odd = _fetched(cursor, query, (owner.view_key, owner.source))
    return {i: a_hash for i, a_hash in hashes.items() if a_hash is not None}, odd


def _mine_by_sqlite(cursor: Any, owner: Owner) -> tuple[dict[str, str], Sequence[Any]]:
    return _mine_as_json(cursor, owner, "?", "json_group_object")


def _mine_by_postgresql(cursor: Any, owner: Owner) -> tuple[dict[str, str], Sequence[Any]]:
    return _mine_as_json(cursor, owner, "%s", "json_object_agg")


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


def _others_by_sqlite(cursor: Any, ids: Sequence[str]) -> Sequence[Any]:
    among = "SELECT value FROM json_each(?)"
    query = f"SELECT json_group_array(json_array({_OTHERS})) {_LISTED.format(among=among)}"
    ((text,),) = _fetched(cursor, query, (_json(ids),))
    rows: Sequence[Any] = msgspec.json.decode(text)
    return rows


def _json(ids: Sequence[str]) -> str:
    return msgspec.json.encode(ids).decode()


_MYSQL = (_mine, _others_by_mysql, BATCH)
_WAYS = {
    "sqlite": (_mine_by_sqlite, _others_by_sqlite, _AS_JSON),
    "postgresql": (_mine_by_postgresql, _others_by_postgresql, _AS_JSON),
}


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


def batches(ids: Sequence[str], at_once: int = BATCH) -> Iterator[Sequence[str]]:
    """So many ids at a time that a statement can name them all."""
    for start in range(0, len(ids), at_once):
        yield ids[start : start + at_once]
