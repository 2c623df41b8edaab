"""`db rename-source OLD NEW`: another label for a source, in every table at once.

Rows hold the label, and the keys of views are hashes of it too. Both change in one transaction, so
that the next run finds everything unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Column, Connection, Row, Table, case, select, update

from etl.config.validators import BadValue, text
from etl.config.views import View
from etl.database.batches import batches
from etl.database.connection import Database
from etl.database.dialects import dialect_of
from etl.database.migrations import require_there
from etl.database.schema import discovered_views, metadata, snapshots, view_state
from etl.errors import ConfigError, SourceMismatch
from etl.extract.discovery import Traffic
from etl.formatting import many
from etl.source.lease import lock_free

# Each key is bound three times, and old versions of SQLite take 999 parameters.
_KEYS_AT_ONCE = 300


def rename_source(database: Database, old: str, new: str) -> str:
    """Rename the source; says how many rows have the new label. Raises `EtlError`."""
    try:
        text(new)
    except BadValue as error:
        raise ConfigError([f"NEW: {error}"]) from None
    require_there(database)
    rows = database.transaction(lambda connection: _rename(connection, old, new))
    return f"{database.label}: source {old} is {new} now, {many(rows, 'snapshot')}"


def _rename(connection: Connection, old: str, new: str) -> int:
    dialect_of(connection).allow_long_answers(connection)
    lock_free(connection, old)
    _require_unused(connection, new)
    views = _new_keys(connection, view_state, old, lambda r: View(*_filters(r)).key(new))
    discovered = _new_keys(connection, discovered_views, old, lambda r: _traffic(r).key(new))
    rows = 0
    for table in _tables_with("source"):
        relabel = update(table).where(table.c.source == old).values(source=new)
        changed = connection.execute(relabel).rowcount
        rows = changed if table is snapshots else rows
    for table in _tables_with("view_key"):
        _replace(connection, table.c.view_key, views)
    _replace(connection, discovered_views.c.discovered_key, discovered)
    return rows


def _require_unused(connection: Connection, new: str) -> None:
    for table in _tables_with("source"):
        query = select(table.c.source).where(table.c.source == new).limit(1)
        if connection.execute(query).first() is not None:
            raise SourceMismatch(
                f"{table.name} has rows of source {new} already, and two sources cannot become "
                f"one; if {new} was a mistake, rename it first to a label that is not used"
            )


def _tables_with(name: str) -> list[Table]:
    return [table for table in metadata.sorted_tables if name in table.c]


def _new_keys(
    connection: Connection, table: Table, old: str, key: Callable[[Row[Any]], str]
) -> Mapping[str, str]:
    """The new key of each row, by the one it has."""
    (column,) = table.primary_key.columns
    rows = connection.execute(select(column.label("old_key"), table).where(table.c.source == old))
    return {row.old_key: key(row) for row in rows}


def _filters(row: Row[Any]) -> tuple[str, str | None, str | None]:
    return row.view_name, row.application_id, row.device_type


def _traffic(row: Row[Any]) -> Traffic:
    return Traffic(row.view_name, row.application_id, row.views_30d)


def _replace(connection: Connection, column: Column[Any], keys: Mapping[str, str]) -> None:
    """Rewrite a column by the mapping, many keys in each statement."""
    for pairs in batches(list(keys.items()), _KEYS_AT_ONCE):
        batch = dict(pairs)
        in_batch = update(column.table).where(column.in_(batch))
        connection.execute(in_batch.values({column: case(batch, value=column)}))
