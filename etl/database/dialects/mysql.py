"""MariaDB and MySQL: the driver joins rows into statements, which have a greatest length."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from secrets import token_hex
from typing import Any

from sqlalchemy import Column, Connection, Engine, Table, create_engine, func, literal_column, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from etl.database.cursor import driver_cursor
from etl.database.dialects import Row, galera, lookup
from etl.database.dialects.servers import (
    IDLE_TIMEOUT_S,
    LOCK_TIMEOUT_S,
    NOT_IN_CLUSTER,
    Server,
)
from etl.errors import StoreError

_DEADLOCK = 1213
_REPEATABLE = {_DEADLOCK, 1205, 1020}
_NO_SUCH_TABLE = 1146
_DENIED = {1044, 1142, 1143, 1227, 1370}
# Each needs a right that a migration needs, which the servers look at first; with it, each fails:
# a table of that name does not exist, and none can have one column twice. For what would succeed
# could not be rolled back.
_NEEDED_TO_MIGRATE = (
    "CREATE TABLE {} (id INTEGER, id INTEGER)",
    "ALTER TABLE {} ADD COLUMN other INTEGER",
    "CREATE INDEX other ON {} (id)",
    "CREATE VIEW {} AS SELECT 1 AS id, 2 AS id",
    "DROP TABLE {}",
    "INSERT INTO {} (id) VALUES (1)",
    "UPDATE {} SET id = 1",
)
# Keys have at most 768 bytes on pages of 4 KiB, 1536 of 8 KiB: four for each character.
_KEY_LENGTHS = {
    4096: {"id": 190, "snapshot_id": 190, "source": 64, "application_id": 128}
    | {"name": 96, "kind": 32},
    8192: {"source": 128, "name": 224, "kind": 32},
}
_HINTS = {
    "Data too long for column": (
        "give it a shorter name: the pages of this server (innodb_page_size) are small"
    ),
    "WSREP has not yet prepared": NOT_IN_CLUSTER,
}
_LENGTH = text(
    "SELECT character_maximum_length FROM information_schema.columns"
    " WHERE table_schema = DATABASE() AND table_name = :table AND column_name = :name"
)
_FULL = {1021, 1114}  # the disk; the table, which InnoDB says of a disk, too
_NO_ROOM = re.compile(r"(?:errno|errcode|error)\W+(?:28|122)\b", re.IGNORECASE)  # or no quota
_FITS_ALWAYS = 200_000  # characters; the smallest packet in use holds a megabyte
_STATEMENT = 65_536  # bytes around the values


class Mysql(Server):
    """Both servers; SQLAlchemy knows their differences from the exact URL."""

    family = "mysql"
    clean_up = "OPTIMIZE TABLE"
    now = func.utc_timestamp(6)
    read_only = literal_column("@@global.read_only")

    def make_engine(self, url: str, schema_name: str | None) -> Engine:  # noqa: ARG002
        # Given as text, the driver would send it as Latin-1: a password set as UTF-8 would fail.
        password = make_url(url).password
        return create_engine(
            url,
            isolation_level="READ COMMITTED",
            pool_pre_ping=True,
            connect_args={
                "connect_timeout": 10,
                "charset": "utf8mb4",
                **({"password": str(password).encode()} if password else {}),
                "init_command": (
                    "SET SESSION sql_mode = 'STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION',"
                    f" SESSION innodb_lock_wait_timeout = {LOCK_TIMEOUT_S}"
                    # A comment to all but MariaDB: MySQL 8 has no such variable.
                    f" /*M!100300 , SESSION idle_transaction_timeout = {IDLE_TIMEOUT_S} */"
                ),
            },
        )

    def exact_url(self, url: str, connect: Callable[[], AbstractContextManager[Connection]]) -> str:
        """mariadb:// where a MariaDB answers at a mysql:// URL: its tables have other options."""
        if not url.startswith("mysql"):
            return url
        with connect() as connection:
            is_mariadb = getattr(connection.dialect, "is_mariadb", False)
        return url.replace("mysql", "mariadb", 1) if is_mariadb else url

    def is_repeatable(self, error: DBAPIError) -> bool:
        return _number(error) in _REPEATABLE

    def is_deadlock(self, error: DBAPIError) -> bool:
        return _number(error) == _DEADLOCK

    def is_full(self, error: BaseException) -> bool:
        number = error.args[0] if error.args else None
        return number in _FULL or bool(_NO_ROOM.search(str(error)))

    def limit_hint(self, error: BaseException) -> str:  # noqa: ARG002
        return ""

    def place(self, connection: Connection, message: str) -> str:  # noqa: ARG002
        data, temporary = connection.exec_driver_sql("SELECT @@datadir, @@tmpdir").one()
        return f"the disk of the database server (data in {data}, temporary files in {temporary})"

    def hint_on_failure(self, message: str) -> str:
        return next((hint for start, hint in _HINTS.items() if message.startswith(start)), "")

    def is_missing_table(self, error: DBAPIError) -> bool:
        return _number(error) == _NO_SUCH_TABLE

    def is_denied(self, error: DBAPIError) -> bool:
        return _number(error) in _DENIED

    def try_to_create(self, connection: Connection, schema_name: str | None) -> None:  # noqa: ARG002
        name = f"heatmap_etl_{token_hex(8)}"
        for statement in _NEEDED_TO_MIGRATE:
            try:
                connection.exec_driver_sql(statement.format(name))
            except DBAPIError as error:
                if self.is_denied(error) or error.connection_invalidated:
                    raise

    def key_lengths(self, connection: Connection) -> Mapping[str, int]:
        size = connection.exec_driver_sql("SELECT @@innodb_page_size").scalar_one()
        return _KEY_LENGTHS.get(size, {})

    def length_of(self, connection: Connection, column: Column[Any]) -> int:
        query = _LENGTH.bindparams(table=column.table.name, name=column.name)
        length: int = connection.execute(query).scalar_one()
        return length

    def lock_upgrade(self, connection: Connection) -> bool:
        # MySQL refuses a name of more than 64 characters, which a database alone may have.
        name = "CONCAT('heatmap-etl upgrade ', MD5(DATABASE()))"
        if connection.exec_driver_sql(f"SELECT GET_LOCK({name}, 600)").scalar() != 1:
            return False
        return not galera.is_cluster(connection) or galera.lock_upgrade(connection)

    def unlock_upgrade(self, connection: Connection) -> None:
        if galera.is_cluster(connection):
            galera.unlock_upgrade(connection)

    def is_cluster(self, connection: Connection) -> bool:
        return galera.is_cluster(connection)

    def read_live(
        self, cursor: Any, view_key: str, source: str
    ) -> tuple[dict[str, str], Sequence[Row]]:
        query = f"SELECT {lookup.EXCEPTION} {lookup.OF_VIEW.format(mark='%s')}"
        rows = lookup.fetched(cursor, query, (view_key,))
        hashes = {row[0]: row[1] for row in rows if row[2] == source and not row[3]}
        return hashes, [row for row in rows if row[0] not in hashes]

    def read_ids(self, cursor: Any, ids: Sequence[str]) -> Sequence[Row]:
        of_ids = lookup.OF_IDS.format(ids=", ".join(["%s"] * len(ids)))
        return lookup.fetched(cursor, f"SELECT {lookup.BY_ID} {of_ids}", ids)

    def upsert(self, connection: Connection, table: Table, rows: Sequence[Row]) -> None:
        """The driver joins the rows into statements of at most a megabyte."""
        self.require_room(connection, rows)
        names = table.columns.keys()
        assign = ", ".join(f"{name} = VALUES({name})" for name in names[1:])
        with driver_cursor(connection) as cursor:
            cursor.executemany(
                f"INSERT INTO {table.name} ({', '.join(names)})"  # noqa: S608
                f" VALUES ({', '.join(['%s'] * len(names))})"
                f" ON DUPLICATE KEY UPDATE {assign}",
                rows,
            )

    def wait_briefly(self, connection: Connection, seconds: int) -> None:
        connection.exec_driver_sql(
            f"SET SESSION innodb_lock_wait_timeout = {seconds}, lock_wait_timeout = {seconds}"
        )

    def require_room(self, connection: Connection, rows: Iterable[Row]) -> None:
        """Both servers answer a statement longer than `max_allowed_packet` by hanging up.

        A lost connection would end the run; this error fails one view, and says why.
        """
        long = [
            row for row in rows if sum(len(v) for v in row if isinstance(v, str)) > _FITS_ALWAYS
        ]
        if not long:
            return
        limit = connection.exec_driver_sql("SELECT @@max_allowed_packet").scalar_one()
        driver: Any = connection.connection.dbapi_connection
        size = max(
            sum(len(driver.escape(value).encode()) for value in row if isinstance(value, str))
            for row in long
        )
        if size + _STATEMENT > limit:
            raise StoreError(
                f"a record of {size:,} bytes is too long for the database: raise"
                f" max_allowed_packet of the server, which is {limit:,}"
            )


def _number(error: DBAPIError) -> object:
    cause = error.orig
    return cause.args[0] if cause is not None and cause.args else None
