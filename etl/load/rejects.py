"""Load: what is not as specified -> `rejected_records` and `schema_drift`, set-wise.

In come the rejects and the drift of one listing; out go rows, written inside the
transaction that loads the view. Whether the answer is a new one is the caller's
to know: counts move with each call.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, insert, select, update

from etl.database.batches import batches
from etl.database.dialects import dialect_of
from etl.database.schema import rejected_records, schema_drift
from etl.load.versions import Owner
from etl.transform.snapshot import Drift, Rejected

MAX_UNKNOWN_NAMES = 10_000
"""Names of one source in `schema_drift`: a server that invents names must not fill a disk."""
OTHER_NAMES = "…"

_MAX_NAME = 255
_MAX_EXAMPLE = 500


def open_rejects(connection: Connection, owner: Owner) -> set[str]:
    """Hashes of the rejects that stood in the view's last reading."""
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
    """Insert what is new, count what was there before, resolve what is gone."""
    r = rejected_records.c
    mine = (r.source == owner.source) & (r.view_key == owner.view_key)
    query = select(r.raw_hash, r.resolved_at.is_(None).label("is_open")).where(mine)
    known = {row.raw_hash: bool(row.is_open) for row in connection.execute(query)}
    times = Counter(reject.raw_hash for reject in rejected)
    gone = sorted(key for key, is_open in known.items() if is_open and key not in times)
    for batch in batches(gone):
        this = update(rejected_records).where(mine, r.raw_hash.in_(batch))
        connection.execute(this.values(resolved_at=read_at))
    again = {key: count for key, count in times.items() if key in known}
    values = {"last_seen_at": read_at, "resolved_at": None}
    _add(connection, rejected_records, mine, r.raw_hash, again, values)
    new = {reject.raw_hash: reject for reject in rejected if reject.raw_hash not in known}
    dialect_of(connection).require_room(connection, [(reject.raw,) for reject in new.values()])
    place = {"source": owner.source, "view_key": owner.view_key, "first_seen_at": read_at}
    rows = [
        {"raw_hash": key, "reason": reject.reason, "raw": reject.raw, "count": times[key]}
        for key, reject in sorted(new.items())
    ]
    if rows:
        connection.execute(insert(rejected_records), [{**row, **place, **values} for row in rows])


def save_drift(
    connection: Connection, source: str, drift: Mapping[Drift, tuple[int, str]], read_at: datetime
) -> None:
    """Count each name and kind; keep one example of what is new."""
    if not drift:
        return
    d = schema_drift.c
    query = select(d.name, d.kind).where(d.source == source)
    known = {Drift(row.name, row.kind) for row in connection.execute(query)}
    found = _storable(drift, known)
    values = {"last_seen_at": read_at}
    for kind in sorted({key.kind for key in found.keys() & known}):
        mine = (d.source == source) & (d.kind == kind)
        again = {key.name: found[key][0] for key in found.keys() & known if key.kind == kind}
        _add(connection, schema_drift, mine, d.name, again, values)
    rows = [
        {"name": key.name, "kind": key.kind, "count": count, "example": example[:_MAX_EXAMPLE]}
        for key, (count, example) in sorted(found.items())
        if key not in known
    ]
    place = {"source": source, "first_seen_at": read_at}
    if rows:
        connection.execute(insert(schema_drift), [{**row, **place, **values} for row in rows])


def _add(
    connection: Connection,
    table: Table,
    mine: ColumnElement[bool],
    key: ColumnElement[str],
    more: Mapping[str, int],
    values: Mapping[str, Any],
) -> None:
    """Add `more[key]` to the count of each row: one statement for many of the same number."""
    keys: defaultdict[int, list[str]] = defaultdict(list)
    for name in sorted(more):
        keys[more[name]].append(name)
    for number, names in sorted(keys.items()):
        for batch in batches(names):
            counted = {**values, "count": table.c["count"] + number}
            connection.execute(update(table).where(mine, key.in_(batch)).values(counted))


def _storable(
    drift: Mapping[Drift, tuple[int, str]], known: set[Drift]
) -> dict[Drift, tuple[int, str]]:
    """`drift` under names that the table can hold; those that become equal are counted together."""
    room = MAX_UNKNOWN_NAMES - len(known)
    found: dict[Drift, tuple[int, str]] = {}
    for (name, kind), (count, example) in sorted(drift.items()):
        key = Drift(_storable_name(name), kind)
        if key not in known and key not in found:
            if room <= 0 and kind.startswith("unknown"):
                key = Drift(OTHER_NAMES, kind)
            room -= 1
        before, first = found.get(key, (0, example))
        found[key] = (before + count, first)
    return found


def _storable_name(name: str) -> str:
    """An attribute's name may be anything; a key column holds clean text of limited length."""
    clean = name.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
    return clean if len(clean) <= _MAX_NAME else clean[: _MAX_NAME - 1] + "…"
