"""A database: its connections, transactions that are repeated, and how it is opened."""

from __future__ import annotations

import errno
import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from sqlalchemy import URL, Connection, Engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError, StatementError

from etl.config.model import ON_COMMAND_LINE, Config
from etl.config.validators import is_secret_name
from etl.database.cursor import DriverFault
from etl.database.dialects import Dialect, dialect_named, dialect_of
from etl.database.private_errors import hide_values
from etl.errors import DatabaseUnreachable, EtlError, StoreError
from etl.files import PRIVATE
from etl.library_faults import frames_of, is_raised_in, name_of, origin_of, packages_of
from etl.own_keys import NO_KEYS, OwnKeys

T = TypeVar("T")

log = logging.getLogger(__name__)

ATTEMPTS = 5
SHORTEST_PASSWORD = 6
"""Characters of a password that is blotted out of errors."""
ROLES = "docs/databases.md"
"""Where the rights stand that an owner, a writer and a reader need."""
_DRIVERS = frozenset({"sqlalchemy", "psycopg", "psycopg_binary", "psycopg_c", "pymysql", "sqlite3"})
_RIGHTS = ("SELECT", "INSERT", "UPDATE", "DELETE")


@dataclass(frozen=True, slots=True)
class SettingNames:
    """What names the URL and the schema of a database, for advice about them."""

    url: str = "database_url"
    schema: str = "database_schema"

    def put_into(self, advice: str) -> str:
        """The advice, which is written for the settings of the configuration."""
        return advice.replace("database_url", self.url).replace("database_schema", self.schema)


CONFIGURED = SettingNames()


@dataclass(frozen=True, slots=True)
class Database:
    """An engine. `label`: its URL without the password, for messages; `origin`: where that stood.

    `names`: what a person changes to open another one.
    `on_step` is called whenever a try of a transaction, or a reading, has ended, well or not.
    """

    engine: Engine
    label: str
    schema_name: str | None = None
    origin: str = ""
    names: SettingNames = CONFIGURED
    on_step: Callable[[], None] = field(default=lambda: None, repr=False)

    @property
    def place(self) -> str:
        """The label, and where the URL was found."""
        return f"{self.label} ({self.origin})" if self.origin else self.label

    @property
    def dialect(self) -> Dialect:
        """What is special about this kind of database."""
        return dialect_of(self.engine)

    @property
    def family(self) -> str:
        """sqlite, postgresql or mysql (MariaDB and MySQL)."""
        return self.dialect.family

    @property
    def file(self) -> Path | None:
        """The database file; None: the database is on a server."""
        return self.dialect.file(self.engine.url)

    @property
    def login(self) -> str:
        """The user who connects, for messages."""
        return self.engine.url.username or "this login"

    @contextmanager
    def connect(self, *, write: bool = True) -> Iterator[Connection]:
        """A connection; raises `DatabaseUnreachable`. To `write`, SQLite takes its lock at once.

        What a driver raises inside is a `DBAPIError`, or a `StoreError` where it is no error that
        drivers should raise: then the connection is not used again, as its state is not known.
        """
        try:
            connection = self.engine.connect()
        except Exception as error:
            if not _is_of_driver(error):
                raise
            raise self._unreachable(error) from None
        with connection, self._driver_faults(connection):
            if write:
                try:
                    self.dialect.prepare_to_write(connection)
                except (DBAPIError, OSError) as error:
                    raise self._unreachable(error) from None
            else:
                connection = self.dialect.prepare_to_read(connection)
            yield connection

    @contextmanager
    def _driver_faults(self, connection: Connection) -> Iterator[None]:
        try:
            yield
        except (DBAPIError, EtlError):
            raise
        except Exception as error:
            fault = _driver_fault(error)
            if fault is None:
                raise
            log.debug("%s was raised here:\n%s", origin_of(fault), frames_of(fault))
            if not connection.closed:
                connection.invalidate()
            # Neither its message nor a traceback of it: both may hold a row.
            raise StoreError(f"{self.label}: the driver raised {origin_of(fault)}") from None

    def transaction(self, action: Callable[[Connection], T]) -> T:
        """Run `action` in one transaction, and repeat it whole when the database asks for it.

        It does after serialization failures, deadlocks and lock time-outs. A broken connection
        counts too: a restarted server accepts the repetition, and the ledger tells whether a commit
        without an answer took place. A server that gave no answer in time is not asked again.
        Raises `StoreError`.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with self.connect() as connection, connection.begin():
                    return action(connection)
            except DBAPIError as error:
                is_lost = error.connection_invalidated and not self.dialect.is_no_answer(error)
                may_work = is_lost or self.dialect.is_repeatable(error)
                if attempt == ATTEMPTS or not may_work:
                    raise self.failure(error) from error
                time.sleep(random.uniform(0, 0.1 * 2**attempt))  # noqa: S311
            finally:
                self.on_step()
        raise AssertionError("unreachable")

    def read(self, action: Callable[[Connection], T]) -> T:
        """Run `action` on a connection that only reads. Raises `StoreError`."""
        try:
            with self.connect(write=False) as connection:
                return action(connection)
        except DBAPIError as error:
            raise self.failure(error) from error
        finally:
            self.on_step()

    def failure(self, error: DBAPIError) -> StoreError:
        """What to raise for a statement: `DatabaseUnreachable` where the connection is lost."""
        kind = DatabaseUnreachable if error.connection_invalidated else StoreError
        return kind(f"{self.label}: {self.said_by(error)}")

    def said_by(self, error: DBAPIError) -> str:
        """The driver's message about a statement that failed, and what to do if that is known."""
        return "; ".join(filter(None, (self.dialect.brief(error), self.advice(error))))

    def advice(self, error: DBAPIError) -> str:
        """What to do about a statement that failed; "" where that is not known."""
        dialect = self.dialect
        if dialect.is_denied(error):
            return f"{self.login} needs the right to {_right(error)}: see Roles in {ROLES}"
        hint = dialect.hint_on_limit(error, self.engine)
        return hint or dialect.hint_on_failure(dialect.brief(error))

    def _unreachable(self, error: Exception) -> DatabaseUnreachable:
        passwords = _passwords(self.engine.url, self.label)
        return unreachable(self.dialect, self.label, error, self.engine, self.names, passwords)

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


def _is_of_driver(error: Exception) -> bool:
    """Whether the driver, the system or SQLAlchemy raised it, and no faulty line of ours.

    A driver may raise anything for a login method that it lacks, and for an answer that makes no
    sense. What a library raises because we call it wrongly therefore counts as the driver's, too.
    """
    return isinstance(error, SQLAlchemyError | OSError) or not is_raised_in(error, "etl")


def _driver_fault(error: Exception) -> BaseException | None:
    """What the driver or SQLAlchemy raised in a transaction; None: a line of ours did."""
    if isinstance(error, DriverFault):
        return error.__cause__
    # It wraps also what a type of ours raised.
    cause = (error.orig if isinstance(error, StatementError) else None) or error
    return cause if packages_of(cause) & _DRIVERS else None


def _right(error: DBAPIError) -> str:
    """The right that a refused statement needs; "write" for one of the driver's own."""
    words = (error.statement or "").upper().split()
    if words[-2:] == ["FOR", "UPDATE"]:
        return "UPDATE"
    return words[0] if words[:1] and words[0] in _RIGHTS else "write"


def open_database(
    url: str,
    *,
    label: str,
    schema_name: str | None = None,
    names: SettingNames = CONFIGURED,
    file_mode: int = PRIVATE,
) -> Database:
    """The database at `url` (with driver); connects only to tell MariaDB from MySQL.

    `file_mode`: permissions of a SQLite file that is not there yet.
    """
    dialect = dialect_named(make_url(url).get_backend_name())
    database = _database(dialect, url, label, schema_name, names, file_mode)
    exact = dialect.exact_url(url, partial(database.connect, write=False))
    if exact == url:
        return database
    database.close()
    return _database(dialect, exact, label, schema_name, names, file_mode)


def _database(
    dialect: Dialect,
    url: str,
    label: str,
    schema_name: str | None,
    names: SettingNames,
    file_mode: int,
) -> Database:
    passwords = _passwords(make_url(url), label)
    try:
        engine = dialect.make_engine(url, schema_name, file_mode)
    except Exception as error:
        if not _is_of_driver(error):
            raise
        raise unreachable(dialect, label, error, names=names, passwords=passwords) from None
    hide_values(engine, lambda error: passwords.blotted(dialect.tell(error)))
    return Database(engine, label, schema_name, names=names)


def unreachable(
    dialect: Dialect,
    label: str,
    error: Exception,
    engine: Engine | None = None,
    names: SettingNames = CONFIGURED,
    passwords: OwnKeys = NO_KEYS,
) -> DatabaseUnreachable:
    """The error for a database that cannot be opened: the driver's message, and what to do."""
    message = passwords.blotted(dialect.brief(error))
    if not isinstance(error, SQLAlchemyError | OSError | RuntimeError):
        # Its words may be those of a file that it tried to read, with a password in it.
        message = f"the driver raised {name_of(error)}"
    on_limit = engine and dialect.hint_on_limit(error, engine)
    hint = on_limit or names.put_into(dialect.hint(error, message))
    return DatabaseUnreachable(f"cannot open the database {label}: {message}; {hint}")


def _passwords(url: URL, label: str) -> OwnKeys:
    """What a server or a driver must not repeat; not what every message shows, as a name does that
    is a password, too. A word of a few letters would spoil the messages and is none."""
    named = [url.query[name] for name in url.query if is_secret_name(name) or "pass" in name]
    texts = [url.password or "", *(text for text in named if isinstance(text, str))]
    return OwnKeys(t for t in texts if len(t) >= SHORTEST_PASSWORD and t not in label)


@contextmanager
def opened(config: Config) -> Iterator[Database]:
    """The configured database, closed at the end."""
    database = open_database(
        config.database_url,
        label=config.database_label,
        schema_name=config.database_schema,
        file_mode=config.files_mode,
    )
    try:
        yield replace(database, origin=config.database_origin)
    finally:
        database.close()


def is_there(database: Database) -> bool:
    """Whether the database exists: opening a missing SQLite file would create it.

    Raises `DatabaseUnreachable` where this user may not know.
    """
    if database.file is None:
        return True
    try:
        database.file.stat()
    except PermissionError:
        advice = "run this as the user who runs `sync`, or as root"
        reason = f"this user may not enter its folder; {advice}"
        raise DatabaseUnreachable(f"cannot open the database {database.place}: {reason}") from None
    except OSError as error:
        return error.errno == errno.ELOOP  # opening it says what it is
    except ValueError:
        return False
    return True


def require_found(database: Database) -> None:
    """Raises `DatabaseUnreachable` for a file that is not there, where nothing may create it."""
    if not is_there(database):
        question = "is this the configuration that `sync` uses?"
        if database.origin == ON_COMMAND_LINE:
            question = "name the one that `sync` uses"
        raise DatabaseUnreachable(f"the database {database.place} does not exist; {question}")
