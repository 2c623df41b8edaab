"""From a URL as people write it to a connection, or to a message that keeps the password."""

import os
import re
import secrets
import socket
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import quote

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.engine import make_url

from etl.config.database_url import parse_database
from etl.database import schema
from etl.database.connection import Database, open_database, unreachable
from etl.database.dialects import dialect_named
from etl.database.dialects.bounded_pymysql import BoundedConnection
from etl.database.migrations import schema_state, upgrade
from etl.errors import DatabaseUnreachable
from etl.load.lookup import Tables
from etl.load.versions import Owner
from tests.support.api import Api, record
from tests.support.project import make_config, open_project
from tests.support.servers import PASSWORD, USER, Servers

SPECIAL = "p@ss:w/rd?#[]% &=+'\"\\ü€\U0001f600"
SERVER_DIALECTS = ["postgresql", "mariadb"]


@pytest.fixture
def opened() -> Iterator[Callable[[str], Database]]:
    """`opened(url)`: closed after the test."""
    databases: list[Database] = []

    def make(url: str) -> Database:
        parsed = parse_database(url, Path.cwd())
        databases.append(open_database(parsed.url, label=parsed.label))
        return databases[-1]

    yield make
    for database in databases:
        database.close()


def refusal(url: str, opened: Callable[[str], Database]) -> str:
    with pytest.raises(DatabaseUnreachable) as caught:
        schema_state(opened(url))
    chained = caught.value.__cause__
    # A traceback, should one ever be logged, holds no more than the message.
    assert chained is None
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("cannot open the database ")
    return message


def with_parts(url: str, **parts: Any) -> str:
    return make_url(url).set(**parts).render_as_string(hide_password=False)


@pytest.mark.parametrize("scheme", ["", "mysql"])
@pytest.mark.parametrize("dialect", SERVER_DIALECTS)
def test_a_wrong_password_is_not_told(
    dialect: str, scheme: str, empty_database_url: str, opened: Callable[[str], Database]
):
    if dialect == "postgresql" and scheme:
        scheme = "postgres"
    url = make_url(empty_database_url)
    wrong = with_parts(empty_database_url, password="wr0ng-p@ss")
    wrong = scheme + wrong.removeprefix(url.drivername) if scheme else wrong
    message = refusal(wrong, opened)
    assert "wr0ng" not in message
    assert "ss@" not in message
    assert f"etl@127.0.0.1:{url.port}/{url.database}" in message
    assert message.endswith("; check user and password in database_url")
    assert "password" in message  # in the driver's words, that this was the reason


@pytest.mark.parametrize("dialect", SERVER_DIALECTS)
def test_an_unknown_database_is_named(
    dialect: str, empty_database_url: str, opened: Callable[[str], Database]
):
    message = refusal(with_parts(empty_database_url, database="nowhere"), opened)
    assert "/nowhere: " in message
    assert PASSWORD not in message
    # MariaDB does not tell a user without rights that it is not there.
    hint = "create the database" if dialect == "postgresql" else "let this user use the database"
    assert message.endswith(f"; {hint}, or name another one")


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("Unknown database 'nowhere'", "create the database"),
        ('FATAL:  database "nowhere" does not exist', "create the database"),
        ('FATAL:  role "nobody" does not exist', "user and password"),
        ('FATAL:  Peer authentication failed for user "etl"', "user and password"),
        ("fe_sendauth: no password supplied", "user and password"),
        ("Access denied for user 'etl'@'h' (using password: NO)", "user and password"),
        ("Access denied for user 'etl'@'%' to database 'd'", "let this user use"),
        ("connection timeout expired", "host and port"),
        ("Can't connect to MySQL server on 'h' (timed out)", "host and port"),
        ("FATAL:  sorry, too many clients already", "check database_url and that the server runs"),
    ],
)
def test_what_a_server_says_leads_to_what_to_do(said: str, hint: str):
    assert (
        hint
        in str(unreachable(dialect_named("postgresql"), "x", OSError(said))).rpartition("; ")[2]
    )


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "mariadb", "mysql"])
def test_a_server_that_does_not_run_is_named(scheme: str, opened: Callable[[str], Database]):
    with socket.socket() as taken:
        # Bound but not listening: nobody else can answer there.
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        message = refusal(f"{scheme}://etl:s3cret@127.0.0.1:{port}/x", opened)
    assert f"127.0.0.1:{port}/x" in message
    assert "refused" in message
    assert message.endswith("; check host and port in database_url, and that the server runs")
    assert "s3cret" not in message


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://etl:s3cret@nobody.invalid/x",
        "mariadb://etl:s3cret@nobody.invalid/x",
        "mysql://etl:s3cret@nobody.invalid/x",
        "postgresql://etl:s3cret@two..dots/x",
        "mariadb://etl:s3cret@two..dots/x",
        "postgresql://etl@127.0.0.1:1/x?password=s3cret",
        "postgresql://etl:s3cret@127.0.0.1:1/x?unheard_of=s3cret",
        "mariadb://etl:s3cret@127.0.0.1:1/x?unheard_of=s3cret",
        "mariadb://etl:s3cret@127.0.0.1:1/x?read_timeout=0",
        "mariadb://etl:s3cret@127.0.0.1:1/x?ssl_ca=not-there.pem",
        "mysql://etl:s3cret€@127.0.0.1:1/x",
    ],
)
def test_a_url_that_the_driver_cannot_use_is_one_line_without_password(
    url: str, opened: Callable[[str], Database]
):
    message = refusal(url, opened)
    assert "s3cret" not in message
    assert "database_url" in message
    if ".invalid" in url or "@127.0.0.1:1/x?password" in url:
        assert "check host and port" in message


@pytest.mark.parametrize(
    "prepare",
    [
        pytest.param(Path.absolute, id="its folder is missing"),
        pytest.param(os.makedirs, id="it is a folder"),
    ],
)
def test_a_sqlite_file_that_cannot_be_opened_is_named(
    prepare: Callable[[Path], object], tmp_path: Path, opened: Callable[[str], Database]
):
    path = tmp_path / "no" / "x.db"
    prepare(path)
    message = refusal(f"sqlite:///{path}", opened)
    assert str(path) in message
    assert "check that the folder exists and can be written" in message


def test_a_sqlite_file_that_holds_something_else_is_left_as_it_is(
    tmp_path: Path, opened: Callable[[str], Database]
):
    path = tmp_path / "letter.db"
    path.write_text("Dear reader, this is no database.\n" * 100, encoding="utf-8")
    before = path.read_bytes()
    message = refusal(f"sqlite:///{path}", opened)
    assert message.endswith("it is not a SQLite database; name another file")
    assert path.read_bytes() == before


def test_a_sqlite_parameter_that_is_no_number_is_refused_in_one_line(
    tmp_path: Path, opened: Callable[[str], Database]
):
    assert "soon" in refusal(f"sqlite:///{tmp_path}/x.db?timeout=soon", opened)


@pytest.mark.parametrize("dialect", SERVER_DIALECTS)
def test_a_password_of_special_characters_works_when_it_is_percent_encoded(
    dialect: str, empty_database_url: str, opened: Callable[[str], Database], servers: Servers
):
    server, url = servers.get(dialect), make_url(empty_database_url)
    user = f"etl_{secrets.token_hex(4)}"
    literal = SPECIAL.replace("'", "''")
    if dialect == "postgresql":
        server.execute(f"CREATE ROLE {user} LOGIN PASSWORD '{literal}'")
        server.execute(f"GRANT etl TO {user}")
    else:
        account = f"{user}@'127.0.0.1'"
        literal = literal.replace("\\", "\\\\")
        # The servers' helper speaks Latin-1 no more than we do: utf8mb4 is the driver's default.
        server.execute(f"CREATE USER {account} IDENTIFIED BY '{literal}'")
        server.execute(f"GRANT ALL ON `{url.database}`.* TO {account}")
    place = f"127.0.0.1:{url.port}/{url.database}"
    try:
        database = opened(f"{dialect}://{user}:{quote(SPECIAL, safe='')}@{place}")
        with database.connect(write=False) as connection:
            assert connection.execute(text("SELECT 1")).scalar() == 1
        message = refusal(f"{dialect}://{user}:{quote(SPECIAL + 'x', safe='')}@{place}", opened)
        assert SPECIAL not in message
        assert quote(SPECIAL, safe="") not in message
        database.close()
    finally:
        server.execute(f"DROP USER {user}" + ("" if dialect == "postgresql" else "@'127.0.0.1'"))


def test_on_mariadb_the_tables_are_exact_whatever_the_servers_character_set_is(
    new_database: Callable[..., str], opened: Callable[[str], Database], servers: Servers
):
    url = new_database("mariadb", migrated=False)
    name = url.rpartition("/")[2]
    server = servers.get("mariadb")
    server.execute(f"ALTER DATABASE `{name}` CHARACTER SET latin1 COLLATE latin1_swedish_ci")
    database = opened(url)
    upgrade(database)
    found = server.execute(
        "SELECT DISTINCT collation_name, engine FROM information_schema.columns"
        " JOIN information_schema.tables USING (table_schema, table_name)"
        f" WHERE table_schema = '{name}' AND table_name <> '{schema.VERSION_TABLE}'"
        " AND collation_name IS NOT NULL AND table_type = 'BASE TABLE'"
    )
    assert found == [("utf8mb4_nopad_bin", "InnoDB")]
    assert schema.TABLE_OPTIONS["mariadb_collate"] == "utf8mb4_nopad_bin"


def test_a_transaction_that_nobody_goes_on_with_is_ended_by_the_server(
    new_database: Callable[..., str], opened: Callable[[str], Database]
):
    for dialect, asked in (
        ("postgresql", "SELECT current_setting('idle_in_transaction_session_timeout')"),
        ("mariadb", "SELECT @@idle_transaction_timeout"),
    ):
        with opened(new_database(dialect, migrated=False)).connect(write=False) as connection:
            assert str(connection.execute(text(asked)).scalar()) in ("30", "30s")


def test_mysql_8_is_not_asked_for_what_only_mariadb_has():
    engine = dialect_named("mysql").make_engine("mysql+pymysql://etl@127.0.0.1/x", None)
    with (
        patch.object(BoundedConnection, "__init__", side_effect=OSError("nobody")) as connect,
        pytest.raises(OSError, match="nobody"),
    ):
        engine.connect()
    statement = connect.call_args.kwargs["init_command"]
    plain = re.sub(r"/\*M!.*?\*/", "", statement)
    assert "idle" in statement
    assert "idle" not in plain
    assert plain.rstrip().endswith("innodb_lock_wait_timeout = 10")


def test_mysql_urls_of_a_mariadb_server_get_what_mariadb_needs(
    new_database: Callable[..., str], opened: Callable[[str], Database]
):
    url = new_database("mariadb", migrated=False)
    upgrade(opened(url.replace("mariadb:", "mysql:", 1)))
    with opened(url).connect() as connection:
        created = connection.execute(text("SHOW CREATE TABLE snapshots")).one()[1]
    assert "utf8mb4_nopad_bin" in created


def test_a_sqlite_file_that_another_program_writes_to_is_waited_for(
    tmp_path: Path, opened: Callable[[str], Database]
):
    path = tmp_path / "x.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("CREATE TABLE t (c)")
        other.execute("BEGIN IMMEDIATE")
        database = opened(f"sqlite:///{path}")
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(database.transaction, lambda connection: connection.closed)
            with pytest.raises(TimeoutError):
                waiting.result(0.2)
            other.execute("COMMIT")
            assert waiting.result(20) is False


def test_only_a_connection_that_writes_makes_a_sqlite_file_write_ahead(
    tmp_path: Path, opened: Callable[[str], Database]
):
    path = tmp_path / "x.db"
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE t (c)")
    before = path.read_bytes()
    database = opened(f"sqlite:///{path}")
    assert schema_state(database).state == "absent"
    database.close()
    assert path.read_bytes() == before
    with database.connect():
        assert path.read_bytes() != before


def test_a_sqlite_file_writes_ahead(tmp_path: Path, opened: Callable[[str], Database]):
    with opened(f"sqlite:///{tmp_path}/x.db").connect() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(text("PRAGMA synchronous")).scalar() == 1
        assert connection.execute(text("PRAGMA busy_timeout")).scalar() == 30_000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("encoding", "failed"), [("LATIN1", ["/odd", "/odder"]), ("SQL_ASCII", [])]
)
def test_of_another_encoding_only_the_views_it_cannot_hold_fail(
    servers: Servers, api: Api, encoding: str, failed: list[str]
):
    server = servers.get("postgresql")
    name = f"of_{encoding.lower()}"
    options = f"owner {USER} encoding '{encoding}' locale 'C' template template0"
    server.execute(f"create database {name} {options}")
    api.views = {
        "/home": [record(f"{n}", snapshot_name="é") for n in range(9)],
        "/odd": [record("an id", view_name="/odd", snapshot_name="\U0001f600")],
        "/odder": [record(i, view_name="/odder") for i in ("of \U0001f600", "another id")],
    }
    project = open_project(make_config(server.url(name), api.url, list(api.views)))
    try:
        run = project.run()
        assert [v.view.name for v in run.views if v.verdict == "failed"] == failed
        assert len(project.rows("SELECT * FROM snapshots WHERE snapshot_name = 'é'")) == 9
        assert len(project.live()) == (9 if failed else 12)
        assert project.run().total("unchanged") == len(project.live())
    finally:
        project.database.close()
        server.drop_database(name)


def test_postgresql_plans_a_statement_each_time_and_keeps_none_prepared(
    new_database: Callable[..., str], opened: Callable[[str], Database]
):
    """A plan from when a table was small reads all of it for each id, however large it has grown;
    and a prepared statement would meet another client behind a pooler."""

    def plan(connection: Connection) -> tuple[int, str]:
        for _ in range(14):
            Tables(connection).ids(Owner("a source", "a view", "/a"), ["an id"])
        left = connection.execute(text("SELECT count(*) FROM pg_prepared_statements")).scalar_one()
        ask = text("EXPLAIN SELECT * FROM snapshots WHERE id = :id")
        return left, str(connection.execute(ask, {"id": "an id"}).all())

    left, told = opened(new_database("postgresql")).transaction(plan)
    assert left == 0
    assert "an id" in told  # the value itself, where a plan for any value has $1
