"""Load: what happened -> `sync_runs`, `sync_run_views`, `view_state`.

The ledger says for every run and configured view what was asked, what came,
what it means and whether it can be trusted. A view's row is written in the
transaction that loads the view; a failure gets a transaction of its own.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, bindparam, insert, select, update

from etl.config.load import Config, View
from etl.database.schema import (
    COUNTS,
    sources,
    sync_run_views,
    sync_runs,
    view_state,
)
from etl.errors import EtlError, SlotTaken
from etl.extract.api_state import ApiFindings, ApiState, LastReading
from etl.extract.completeness import FAILED, TRUNCATED
from etl.extract.listing import Listing

CONTRACT = 1
PROBE_AFTER = timedelta(days=7)
"""How long a refused limit is believed, and a cap taken for certain when not seen again."""
JOB = "sync"
FULFILS = ("ok", "partial", "failed")
"""Statuses of a run that make its slot done: one that was stopped or died is done again."""


@dataclass(slots=True)
class ViewResult:
    """What became of one configured view in one run; `counts` has the names of the ledger."""

    view: View
    verdict: str
    reason: str
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTS, 0))
    seconds: float = 0.0
    read_at: datetime | None = None
    page_limit: int | None = None
    rate_limit_remaining: int | None = None
    error: str | None = None
    error_class: str | None = None

    @property
    def is_bad(self) -> bool:
        """Whether the run is not ok because of this view."""
        return self.verdict == FAILED or (
            self.verdict == TRUNCATED and not self.view.accept_truncated
        )

    def as_json(self) -> dict[str, Any]:
        """The view's part of `sync --json`."""
        counts = {
            {"foreign_records": "foreign"}.get(name, name): self.counts[name] for name in COUNTS
        }
        return {
            "view_name": self.view.name,
            "application_id": self.view.application_id,
            "device_type": self.view.device_type,
            "verdict": self.verdict,
            "reason": self.reason,
            **counts,
            "seconds": round(self.seconds, 3),
            "error": self.error,
        }


def result_of(listing: Listing) -> ViewResult:
    """A result for a listing that is about to be loaded, its counts still zero."""
    result = ViewResult(
        listing.view,
        listing.verdict,
        listing.reason,
        seconds=listing.seconds,
        page_limit=listing.page_limit,
        rate_limit_remaining=listing.rate_limit_remaining,
    )
    result.counts["requests"] = listing.requests
    return result


def failed_result(view: View, error: EtlError, *, requests: int, seconds: float) -> ViewResult:
    """The result of a view that could not be read or loaded."""
    message = str(error)
    result = ViewResult(view, FAILED, message, seconds=seconds, error=message)
    result.error_class = type(error).__name__
    result.counts["requests"] = requests
    return result


@dataclass(slots=True)
class RunResult:
    """One run, as the ledger and `sync --json` tell it."""

    source: str
    run_id: str
    started_at: datetime
    status: str = "running"
    finished_at: datetime | None = None
    views: list[ViewResult] = field(default_factory=list)
    error: str | None = None
    job: str = JOB
    started_by: str = "manual"
    slot_at: datetime | None = None
    missed_slots: int = 0
    planned: int = 0  # views it was to read
    died: int = 0  # earlier runs that it found dead
    codes: Counter[str] = field(default_factory=Counter)  # HTTP exchanges by status code
    notes: list[str] = field(default_factory=list)  # what to say of it beside its views

    def as_json(self) -> dict[str, Any]:
        """The object that `sync --json` prints."""
        return {
            "contract": CONTRACT,
            "run_id": self.run_id,
            "source": self.source,
            "status": self.status,
            "started_at": iso(self.started_at),
            "finished_at": iso(self.finished_at) if self.finished_at else None,
            "views": [view.as_json() for view in self.views],
        }

    def total(self, name: str) -> int:
        """A count summed over the views."""
        return sum(view.counts[name] for view in self.views)


def iso(instant: datetime) -> str:
    """An instant as every JSON of ours has it."""
    return instant.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def new_run(source: str) -> RunResult:
    """A run that starts now, with an id that sorts by time."""
    now = datetime.now(UTC)
    return RunResult(source, f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}", now)


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
        raise SlotTaken(f"the slot {iso(run.slot_at)} of {run.source} was run by another process")
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

    What a wrong clock ran ahead of `now` does not count.
    """
    r = sync_runs.c
    query = (
        select(sync_runs)
        .where(r.source == source, r.job == job, r.slot_at <= now, r.status.in_(FULFILS))
        .order_by(r.started_at.desc())
        .limit(1)
    )
    return connection.execute(query).one_or_none()


def _is_fulfilled(connection: Connection, run: RunResult, slot_at: datetime) -> bool:
    """Whether this slot, or a later one up to now, was run."""
    r = sync_runs.c
    # A run starts after its slot; a day is for clocks that disagree. The index has started_at.
    query = select(r.run_id).where(
        r.source == run.source,
        r.started_at >= slot_at - timedelta(days=1),
        r.job == run.job,
        r.slot_at.between(slot_at, max(slot_at, run.started_at)),
        r.status.in_(FULFILS),
    )
    return connection.execute(query.limit(1)).first() is not None


def status_of(connection: Connection, run: RunResult) -> str | None:
    """What the ledger says of a run; None: nothing."""
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
            views_failed=sum(view.verdict == FAILED for view in run.views),
            **{name: run.total(name) for name in COUNTS},
        )
    )


def is_recorded(connection: Connection, run_id: str, view_key: str) -> bool:
    """Whether the view's transaction of this run was committed."""
    row = select(sync_run_views.c.run_id).where(
        sync_run_views.c.run_id == run_id, sync_run_views.c.view_key == view_key
    )
    return connection.execute(row).first() is not None


def states(connection: Connection, source: str) -> dict[str, Row[Any]]:
    """`view_state` of every view of the source, by key."""
    rows = connection.execute(select(view_state).where(view_state.c.source == source))
    return {row.view_key: row for row in rows}


def state_of(connection: Connection, view_key: str) -> Row[Any] | None:
    """`view_state` of one view."""
    return connection.execute(
        select(view_state).where(view_state.c.view_key == view_key)
    ).one_or_none()


def remember(connection: Connection, config: Config, *, is_full: bool) -> ApiState:
    """What earlier runs of the configured source learned; with `is_full` no answer is skipped."""
    row = connection.execute(select(sources).where(sources.c.source == config.source)).one_or_none()
    may_skip = config.shortcut and not is_full
    known = states(connection, config.source)
    readings = {
        key: LastReading(state.shortcut_digest, state.listed)
        for key, state in known.items()
        if may_skip and state.shortcut_digest
    }
    needing = frozenset(key for key, state in known.items() if state.needs_acceptance)
    if row is None:
        return ApiState(readings)
    oldest = datetime.now(UTC) - PROBE_AFTER
    is_limit_known = row.largest_accepted_limit_at and row.largest_accepted_limit_at > oldest
    return ApiState(
        readings,
        learned_cap=row.learned_cap,
        is_cap_recent=bool(row.learned_cap_probed_at and row.learned_cap_probed_at > oldest),
        page_limit=row.largest_accepted_limit if is_limit_known else None,
        org_id=row.org_id,
        needs_acceptance=needing,
    )


def note_watched(connection: Connection, source: str, view_keys: Collection[str]) -> None:
    """Write which views are still among those that are read, where that is not known yet."""
    v = view_state.c
    rows = connection.execute(select(v.view_key, v.is_watched).where(v.source == source))
    news = [
        {"key": key, "watched": key in view_keys}
        for key, is_watched in rows
        if is_watched is not (key in view_keys)
    ]
    if news:
        this = update(view_state).where(v.view_key == bindparam("key"))
        connection.execute(this.values(is_watched=bindparam("watched")), news)


def learn(connection: Connection, source: str, findings: ApiFindings) -> None:
    """Write what a run learned of the API, for the next ones."""
    now = datetime.now(UTC)
    values: dict[str, Any] = {}
    if findings.is_cap_seen or findings.learned_cap is None:
        values["learned_cap"] = findings.learned_cap
        values["learned_cap_probed_at"] = now if findings.learned_cap else None
    if findings.lowered_to:
        values["largest_accepted_limit"] = findings.lowered_to
        values["largest_accepted_limit_at"] = now
    if findings.rate_limit_name:
        values["rate_limit_name"] = findings.rate_limit_name
    if values:
        connection.execute(update(sources).where(sources.c.source == source).values(values))


def last_runs(connection: Connection, source: str | None, count: int) -> Sequence[Row[Any]]:
    """The latest runs, newest first, of one source or of all."""
    query = select(sync_runs).order_by(sync_runs.c.started_at.desc()).limit(count)
    if source is not None:
        query = query.where(sync_runs.c.source == source)
    return connection.execute(query).all()
