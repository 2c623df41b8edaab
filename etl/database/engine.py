"""Dialect facts: how each database differs as a server, and what its errors mean.

In comes a URL with a driver; out goes a SQLAlchemy engine whose connections
have the pragmas, isolation, time-outs and text that the program counts on.
Knows nothing of our tables.
"""

from __future__ import annotations

import os
import re
import sqlite3
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Dialect, Engine, NullPool, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

CANNOT_OPEN = (SQLAlchemyError, OSError, TypeError, ValueError)
"""Drivers refuse a host or a parameter of the URL with more than their own errors."""

# 23505: another source took the same id first, which the repeated decision then knows.
_REPEATABLE_SQLSTATES = {"40001", "40P01", "55P03", "23505"}
_REPEATABLE_MYSQL = {1213, 1205, 1020}
_MYSQL_NO_SUCH_TABLE = 1146
_LOCK_TIMEOUT_S = 10
_IDLE_TIMEOUT_S = 30
_BUSY_TIMEOUT_S = 30
_SQLITE_CACHE_KIB = 8_000
_SQLITE_WAL_PAGES = 8_000
# One at rest: each has its cache, which is worth nothing once another connection has written.
_SQLITE_POOL = {"pool_size": 1}
_SQLITE_HINTS = (
    ("not a SQLite database", "name another file"),
    ("", "check that the folder exists and can be written"),
)
# In the words of PostgreSQL, then of MariaDB and MySQL. In other languages the last one stands.
_SERVER_HINTS = (
    (r"database .* does not exist|Unknown database", "create the database, or name another one"),
    (
        r"authentication failed|role .* not exist|no password supplied|Access denied .*password",
        "check user and password in database_url",
    ),
    ("Access denied for user", "let this user use the database, or name another one"),
    (
        "[Rr]efused|timed out|timeout expired|No route|resolve|Name or service",
        "check host and port in database_url, and that the server runs",
    ),
    ("", "check database_url and that the server runs"),
)


def make_engine(url: str, schema_name: str | None) -> Engine:
    """The engine of `url` (with driver); connects to nothing. Raises one of `CANNOT_OPEN`."""
    family = make_url(url).get_backend_name()
    if family == "sqlite":
        return _sqlite_engine(url)
    if family == "postgresql":
        return _postgres_engine(url, schema_name)
    return _mysql_engine(url)


def _sqlite_engine(url: str) -> Engine:
    file = Path(make_url(url).database or "")
    # `immutable` looks for no changes: what is kept of the file must not grow old.
    pool: dict[str, Any] = {"poolclass": NullPool} if is_sealed(file) else _SQLITE_POOL
    engine = create_engine(url, connect_args={"timeout": _BUSY_TIMEOUT_S}, **pool)

    @event.listens_for(engine, "do_connect")
    def connect_sealed(
        dialect: Dialect, _record: object, _arguments: object, parameters: dict[str, Any]
    ) -> Any:
        if not is_sealed(file):
            return None
        return dialect.connect(
            f"file:{quote(str(file))}?immutable=1", **{**parameters, "uri": True}
        )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        # The driver's own transactions start too late and never for DDL; ours start in `begin`.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_S * 1000}")
        cursor.execute("PRAGMA synchronous = NORMAL")
        # The keys of four views of a thousand lie all over the index: with less, each of its pages
        # is written several times in one commit, and again by a checkpoint after every commit.
        cursor.execute(f"PRAGMA cache_size = -{_SQLITE_CACHE_KIB}")
        cursor.execute(f"PRAGMA wal_autocheckpoint = {_SQLITE_WAL_PAGES}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        kind = connection.get_execution_options().get("sqlite_begin", "IMMEDIATE")
        connection.exec_driver_sql(f"BEGIN {kind}")

    return engine


def is_sealed(file: Path) -> bool:
    """Whether we may only read the file, and it stands in write-ahead mode with nobody at it.

    SQLite would make two files beside it even to read: where it may not, it refuses; where it
    may, they would be ours, and shut out who writes.
    """
    if os.access(file, os.W_OK) and os.access(file.parent, os.W_OK):
        return False
    try:
        with file.open("rb") as opened:
            versions = opened.read(20)[18:]
        return versions == b"\2\2" and not Path(f"{file}-wal").exists()
    except OSError:
        return False


def write_ahead(cursor: Any) -> None:
    """Switch to write-ahead logging; SQLite waits for nobody then, whatever busy_timeout says."""
    deadline = time.monotonic() + _BUSY_TIMEOUT_S
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _postgres_engine(url: str, schema_name: str | None) -> Engine:
    engine = create_engine(
        url,
        isolation_level="READ COMMITTED",
        pool_pre_ping=True,
        use_native_hstore=False,  # we have none, and each connection would look for it
        connect_args={
            "connect_timeout": 10,
            "application_name": "heatmap-etl",
            # Else it is the database's, which the driver may not know, or which lacks characters.
            "client_encoding": "utf8",
            "keepalives": 1,
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
        },
    )
    settings = [
        # In the server's own zone the driver cannot read the first and last hours of the calendar.
        "SET TIME ZONE 'UTC'",
        f"SET lock_timeout = '{_LOCK_TIMEOUT_S}s'",
        f"SET idle_in_transaction_session_timeout = '{_IDLE_TIMEOUT_S}s'",
        # A plan kept from when a table was small reads all of it when it has grown.
        "SET plan_cache_mode = 'force_custom_plan'",
    ]
    if schema_name:
        settings.append(f'SET search_path TO "{schema_name}"')

    @event.listens_for(engine.pool, "first_connect")
    def name_the_schema(_connection: object, _record: object) -> None:
        # SQLAlchemy asks the server, which names no schema that is not there yet.
        engine.dialect.default_schema_name = schema_name or engine.dialect.default_schema_name

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        # By SET, not by `options`: connection poolers refuse that start-up parameter.
        connection.autocommit = True
        connection.execute("; ".join(settings))
        connection.autocommit = False
        # JSON stays the text it is; the driver would parse it and lose the spelling.
        connection.adapters.register_loader("json", connection.adapters.get_loader(25, 0))

    return engine


def _mysql_engine(url: str) -> Engine:
    # The driver would send text as Latin-1, and what was set as UTF-8 would not be accepted.
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
                f" SESSION innodb_lock_wait_timeout = {_LOCK_TIMEOUT_S}"
                # A comment to all but MariaDB: MySQL 8 has no such variable.
                f" /*M!100300 , SESSION idle_transaction_timeout = {_IDLE_TIMEOUT_S} */"
            ),
        },
    )


def is_repeatable(error: DBAPIError) -> bool:
    """Whether the same transaction may work next time.

    Serialization failures, deadlocks, lock time-outs, and a connection that
    broke: a restarted server takes it, and the ledger tells whether a lost
    commit happened.
    """
    cause = error.orig
    if error.connection_invalidated:
        return True
    if getattr(cause, "sqlstate", None) in _REPEATABLE_SQLSTATES:
        return True
    if cause is not None and cause.args and cause.args[0] in _REPEATABLE_MYSQL:
        return True
    return "database is locked" in str(cause)


def brief(error: BaseException) -> str:
    """The driver's own words on one line, without SQL, parameters and documentation links."""
    cause = getattr(error, "orig", None) or error
    words = cause.args[-1] if cause.args else cause
    words = str(words).replace("file is not a database", "it is not a SQLite database")
    return re.sub(r"\s+", " ", words).strip()[:300]


def what_to_do(dialect: str, said: str) -> str:
    """The advice for a database that cannot be opened, by what `brief` said of it."""
    hints = _SQLITE_HINTS if dialect == "sqlite" else _SERVER_HINTS
    return next(hint for pattern, hint in hints if re.search(pattern, said))


def is_missing_table(error: DBAPIError) -> bool:
    """Only this means that there is no schema: a refused or broken read says nothing of it."""
    cause = error.orig
    if getattr(cause, "sqlstate", None) == "42P01":
        return True
    if cause is not None and cause.args and cause.args[0] == _MYSQL_NO_SUCH_TABLE:
        return True
    return "no such table" in str(cause)
