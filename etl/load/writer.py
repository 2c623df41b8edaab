"""Load: one listing -> rows, history, rejects, drift, state and ledger, atomically.

Everything here happens inside a transaction the caller opened and guarded with
the lease. It reads ids and content hashes, lets `changes` decide, and writes
only what differs. Nothing is ever deleted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

import msgspec
from sqlalchemy import (
    Column,
    Connection,
    Insert,
    Update,
    bindparam,
    insert,
    literal,
    select,
    update,
)
from sqlalchemy import Row as SelectedRow

from etl.database.batches import batches
from etl.database.schema import snapshot_history, snapshots
from etl.extract.completeness import NO_PROOF, Proof
from etl.extract.listing import Listing
from etl.ledger import runs as ledger
from etl.ledger.runs import ViewResult
from etl.ledger.view_state import Before, Entries
from etl.load.diff import (
    Decision,
    Known,
    OtherViews,
    decide,
)
from etl.load.existing import THESE, read_known, read_stored
from etl.load.rejects import open_rejects, save_rejects
from etl.load.schema_drift import save_drift
from etl.load.upsert import PendingRows
from etl.load.versions import (
    Owner,
    Row,
    Stored,
    differences,
    kept_row,
    new_rows,
    next_row,
    reading_instant,
)
from etl.source import organization
from etl.transform.snapshot import Decoded, Snapshot

_REMEMBERED = ("listed", "duplicates", "rejected", "foreign_records", "held")
_HISTORY = tuple(column.name for column in snapshot_history.columns)


@dataclass(slots=True)
class _Reading:
    """One listing on its way into the tables."""

    listing: Listing
    decoded: Decoded
    owner: Owner
    state: SelectedRow[Any] | None
    decision: Decision
    stored: dict[str, Stored]
    read_at: datetime

    @property
    def is_new_answer(self) -> bool:
        """Counts of rejects and drift move only when a changed answer was decoded."""
        return self.state is None or self.state.answer_digest != self.listing.digest


def load(
    connection: Connection,
    listing: Listing,
    pending: PendingRows,
    entries: Entries,
    others: OtherViews,
    before: Before,
) -> ViewResult | None:
    """Apply one listing and return what it did; None: it must wait for the views still unread.

    Its rows are put into `pending`, and what the ledger shall say of it into `entries`; the
    caller writes both.
    """
    source, view_key = entries.run.source, listing.view.key(entries.run.source)
    state = before.states.get(view_key)
    if listing.decoded is None:
        result = _load_same(listing, state)
        entries.add(result, state, _read_at(result))
        others.has_read(view_key, has_rows=result.counts["unchanged"] > 0)
        others.is_organization_seen |= result.counts["unchanged"] > 0
        return result
    organization.bind(connection, source, listing.decoded, others)
    owner = Owner(source, view_key, listing.view.name)
    if pending.touches(view_key, [s.id for s in listing.decoded.snapshots]):
        pending.write(connection)
    decision = _decide(connection, listing, listing.decoded, owner, others)
    if decision.must_wait:
        others.wait(view_key, (s.id for s in listing.decoded.snapshots), decision)
        return None
    others.has_decided(view_key, decision)
    stored = read_stored(connection, decision.touched)
    reading = _Reading(
        listing, listing.decoded, owner, state, decision, stored, _instant(listing, state, stored)
    )
    has_open_rejects = view_key in before.with_open_rejects
    result = _apply(connection, pending, reading, has_open_rejects=has_open_rejects)
    entries.add(result, state, _reading_state(reading, result), decision.former_owners)
    return result


def plan(
    connection: Connection | None, listing: Listing, source: str, others: OtherViews
) -> tuple[Decision, dict[str, Stored]] | None:
    """What `load` would do, without writing; None as there. No connection: no rows yet."""
    view_key = listing.view.key(source)
    decoded = listing.decoded or Decoded()
    organization.recognise(source, decoded, others)
    owner = Owner(source, view_key, listing.view.name)
    decision = _decide(connection, listing, decoded, owner, others)
    if decision.must_wait:
        others.wait(view_key, (s.id for s in decoded.snapshots), decision)
        return None
    others.has_decided(view_key, decision)
    ids = sorted({*decision.touched, *decision.held})
    return decision, read_stored(connection, ids) if connection else {}


def _load_same(listing: Listing, state: SelectedRow[Any] | None) -> ViewResult:
    """The answer is that of the last reading: its ids are unchanged, the rest as it was then."""
    if state is None:
        raise AssertionError("a shortcut without a last reading")
    result = ledger.result_of(listing)
    result.read_at = reading_instant(listing.arrived_at, [state.last_read_at])
    result.counts["listed"] = state.listed
    result.counts["duplicates"] = state.duplicates
    result.counts["rejected"] = state.rejected
    result.counts["unchanged"] = state.listed - state.duplicates - state.rejected
    return result


def _decide(
    connection: Connection | None,
    listing: Listing,
    decoded: Decoded,
    owner: Owner,
    others: OtherViews,
) -> Decision:
    plain: dict[str, str] = {}
    known: dict[str, Known] = {}
    proof = listing.proof
    if connection:
        plain, known = read_known(connection, owner, (s.id for s in decoded.snapshots))
        _recognise_duplicates(connection, decoded.snapshots, owner, plain, known)
    if decoded.rejected and not (connection and _stood_before(connection, decoded, owner)):
        proof = NO_PROOF
    provable: set[str] = set()
    if connection and proof.parts and not proof.is_whole:
        provable = _provable(connection, owner.view_key, proof)
    return decide(
        decoded.snapshots,
        known,
        view_key=owner.view_key,
        source=owner.source,
        is_proven=proof.is_whole,
        provable=provable,
        others=others,
        plain=plain,
    )


def _recognise_duplicates(
    connection: Connection,
    listed: Sequence[Snapshot],
    owner: Owner,
    plain: dict[str, str],
    known: dict[str, Known],
) -> None:
    """Say which record of several with one id is stored, where the hashes cannot."""
    if len({s.id for s in listed}) == len(listed):
        return
    times = Counter(s.id for s in listed)
    repeated = {identifier for identifier, count in times.items() if count > 1}
    for identifier in repeated & plain.keys():
        known[identifier] = Known(plain.pop(identifier), owner.view_key, owner.source, False)
    doubtful = [s for s in listed if s.id in repeated and _is_of_other_version(s, known.get(s.id))]
    stored = read_stored(connection, sorted({s.id for s in doubtful}))
    for snapshot in doubtful:
        if not _differs(snapshot, stored[snapshot.id]):
            of_id = known[snapshot.id]
            known[snapshot.id] = msgspec.structs.replace(of_id, equal_hash=snapshot.content_hash)


def _is_of_other_version(snapshot: Snapshot, known: Known | None) -> bool:
    if known is None:
        return False
    return known.content_hash.partition(":")[0] != snapshot.content_hash.partition(":")[0]


def _stood_before(connection: Connection, decoded: Decoded, owner: Owner) -> bool:
    """Whether the last reading had the same rejects, and as many twins among them.

    Behind a record whose id cannot be read may stand any row of the view, behind one
    more of the same too.
    """
    state = ledger.state_of(connection, owner.view_key)
    stood = open_rejects(connection, owner)
    hashes = {reject.raw_hash for reject in decoded.rejected}
    twins = len(decoded.rejected) - len(hashes)
    return state is not None and hashes <= stood and twins <= state.rejected - len(stood)


def _provable(connection: Connection, view_key: str, proof: Proof) -> set[str]:
    """Live rows of the view that a proven part of the listing would have held."""
    s = snapshots.c
    rows = connection.execute(
        select(s.id, s.application_id, s.device_type).where(
            s.view_key == view_key, s.removed_at.is_(None)
        )
    )
    return {row.id for row in rows if proof.covers(row.application_id, row.device_type)}


def _apply(
    connection: Connection, pending: PendingRows, reading: _Reading, *, has_open_rejects: bool
) -> ViewResult:
    decision, read_at = reading.decision, reading.read_at
    changed = [s for s in decision.changed if _differs(s, reading.stored[s.id])]
    changed_ids = {snapshot.id for snapshot in changed}
    rewritten = [s for s in decision.changed if s.id not in changed_ids] + decision.moved
    _close_versions(connection, sorted(changed_ids), ended="changed", read_at=read_at)
    _close_versions(connection, [s.id for s in decision.returned], ended="removed", read_at=read_at)
    began = "added" if reading.state and reading.state.first_read_at else "baseline"
    new = new_rows(decision.new, reading.owner, began=began, read_at=read_at)
    pending.add(new, _rows_again(reading, changed, rewritten), decision.former_owners)
    _remove(connection, decision.removed, read_at)
    _hold(connection, decision, read_at)
    rejected = [*reading.decoded.rejected, *decision.rejected]
    if reading.is_new_answer:
        if rejected or has_open_rejects:
            save_rejects(connection, reading.owner, rejected, read_at)
        save_drift(connection, reading.owner.source, reading.decoded.drift, read_at)
    return _result(reading, changed=len(changed), rejected=len(rejected))


def _differs(snapshot: Snapshot, stored: Stored) -> bool:
    """Under another hash version or privacy setting the hash differs, the content does not."""
    return bool(differences(stored, snapshot))


def _rows_again(reading: _Reading, changed: list[Snapshot], rewritten: list[Snapshot]) -> list[Row]:
    owner, stored, read_at = reading.owner, reading.stored, reading.read_at
    rows: list[Row] = []
    for kind, read in (("changed", changed), ("returned", reading.decision.returned)):
        rows += [next_row(s, stored[s.id], owner, began=kind, read_at=read_at) for s in read]
    return rows + [kept_row(s, stored[s.id], owner) for s in rewritten]


def _result(reading: _Reading, *, changed: int, rejected: int) -> ViewResult:
    decision = reading.decision
    result = ledger.result_of(reading.listing)
    result.read_at = reading.read_at
    result.counts |= {
        "listed": reading.decoded.listed,
        "new": len(decision.new),
        "changed": changed,
        "unchanged": decision.unchanged + len(decision.changed) - changed,
        "returned": len(decision.returned),
        "foreign_records": len(decision.foreign),
        "duplicates": decision.duplicates,
        "rejected": rejected,
        "vanished": len(decision.removed),
        "held": decision.still_missing,
    }
    if decision.held:
        result.reason += _why_held(decision)
    if decision.is_doubted:
        result.reason += "; nothing removed, these keys belong to another organization"
    return result


def _why_held(decision: Decision) -> str:
    held = f"; {len(decision.held)} removals held"
    if decision.is_mass_removal:
        return f"{held}: several views would lose rows at once, sync --accept-removals lets them go"
    return f"{held} until the next reading confirms them"


def _reading_state(reading: _Reading, result: ViewResult) -> dict[str, Any]:
    """The part of `view_state` that a reading changes, the digest included."""
    decision = reading.decision
    is_settled = not (decision.foreign or decision.blocked or decision.held)
    may_skip = reading.listing.can_skip and is_settled
    first = reading.state.first_read_at if reading.state else None
    return {
        "first_read_at": first or reading.read_at,
        **_read_at(result),
        "answer_digest": reading.listing.digest,
        "shortcut_digest": reading.listing.digest if may_skip else None,
        "needs_acceptance": decision.is_mass_removal and decision.still_missing > 0,
        **{n: result.counts[n] for n in _REMEMBERED},
    }


def _read_at(result: ViewResult) -> dict[str, Any]:
    """The instants of `view_state` that every reading moves, a shortcut too."""
    names = ("last_read_at", "last_nonempty_at") if result.counts["listed"] else ("last_read_at",)
    return dict.fromkeys(names, result.read_at)


def seen(connection: Connection, source: str) -> tuple[set[str | None], set[str | None]]:
    """Applications and device types of the stored rows of a source; None: rows without one."""
    s = snapshots.c

    def distinct(column: Column[Any]) -> set[str | None]:
        query = select(column).where(s.source == source).distinct()
        return set(connection.execute(query).scalars())

    return distinct(s.application_id), distinct(s.device_type)


# --- rows and history ---------------------------------------------------------------------


def _instant(
    listing: Listing, state: SelectedRow[Any] | None, stored: dict[str, Stored]
) -> datetime:
    touched = [instant for row in stored.values() for instant in (row.valid_from, row.removed_at)]
    return reading_instant(listing.arrived_at, [state.last_read_at if state else None, *touched])


@cache
def _closing(ended: str) -> Insert:
    s = snapshots.c
    valid_to = s.removed_at if ended == "removed" else bindparam("read_at", type_=s.valid_from.type)
    source = {"snapshot_id": s.id, "valid_to": valid_to, "ended": literal(ended)}
    columns = [source[name] if name in source else s[name] for name in _HISTORY]
    return insert(snapshot_history).from_select(_HISTORY, select(*columns).where(THESE))


def _close_versions(
    connection: Connection, ids: Sequence[str], *, ended: str, read_at: datetime
) -> None:
    """Copy the current version of each id into the history, inside the database."""
    for batch in batches(ids):
        connection.execute(_closing(ended), {"ids": batch, "read_at": read_at})


@cache
def _removing() -> Update:
    s = snapshots.c
    read_at = bindparam("read_at", type_=s.removed_at.type)
    return update(snapshots).where(THESE).values(removed_at=read_at, missing_since=None)


def _remove(connection: Connection, ids: Sequence[str], read_at: datetime) -> None:
    for batch in batches(ids):
        connection.execute(_removing(), {"ids": batch, "read_at": read_at})


@cache
def _holding() -> Update:
    s = snapshots.c
    read_at = bindparam("read_at", type_=s.missing_since.type)
    these = update(snapshots).where(THESE, s.missing_since.is_(None))
    return these.values(missing_since=read_at)


@cache
def _clearing() -> Update:
    return update(snapshots).where(THESE).values(missing_since=None)


def _hold(connection: Connection, decision: Decision, read_at: datetime) -> None:
    """Mark rows whose removal is held, and take the mark from those that are listed again."""
    for batch in batches(decision.held):
        connection.execute(_holding(), {"ids": batch, "read_at": read_at})
    for batch in batches(decision.cleared):
        connection.execute(_clearing(), {"ids": batch})
