"""Load: rows of `snapshots` -> the table, by the fastest way each database has.

Every way does the same: insert the row, or replace all of it where its id is
there already. Rows come in id order, so that two writers never deadlock.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from operator import itemgetter
from typing import Any

import msgspec
from sqlalchemy import BigInteger, Boolean, Connection, Integer

from etl.database.connection import driver_cursor
from etl.database.schema import snapshots
from etl.database.types import UtcDateTime
from etl.errors import StoreError
from etl.load.versions import (
    Row,
)

_COLUMNS = tuple(column.name for column in snapshots.columns)
_NAMES = ", ".join(_COLUMNS)
# json travels as text: the driver would encode a str for json once more.
_KINDS = {UtcDateTime: "timestamptz", BigInteger: "int8", Integer: "int4", Boolean: "bool"}
_COPY_TYPES = [_KINDS.get(type(column.type), "text") for column in snapshots.columns]
_INSTANTS = tuple(
    index for index, column in enumerate(snapshots.columns) if isinstance(column.type, UtcDateTime)
)
_INCOMING = "heatmap_etl_incoming"
_FITS_ALWAYS = 200_000  # characters; the least packet in use holds a megabyte
_STATEMENT = 65_536  # bytes around the values


class Outgoing:
    """Rows of several views on their way into the table, written together at the end.

    A statement costs more than a row, and whoever waits for its end cannot work meanwhile.
    """

    def __init__(self, family: str) -> None:
        self.family = family
        self._new: list[Row] = []
        self._again: list[Row] = []
        self._ids: set[str] = set()
        self._losing: set[str] = set()

    def add(self, new: Sequence[Row], again: Sequence[Row], losing: Collection[str] = ()) -> None:
        """New rows, and rows to replace; `losing` are the views that some of these are taken from.

        None of their ids is on its way already.
        """
        self._new += new
        self._again += again
        self._ids.update(row[0] for row in (*new, *again))
        self._losing.update(losing)

    def touches(self, view_key: str, ids: Collection[str]) -> bool:
        """Whether a view that lists these ids would find its rows, or theirs, otherwise."""
        return view_key in self._losing or not self._ids.isdisjoint(ids)

    def write(self, connection: Connection) -> None:
        """Write them; nothing is on its way then."""
        insert_new(connection, self.family, self._new)
        upsert(connection, self.family, self._again)
        self._new, self._again = [], []
        self._ids, self._losing = set(), set()


def insert_new(connection: Connection, family: str, rows: Sequence[Row]) -> None:
    """Write rows whose ids nobody had when they were decided on; else as `upsert`.

    PostgreSQL copies them into the table itself, where an id that another source took in the
    meantime is an error: then the transaction is repeated, from the decision.
    """
    if not rows:
        return
    if family == "postgresql":
        with driver_cursor(connection) as cursor:
            _copy(cursor, "snapshots", sorted(rows, key=itemgetter(0)))
    else:
        upsert(connection, family, rows)


def upsert(connection: Connection, family: str, rows: Sequence[Row]) -> None:
    """Write `rows` (in the order of the table's columns, ids unique) in one transaction."""
    if rows:
        _WAYS[family](connection, sorted(rows, key=itemgetter(0)))


def _postgresql(connection: Connection, rows: Sequence[Row]) -> None:
    """Binary COPY into a temporary table, then one insert from it."""
    assign = ", ".join(f"{name} = EXCLUDED.{name}" for name in _COLUMNS[1:])
    with driver_cursor(connection) as cursor:
        cursor.execute(
            f"CREATE TEMP TABLE IF NOT EXISTS {_INCOMING} (LIKE snapshots) ON COMMIT DELETE ROWS"
        )
        _copy(cursor, _INCOMING, rows)
        cursor.execute(
            f"INSERT INTO snapshots ({_NAMES}) SELECT {_NAMES} FROM {_INCOMING}"  # noqa: S608
            f" ON CONFLICT (id) DO UPDATE SET {assign}"
        )
        cursor.execute(f"DELETE FROM {_INCOMING}")  # noqa: S608


def _copy(cursor: Any, table: str, rows: Iterable[Row]) -> None:
    with cursor.copy(f"COPY {table} ({_NAMES}) FROM STDIN (FORMAT BINARY)") as copy:
        copy.set_types(_COPY_TYPES)
        write = copy.write_row
        for row in rows:
            write(row)


def _sqlite(connection: Connection, rows: Sequence[Row]) -> None:
    marks = ", ".join("?" * len(_COLUMNS))
    assign = ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS[1:])
    with driver_cursor(connection) as cursor:
        cursor.executemany(
            f"INSERT INTO snapshots ({_NAMES}) VALUES ({marks})"  # noqa: S608
            f" ON CONFLICT (id) DO UPDATE SET {assign}",
            _as_text(rows),
        )


def _as_text(rows: Sequence[Row]) -> list[list[Any]]:
    """As SQLAlchemy writes instants on SQLite; the driver's own adapter is deprecated."""
    texts = [list(row) for row in rows]
    last: datetime | None = None
    text = ""
    for values in texts:
        for index in _INSTANTS:
            instant: datetime | None = values[index]
            if instant is None:
                continue
            if instant is not last:  # the reading's own stands in every row, twice
                last, text = instant, _instant_text(instant)
            values[index] = text
    return texts


def _instant_text(instant: datetime) -> str:
    # isoformat takes ten times as long; msgspec leaves a fraction of zero out.
    text: str = msgspec.to_builtins(instant)
    fraction = text[19:-1] or ".000000"
    return f"{text[:10]} {text[11:19]}{fraction}"


def _mysql(connection: Connection, rows: Sequence[Row]) -> None:
    """The driver joins the rows into statements of at most a megabyte."""
    refuse_too_long(connection, "mysql", rows)
    marks = ", ".join(["%s"] * len(_COLUMNS))
    assign = ", ".join(f"{name} = VALUES({name})" for name in _COLUMNS[1:])
    with driver_cursor(connection) as cursor:
        cursor.executemany(
            f"INSERT INTO snapshots ({_NAMES}) VALUES ({marks})"  # noqa: S608
            f" ON DUPLICATE KEY UPDATE {assign}",
            rows,
        )


def refuse_too_long(connection: Connection, family: str, rows: Iterable[Sequence[Any]]) -> None:
    """Raises `StoreError` for a row that MariaDB and MySQL would answer by hanging up.

    They take no statement longer than `max_allowed_packet`, and a lost connection
    would end the run; like this, one view fails and says why.
    """
    if family != "mysql":
        return
    long = [row for row in rows if sum(len(v) for v in row if isinstance(v, str)) > _FITS_ALWAYS]
    if not long:
        return
    limit = connection.exec_driver_sql("SELECT @@max_allowed_packet").scalar_one()
    driver: Any = connection.connection.dbapi_connection
    size = max(
        sum(len(driver.escape(value).encode()) for value in row if isinstance(value, str))
        for row in long
    )
    if size + _STATEMENT > limit:
        raise StoreError(
            f"a record of {size:,} bytes is too long for the database: raise max_allowed_packet"
            f" of the server, which is {limit:,}"
        )


_WAYS: dict[str, Callable[[Connection, Sequence[Row]], None]] = {
    "postgresql": _postgresql,
    "sqlite": _sqlite,
    "mysql": _mysql,
}
