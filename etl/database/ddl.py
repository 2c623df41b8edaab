"""Tables and indexes as the revisions create them: harmless to repeat, and small enough for a page.

Only migrating imports it: it loads Alembic.
"""

from __future__ import annotations

from typing import Any

from alembic import op
from sqlalchemy import Column, PrimaryKeyConstraint, String, inspect

from etl.database.dialects import dialect_of
from etl.database.schema import table_options


def create_table(name: str, *items: Column[Any] | PrimaryKeyConstraint, comment: str) -> None:
    """Create a table of ours, unless it exists.

    Where the server's pages are small, key columns are narrower. Not a key of prefixes: two values
    that begin alike would be one. What is longer than its column is refused, and never cut.
    """
    connection = op.get_bind()
    lengths = dialect_of(connection).key_lengths(connection)
    for column in items:
        if isinstance(column, Column) and isinstance(column.type, String):
            column.type.length = lengths.get(column.name, column.type.length)
    options = table_options(connection.dialect.name)
    op.create_table(name, *items, comment=comment, if_not_exists=True, **options)


def create_index(name: str, table: str, columns: list[str]) -> None:
    """Create an index, unless the table has one of that name."""
    if name not in {index["name"] for index in inspect(op.get_bind()).get_indexes(table)}:
        op.create_index(name, table, columns)
