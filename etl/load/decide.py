"""One listing, what is stored and what the run knows -> what the listing changes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

import msgspec

from etl.database.dialects import FITS_EVERYWHERE
from etl.extract.listing import Listing
from etl.extract.partition import Proof
from etl.load.changeset import ChangeSet, StoredId, StoredIds
from etl.load.diff import diff
from etl.load.lookup import Lookup
from etl.load.ownership import Ownership
from etl.load.removals import Removals
from etl.load.versions import Owner, differences
from etl.source.identity import Organization
from etl.transform.snapshot import KEY_TWICE, Decoded, Snapshot, record_of, reject_text


@dataclass(slots=True)
class RunState:
    """What one run knows by now, beyond the view that it decides."""

    ownership: Ownership
    removals: Removals
    organization: Organization

    def draft(self) -> RunState:
        """A copy for one transaction, of a state that is certain.

        Once the transaction is committed the copy takes the place of this state; after a rollback
        it is dropped, and leaves nothing behind.
        """
        return RunState(self.ownership.draft(), self.removals.draft(), replace(self.organization))

    def record(self, view_key: str, changes: ChangeSet, listed: Iterable[str]) -> None:
        """A view has answered with these changes; `listed`: the ids in its listing."""
        self.ownership.record(view_key, changes, listed)
        self.removals.record(view_key, changes, self.ownership)

    def record_same(self, view_key: str, *, has_rows: bool) -> None:
        """A view has answered as it did last time."""
        self.ownership.record(view_key)
        self.removals.record_same(view_key, has_rows=has_rows)
        self.organization.is_seen |= has_rows


def decide_listing(
    listing: Listing, decoded: Decoded, owner: Owner, lookup: Lookup, state: RunState
) -> ChangeSet:
    """What the listing changes in the tables that `lookup` reads."""
    snapshots = decoded.snapshots
    stored = lookup.ids(owner, [snapshot.id for snapshot in snapshots])
    if len({snapshot.id for snapshot in snapshots}) < len(snapshots):
        stored = _recognise_duplicates(snapshots, stored, owner, lookup)
    provable = _provable(listing.proof, decoded, owner, lookup)
    doubled = [r.raw for r in decoded.rejected if r.reason == KEY_TWICE]
    if doubled:
        rows = stored.plain.keys() | stored.others.keys() if provable is None else provable
        provable = {i for i in rows if not any(_may_name(i, raw) for raw in doubled)}
    changes = decide(snapshots, stored, owner, state, provable)
    _reject_long_ids(changes, lookup)
    return changes


def decide(
    snapshots: Sequence[Snapshot],
    stored: StoredIds,
    owner: Owner,
    state: RunState,
    provable: Collection[str] | None = None,
) -> ChangeSet:
    """What one listing changes; see `diff` for what goes in."""
    changes = diff(snapshots, stored, owner, provable)
    if state.organization.is_other:
        # What another organization's keys do not list is not gone.
        changes.absence.absent = []
        changes.absence.is_other_organization = bool(changes.absence.unlisted)
    changes = state.ownership.assign(changes, owner.view_key)
    # Before rows go, RUM can still say which organization the keys belong to.
    changes.is_deferred |= bool(changes.absence.gone and state.organization.is_open)
    return state.removals.hold(changes, owner.view_key, state.ownership)


def _reject_long_ids(changes: ChangeSet, lookup: Lookup) -> None:
    """The tables of a server with small pages have no room for every id that others can hold."""
    if all(len(snapshot.id) <= FITS_EVERYWHERE for snapshot in changes.new):
        return
    longest = lookup.longest_id()
    reason = f"the id is longer than the {longest} characters that this database can index"
    long = [snapshot for snapshot in changes.new if len(snapshot.id) > longest]
    changes.rejected += [reject_text(reason, record_of(snapshot)) for snapshot in long]
    changes.new = [snapshot for snapshot in changes.new if len(snapshot.id) <= longest]


def _provable(
    proof: Proof, decoded: Decoded, owner: Owner, lookup: Lookup
) -> Collection[str] | None:
    """Rows of the view that are gone when they are not listed; None: all."""
    if decoded.rejected and not lookup.has_same_rejects(owner, decoded):
        return ()
    if proof.is_whole:
        return None
    return lookup.covered(owner.view_key, proof) if proof.parts else ()


def _may_name(identifier: str, raw: str) -> bool:
    """Whether the JSON in a text may say this id; the privacy setting may have cut it."""
    spelt = (f'"{identifier}"', json.dumps(identifier))
    return r"\"id\"" not in raw or any(json.dumps(text)[1:-1] in raw for text in spelt)


def _recognise_duplicates(
    snapshots: Sequence[Snapshot], stored: StoredIds, owner: Owner, lookup: Lookup
) -> StoredIds:
    """Say which of several records with one id is stored, where the hashes cannot.

    A hash of another version says nothing: there the contents are compared.
    """
    plain, others = dict(stored.plain), dict(stored.others)
    copies = Counter(snapshot.id for snapshot in snapshots)
    repeated = {identifier for identifier, count in copies.items() if count > 1}
    for identifier in repeated & plain.keys():
        content_hash = plain.pop(identifier)
        others[identifier] = StoredId(content_hash, owner.view_key, owner.source, is_removed=False)
    incomparable = [
        snapshot
        for snapshot in snapshots
        if snapshot.id in repeated & others.keys()
        and _hash_version(snapshot) != _hash_version(others[snapshot.id])
    ]
    rows = lookup.rows(sorted({snapshot.id for snapshot in incomparable}))
    for snapshot in incomparable:
        if not differences(rows[snapshot.id], snapshot):
            others[snapshot.id] = msgspec.structs.replace(
                others[snapshot.id], equal_hash=snapshot.content_hash
            )
    return StoredIds(plain, others)


def _hash_version(hashed: Snapshot | StoredId) -> str:
    return hashed.content_hash.partition(":")[0]
