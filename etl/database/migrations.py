"""The schema of a database: its state, and the migrations that create and change it.

Alembic is imported only to migrate.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from etl.config.database_url import parse_database
from etl.config.model import Config
from etl.database import schema, upgrade_wait
from etl.database.connection import (
    ATTEMPTS,
    Database,
    is_there,
    open_database,
    opened,
    require_found,
)
from etl.database.dialects import dialect_of
from etl.errors import EtlError, SchemaMismatch, StoreError

_AS_OWNER = "run as the owner: heatmap-etl db upgrade"
HALF_COPIED = "half copied"
UNUSABLE = ("newer", "foreign", HALF_COPIED)
"""States that no upgrade changes."""
_ONE_MIGRATION = threading.Lock()  # Alembic keeps what it works on in globals


class SchemaState(msgspec.Struct, frozen=True):
    """`state` is absent, unfinished, foreign, outdated, current, newer or "half copied".

    `revision`: the one in the database; `table`: a foreign one that has a name of ours.
    """

    state: str
    revision: str | None
    table: str = ""


def found_schema(database: Database) -> SchemaState:
    """As `schema_state`, but creates no SQLite file: without a file the schema is absent."""
    return schema_state(database) if is_there(database) else SchemaState("absent", None)


def schema_state(database: Database) -> SchemaState:
    """The state of the schema; where it is there, by one plain SELECT."""
    return database.read(_schema_state)


def _schema_state(connection: Connection) -> SchemaState:
    revision = _revision(connection)
    if revision == schema.HEAD:
        return SchemaState("current", revision)
    if revision is not None and revision.startswith(schema.COPYING):
        return SchemaState(HALF_COPIED, revision)
    if revision is not None:
        is_older = revision.isdigit() and revision < schema.HEAD
        return SchemaState("outdated" if is_older else "newer", revision)
    if table := _foreign_table(connection, is_stamped=False):
        return SchemaState("foreign", None, table)
    present = set(inspect(connection).get_table_names()) & set(schema.metadata.tables)
    return SchemaState("unfinished" if present else "absent", None)


def _foreign_table(connection: Connection, *, is_stamped: bool) -> str:
    """A foreign table or view that has the name of one of ours; "" for none.

    A table of ours has its key. Without a revision in the database (not `is_stamped`) it also has
    every column that must have a value, and none that is not in the catalogue. That holds however
    far its creation came, and whatever nullable columns later revisions add.
    """
    from etl.database.sql_views import foreign_view  # only creating or upgrading needs it

    inspector = inspect(connection)
    as_stored = dialect_of(connection).as_stored
    views = {as_stored(name): name for name in inspector.get_view_names()}
    present = {as_stored(name): name for name in inspector.get_table_names()} | views
    for name, table in schema.metadata.tables.items():
        if name not in present:
            continue
        columns = {column["name"].lower() for column in inspector.get_columns(present[name])}
        mandatory = {c.name for c in table.columns if not (c.nullable or c.server_default)}
        needed = set(table.primary_key.columns.keys()) if is_stamped else mandatory
        surplus = set() if is_stamped else columns - set(table.columns.keys())
        if name in views or needed - columns or surplus:
            return present[name]
    return foreign_view(inspector)


def _not_ours(database: Database, table: str) -> str:
    other = "another database"
    other += f" or {database.names.schema}" * database.dialect.has_schemas
    return f"the database {database.label} has a table `{table}` that is not ours; use {other}"


def _revision(connection: Connection) -> str | None:
    try:
        with connection.begin():
            select = text(f"SELECT version_num FROM {schema.VERSION_TABLE}")  # noqa: S608
            return connection.execute(select).scalar()
    except DBAPIError as error:
        if not dialect_of(connection).is_missing_table(error):
            raise
        return None


def require_schema(database: Database) -> None:
    """Raises `SchemaMismatch` unless the schema is current."""
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
            HALF_COPIED: f"the database {database.label} is an unfinished copy of another one; "
            "finish it: run the same heatmap-etl db copy again",
            "outdated": f"the schema of {database.label} is at revision {found.revision}, "
            f"this program needs {schema.HEAD}; {upgrade_first}",
            "newer": f"the schema of {database.label} is at revision {found.revision}, newer than "
            f"this program knows ({schema.HEAD}); install a newer heatmap-etl",
        }[found.state]
    )


def require_there(database: Database) -> None:
    """As `require_schema`, but creates no SQLite file: raises `DatabaseUnreachable` without one."""
    require_found(database)
    found = schema_state(database)
    if found.state == "absent":
        raise SchemaMismatch(
            f"the database {database.place} has no schema yet; "
            "if it is the one that `sync` uses, run: heatmap-etl db upgrade"
        )
    _require_current(database, found)


def prepare_schema(database: Database) -> None:
    """Create the schema where it is absent or unfinished; else as `require_schema`.

    On MariaDB a schema is unfinished also while another process creates it: the upgrade waits for
    that process, and then has nothing to do. Or outdated: between two revisions.
    """
    found = schema_state(database)
    if found.state in ("absent", "unfinished"):
        _migrate(database, "upgrade", "head")
        found = schema_state(database)
    elif found.state == "outdated":
        found = _state_after_upgrade(database)
    _require_current(database, found)


def _state_after_upgrade(database: Database) -> SchemaState:
    """The state of an outdated schema, as soon as no other process upgrades it."""
    for _ in upgrade_wait.looks(database.label):
        is_upgrading = database.read(database.dialect.is_upgrading)
        found = schema_state(database)  # asked last: the upgrade may end between the two
        if found.state != "outdated" or not is_upgrading:
            return found
    raise _still_running(database)


def _still_running(database: Database) -> StoreError:
    return StoreError(f"another upgrade of {database.label} is still running; try again")


def upgrade(database: Database, revision: str = "head") -> None:
    """Bring the schema to `revision`; one upgrade at a time, others wait for it."""
    if schema_state(database).state in UNUSABLE:
        require_schema(database)
    _migrate(database, "upgrade", revision)


def downgrade(database: Database, revision: str) -> None:
    """Take the schema back to `revision` (`base`: none of our tables)."""
    _migrate(database, "downgrade", revision)


def _migrate(database: Database, direction: str, revision: str) -> None:
    from alembic.util.exc import CommandError

    try:
        _run_alembic(database, direction, revision)
    except CommandError as error:
        raise SchemaMismatch(f"cannot migrate {database.label}: {error}") from None
    except DBAPIError as error:
        raise not_migrated(database, error) from error


def _run_alembic(database: Database, direction: str, revision: str) -> None:
    """Repeated where somebody who writes to our tables meanwhile cut it short."""
    from alembic import command

    config = alembic_config()
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with _ONE_MIGRATION, open_migration(database) as connection:
                config.attributes["connection"] = connection
                getattr(command, direction)(config, revision)
        except DBAPIError as error:
            if attempt == ATTEMPTS or not database.dialect.is_deadlock(error):
                raise
            time.sleep(random.uniform(0, 0.1 * 2**attempt))  # noqa: S311
        else:
            return


def not_migrated(database: Database, error: DBAPIError) -> StoreError:
    """What to raise for a migration that failed: it says who may migrate, if this login may not."""
    if not database.dialect.is_denied(error):
        return StoreError(f"cannot migrate {database.label}: {database.said_by(error)}")
    if schema_state(database).state != "absent":
        text = f"cannot migrate {database.label}: {database.dialect.brief(error)}"
        return StoreError(f"{text}; {_AS_OWNER}")
    refusal = creation_refused(database, error)
    return StoreError(f"the database {database.label} has no schema yet, and {refusal}")


def creation_refused(database: Database, error: DBAPIError) -> str:
    """Who may not create the schema, why, and who may."""
    reason = database.dialect.brief(error)
    return f"{database.login} may not create it ({reason}); {_AS_OWNER}"


@contextmanager
def open_migration(database: Database) -> Iterator[Connection]:
    """A connection to migrate on, in a transaction; other processes that migrate wait.

    Raises `SchemaMismatch` where a foreign table has the name of one of ours, and `StoreError`
    where another process keeps migrating for long.
    """
    with database.connect() as connection:
        try:
            with connection.begin():
                database.dialect.allow_long_answers(connection)
                if not database.dialect.lock_upgrade(connection, database.label):
                    raise _still_running(database)
                database.dialect.create_schema(connection, database.schema_name)
                _require_ours(database, connection)
                yield connection
        finally:
            if not connection.invalidated:
                _unlock(database, connection)


def _unlock(database: Database, connection: Connection) -> None:
    """What was migrated is, and an error that went before counts, whatever happens here."""
    try:
        database.dialect.unlock_upgrade(connection)
    except SQLAlchemyError:
        connection.invalidate()  # the lock ends with its session


def _require_ours(database: Database, connection: Connection) -> None:
    is_stamped = False
    if inspect(connection).has_table(schema.VERSION_TABLE):
        select = text(f"SELECT version_num FROM {schema.VERSION_TABLE}")  # noqa: S608
        is_stamped = connection.execute(select).scalar() is not None
    if table := _foreign_table(connection, is_stamped=is_stamped):
        raise SchemaMismatch(_not_ours(database, table))


def alembic_config() -> Any:
    """Alembic's configuration, from the checkout or from inside the wheel."""
    from alembic.config import Config

    here = Path(__file__).resolve().parents[1]
    root = here if (here / "alembic.ini").exists() else here.parent
    config = Config(root / "alembic.ini")
    config.set_main_option("script_location", str(root / "migrations").replace("%", "%%"))
    # It is for Alembic by hand; from inside the wheel it would make our modules top-level ones.
    config.remove_main_option("prepend_sys_path")
    return config


@contextmanager
def opened_ready(config: Config) -> Iterator[Database]:
    """As `opened`; raises `StoreError` unless the schema is current. Creates no file."""
    with opened(config) as database:
        require_there(database)
        yield database


def upgrade_url(url: str) -> None:
    """Create or upgrade the schema in the database of a URL as people write it."""
    parsed = parse_database(url, Path.cwd())
    database = open_database(parsed.url, label=parsed.label)
    try:
        upgrade(database)
    finally:
        database.close()


@contextmanager
def opened_if_current(config: Config) -> Iterator[tuple[Database | None, str]]:
    """As `opened`, and ""; where the schema is not current, None and the reason."""
    with ExitStack() as stack:
        database, reason = None, ""
        try:
            database = stack.enter_context(opened(config))
            state = found_schema(database).state
            reason = "" if state == "current" else f"the schema of {database.label} is {state}"
        except EtlError as error:
            reason = str(error)
        yield (None if reason else database), reason
