"""PostgreSQL: rows arrive by COPY, ids are looked up as one JSON parameter."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from secrets import token_hex
from typing import Any, cast

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Double,
    Engine,
    Integer,
    Select,
    String,
    Table,
    create_engine,
    event,
    func,
    inspect,
    literal_column,
    text,
)
from sqlalchemy import Row as SqlRow
from sqlalchemy.exc import DBAPIError

from etl.config.database_url import driver_parameters
from etl.database.cursor import driver_cursor
from etl.database.dialects import READ_ONLY, Comments, Row, lookup
from etl.database.dialects.bounded import (
    KEEPALIVE_COUNT,
    KEEPALIVE_IDLE_S,
    KEEPALIVE_INTERVAL_S,
    LOGIN_TIMEOUT_S,
    LONG_ANSWER_TIMEOUT_S,
    UNACKNOWLEDGED_MS,
    bound_waits,
)
from etl.database.dialects.bounded_psycopg import connect
from etl.database.dialects.login_hints import STATEMENT_MODE, Code
from etl.database.dialects.servers import (
    HIDDEN,
    IDLE_TIMEOUT_S,
    KEPT_LOCKED,
    LOCK_TIMEOUT_S,
    Server,
    without_values,
)
from etl.database.dialects.types import UtcDateTime
from etl.files import PRIVATE
from etl.library_faults import said_of

_KEY_TAKEN = "23505"  # by another source first; the repeated transaction then sees it
_DISK_FULL, _LOCK_TIMEOUT = "53100", "55P03"
_DATA, _SYNTAX, _RAISED = "22", "42601", "P0001"
_ENCODINGS = {"22021", "22P05"}
_BYTES = re.compile(r"0x[0-9a-f]{2}( 0x[0-9a-f]{2})*")
# What depends on a table or column is in the detail, unless somebody's function wrote it.
_OBJECTS = {"2BP01", "0A000"}
_LIMITS: dict[Code, str] = {
    "57014": "raise statement_timeout of this login, unless somebody cancelled the statement",
    "53200": "the database server has no memory left: give it more, or lower its work_mem",
    _LOCK_TIMEOUT: KEPT_LOCKED.format("pg_stat_activity"),
    "25006": READ_ONLY,
    "53400": "raise that limit of the database server, or free it of other work",
}
_TABLESPACE = text(
    "SELECT spcname, pg_tablespace_location(oid),"
    " CASE WHEN has_tablespace_privilege(oid, 'CREATE') THEN pg_tablespace_size(oid) END"
    " FROM pg_tablespace WHERE oid = :oid"
)
# From no table: pgpool-II is to send it where it would send others that read.
_SETTINGS = text("SELECT name, current_setting(name) FROM unnest(CAST(:names AS text[])) AS name")
# json travels as text: the driver would encode a str for json once more.
_COPY_TYPES = {
    UtcDateTime: "timestamptz",
    BigInteger: "int8",
    Integer: "int4",
    Boolean: "bool",
    Double: "float8",
}
# A view has no xmax, and a refusal would end the transaction of the caller.
_SHOWS_LOCKS = text(
    "SELECT relkind IN ('r', 'p') AND has_table_privilege(oid, 'SELECT')"
    " AND has_table_privilege('pg_catalog.pg_locks', 'SELECT')"
    " FROM pg_catalog.pg_class WHERE oid = to_regclass(:name)"
)
# Who locks or changes a row leaves the number of its transaction there.
_OF_LOCKED = text(
    "EXISTS (SELECT FROM pg_catalog.pg_locks WHERE locktype = 'transactionid' AND granted"
    " AND transactionid = xmax AND pid IS DISTINCT FROM pg_backend_pid())"
)
# To the search path that the role and the database say.
_TEMPORARY_LAST = (
    "SELECT set_config('search_path',"
    " concat_ws(', ', nullif(current_setting('search_path'), ''), 'pg_temp'), true)"
)
_CURSOR = "heatmap_etl_rows"
_INCOMING = "pg_temp.heatmap_etl_incoming"
# Only our columns: those that others have added may need a value, and LIKE copies no defaults.
# What is there under this name is from before in this transaction, or left over by somebody else
# on the connection of a pooler.
_MAKE_INCOMING = (
    f"DROP TABLE IF EXISTS {_INCOMING};"  # noqa: S608
    f" CREATE TEMP TABLE {_INCOMING} ON COMMIT DROP AS SELECT {{}} FROM {{}} WITH NO DATA"
)
# A join or IN would read the whole table for each view where PostgreSQL takes it for small, as in a
# first load, for which it has no statistics. This looks up one id after the other.
_ONE_BY_ONE = (  # noqa: S608
    "SELECT s.* FROM json_array_elements_text(%s::json) AS listed(id)"
    " CROSS JOIN LATERAL (SELECT {} {} OFFSET 0) AS s"
).format(lookup.BY_ID, lookup.OF_IDS.format(ids="listed.id"))


def _pinned(schema_name: str | None) -> dict[str, str]:
    """What a transaction depends on, whatever the session was left with: value by setting.

    A role, a database, or another client of the same pooler may have set anything. DEFAULT: what
    the role and the database say.
    """
    return {
        '"role"': "DEFAULT",
        # Temporary tables last: one that somebody left hides none of ours.
        "search_path": f'"{schema_name}", pg_temp' if schema_name else "DEFAULT",
        "lock_timeout": f"'{LOCK_TIMEOUT_S}s'",
        "idle_in_transaction_session_timeout": f"'{IDLE_TIMEOUT_S}s'",
        # In the server's own zone the driver cannot read the first and last hours of the calendar.
        "TimeZone": "'UTC'",
        "DateStyle": "'ISO, MDY'",  # the driver reads instants in no other
        "client_encoding": "'UTF8'",
        "extra_float_digits": "'1'",
        "quote_all_identifiers": "'off'",  # SQLAlchemy knows no type of a quoted name
        "row_security": "'on'",  # off, a policy would be an error
        "standard_conforming_strings": "'on'",
    }


def _begin(schema_name: str | None) -> str:
    """What begins a transaction, in one message.

    The settings come first, and BEGIN makes their transaction ours. pgpool-II sees a SET, and reads
    from the primary until the end; after a BEGIN that is followed by more it sends each SELECT to a
    standby, where none of this was set.
    """
    begin = [f"SET LOCAL {name} TO {value}" for name, value in _pinned(schema_name).items()]
    begin.append("BEGIN ISOLATION LEVEL READ COMMITTED")
    if schema_name is None:
        begin.append(_TEMPORARY_LAST)
    return "; ".join(begin)


class Postgresql(Server):
    """One schema of a database: the configured one, or else the user's own."""

    family = "postgresql"
    has_schemas = True
    clean_up = "VACUUM FULL"
    ids_at_once = 10_000  # in one parameter
    repeatable = frozenset({"40001", "40P01", _LOCK_TIMEOUT, _KEY_TAKEN})
    lock_timeouts = frozenset({_LOCK_TIMEOUT})
    denied = frozenset({"42501", "3F000"})  # the second: no schema of the search path may be used
    no_such_table = "42P01"
    now = func.clock_timestamp()
    read_only = literal_column("current_setting('transaction_read_only') = 'on'")
    try_upgrade_lock = "SELECT pg_try_advisory_xact_lock(hashtext('heatmap-etl upgrade'))"

    def make_engine(
        self,
        url: str,
        schema_name: str | None,
        file_mode: int = PRIVATE,  # noqa: ARG002
    ) -> Engine:
        given = driver_parameters(url)
        ours = {
            "connect_timeout": LOGIN_TIMEOUT_S,
            "keepalives": 1,
            "keepalives_idle": KEEPALIVE_IDLE_S,
            "keepalives_interval": KEEPALIVE_INTERVAL_S,
            "keepalives_count": KEEPALIVE_COUNT,
            "tcp_user_timeout": UNACKNOWLEDGED_MS,
            "application_name": "heatmap-etl",
            # Else the database's, which the driver may not know, or which may lack characters.
            "client_encoding": "utf8",
            # A prepared statement outlives its transaction, and a pooler may hand the connection
            # that has it to another client.
            "prepare_threshold": None,
        }
        engine = create_engine(
            url,
            # The driver begins no transaction: `begin` below does, with what it depends on.
            isolation_level="AUTOCOMMIT",
            pool_pre_ping=True,
            use_native_hstore=False,  # we have none, and each connection would look for it
            connect_args=ours | given,
        )
        bound_waits(engine, connect, given)
        begin_statement = _begin(schema_name)

        @event.listens_for(engine, "connect")
        def prepare(connection: Any, _record: object) -> None:
            # JSON is read as text; the driver would parse it and lose its spelling.
            connection.adapters.register_loader("json", connection.adapters.get_loader(25, 0))

        @event.listens_for(engine, "begin")
        def begin(connection: Connection) -> None:
            connection.exec_driver_sql(begin_statement)

        return engine

    def read_comments(
        self, connection: Connection, tables: Collection[str], views: Collection[str]
    ) -> Comments:
        from etl.database.dialects import postgresql_comments

        return postgresql_comments.read(connection, [*tables, *views])

    def write_comments(
        self, connection: Connection, comments: Comments, views: Collection[str]
    ) -> None:
        from etl.database.dialects import postgresql_comments

        postgresql_comments.write(connection, comments, views)

    def hint_on_failure(self, message: str) -> str:
        return STATEMENT_MODE if "statement pooling mode" in message else ""

    def tell(self, error: BaseException) -> str:
        """Neither detail nor context: they hold rows. A message quotes values where data are wrong,
        and where a function of somebody makes statements of them."""
        diagnosis: Any = getattr(error, "diag", None)
        message: str | None = diagnosis and diagnosis.message_primary
        if not message:  # the driver's own
            message = super().tell(error)
            return without_values(message) if type(error).__name__ == "DataError" else message
        code, context = diagnosis.sqlstate or "", diagnosis.context or ""
        by_function = bool(context) and not context.startswith("COPY ")
        if code in _ENCODINGS:
            return _BYTES.sub(HIDDEN, message)
        if code.startswith(_DATA) or code == _SYNTAX or (by_function and code != _RAISED):
            message = without_values(message)
        if by_function:
            return message  # which could name anything as a table
        if code in _OBJECTS and diagnosis.message_detail:
            message += f": {diagnosis.message_detail}"
        copied = re.search(r"^COPY \w+, \w+ \d+, \w+ (\w+)", context, re.MULTILINE)
        named = {
            "table": diagnosis.table_name,
            "column": diagnosis.column_name or (copied and copied[1]),
            "constraint": diagnosis.constraint_name,
        }
        names = [
            f"{kind} {name}"
            for kind, name in named.items()
            if name and not re.search(rf"\b{re.escape(name)}\b", message)
        ]
        return f"{message} ({', '.join(names)})" if names else message

    def code(self, error: BaseException | None) -> Code | None:
        code: str | None = getattr(error, "sqlstate", None)
        return code

    def is_locked(self, connection: Connection, query: Select[Any]) -> bool:
        # Seen, not tried: a trial needs a right, a server that takes writes, and locks others out.
        (table,) = query.get_final_froms()
        name = {"name": cast("Table", table).name}
        if not connection.execute(_SHOWS_LOCKS, name).scalar():
            return False
        return connection.execute(query.where(_OF_LOCKED)).first() is not None

    def is_full(self, error: BaseException) -> bool:
        # A quota has no code of its own.
        is_quota = re.search("quota exceeded", said_of(error), re.IGNORECASE)
        return self.code(error) == _DISK_FULL or bool(is_quota)

    def limit_hint(self, error: BaseException) -> str:
        diagnosis: Any = getattr(error, "diag", None)
        code = self.code(error)
        if _is_of_policy(error):
            return "change that policy: heatmap-etl must be allowed to write these rows"
        if code == _KEY_TAKEN and diagnosis.constraint_name == f"pk_{diagnosis.table_name}":
            return "if a policy hides rows of that table from this login, let it see them"
        return _LIMITS.get(code, "") if code else ""

    def place(self, connection: Connection, message: str) -> str:
        found = re.search(r"pg_tblspc/(\d+)/", message)
        if found is None:
            return "the disk of the database server that holds this file"
        name, folder, size = connection.execute(_TABLESPACE, {"oid": int(found[1])}).one()
        in_use = f", {size // 10**6:,} MB in use" if size is not None else ""
        return f"the tablespace {name} of the database server ({folder}{in_use})"

    def is_denied(self, error: DBAPIError) -> bool:
        return super().is_denied(error) and not _is_of_policy(error.orig)

    def spoilt_settings(self, connection: Connection, schema_name: str | None) -> list[str]:
        pinned = _pinned(schema_name) | {"transaction_isolation": "read committed"}
        wanted = {n: v.strip("'") for n, v in pinned.items() if v != "DEFAULT"}
        spoilt = []
        for name, found in connection.execute(_SETTINGS, {"names": list(wanted)}):
            now, expected = (value.replace('"', "") for value in (found, wanted[name]))
            if now != expected:
                spoilt.append(f"{name} is {now}, not {expected}")
        return spoilt

    def allow_long_answers(self, connection: Connection) -> None:
        """Let the transaction idle as long, too: what reads an export may be slow."""
        super().allow_long_answers(connection)
        idle = f"SET LOCAL idle_in_transaction_session_timeout TO '{LONG_ANSWER_TIMEOUT_S}s'"
        connection.exec_driver_sql(idle)

    def create_schema(self, connection: Connection, name: str | None) -> None:
        # IF NOT EXISTS needs the right to create a schema even where it exists.
        if name and not inspect(connection).has_schema(name):
            connection.exec_driver_sql(f'CREATE SCHEMA IF NOT EXISTS "{name}"')

    def try_to_create(self, connection: Connection, schema_name: str | None) -> None:
        self.create_schema(connection, schema_name)
        connection.exec_driver_sql(f"CREATE TABLE heatmap_etl_{token_hex(8)} (id integer)")

    def batches(
        self, connection: Connection, query: Select[Any], size: int
    ) -> Iterator[Sequence[SqlRow[Any]]]:
        """By a cursor in SQL: pgpool-II does not understand that of the driver."""
        # With the values of an IN, each has a parameter of its own.
        kwargs = {"render_postcompile": True}
        compiled = query.compile(dialect=connection.dialect, compile_kwargs=kwargs)
        declare = f"DECLARE {_CURSOR} NO SCROLL CURSOR FOR {compiled}"
        connection.exec_driver_sql(declare, compiled.params)
        fetch = text(f"FETCH {size} FROM {_CURSOR}").columns(*query.selected_columns)
        while rows := connection.execute(fetch).all():
            yield rows
        connection.exec_driver_sql(f"CLOSE {_CURSOR}")

    def byte_order(self, column: Column[Any]) -> ColumnElement[Any]:
        """Whatever language the database sorts by."""
        return column.collate("C") if isinstance(column.type, String) else column

    def read_live(
        self, cursor: Any, view_key: str, source: str
    ) -> tuple[dict[str, str], Sequence[Row]]:
        return lookup.live_as_json(cursor, view_key, source, mark="%s", to_object="json_object_agg")

    def read_ids(self, cursor: Any, ids: Sequence[str]) -> Sequence[Row]:
        """One statement for any number of ids, so that it is parsed once."""
        return lookup.fetched(cursor, _ONE_BY_ONE, (lookup.as_json(ids),))

    def insert_new(self, connection: Connection, table: Table, rows: Sequence[Row]) -> None:
        """By COPY into the table itself, which PostgreSQL refuses where a policy filters its rows.

        A key that is taken is an error.
        """
        with driver_cursor(connection) as cursor:
            ((is_filtered,),) = lookup.fetched(
                cursor, "SELECT row_security_active(%s)", (table.name,)
            )
            if is_filtered:
                _insert_through_incoming(cursor, table, rows)
            else:
                _copy(cursor, table, table.name, rows)

    def upsert(self, connection: Connection, table: Table, rows: Sequence[Row]) -> None:
        """By binary COPY into a temporary table, then one INSERT from it."""
        key, *others = table.columns.keys()
        assign = ", ".join(f"{name} = EXCLUDED.{name}" for name in others)
        on_conflict = f" ON CONFLICT ({key}) DO UPDATE SET {assign}"
        with driver_cursor(connection) as cursor:
            _insert_through_incoming(cursor, table, rows, on_conflict)

    def wait_briefly(self, connection: Connection, seconds: int) -> None:
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{seconds}s'")

    def check_deferred(self, connection: Connection) -> None:
        connection.exec_driver_sql("SET CONSTRAINTS ALL IMMEDIATE")


def _is_of_policy(error: BaseException | None) -> bool:
    """Whether row level security refused a row. Its code is that of a right that is missing, and
    its message may be in any language."""
    diagnosis: Any = getattr(error, "diag", None)
    return bool(diagnosis and diagnosis.source_function == "ExecWithCheckOptions")


def _insert_through_incoming(
    cursor: Any, table: Table, rows: Sequence[Row], on_conflict: str = ""
) -> None:
    names = _names(table)
    cursor.execute(_MAKE_INCOMING.format(names, table.name))
    _copy(cursor, table, _INCOMING, rows)
    insert = f"INSERT INTO {table.name} ({names}) SELECT {names} FROM {_INCOMING}"  # noqa: S608
    cursor.execute(insert + on_conflict)


def _copy(cursor: Any, table: Table, into: str, rows: Sequence[Row]) -> None:
    with cursor.copy(f"COPY {into} ({_names(table)}) FROM STDIN (FORMAT BINARY)") as copy:
        copy.set_types([_COPY_TYPES.get(type(column.type), "text") for column in table.columns])
        write = copy.write_row
        for row in rows:
            write(row)


def _names(table: Table) -> str:
    return ", ".join(table.columns.keys())
