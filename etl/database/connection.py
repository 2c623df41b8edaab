"""A database: transactions that are repeated, the schema's state, and its migrations.

In comes a database URL with a driver; out goes a `Database`. What differs from
one kind of server to the next is in `engine`. Alembic is imported only to migrate.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from etl.config.database_url import parse_database
from etl.config.model import Config
from etl.database import schema
from etl.database.engine import (
    CANNOT_OPEN,
    brief,
    is_missing_table,
    is_repeatable,
    make_engine,
    what_to_do,
    write_ahead,
)
from etl.errors import DatabaseUnreachable, EtlError, SchemaMismatch, StoreError

T = TypeVar("T")

ATTEMPTS = 5
_ONE_MIGRATION = threading.Lock()  # Alembic keeps what it works on in globals
_NETWORK_FILE_SYSTEMS = ("nfs", "cifs", "smb", "fuse.sshfs", "afs", "9p", "glusterfs", "ceph")


@dataclass(frozen=True, slots=True)
class Database:
    """An engine with what is said of it: `label` is its URL without password."""

    engine: Engine
    label: str
    schema_name: str | None = None

    @property
    def family(self) -> str:
        """sqlite, postgresql or mysql (MariaDB and MySQL)."""
        return "mysql" if self.engine.dialect.name == "mariadb" else self.engine.dialect.name

    @contextmanager
    def connect(self, *, write: bool = True) -> Iterator[Connection]:
        """A connection; raises `DatabaseUnreachable`. SQLite takes its lock at once to `write`."""
        try:
            connection = self.engine.connect()
        except CANNOT_OPEN as error:
            raise _unreachable(self.engine.dialect.name, self.label, error) from None
        with connection:
            if write:
                self._write_ahead(connection)
            else:
                connection = connection.execution_options(sqlite_begin="DEFERRED")
            yield connection

    def _write_ahead(self, connection: Connection) -> None:
        """Once for each connection that writes: who only reads leaves the file as it is."""
        if self.family != "sqlite" or connection.info.get("writes_ahead"):
            return
        try:
            with driver_cursor(connection) as cursor:
                write_ahead(cursor)
        except DBAPIError as error:
            raise _unreachable("sqlite", self.label, error) from None
        connection.info["writes_ahead"] = True

    def transaction(self, work: Callable[[Connection], T]) -> T:
        """`work` in one transaction, repeated whole when the database asks for it."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with self.connect() as connection, connection.begin():
                    return work(connection)
            except DBAPIError as error:
                if attempt == ATTEMPTS or not is_repeatable(error):
                    raise self._failure(error) from error
                time.sleep(random.uniform(0, 0.1 * 2**attempt))  # noqa: S311
        raise AssertionError("unreachable")

    def read(self, work: Callable[[Connection], T]) -> T:
        """`work` on a connection that only reads."""
        try:
            with self.connect(write=False) as connection:
                return work(connection)
        except DBAPIError as error:
            raise self._failure(error) from error

    def _failure(self, error: DBAPIError) -> StoreError:
        kind = DatabaseUnreachable if error.connection_invalidated else StoreError
        said = brief(error)
        if "readonly database" in said:
            said += "; let the user who runs heatmap-etl write the file and its folder"
        return kind(f"{self.label}: {said}")

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


def upgrade_url(url: str) -> None:
    """Create or upgrade the schema behind a URL as people write it."""
    parsed = parse_database(url, Path.cwd())
    database = open_database(parsed.url, label=parsed.label)
    try:
        upgrade(database)
    finally:
        database.close()


def open_database(url: str, *, label: str, schema_name: str | None = None) -> Database:
    """The database behind `url` (with driver); connects only to tell MariaDB from MySQL."""
    parsed = make_url(url)
    database = Database(_engine(url, label, schema_name), label, schema_name)
    if parsed.get_backend_name() != "mysql":
        return database
    with database.connect(write=False) as connection:
        is_mariadb = getattr(connection.dialect, "is_mariadb", False)
    if not is_mariadb:
        return database
    database.close()
    return Database(_engine(url.replace("mysql", "mariadb", 1), label, None), label)


def _unreachable(dialect: str, label: str, error: Exception) -> DatabaseUnreachable:
    said = brief(error)
    hint = what_to_do(dialect, said)
    return DatabaseUnreachable(f"cannot open the database {label}: {said}; {hint}")


def _engine(url: str, label: str, schema_name: str | None) -> Engine:
    try:
        return make_engine(url, schema_name)
    except CANNOT_OPEN as error:
        raise _unreachable(make_url(url).get_backend_name(), label, error) from None


@contextmanager
def driver_cursor(connection: Connection) -> Iterator[Any]:
    """The driver's own cursor, inside SQLAlchemy's transaction and with its errors."""
    cursor: Any = connection.connection.cursor()
    driver = connection.dialect.loaded_dbapi
    try:
        yield cursor
        cursor.close()
    except driver.Error as error:
        is_lost = connection.dialect.is_disconnect(error, connection.connection, cursor)
        if is_lost:
            connection.invalidate(error)
        raise DBAPIError.instance(
            None, None, error, driver.Error, connection_invalidated=is_lost
        ) from error


# --- schema -------------------------------------------------------------------------------


class SchemaState(msgspec.Struct, frozen=True):
    """`state` is absent, unfinished, foreign, outdated, current or newer.

    `revision` is what stands there; `table` the one that is not ours.
    """

    state: str
    revision: str | None
    table: str = ""


def is_there(database: Database) -> bool:
    """Whether the database exists: opening a SQLite file that is not there would make it."""
    file = database.engine.url.database
    return database.family != "sqlite" or (file is not None and Path(file).exists())


def found_schema(database: Database) -> SchemaState:
    """As `schema_state`, but makes no SQLite file: where there is none, there is no schema."""
    return schema_state(database) if is_there(database) else SchemaState("absent", None)


def schema_state(database: Database) -> SchemaState:
    """What the database says of our schema, by a plain SELECT."""
    return database.read(_schema_state)


def _schema_state(connection: Connection) -> SchemaState:
    revision = _revision(connection)
    if revision == schema.HEAD:
        return SchemaState("current", revision)
    if revision is not None:
        is_older = revision.isdigit() and revision < schema.HEAD
        return SchemaState("outdated" if is_older else "newer", revision)
    if table := _foreign_table(connection, is_stamped=False):
        return SchemaState("foreign", None, table)
    present = set(inspect(connection).get_table_names()) & set(schema.metadata.tables)
    return SchemaState("unfinished" if present else "absent", None)


def _foreign_table(connection: Connection, *, is_stamped: bool) -> str:
    """A table or view of somebody else that has the name of one of our tables; "" for none.

    Ours holds its key. Without a revision it also holds every column that must have a value,
    and none that the catalogue does not know: however far its creation came, whatever nullable
    columns later revisions add.
    """
    from etl.database.sql_views import taken_by_others  # for who creates or upgrades a schema

    look = inspect(connection)
    # On SQLite, Sources is our sources.
    plain: Callable[[str], str] = str.lower if connection.dialect.name == "sqlite" else str
    views = {plain(name): name for name in look.get_view_names()}
    present = {plain(name): name for name in look.get_table_names()} | views
    for name, table in schema.metadata.tables.items():
        if name not in present:
            continue
        found = {column["name"].lower() for column in look.get_columns(present[name])}
        must = {c.name for c in table.columns if not (c.nullable or c.server_default)}
        needed = set(table.primary_key.columns.keys()) if is_stamped else must
        surplus = set() if is_stamped else found - set(table.columns.keys())
        if name in views or needed - found or surplus:
            return present[name]
    return taken_by_others(look)


def require_ours(database: Database, connection: Connection) -> None:
    """Raises `SchemaMismatch` when a migration would meet somebody else's table."""
    is_stamped = False
    if inspect(connection).has_table(schema.VERSION_TABLE):
        select = text(f"SELECT version_num FROM {schema.VERSION_TABLE}")  # noqa: S608
        is_stamped = connection.execute(select).scalar() is not None
    if table := _foreign_table(connection, is_stamped=is_stamped):
        raise SchemaMismatch(_not_ours(database, table))


def _not_ours(database: Database, table: str) -> str:
    other = "another database"
    other += " or database_schema" * (database.family == "postgresql")
    return f"the database {database.label} has a table `{table}` that is not ours; use {other}"


def _revision(connection: Connection) -> str | None:
    try:
        with connection.begin():
            select = text(f"SELECT version_num FROM {schema.VERSION_TABLE}")  # noqa: S608
            return connection.execute(select).scalar()
    except DBAPIError as error:
        if not is_missing_table(error):
            raise
        return None


def require_schema(database: Database) -> None:
    """Raises `SchemaMismatch` unless the schema is the one this program works with."""
    _require_current(database, schema_state(database))


def _require_current(database: Database, found: SchemaState) -> None:
    if found.state == "current":
        return
    upgrade_first = "run: heatmap-etl db upgrade"
    raise SchemaMismatch(
        {
            "absent": f"the database {database.label} has no schema yet; {upgrade_first}",
            "unfinished": f"an upgrade of {database.label} was cut short; {upgrade_first}",
            "foreign": _not_ours(database, found.table),
            "outdated": f"the schema of {database.label} is at revision {found.revision}, "
            f"this program needs {schema.HEAD}; {upgrade_first}",
            "newer": f"the schema of {database.label} is at revision {found.revision}, newer than "
            f"this program knows ({schema.HEAD}); install a newer heatmap-etl",
        }[found.state]
    )


def require_there(database: Database) -> None:
    """As `require_schema`, but makes no SQLite file; raises `DatabaseUnreachable` then."""
    if not is_there(database):
        advice = "the first `heatmap-etl sync` makes it"
        raise DatabaseUnreachable(f"the database {database.label} does not exist yet; {advice}")
    require_schema(database)


def prepare_schema(database: Database) -> None:
    """Create the schema where there is none, or finish that; else as `require_schema`.

    On MariaDB unfinished is also what another process is creating at this moment:
    the upgrade waits for it, and then finds nothing to do.
    """
    found = schema_state(database)
    if found.state in ("absent", "unfinished"):
        _migrate(database, "upgrade", "head")
        found = schema_state(database)
    _require_current(database, found)


def upgrade(database: Database, revision: str = "head") -> None:
    """Bring the schema to `revision`; one upgrade at a time, others wait for it."""
    if schema_state(database).state in ("newer", "foreign"):
        require_schema(database)
    _migrate(database, "upgrade", revision)


def downgrade(database: Database, revision: str) -> None:
    """Take the schema back to `revision` (`base`: none of our tables)."""
    _migrate(database, "downgrade", revision)


def _migrate(database: Database, direction: str, revision: str) -> None:
    from alembic import command
    from alembic.util.exc import CommandError

    config = alembic_config()
    try:
        with (
            _ONE_MIGRATION,
            upgrade_lock(database),
            database.connect() as connection,
            connection.begin(),
        ):
            create_namespace(connection, database.schema_name)
            require_ours(database, connection)
            config.attributes["connection"] = connection
            getattr(command, direction)(config, revision)
    except CommandError as error:
        raise SchemaMismatch(f"cannot migrate {database.label}: {error}") from None
    except DBAPIError as error:
        raise StoreError(f"cannot migrate {database.label}: {brief(error)}") from error


def create_namespace(connection: Connection, schema_name: str | None) -> None:
    """The PostgreSQL schema that the configuration names, when it is not there yet."""
    # IF NOT EXISTS wants the right to create one even where there is nothing to create.
    if schema_name and not inspect(connection).has_schema(schema_name):
        connection.exec_driver_sql(f'CREATE SCHEMA IF NOT EXISTS "{schema_name}"')


def alembic_config() -> Any:
    """Alembic's configuration, from the checkout or from inside the wheel."""
    from alembic.config import Config

    here = Path(__file__).resolve().parents[1]
    root = here if (here / "alembic.ini").exists() else here.parent
    config = Config(root / "alembic.ini")
    config.set_main_option("script_location", str(root / "migrations").replace("%", "%%"))
    # For Alembic by hand; from inside the wheel it would make our modules top-level ones.
    config.remove_main_option("prepend_sys_path")
    return config


@contextmanager
def upgrade_lock(database: Database) -> Iterator[None]:
    """Held by the one process that migrates. SQLite needs none: its transaction is the lock."""
    if database.family == "sqlite":
        yield
        return
    with database.connect() as opened:
        connection = opened.execution_options(isolation_level="AUTOCOMMIT")
        if database.family == "postgresql":
            connection.exec_driver_sql("SET lock_timeout = '10min'")
            connection.execute(text("SELECT pg_advisory_lock(hashtext('heatmap-etl upgrade'))"))
            try:
                yield
            finally:
                connection.invalidate()
        else:
            # MySQL refuses a name of more than 64 characters, which a database alone may have.
            name = "CONCAT('heatmap-etl upgrade ', MD5(DATABASE()))"
            got = connection.exec_driver_sql(f"SELECT GET_LOCK({name}, 600)").scalar()
            if got != 1:
                raise StoreError(f"another upgrade of {database.label} is still running; try again")
            try:
                yield
            finally:
                connection.invalidate()


def network_file_system(path: Path) -> str | None:
    """The network file system `path` lies on, by /proc/mounts; SQLite's locks break there."""
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return None
    folders = {str(folder) for folder in (path, *path.parents)}
    on_the_way = [(len(m[1]), m[2]) for m in mounts if m[1] in folders]
    kind = max(on_the_way, default=(0, ""))[1]
    return kind if kind.startswith(_NETWORK_FILE_SYSTEMS) else None


@contextmanager
def opened_ready(config: Config) -> Iterator[Database]:
    """As `opened`; raises `StoreError` unless our schema is there and current. Makes no file."""
    with opened(config) as database:
        require_there(database)
        yield database


@contextmanager
def opened(config: Config) -> Iterator[Database]:
    """The configured database, closed at the end."""
    database = open_database(
        config.database_url, label=config.database_label, schema_name=config.database_schema
    )
    try:
        yield database
    finally:
        database.close()


@contextmanager
def opened_if_current(config: Config) -> Iterator[tuple[Database | None, str]]:
    """As `opened` where the database is there and its schema current; else None, and why."""
    with ExitStack() as stack:
        database, reason = None, ""
        try:
            database = stack.enter_context(opened(config))
            state = found_schema(database).state
            reason = "" if state == "current" else f"the schema of {database.label} is {state}"
        except EtlError as error:
            reason = str(error)
        yield (None if reason else database), reason
