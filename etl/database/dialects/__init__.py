"""What differs from one kind of database to the next, behind one interface.

The module of a kind is loaded when a database of that kind is opened, and no other: each
brings SQLAlchemy's dialect and a driver with it.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Protocol

from sqlalchemy import URL, Connection, Engine, Table
from sqlalchemy.engine import Dialect as SqlDialect
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from etl.database.batches import BATCH

Row = Sequence[Any]


class Dialect(ABC):
    """One kind of database.

    A `connection` is inside a transaction unless another is asked for; a `cursor` is the
    driver's own, on such a connection.
    """

    family: ClassVar[str]
    """sqlite, postgresql or mysql (MariaDB and MySQL)."""

    has_schemas: ClassVar[bool] = False
    """Whether one database holds several schemas, of which the configuration names one."""

    needs_upgrade_lock: ClassVar[bool] = True
    """Whether two processes could migrate at once: a transaction alone does not keep them apart."""

    clean_up: ClassVar[str] = ""
    """What a person runs on a table to have dead rows overwritten; "" where `compact` does it."""

    ids_at_once: ClassVar[int] = BATCH
    """How many ids `read_ids` takes."""

    # --- connections ----------------------------------------------------------------------

    @abstractmethod
    def make_engine(self, url: str, schema_name: str | None) -> Engine:
        """The engine of `url` (with driver); connects to nothing.

        Its connections have the isolation, time-outs and text that the program counts on.
        Raises what SQLAlchemy and the driver raise.
        """

    def exact_url(
        self,
        url: str,
        connect: Callable[[], AbstractContextManager[Connection]],  # noqa: ARG002
    ) -> str:
        """`url` as that of the server that answers there, where it can be one of several."""
        return url

    def file(self, url: str | URL) -> Path | None:  # noqa: ARG002
        """The file that is the database; None: it is a server's."""
        return None

    def prepare_to_read(self, connection: Connection) -> Connection:
        """The connection, before its transaction, for one that only reads."""
        return connection

    def prepare_to_write(self, connection: Connection) -> None:  # noqa: B027 - few need it
        """The same for one that may write; each connection is prepared once."""

    # --- errors ---------------------------------------------------------------------------

    def brief(self, error: BaseException) -> str:
        """The driver's words on one line, without SQL, parameters and documentation links."""
        cause = getattr(error, "orig", None) or error
        words = cause.args[-1] if cause.args else cause
        return re.sub(r"\s+", " ", str(words)).strip()[:300]

    @abstractmethod
    def hint(self, said: str) -> str:
        """What to do about a database that cannot be opened, by what `brief` says of it."""

    def hint_on_failure(self, said: str) -> str:  # noqa: ARG002
        """The same for a statement that failed; "" when there is nothing to add."""
        return ""

    @abstractmethod
    def is_repeatable(self, error: DBAPIError) -> bool:
        """Whether the same transaction may work next time, as after a deadlock."""

    @abstractmethod
    def is_missing_table(self, error: DBAPIError) -> bool:
        """Whether the table is not there: a refused or broken read says nothing of it."""

    # --- server and schema ----------------------------------------------------------------

    @abstractmethod
    def clock(self, connection: Connection) -> datetime:
        """The database's own clock, aware."""

    def is_read_only(self, connection: Connection) -> bool:  # noqa: ARG002
        """Whether the server takes no writes, as a replica; of a file its rights tell."""
        return False

    def as_stored(self, name: str) -> str:
        """The name of a table as the database compares it."""
        return name

    def create_schema(self, connection: Connection, name: str | None) -> None:  # noqa: B027
        """Create the schema that the configuration names, when it is not there yet."""

    def lock_upgrade(self, connection: Connection) -> bool:  # noqa: ARG002
        """Wait for the lock of the one process that migrates; whether it was given.

        The connection commits by itself; whoever ends it gives the lock back.
        """
        return True

    def compact(self, connection: Connection) -> bool:  # noqa: ARG002
        """Write the file anew, without what was deleted; whether nothing else holds that still.

        The connection has no transaction.
        """
        return True

    # --- snapshots ------------------------------------------------------------------------

    @abstractmethod
    def read_live(
        self, cursor: Any, view_key: str, source: str
    ) -> tuple[dict[str, str], Sequence[Row]]:
        """The rows of a view that are not removed: most by content hash, the others as rows.

        By id the hashes of those that are of `source` and whose removal is not held; of the
        others id, hash, source and whether a removal is held.
        """

    @abstractmethod
    def read_ids(self, cursor: Any, ids: Sequence[str]) -> Sequence[Row]:
        """Id, hash, view key, source and whether it is removed, of each of `ids` that is stored."""

    def insert_new(self, connection: Connection, table: Table, rows: Sequence[Row]) -> None:
        """Write rows whose keys nobody had when they were decided on; else as `upsert`.

        A key that was taken in the meantime may be an error that `is_repeatable`.
        """
        self.upsert(connection, table, rows)

    @abstractmethod
    def upsert(self, connection: Connection, table: Table, rows: Sequence[Row]) -> None:
        """Insert each row, or replace all of it where its key (the first column) is there.

        Rows have the table's columns in order, and no key twice; there is at least one.
        """

    def require_room(self, connection: Connection, rows: Iterable[Row]) -> None:  # noqa: B027
        """Raises `StoreError` for a row that is too long for one statement."""


class _OfDialect(Protocol):
    @property
    def dialect(self) -> SqlDialect: ...


def dialect_of(known: _OfDialect) -> Dialect:
    """The dialect of a connection, an engine or an inspector."""
    return dialect_named(known.dialect.name)


def file_of(url: str) -> Path | None:
    """The file behind a database URL; None: it is a server's."""
    return dialect_named(make_url(url).get_backend_name()).file(url)


@cache
def dialect_named(name: str) -> Dialect:
    """The dialect by SQLAlchemy's name: sqlite, postgresql, mysql or mariadb."""
    if name == "sqlite":
        from etl.database.dialects.sqlite import Sqlite

        return Sqlite()
    if name == "postgresql":
        from etl.database.dialects.postgresql import Postgresql

        return Postgresql()
    if name in ("mysql", "mariadb"):
        from etl.database.dialects.mysql import Mysql

        return Mysql()
    raise ValueError(f"no dialect {name}")
