"""What a run leans on in the database, as a list of small trials in one transaction.

A database that does otherwise than a run expects is found whatever the cause, by comparing what was
written with what is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from secrets import token_hex
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    MetaData,
    Table,
    column,
    delete,
    func,
    insert,
    literal,
    select,
    table,
    union_all,
    update,
)
from sqlalchemy.exc import DBAPIError, IntegrityError

from etl.config.model import Config
from etl.database import schema
from etl.database.batches import batches
from etl.database.cursor import driver_cursor
from etl.database.dialects import Dialect, dialect_of
from etl.database.schema import (
    applications,
    snapshot_history,
    snapshots,
    sources,
    sync_runs,
    view_state,
)
from etl.diagnose.throw_away import (
    INSTANT,
    VIEW,
    difference,
    has_token,
    is_throw_away,
    row_for,
    similar_snapshots,
    snapshots_for,
    text_column,
)
from etl.errors import LeaseHeld, StoreError
from etl.load.changeset import Absence
from etl.load.lookup import Tables
from etl.load.upsert import insert_new, upsert
from etl.load.versions import Owner, Row, StoredRow, content_of, new_rows, next_row
from etl.load.writer import close_versions, mark
from etl.source.lease import Lease, clock
from etl.transform.snapshot import Snapshot

_LOCK_WAIT_S = 2
"""Seconds to wait for what a run has locked. It waits for us as long, at most."""
_LONGEST = 950_000  # characters: the rows of a run are joined into statements of a megabyte
_REWRITTEN = 25  # of the snapshots
_REFERRED = (applications, sync_runs, view_state)
"""Tables that a foreign key of others may lead to: they are written first."""
# Every run inserts into all tables. The others only get new rows, or rows that are put in again.
_UPDATED = frozenset({"sync_runs", "view_state", "rejected_records", "schema_drift"})
_DELETED = frozenset(
    {"sync_runs", "sync_run_views", "side_questions", "applications", "discovered_views"}
)
_CHANGED = "/changed"  # the name of a view, too
_OF_OTHERS = "look for a trigger, rule, policy or column that others added or changed"
_LATER = INSTANT + timedelta(hours=1)
_POOLER = "let the connection pooler keep a transaction on one connection, or use no pooler"
_ENCODING = "the database must use UTF-8, and the session must keep the settings of the program"
_COLLATION = "give its columns back the collation that the migrations gave them"
_LIMIT = "look for a limit on the rows of an answer, such as sql_select_limit, and remove it"
ELSEWHERE = "look for a pooler that connects to another database, or forgets the search path"
_ENGINE = "the tables need an engine with transactions (InnoDB), and any pooler must know them too"


@dataclass(frozen=True)
class TrialRun:
    """Where trials run: a connection in a transaction. What they write has the token."""

    connection: Connection
    config: Config
    token: str

    @property
    def dialect(self) -> Dialect:
        return dialect_of(self.connection)

    def begin_again(self) -> None:
        """A new transaction, after a refusal. Not by a savepoint: pgpool-II loses where it has to
        read."""
        self.connection.rollback()
        self.dialect.wait_briefly(self.connection, _LOCK_WAIT_S)

    def is_busy(self, error: DBAPIError) -> bool:
        """Whether a run has locked what is wanted. Nobody else has keys like ours."""
        return self.dialect.is_repeatable(error) and not isinstance(error, IntegrityError)

    @property
    def owner(self) -> Owner:
        # The source itself: a policy may let a login write the rows of its own source alone.
        return Owner(self.config.source, self.token, VIEW)

    @cached_property
    def snapshots(self) -> list[Snapshot]:
        return snapshots_for(self.token, "as it was added")

    @cached_property
    def changed(self) -> list[Snapshot]:
        return snapshots_for(self.token, "as it was changed")[:_REWRITTEN]

    @property
    def changed_ids(self) -> list[str]:
        return sorted(snapshot.id for snapshot in self.changed)

    @cached_property
    def added_rows(self) -> list[Row]:
        return new_rows(self.snapshots, self.owner, began="added", read_at=INSTANT)


@dataclass(frozen=True, slots=True)
class Trial:
    """One thing that a run does. `faults`: what came out otherwise; `advice`: what to do then."""

    name: str
    faults: Callable[[TrialRun], Iterable[str]]
    advice: str
    builds_on_last: bool = False


# --- trials -------------------------------------------------------------------------------


def _keep_settings(on: TrialRun) -> Iterator[str]:
    yield from on.dialect.spoilt_settings(on.connection, on.config.database_schema)
    on.dialect.wait_briefly(on.connection, _LOCK_WAIT_S)


def _send_values(on: TrialRun) -> Iterator[str]:
    sent = ("O'Neill \\ \U0001f525 ", 2**53 + 1, None)
    found = on.connection.execute(select(*map(literal, sent))).one()
    yield from (f"{a!r} came back for {b!r}" for a, b in zip(found, sent, strict=True) if a != b)
    clock(on.connection)  # an instant that the server makes


def _use_tables(on: TrialRun) -> Iterator[str]:
    _write_source(on)  # on SQLite a write as the first takes the lock, with a wait for it
    with_own_trials = {snapshots, snapshot_history, sources}
    others = [
        t for t in schema.metadata.tables.values() if t not in with_own_trials.union(_REFERRED)
    ]
    to_delete = []
    for of_run in (*_REFERRED, *others):
        row = row_for(of_run, on.config.source, on.token)
        ours = is_throw_away(of_run, on.config.source, on.token)
        on.connection.execute(insert(of_run).values(row))
        if of_run.name in _UPDATED:
            changed: dict[str, Any] = {text_column(of_run).name: _CHANGED}
            if of_run is view_state:
                changed |= {"last_run_id": None, "application_id": None}  # deleted below
            on.connection.execute(update(of_run).where(ours).values(changed))
            row |= changed
        found = on.connection.execute(select(of_run).where(ours)).all()
        if fault := difference(of_run, [tuple(row.values())], [tuple(r) for r in found]):
            yield fault
        elif of_run.name in _DELETED:
            to_delete.append((of_run, ours))
    for of_run, ours in reversed(to_delete):
        deleted = on.connection.execute(delete(of_run).where(ours)).rowcount
        if deleted != 1:
            yield f"a row of {of_run.name} was not deleted"


def _write_source(on: TrialRun) -> None:
    """Insert the row of the source, to which a foreign key of others may lead, unless it is there.

    The trial of the lease tells whether that is refused.
    """
    config = on.config
    row = row_for(sources, config.source, on.token)
    row |= {"site": config.site, "api_url": config.api_url, "app_url": config.app_url}
    needed = {c.name: row[c.name] for c in sources.columns if not c.nullable}
    try:
        _insert_missing(on, sources, needed, sources.c.source == config.source)
    except DBAPIError as error:
        if error.connection_invalidated or on.is_busy(error):
            raise
        on.begin_again()


def _insert_missing(
    on: TrialRun, of_run: Table, row: dict[str, Any], where: ColumnElement[bool]
) -> None:
    values = [literal(value, of_run.c[name].type) for name, value in row.items()]
    missing = select(*values).where(~select(of_run).where(where).exists())
    on.connection.execute(insert(of_run).from_select(list(row), missing))


def _use_schema(on: TrialRun) -> Iterator[str]:
    if not (name := on.config.database_schema):
        return
    of_schema = table(view_state.name, column("view_key"), schema=name)
    # A row of its own: the row with the token is gone where a trial was refused.
    key = token_hex(16)
    row = row_for(view_state, on.config.source, on.token)
    row |= {"view_key": key, "last_run_id": None}
    on.connection.execute(insert(view_state).values(row))
    here, there = (select(t.c.view_key).where(t.c.view_key == key) for t in (view_state, of_schema))
    if on.connection.execute(here).all() and not on.connection.execute(there).all():
        yield f"a row of view_state went into another schema than database_schema {name}"


def _use_lease(on: TrialRun) -> Iterator[str]:
    try:
        yield from _lease_of(on, on.token)
    except DBAPIError as error:
        if error.connection_invalidated:
            raise
        on.begin_again()
        # A policy may let a login write its own source alone.
        yield from _lease_of(on, on.config.source)


def _lease_of(on: TrialRun, source: str) -> Iterator[str]:
    lease = Lease(source, seconds=60)
    try:
        lease.take(on.connection, replace(on.config, source=source))
        lease.release(on.connection)
    except LeaseHeld:
        if source == on.token:  # else a run has it
            yield "a lease that was taken is missing in sources"


def _send_much(on: TrialRun) -> Iterator[str]:
    try:
        on.dialect.require_room(on.connection, [("x" * _LONGEST,)])
    except StoreError as error:
        yield str(error)


def _tell_apart(on: TrialRun) -> Iterator[str]:
    # What a foreign key of others may lead to, which the trials before have deleted or lost.
    _write_source(on)
    ours = is_throw_away(applications, on.config.source, on.token)
    _insert_missing(on, applications, row_for(applications, on.config.source, on.token), ours)
    similar = similar_snapshots(on.token)
    insert_new(on.connection, new_rows(similar, on.owner, began="added", read_at=INSTANT))
    with driver_cursor(on.connection) as cursor:
        found = {row[0] for row in on.dialect.read_ids(cursor, [s.id for s in similar])}
    if found and len(found) < len(similar):  # without any, the next trial knows more
        yield "ids that differ in case, an accent or a trailing space are one to snapshots"


def _add(on: TrialRun) -> Iterator[str]:
    insert_new(on.connection, on.added_rows)
    of_view = snapshots.c.view_key == on.owner.view_key
    added = snapshots.c.id.not_in([s.id for s in similar_snapshots(on.token)])
    count = select(func.count()).select_from(snapshots).where(of_view, added)
    found = on.connection.execute(count).scalar_one()
    if found != len(on.added_rows):
        yield f"{found:,} of {len(on.added_rows):,} new rows are in snapshots"


def _find(on: TrialRun) -> Iterator[str]:
    hashes = {snapshot.id: snapshot.content_hash for snapshot in on.snapshots}
    stored = Tables(on.connection).ids(on.owner, hashes).plain
    found = sum(stored.get(key) == content_hash for key, content_hash in hashes.items())
    if found != len(hashes):
        yield f"a query gives {found:,} of {len(hashes):,} rows of snapshots"


def _read(on: TrialRun) -> Iterator[str]:
    if fault := _difference(on, snapshots, snapshots.c.id, on.added_rows[:_REWRITTEN]):
        yield fault


def _copy(on: TrialRun) -> Iterator[str]:
    close_versions(on.connection, on.changed_ids, ended="changed", read_at=_LATER)
    version = ("first_seen_at", "missing_since", "removed_at")
    kept = [n for n, c in enumerate(snapshots.columns) if c.name not in version]
    ids = set(on.changed_ids)
    rows = [(*(row[n] for n in kept), _LATER, "changed") for row in on.added_rows if row[0] in ids]
    if fault := _difference(on, snapshot_history, snapshot_history.c.snapshot_id, rows):
        yield fault


def _replace(on: TrialRun) -> Iterator[str]:
    rows = [
        next_row(
            new,
            StoredRow(content_of(old), INSTANT, 1, "added", None, INSTANT, None),
            on.owner,
            began="changed",
            read_at=_LATER,
        )
        for old, new in zip(on.snapshots, on.changed, strict=False)
    ]
    upsert(on.connection, rows)
    if fault := _difference(on, snapshots, snapshots.c.id, rows):
        yield fault


def _remove(on: TrialRun) -> Iterator[str]:
    ids = on.changed_ids
    mark(on.connection, Absence(removed=ids), _LATER)
    with driver_cursor(on.connection) as cursor:
        found = on.dialect.read_ids(cursor, ids)
    removed = sum(bool(row[4]) for row in found)
    if removed != len(ids):
        yield f"{removed:,} of {len(ids):,} rows of snapshots are marked as removed"


def _difference(on: TrialRun, of_run: Table, key: Column[str], rows: Sequence[Row]) -> str:
    found: list[Row] = []
    for batch in batches([row[0] for row in rows]):
        query = select(of_run).where(key.in_(batch))
        found += [tuple(row) for row in on.connection.execute(query)]
    return difference(of_run, rows, found)


def _commit(on: TrialRun) -> Iterable[str]:
    on.dialect.check_deferred(on.connection)
    return ()


def _leave_nothing(on: TrialRun) -> Iterator[str]:
    tables = schema.metadata.tables
    ours = [
        select(literal(name))
        .select_from(of_run)
        .where(is_throw_away(of_run, on.config.source, on.token))
        for name, of_run in tables.items()
    ]
    names = list(on.connection.execute(union_all(*ours)).scalars())
    for name in names:
        on.connection.execute(
            delete(tables[name]).where(has_token(tables[name], on.config.source, on.token))
        )
    if names:
        yield f"it still had its row in {', '.join(names)} (now deleted)"


def _use_temporary_table(on: TrialRun) -> Iterator[str]:
    like = [Column(c.name, c.type, primary_key=c.primary_key) for c in snapshots.columns]
    options = schema.table_options(on.connection.dialect.name)
    name = f"heatmap_etl_{on.token}"
    made = Table(name, MetaData(), *like, prefixes=["TEMPORARY"], **options)
    try:
        made.create(on.connection, checkfirst=False)
    except DBAPIError as error:
        if on.dialect.is_denied(error):
            return  # a run may do without it, but for one on PostgreSQL
        raise
    row = row_for(made, on.config.source, on.token)
    on.connection.execute(insert(made).values(row))
    found = [tuple(r) for r in on.connection.execute(select(made))]
    made.drop(on.connection, checkfirst=False)
    if fault := difference(made, [tuple(row.values())], found):
        yield fault


SESSION = (
    Trial("the settings of a session", _keep_settings, _POOLER),
    Trial("sending values and reading them back", _send_values, _ENCODING),
)
WITHOUT_TABLES = (Trial("a row in a table", _use_temporary_table, _OF_OTHERS),)
TABLES = (
    Trial("a row in each table", _use_tables, _OF_OTHERS),
    Trial("taking and giving back a lease", _use_lease, _OF_OTHERS),
    Trial("sending much at once", _send_much, ""),
    Trial("keeping ids apart", _tell_apart, _COLLATION, builds_on_last=True),
    Trial("adding snapshots", _add, _OF_OTHERS, builds_on_last=True),
    Trial("finding them", _find, _LIMIT, builds_on_last=True),
    Trial("reading them", _read, _OF_OTHERS, builds_on_last=True),
    Trial("keeping their history", _copy, _OF_OTHERS, builds_on_last=True),
    Trial("changing them", _replace, _OF_OTHERS, builds_on_last=True),
    Trial("removing them", _remove, _OF_OTHERS, builds_on_last=True),
    Trial("using its schema", _use_schema, ELSEWHERE, builds_on_last=True),
    Trial("committing", _commit, _OF_OTHERS),
)

NOTHING_LEFT = Trial("rolling back a transaction", _leave_nothing, _ENGINE)
