"""What is stored of snapshots, in the words that the dialects share.

By the driver's own cursor: ids and hashes are as many as there are snapshots, and nearly all
of them are only compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

ODD = "id, content_hash, source, missing_since IS NOT NULL"
OF_VIEW = "FROM snapshots WHERE view_key = {mark} AND removed_at IS NULL"
BY_ID = "id, content_hash, view_key, source, removed_at IS NOT NULL"
OF_IDS = "FROM snapshots WHERE id IN ({ids})"

_IS_PLAIN = "source = {mark} AND missing_since IS NULL"
_hashes = msgspec.json.Decoder(dict[str, str | None])


def live_as_json(
    cursor: Any, view_key: str, source: str, *, mark: str, to_object: str
) -> tuple[dict[str, str], Sequence[Any]]:
    """All hashes as one text: to make objects of each row in the driver takes longer.

    Rows that are odd stand in it without a hash, and are read again: they are few. `mark`
    stands for a parameter, `to_object` aggregates keys and values to JSON.
    """
    of_view, is_plain = OF_VIEW.format(mark=mark), _IS_PLAIN.format(mark=mark)
    content_hash = f"CASE WHEN {is_plain} THEN content_hash END"
    query = f"SELECT CAST({to_object}(id, {content_hash}) AS text) {of_view}"
    ((text,),) = fetched(cursor, query, (source, view_key))
    hashes: dict[str, Any] = _hashes.decode(text or "{}")
    if None not in hashes.values():
        return hashes, ()
    query = f"SELECT {ODD} {of_view} AND NOT ({is_plain})"
    odd = fetched(cursor, query, (view_key, source))
    return {key: value for key, value in hashes.items() if value is not None}, odd


def fetched(cursor: Any, query: str, parameters: Sequence[Any]) -> Sequence[Any]:
    """All rows of a query."""
    cursor.execute(query, parameters)
    rows: Sequence[Any] = cursor.fetchall()
    return rows


def as_json(ids: Sequence[str]) -> str:
    """Ids as the one parameter that the database takes apart."""
    return msgspec.json.encode(ids).decode()
