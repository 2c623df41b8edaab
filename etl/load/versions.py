"""A snapshot and what is stored of it -> the row that is written. Pure.

A row is one version of a snapshot: a slowly changing dimension of type 2.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import msgspec

from etl.transform.privacy import comparable
from etl.transform.snapshot import CONTENT, Snapshot, mark_of

_NEVER = datetime.min.replace(tzinfo=UTC)
_TICK = timedelta(microseconds=1)

Row = tuple[Any, ...]
"""A row of `snapshots` in the order of the table's columns."""


class Owner(NamedTuple):
    """The configured view that a row belongs to."""

    source: str
    view_key: str
    synced_view: str


class StoredRow(NamedTuple):
    """A stored row: its content, and which version of the snapshot it is."""

    content: tuple[Any, ...]
    first_seen_at: datetime
    version: int
    began: str
    changed_columns: str | None
    valid_from: datetime
    removed_at: datetime | None
    content_hash: str = ""


def new_rows(
    snapshots: Iterable[Snapshot], owner: Owner, *, began: str, read_at: datetime
) -> list[Row]:
    """The first row of each id; `began` is baseline or added."""
    content, version = msgspec.structs.astuple, (read_at, 1, began, None, read_at, None, None)
    return [(s.id, *owner, *content(s)[1:], *version) for s in snapshots]


def next_row(
    snapshot: Snapshot, stored: StoredRow, owner: Owner, *, began: str, read_at: datetime
) -> Row:
    """The row after a change or a return; `began` is changed or returned."""
    columns = differences(stored, snapshot) or None
    version = stored.version + 1
    return _row(snapshot, owner, stored.first_seen_at, version, began, columns, read_at)


def kept_row(snapshot: Snapshot, stored: StoredRow, owner: Owner) -> Row:
    """The same version under another owner, or with the hash of another hash version."""
    return _row(
        snapshot,
        owner,
        stored.first_seen_at,
        stored.version,
        stored.began,
        stored.changed_columns,
        stored.valid_from,
    )


def _row(
    snapshot: Snapshot,
    owner: Owner,
    first_seen_at: datetime,
    version: int,
    began: str,
    columns: str | None,
    valid_from: datetime,
) -> Row:
    identifier, *content = msgspec.structs.astuple(snapshot)
    return (
        *(identifier, *owner, *content),
        *(first_seen_at, version, began, columns, valid_from, None, None),
    )


def content_of(snapshot: Snapshot) -> tuple[Any, ...]:
    """The content columns in table order, without id and hash."""
    return msgspec.structs.astuple(snapshot)[1:-1]


def differences(stored: StoredRow, snapshot: Snapshot) -> str:
    """As `changed_columns`; under another privacy setting, columns of persons do not count."""
    before, after = stored.content, content_of(snapshot)
    marks = mark_of(stored.content_hash), mark_of(snapshot.content_hash)
    if marks[0] != marks[1]:
        before, after = comparable(before, after, marks)
    return changed_columns(before, after)


def changed_columns(before: Sequence[Any], after: Sequence[Any]) -> str:
    """Names of the content columns that differ, joined by commas."""
    pairs = zip(CONTENT, before, after, strict=True)
    return ",".join(name for name, old, new in pairs if old != new)


def reading_instant(arrived_at: datetime, touched: Iterable[datetime | None]) -> datetime:
    """`arrived_at`, raised above every instant it touches: spans never overlap."""
    latest = max((instant for instant in touched if instant is not None), default=_NEVER)
    return max(arrived_at, latest + _TICK) if latest > _NEVER else arrived_at
