"""What differs between the kinds of databases, behind one interface.

Only the module of the kind that is opened is loaded: each imports a large dialect and driver.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeAlias

from sqlalchemy import URL, Column, ColumnElement, Connection, Engine, Select, Table
from sqlalchemy import Row as SqlRow
from sqlalchemy.engine import Dialect as SqlDialect
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from etl.database.batches import BATCH
from etl.files import PRIVATE
from etl.library_faults import said_of

Row = Sequence[Any]
Comments: TypeAlias = "dict[str, dict[str, str]]"
"""By table or view, then by column; \"\" is the table or view itself."""

FITS_EVERYWHERE = 96
"""Characters that an id, or the name of an attribute, may have on every database."""

MAKE_ROOM = "make room there; what is stored stays, and the next run goes on"
READ_ONLY = "it is read-only; use its primary server, or another user"
LET_WRITE = "let the user who runs heatmap-etl write the file and its folder"
CHECK_ADDRESS = "check host and port in database_url, and that the server runs"


class Dialect(ABC):
    """One kind of database.

    A `connection` is inside a transaction unless a method says otherwise; a `cursor` is the
    driver's own, on such a connection.
    """

    family: ClassVar[str]
    """sqlite, postgresql or mysql (MariaDB and MySQL)."""

    has_schemas: ClassVar[bool] = False
    """Whether one database holds several schemas, of which the configuration names one."""

    clean_up: ClassVar[str] = ""
    """The statement that removes dead rows of a table, for a person; "" where `compact` does it."""

    ids_at_once: ClassVar[int] = BATCH
    """How many ids one call of `read_ids` takes."""

    # --- connections ----------------------------------------------------------------------

    @abstractmethod
    def make_engine(self, url: str, schema_name: str | None, file_mode: int = PRIVATE) -> Engine:
        """The engine of `url` (with driver); connects to nothing.

        `file_mode`: permissions of the file, where a connection makes one.

        Its connections, or each of their transactions where a pooler may stand between, have the
        isolation level, time-outs and encoding that the program needs.
        Raises what SQLAlchemy and the driver raise.
        """

    def exact_url(
        self,
        url: str,
        connect: Callable[[], AbstractContextManager[Connection]],  # noqa: ARG002
    ) -> str:
        """`url` with the name of the server that answers there, where two kinds share a URL."""
        return url

    def file(self, url: str | URL) -> Path | None:  # noqa: ARG002
        """The database file; None: the database is on a server."""
        return None

    def prepare_to_read(self, connection: Connection) -> Connection:
        """Prepare a connection that only reads, before its transaction."""
        return connection

    def prepare_to_write(self, connection: Connection) -> None:  # noqa: B027 - few need it
        """Prepare a connection that may write, before its transaction; cheap to repeat."""

    def allow_long_answers(self, connection: Connection) -> None:  # noqa: B027
        """Wait longer for an answer, in this transaction: a statement may touch every row."""

    # --- errors ---------------------------------------------------------------------------

    def tell(self, error: BaseException) -> str:
        """What the driver says, without what rows hold: names of tables, columns, constraints."""
        return str(error.args[-1]) if error.args else said_of(error)

    def brief(self, error: BaseException) -> str:
        """The driver's message on one line, without SQL, parameters and documentation links."""
        cause = getattr(error, "orig", None) or error
        message = str(cause.args[-1]) if cause.args else said_of(cause)
        return re.sub(r"\s+", " ", message).strip()[:300]

    @abstractmethod
    def hint(self, error: BaseException, message: str) -> str:
        """What to do about a database that cannot be opened; `message`: what is said of `error`."""

    def hint_on_failure(self, message: str) -> str:  # noqa: ARG002
        """What to do about a statement that failed; "" when there is nothing to add."""
        return ""

    @abstractmethod
    def hint_on_limit(self, error: BaseException, engine: Engine) -> str:
        """What limit of the server or the disk is reached, and what to do; "" for none.

        `engine`: for what only the server knows.
        """

    @abstractmethod
    def is_repeatable(self, error: DBAPIError) -> bool:
        """Whether the same transaction may succeed next time, as after a deadlock."""

    def is_lock_timeout(self, error: DBAPIError) -> bool:  # noqa: ARG002
        """Whether another session kept a row or a table locked; always False for a file."""
        return False

    def is_no_answer(self, error: DBAPIError) -> bool:  # noqa: ARG002
        """Whether the server gave no answer in time: to ask again would take as long once more."""
        return False

    def is_deadlock(self, error: DBAPIError) -> bool:  # noqa: ARG002
        """Whether another transaction went first, where a migration can be cut short by one."""
        return False

    @abstractmethod
    def is_missing_table(self, error: DBAPIError) -> bool:
        """Whether the table does not exist; a refused or broken read does not tell."""

    def is_denied(self, error: DBAPIError) -> bool:  # noqa: ARG002
        """Whether the login has no right to the statement; always False for a file."""
        return False

    # --- server and schema ----------------------------------------------------------------

    @abstractmethod
    def clock(self, connection: Connection) -> datetime:
        """The time by the database's own clock, aware."""

    def is_locked(self, connection: Connection, query: Select[Any]) -> bool:  # noqa: ARG002
        """Whether another transaction has a row of the query locked, as far as this login may know.

        Always False for a file. To be asked in a transaction that only reads: a server may end it
        and begin the next one.
        """
        return False

    def is_read_only(self, connection: Connection) -> bool:  # noqa: ARG002
        """Whether the server takes no writes, as a replica; always False for a file."""
        return False

    def spoilt_settings(
        self,
        connection: Connection,  # noqa: ARG002
        schema_name: str | None,  # noqa: ARG002
    ) -> list[str]:
        """Settings that are not what each transaction sets them to, one short text for each.

        To be asked before `wait_briefly`, which changes one of them.
        """
        return []

    def as_stored(self, name: str) -> str:
        """The name of a table in the form in which the database compares it."""
        return name

    def create_schema(self, connection: Connection, name: str | None) -> None:  # noqa: B027
        """Create the schema that the configuration names, unless it exists."""

    def key_lengths(self, connection: Connection) -> Mapping[str, int]:  # noqa: ARG002
        """How many characters key columns may have, by name, where the server has less room."""
        return {}

    def length_of(self, connection: Connection, column: Column[Any]) -> int:  # noqa: ARG002
        """How many characters a text column of the catalogue holds in this database."""
        length: int = column.type.length  # type: ignore[attr-defined]
        return length

    def try_to_create(self, connection: Connection, schema_name: str | None) -> None:  # noqa: B027
        """Raise the server's refusal where this login may not create our tables and views.

        What it makes goes when the transaction is rolled back.
        """

    def lock_upgrade(self, connection: Connection, label: str) -> bool:  # noqa: ARG002
        """Wait for the lock of the process that migrates; returns whether it was granted.

        It may last until the transaction ends, or until `unlock_upgrade`. `label`: the database,
        for a warning while it waits.
        """
        return True

    def is_upgrading(self, connection: Connection) -> bool:  # noqa: ARG002
        """Whether another process upgrades at this moment, and may have committed some revisions.

        Always False where an upgrade is one transaction: nobody sees a part of it.
        """
        return False

    def unlock_upgrade(self, connection: Connection) -> None:  # noqa: B027
        """Release the lock, as far as the end of the transaction, which is over, did not."""

    def is_cluster(self, connection: Connection) -> bool:  # noqa: ARG002
        """Whether the database has several servers that write, each with locks of its own."""
        return False

    def compact(self, connection: Connection) -> bool:  # noqa: ARG002
        """Rewrite the file without deleted data; returns whether no deleted data is left beside it.

        The connection has no transaction.
        """
        return True

    def batches(
        self, connection: Connection, query: Select[Any], size: int
    ) -> Iterator[Sequence[SqlRow[Any]]]:
        """The rows of a query, `size` at a time, without all of them in memory."""
        with connection.execution_options(yield_per=size).execute(query) as result:
            yield from result.partitions()

    def byte_order(self, column: Column[Any]) -> ColumnElement[Any]:
        """The column, to be sorted and compared by the bytes of its text, as on every database."""
        return column

    # --- snapshots ------------------------------------------------------------------------

    @abstractmethod
    def read_live(
        self, cursor: Any, view_key: str, source: str
    ) -> tuple[dict[str, str], Sequence[Row]]:
        """The live rows of a view: content hash by id, and the rows that need more than that.

        A row needs more when it belongs to another source than `source`, or its removal is held:
        its id, content hash, source, and whether its removal is held.
        """

    @abstractmethod
    def read_ids(self, cursor: Any, ids: Sequence[str]) -> Sequence[Row]:
        """The stored rows of `ids`: id, content hash, view key, source, whether it is removed."""

    def insert_new(self, connection: Connection, table: Table, rows: Sequence[Row]) -> None:
        """Insert rows whose keys were free when the changes were decided; else as `upsert`.

        A key that was taken since may be an error for which `is_repeatable` is true.
        """
        self.upsert(connection, table, rows)

    @abstractmethod
    def upsert(self, connection: Connection, table: Table, rows: Sequence[Row]) -> None:
        """Insert each row, or replace all of it where its key is there.

        Rows have the table's columns in order, and no key twice; there is at least one.
        """

    @abstractmethod
    def wait_briefly(self, connection: Connection, seconds: int) -> None:
        """Give up waits for a lock after so many seconds, until the transaction ends or longer."""

    # --- comments -------------------------------------------------------------------------

    def read_comments(
        self,
        connection: Connection,  # noqa: ARG002
        tables: Collection[str],  # noqa: ARG002
        views: Collection[str],  # noqa: ARG002
    ) -> Comments:
        """The comments of those tables and views that are there, as far as the database has any."""
        return {}

    def write_comments(  # noqa: B027
        self, connection: Connection, comments: Comments, views: Collection[str]
    ) -> None:
        """Set those comments; `views` are the names that are no tables."""

    def check_deferred(self, connection: Connection) -> None:  # noqa: B027
        """Raise now what COMMIT would raise."""

    def require_room(self, connection: Connection, rows: Iterable[Row]) -> None:  # noqa: B027
        """Raise `StoreError` for a row that is too long for one statement."""


class _HasDialect(Protocol):
    @property
    def dialect(self) -> SqlDialect: ...


def dialect_of(owner: _HasDialect) -> Dialect:
    """The dialect of a connection, an engine or an inspector."""
    return dialect_named(owner.dialect.name)


def file_of(url: str) -> Path | None:
    """The database file of a URL; None: the database is on a server."""
    return dialect_named(make_url(url).get_backend_name()).file(url)


@cache
def dialect_named(name: str) -> Dialect:
    """The dialect by its name in SQLAlchemy: sqlite, postgresql, mysql or mariadb."""
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
