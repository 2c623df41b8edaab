"""What a view lists, compared with what is stored of it. Pure: knows nothing of the run.

Content comes from the owner's listing only, one id is one row, and nothing is absent without
proof: the rules are those of `docs/trust.md`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime

from etl.load.changeset import Absence, ChangeSet, StoredId, StoredIds
from etl.load.versions import Owner
from etl.transform.snapshot import Snapshot, record_of, reject_text

OTHER_SOURCE = "the id belongs to another source"

_NEVER = datetime.min.replace(tzinfo=UTC)


def diff(
    snapshots: Sequence[Snapshot],
    stored: StoredIds,
    owner: Owner,
    provable: Collection[str] | None = None,
) -> ChangeSet:
    """Compare the records of one listing with the rows that its view owns, and its ids.

    `provable`: rows of the view that are gone when they are not among `snapshots`; None: all.
    """
    listed, duplicates = unique(snapshots, stored.others)
    changes = ChangeSet(duplicates=duplicates)
    plain, others = stored
    differing = sorted(i for i, s in listed.items() if plain.get(i) != s.content_hash)
    changes.unchanged = len(listed) - len(differing)
    for identifier in differing:  # nearly always none or few
        snapshot, row = listed[identifier], others.get(identifier)
        if identifier in plain:
            changes.changed.append(snapshot)
        elif row is None:
            changes.new.append(snapshot)
        elif row.source != owner.source:
            changes.rejected.append(reject_text(OTHER_SOURCE, record_of(snapshot)))
        elif row.view_key != owner.view_key:
            changes.elsewhere.append((snapshot, row))
        else:
            changes.add_own(snapshot, row)
    changes.absence = _absence(listed, stored, owner, provable)
    return changes


def _absence(
    listed: Mapping[str, Snapshot],
    stored: StoredIds,
    owner: Owner,
    provable: Collection[str] | None,
) -> Absence:
    plain, others = stored
    own = {i: s for i, s in others.items() if s.view_key == owner.view_key and not s.is_removed}
    missing = frozenset(i for i, s in own.items() if s.is_missing)
    unlisted = sorted((own.keys() | plain.keys()) - listed.keys())
    return Absence(
        live=len(own) + len(plain),
        unlisted=unlisted,
        absent=unlisted if provable is None else [i for i in unlisted if i in provable],
        missing=missing,
        cleared=sorted(missing & listed.keys()),
    )


def unique(
    snapshots: Sequence[Snapshot], stored: Mapping[str, StoredId]
) -> tuple[dict[str, Snapshot], int]:
    """One snapshot for each id, and how many duplicates were left out.

    The later `modified_at` wins, NULL being earliest; on a tie the one equal to
    what is stored, else the greater hash: never the order of the answer.
    """
    by_id = {snapshot.id: snapshot for snapshot in snapshots}
    duplicates = len(snapshots) - len(by_id)
    if duplicates:
        for snapshot in snapshots:
            best = by_id[snapshot.id]
            row = stored.get(snapshot.id)
            by_id[snapshot.id] = max(best, snapshot, key=lambda s: _rank(s, row))
    return by_id, duplicates


def _rank(snapshot: Snapshot, stored: StoredId | None) -> tuple[datetime, bool, str]:
    is_stored = stored is not None and snapshot.content_hash in (
        stored.content_hash,
        stored.equal_hash,
    )
    return snapshot.modified_at or _NEVER, is_stored, snapshot.content_hash
