"""Rows of every table with what is hard to copy: long, odd and missing values of each type."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Boolean, Column, Double, Integer, String, Table
from sqlalchemy.types import TypeEngine

from etl.database.dialects.types import JsonText, LongText, UtcDateTime
from etl.database.schema import metadata
from etl.transform.snapshot import NORMALIZER_VERSION

SOURCES = ("datadoghq.com", "Ünï ☃ 🧊", "datadoghq.com ", "DATADOGHQ.COM")
TEXTS = (
    "", " ", "a", "A", "ä", "a\u0308", "a ", "a\t", "\ttab\r\nline\\n", "🧊🇫🇮", "\U0001d54f",
    "\u200b", "\uffff",
    "'; DROP TABLE snapshots; --", '"%s" %(x)s ?1 :name {}', "NULL", "\\N", "\\.", "\x7f\x01\x1f",
    "x" * 100_000,
)  # fmt: skip
JSON = (
    "{}", "null", '{"a": 1.0, "a": 1e400}', '{"nul": "\\u0000", "lone": "\\ud800", "b":[ 1,2 ]}',
    '{"big": 123456789012345678901234567890}', '"\\ud83e\\uddca \\/"', "[" * 50 + "]" * 50,
    '{"text": "' + "y" * 70_000 + '"}',
)  # fmt: skip
INTEGERS = (0, 1, -1, 2**31, 2**63 - 1, -(2**63), 10**17 + 1)
DOUBLES = (0.0, 0.1, -1e-300, 1.7976931348623157e308, 1 / 3, 123456789.123456789, -0.5, 5e-324)
INSTANTS = (
    datetime(2026, 11, 1, 9, 0, 0, 0, UTC),
    datetime(2026, 3, 29, 1, 30, 0, 1, UTC),
    datetime(1970, 1, 1, tzinfo=UTC),
    datetime(1969, 12, 31, 23, 59, 59, 999999, UTC),
    datetime(1000, 1, 1, 0, 0, 0, 100000, UTC),
    datetime(9999, 12, 31, 23, 59, 59, 999999, UTC),
)
_BY_TYPE: tuple[tuple[type[TypeEngine[Any]], tuple[Any, ...]], ...] = (
    (UtcDateTime, INSTANTS),
    (JsonText, JSON),
    (LongText, TEXTS),
    (String, TEXTS),
    (Boolean, (True, False)),
    (Double, DOUBLES),
    (Integer, INTEGERS),
)
_KEYS = (
    "a", "A", "a ", "Z", "b", "ä", "é", "e\u0301", "🧊", "\uffff", "_", "-", "~", "0", "00",
    "1", " ", "B-", "b_",
    "ÿ" * 255, "🧊" * 255, "z" * 255,
)  # fmt: skip


def fill(connection: Any, rows: int) -> None:
    """So many rows in each table, by SQLAlchemy's own INSERT; of `sources` and its kin, fewer."""
    for table in metadata.sorted_tables:
        connection.execute(table.insert(), list(rows_of(table, rows)))


def rows_of(table: Table, rows: int) -> Iterator[dict[str, Any]]:
    number = len(SOURCES) if table.name == "sources" else rows
    for n in range(number):
        yield {column.name: _value(column, n, i) for i, column in enumerate(table.columns)}


def _value(column: Column[Any], n: int, place: int) -> Any:
    fixed = {"source": SOURCES[n % len(SOURCES)], "normalizer_version": NORMALIZER_VERSION}
    is_missing = column.nullable and (n + place) % 5 == 0
    if is_missing or column.name.startswith("lease_"):
        return None
    if column.name in fixed:
        return fixed[column.name]
    if type(column.type) is Integer:
        return n + 1
    if column.primary_key:
        return _key(column, n)
    values = next(found for kind, found in _BY_TYPE if isinstance(column.type, kind))
    value = values[(n + place) % len(values)]
    if isinstance(value, datetime) and value.year == 2026:
        return value + timedelta(microseconds=n)
    length = getattr(column.type, "length", None)
    return value[:length] if length else value


def _key(column: Column[Any], n: int) -> str:
    length = column.type.length  # type: ignore[attr-defined]
    text = _KEYS[n % len(_KEYS)]
    turn = n // len(_KEYS)
    ending = f"~{turn}" if turn else ""
    return f"{text[: length - len(ending)]}{ending}"
