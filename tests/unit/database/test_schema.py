"""The catalogue against each database: names, comments, and values that come back as they went."""

import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pymysql
import pytest
from sqlalchemy import Index, Table, inspect, select, text
from sqlalchemy.exc import StatementError

from etl.config.database_url import parse_database
from etl.database import schema
from etl.database.connection import Database, open_database
from etl.transform.snapshot import CONTENT
from tests.support.servers import Servers

pytestmark = pytest.mark.every_server

TABLES: list[Table] = schema.metadata.sorted_tables
INSTANT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
INT64 = (-(2**63), -1, 0, 1, 2**63 - 1)

# As DESIGN has them, section 2; what is added there is added here.
SNAPSHOTS = """
    id, source, view_key, synced_view, application_id, created_at, created_by, created_by_handle,
    created_by_user_id, device_type, event_id, is_device_type_selected_by_user, modified_at,
    org_id, session_id, snapshot_name, start_ms, view_id, view_name, extra, content_hash,
    first_seen_at, version, began, changed_columns, valid_from, missing_since, removed_at
""".replace(",", " ").split()
OF_HISTORY_ONLY = ["snapshot_id", "valid_to", "ended"]
OF_SNAPSHOTS_ONLY = ["id", "first_seen_at", "missing_since", "removed_at"]


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    parsed = parse_database(database_url, Path.cwd())
    database = open_database(parsed.url, label=parsed.label)
    yield database
    database.close()


def row(identifier: str, **values: Any) -> dict[str, Any]:
    return {
        "id": identifier,
        "source": "s",
        "view_key": "k",
        "synced_view": "/home",
        "content_hash": "1:0",
        "first_seen_at": INSTANT,
        "version": 1,
        "began": "baseline",
        "valid_from": INSTANT,
        **values,
    }


def store(database: Database, rows: list[dict[str, Any]]) -> None:
    with database.connect() as connection, connection.begin():
        for values in rows:
            connection.execute(schema.snapshots.insert(), values)


def stored(database: Database, column: str) -> dict[str, Any]:
    with database.connect(write=False) as connection:
        query = select(schema.snapshots.c.id.label("key"), schema.snapshots.c[column])
        return {found[0]: found[1] for found in connection.execute(query)}


def back(database: Database, column: str, values: list[Any]) -> list[Any]:
    """What the column gives back for each of the values."""
    store(database, [row(f"{n:03}", **{column: value}) for n, value in enumerate(values)])
    return [value for _, value in sorted(stored(database, column).items())]


# --- names and comments -------------------------------------------------------------------


def test_snapshots_has_the_columns_of_the_design_in_its_order():
    assert list(schema.snapshots.c.keys()) == SNAPSHOTS


def test_the_history_has_the_same_content_and_where_a_version_begins_and_ends():
    shared = [name for name in SNAPSHOTS if name not in OF_SNAPSHOTS_ONLY]
    assert sorted(schema.snapshot_history.c.keys()) == sorted(shared + OF_HISTORY_ONLY)
    for name in shared:
        ours, theirs = schema.snapshot_history.c[name], schema.snapshots.c[name]
        assert (repr(ours.type), ours.nullable) == (repr(theirs.type), theirs.nullable)


def test_content_columns_stand_in_the_order_of_the_snapshots_fields():
    columns = list(schema.snapshots.c.keys())
    first = columns.index(CONTENT[0])
    assert columns[first : first + len(CONTENT) + 1] == [*CONTENT, "content_hash"]


def test_every_table_and_column_says_what_it_means():
    wordless = [table.name for table in TABLES if not (table.comment or "").strip()]
    columns = [column for table in TABLES for column in table.columns]
    wordless += [str(column) for column in columns if not (column.comment or "").strip()]
    assert wordless == []
    assert len(columns) > len(TABLES) > 0


@pytest.mark.parametrize("dialect", ["postgresql", "mariadb"])
def test_the_database_says_the_same(dialect: str, database: Database):
    with database.connect(write=False) as connection:
        look = inspect(connection)
        for table in TABLES:
            assert look.get_table_comment(table.name)["text"] == table.comment
            comments = {c["name"]: c["comment"] for c in look.get_columns(table.name)}
            assert comments == {column.name: column.comment for column in table.columns}


def test_every_constraint_and_index_is_named_by_the_convention(database: Database):
    with database.connect(write=False) as connection:
        look = inspect(connection)
        for table in TABLES:
            name = table.name
            primary = look.get_pk_constraint(name)["name"]
            # MariaDB has one name for every primary key and does not tell it.
            assert primary == (None if database.family == "mysql" else f"pk_{name}")
            for index in look.get_indexes(name):
                columns = [str(column) for column in index["column_names"]]
                assert index["name"] == "_".join(["ix", name, *columns])
            unnamed = [*look.get_unique_constraints(name), *look.get_foreign_keys(name)]
            assert unnamed == look.get_check_constraints(name) == []


def test_the_convention_gives_every_kind_of_constraint_a_name():
    assert set(schema.metadata.naming_convention) == {"ix", "uq", "ck", "fk", "pk"}
    indexes = [thing for table in TABLES for thing in table.indexes]
    assert all(isinstance(index, Index) and index.name for index in indexes)
    assert indexes


def test_all_names_can_be_written_without_quotes(database: Database):
    with database.connect(write=False) as connection:
        for table in TABLES:
            names = [column.name for column in table.columns]
            columns = ", ".join(names)
            result = connection.execute(text(f"SELECT {columns} FROM {table.name}"))
            assert list(result.keys()) == names
            condition = " AND ".join(f"{name} IS NULL" for name in names)
            connection.execute(text(f"SELECT 1 FROM {table.name} WHERE {condition}"))
            for name in names:
                connection.execute(text(f"SELECT 1 AS {name} FROM {table.name} AS {table.name}"))


def names() -> set[str]:
    return {table.name for table in TABLES} | {c.name for table in TABLES for c in table.columns}


def test_no_name_is_a_reserved_word_of_postgresql(
    require_server: Callable[[str], None], servers: Servers
):
    require_server("postgresql")
    found = servers.get("postgresql").execute(
        "SELECT word FROM pg_get_keywords() WHERE catcode IN ('R', 'T')"
    )
    reserved = {word for (word,) in found}
    assert {"foreign", "select", "user"} <= reserved
    assert names() & reserved == set()


def test_no_name_is_a_reserved_word_of_mariadb(
    require_server: Callable[[str], None], servers: Servers
):
    # information_schema.keywords does not say which words are reserved; the parser does.
    require_server("mariadb")
    server = servers.get("mariadb")
    keywords = {
        word.lower() for (word,) in server.execute("SELECT word FROM information_schema.keywords")
    }
    assert is_reserved(server, "foreign")
    assert is_reserved(server, "change")
    assert not is_reserved(server, "began")
    assert [name for name in sorted(names() & keywords) if is_reserved(server, name)] == []


def is_reserved(server: Any, word: str) -> bool:
    try:
        server.execute(f"SELECT 1 AS {word}")
    except pymysql.err.ProgrammingError as error:
        return "SQL syntax" in str(error)
    return False


# --- values -------------------------------------------------------------------------------


def test_instants_come_back_aware_in_utc_and_to_the_microsecond(database: Database):
    instants = [
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(1, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
        datetime(1582, 10, 10, 12, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        datetime(2026, 3, 29, 1, 30, 0, 123456, tzinfo=UTC),
        INSTANT,
        datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    ]
    found = back(database, "created_at", [*instants, None])
    assert found == [*instants, None]
    assert {value.utcoffset() for value in found if value} == {timedelta(0)}


def test_an_instant_of_another_zone_is_stored_as_the_same_instant(database: Database):
    elsewhere = INSTANT.astimezone(timezone(timedelta(hours=-9, minutes=-30)))
    (found,) = back(database, "created_at", [elsewhere])
    assert (found, found.tzinfo) == (INSTANT, UTC)


def test_an_instant_can_be_asked_for(database: Database):
    ticks = [INSTANT + timedelta(microseconds=n) for n in (-1, 0, 1)]
    back(database, "created_at", [*ticks])
    with database.connect(write=False) as connection:
        created_at = schema.snapshots.c.created_at
        equal = select(schema.snapshots.c.id).where(created_at == INSTANT)
        assert connection.execute(equal).scalars().all() == ["001"]
        in_order = select(created_at).order_by(created_at)
        assert connection.execute(in_order).scalars().all() == ticks


def test_an_instant_without_zone_is_refused(database: Database):
    with pytest.raises(StatementError, match="naive datetime"):
        store(database, [row("1", created_at=INSTANT.replace(tzinfo=None))])
    assert stored(database, "id") == {}


def test_ids_that_differ_in_anything_are_rows_of_their_own(database: Database):
    longest = "\U0001f600" * 255
    ids = [
        *("abc", "ABC", "abc ", " abc", "abc\t", "abc\n", "ábc", "abc\u0301", "a\u0301bc"),
        *("\U0001f600", "\U0001f601", "ß", "ss", "\u0131", "i", "I", "\u200b", "\u00a0", " ", "  "),
        *("'", "\\", "%", "_", "$1", ":id", "?", "null", "0", "00", "\ufffd", "\ufeff"),
        longest,
        longest[:-1],
    ]
    store(database, [row(identifier, synced_view=identifier) for identifier in ids])
    assert stored(database, "synced_view") == {identifier: identifier for identifier in ids}
    with database.connect(write=False) as connection:
        for identifier in ids:
            query = select(schema.snapshots.c.id).where(schema.snapshots.c.id == identifier)
            assert connection.execute(query).scalars().all() == [identifier]


def test_text_may_be_of_any_length(database: Database):
    texts = ["", " ", "x" * 70_000, "\U0001f600" * 70_000, "a\tb\r\nc\x01\x7f\u2028", None]
    assert back(database, "snapshot_name", texts) == texts


def test_integers_hold_all_of_64_bits(database: Database):
    for column in ("created_by_user_id", "org_id", "start_ms"):
        assert back(database, column, [*INT64, None]) == [*INT64, None]
        with database.connect() as connection, connection.begin():
            connection.execute(schema.snapshots.delete())


def test_booleans_come_back_as_booleans(database: Database):
    found = back(database, "is_device_type_selected_by_user", [True, False, None])
    assert found == [True, False, None]
    assert [type(value) for value in found] == [bool, bool, type(None)]


def test_numbers_of_seconds_keep_their_fraction(database: Database):
    values = dict.fromkeys(schema.COUNTS, 0) | {"run_id": "r", "view_key": "k", "view_name": "v"}
    times = [0.0, 0.1, math.pi, 86_400.000001]
    with database.connect() as connection, connection.begin():
        insert = schema.sync_run_views.insert()
        for n, seconds in enumerate(times):
            more = {"view_key": str(n), "verdict": "failed", "seconds": seconds}
            connection.execute(insert, values | more)
        query = select(schema.sync_run_views.c.seconds).order_by(schema.sync_run_views.c.view_key)
        assert connection.execute(query).scalars().all() == times


def test_json_comes_back_as_the_very_text(database: Database):
    texts = [
        "{}",
        '{"b":1,"a":2,"a":3}',
        "[1e400,-0.0,1.10,1E+2,12345678901234567890123456789.0]",
        '{"name":"nul \\u0000 and a lone surrogate \\ud800, \\u00e1 as an escape"}',
        '{ "spaces" :\t[ ] }',
        '"text"',
        "null",
        "0",
        '{"$top":{"type":"x"}}',
        '["' + "x" * 70_000 + '"]',
        None,
    ]
    assert back(database, "extra", texts) == texts


def test_what_a_required_column_lacks_is_refused(database: Database):
    for table in TABLES:
        with database.connect(write=False) as connection:
            found = {c["name"]: c["nullable"] for c in inspect(connection).get_columns(table.name)}
        assert found == {column.name: column.nullable for column in table.columns}


def test_a_table_has_the_options_of_its_own_kind_of_database_alone():
    assert schema.table_options("postgresql") == {}
    assert schema.table_options("mysql")["mysql_engine"] == "InnoDB"
    assert {name.partition("_")[0] for name in schema.table_options("mariadb")} == {"mariadb"}
