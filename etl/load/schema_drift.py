"""What is not as the API's specification says -> `schema_drift`, inside the view's transaction.

Each call adds to the counts, so it is called for an answer that is new only.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, case, insert, literal, select

from etl.database.dialects import FITS_EVERYWHERE, dialect_of
from etl.database.schema import schema_drift
from etl.formatting import shortened
from etl.load.counters import add_counts
from etl.transform.envelope import BESIDE
from etl.transform.snapshot import OTHER_NAMES, Drift

log = logging.getLogger(__name__)

MAX_UNKNOWN_NAMES = 10_000
"""Names of one source in `schema_drift`: a server that invents names must not fill a disk."""

_MAX_WARNED = 10
_MAX_EXAMPLE = 500


def save_drift(
    connection: Connection, source: str, drift: Mapping[Drift, tuple[int, str]], read_at: datetime
) -> None:
    """Count each name and kind; keep one example of what is new.

    What is new beside the records of an answer is warned of: once, as it is known then.
    """
    if not drift:
        return
    d = schema_drift.c
    query = select(d.name, d.kind).where(d.source == source)
    known = {Drift(row.name, row.kind) for row in connection.execute(query)}
    storable = _storable(drift, known, _longest_name(connection, drift))
    repeated = storable.keys() & known
    for kind in sorted({key.kind for key in repeated}):
        of_kind = (d.source == source) & (d.kind == kind)
        more = {key.name: storable[key][0] for key in repeated if key.kind == kind}
        add_counts(connection, schema_drift, of_kind, d.name, more, _widened(read_at))
    rows = [
        {"name": key.name, "kind": key.kind, "count": count, "example": example[:_MAX_EXAMPLE]}
        for key, (count, example) in sorted(storable.items())
        if key not in known
    ]
    common = {"source": source, "first_seen_at": read_at, "last_seen_at": read_at}
    if rows:
        connection.execute(insert(schema_drift), [{**row, **common} for row in rows])
    new = sorted(key.name for key in storable.keys() - known)
    beside = [name.removeprefix(BESIDE) for name in new if name.startswith(BESIDE)]
    if beside:
        log.warning(
            "%s: answers have new members beside their records: %s; see the table schema_drift",
            source,
            ", ".join(shortened(" ".join(name.split())) for name in beside[:_MAX_WARNED]),
        )


def _widened(read_at: datetime) -> dict[str, Any]:
    """First and last seen, with this reading: a view that waits for others is written after them,
    though its answer came before theirs."""
    first, last = schema_drift.c.first_seen_at, schema_drift.c.last_seen_at
    at = literal(read_at, first.type)
    return {
        "first_seen_at": case((first > at, at), else_=first),
        "last_seen_at": case((last < at, at), else_=last),
    }


def _longest_name(connection: Connection, drift: Iterable[Drift]) -> int:
    """How many characters of a name the table holds; it is asked only where one is long."""
    if all(len(_clean(key.name)) <= FITS_EVERYWHERE for key in drift):
        return FITS_EVERYWHERE
    return dialect_of(connection).length_of(connection, schema_drift.c.name)


def _storable(
    drift: Mapping[Drift, tuple[int, str]], known: set[Drift], longest: int
) -> dict[Drift, tuple[int, str]]:
    """`drift` under names that the table can hold; those that become equal are counted together."""
    room = MAX_UNKNOWN_NAMES - len(known)
    storable: dict[Drift, tuple[int, str]] = {}
    for (name, kind), (count, example) in sorted(drift.items()):
        clean = _clean(name)
        key = Drift(clean if len(clean) <= longest else clean[: longest - 1] + "…", kind)
        if key not in known and key not in storable:
            if room <= 0 and kind.startswith("unknown"):
                key = Drift(OTHER_NAMES, kind)
            room -= 1
        previous, first = storable.get(key, (0, example))
        storable[key] = (previous + count, first)
    return storable


def _clean(name: str) -> str:
    """An attribute's name may be anything; a key column holds clean text."""
    return name.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
