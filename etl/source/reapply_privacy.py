"""`privacy apply`: rewrites what is stored of a source under the configured privacy setting.

That is rows and history, rejected records and examples of drift; what servers and databases said
about failures is cleared. It is done in batches, each a
transaction of its own under the lease. No version begins and no event happens. The hash of each
content names its setting, so that a rewriting that was cut short is simply done again: what is
rewritten already stays as it is.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Table,
    and_,
    bindparam,
    delete,
    or_,
    select,
    true,
    update,
)

from etl.config.model import Config
from etl.database.connection import Database
from etl.database.migrations import require_there
from etl.database.schema import (
    rejected_records,
    schema_drift,
    snapshot_history,
    snapshots,
    sync_run_views,
    sync_runs,
    view_state,
)
from etl.errors import LeaseLost
from etl.source.lease import Lease
from etl.source.privacy_setting import (
    APPLYING,
    PrivacyState,
    adopt_privacy,
    privacy_of,
    write_setting,
)
from etl.transform.persons import Persons
from etl.transform.privacy import KEEP, Privacy
from etl.transform.snapshot import CONTENT, PERSONAL, Rejected, Snapshot

BATCH = 1000
_VACUUM_LEASE_S = 3600.0
_CONTENT = (*CONTENT, "content_hash")
_REWRITTEN = (*sorted(PERSONAL), "snapshot_name", "extra", "content_hash")
CLEARED = "cleared by privacy apply"
"""Stands for what a server or a database said: it may name anybody."""
_COUNTED = ("count", "first_seen_at", "last_seen_at")
_SEEN = (*_COUNTED, "resolved_at")

_Rows: TypeAlias = "Sequence[Row[Any]]"


@dataclass(slots=True)
class Rewriting:
    """What `apply_privacy` did.

    `is_needed`: False when everything was stored under the setting already. `counts`: how many
    were rewritten, by kind. `has_lost`: some contents no longer hold what the setting would show.
    `is_file_clean`: the SQLite file holds no former value.
    """

    is_needed: bool
    counts: Counter[str] = field(default_factory=Counter)
    has_lost: bool = False
    is_file_clean: bool = True
    is_cut_short: bool = False


def apply_privacy(config: Config, database: Database, stop: threading.Event) -> Rewriting:
    """Rewrite everything of the source. Raises `EtlError`."""
    require_there(database)
    lease = Lease(config.source, config.lease_s)
    state = database.transaction(lambda connection: _start(connection, config, lease))
    done = Rewriting(is_needed=bool(state.problem))
    privacy = privacy_of(config)
    rewriter = _Rewriter(database, lease, privacy, stop, done, privacy.nobody())
    lease.keep(database, on_loss=stop.set)
    try:
        if done.is_needed:
            rewriter.rewrite_all()
    finally:
        lease.stop_keeping()
        if not lease.is_lost:
            database.transaction(lease.release)
    if lease.is_lost:
        raise LeaseLost(f"another process took the lease of {config.source}; run it again")
    done.is_cut_short = done.is_needed and stop.is_set()
    return done


def _start(connection: Connection, config: Config, lease: Lease) -> PrivacyState:
    """Take the lease; no run starts before the rewriting has ended."""
    lease.take(connection, config)
    state = adopt_privacy(connection, config)
    if state.problem:
        setting = privacy_of(config).setting or KEEP
        write_setting(connection, config.source, APPLYING + setting)
    return state


@dataclass(slots=True)
class _Rewriter:
    database: Database
    lease: Lease
    privacy: Privacy
    stop: threading.Event
    done: Rewriting
    everybody: Persons

    def rewrite_all(self) -> None:
        """Rewrite every table, and then note the setting in `sources`."""
        if self.privacy.created_by != KEEP:
            # First: it looks for the persons whom the rows name until they are rewritten.
            self._rewrite_examples()
            self._rewrite("row", snapshots, ("id",), _CONTENT, self._contents)
            versions = ("snapshot_id", "version")
            self._rewrite("earlier version", snapshot_history, versions, _CONTENT, self._contents)
            rejects = ("view_key", "raw_hash")
            columns = ("reason", "raw", *_SEEN)
            self._rewrite("reject", rejected_records, rejects, columns, self._rejects)
            self._clear_messages()
            if not self.database.dialect.clean_up and not self.stop.is_set():
                self._compact()
        if not self.stop.is_set():
            self.database.transaction(self._finish)

    def _finish(self, connection: Connection) -> None:
        self.lease.guard(connection)
        write_setting(connection, self.lease.source, self.privacy.setting)

    def _rewrite(
        self,
        kind: str,
        table: Table,
        keys: Sequence[str],
        columns: Sequence[str],
        rewrite: Callable[[Connection, Table, _Rows], int],
        of_source: ColumnElement[bool] | None = None,
    ) -> None:
        """Rewrite one table, in the order of its key; `rewrite` says how many rows it changed."""
        if of_source is None:
            of_source = table.c.source == self.lease.source
        order = [table.c[name] for name in keys]
        last: Sequence[Any] = ()

        def batch(connection: Connection) -> tuple[_Rows, int]:
            with self.lease.guarded(connection):
                query = select(*order, *(table.c[name] for name in columns))
                query = query.where(of_source, _after(order, last))
                rows = connection.execute(query.order_by(*order).limit(BATCH)).all()
                return rows, rewrite(connection, table, rows)

        while not self.stop.is_set():
            rows, count = self.database.transaction(batch)
            self.done.counts[kind] += count
            if len(rows) < BATCH:
                return
            last = rows[-1][: len(keys)]

    def _contents(self, connection: Connection, table: Table, rows: _Rows) -> int:
        keys, changed = [c.name for c in table.primary_key], []
        for row in rows:
            stored = Snapshot(row[0], *row[len(keys) :])
            if new := self.privacy.rewritten(stored):
                key = {f"key_{name}": getattr(row, name) for name in keys}
                changed.append({**key, **{name: getattr(new, name) for name in _REWRITTEN}})
            self.done.has_lost |= self.privacy.has_lost(stored.content_hash)
        return _update(connection, table, keys, changed)

    def _rewrite_examples(self) -> None:
        """A row of `schema_drift` does not say from which record it is: it may name anybody."""
        is_drift = schema_drift.c.source == self.lease.source
        query = select(schema_drift.c.name).where(is_drift).limit(1)
        if self.database.read(lambda connection: connection.execute(query).first()) is None:
            return
        for table, keys in ((snapshots, ("id",)), (snapshot_history, ("snapshot_id", "version"))):
            self._rewrite("row", table, keys, _CONTENT, self._note_persons)
        self._rewrite(
            "reject", rejected_records, ("view_key", "raw_hash"), ("raw",), self._note_raw
        )
        columns = ("example", "count", "first_seen_at", "last_seen_at")
        self._rewrite("example", schema_drift, ("name", "kind"), columns, self._examples)

    def _note_persons(self, _connection: Connection, table: Table, rows: _Rows) -> int:
        keys = len(table.primary_key)
        for row in rows:
            self.privacy.collect(self.everybody, Snapshot(row[0], *row[keys:]))
        return 0

    def _note_raw(self, _connection: Connection, _table: Table, rows: _Rows) -> int:
        for row in rows:
            self.privacy.reject(Rejected("", row.raw, row.raw_hash), self.everybody)
        return 0

    def _examples(self, connection: Connection, table: Table, rows: _Rows) -> int:
        """`name` is a key: two that become equal are counted together."""
        count = 0
        for row in rows:
            example = self.privacy.example(row.name, row.example, self.everybody)
            name = self.privacy.drift_name(row.name, self.everybody)
            if (name, example) == (row.name, row.example):
                continue
            of_kind = (table.c.source == self.lease.source) & (table.c.kind == row.kind)
            is_row, is_equal = (
                of_kind & (table.c.name == row.name),
                of_kind & (table.c.name == name),
            )
            query = select(*(table.c[column] for column in _COUNTED)).where(is_equal)
            equal = connection.execute(query).first() if name != row.name else None
            if equal:
                connection.execute(delete(table).where(is_row))
                connection.execute(update(table).where(is_equal).values(_merged(row, equal)))
            else:
                values = {"name": name, "example": example}
                connection.execute(update(table).where(is_row).values(values))
            count += 1
        return count

    def _clear_messages(self) -> None:
        """What is said about a complete reading is of our own words, and stays."""
        of_run = ("run_id", "view_key")
        columns = ("verdict", "reason", "error")
        self._rewrite("message", sync_runs, ("run_id",), ("error",), self._messages)
        of_source = sync_run_views.c.run_id.in_(
            select(sync_runs.c.run_id).where(sync_runs.c.source == self.lease.source)
        )
        self._rewrite("message", sync_run_views, of_run, columns, self._messages, of_source)
        self._rewrite("message", view_state, ("view_key",), columns[:2], self._messages)

    def _messages(self, connection: Connection, table: Table, rows: _Rows) -> int:
        keys, changed = [column.name for column in table.primary_key], []
        for row in rows:
            said = {name: getattr(row, name, None) for name in ("error", "reason")}
            if getattr(row, "verdict", None) == "complete":
                del said["reason"]
            new = {name: CLEARED for name, text in said.items() if text not in (None, CLEARED)}
            if new:
                key = {f"key_{name}": getattr(row, name) for name in keys}
                changed.append({**key, **{n: getattr(row, n) for n in said if n in table.c}, **new})
        for names in {tuple(sorted(values)) for values in changed}:
            alike = [values for values in changed if tuple(sorted(values)) == names]
            _update(connection, table, keys, alike)
        return len(changed)

    def _rejects(self, connection: Connection, table: Table, rows: _Rows) -> int:
        """`raw_hash` is a key: two that become equal are counted together."""
        count = 0
        for row in rows:
            new = self.privacy.reject(Rejected(row.reason, row.raw, row.raw_hash))
            if new.raw_hash == row.raw_hash:
                continue
            of_view = (table.c.source == self.lease.source) & (table.c.view_key == row.view_key)
            is_row = of_view & (table.c.raw_hash == row.raw_hash)
            is_equal = of_view & (table.c.raw_hash == new.raw_hash)
            query = select(*(table.c[name] for name in _SEEN)).where(is_equal)
            if equal := connection.execute(query).first():
                connection.execute(delete(table).where(is_row))
                connection.execute(update(table).where(is_equal).values(_merged(row, equal)))
            else:
                values = {"raw": new.raw, "raw_hash": new.raw_hash}
                connection.execute(update(table).where(is_row).values(values))
            count += 1
        return count

    def _compact(self) -> None:
        """Rewrite the file: its free pages and its log still hold the former values."""
        # Nothing else can write meanwhile, not even a renewal of the lease.
        self.lease.seconds = max(self.lease.seconds, _VACUUM_LEASE_S)
        self.database.transaction(self.lease.renew)
        self.done.is_file_clean = self.database.read(self.database.dialect.compact)


def _after(order: Sequence[ColumnElement[Any]], last: Sequence[Any]) -> ColumnElement[bool]:
    """What comes after `last` in the order of one or two columns, in terms that use an index."""
    if not last:
        return true()
    if len(order) == 1:
        return and_(order[0] > last[0])
    return and_(order[0] >= last[0], or_(order[0] > last[0], order[1] > last[1]))


def _update(
    connection: Connection,
    table: Table,
    keys: Sequence[str],
    changed: Sequence[dict[str, Any]],
) -> int:
    if changed:
        where = [table.c[name] == bindparam(f"key_{name}") for name in keys]
        connection.execute(update(table).where(*where), changed)
    return len(changed)


def _merged(row: Row[Any], equal: Row[Any]) -> dict[str, Any]:
    one, other = row._mapping, equal._mapping  # noqa: SLF001 - a column is called `count`
    merged = {
        "count": one["count"] + other["count"],
        "first_seen_at": min(one["first_seen_at"], other["first_seen_at"]),
        "last_seen_at": max(one["last_seen_at"], other["last_seen_at"]),
    }
    if "resolved_at" in one:
        ends = (one["resolved_at"], other["resolved_at"])
        merged["resolved_at"] = None if None in ends else max(ends)
    return merged
