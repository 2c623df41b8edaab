"""Rows that are written to be read back and rolled back, and what it means where they differ.

They hold what databases are known to lose: microseconds, integers beyond 2^53, characters of four
bytes, quotes, trailing spaces, the spelling of JSON, the length of texts, NULL apart from "".
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

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

INSTANT = datetime(2024, 3, 31, 1, 30, 0, 123456, tzinfo=UTC)
"""In an hour that clocks leave out in many zones."""
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
_LONG = 70_000  # characters: more than MariaDB's TEXT holds
_SNAPSHOTS = 120  # few: each may take a number of a sequence and time of a trigger of others
_SIMILAR = ("a", "A", "a ", "á")


def row_for(table: Table, source: str, token: str) -> dict[str, Any]:
    """A value for every column; each column of the key has `token`, but for the source."""
    return {column.name: _value(column, source, token) for column in table.columns}


def _value(column: Column[Any], source: str, token: str) -> Any:
    if column.name == "source":
        return source
    length = getattr(column.type, "length", None)
    if column.primary_key or (length and length < len(_TEXT)):
        return token[:length]
    return _VALUES.get(type(column.type), _TEXT)


def text_column(table: Table) -> Column[Any]:
    """One that holds any text, and is neither a key nor the source."""
    others = [c for c in table.columns if c.name not in {"source", *_keys(table)}]
    return next(column for column in others if isinstance(column.type, (String, LongText)))


def is_throw_away(table: Table, source: str, token: str) -> ColumnElement[bool]:
    """Finds the row of `row_for`, or the first snapshot; by the key, whose index serves it."""
    keys = _keys(table)
    if list(keys) == ["source"]:
        return keys["source"] == token
    return and_(*(c == (source if name == "source" else token) for name, c in keys.items()))


def has_token(table: Table, token: str) -> ColumnElement[bool]:
    """Finds every row that was made with the token, in a slow way."""
    *_, last = _keys(table).values()
    return last.startswith(token)


def _keys(table: Table) -> dict[str, Column[Any]]:
    """The columns of text in the key."""
    return {c.name: c for c in table.primary_key.columns if isinstance(c.type, String)}


def snapshots_for(token: str, name: str) -> list[Snapshot]:
    """Many called `name`, and before them those that hold what databases lose.

    The first, whose id is `token`, has a value in every column.
    """
    full = {column: _value(snapshots.c[column], "", token) for column in CONTENT}
    none = dict.fromkeys(CONTENT)
    contents: dict[str, dict[str, Any]] = {
        token: full,
        f"{token} none": none,
        f"{token} empty": {**none, "snapshot_name": ""},
        f"{token} long": {**none, "snapshot_name": name.ljust(_LONG, "-")},
    }
    many = range(_SNAPSHOTS - len(contents))
    contents |= {f"{token} {n}": {**none, "snapshot_name": name} for n in many}
    return [
        with_hash(key, list(content.values())[:-1], content["extra"])
        for key, content in contents.items()
    ]


def similar_snapshots(token: str) -> list[Snapshot]:
    """Those whose ids a collation may take for one."""
    content = [None] * (len(CONTENT) - 1)
    return [with_hash(f"{token} {end}", content, None) for end in _SIMILAR]


def difference(table: Table, written: Sequence[Row], found: Sequence[Row]) -> str:
    """What came back otherwise than it was written, by the first column; "" for nothing."""
    stored = {row[0]: row for row in found}
    missing = {row[0] for row in written} - stored.keys()
    if missing:
        return f"{len(missing):,} of {len(written):,} rows are not found again in {table.name}"
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
