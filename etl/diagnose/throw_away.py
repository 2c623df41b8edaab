"""Rows that are written to be read back and rolled back, and what it means where they differ.

They hold what databases are known to lose: microseconds, integers beyond 2^53, characters of four
bytes, quotes, trailing spaces, the spelling of JSON, the length of texts, NULL apart from "". Else
they look and refer to each other as real ones do: others may have added a CHECK or a foreign key.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Double,
    Integer,
    String,
    Table,
    and_,
)

from etl.database.dialects.types import JsonText, LongText, UtcDateTime
from etl.database.schema import snapshots
from etl.formatting import shortened
from etl.load.versions import Row
from etl.transform.snapshot import CONTENT, Snapshot, with_hash


def _last_change_of_clocks() -> datetime:
    """In an hour that clocks leave out in many zones, on the last Sunday of March."""
    now = datetime.now(UTC)
    for year in (now.year, now.year - 1):
        month_end = datetime(year, 3, 31, 1, 30, 0, 123456, tzinfo=UTC)
        instant = month_end - timedelta(days=(month_end.weekday() + 1) % 7)
        if instant < now - timedelta(days=1):
            break
    return instant


INSTANT = _last_change_of_clocks()
"""A recent one."""
_NUMBER = 2**53 + 1
_TEXT = 'O\'Neill "s" \\ %s :x a\u0301 \U0001f525  '
_JSON = '{"b": 1.10, "a": "\\ud83d\\udd25"}'
_VALUES: dict[type, Any] = {
    UtcDateTime: INSTANT,
    BigInteger: _NUMBER,
    Integer: 2**31 - 1,
    Boolean: True,
    Double: 1 / 3,
    JsonText: _JSON,
}
VIEW = "/heatmap-etl check"
_FREE = {"created_by", "error", "example", "name", "rate_limit_name", "reason", "snapshot_name"}
"""Texts that may hold anything, where they are no key."""
_REAL: dict[str, str] = {
    "created_by_handle": "heatmap-etl@example.com",
    "device_type": "desktop",
    "job": "sync",
    "started_by": "manual",
    "status": "ok",
    "synced_view": VIEW,
    "type": "browser",
    "verdict": "complete",
    "view_name": VIEW,
}
_IDS = frozenset({"application_id", "event_id", "session_id", "view_id"})
"""Real ones are UUIDs."""
_ALWAYS = frozenset({"application_id", "created_at", "device_type", "view_name"})
"""What every record has."""
_LONG = 70_000  # characters: more than MariaDB's TEXT holds
_SNAPSHOTS = 120  # few: each may take a number of a sequence and time of a trigger of others
_SIMILAR = ("a", "A", "a ", "á")


def row_for(table: Table, source: str, token: str) -> dict[str, Any]:
    """A value for every column; each column of the key has `token`, but for the source."""
    return {column.name: _value(column, source, token) for column in table.columns}


def _value(column: Column[Any], source: str, token: str) -> Any:
    if column.name == "source":
        return source
    if column.name in _IDS:
        return str(UUID(token))
    if column.name in _REAL:
        return _REAL[column.name]
    if _is_free(column):
        return _TEXT
    if isinstance(column.type, (String, LongText)):
        return token[: getattr(column.type, "length", None)]
    return _VALUES[type(column.type)]


def _is_free(column: Column[Any]) -> bool:
    return column.name in _FREE and not column.primary_key


def text_column(table: Table) -> Column[Any]:
    """One that holds any text, or the name of a view."""
    return next(c for c in table.columns if c.name == "view_name" or _is_free(c))


def is_throw_away(table: Table, source: str, token: str) -> ColumnElement[bool]:
    """Finds the row of `row_for`, or the first snapshot; by the key, whose index serves it."""
    keys = _keys(table)
    if list(keys) == ["source"]:
        return keys["source"] == token
    return and_(*(column == _value(column, source, token) for column in keys.values()))


def has_token(table: Table, source: str, token: str) -> ColumnElement[bool]:
    """Finds every row that was made with the token, in a slow way."""
    *_, last = _keys(table).values()
    return last.startswith(token if last.name == "source" else _value(last, source, token))


def _keys(table: Table) -> dict[str, Column[Any]]:
    """The columns of text in the key."""
    return {c.name: c for c in table.primary_key.columns if isinstance(c.type, String)}


def snapshots_for(token: str, name: str) -> list[Snapshot]:
    """Many called `name`, and before them those that hold what databases lose.

    The first, whose id is `token`, has a value in every column.
    """
    full = {column: _value(snapshots.c[column], "", token) for column in CONTENT}
    few = _few(token)
    contents: dict[str, dict[str, Any]] = {
        token: full,
        f"{token} none": few,
        f"{token} empty": {**few, "snapshot_name": ""},
        f"{token} long": {**few, "snapshot_name": name.ljust(_LONG, "-")},
    }
    many = range(_SNAPSHOTS - len(contents))
    contents |= {f"{token} {n}": {**few, "snapshot_name": name} for n in many}
    return [
        with_hash(key, list(content.values())[:-1], content["extra"])
        for key, content in contents.items()
    ]


def _few(token: str) -> dict[str, Any]:
    """The content of a record that has what every record has, and no more."""
    return {c: _value(snapshots.c[c], "", token) if c in _ALWAYS else None for c in CONTENT}


def similar_snapshots(token: str) -> list[Snapshot]:
    """Those whose ids a collation may take for one."""
    *content, _ = _few(token).values()
    return [with_hash(f"{token} {end}", content, None) for end in _SIMILAR]


def difference(table: Table, written: Sequence[Row], found: Sequence[Row]) -> str:
    """What came back otherwise than it was written, by the first column; "" for nothing."""
    stored = {row[0]: row for row in found}
    missing = {row[0] for row in written} - stored.keys()
    if missing:
        return f"{len(missing):,} of {len(written):,} rows are missing in {table.name}"
    differing: dict[str, str] = {}
    for row in written:
        for column, before, after in zip(table.columns, row, stored[row[0]], strict=True):
            if before != after:
                text = f"{_shown(after)} came back for {_shown(before)}"
                differing.setdefault(f"{table.name}.{column.name}", text)
    if not differing:
        return ""
    (name, text), *others = differing.items()
    also = ", ".join(other.partition(".")[2] for other, _ in others)
    return f"in {name} {text}" + f" (also in {also})" * bool(also)


def _shown(value: Any) -> str:
    return shortened(value.isoformat() if isinstance(value, datetime) else repr(value))
