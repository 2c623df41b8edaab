"""Records that could not become rows -> `rejected_records`, inside the view's transaction.

Each call adds to the counts, so it is called for an answer that is new only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, insert, select, update

from etl.database.batches import batches
from etl.database.dialects import dialect_of
from etl.database.schema import rejected_records
from etl.load.counters import add_counts
from etl.load.versions import Owner
from etl.transform.snapshot import Rejected


def open_rejects(connection: Connection, owner: Owner) -> set[str]:
    """Hashes of the rejects of the view's last reading."""
    r = rejected_records.c
    query = select(r.raw_hash).where(
        r.source == owner.source, r.view_key == owner.view_key, r.resolved_at.is_(None)
    )
    return set(connection.execute(query).scalars())


def save_rejects(
    connection: Connection,
    owner: Owner,
    rejected: Sequence[Rejected],
    read_at: datetime,
) -> None:
    """Insert new rejects, count known ones again, and resolve those that are gone."""
    r = rejected_records.c
    of_view = (r.source == owner.source) & (r.view_key == owner.view_key)
    query = select(r.raw_hash, r.resolved_at.is_(None).label("is_open")).where(of_view)
    known = {row.raw_hash: bool(row.is_open) for row in connection.execute(query)}
    times = Counter(reject.raw_hash for reject in rejected)
    gone = sorted(key for key, is_open in known.items() if is_open and key not in times)
    for batch in batches(gone):
        resolved = update(rejected_records).where(of_view, r.raw_hash.in_(batch))
        connection.execute(resolved.values(resolved_at=read_at))
    repeated = {key: count for key, count in times.items() if key in known}
    values = {"last_seen_at": read_at, "resolved_at": None}
    add_counts(connection, rejected_records, of_view, r.raw_hash, repeated, values)
    new = {reject.raw_hash: reject for reject in rejected if reject.raw_hash not in known}
    dialect_of(connection).require_room(connection, [(reject.raw,) for reject in new.values()])
    common = {"source": owner.source, "view_key": owner.view_key, "first_seen_at": read_at}
    rows = [
        {"raw_hash": key, "reason": reject.reason, "raw": reject.raw, "count": times[key]}
        for key, reject in sorted(new.items())
    ]
    if rows:
        connection.execute(insert(rejected_records), [{**row, **common, **values} for row in rows])
