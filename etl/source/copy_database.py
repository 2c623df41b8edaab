"""`db copy TO`: everything in another, empty database, which can then be used instead.

While it copies, the leases of all sources are held, so that no run changes what is copied. Where
the target's revision would be, a marker stands until all tables were compared: no version of this
program, nor Alembic, works on such a database. The marker also says of which database and of which
state of it the copy is, so that a copy that was cut short goes on, or begins again.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import msgspec
from sqlalchemy import Connection, String, Table, delete, func, inspect, literal, select, text
from sqlalchemy.exc import DBAPIError

from etl.config.trust import planted
from etl.database import schema
from etl.database.connection import Database
from etl.database.dialects import dialect_of
from etl.database.migrations import (
    HALF_COPIED,
    UNUSABLE,
    found_schema,
    open_migration,
    require_schema,
    require_there,
    schema_state,
    upgrade,
)
from etl.errors import LeaseLost, SchemaMismatch, StoreError
from etl.files import PRIVATE, make_empty, rights_of
from etl.formatting import many
from etl.source.lease import Lease
from etl.source.table_copy import Content, content, copy_table, longest, row_count, to_copy

log = logging.getLogger(__name__)

TABLES = schema.metadata.sorted_tables
_REVISION = f"UPDATE {schema.VERSION_TABLE} SET version_num = :new WHERE version_num = :old"  # noqa: S608
_DIGITS = 12
STAYS = "what was copied stays; run the same command again"

OnRows = Callable[[str, int], None]
"""Called with what is done and how many rows are done of it; what it raises ends the copy."""
COPYING, COMPARING = "copying", "comparing"


class Copied(msgspec.Struct, frozen=True):
    """What was copied, by table. Both databases hold it."""

    source: str
    target: str
    schema: str | None
    tables: dict[str, Content]

    @property
    def rows(self) -> int:
        """The rows of all tables."""
        return sum(table.rows for table in self.tables.values())


def total_rows(source: Database) -> int:
    """How many rows there are to copy. Raises `StoreError` unless the schema is current."""
    require_there(source)
    return sum(row_count(source, table) for table in TABLES)


def copy_database(
    source: Database,
    target: Database,
    *,
    lease_s: float,
    on_rows: OnRows = lambda _what, _rows: None,
) -> Copied:
    """Copy everything, or go on where a copy was cut short. Raises `EtlError`.

    Nothing changes in `source` but the leases, which are given back.
    """
    require_there(source)
    _require_other(source, target)
    with _leases(source, lease_s) as leases:

        def step(what: str, rows: int) -> None:
            _require_held(leases)
            on_rows(what, rows)

        marker = _marker(source)
        _begin(source, target, marker)
        for table in TABLES:
            copy_table(source, target, table, lambda rows: step(COPYING, rows))
        tables, differences = _compared(source, target, lambda rows: step(COMPARING, rows))
        if differences:
            old, new = marker, _of_no_state(marker)
            target.transaction(lambda connection: _set_revision(connection, old, new))
            raise StoreError(
                f"{target.label} does not hold what {source.label} holds: "
                f"{', '.join(differences)}; something else wrote to one of them meanwhile. "
                "Run db copy again: it begins from the start"
            )
        source.transaction(lambda connection: _for_each(leases, Lease.renew, connection))
        target.transaction(lambda connection: _set_revision(connection, marker, schema.HEAD))
        require_schema(target)
    return Copied(source.label, target.label, target.schema_name, tables)


@contextmanager
def _leases(database: Database, seconds: float) -> Iterator[list[Lease]]:
    """The lease of every source, renewed until the end; raises `LeaseHeld`."""
    labels = select(schema.sources.c.source).order_by(schema.sources.c.source)
    found = database.read(lambda connection: connection.execute(labels).scalars().all())
    leases = [Lease(label, seconds) for label in found]
    _take(database, leases)
    for lease in leases:
        lease.keep(database, on_loss=lambda: None)  # the next batch looks at it
    try:
        yield leases
    finally:
        for lease in leases:
            lease.stop_keeping()
        kept = [lease for lease in leases if not lease.is_lost]
        database.transaction(lambda connection: _for_each(kept, Lease.release, connection))


def _take(database: Database, leases: Sequence[Lease]) -> None:
    """Take them all; who may only read the database learns why that will not do."""
    try:
        database.transaction(lambda connection: _for_each(leases, Lease.take_stored, connection))
    except StoreError as error:
        cause = error.__cause__
        if isinstance(cause, DBAPIError) and database.dialect.is_denied(cause):
            why = "db copy writes the leases of the sources, so that no run starts meanwhile"
            raise StoreError(f"{error}; {why}") from cause
        raise


def _for_each(
    leases: Sequence[Lease], act: Callable[[Lease, Connection], None], connection: Connection
) -> None:
    """All in one transaction."""
    for lease in leases:
        try:
            act(lease, connection)
        except LeaseLost:
            raise _lost(lease) from None


def _require_held(leases: Sequence[Lease]) -> None:
    for lease in leases:
        if lease.is_lost:
            raise _lost(lease)


def _lost(lease: Lease) -> LeaseLost:
    return LeaseLost(f"another process took the lease of {lease.source}; {STAYS}")


def _require_other(source: Database, target: Database) -> None:
    is_same_file = False
    if source.file and target.file:
        with contextlib.suppress(OSError):  # opening it says why
            is_same_file = source.file.samefile(target.file)
    places = [(d.engine.url, d.schema_name) for d in (source, target)]
    if is_same_file or places[0] == places[1]:
        raise _itself(target)


def _itself(target: Database) -> SchemaMismatch:
    return SchemaMismatch(f"{target.label} is the configured database itself; name another one")


def _marker(source: Database) -> str:
    """What stands for the revision while it is copied: which database, and which state of it.

    A database is known by its first run, which neither a new name of a source nor another source
    changes. Each run changes the ledger.
    """
    identity = content(source, select(func.min(schema.sources.c.first_seen_at))).digest
    states = [
        content(source, to_copy(table)).digest for table in (schema.sources, schema.sync_runs)
    ]
    state = hashlib.sha256("".join(states).encode()).hexdigest()
    return f"{schema.COPYING}{identity[:_DIGITS]}{state[:_DIGITS]}"


def _of_no_state(marker: str) -> str:
    """A marker of the same database, after which a copy begins from the start."""
    return f"{marker[:-_DIGITS]}{'0' * _DIGITS}"


def _begin(source: Database, target: Database, marker: str) -> None:
    """Make the target ready to be filled; raises `SchemaMismatch` where anything else is in it."""
    if source.file and target.file and not planted(target.file):  # opening it refuses that
        mode, owner = rights_of(source.file)
        with contextlib.suppress(OSError):  # opening it says why it cannot be made
            make_empty(target.file, (mode or 0) | PRIVATE, owner)
    found = found_schema(target)
    if found.state == HALF_COPIED:
        _go_on(target, str(found.revision), marker)
        return
    if found.state in UNUSABLE:
        require_schema(target)  # raises
    if found.state != "absent":
        target.read(lambda connection: _require_empty(connection, target))
    if found.state != "current":
        _create_schema(target)
    _require_long_keys(source, target)
    with open_migration(target) as connection:
        _require_empty(connection, target)
        _set_revision(connection, schema.HEAD, marker)
    _require_marker(target, marker)
    if schema_state(source).revision == marker:  # under another name of its server
        target.transaction(lambda connection: _set_revision(connection, marker, schema.HEAD))
        raise _itself(target)


def _create_schema(target: Database) -> None:
    """As `upgrade`. Another copy may have been quicker: Alembic would not know its marker."""
    try:
        upgrade(target)
    except SchemaMismatch:
        if schema_state(target).state == HALF_COPIED:
            raise _filled_by_another(target) from None
        raise


def _require_marker(target: Database, marker: str) -> None:
    found = schema_state(target)
    if found.state == HALF_COPIED and found.revision != marker:
        raise _filled_by_another(target)
    if found.revision != marker:
        raise SchemaMismatch(f"another process changes {target.label}; try again")


def _filled_by_another(target: Database) -> SchemaMismatch:
    return SchemaMismatch(f"another db copy fills {target.label}; name another database")


def _require_long_keys(source: Database, target: Database) -> None:
    """Raises `StoreError` for a key that the target has no room for: on small pages of InnoDB."""
    shorter = target.read(target.dialect.key_lengths)
    for table in TABLES:
        for column in table.columns:
            if column.name not in shorter or not isinstance(column.type, String):
                continue
            room = target.read(partial(target.dialect.length_of, column=column))
            length = longest(source, column)
            if length > room:
                raise StoreError(
                    f"{target.label} has room for {room} characters in {column.name} of"
                    f" {table.name}, and a row has {length}: keys are shorter on the small pages of"
                    " this server (innodb_page_size; see InnoDB in docs/databases.md). Nothing was"
                    " copied; name a database on another server"
                )


def _go_on(target: Database, found: str, marker: str) -> None:
    if _of_no_state(found) != _of_no_state(marker):
        raise SchemaMismatch(
            f"{target.label} is an unfinished copy, and not of the configured database as it is "
            "now: its sources changed since, or it belongs to another database; empty it unless "
            "another db copy fills it, or name another one"
        )
    if found == marker:
        return
    log.warning(
        "%s holds an earlier state of the database: the copy begins from the start", target.label
    )
    for table in TABLES:
        target.transaction(partial(_clear, table=table))
    target.transaction(lambda connection: _set_revision(connection, found, marker))


def _clear(connection: Connection, table: Table) -> None:
    dialect_of(connection).allow_long_answers(connection)
    connection.execute(delete(table))


def _require_empty(connection: Connection, target: Database) -> None:
    present = {dialect_of(connection).as_stored(n) for n in inspect(connection).get_table_names()}
    for table in TABLES:
        rows = select(literal(1)).select_from(table).limit(1)
        if table.name in present and connection.execute(rows).first() is not None:
            raise SchemaMismatch(
                f"the database {target.label} is neither empty nor an unfinished copy: "
                f"{table.name} has rows; name an empty one"
            )


def _set_revision(connection: Connection, old: str, new: str) -> None:
    connection.execute(text(_REVISION), {"old": old, "new": new})


def _compared(
    source: Database, target: Database, on_rows: Callable[[int], None]
) -> tuple[dict[str, Content], list[str]]:
    """What the source holds, by table; and for people which tables of the target differ."""
    tables, differences = {}, []
    for table in TABLES:
        ours = content(source, to_copy(table), on_rows)
        theirs = content(target, select(table), lambda _: on_rows(0))
        tables[table.name] = ours
        if ours.rows != theirs.rows:
            differences.append(
                f"{table.name} has {many(theirs.rows, 'row')} instead of {ours.rows:,}"
            )
        elif ours != theirs:
            differences.append(f"rows of {table.name} differ")
    return tables, differences
