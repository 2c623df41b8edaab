"""`view_state` and `sync_run_views`: the result of each view, so far and in one run."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, bindparam, insert, select, update

from etl.database.schema import rejected_records, sync_run_views, view_state
from etl.extract.completeness import COMPLETE, FAILED, UNPROVEN
from etl.ledger.results import RunResult, ViewResult

_KEY = "of_view"  # name of a bound value; it must differ from those of the columns


class ViewStates(msgspec.Struct, frozen=True):
    """What the tables held when the run began: no other process writes these rows meanwhile.

    `states`: rows of `view_state` by view key. `with_open_rejects`: keys of views whose last
    reading had rejects.
    """

    states: Mapping[str, Row[Any]] = msgspec.field(default_factory=dict)
    with_open_rejects: Collection[str] = ()


def read_states_before(connection: Connection, source: str) -> ViewStates:
    """Read them, under the lease of the source."""
    r = rejected_records.c
    is_open = (r.source == source) & r.resolved_at.is_(None)
    views = connection.execute(select(r.view_key).where(is_open).distinct()).scalars()
    return ViewStates(read_view_states(connection, source), set(views))


class LedgerRows(msgspec.Struct):
    """The ledger rows of the views of one transaction.

    They are collected and written at its end in a few statements: a statement costs more than a
    row.
    """

    run: RunResult
    _states: dict[tuple[bool, tuple[str, ...]], list[dict[str, Any]]] = msgspec.field(
        default_factory=dict
    )
    _views: list[dict[str, Any]] = msgspec.field(default_factory=list)
    _losing: set[str] = msgspec.field(default_factory=set)

    def add(
        self,
        result: ViewResult,
        previous: Row[Any] | None,
        reading: Mapping[str, Any],
        losing: Collection[str] = (),
    ) -> None:
        """Add the result of a view; `previous` is its row of `view_state`, None for a new view.

        `reading` holds the columns of `view_state` that only a reading changes; `losing`: keys of
        views that lost rows to this one.
        """
        row = _state_row(self.run, result, previous, reading)
        self._states.setdefault((previous is None, tuple(row)), []).append(row)
        self._views.append(_view_row(self.run, result))
        self._losing.update(losing)

    def write(self, connection: Connection) -> None:
        """Write them all."""
        for (is_new, names), rows in self._states.items():
            if is_new:
                connection.execute(insert(view_state), rows)
                continue
            values: dict[str, Any] = {name: bindparam(name) for name in names if name != _KEY}
            of_view = update(view_state).where(view_state.c.view_key == bindparam(_KEY))
            connection.execute(of_view.values(values), rows)
        if self._views:
            connection.execute(insert(sync_run_views), self._views)
        _forget_shortcuts(connection, self._losing)


def _state_row(
    run: RunResult, result: ViewResult, previous: Row[Any] | None, reading: Mapping[str, Any]
) -> dict[str, Any]:
    view = result.view
    failures = previous.consecutive_failures if previous else 0
    values = {
        "last_run_id": run.run_id,
        "last_run_at": run.started_at,
        "verdict": result.verdict,
        "reason": result.reason,
        "consecutive_failures": failures + 1 if result.verdict == FAILED else 0,
        **reading,
    }
    if result.verdict == COMPLETE:
        values["last_complete_at"] = result.read_at
    if result.verdict in (COMPLETE, UNPROVEN):
        values["last_trusted_at"] = result.read_at
    key = view.key(run.source)
    if previous:
        return {_KEY: key, **values}
    never_read = dict.fromkeys(("listed", "duplicates", "rejected", "foreign_records", "held"), 0)
    return {
        "view_key": key,
        "source": run.source,
        "view_name": view.name,
        "application_id": view.application_id,
        "device_type": view.device_type,
        **never_read,
        **values,
    }


def _view_row(run: RunResult, result: ViewResult) -> dict[str, Any]:
    view = result.view
    return {
        "run_id": run.run_id,
        "view_key": view.key(run.source),
        "view_name": view.name,
        "application_id": view.application_id,
        "device_type": view.device_type,
        "verdict": result.verdict,
        "reason": result.reason,
        **result.counts,
        "seconds": result.seconds,
        "read_at": result.read_at,
        "page_limit": result.page_limit,
        "rate_limit_remaining": result.rate_limit_remaining,
        "error_class": result.error_class,
        "error": result.error,
    }


def _forget_shortcuts(connection: Connection, view_keys: Collection[str]) -> None:
    """The next answer of views that lost rows to another one is decoded, even an equal one."""
    if view_keys:
        of_views = update(view_state).where(view_state.c.view_key.in_(sorted(view_keys)))
        connection.execute(of_views.values(shortcut_digest=None))


def read_view_states(connection: Connection, source: str) -> dict[str, Row[Any]]:
    """`view_state` of every view of the source, by key."""
    rows = connection.execute(select(view_state).where(view_state.c.source == source))
    return {row.view_key: row for row in rows}


def read_view_state(connection: Connection, view_key: str) -> Row[Any] | None:
    """`view_state` of one view."""
    return connection.execute(
        select(view_state).where(view_state.c.view_key == view_key)
    ).one_or_none()


def note_watched(connection: Connection, source: str, view_keys: Collection[str]) -> None:
    """Write which views of the source are in `view_keys`, the views that runs read."""
    v = view_state.c
    rows = connection.execute(select(v.view_key, v.is_watched).where(v.source == source))
    outdated = [
        {"key": key, "watched": key in view_keys}
        for key, is_watched in rows
        if is_watched is not (key in view_keys)
    ]
    if outdated:
        of_view = update(view_state).where(v.view_key == bindparam("key"))
        connection.execute(of_view.values(is_watched=bindparam("watched")), outdated)
