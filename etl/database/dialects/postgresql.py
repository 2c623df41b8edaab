"""PostgreSQL: rows arrive by COPY, ids are looked up as one JSON parameter."""

from __future__ import annotations

import re
from collections.abc import Sequence
from secrets import token_hex
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Connection,
    Engine,
    Integer,
    Table,
    create_engine,
    event,
    func,
    inspect,
    literal_column,
    text,
)
from sqlalchemy.exc import DBAPIError

from etl.database.cursor import driver_cursor
from etl.database.dialects import Row, lookup
from etl.database.dialects.servers import IDLE_TIMEOUT_S, LOCK_TIMEOUT_S, Server
from etl.database.dialects.types import UtcDateTime

# 23505: another source stored the same id first; the repeated transaction then sees it.
_REPEATABLE = {"40001", "40P01", "55P03", "23505"}
_DENIED = {"42501", "3F000"}  # the second: no schema of the search path may be used
_NO_SUCH_TABLE, _DISK_FULL = "42P01", "53100"
_LIMITS = {
    "53200": "the database server has no memory left: give it more, or lower its work_mem",
    "53400": "raise that limit of the database server, or free it of other work",
}
_TABLESPACE = text(
    "SELECT spcname, pg_tablespace_location(oid),"
    " CASE WHEN has_tablespace_privilege(oid, 'CREATE') THEN pg_tablespace_size(oid) END"
    " FROM pg_tablespace WHERE oid = :oid"
)
# json travels as text: the driver would encode a str for json once more.
_COPY_TYPES = {UtcDateTime: "timestamptz", BigInteger: "int8", Integer: "int4", Boolean: "bool"}
_INCOMING = "heatmap_etl_incoming"
_MAKE_INCOMING = f"CREATE TEMP TABLE IF NOT EXISTS {_INCOMING} (LIKE {{}}) ON COMMIT DELETE ROWS"
# A join or IN would read the whole table for each view where PostgreSQL takes it for small, as in a
# first load, for which it has no statistics. This looks up one id after the other.
_ONE_BY_ONE = (  # noqa: S608
    "SELECT s.* FROM json_array_elements_text(%s::json) AS listed(id)"
    " CROSS JOIN LATERAL (SELECT {} {} OFFSET 0) AS s"
).format(lookup.BY_ID, lookup.OF_IDS.format(ids="listed.id"))


class Postgresql(Server):
    """One schema of a database: the configured one, or else the user's own."""

    family = "postgresql"
    has_schemas = True
    clean_up = "VACUUM FULL"
    ids_at_once = 10_000  # in one parameter
    now = func.clock_timestamp()
    read_only = literal_column("current_setting('transaction_read_only') = 'on'")

    def make_engine(self, url: str, schema_name: str | None) -> Engine:
        engine = create_engine(
            url,
            isolation_level="READ COMMITTED",
            pool_pre_ping=True,
            use_native_hstore=False,  # we have none, and each connection would look for it
            connect_args={
                "connect_timeout": 10,
                "application_name": "heatmap-etl",
                # Else the database's, which the driver may not know, or which may lack characters.
                "client_encoding": "utf8",
                "keepalives": 1,
                "keepalives_idle": 30,
                "keepalives_interval": 10,
                "keepalives_count": 3,
            },
        )
        settings = [
            # In the server's own zone the driver cannot read the first and last hours of the
            # calendar.
            "SET TIME ZONE 'UTC'",
            f"SET lock_timeout = '{LOCK_TIMEOUT_S}s'",
            f"SET idle_in_transaction_session_timeout = '{IDLE_TIMEOUT_S}s'",
            # A plan kept from when a table was small reads all of it when it has grown.
            "SET plan_cache_mode = 'force_custom_plan'",
        ]
        if schema_name:
            settings.append(f'SET search_path TO "{schema_name}"')

        @event.listens_for(engine.pool, "first_connect")
        def name_the_schema(_connection: object, _record: object) -> None:
            # SQLAlchemy asks the server, which does not name a schema that does not exist yet.
            engine.dialect.default_schema_name = schema_name or engine.dialect.default_schema_name

        @event.listens_for(engine, "connect")
        def prepare(connection: Any, _record: object) -> None:
            # By SET, not by `options`: connection poolers refuse that start-up parameter.
            connection.autocommit = True
            connection.execute("; ".join(settings))
            connection.autocommit = False
            # JSON is read as text; the driver would parse it and lose its spelling.
            connection.adapters.register_loader("json", connection.adapters.get_loader(25, 0))

        return engine

    def is_repeatable(self, error: DBAPIError) -> bool:
        return getattr(error.orig, "sqlstate", None) in _REPEATABLE

    def is_full(self, error: BaseException) -> bool:
        # A quota has no code of its own.
        is_quota = re.search("quota exceeded", str(error), re.IGNORECASE)
        return getattr(error, "sqlstate", None) == _DISK_FULL or bool(is_quota)

    def limit_hint(self, error: BaseException) -> str:
        return _LIMITS.get(getattr(error, "sqlstate", None) or "", "")

    def place(self, connection: Connection, message: str) -> str:
        found = re.search(r"pg_tblspc/(\d+)/", message)
        if found is None:
            return "the disk of the database server that holds this file"
        name, folder, size = connection.execute(_TABLESPACE, {"oid": int(found[1])}).one()
        in_use = f", {size // 10**6:,} MB in use" if size is not None else ""
        return f"the tablespace {name} of the database server ({folder}{in_use})"

    def is_missing_table(self, error: DBAPIError) -> bool:
        return getattr(error.orig, "sqlstate", None) == _NO_SUCH_TABLE

    def is_denied(self, error: DBAPIError) -> bool:
        return getattr(error.orig, "sqlstate", None) in _DENIED

    def create_schema(self, connection: Connection, name: str | None) -> None:
        # IF NOT EXISTS needs the right to create a schema even where it exists.
        if name and not inspect(connection).has_schema(name):
            connection.exec_driver_sql(f'CREATE SCHEMA IF NOT EXISTS "{name}"')

    def try_to_create(self, connection: Connection, schema_name: str | None) -> None:
        self.create_schema(connection, schema_name)
        connection.exec_driver_sql(f"CREATE TABLE heatmap_etl_{token_hex(8)} (id integer)")

    def lock_upgrade(self, connection: Connection) -> bool:
        connection.exec_driver_sql("SET lock_timeout = '10min'")
        connection.execute(text("SELECT pg_advisory_lock(hashtext('heatmap-etl upgrade'))"))
        return True

    def read_live(
        self, cursor: Any, view_key: str, source: str
    ) -> tuple[dict[str, str], Sequence[Row]]:
        return lookup.live_as_json(cursor, view_key, source, mark="%s", to_object="json_object_agg")

    def read_ids(self, cursor: Any, ids: Sequence[str]) -> Sequence[Row]:
        """One statement for any number of ids, so that it is parsed once."""
        return lookup.fetched(cursor, _ONE_BY_ONE, (lookup.as_json(ids),))

    def insert_new(self, connection: Connection, table: Table, rows: Sequence[Row]) -> None:
        """By COPY into the table itself, where a key that is taken is an error."""
        with driver_cursor(connection) as cursor:
            _copy(cursor, table, table.name, rows)

    def upsert(self, connection: Connection, table: Table, rows: Sequence[Row]) -> None:
        """By binary COPY into a temporary table, then one INSERT from it."""
        key, *others = table.columns.keys()
        names = ", ".join((key, *others))
        assign = ", ".join(f"{name} = EXCLUDED.{name}" for name in others)
        with driver_cursor(connection) as cursor:
            cursor.execute(_MAKE_INCOMING.format(table.name))
            _copy(cursor, table, _INCOMING, rows)
            cursor.execute(
                f"INSERT INTO {table.name} ({names}) SELECT {names} FROM {_INCOMING}"  # noqa: S608
                f" ON CONFLICT ({key}) DO UPDATE SET {assign}"
            )
            cursor.execute(f"DELETE FROM {_INCOMING}")  # noqa: S608

    def wait_briefly(self, connection: Connection, seconds: int) -> None:
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{seconds}s'")


def _copy(cursor: Any, table: Table, into: str, rows: Sequence[Row]) -> None:
    names = ", ".join(table.columns.keys())
    with cursor.copy(f"COPY {into} ({names}) FROM STDIN (FORMAT BINARY)") as copy:
        copy.set_types([_COPY_TYPES.get(type(column.type), "text") for column in table.columns])
        write = copy.write_row
        for row in rows:
            write(row)
