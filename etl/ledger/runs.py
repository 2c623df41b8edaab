"""`sync_runs`: which runs there were, and how each ended."""

from __future__ import annotations

import os
import socket
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, insert, select, update

from etl.database.schema import COUNTS, sources, sync_run_views, sync_runs, view_state
from etl.errors import SlotTaken
from etl.extract.completeness import FAILED
from etl.formatting import CLOCKS_DIFFER, iso
from etl.ledger.results import ID_INSTANT, RunResult

FULFILS = ("ok", "partial", "failed")
"""Statuses of a run that fulfil its slot; that of a run that was stopped or died is run again."""


def start_run(connection: Connection, run: RunResult) -> None:
    """Close runs of the source that died, then write the row of this one.

    Raises `SlotTaken` when the slot was run already.
    """
    if status_of(connection, run) is not None:
        return  # a commit whose answer was lost
    died = "its process died, or lost its lease; closed by the next run"
    run.died = connection.execute(
        update(sync_runs)
        .where(sync_runs.c.source == run.source, sync_runs.c.status == "running")
        .values(status="died", finished_at=run.started_at, error=died)
    ).rowcount
    if run.slot_at and _is_fulfilled(connection, run, run.slot_at):
        raise SlotTaken(f"another process ran the slot {iso(run.slot_at)} of {run.source}")
    row = {
        "run_id": run.run_id,
        "source": run.source,
        "job": run.job,
        "started_by": run.started_by,
        "slot_at": run.slot_at,
        "missed_slots": run.missed_slots,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "status": "running",
        "started_at": run.started_at,
        "views": run.planned,
        "views_failed": 0,
        **dict.fromkeys(COUNTS, 0),
    }
    connection.execute(insert(sync_runs).values(row))


def last_slot_run(connection: Connection, source: str, job: str, now: datetime) -> Row[Any] | None:
    """The run of the latest slot that was run; None when none was.

    A slot or a start later than `now`, left by a wrong clock, does not count.
    """
    r = sync_runs.c
    of_job = (r.source == source) & (r.job == job) & r.status.in_(FULFILS)
    query = (
        select(sync_runs)
        .where(of_job, r.slot_at <= now, r.started_at <= now + CLOCKS_DIFFER)
        .order_by(r.started_at.desc())
        .limit(1)
    )
    return connection.execute(query).one_or_none()


def _is_fulfilled(connection: Connection, run: RunResult, slot_at: datetime) -> bool:
    """Whether this slot, or a later one up to now, was run."""
    r = sync_runs.c
    # A run starts after its slot, but clocks may disagree by a day. The index is on started_at.
    query = select(r.run_id).where(
        r.source == run.source,
        r.started_at.between(slot_at - timedelta(days=1), run.started_at + CLOCKS_DIFFER),
        r.job == run.job,
        r.slot_at.between(slot_at, max(slot_at, run.started_at)),
        r.status.in_(FULFILS),
    )
    return connection.execute(query.limit(1)).first() is not None


def status_of(connection: Connection, run: RunResult) -> str | None:
    """The status of a run in the ledger; None when it has no row."""
    query = select(sync_runs.c.status).where(sync_runs.c.run_id == run.run_id)
    return connection.execute(query).scalar()


def finish_run(connection: Connection, run: RunResult) -> None:
    """Write how the run ended, with its totals."""
    connection.execute(
        update(sync_runs)
        .where(sync_runs.c.run_id == run.run_id)
        .values(
            status=run.status,
            finished_at=run.finished_at,
            views=run.planned,
            error=run.error,
            clock_skew_s=run.clock_skew_s,
            views_failed=sum(view.verdict == FAILED for view in run.views),
            **{name: run.total(name) for name in COUNTS},
        )
    )


def correct_start(connection: Connection, run: RunResult, started_at: datetime) -> None:
    """Let a run that began under a wrong clock have begun at `started_at`, wherever that stands.

    It fulfils no slot that is later.
    """
    wrong, r = run.started_at, sync_runs.c
    if started_at >= wrong:
        return
    died = update(sync_runs).where(
        r.source == run.source, r.status == "died", r.finished_at == wrong
    )
    connection.execute(died.values(finished_at=started_at))
    of_run = update(sync_runs).where(r.run_id == run.run_id)
    connection.execute(of_run.values(started_at=started_at))
    connection.execute(of_run.where(r.slot_at > started_at).values(slot_at=None))
    for column in (view_state.c.last_run_at, sources.c.first_seen_at):
        stamped = update(column.table).where(column.table.c.source == run.source, column >= wrong)
        connection.execute(stamped.values({column: started_at}))


def is_recorded(connection: Connection, run_id: str, view_key: str) -> bool:
    """Whether the view's transaction of this run was committed."""
    query = select(sync_run_views.c.run_id).where(
        sync_run_views.c.run_id == run_id, sync_run_views.c.view_key == view_key
    )
    return connection.execute(query).first() is not None


def last_runs(connection: Connection, source: str, count: int, now: datetime) -> list[Row[Any]]:
    """The latest runs of a source, newest first; those that a wrong clock has dated come last."""
    return _newest(connection, select(sync_runs).where(sync_runs.c.source == source), now, count)


def latest_run(connection: Connection, source: str, now: datetime) -> Row[Any] | None:
    """The run that began last by the clock that its machine had then, which its id bears.

    That of a run that was refused for its clock is put right in the ledger, and may come before
    others. A clock that was ahead of `now` is not believed.
    """
    r = sync_runs.c
    query = select(sync_runs).where(r.source == source, _began_by(now)).order_by(r.run_id.desc())
    return connection.execute(query.limit(1)).one_or_none()


def _began_by(now: datetime) -> ColumnElement[bool]:
    """Whether a run began no later than `now`, by the clock of its machine."""
    return sync_runs.c.run_id < f"{now + CLOCKS_DIFFER:{ID_INSTANT}}"


def last_finished(connection: Connection, source: str, now: datetime) -> Row[Any] | None:
    """`run_id` and `finished_at` of the latest run that has ended."""
    r = sync_runs.c
    ended = select(r.run_id, r.finished_at).where(r.source == source, r.finished_at.is_not(None))
    return next(iter(_newest(connection, ended, now, 1)), None)


def last_clock_skew_s(connection: Connection, source: str, now: datetime) -> float | None:
    """By how much the clock was ahead of the server's, in the latest run that knew it."""
    r = sync_runs.c
    known = select(r.clock_skew_s).where(r.source == source, r.clock_skew_s.is_not(None))
    latest = known.order_by(r.run_id.desc()).limit(1)
    found = connection.execute(latest.where(_began_by(now))).scalar()
    return connection.execute(latest).scalar() if found is None else found


def _newest(
    connection: Connection, query: Select[Any], now: datetime, count: int
) -> list[Row[Any]]:
    """The latest rows of a query on `sync_runs`.

    Runs that begin later than `now` come last: they would be the newest until that day.
    """
    started_at = sync_runs.c.started_at
    latest, is_past = query.order_by(started_at.desc()), started_at <= now + CLOCKS_DIFFER
    rows = list(connection.execute(latest.where(is_past).limit(count)))
    if len(rows) < count:
        rows += connection.execute(latest.where(~is_past).limit(count - len(rows)))
    return rows
