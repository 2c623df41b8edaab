"""The words of the catalogue as comments in the database, for those who look at a table there.

The revisions give each table the words of their time. An upgrade then sets the comments that differ
from the catalogue. A better description therefore needs no revision: the schema stays as it is, and
the program of the version before still runs with it. SQLite keeps no comments.
"""

from __future__ import annotations

from sqlalchemy import Connection, Table

from etl.database import schema, sql_views
from etl.database.dialects import Comments, dialect_of


def are_current(connection: Connection) -> bool:
    """Whether every comment says what the catalogue says; True where the database keeps none."""
    return not _outdated(connection)


def refresh(connection: Connection) -> None:
    """Set the comments that differ. Repeatable; on MariaDB each table is one statement of DDL."""
    if outdated := _outdated(connection):
        dialect_of(connection).write_comments(connection, outdated, sql_views.metadata.tables)


def _outdated(connection: Connection) -> Comments:
    """The comments to set, of what is there."""
    tables, views = schema.metadata.tables, sql_views.metadata.tables
    found = dialect_of(connection).read_comments(connection, tables, views)
    wanted = {name: _words(table) for name, table in {**tables, **views}.items()}
    return {
        name: outdated
        for name, comments in found.items()
        if (
            outdated := {
                column: words
                for column, words in wanted[name].items()
                if comments.get(column, words) != words
            }
        )
    }


def _words(table: Table) -> dict[str, str]:
    return {"": table.comment or ""} | {c.name: c.comment or "" for c in table.columns}
