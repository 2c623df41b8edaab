"""`db repair-clock SOURCE`: brings instants that a wrong clock put into the future back.

All in one transaction, which locks the lease of the source. Many rows share few instants,
so rows are rewritten by instant and not by key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Table,
    and_,
    case,
    func,
    literal,
    or_,
    select,
    union,
    update,
)

from etl.database.batches import batches
from etl.database.connection import Database
from etl.database.dialects import dialect_of
from etl.database.dialects.types import UtcDateTime
from etl.database.migrations import require_there
from etl.database.schema import (
    metadata,
    rejected_records,
    side_questions,
    snapshot_history,
    snapshots,
    sources,
    sync_run_views,
    sync_runs,
    view_state,
)
from etl.errors import StoreError
from etl.formatting import CLOCKS_DIFFER, duration, many, moment
from etl.source.lease import clock, lock_free
from etl.source.true_instants import LedgerRun, Reading, true_instants
from etl.transform.snapshot import CONTENT

_PAIRS_AT_ONCE = 300  # each is bound three times, and old versions of SQLite take 999 parameters
_SEARCHED_BY = {
    "sync_run_views": ("view_key",),
    "snapshots": ("view_key",),
    "snapshot_history": ("synced_view", "view_key"),
}
"""Columns that begin an index, and say with the others which view it is."""
NOT_STAMPED = frozenset({*CONTENT, "lease_expires_at", "ask_again_at"})
"""Instants that are Datadog's own, or when something ends that has begun: no event of a run."""
_OF_A_RUN = frozenset({"last_run_at"})
"""In `view_state`: all others are readings."""


@dataclass(frozen=True, slots=True)
class Repair:
    """`moved`: by table and column, how many rows have each instant. `true`: the true ones."""

    now: datetime
    moved: Mapping[Column[Any], Mapping[datetime, int]]
    true: Mapping[datetime, datetime]


def repair_clock(database: Database, source: str, *, is_plan: bool = False) -> list[str]:
    """Repair it, or with `is_plan` only say what would be done; a line for each table.

    This machine's clock must be right. Raises `EtlError`.
    """
    require_there(database)
    if is_plan:
        repair = database.read(lambda connection: find_repair(connection, source))
    else:
        repair = database.transaction(lambda connection: _repair(connection, source))
    if not repair.true:
        text = f"nothing to repair, no instant is after {moment(repair.now)}"
        return [f"{database.label}: source {source}: {text}"]
    return list(_lines(repair, "would move" if is_plan else "moved"))


def stamped_columns(table: Table) -> list[Column[Any]]:
    """Its columns that hold instants which this program stamped."""
    return [c for c in table.c if isinstance(c.type, UtcDateTime) and c.name not in NOT_STAMPED]


def _lines(repair: Repair, did: str) -> Iterator[str]:
    tables: dict[str, dict[datetime, int]] = {}
    for column, counts in repair.moved.items():
        of_table = tables.setdefault(column.table.name, {})
        for instant, count in counts.items():
            of_table[instant] = of_table.get(instant, 0) + count
    for name, counts in tables.items():
        before, after = sorted(counts), sorted(repair.true[instant] for instant in counts)
        what = many(sum(counts.values()), "instant")
        yield f"{name}: {did} {what} from {_span(before)} to {_span(after)}"


def _span(instants: list[datetime]) -> str:
    first, last = moment(instants[0]), moment(instants[-1])
    return first if first == last else f"{first} ... {last}"


def _repair(connection: Connection, source: str) -> Repair:
    dialect_of(connection).allow_long_answers(connection)
    lock_free(connection, source)
    repair = find_repair(connection, source)
    is_source = sources.c.source == source
    is_left = is_source & (sources.c.lease_expires_at > repair.now)
    nobody = dict.fromkeys(("lease_holder", "lease_host", "lease_token", "lease_expires_at"))
    connection.execute(update(sources).where(is_left).values(nobody))
    _move_questions(connection, source, repair)
    for column, counts in repair.moved.items():
        rows, names = _of_source(column.table, source), _SEARCHED_BY.get(column.table.name, ())
        if len(counts) > _PAIRS_AT_ONCE and names:
            _move_by_view(connection, column, rows, names, repair)
        else:
            _move(connection, column, rows, {instant: repair.true[instant] for instant in counts})
    return repair


def find_repair(connection: Connection, source: str) -> Repair:
    """What is in the future, and when it was."""
    now = datetime.now(UTC)
    apart = abs((clock(connection) - now).total_seconds())
    if apart > CLOCKS_DIFFER.total_seconds():
        text = f"the clocks of this machine and of the database are {duration(apart)} apart"
        raise StoreError(f"{text}; set both clocks first")
    _require_right_clock(connection, source, now)
    moved = {}
    for table in metadata.sorted_tables:
        for column in stamped_columns(table):
            is_future = and_(_of_source(table, source), column > now)
            query = select(column, func.count()).where(is_future).group_by(column)
            if counts := {row[0]: row[1] for row in connection.execute(query)}:
                moved[column] = counts
    if not moved:
        return Repair(now, {}, {})
    instants = {instant for counts in moved.values() for instant in counts}
    runs = _runs(connection, source)
    readings = list(_readings(connection, source, now))
    pairs = set(_pairs(connection, source, now))
    until = datetime.now(UTC)  # later than `now`, so that there is room between the two
    true = true_instants(runs, readings, instants, pairs, now=now, until=until)
    return Repair(now, moved, true)


def _require_right_clock(connection: Connection, source: str, now: datetime) -> None:
    """Raises `StoreError` where a later run, under a clock like the server's, shows ours behind."""
    r, apart = sync_runs.c, CLOCKS_DIFFER
    is_later = (r.source == source) & (r.started_at > now + apart)
    is_right = func.abs(r.clock_skew_s) <= apart.total_seconds()
    latest = connection.execute(select(func.max(r.started_at)).where(is_later, is_right)).scalar()
    if latest is not None:
        text = f"a run began at {moment(latest)}, and its clock was right"
        raise StoreError(f"{text}: the clock of this machine is behind; set it first")


def _of_source(table: Table, source: str) -> ColumnElement[bool]:
    if "source" in table.c:
        return table.c.source == source
    return table.c.run_id.in_(select(sync_runs.c.run_id).where(sync_runs.c.source == source))


def _runs(connection: Connection, source: str) -> list[LedgerRun]:
    columns = [sync_runs.c[name] for name in LedgerRun._fields]
    rows = connection.execute(select(*columns).where(sync_runs.c.source == source))
    return [LedgerRun(*row) for row in rows]


def _readings(connection: Connection, source: str, now: datetime) -> Iterator[Reading]:
    """Those after `now` and the last before, of each view; then what only rows know of."""
    v = sync_run_views.c
    of_source = _of_source(sync_run_views, source)
    columns = select(v.run_id, v.view_key, v.read_at)
    ledger = [Reading(*r) for r in connection.execute(columns.where(of_source, v.read_at > now))]
    past = select(v.view_key, func.max(v.read_at).label("last_at")).where(
        of_source, v.read_at <= now
    )
    last = past.group_by(v.view_key).subquery()
    is_last = and_(v.view_key == last.c.view_key, v.read_at == last.c.last_at)
    ledger += [Reading(*r) for r in connection.execute(columns.join(last, is_last))]
    yield from ledger
    known = {reading.read_at for reading in ledger}
    for table in (snapshots, snapshot_history, view_state, rejected_records):
        names = {column.name for column in stamped_columns(table)} - _OF_A_RUN
        found = union(
            *(
                select(table.c.view_key, table.c[name].label("read_at")).where(
                    table.c.source == source, table.c[name] > now
                )
                for name in sorted(names)
            )
        )
        for view_key, read_at in connection.execute(found):
            if read_at not in known:  # a row may have come from another view, with its instants
                yield Reading("", view_key, read_at)


def _pairs(
    connection: Connection, source: str, now: datetime
) -> Iterator[tuple[datetime, datetime]]:
    """Instants of one snapshot, of which the first came before the second."""
    s, h = snapshots.c, snapshot_history.c
    later = snapshot_history.alias("later")
    follows = and_(later.c.snapshot_id == h.snapshot_id, later.c.version == h.version + 1)
    is_current = and_(s.id == h.snapshot_id, s.version == h.version + 1)
    of_history, of_snapshots = h.source == source, s.source == source
    rows = snapshots.join(snapshot_history, is_current)
    queries = [
        select(a, b).where(of_snapshots)
        for a, b in (
            (s.first_seen_at, s.valid_from),
            (s.valid_from, s.missing_since),
            (s.valid_from, s.removed_at),
        )
    ]
    queries.append(select(h.valid_from, h.valid_to).where(of_history))
    queries.append(select(h.valid_to, s.valid_from).select_from(rows).where(of_history))
    versions = snapshot_history.join(later, follows)
    queries.append(select(h.valid_to, later.c.valid_from).select_from(versions).where(of_history))
    for query in queries:
        a, b = query.selected_columns
        is_wanted = and_(a.is_not(None), b.is_not(None), a != b, or_(a > now, b > now))
        yield from (
            (row[0], row[1]) for row in connection.execute(query.where(is_wanted).distinct())
        )


def _move(
    connection: Connection,
    column: Column[Any],
    rows: ColumnElement[bool],
    moves: Mapping[datetime, datetime],
) -> None:
    for batch in batches(sorted(moves.items()), _PAIRS_AT_ONCE):
        whens = [(column == before, literal(after, column.type)) for before, after in batch]
        is_moved = and_(rows, column.in_([before for before, _ in batch]))
        moved = update(column.table).where(is_moved)
        connection.execute(moved.values({column: case(*whens, else_=column)}))


def _move_by_view(
    connection: Connection,
    column: Column[Any],
    rows: ColumnElement[bool],
    names: tuple[str, ...],
    repair: Repair,
) -> None:
    """Where there are many instants, for each statement without an index reads the whole table."""
    keys = [column.table.c[name] for name in names]
    query = select(column, *keys).where(rows, column > repair.now).distinct()
    by_view: dict[tuple[str, ...], dict[datetime, datetime]] = {}
    for instant, *values in connection.execute(query):
        by_view.setdefault(tuple(values), {})[instant] = repair.true[instant]
    for found, moves in by_view.items():
        of_view = and_(*(key == value for key, value in zip(keys, found, strict=True)))
        _move(connection, column, of_view, moves)


def _move_questions(connection: Connection, source: str, repair: Repair) -> None:
    """When a question is asked again moves with its failure."""
    q = side_questions.c
    is_future = (q.source == source) & (q.failed_at > repair.now)
    rows = connection.execute(select(q.question, q.failed_at, q.ask_again_at).where(is_future))
    for question, failed_at, ask_again_at in rows.all():
        is_question = (q.source == source) & (q.question == question)
        asked_again_at = repair.true[failed_at] + (ask_again_at - failed_at)
        moved = update(side_questions).where(is_question)
        connection.execute(moved.values(ask_again_at=asked_again_at))
