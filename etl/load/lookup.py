"""What is stored, as the decision over one listing asks for it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple, Protocol

from sqlalchemy import Column, Connection, select

from etl.database.schema import snapshots
from etl.extract.partition import Proof
from etl.ledger.view_state import read_view_state
from etl.load.changeset import ChangeSet, StoredId, StoredIds
from etl.load.existing import read_known, read_stored
from etl.load.rejects import open_rejects
from etl.load.versions import Owner, StoredRow, content_of
from etl.transform.snapshot import Decoded


class Lookup(Protocol):
    """Reads what is stored; writes nothing."""

    def ids(self, owner: Owner, listed: Collection[str]) -> StoredIds:
        """Every live row of the view, and every stored row of a listed id."""

    def rows(self, ids: Sequence[str]) -> dict[str, StoredRow]:
        """Rows that will be written again, by id."""

    def covered(self, view_key: str, proof: Proof) -> set[str]:
        """Live rows of the view that a proven part of its listing would have held."""

    def has_these_rejects(self, owner: Owner, decoded: Decoded) -> bool:
        """Whether the last reading of the view had the same rejects, each as often."""


class NoTables:
    """Before the schema is there, nothing is stored."""

    def ids(self, owner: Owner, listed: Collection[str]) -> StoredIds:  # noqa: ARG002
        return StoredIds()

    def rows(self, ids: Sequence[str]) -> dict[str, StoredRow]:  # noqa: ARG002
        return {}

    def covered(self, view_key: str, proof: Proof) -> set[str]:  # noqa: ARG002
        return set()

    def has_these_rejects(self, owner: Owner, decoded: Decoded) -> bool:  # noqa: ARG002
        return False


class Tables(NamedTuple):
    """The tables, through a connection of one transaction."""

    connection: Connection

    def ids(self, owner: Owner, listed: Collection[str]) -> StoredIds:
        return StoredIds(*read_known(self.connection, owner, listed))

    def rows(self, ids: Sequence[str]) -> dict[str, StoredRow]:
        return read_stored(self.connection, ids)

    def covered(self, view_key: str, proof: Proof) -> set[str]:
        s = snapshots.c
        query = select(s.id, s.application_id, s.device_type).where(
            s.view_key == view_key, s.removed_at.is_(None)
        )
        rows = self.connection.execute(query)
        return {row.id for row in rows if proof.covers(row.application_id, row.device_type)}

    def has_these_rejects(self, owner: Owner, decoded: Decoded) -> bool:
        """Behind a record whose id cannot be read may stand any row of the view, and behind one
        more of the same, too."""
        state = read_view_state(self.connection, owner.view_key)
        before = open_rejects(self.connection, owner)
        hashes = {reject.raw_hash for reject in decoded.rejected}
        repeated = len(decoded.rejected) - len(hashes)
        return state is not None and hashes <= before and repeated <= state.rejected - len(before)


class Planned:
    """What a dry run would have written by now, over all views that it has decided."""

    def __init__(self) -> None:
        self.ids: dict[str, StoredId] = {}
        self.rows: dict[str, StoredRow] = {}

    def add(self, changes: ChangeSet, owner: Owner, stored: dict[str, StoredRow]) -> None:
        """One more view is decided; `stored`: its touched rows as they are in the tables."""
        for snapshot in (*changes.new, *changes.changed, *changes.returned, *changes.moved):
            content_hash = snapshot.content_hash
            self.ids[snapshot.id] = StoredId(
                content_hash, owner.view_key, owner.source, is_removed=False
            )
            self.rows[snapshot.id] = StoredRow.planned(content_of(snapshot), content_hash)
        for identifier in changes.absence.removed:
            self.ids[identifier] = StoredId(
                stored[identifier].content_hash, owner.view_key, owner.source, is_removed=True
            )


class PlannedTables(NamedTuple):
    """The tables as they would be, had a dry run written what it planned so far.

    A view is decided once for good: whatever was planned before it is about other views.
    """

    tables: Lookup
    planned: Planned

    def ids(self, owner: Owner, listed: Collection[str]) -> StoredIds:
        stored = self.tables.ids(owner, listed)
        plain, others = dict(stored.plain), dict(stored.others)
        for identifier in self.planned.ids.keys() & {*plain, *others, *listed}:
            plain.pop(identifier, None)
            others.pop(identifier, None)
        listed_here = self.planned.ids.keys() & {*listed}
        return StoredIds(plain, others | {i: self.planned.ids[i] for i in listed_here})

    def rows(self, ids: Sequence[str]) -> dict[str, StoredRow]:
        written = {i: self.planned.rows[i] for i in ids if i in self.planned.rows}
        return self.tables.rows([i for i in ids if i not in written]) | written

    def covered(self, view_key: str, proof: Proof) -> set[str]:
        return self.tables.covered(view_key, proof) - self.planned.ids.keys()

    def has_these_rejects(self, owner: Owner, decoded: Decoded) -> bool:
        return self.tables.has_these_rejects(owner, decoded)


def read_parts(connection: Connection, source: str) -> tuple[set[str | None], set[str | None]]:
    """Applications and device types of the stored rows of a source; None: rows without one."""

    def distinct(column: Column[Any]) -> set[str | None]:
        query = select(column).where(snapshots.c.source == source).distinct()
        return set(connection.execute(query).scalars())

    return distinct(snapshots.c.application_id), distinct(snapshots.c.device_type)
