"""The queries that look up stored snapshots, as far as the dialects share them.

They use the driver's own cursor: there are as many ids and hashes as snapshots, and nearly all are
only compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

EXCEPTION = "id, content_hash, source, missing_since IS NOT NULL"
OF_VIEW = "FROM snapshots WHERE view_key = {mark} AND removed_at IS NULL"
BY_ID = "id, content_hash, view_key, source, removed_at IS NOT NULL"
OF_IDS = "FROM snapshots WHERE id IN ({ids})"

_IS_PLAIN = "source = {mark} AND missing_since IS NULL"
_hashes = msgspec.json.Decoder(dict[str, str | None])


def live_as_json(
    cursor: Any, view_key: str, source: str, *, mark: str, to_object: str
) -> tuple[dict[str, str], Sequence[Any]]:
    """As `Dialect.read_live`, with all hashes as one JSON text: objects per row take longer.

    The rows that need more than a hash have null in it, and are read again: they are few. `mark`:
    the driver's mark of a parameter; `to_object`: the function that aggregates to a JSON object.
    """
    of_view, is_plain = OF_VIEW.format(mark=mark), _IS_PLAIN.format(mark=mark)
    content_hash = f"CASE WHEN {is_plain} THEN content_hash END"
    query = f"SELECT CAST({to_object}(id, {content_hash}) AS text) {of_view}"
    ((text,),) = fetched(cursor, query, (source, view_key))
    hashes: dict[str, Any] = _hashes.decode(text or "{}")
    if None not in hashes.values():
        return hashes, ()
    query = f"SELECT {EXCEPTION} {of_view} AND NOT ({is_plain})"
    exceptions = fetched(cursor, query, (view_key, source))
    return {key: value for key, value in hashes.items() if value is not None}, exceptions


def fetched(cursor: Any, query: str, parameters: Sequence[Any]) -> Sequence[Any]:
    """All rows of a query."""
    cursor.execute(query, parameters)
    rows: Sequence[Any] = cursor.fetchall()
    return rows


def as_json(ids: Sequence[str]) -> str:
    """Ids as one parameter, a JSON array that the database unpacks."""
    return msgspec.json.encode(ids).decode()
