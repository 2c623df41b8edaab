"""What PostgreSQL, MariaDB and MySQL have in common as servers."""

from __future__ import annotations

import contextlib
import re
from abc import abstractmethod
from datetime import UTC, datetime
from typing import ClassVar

from sqlalchemy import ColumnElement, Connection, Engine, select
from sqlalchemy.exc import SQLAlchemyError

from etl.database.dialects import MAKE_ROOM, Dialect

LOCK_TIMEOUT_S = 10
IDLE_TIMEOUT_S = 30
NOT_IN_CLUSTER = (
    "this node takes no part in its Galera cluster: name another node, or wait until"
    " wsrep_cluster_status is Primary and wsrep_ready is ON"
)
# By messages of PostgreSQL, then of MariaDB and MySQL. In other languages the last one applies.
_HINTS = (
    ("WSREP has not yet prepared", NOT_IN_CLUSTER),
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


class Server(Dialect):
    """A database behind a network."""

    now: ClassVar[ColumnElement[datetime]]
    read_only: ClassVar[ColumnElement[bool]]

    def hint(self, message: str) -> str:
        return next(hint for pattern, hint in _HINTS if re.search(pattern, message))

    @abstractmethod
    def limit_hint(self, error: BaseException) -> str:
        """What to do about a limit of the server's own that is reached; "" for none."""

    @abstractmethod
    def is_full(self, error: BaseException) -> bool:
        """Whether a disk of the server is full, or a quota used up; `error`: the driver's."""

    @abstractmethod
    def place(self, connection: Connection, message: str) -> str:
        """What is full by the server's message, as far as this user may know."""

    def hint_on_full(self, error: BaseException, engine: Engine) -> str:
        cause = getattr(error, "orig", None) or error
        if not self.is_full(cause):
            return self.limit_hint(cause)
        place = "the disk of the database server"
        with contextlib.suppress(SQLAlchemyError, OSError), engine.connect() as connection:
            place = self.place(connection, str(cause))
        return f"{place} is full, or its quota used up: {MAKE_ROOM}"

    def clock(self, connection: Connection) -> datetime:
        value = connection.execute(select(self.now)).scalar_one()
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)

    def is_read_only(self, connection: Connection) -> bool:
        return bool(connection.execute(select(self.read_only)).scalar())
