"""The words of the catalogue as comments in the database, for those who look at a table there.

The revisions give each table the words of their time. An upgrade then sets the comments that differ
from the catalogue. A better description therefore needs no revision: the schema stays as it is, and
the program of the version before still runs with it. SQLite keeps no comments.
"""

from __future__ import annotations

import logging

from sqlalchemy import Connection, Table
from sqlalchemy.exc import DBAPIError

from etl.database import schema, sql_views
from etl.database.connection import Database
from etl.database.dialects import Comments, dialect_of
from etl.database.migrations import not_migrated, open_migration

log = logging.getLogger(__name__)

_LOCK_WAIT_S = 1


def are_current(connection: Connection) -> bool:
    """Whether every comment says what the catalogue says; True where the database keeps none."""
    return not _outdated(connection)


def refresh(connection: Connection) -> None:
    """Set the comments that differ. Repeatable; on MariaDB each table is one statement of DDL."""
    if outdated := _outdated(connection):
        dialect_of(connection).write_comments(connection, outdated, sql_views.metadata.tables)


def bring_up_to_date(database: Database) -> int:
    """Set what differs in a schema that is current; returns how many comments were set.

    Words are no reason to fail: where this login may not change them, or a table is in use, they
    stay as they are, and a warning says so. Raises `StoreError`.
    """
    before = database.read(_number)
    if not before:
        return 0
    try:
        with open_migration(database) as connection:
            database.dialect.wait_briefly(connection, _LOCK_WAIT_S)
            refresh(connection)
    except DBAPIError as error:
        dialect = database.dialect
        if dialect.is_denied(error):
            advice = "run as the owner"
        elif dialect.is_lock_timeout(error) or dialect.is_deadlock(error):
            advice = "a table is in use; run later"
        else:
            raise not_migrated(database, error) from error
        log.warning(
            "the comments in the database %s are older than this program, which changes nothing"
            " else; to bring them up to date, %s: heatmap-etl db upgrade",
            database.label,
            advice,
        )
    return before - database.read(_number)


def _number(connection: Connection) -> int:
    return sum(map(len, _outdated(connection).values()))


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
