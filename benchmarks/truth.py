"""Whether a table holds exactly what was served: all ids, and all fifteen attributes."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

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


@cache
def served(size: Size, stage: int) -> tuple[int, str, str]:
    """How many records, a digest of their ids, and one of all they hold."""
    rows = [
        (record["id"], *(record["attributes"][name] for name in ATTRIBUTES))
        for number in range(size.views)
        for record in json.loads(size.body(number, stage))["data"]
    ]
    return digests(rows)


def digests(rows: Iterable[Sequence[Any]]) -> tuple[int, str, str]:
    ids, lines = [], []
    for row in rows:
        values = list(row)
        for index in INSTANTS:
            values[index] = _instant(values[index])
        values[FLAG] = bool(values[FLAG])
        ids.append(values[0])
        lines.append(json.dumps(values))
    return len(ids), _digest(ids), _digest(lines)


def _digest(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:16]


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
    found = digests(databases.rows(url, f"SELECT id, {columns} FROM snapshots {where}"))
    expected = served(size, stage)
    if found != expected:
        raise WrongContent(f"found {found}, served were {expected}")


def require_ids(databases: Databases, url: str, table: str, size: Size) -> None:
    """Raises `WrongContent` when these are not the ids that were served, each once."""
    ids = [row[0] for row in databases.rows(url, f"SELECT id FROM {table}")]
    expected = served(size, 0)[:2]
    if (len(ids), _digest(ids)) != expected:
        raise WrongContent(f"{table} has {len(ids)} ids, served were {expected[0]} others")
