"""An oracle of its own: is what a record held still there, in row and `extra` or in the reject?

Written from the documents alone, with Python's own JSON and dates. Numbers become what they
are spelled like, so that 1, 1.0 and "1" differ.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from tests.support.strategies import ATTRIBUTES, INSTANTS, INTEGERS

CONSTANTS = ("NaN", "Infinity", "-Infinity")


def number(spelled: str) -> tuple[str, str]:
    return ("number", spelled)


def constant(spelled: str) -> tuple[str, str]:
    return ("constant", spelled)


def read(raw: bytes) -> Any:
    """JSON as a server may send it; a byte that is no UTF-8 becomes a surrogate."""
    return json.loads(
        raw.decode("utf-8", "surrogateescape"),
        strict=False,
        parse_int=number,
        parse_float=number,
        parse_constant=constant,
        object_pairs_hook=_members_of,
    )


class Twice(dict[str, Any]):
    """An object that gives a key twice."""


def _members_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    return members if len(members) == len(pairs) else Twice(members)


def gives_a_key_twice(value: Any, depth: int = 3) -> bool:
    """`depth`: how deep it stands in the answer; what is deeper than 64 is kept as text."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return depth <= 64 and (
        isinstance(value, Twice) or any(gives_a_key_twice(item, depth + 1) for item in inner)
    )


def strict(text: str) -> Any:
    """JSON as we write it: ASCII, and nothing that a database would refuse."""

    def refuse(spelled: str) -> None:
        raise AssertionError(spelled)

    assert text.isascii()
    return json.loads(text, parse_int=number, parse_float=number, parse_constant=refuse)


def unwrapped(value: Any) -> Any:
    """Our JSON without our wrappers: what was received."""
    if isinstance(value, list):
        return [unwrapped(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"$literal"}:
        text = value["$literal"]
        return (
            constant(text) if text in CONSTANTS else read(text.encode("utf-8", "surrogateescape"))
        )
    assert all(name[:1] != "$" or name[:2] == "$$" for name in value), value
    return {name.removeprefix("$"): unwrapped(item) for name, item in value.items()}


def can_be_a_row(record: Any) -> bool:
    """Whether its id is text of 1 to 255 characters without NUL and lone surrogates.

    And no key is given twice: readers differ in which value counts.
    """
    if gives_a_key_twice(record):
        return False
    identifier = record.get("id") if isinstance(record, dict) else None
    if not isinstance(identifier, str) or not 1 <= len(identifier) <= 255:
        return False
    return "\0" not in identifier and not any("\ud800" <= c <= "\udfff" for c in identifier)


def assert_reject_keeps(raw: str, record: Any) -> None:
    assert unwrapped(strict(raw)) == record


def assert_row_keeps(row: Mapping[str, Any], record: dict[str, Any]) -> None:
    """`row` holds typed values, instants as aware datetimes."""
    extra = strict(row["extra"]) if row["extra"] is not None else {}
    beside = unwrapped(extra.pop("$top", {}))
    back = {"id": row["id"], "type": "snapshots", "attributes": {}, **beside}
    assert _members(back) == _members(record)
    received = record.get("attributes")
    if not isinstance(received, dict):
        received = {}
        assert "attributes" in beside
    unspelled = unwrapped(extra)
    for name, value in _not_null(received).items():
        if name in unspelled:
            assert unspelled.pop(name) == value
        else:
            assert name in ATTRIBUTES, name
            assert _says(name, row[_column(name)], value), (name, row[_column(name)], value)
    assert unspelled == {}
    for name in ATTRIBUTES:
        if received.get(name) is None:
            assert row[_column(name)] is None, name


def _members(record: Mapping[str, Any]) -> dict[str, Any]:
    members = _not_null(record)
    if isinstance(members.get("attributes"), dict):
        del members["attributes"]
    return members


def _not_null(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


def _column(name: str) -> str:
    return {"start": "start_ms"}.get(name, name)


def _says(name: str, held: Any, received: Any) -> bool:
    """Whether the column alone says what was received, up to its spelling."""
    if name in INTEGERS:
        spelled = received[1] if isinstance(received, tuple) else received
        return type(held) is int and spelled.removeprefix("-").isdigit() and int(spelled) == held
    if name in INSTANTS:
        return isinstance(held, datetime) and _is_same_instant(held, received)
    return type(held) is type(received) and bool(held == received)


def _is_same_instant(held: datetime, received: str) -> bool:
    digits = received.partition(".")[2]
    digits = digits[: len(digits) - len(digits.lstrip("0123456789"))]
    meant = datetime.fromisoformat(received.upper())
    return not digits[6:].strip("0") and meant.tzinfo is not None and meant.astimezone(UTC) == held
