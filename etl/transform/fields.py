"""One leniently parsed attribute (numbers still text) -> the value of its typed column. Pure.

Nothing here raises.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

from etl.transform.lenient_json import Constant, Number, Value

MAX_ID = 255
FINER = "finer than microseconds"
"""A kind of drift: more digits than the column holds."""
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_INSTANT = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ](?:[01]\d|2[0-3]):\d\d:\d\d(?:\.(\d+))?(Z|z|[+-]\d\d(?::?[0-5]\d)?)?",
    re.ASCII,
)
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,18})")
_EPOCH_DIGITS = {10: 1_000_000, 13: 1_000}  # digits -> microseconds per unit

S = TypeVar("S")
Scalar: TypeAlias = "str | int | bool | datetime | None"


class Read(NamedTuple, Generic[S]):
    """A typed value; None: the attribute is missing, null, or not of the type.

    `kind`: the kind of schema drift, "" for none. `is_exact`: the value says all that was received;
    else `extra` must keep it.
    """

    value: S | None
    kind: str = ""
    is_exact: bool = True


def text(value: Value) -> Read[str]:
    if value is None:
        return Read(None)
    if not isinstance(value, str) or isinstance(value, Number | Constant):
        return Read(None, "wrong type", is_exact=False)
    if not is_storable(value):
        return Read(None, "NUL or lone surrogate", is_exact=False)
    return Read(value)


def identifier(value: Value) -> Read[str]:
    """Text that the database indexes: PostgreSQL refuses long ones."""
    read = text(value)
    if read.value is not None and len(read.value) > MAX_ID:
        return Read(None, "too long", is_exact=False)
    return read


def integer(value: Value) -> Read[int]:
    if value is None:
        return Read(None)
    if isinstance(value, Constant) or not isinstance(value, str):
        return Read(None, "wrong type", is_exact=False)
    if _INTEGER.fullmatch(value) and INT64_MIN <= int(value) <= INT64_MAX:
        return Read(int(value), "" if isinstance(value, Number) else "text for integer")
    if not isinstance(value, Number):
        return Read(None, "wrong type", is_exact=False)
    if value.lstrip("-").isdigit():
        return Read(None, "out of range", is_exact=False)
    return Read(_whole(value), "float for integer", is_exact=False)


def _whole(text: str) -> int | None:
    """12.0 and 1e3 as integers; None for 12.5, and for 1e400, which must not be spelled out."""
    try:
        number = Decimal(text)
        if number.adjusted() > len(str(INT64_MAX)) or number % 1:
            return None
    except ArithmeticError:
        return None
    return int(number) if INT64_MIN <= number <= INT64_MAX else None


def boolean(value: Value) -> Read[bool]:
    if value is None or isinstance(value, bool):
        return Read(value)
    return Read(None, "wrong type", is_exact=False)


def instant(value: Value) -> Read[datetime]:
    if value is None:
        return Read(None)
    if isinstance(value, Constant) or not isinstance(value, str):
        return Read(None, "wrong type", is_exact=False)
    if value.isascii() and value.isdigit():
        return Read(_epoch(value), "epoch for timestamp", is_exact=False)
    match = _INSTANT.fullmatch(value)
    if isinstance(value, Number) or not match:
        return Read(None, "unreadable timestamp", is_exact=False)
    return _iso_instant(value, fraction=match[1] or "", zone=match[2] or "")


def _iso_instant(text: str, *, fraction: str, zone: str) -> Read[datetime]:
    try:
        instant = datetime.fromisoformat(text.upper())
        instant = instant.astimezone(UTC) if zone else instant.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return Read(None, "unreadable timestamp", is_exact=False)
    if not zone:
        # Every sibling endpoint that leaves the zone out means UTC; `extra` says it was a guess.
        return Read(instant, "timestamp without zone", is_exact=False)
    if fraction[6:].strip("0"):
        return Read(instant, FINER, is_exact=False)
    return Read(instant)


def _epoch(digits: str) -> datetime | None:
    """Seconds or milliseconds by the number of digits: endpoints of Datadog send either."""
    unit = _EPOCH_DIGITS.get(len(digits))
    return _EPOCH + timedelta(microseconds=int(digits) * unit) if unit else None


def is_storable(text: str) -> bool:
    if text.isascii():
        return "\0" not in text
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


READERS: dict[str, Callable[[Value], Read[Any]]] = {
    "application_id": identifier,
    "created_at": instant,
    "created_by": text,
    "created_by_handle": text,
    "created_by_user_id": integer,
    "device_type": text,
    "event_id": text,
    "is_device_type_selected_by_user": boolean,
    "modified_at": instant,
    "org_id": integer,
    "session_id": text,
    "snapshot_name": text,
    "start": integer,
    "view_id": text,
    "view_name": text,
}
