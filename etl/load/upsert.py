"""Rows of `snapshots` on their way into the table."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from operator import itemgetter

from sqlalchemy import Connection

from etl.database.dialects import dialect_of
from etl.database.schema import snapshots
from etl.load.versions import Row


class Outgoing:
    """Rows of several views on their way into the table, written together at the end.

    A statement costs more than a row, and whoever waits for its end cannot work meanwhile.
    """

    def __init__(self) -> None:
        self._new: list[Row] = []
        self._again: list[Row] = []
        self._ids: set[str] = set()
        self._losing: set[str] = set()

    def add(self, new: Sequence[Row], again: Sequence[Row], losing: Collection[str] = ()) -> None:
        """New rows, and rows to replace; `losing` are the views that some of these are taken from.

        None of their ids is on its way already.
        """
        self._new += new
        self._again += again
        self._ids.update(row[0] for row in (*new, *again))
        self._losing.update(losing)

    def touches(self, view_key: str, ids: Collection[str]) -> bool:
        """Whether a view that lists these ids would find its rows, or theirs, otherwise."""
        return view_key in self._losing or not self._ids.isdisjoint(ids)

    def write(self, connection: Connection) -> None:
        """Write them; nothing is on its way then."""
        insert_new(connection, self._new)
        upsert(connection, self._again)
        self._new, self._again = [], []
        self._ids, self._losing = set(), set()


def insert_new(connection: Connection, rows: Sequence[Row]) -> None:
    """Write rows whose ids nobody had when they were decided on; else as `upsert`.

    An id that another source took in the meantime may be an error: then the transaction is
    repeated, from the decision.
    """
    if rows:
        dialect_of(connection).insert_new(connection, snapshots, _in_order(rows))


def upsert(connection: Connection, rows: Sequence[Row]) -> None:
    """Insert each row, or replace all of it where its id is there already; no id stands twice."""
    if rows:
        dialect_of(connection).upsert(connection, snapshots, _in_order(rows))


def _in_order(rows: Sequence[Row]) -> Sequence[Row]:
    """By id, so that two writers never deadlock."""
    return sorted(rows, key=itemgetter(0))
