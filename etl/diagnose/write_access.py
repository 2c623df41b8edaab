"""Whether this login may do what a run does to the tables: tried, and rolled back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from secrets import token_hex

from sqlalchemy import Connection, insert, select, text
from sqlalchemy.exc import DBAPIError

from etl.database import schema
from etl.database.connection import ROLES, Database
from etl.database.migrations import creation_refused
from etl.transform.snapshot import NORMALIZER_VERSION

_LOCK_WAIT_S = 2
"""Seconds to wait for what a run has locked. It waits for us as long, at most."""
# Every run inserts into all tables. The others only get new rows, or rows that are put in anew.
_UPDATED = frozenset(
    {"snapshots", "sync_runs", "view_state", "sources", "rejected_records", "schema_drift"}
)
_DELETED = frozenset(
    {"sync_runs", "sync_run_views", "side_questions", "applications", "discovered_views"}
)


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of it; `text` says what to do where it was refused."""

    text: str
    is_refused: bool = False


def create_refusal(database: Database) -> str:
    """Why this login may not create the schema, and who may; "": it may."""
    if database.file:
        return ""
    try:
        with database.connect() as connection:
            database.dialect.try_to_create(connection, database.schema_name)
    except DBAPIError as error:
        if database.dialect.is_repeatable(error):
            return ""  # another process creates it at this moment
        return creation_refused(database, error)
    return ""


def try_to_write(database: Database, source: str) -> Trial:
    """Do what a run does to each table, to no row, and to a row of our own; then roll it all back.

    Needs the current schema. Where a run works at this moment, it is not kept waiting.
    """
    dialect = database.dialect
    try:
        # SQLite's journal stays in its mode, which only a writer may change.
        with database.connect(write=False) as connection, connection.begin() as transaction:
            dialect.wait_briefly(connection, _LOCK_WAIT_S)
            for statement in _without_rows():
                connection.execute(text(statement))
            dialect.try_to_upsert(connection, schema.snapshots)
            _write_a_row(connection)
            lock = select(schema.sources.c.source).where(schema.sources.c.source == source)
            connection.execute(lock.with_for_update()).all()
            transaction.rollback()
    except DBAPIError as error:
        if dialect.is_repeatable(error):
            return Trial("a run is under way; writing was not tried")
        reason = dialect.brief(error)
        advice = dialect.hint_on_failure(reason)
        if dialect.is_denied(error):
            advice = f"use the login of a writer, or grant its rights: see Roles in {ROLES}"
        reason += f"; {advice}" if advice else ""
        return Trial(f"{database.login} may not write: {reason}", is_refused=True)
    return Trial("tried and rolled back: a run may store what it reads")


def _without_rows() -> Iterator[str]:
    """Statements that need the rights of a run, and touch no row."""
    for name, table in schema.metadata.tables.items():
        columns = ", ".join(table.columns.keys())
        yield f"INSERT INTO {name} ({columns}) SELECT {columns} FROM {name} WHERE 1 = 0"  # noqa: S608
        if name in _UPDATED:
            key = next(iter(table.columns.keys()))
            yield f"UPDATE {name} SET {key} = {key} WHERE 1 = 0"  # noqa: S608
        if name in _DELETED:
            yield f"DELETE FROM {name} WHERE 1 = 0"  # noqa: S608


def _write_a_row(connection: Connection) -> None:
    """For a full disk, a trigger or a policy on rows says no only to a row."""
    row = {
        "source": f"heatmap-etl check {token_hex(8)}",
        "site": "",
        "api_url": "",
        "app_url": "",
        "normalizer_version": NORMALIZER_VERSION,
        "first_seen_at": datetime.now(UTC),
    }
    connection.execute(insert(schema.sources).values(row))
