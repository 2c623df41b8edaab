"""Tables in memory, and the writer into them, in place of a database.

Only rows, rejects and what the ledger keeps for the next run; no history.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from etl.config.views import View
from etl.errors import StoreError
from etl.extract.api_state import ApiFindings, ApiState, LastReading
from etl.extract.listing import Listing
from etl.extract.partition import Proof
from etl.load.changeset import NO_HASHES, ChangeSet, StoredId, StoredIds
from etl.load.decide import RunState, decide_listing
from etl.load.loader import Failure, OpenListing
from etl.load.versions import Owner, StoredRow
from etl.load.writer import owner_of
from etl.transform.fields import MAX_ID
from etl.transform.snapshot import Decoded, Snapshot

ROLLED_BACK = "rolled back"


@dataclass(slots=True)
class Row:
    """One row of `snapshots`."""

    snapshot: Snapshot
    view_key: str
    is_removed: bool = False
    is_missing: bool = False


@dataclass(slots=True)
class Tables:
    """As `etl.load.lookup.Tables`."""

    rows_by_id: dict[str, Row] = field(default_factory=dict)
    rejects: dict[str, tuple[frozenset[str], int]] = field(default_factory=dict)

    def ids(self, owner: Owner, listed: Collection[str]) -> StoredIds:
        plain: dict[str, str] = {}
        others: dict[str, StoredId] = {}
        key, source, rows = owner.view_key, owner.source, self.rows_by_id
        if not rows:
            return StoredIds(NO_HASHES, others)
        for identifier, row in rows.items():
            if row.view_key == key and not row.is_removed:
                if row.is_missing:
                    others[identifier] = StoredId(
                        row.snapshot.content_hash, key, source, False, True
                    )
                else:
                    plain[identifier] = row.snapshot.content_hash
        for identifier in listed:
            if identifier not in plain and identifier not in others and identifier in rows:
                row = rows[identifier]
                others[identifier] = StoredId(
                    row.snapshot.content_hash, row.view_key, source, row.is_removed
                )
        return StoredIds(plain, others)

    def rows(self, ids: Sequence[str]) -> dict[str, StoredRow]:
        if ids:
            raise AssertionError("all hashes are of one version: no content is needed")
        return {}

    def covered(self, view_key: str, proof: Proof) -> set[str]:
        return {
            identifier
            for identifier, row in self.rows_by_id.items()
            if row.view_key == view_key
            and not row.is_removed
            and proof.covers(row.snapshot.application_id, row.snapshot.device_type)
        }

    def has_same_rejects(self, owner: Owner, decoded: Decoded) -> bool:
        last, count = self.rejects.get(owner.view_key, (frozenset(), 0))
        hashes = {reject.raw_hash for reject in decoded.rejected}
        return hashes <= last and len(decoded.rejected) - len(hashes) <= count - len(last)

    def longest_id(self) -> int:
        return MAX_ID

    def apply(self, changes: ChangeSet, owner: Owner, decoded: Decoded) -> None:
        """Write what a listing changes."""
        rows, key, absence = self.rows_by_id, owner.view_key, changes.absence
        for some in (changes.new, changes.changed, changes.returned, changes.moved):
            for snapshot in some:
                rows[snapshot.id] = Row(snapshot, key)
        for identifier in absence.removed:
            rows[identifier] = Row(rows[identifier].snapshot, key, is_removed=True)
        for identifier in absence.held:
            rows[identifier] = Row(rows[identifier].snapshot, key, is_missing=True)
        for identifier in absence.cleared:
            rows[identifier] = Row(rows[identifier].snapshot, key)
        rejected = [reject.raw_hash for reject in decoded.rejected]
        self.rejects[key] = frozenset(rejected), len(rejected)

    def copy(self) -> Tables:
        """A copy, for a transaction that is rolled back; no row is ever changed in place."""
        return Tables(dict(self.rows_by_id), dict(self.rejects))


@dataclass(slots=True)
class Written:
    """What one run made of a view."""

    verdict: str
    reason: str
    requests: int


class MemoryWriter:
    """As `TableWriter`. `fails_at`: the number of the transaction that is rolled back."""

    is_grouping = True

    def __init__(self, tables: Tables, state: ApiState, source: str, *, fails_at: int = 0) -> None:
        self.tables = tables
        self.written: dict[View, Written] = {}
        self.readings = dict(state.readings)
        self.needs_acceptance = set(state.needs_acceptance)
        self._source = source
        self._fails_at = fails_at
        self._transactions = 0

    def write(
        self, listings: Sequence[OpenListing], state: RunState
    ) -> tuple[RunState, list[Listing]]:
        self._transactions += 1
        is_rolled_back = self._transactions == self._fails_at
        kept = self._copy() if is_rolled_back else None
        draft = state.draft()
        waiting = [one.listing for one in listings if not self._write(one, draft)]
        if kept:
            self.tables, self.readings, self.needs_acceptance, self.written = kept
            raise StoreError(ROLLED_BACK)
        return draft, waiting

    def _copy(self) -> tuple[Tables, dict[str, LastReading], set[str], dict[View, Written]]:
        kept = self.tables.copy(), dict(self.readings)
        return *kept, set(self.needs_acceptance), dict(self.written)

    def _write(self, one: OpenListing, state: RunState) -> bool:
        listing, decoded = one
        owner = owner_of(listing, self._source)
        key = owner.view_key
        if decoded is None:
            last = self.readings[key].listed
            state.record_same(key, has_rows=last > 0)
        else:
            state.organization.recognise(self._source, decoded)
            changes = decide_listing(listing, decoded, owner, self.tables, state)
            state.record(key, changes, one.ids)
            if changes.is_deferred:
                return False
            self.tables.apply(changes, owner, decoded)
            self._keep(listing, key, changes)
        self.written[listing.view] = Written(listing.verdict, listing.reason, listing.requests)
        return True

    def _keep(self, listing: Listing, key: str, changes: ChangeSet) -> None:
        """What the next run needs to know, as the ledger would have it."""
        absence = changes.absence
        self.readings.pop(key, None)
        if listing.can_skip and not (changes.foreign or absence.kept or absence.held):
            self.readings[key] = LastReading(listing.digest, listing.listed)
        self.needs_acceptance.discard(key)
        if absence.needs_acceptance and absence.still_missing:
            self.needs_acceptance.add(key)

    def write_failure(self, failure: Failure) -> None:
        self.written[failure.view] = Written("failed", str(failure.error), failure.requests)

    def next_state(self, before: ApiState, findings: ApiFindings, org_id: int | None) -> ApiState:
        """What the next run knows of the API."""
        cap, is_recent = before.learned_cap, before.is_cap_recent
        if findings.is_cap_seen or findings.learned_cap is None:
            cap, is_recent = findings.learned_cap, findings.learned_cap is not None
        return ApiState(
            self.readings,
            learned_cap=cap,
            is_cap_recent=is_recent,
            page_limit=findings.lowered_to or before.page_limit,
            org_id=org_id,
            needs_acceptance=frozenset(self.needs_acceptance),
            name_matching=findings.name_matching or before.name_matching,
        )
