"""The rows of one table in another database, and a hash of all that a table holds.

Rows are read in the order of their key, by the bytes of its text, and written in batches, each a
transaction. So the last key in the other table says where a copy that was cut short goes on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec
from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Select,
    Table,
    and_,
    func,
    literal,
    null,
    select,
    true,
    tuple_,
)

from etl.database.connection import Database
from etl.database.dialects import Row, dialect_of
from etl.database.schema import sources

BATCH = 2000
_LEASE = frozenset({"lease_holder", "lease_host", "lease_token", "lease_expires_at"})


class Content(msgspec.Struct, frozen=True):
    """What a table holds: how many rows, and their hash, which is the same on every database."""

    rows: int
    digest: str


def to_copy(table: Table) -> Select[Any]:
    """All rows of a table, without the lease of whoever works on a source."""
    hidden = _LEASE if table is sources else ()
    return select(*(null().label(c.name) if c.name in hidden else c for c in table.columns))


def copy_table(
    source: Database, target: Database, table: Table, on_rows: Callable[[int], None]
) -> None:
    """Write the rows of `source` that come after the last one in `target`.

    `on_rows` is called with the number of rows after each batch; what it raises ends the copy.
    """
    last = target.read(lambda connection: _last_key(connection, table))
    if last:
        on_rows(row_count(target, table))

    def copy(connection: Connection) -> None:
        order = _byte_order(connection, table)
        query = to_copy(table).where(_is_after(table, order, last)).order_by(*order)
        dialect = dialect_of(connection)
        dialect.allow_long_answers(connection)  # all rows may be sorted before the first one comes
        for batch in dialect.batches(connection, query, BATCH):
            rows = [tuple(row) for row in batch]
            target.transaction(partial(_write, table=table, rows=rows))
            on_rows(len(rows))

    source.read(copy)


def row_count(database: Database, table: Table) -> int:
    """How many rows it has."""
    query = select(func.count()).select_from(table)
    return database.read(lambda connection: connection.execute(query).scalar_one())


def content(
    database: Database, rows_of: Select[Any], on_rows: Callable[[int], None] = lambda _: None
) -> Content:
    """Read all rows of a query.

    The hash is the sum of a SHA-256 for each row, so that their order does not matter. It is taken
    of the values as Python has them: instants to the microsecond, text character by character.
    """
    encode = msgspec.msgpack.Encoder().encode

    def read(connection: Connection) -> Content:
        total = count = 0
        dialect = dialect_of(connection)
        dialect.allow_long_answers(connection)
        for rows in dialect.batches(connection, rows_of, BATCH):
            for row in rows:
                total += int.from_bytes(hashlib.sha256(encode(tuple(row))).digest())
            count += len(rows)
            on_rows(len(rows))
        return Content(count, f"{total % 2**256:064x}")

    return database.read(read)


def longest(database: Database, column: Column[str]) -> int:
    """How many characters the longest text in a column has; 0 where there is none."""

    def read(connection: Connection) -> int:
        dialect = dialect_of(connection)
        dialect.allow_long_answers(connection)
        batches = dialect.batches(connection, select(column), BATCH)
        return max((len(text or "") for rows in batches for (text,) in rows), default=0)

    return database.read(read)


def _write(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Insert them, unless the try before did, whose COMMIT got no answer."""
    key = [(column, table.columns.keys().index(column.name)) for column in table.primary_key]
    is_last = and_(*(column == rows[-1][index] for column, index in key))
    if connection.execute(select(literal(1)).select_from(table).where(is_last)).first() is None:
        dialect_of(connection).insert_new(connection, table, rows)


def _byte_order(connection: Connection, table: Table) -> list[ColumnElement[Any]]:
    dialect = dialect_of(connection)
    return [dialect.byte_order(column) for column in table.primary_key]


def _last_key(connection: Connection, table: Table) -> Sequence[Any]:
    order = [column.desc() for column in _byte_order(connection, table)]
    query = select(*table.primary_key).order_by(*order).limit(1)
    return tuple(connection.execute(query).first() or ())


def _is_after(
    table: Table, order: Sequence[ColumnElement[Any]], last: Sequence[Any]
) -> ColumnElement[bool]:
    if not last:
        return true()
    values = [literal(v, c.type) for v, c in zip(last, table.primary_key, strict=True)]
    return tuple_(*order) > tuple_(*values) if len(order) > 1 else order[0] > values[0]
