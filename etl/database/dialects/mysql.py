"""MariaDB and MySQL: the driver joins rows into statements, which have a greatest length."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from secrets import token_hex
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Select,
    Table,
    create_engine,
    func,
    literal_column,
    text,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from etl.config.database_url import driver_parameters, without_tls
from etl.database.cursor import driver_cursor
from etl.database.dialects import READ_ONLY, Comments, Row, galera, lookup
from etl.database.dialects.bounded import (
    ANSWER_TIMEOUT_S,
    LOGIN_TIMEOUT_S,
    LONG_ANSWER_TIMEOUT_S,
    bound_waits,
)
from etl.database.dialects.bounded_pymysql import BoundedConnection
from etl.database.dialects.login_hints import NOT_IN_CLUSTER, Code
from etl.database.dialects.servers import (
    IDLE_TIMEOUT_S,
    KEPT_LOCKED,
    LOCK_TIMEOUT_S,
    Server,
    without_values,
)
from etl.errors import StoreError
from etl.files import PRIVATE
from etl.library_faults import said_of

_KEY_TAKEN = 1062  # by another source first; the repeated transaction then sees it
_DEADLOCK, _LOCK_TIMEOUT, _NOWAIT, _OPTION_PREVENTS = 1213, 1205, 3572, 1290
_NO_PARTITION, _TOO_LONG = 1526, 1406
_TIME_LIMITS = {1969, 3024}  # of a statement, on MariaDB and MySQL
_LAST_ABOUT_FILES = 1030
# Tables, columns, users, settings, and what somebody's trigger says on purpose (1644).
_QUOTE_NAMES = {
    1036, 1044, 1045, 1046, 1047, 1048, 1049, 1050, 1051, 1054, 1060, 1061, 1068, 1071, 1072,
    1091, 1109, 1114, 1118, 1129, 1130, 1142, 1143, 1146, 1171, 1180, 1193, 1205, 1213, 1226,
    1227, 1231, 1238, 1264, 1265, 1273, 1283, 1286, 1290, 1305, 1347, 1356, 1364, 1370, 1406,
    1449, 1451, 1452, 1524, 1644, 1665, 1698, 1792, 1820, 1832, 1846, 1862, 1927, 1969,
}  # fmt: skip
_FIRST_OF_DRIVER = 2000  # and the newer ones of the servers, which quote no values
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
# What a session would take from the server's own settings or its init_connect, and what changes the
# meaning of our statements. Safe updates refuse them, a limit hides rows, a chained commit ends
# nothing, and Alembic's table names no engine. DEFAULT would be what the server is set to.
_PINNED = {
    "sql_mode": "STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION",
    "default_storage_engine": "InnoDB",
    "completion_type": "NO_CHAIN",
    "sql_auto_is_null": 0,
    "sql_big_selects": 1,  # without it max_join_size would count
    "sql_quote_show_create": 1,  # SQLAlchemy reads what SHOW CREATE TABLE says
    "sql_safe_updates": 0,
    "sql_select_limit": 2**64 - 1,
    "max_sort_length": 1024,
    "unique_checks": 1,
    "net_write_timeout": LONG_ANSWER_TIMEOUT_S,  # a reader of an export may be slow
    "lock_wait_timeout": LOCK_TIMEOUT_S,  # for a table that another session has in use
    "innodb_lock_wait_timeout": LOCK_TIMEOUT_S,
}
_PINNED_ON_MARIADB = {
    "idle_transaction_timeout": IDLE_TIMEOUT_S,
    "idle_readonly_transaction_timeout": 0,  # set, they would go first
    "idle_write_transaction_timeout": 0,
    "tx_read_only": 0,
}
_PINNED_ON_MYSQL = {"transaction_read_only": 0}
# By the driver or SQLAlchemy.
_ALSO_SET = {
    "autocommit": 0,
    "character_set_client": "utf8mb4",
    "character_set_connection": "utf8mb4",
    "character_set_results": "utf8mb4",
}
_HINTS = {
    "BINLOG_FORMAT": (
        "a run needs the isolation level READ COMMITTED, and this binary log refuses its writes: "
        "set binlog_format of the server to ROW or MIXED, also in its configuration"
    ),
    "read-only": READ_ONLY,
    "WSREP has not yet prepared": NOT_IN_CLUSTER,
}
_SHORTER_SOURCE = (
    "give datadog.source a shorter name: the pages of this server (innodb_page_size) are small"
)
# Keys have at most 768 bytes on pages of 4 KiB, 1536 of 8 KiB: four for each character.
_KEY_LENGTHS = {
    4096: {"id": 190, "snapshot_id": 190, "source": 64, "application_id": 128}
    | {"name": 96, "kind": 32},
    8192: {"source": 128, "name": 224, "kind": 32},
}
_LENGTH = text(
    "SELECT character_maximum_length FROM information_schema.columns"
    " WHERE table_schema = DATABASE() AND table_name = :table AND column_name = :name"
)
_FULL = {1021, 1114}  # the disk; the table, which InnoDB says of a disk, too
_NO_ROOM = re.compile(r"(?:errno|errcode|error)\W+(?:28|122)\b", re.IGNORECASE)  # or no quota
_LOCK_WAITS = ("lock_wait_timeout", "innodb_lock_wait_timeout")
_FITS_ALWAYS = 200_000  # characters; the smallest packet in use holds a megabyte
# MySQL refuses a name of more than 64 characters, which a database alone may have.
_UPGRADE = "CONCAT('heatmap-etl upgrade ', MD5(DATABASE()))"
_STATEMENT = 65_536  # bytes around the values


class Mysql(Server):
    """Both servers; SQLAlchemy knows their differences from the exact URL."""

    family = "mysql"
    clean_up = "OPTIMIZE TABLE"
    repeatable = frozenset({_DEADLOCK, _LOCK_TIMEOUT, 1020, _KEY_TAKEN})
    lock_timeouts = frozenset({_LOCK_TIMEOUT, _NOWAIT})
    denied = frozenset({1044, 1142, 1143, 1227, 1370})
    no_such_table = 1146
    now = func.utc_timestamp(6)
    read_only = literal_column("@@global.read_only")
    try_upgrade_lock = f"SELECT GET_LOCK({_UPGRADE}, 0)"

    def make_engine(
        self,
        url: str,
        schema_name: str | None,  # noqa: ARG002
        file_mode: int = PRIVATE,  # noqa: ARG002
    ) -> Engine:
        # Given as text, the driver would send it as Latin-1: a password set as UTF-8 would fail.
        password = make_url(url).password
        given = driver_parameters(url)
        ours = {
            "connect_timeout": LOGIN_TIMEOUT_S,
            "write_timeout": given.get("read_timeout", ANSWER_TIMEOUT_S),
            "charset": "utf8mb4",
            **({"password": str(password).encode()} if password else {}),
            "init_command": _init_command(),
        }
        engine = create_engine(
            without_tls(url),
            isolation_level="READ COMMITTED",
            pool_pre_ping=True,
            connect_args=ours | given,
        )
        bound_waits(engine, BoundedConnection, given)
        return engine

    def exact_url(self, url: str, connect: Callable[[], AbstractContextManager[Connection]]) -> str:
        """mariadb:// where a MariaDB answers at a mysql:// URL: its tables have other options."""
        if not url.startswith("mysql"):
            return url
        with connect() as connection:
            is_mariadb = getattr(connection.dialect, "is_mariadb", False)
        return url.replace("mysql", "mariadb", 1) if is_mariadb else url

    def tell(self, error: BaseException) -> str:
        """Keeps only names of what is in quotes: most errors of the server quote values."""
        message, number = super().tell(error), self.code(error)
        if number == _NO_PARTITION:
            return "Table has no partition for this value"
        if number is None or number in _QUOTE_NAMES:
            return message
        if not _LAST_ABOUT_FILES < int(number) < _FIRST_OF_DRIVER:
            return message
        # A key or column is named at the end, after the value.
        named = re.search(r" for (?:key|column) '[^']+'( at row \d+)?$", message)
        start = named.start() if named else len(message)
        return without_values(message[:start]) + message[start:]

    def code(self, error: BaseException | None) -> Code | None:
        if error is None or isinstance(error, OSError) or not error.args:
            return None
        return error.args[0] if isinstance(error.args[0], int) else None

    def is_deadlock(self, error: DBAPIError) -> bool:
        return self.code(error.orig) == _DEADLOCK

    def is_locked(self, connection: Connection, query: Select[Any]) -> bool:
        # A refusal does not end the transaction. MySQL refuses a login that may only read.
        try:
            connection.execute(query.with_for_update(nowait=True)).all()
        except DBAPIError as error:
            if error.connection_invalidated:
                raise
            return self.is_lock_timeout(error)
        connection.exec_driver_sql("ROLLBACK")  # else who takes the lease would wait for us
        return False

    def is_full(self, error: BaseException) -> bool:
        return self.code(error) in _FULL or bool(_NO_ROOM.search(said_of(error)))

    def limit_hint(self, error: BaseException) -> str:
        code = self.code(error)
        if code == _LOCK_TIMEOUT:
            return KEPT_LOCKED.format("SHOW FULL PROCESSLIST")
        if code in _TIME_LIMITS:
            return "raise max_statement_time (max_execution_time on MySQL) of this login"
        # The setting is no longer than the key is on a large page.
        is_source = code == _TOO_LONG and "'source'" in said_of(error)
        return _SHORTER_SOURCE if is_source else ""

    def hint_on_failure(self, message: str) -> str:
        return next((hint for word, hint in _HINTS.items() if word in message), "")

    def is_read_only(self, connection: Connection) -> bool:
        """Tried where the server is set so: some users may write even then."""
        if not super().is_read_only(connection):
            return False
        try:
            connection.exec_driver_sql(_NEEDED_TO_MIGRATE[0].format("heatmap_etl_read_only"))
        except DBAPIError as error:
            if error.connection_invalidated:
                raise
            return self.code(error.orig) == _OPTION_PREVENTS
        return False

    def spoilt_settings(self, connection: Connection, schema_name: str | None) -> list[str]:  # noqa: ARG002
        is_mariadb = getattr(connection.dialect, "is_mariadb", False)
        expected: dict[str, object] = {
            **_PINNED,
            **(_PINNED_ON_MARIADB if is_mariadb else _PINNED_ON_MYSQL),
            **_ALSO_SET,
            "tx_isolation" if is_mariadb else "transaction_isolation": "READ-COMMITTED",
        }
        names = ", ".join(f"@@SESSION.{name}" for name in expected)
        found = connection.exec_driver_sql(f"SELECT {names}").one()
        return [
            f"{name} is {now}, not {wanted}"
            for (name, wanted), now in zip(expected.items(), found, strict=True)
            if str(now).lower() != str(wanted).lower()
        ]

    def place(self, connection: Connection, message: str) -> str:  # noqa: ARG002
        data, temporary = connection.exec_driver_sql("SELECT @@datadir, @@tmpdir").one()
        return f"the disk of the database server (data in {data}, temporary files in {temporary})"

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

    def lock_upgrade(self, connection: Connection, label: str) -> bool:
        if not super().lock_upgrade(connection, label):
            return False
        return not galera.is_cluster(connection) or galera.lock_upgrade(connection, label)

    def is_upgrading(self, connection: Connection) -> bool:
        if connection.exec_driver_sql(f"SELECT IS_FREE_LOCK({_UPGRADE}) = 0").scalar():
            return True
        return galera.is_cluster(connection) and galera.is_upgrading(connection)

    def unlock_upgrade(self, connection: Connection) -> None:
        if galera.is_cluster(connection):
            galera.unlock_upgrade(connection)
        with driver_cursor(connection, begins=False) as cursor:
            cursor.execute(f"DO RELEASE_LOCK({_UPGRADE})")

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

    def insert_new(self, connection: Connection, table: Table, rows: Sequence[Row]) -> None:
        """A key that is taken is an error: ON DUPLICATE KEY would also replace the row that has an
        equal value in a unique index of somebody else."""
        self._insert(connection, table, rows)

    def upsert(self, connection: Connection, table: Table, rows: Sequence[Row]) -> None:
        names = table.columns.keys()[1:]
        assign = ", ".join(f"{name} = VALUES({name})" for name in names)
        self._insert(connection, table, rows, f" ON DUPLICATE KEY UPDATE {assign}")

    def _insert(
        self, connection: Connection, table: Table, rows: Sequence[Row], on_duplicate: str = ""
    ) -> None:
        """The driver joins the rows into statements of at most a megabyte."""
        self.require_room(connection, rows)
        names = table.columns.keys()
        with driver_cursor(connection) as cursor:
            cursor.executemany(
                f"INSERT INTO {table.name} ({', '.join(names)})"  # noqa: S608
                f" VALUES ({', '.join(['%s'] * len(names))}){on_duplicate}",
                rows,
            )

    def wait_briefly(self, connection: Connection, seconds: int) -> None:
        connection.detach()  # closed when it is given back: nobody else waits as briefly
        connection.exec_driver_sql(f"SET {_assigned(dict.fromkeys(_LOCK_WAITS, seconds))}")

    def read_comments(
        self,
        connection: Connection,
        tables: Collection[str],
        views: Collection[str],  # noqa: ARG002
    ) -> Comments:
        from etl.database.dialects import mysql_comments

        return mysql_comments.read(connection, tables)

    def write_comments(
        self,
        connection: Connection,
        comments: Comments,
        views: Collection[str],  # noqa: ARG002
    ) -> None:
        from etl.database.dialects import mysql_comments

        mysql_comments.write(connection, comments)

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


def _init_command() -> str:
    """One statement; each server takes for a comment what only the other one has."""
    on_mysql, on_mariadb = _assigned(_PINNED_ON_MYSQL), _assigned(_PINNED_ON_MARIADB)
    return f"SET /*!80000 {on_mysql}, */ {_assigned(_PINNED)} /*M!100300 , {on_mariadb} */"


def _assigned(settings: Mapping[str, object]) -> str:
    texts = {n: f"'{v}'" if isinstance(v, str) else v for n, v in settings.items()}
    return ", ".join(f"SESSION {name} = {value}" for name, value in texts.items())
