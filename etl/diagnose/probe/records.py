"""What received records show about the API, without any of their values. Pure.

Only counts, types, formats and the names of members.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from etl.transform.fields import READERS, instant
from etl.transform.lenient_json import Constant, Number, Value

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_DATE = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.(\d+))?(Z|z|[+-]\d\d(?::?\d\d)?)?")
_EARLIEST = datetime.min.replace(tzinfo=UTC)
_FEWEST_FOR_ORDER = 3
_MOST_DIGITS = 20


def attributes_of(record: Value) -> dict[str, Value]:
    """The attributes of a record; empty where it has none."""
    attributes = record.get("attributes") if isinstance(record, dict) else None
    return attributes if isinstance(attributes, dict) else {}


def id_of(record: Value) -> str:
    identifier = record.get("id") if isinstance(record, dict) else None
    return str(identifier) if isinstance(identifier, str) else ""


def ids_of(records: Sequence[Value]) -> list[str]:
    """In the order of the answer."""
    return [id_of(record) for record in records]


def kind_of(value: Value) -> str:
    """The JSON type."""
    kinds: tuple[tuple[Any, str], ...] = (
        (Number, "number"),
        (Constant, "no JSON"),
        (str, "string"),
        (bool, "boolean"),
        (list, "array"),
        (dict, "object"),
    )
    return next((kind for type_, kind in kinds if isinstance(value, type_)), "null")


def count_kinds(records: Sequence[Value]) -> dict[str, dict[str, int]]:
    """How often each specified attribute had which JSON type, or was absent."""
    attributes = [attributes_of(record) for record in records]
    counts = {
        name: Counter(kind_of(a[name]) if name in a else "absent" for a in attributes)
        for name in READERS
    }
    counts["id"] = Counter(
        kind_of(r["id"]) if isinstance(r, dict) and "id" in r else "absent" for r in records
    )
    return {name: dict(sorted(c.items())) for name, c in sorted(counts.items())}


def unknown_names(records: Sequence[Value]) -> tuple[set[str], set[str]]:
    """Attributes, and members beside them, that the specification of a snapshot does not name."""
    inner = {name for r in records for name in attributes_of(r)} - set(READERS)
    members = {name for r in records if isinstance(r, dict) for name in r}
    return inner, members - {"id", "type", "attributes"}


def uuid_count(records: Sequence[Value]) -> int:
    """How many ids have the shape of a UUID."""
    return sum(bool(_UUID.fullmatch(identifier)) for identifier in ids_of(records))


def date_forms(records: Sequence[Value]) -> dict[str, dict[str, int]]:
    """How often each instant came in which format."""
    attributes = [attributes_of(record) for record in records]
    return {
        name: dict(sorted(Counter(date_form(a[name]) for a in attributes if name in a).items()))
        for name in ("created_at", "modified_at")
    }


def date_form(value: Value) -> str:
    """`6 digits Z`."""
    if not isinstance(value, str):
        return kind_of(value)
    if re.fullmatch(r"[0-9]+", value):
        return f"{kind_of(value)} of {_few(len(value))} digits"
    match = _DATE.fullmatch(value)
    if isinstance(value, Number | Constant) or not match:
        return f"another {kind_of(value)}"
    zones = {"": "no zone", "Z": "Z", "+00:00": "+00:00"}
    zone = zones.get((match[2] or "").upper(), "another offset")
    return f"{_few(len(match[1] or ''))} digits {zone}"


def _few(digits: int) -> str:
    return str(digits) if digits <= _MOST_DIGITS else f"more than {_MOST_DIGITS}"


def orders(records: Sequence[Value]) -> dict[str, str]:
    """By which members the answer is sorted, and how; empty with too few records to tell."""
    if len(records) < _FEWEST_FOR_ORDER:
        return {}
    keys: dict[str, list[Any]] = {"id": ids_of(records)}
    for name in ("created_at", "modified_at"):
        values = [attributes_of(record).get(name) for record in records]
        keys[name] = [instant(value).value or _EARLIEST for value in values]
    return {name: _order(values) for name, values in sorted(keys.items())}


def _order(values: Sequence[Any]) -> str:
    rises = all(a <= b for a, b in pairwise(values))
    falls = all(a >= b for a, b in pairwise(values))
    if rises and falls:
        return "all equal"
    return "ascending" if rises else "descending" if falls else "unsorted"


def texts_in(value: Value) -> list[str]:
    """Every text and number at any depth: values that a report must not repeat."""
    if isinstance(value, str):
        return [value]
    inner: list[Value] = []
    if isinstance(value, list):
        inner = value
    elif isinstance(value, dict):
        inner = list(value.values())
    return [text for item in inner for text in texts_in(item)]
