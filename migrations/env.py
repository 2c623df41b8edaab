"""Alembic's entry: on the connection the program hands over, or by hand on the configured one."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import Any

from alembic import context
from alembic.ddl.postgresql import PostgresqlImpl
from alembic.runtime.migration import MigrationContext
from alembic.util.exc import CommandError
from sqlalchemy import Column, Connection, String, inspect, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import SetColumnComment, SetTableComment

from etl.config.database_url import parse_database
from etl.config.load import load_config
from etl.config.validators import BadValue
from etl.database import comments, schema
from etl.database.connection import Database, open_database
from etl.database.dialects import dialect_of
from etl.database.migrations import not_migrated, open_migration
from etl.errors import EtlError


def _is_other_type(
    ctx: MigrationContext, _: object, column: Column[Any], found: Any, expected: Any
) -> bool | None:
    """False for a key column that is narrower because the server's pages are small."""
    if ctx.connection is None or not isinstance(expected, String):
        return None
    narrow = dialect_of(ctx.connection).key_lengths(ctx.connection).get(column.name)
    return False if narrow and narrow == found.length else None


_OPTIONS: dict[str, Any] = {
    "target_metadata": schema.metadata,
    "version_table": schema.VERSION_TABLE,
    "compare_type": _is_other_type,
    "compare_server_default": True,
    # How a generated revision spells our own types; the template imports the module.
    "user_module_prefix": "schema.",
}


class _Impl(PostgresqlImpl):
    """Sends comments that follow each other at once: there are hundreds, each a round trip."""

    __dialect__ = "postgresql"

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._comments: list[str] = []

    def _exec(self, construct: Any, *given: Any, **named: Any) -> Any:
        if isinstance(construct, SetColumnComment | SetTableComment):
            self._comments.append(str(construct.compile(dialect=self.dialect)))
            return None
        self.send_comments()
        return super()._exec(construct, *given, **named)

    def send_comments(self) -> None:
        """Also after the last statement of a revision."""
        if self._comments and self.connection is not None:
            self.connection.exec_driver_sql("; ".join(self._comments))
        self._comments = []


def _include_name(name: str | None, type_: str, _parents: object) -> bool:
    """Other tables of the same database are none of our business."""
    return type_ != "table" or name in schema.metadata.tables


def _after_revision(ctx: MigrationContext, *_: Any, **__: Any) -> None:
    """No answer equal to the last one hides what the revision changed in our tables."""
    if isinstance(ctx.impl, _Impl):
        ctx.impl.send_comments()
    connection = ctx.connection
    if connection is not None and inspect(connection).has_table("view_state"):
        connection.execute(text("UPDATE view_state SET shortcut_digest = NULL"))
        if not ctx.impl.transactional_ddl:
            # The next DDL would commit it: until then it may lose to a writer on another node.
            connection.exec_driver_sql("COMMIT")


def _run(connection: Connection) -> None:
    # SQLite can roll DDL back; Alembic assumes it cannot. MariaDB and MySQL really cannot.
    options = dict(_OPTIONS, transactional_ddl=connection.dialect.name in ("sqlite", "postgresql"))
    context.configure(
        connection=connection,
        include_name=_include_name,
        on_version_apply=_after_revision,
        render_as_batch=connection.dialect.name == "sqlite",
        **options,
    )
    with context.begin_transaction():
        context.run_migrations()
        migration = context.get_context()
        # Only commands that move the schema say where to.
        if "destination_rev" in migration.opts and migration.get_current_revision() == schema.HEAD:
            comments.refresh(connection)


def _configured_database() -> Database:
    """From `-x config=FILE`, HEATMAP_ETL_DATABASE_URL alone, or the configuration as always."""
    path = context.get_x_argument(as_dictionary=True).get("config")
    url = os.environ.get("HEATMAP_ETL_DATABASE_URL")
    if url and not path:
        try:
            parsed = parse_database(url, Path.cwd())
        except BadValue as error:
            raise CommandError(f"HEATMAP_ETL_DATABASE_URL {error}") from None
        schema_name = os.environ.get("HEATMAP_ETL_DATABASE_SCHEMA") or None
        return open_database(parsed.url, label=parsed.label, schema_name=schema_name)
    config = load_config(Path(path) if path else None)
    return open_database(
        config.database_url,
        label=config.database_label,
        schema_name=config.database_schema,
        file_mode=config.files_mode,
    )


def _run_by_hand() -> None:
    try:
        with closing(_configured_database()) as database:
            try:
                with open_migration(database) as connection:
                    _run(connection)
            except DBAPIError as error:
                raise not_migrated(database, error) from None
    except EtlError as error:
        # Alembic prints its own errors as one line, any other with a traceback.
        raise CommandError(str(error)) from None


given = context.config.attributes.get("connection")
if context.is_offline_mode():
    raise SystemExit("alembic --sql is not supported: migrations look at the database they change")
if given is not None:
    _run(given)
else:
    _run_by_hand()
