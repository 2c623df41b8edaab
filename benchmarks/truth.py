"""Whether a table holds exactly what was served: all ids, and all fifteen attributes."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

import msgspec

from benchmarks.data import Size
from benchmarks.databases import Databases

ATTRIBUTES = (
    *("application_id", "created_at", "created_by", "created_by_handle", "created_by_user_id"),
    *("device_type", "event_id", "is_device_type_selected_by_user", "modified_at", "org_id"),
    *("session_id", "snapshot_name", "start", "view_id", "view_name"),
)
INSTANTS = [1 + ATTRIBUTES.index(name) for name in ("created_at", "modified_at")]
FLAG = 1 + ATTRIBUTES.index("is_device_type_selected_by_user")


class WrongContent(Exception):
    """The tables do not hold what was served."""


@dataclass(frozen=True, slots=True)
class Content:
    """How many rows, and sums of hashes: of their ids, and of all they hold. Order is no matter."""

    rows: int
    ids: str
    all: str


@cache
def served(size: Size, stage: int) -> Content:
    """What the API answers at this stage."""
    return content(
        (record["id"], *(record["attributes"][name] for name in ATTRIBUTES))
        for number in range(size.views)
        for record in msgspec.json.decode(size.body(number, stage))["data"]
    )


def content(rows: Iterable[Sequence[Any]]) -> Content:
    count = ids = everything = 0
    for row in rows:
        values = list(row)
        for index in INSTANTS:
            values[index] = _instant(values[index])
        values[FLAG] = bool(values[FLAG])
        count += 1
        ids += _hash(values[0].encode())
        everything += _hash(msgspec.json.encode(values))
    return Content(count, f"{ids:x}"[-16:], f"{everything:x}"[-16:])


def _hash(value: bytes) -> int:
    return int.from_bytes(hashlib.sha256(value).digest()[:16])


def _instant(value: str | datetime | None) -> str | None:
    """UTC to the microsecond; databases without zones hold UTC."""
    if value is None:
        return None
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    value = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    return value.isoformat(timespec="microseconds")


def require_content(
    databases: Databases, url: str, size: Size, stage: int, *, start: str = "start", where: str = ""
) -> None:
    """Raises `WrongContent`. `start`: the column's name; `where`: which rows are meant."""
    columns = ", ".join(start if name == "start" else name for name in ATTRIBUTES)
    found = content(databases.stream(url, f"SELECT id, {columns} FROM snapshots {where}"))
    if found != (expected := served(size, stage)):
        raise WrongContent(f"found {found}, served was {expected}")


def require_ids(databases: Databases, url: str, table: str, size: Size) -> None:
    """Raises `WrongContent` when these are not the ids that were served, each once."""
    ids = [row[0] for row in databases.stream(url, f"SELECT id FROM {table}")]
    total = f"{sum(_hash(i.encode()) for i in ids):x}"[-16:]
    expected = served(size, 0)
    if (len(ids), total) != (expected.rows, expected.ids):
        raise WrongContent(f"{table} has {len(ids)} ids, served were {expected.rows}")
