"""Rows of `snapshots` on their way into the table."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from operator import itemgetter

from sqlalchemy import Connection

from etl.database.dialects import dialect_of
from etl.database.schema import snapshots
from etl.load.versions import Row


class PendingRows:
    """Rows of several views that wait to be written together, at the end.

    A statement costs more than a row, and the run waits for the end of each.
    """

    def __init__(self) -> None:
        self._new: list[Row] = []
        self._replacing: list[Row] = []
        self._ids: set[str] = set()
        self._former_owners: set[str] = set()

    def add(
        self, new: Sequence[Row], replacing: Sequence[Row], former_owners: Collection[str] = ()
    ) -> None:
        """New rows, and rows that replace stored ones; none of their ids waits already.

        `former_owners` are the keys of views that some of the rows are taken from.
        """
        self._new += new
        self._replacing += replacing
        self._ids.update(row[0] for row in (*new, *replacing))
        self._former_owners.update(former_owners)

    def touches(self, view_key: str, ids: Collection[str]) -> bool:
        """Whether a view that lists these ids would find other rows once these are written."""
        return view_key in self._former_owners or not self._ids.isdisjoint(ids)

    def write(self, connection: Connection) -> None:
        """Write them all; none waits then."""
        insert_new(connection, self._new)
        upsert(connection, self._replacing)
        self._new, self._replacing = [], []
        self._ids, self._former_owners = set(), set()


def insert_new(connection: Connection, rows: Sequence[Row]) -> None:
    """Write rows whose ids were not in the table at the decision.

    Where another source has inserted such an id since, some databases raise: then the transaction
    is repeated from the decision.
    """
    if rows:
        dialect_of(connection).insert_new(connection, snapshots, _in_order(rows))


def upsert(connection: Connection, rows: Sequence[Row]) -> None:
    """Insert each row, or replace the row of its id; `rows` holds no id twice."""
    if rows:
        dialect_of(connection).upsert(connection, snapshots, _in_order(rows))


def _in_order(rows: Sequence[Row]) -> Sequence[Row]:
    """By id, so that two writers never deadlock."""
    return sorted(rows, key=itemgetter(0))
