"""Adds to the `count` of many rows at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, update

from etl.database.batches import batches


def add_counts(
    connection: Connection,
    table: Table,
    among: ColumnElement[bool],
    key: ColumnElement[str],
    more: Mapping[str, int],
    values: Mapping[str, Any],
) -> None:
    """Add `more[key]` to the count of the row with that key, and set `values` in it.

    `among`: which rows of the table the keys belong to. Rows that get the same number share a
    statement.
    """
    keys: defaultdict[int, list[str]] = defaultdict(list)
    for name in sorted(more):
        keys[more[name]].append(name)
    for number, names in sorted(keys.items()):
        for batch in batches(names):
            counted = {**values, "count": table.c["count"] + number}
            connection.execute(update(table).where(among, key.in_(batch)).values(counted))
