"""What is stored, as the decision over one listing asks for it. Reads only."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

from sqlalchemy import Column, Connection, Select, bindparam, select

from etl.database.batches import batches
from etl.database.cursor import driver_cursor
from etl.database.dialects import dialect_of
from etl.database.schema import snapshots
from etl.extract.partition import Proof
from etl.ledger.view_state import read_view_state
from etl.load.changeset import StoredId, StoredIds
from etl.load.rejects import open_rejects
from etl.load.versions import Owner, StoredRow
from etl.transform.snapshot import CONTENT, Decoded


class Lookup(Protocol):
    """Where the decision looks up what is stored: the tables or, in a dry run, a plan of them."""

    def ids(self, owner: Owner, listed: Collection[str]) -> StoredIds:
        """Every live row of the view, and every stored row of a listed id."""

    def rows(self, ids: Sequence[str]) -> dict[str, StoredRow]:
        """Rows by id, with their content."""

    def covered(self, view_key: str, proof: Proof) -> set[str]:
        """Ids of live rows of the view that a proven part of its listing would have held."""

    def has_same_rejects(self, owner: Owner, decoded: Decoded) -> bool:
        """Whether the last reading of the view had the same rejects, each as often."""

    def longest_id(self) -> int:
        """How many characters of an id the tables hold."""


@dataclass(frozen=True, slots=True)
class Tables:
    """The tables, through a connection of one transaction."""

    connection: Connection

    def ids(self, owner: Owner, listed: Collection[str]) -> StoredIds:
        """As `Lookup.ids`; first the rows of the view, then the listed ids not among them."""
        dialect = dialect_of(self.connection)
        with driver_cursor(self.connection) as cursor:
            plain, rest = dialect.read_live(cursor, owner.view_key, owner.source)
            others = {
                identifier: StoredId(content_hash, owner.view_key, source, False, bool(is_missing))
                for identifier, content_hash, source, is_missing in rest
            }
            unread = {i for i in listed if i not in plain and i not in others}
            for batch in batches(sorted(unread), dialect.ids_at_once):
                for row in dialect.read_ids(cursor, batch):
                    others[row[0]] = StoredId(row[1], row[2], row[3], bool(row[4]))
        return StoredIds(plain, others)

    def rows(self, ids: Sequence[str]) -> dict[str, StoredRow]:
        """As `Lookup.rows`."""
        end = 1 + len(CONTENT)
        return {
            row[0]: StoredRow(tuple(row[1:end]), *row[end:])
            for batch in batches(ids)
            for row in self.connection.execute(_selecting_rows(), {"ids": batch})
        }

    def covered(self, view_key: str, proof: Proof) -> set[str]:
        """As `Lookup.covered`."""
        s = snapshots.c
        query = select(s.id, s.application_id, s.device_type).where(
            s.view_key == view_key, s.removed_at.is_(None)
        )
        rows = self.connection.execute(query)
        return {row.id for row in rows if proof.covers(row.application_id, row.device_type)}

    def has_same_rejects(self, owner: Owner, decoded: Decoded) -> bool:
        """A record whose id cannot be read may be any row of the view, and so may one more copy
        of it."""
        state = read_view_state(self.connection, owner.view_key)
        last_hashes = open_rejects(self.connection, owner)
        hashes = {reject.raw_hash for reject in decoded.rejected}
        if state is None or not hashes <= last_hashes:
            return False
        last_copies: int = state.rejected - len(last_hashes)
        return len(decoded.rejected) - len(hashes) <= last_copies

    def longest_id(self) -> int:
        """As `Lookup.longest_id`."""
        return dialect_of(self.connection).length_of(self.connection, snapshots.c.id)


# Built once: to build it takes longer than to execute it.
HAS_BOUND_ID = snapshots.c.id.in_(bindparam("ids", expanding=True))
"""Rows of the bound `ids`, which `batches` makes few enough."""


@cache
def _selecting_rows() -> Select[Any]:
    s = snapshots.c
    versioning = (s.first_seen_at, s.version, s.began, s.changed_columns, s.valid_from)
    columns = (s.id, *(s[name] for name in CONTENT), *versioning, s.removed_at, s.content_hash)
    return select(*columns).where(HAS_BOUND_ID)


def read_names(connection: Connection, view_key: str) -> set[str]:
    """The view names that the rows of a view have, removed ones included."""
    s = snapshots.c
    query = select(s.view_name).where(s.view_key == view_key, s.view_name.is_not(None)).distinct()
    return set(connection.execute(query).scalars())


def read_parts(connection: Connection, source: str) -> tuple[set[str | None], set[str | None]]:
    """Applications and device types of the stored rows of a source; None: rows without one."""

    def distinct(column: Column[Any]) -> set[str | None]:
        query = select(column).where(snapshots.c.source == source).distinct()
        return set(connection.execute(query).scalars())

    return distinct(snapshots.c.application_id), distinct(snapshots.c.device_type)
