"""Reads from the tables what waits for a person; `ledger/concerns.py` has the rule."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import Connection, func, select

from etl.config.views import View
from etl.database.schema import rejected_records, schema_drift, snapshots, sync_runs, view_state
from etl.ledger.concerns import PATIENCE, Concern, Evidence, NewDrift, NewRejects, find_concerns
from etl.ledger.runs import last_runs, latest_run
from etl.ledger.view_state import read_view_states
from etl.transform.fields import FINER

_RUNS = 10


def read_concerns(
    connection: Connection, source: str, views: Iterable[View], now: datetime
) -> tuple[Concern, ...]:
    """Everything of the source that waits for a person. `views`: those that runs read."""
    states, news_since = read_view_states(connection, source), now - PATIENCE
    covered = [(view, states.get(view.key(source))) for view in views]
    waiting = [row.view_key for _, row in covered if row is not None and row.needs_acceptance]
    evidence = Evidence(
        source,
        covered,
        last_runs(connection, source, _RUNS, now),
        latest_run(connection, source, now),
        _held_since(connection, source) if waiting else {},
        _new_rejects(connection, source, news_since),
        _new_drift(connection, source, news_since, now),
    )
    return find_concerns(evidence, now)


def _held_since(connection: Connection, source: str) -> dict[str, datetime]:
    s, v = snapshots.c, view_state.c
    # By the index on view_key: a run waits with its lease locked while this is read.
    waiting = select(v.view_key).where(v.source == source, v.needs_acceptance.is_(True))
    is_held = s.view_key.in_(waiting) & s.missing_since.is_not(None) & s.removed_at.is_(None)
    query = select(s.view_key, func.min(s.missing_since)).where(is_held).group_by(s.view_key)
    return {row[0]: row[1] for row in connection.execute(query)}


def _new_rejects(connection: Connection, source: str, since: datetime) -> list[NewRejects]:
    r = rejected_records.c
    is_new = (r.source == source) & r.resolved_at.is_(None) & (r.first_seen_at > since)
    query = select(r.view_key, r.reason, func.count(), func.min(r.first_seen_at)).where(is_new)
    rows = connection.execute(query.group_by(r.view_key, r.reason))
    found = [NewRejects(*row) for row in rows]
    return sorted(found, key=lambda item: (item.view_key, item.reason))


def _new_drift(
    connection: Connection, source: str, since: datetime, now: datetime
) -> list[NewDrift]:
    """What the first run of a source finds is no news: all of it was new to us then.

    More digits than a column holds are no news either: they come and go, and are kept.
    """
    d, r = schema_drift.c, sync_runs.c
    has_read = (r.source == source) & r.status.in_(("ok", "partial")) & (r.finished_at <= now)
    first_read_at = connection.execute(select(func.min(r.finished_at)).where(has_read)).scalar()
    if first_read_at is None:
        return []
    is_new = (d.source == source) & (d.first_seen_at > max(since, first_read_at))
    is_new &= d.kind != FINER
    rows = connection.execute(select(d.name, d.kind, d.count, d.first_seen_at).where(is_new))
    found = [NewDrift(*row) for row in rows]
    return sorted(found, key=lambda item: (item.name, item.kind))
