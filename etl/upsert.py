"""Load: rows of `snapshots` -> the table, by the fastest way each database has.

Every way does the same: insert the row, or replace all of it where its id is
there already. Rows come in id order, so that two writers never deadlock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Boolean, Connection, Integer

from etl.column_types import UtcDateTime
from etl.database import driver_cursor
from etl.errors import StoreError
from etl.rows import (
    Row,
)
from etl.schema import snapshots

_COLUMNS = tuple(column.name for column in snapshots.columns)
_NAMES = ", ".join(_COLUMNS)
_INSTANTS = tuple(
    index for index, column in enumerate(snapshots.columns) if isinstance(column.type, UtcDateTime)
)
_INCOMING = "heatmap_etl_incoming"
_FITS_ALWAYS = 200_000  # characters; the least packet in use holds a megabyte
_STATEMENT = 65_536  # bytes around the values


def upsert(connection: Connection, family: str, rows: Sequence[Row]) -> None:
    """Write `rows` (in the order of the table's columns, ids unique) in one transaction."""
    if rows:
        _WAYS[family](connection, sorted(rows, key=lambda row: row[0]))


def _postgresql(connection: Connection, rows: Sequence[Row]) -> None:
    """Binary COPY into a temporary table, then one insert from it."""
    assign = ", ".join(f"{name} = EXCLUDED.{name}" for name in _COLUMNS[1:])
    with driver_cursor(connection) as cursor:
        cursor.execute(
            f"CREATE TEMP TABLE IF NOT EXISTS {_INCOMING} (LIKE snapshots) ON COMMIT DELETE ROWS"
        )
        with cursor.copy(f"COPY {_INCOMING} ({_NAMES}) FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(_copy_types())
            for row in rows:
                copy.write_row(row)
        cursor.execute(
            f"INSERT INTO snapshots ({_NAMES}) SELECT {_NAMES} FROM {_INCOMING}"  # noqa: S608
            f" ON CONFLICT (id) DO UPDATE SET {assign}"
        )
        cursor.execute(f"DELETE FROM {_INCOMING}")  # noqa: S608


def _copy_types() -> list[str]:
    # json travels as text: the driver would encode a str for json once more.
    kinds = {UtcDateTime: "timestamptz", BigInteger: "int8", Integer: "int4", Boolean: "bool"}
    return [kinds.get(type(column.type), "text") for column in snapshots.columns]


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
    for values in texts:
        for index in _INSTANTS:
            instant: datetime | None = values[index]
            if instant is not None:
                values[index] = instant.replace(tzinfo=None).isoformat(" ", "microseconds")
    return texts


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
