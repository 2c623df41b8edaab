"""Listings of one run -> rows, history, rejects, drift, view state and ledger, atomically.

A transaction looks up ids and content hashes, decides, and writes only what differs. Nothing is
ever deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Connection, Insert, Update, bindparam, insert, literal, select, update
from sqlalchemy import Row as SelectedRow

from etl.database.batches import batches
from etl.database.connection import Database
from etl.database.schema import snapshot_history, snapshots
from etl.extract.listing import Listing
from etl.formatting import many
from etl.ledger.results import RunResult, ViewResult, failed_result, result_of
from etl.ledger.runs import is_recorded
from etl.ledger.view_state import LedgerRows, ViewStates
from etl.load.changeset import Absence, ChangeSet
from etl.load.decide import RunState, decide_listing
from etl.load.loader import Failure, OpenListing
from etl.load.lookup import HAS_BOUND_ID, Tables
from etl.load.rejects import save_rejects
from etl.load.schema_drift import save_drift
from etl.load.upsert import PendingRows
from etl.load.versions import (
    Owner,
    Row,
    StoredRow,
    differences,
    kept_row,
    new_rows,
    next_row,
    reading_instant,
)
from etl.source.identity import bind
from etl.source.lease import Lease
from etl.transform.snapshot import Decoded, Snapshot

_KEPT_COUNTS = ("listed", "duplicates", "rejected", "foreign_records", "held")
_HISTORY = tuple(column.name for column in snapshot_history.columns)


class TableWriter:
    """Writes listings into the tables, several in one transaction under the lease.

    `previous`: the view states when the run began. `on_result` is called with the result of each
    view, once the ledger has it.
    """

    is_grouping = True  # a commit costs more than the rows of a small view

    def __init__(
        self,
        database: Database,
        run: RunResult,
        lease: Lease,
        previous: ViewStates,
        on_result: Callable[[ViewResult], None],
    ) -> None:
        self._database = database
        self._run = run
        self._lease = lease
        self._previous = previous
        self._on_result = on_result

    def write(
        self, listings: Sequence[OpenListing], state: RunState
    ) -> tuple[RunState, list[Listing]]:
        """As `Writer.write`. The transaction is repeated whole where the database asks for it."""
        attempts: list[tuple[RunState, list[ViewResult | None]]] = []

        def attempt(connection: Connection) -> None:
            with self._lease.guarded(connection):
                if attempts and self._is_committed(connection, attempts[-1][1]):
                    return
                draft = state.draft()
                attempts.append((draft, self._write_all(connection, listings, draft)))

        self._database.transaction(attempt)
        state, results = attempts[-1]
        for result in results:
            if result:
                self._on_result(result)
        pairs = zip(listings, results, strict=True)
        return state, [one.listing for one, result in pairs if result is None]

    def write_failure(self, failure: Failure) -> None:
        """As `Writer.write_failure`, in a transaction of its own."""
        view, error = failure.view, failure.error
        result = failed_result(view, error, requests=failure.requests, seconds=failure.seconds)
        key = view.key(self._run.source)

        def write(connection: Connection) -> None:
            self._lease.guard(connection)
            if not is_recorded(connection, self._run.run_id, key):
                ledger = LedgerRows(self._run)
                ledger.add(result, self._previous.states.get(key), {})
                ledger.write(connection)

        self._database.transaction(write)
        self._on_result(result)

    def _write_all(
        self, connection: Connection, listings: Sequence[OpenListing], state: RunState
    ) -> list[ViewResult | None]:
        """Write every listing; returns None in place of the result of one that must wait."""
        pending, ledger = PendingRows(), LedgerRows(self._run)
        results: list[ViewResult | None] = []
        for one in listings:
            owner = owner_of(one.listing, self._run.source)
            previous = self._previous.states.get(owner.view_key)
            if one.decoded is None:
                results.append(_write_same(one.listing, owner, previous, ledger, state))
                continue
            _recognise_organization(connection, owner.source, one.decoded, state)
            ids = one.ids
            if pending.touches(owner.view_key, ids):
                pending.write(connection)  # else the lookup would not find these rows
            tables = Tables(connection)
            changes = decide_listing(one.listing, one.decoded, owner, tables, state)
            state.record(owner.view_key, changes, ids)
            if changes.is_deferred:
                results.append(None)
                continue
            stored = tables.rows(changes.touched)
            reading = _Reading(one.listing, one.decoded, owner, previous, changes, stored)
            result = _write_changes(
                connection,
                reading,
                pending,
                has_open_rejects=owner.view_key in self._previous.with_open_rejects,
            )
            ledger.add(result, previous, _state_after(reading, result), changes.taken.values())
            results.append(result)
        pending.write(connection)
        ledger.write(connection)
        return results

    def _is_committed(self, connection: Connection, results: Sequence[ViewResult | None]) -> bool:
        """After a lost connection: the ledger tells whether the commit happened."""
        loaded = [result.view for result in results if result]
        key = loaded[0].key(self._run.source) if loaded else ""
        return is_recorded(connection, self._run.run_id, key)


def owner_of(listing: Listing, source: str) -> Owner:
    """The configured view that the rows of a listing belong to."""
    return Owner(source, listing.view.key(source), listing.view.name)


@dataclass(slots=True)
class _Reading:
    """A listing that is applied. `stored`: the rows that it touches; `previous`: the view's state
    after the reading before."""

    listing: Listing
    decoded: Decoded
    owner: Owner
    previous: SelectedRow[Any] | None
    changes: ChangeSet
    stored: Mapping[str, StoredRow]

    @property
    def read_at(self) -> datetime:
        """When its last answer arrived, raised above every instant it touches."""
        rows = self.stored.values()
        touched = [instant for row in rows for instant in (row.valid_from, row.removed_at)]
        last = self.previous.last_read_at if self.previous else None
        return reading_instant(self.listing.arrived_at, [last, *touched])

    @property
    def is_new_answer(self) -> bool:
        """Counts of rejects and drift move only when a changed answer was decoded."""
        return self.previous is None or self.previous.answer_digest != self.listing.digest


def _write_same(
    listing: Listing,
    owner: Owner,
    previous: SelectedRow[Any] | None,
    ledger: LedgerRows,
    state: RunState,
) -> ViewResult:
    """The answer equals that of the last reading: its ids are unchanged, all else is as then."""
    if previous is None:
        raise AssertionError("a shortcut without a last reading")
    result = result_of(listing)
    result.read_at = reading_instant(listing.arrived_at, [previous.last_read_at])
    result.counts["listed"] = previous.listed
    result.counts["duplicates"] = previous.duplicates
    result.counts["rejected"] = previous.rejected
    result.counts["unchanged"] = previous.listed - previous.duplicates - previous.rejected
    ledger.add(result, previous, _instants_after(result))
    state.record_same(owner.view_key, has_rows=result.counts["unchanged"] > 0)
    return result


def _recognise_organization(
    connection: Connection, source: str, decoded: Decoded, state: RunState
) -> None:
    """Bind the source to the first organization seen. Raises `SourceMismatch` for another."""
    was_bound = state.organization.org_id is not None
    state.organization.recognise(source, decoded)
    if not was_bound and state.organization.org_id is not None:
        bind(connection, source, state.organization.org_id)


def _write_changes(
    connection: Connection, reading: _Reading, pending: PendingRows, *, has_open_rejects: bool
) -> ViewResult:
    """Rows go into `pending`, all else is written; returns the result for the ledger."""
    changes, owner, read_at = reading.changes, reading.owner, reading.read_at
    # Under another hash version or privacy setting the hash differs, the content does not.
    changed = [s for s in changes.changed if differences(reading.stored[s.id], s)]
    changed_ids = {snapshot.id for snapshot in changed}
    rewritten = [s for s in changes.changed if s.id not in changed_ids] + changes.moved
    close_versions(connection, sorted(changed_ids), ended="changed", read_at=read_at)
    close_versions(connection, [s.id for s in changes.returned], ended="removed", read_at=read_at)
    began = "added" if reading.previous and reading.previous.first_read_at else "baseline"
    new = new_rows(changes.new, owner, began=began, read_at=read_at)
    replacing = _replacing_rows(reading, changed, rewritten, read_at)
    pending.add(new, replacing, changes.taken.values())
    mark(connection, changes.absence, read_at)
    rejected = [*reading.decoded.rejected, *changes.rejected]
    if reading.is_new_answer:
        if rejected or has_open_rejects:
            save_rejects(connection, owner, rejected, read_at)
        save_drift(connection, owner.source, reading.decoded.drift, read_at)
    return _result(reading, read_at, changed=len(changed), rejected=len(rejected))


def _replacing_rows(
    reading: _Reading, changed: list[Snapshot], rewritten: list[Snapshot], read_at: datetime
) -> list[Row]:
    owner, stored = reading.owner, reading.stored
    rows: list[Row] = []
    for began, snaps in (("changed", changed), ("returned", reading.changes.returned)):
        rows += [next_row(s, stored[s.id], owner, began=began, read_at=read_at) for s in snaps]
    return rows + [kept_row(s, stored[s.id], owner) for s in rewritten]


def _result(reading: _Reading, read_at: datetime, *, changed: int, rejected: int) -> ViewResult:
    changes = reading.changes
    result = result_of(reading.listing)
    result.read_at = read_at
    result.counts |= {
        "listed": reading.decoded.listed,
        "new": len(changes.new),
        "changed": changed,
        "unchanged": changes.unchanged + len(changes.changed) - changed,
        "returned": len(changes.returned),
        "foreign_records": len(changes.foreign),
        "duplicates": changes.duplicates,
        "rejected": rejected,
        "vanished": len(changes.absence.removed),
        "held": changes.absence.still_missing,
    }
    result.reason += reason_of(changes.absence)
    return result


def reason_of(absence: Absence) -> str:
    """Why rows were not removed, to be added to the reason of a verdict; "" when none was kept."""
    text = ""
    if absence.held:
        text = f"; {many(len(absence.held), 'removal')} held"
        if absence.needs_acceptance:
            text += ": too many at once; if they are really gone, run sync --accept-removals"
        else:
            text += " until the next reading confirms them"
    if absence.is_other_organization:
        text += "; nothing removed, these keys belong to another organization"
    return text


def _state_after(reading: _Reading, result: ViewResult) -> dict[str, Any]:
    """The columns of `view_state` that only a reading changes."""
    changes, absence = reading.changes, reading.changes.absence
    is_settled = not (changes.foreign or absence.kept or absence.held)
    may_skip = reading.listing.can_skip and is_settled
    first = reading.previous.first_read_at if reading.previous else None
    return {
        "first_read_at": first or result.read_at,
        **_instants_after(result),
        "answer_digest": reading.listing.digest,
        "shortcut_digest": reading.listing.digest if may_skip else None,
        "needs_acceptance": absence.needs_acceptance and absence.still_missing > 0,
        **{name: result.counts[name] for name in _KEPT_COUNTS},
    }


def _instants_after(result: ViewResult) -> dict[str, Any]:
    """The instants of `view_state` that every reading moves, one that was skipped too."""
    names = ("last_read_at", "last_nonempty_at") if result.counts["listed"] else ("last_read_at",)
    return dict.fromkeys(names, result.read_at)


# --- statements: built once, as that takes longer than to execute them --------------------


@cache
def _closing(ended: str) -> Insert:
    s = snapshots.c
    valid_to = s.removed_at if ended == "removed" else bindparam("read_at", type_=s.valid_from.type)
    added = {"snapshot_id": s.id, "valid_to": valid_to, "ended": literal(ended)}
    columns = [added[name] if name in added else s[name] for name in _HISTORY]
    return insert(snapshot_history).from_select(_HISTORY, select(*columns).where(HAS_BOUND_ID))


def close_versions(
    connection: Connection, ids: Sequence[str], *, ended: str, read_at: datetime
) -> None:
    """Copy the current version of each id into the history, inside the database."""
    for batch in batches(ids):
        connection.execute(_closing(ended), {"ids": batch, "read_at": read_at})


@cache
def _removing() -> Update:
    read_at = bindparam("read_at", type_=snapshots.c.removed_at.type)
    return update(snapshots).where(HAS_BOUND_ID).values(removed_at=read_at, missing_since=None)


@cache
def _holding() -> Update:
    s = snapshots.c
    read_at = bindparam("read_at", type_=s.missing_since.type)
    return (
        update(snapshots)
        .where(HAS_BOUND_ID, s.missing_since.is_(None))
        .values(missing_since=read_at)
    )


@cache
def _clearing() -> Update:
    return update(snapshots).where(HAS_BOUND_ID).values(missing_since=None)


def mark(connection: Connection, absence: Absence, read_at: datetime) -> None:
    """Mark what is removed or held, and take the mark from held rows that are listed again."""
    for statement, ids in ((_removing, absence.removed), (_holding, absence.held)):
        for batch in batches(ids):
            connection.execute(statement(), {"ids": batch, "read_at": read_at})
    for batch in batches(absence.cleared):
        connection.execute(_clearing(), {"ids": batch})
