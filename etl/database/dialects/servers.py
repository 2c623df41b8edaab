"""What PostgreSQL, MariaDB and MySQL have in common as servers."""

from __future__ import annotations

import contextlib
import re
from abc import abstractmethod
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from typing import ClassVar

from sqlalchemy import ColumnElement, Connection, Engine, TextClause, select, text
from sqlalchemy.exc import DBAPIError

from etl.database import upgrade_wait
from etl.database.dialects import MAKE_ROOM, Dialect
from etl.database.dialects.bounded import NoAnswer, allow_long_answers
from etl.database.dialects.login_hints import Code, login_hint
from etl.library_faults import said_of

LOCK_TIMEOUT_S = 10
IDLE_TIMEOUT_S = 30
KEPT_LOCKED = (
    f"another session kept these rows or tables locked for {LOCK_TIMEOUT_S} s, maybe one that is"
    " idle in an open transaction: find it by {}, let it end, and try again"
)
# Both servers speak many languages, each with its own marks around a value.
_VALUES = re.compile(r"""['"«»„“”‘’‹›「].*['"«»„“”‘’‹›」]""", re.DOTALL)  # noqa: RUF001
HIDDEN = "***"  # in what a database of any encoding can hold


class Server(Dialect):
    """A database behind a network."""

    now: ClassVar[ColumnElement[datetime]]
    read_only: ClassVar[ColumnElement[bool]]
    try_upgrade_lock: ClassVar[str]  # without a wait

    # By the server's code of an error.
    repeatable: ClassVar[AbstractSet[Code]]
    lock_timeouts: ClassVar[AbstractSet[Code]]
    denied: ClassVar[AbstractSet[Code]]
    no_such_table: ClassVar[Code]

    def hint(self, error: BaseException, message: str) -> str:
        return login_hint(self.code(getattr(error, "orig", None) or error), message)

    @abstractmethod
    def code(self, error: BaseException | None) -> Code | None:
        """The server's code of an error of the driver; None where there is none."""

    def is_repeatable(self, error: DBAPIError) -> bool:
        return self.code(error.orig) in self.repeatable

    def is_lock_timeout(self, error: DBAPIError) -> bool:
        return self.code(error.orig) in self.lock_timeouts

    def is_missing_table(self, error: DBAPIError) -> bool:
        return self.code(error.orig) == self.no_such_table

    def is_denied(self, error: DBAPIError) -> bool:
        return self.code(error.orig) in self.denied

    def is_no_answer(self, error: DBAPIError) -> bool:
        return isinstance(error.orig, NoAnswer)

    @abstractmethod
    def limit_hint(self, error: BaseException) -> str:
        """What to do about a limit of the server's own that is reached; "" for none."""

    @abstractmethod
    def is_full(self, error: BaseException) -> bool:
        """Whether a disk of the server is full, or a quota used up; `error`: the driver's."""

    @abstractmethod
    def place(self, connection: Connection, message: str) -> str:
        """What is full by the server's message, as far as this user may know."""

    def hint_on_limit(self, error: BaseException, engine: Engine) -> str:
        cause = getattr(error, "orig", None) or error
        if not self.is_full(cause):
            return self.limit_hint(cause)
        place = "the disk of the database server"
        # Whatever a driver raises: what went before is what is told.
        with contextlib.suppress(Exception), engine.connect() as connection:
            place = self.place(connection, said_of(cause))
        return f"{place} is full, or its quota is used up: {MAKE_ROOM}"

    def allow_long_answers(self, connection: Connection) -> None:
        allow_long_answers(connection)

    def clock(self, connection: Connection) -> datetime:
        value = connection.execute(select(self.now)).scalar_one()
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)

    def lock_upgrade(self, connection: Connection, label: str) -> bool:
        # Asked again and again: no connection is left without an answer for longer than it may be.
        return any(
            connection.exec_driver_sql(self.try_upgrade_lock).scalar()
            for _ in upgrade_wait.looks(label)
        )

    def is_read_only(self, connection: Connection) -> bool:
        return bool(connection.execute(select(self.read_only)).scalar())


def verbatim(sql: str) -> TextClause:
    """SQL without parameters: neither a colon nor a percent sign in it means one."""
    return text(sql.replace(":", r"\:"))


def without_values(message: str) -> str:
    """From the first mark of quotation to the last: a value may hold some, too."""
    return _VALUES.sub(HIDDEN, message)
