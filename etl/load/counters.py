"""Counts of what was found again, in statements for many rows at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, update

from etl.database.batches import batches


def add_counts(
    connection: Connection,
    table: Table,
    mine: ColumnElement[bool],
    key: ColumnElement[str],
    more: Mapping[str, int],
    values: Mapping[str, Any],
) -> None:
    """Add `more[key]` to the count of each row of `mine`, and set `values` in it.

    One statement for many of the same number.
    """
    keys: defaultdict[int, list[str]] = defaultdict(list)
    for name in sorted(more):
        keys[more[name]].append(name)
    for number, names in sorted(keys.items()):
        for batch in batches(names):
            counted = {**values, "count": table.c["count"] + number}
            connection.execute(update(table).where(mine, key.in_(batch)).values(counted))
