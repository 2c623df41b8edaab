"""The throw-away databases that all other tests rely on."""

import os
import secrets
import shutil
import socket
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.pool import NullPool

from tests.support.databases import VERSION_TABLE, AllDatabases
from tests.support.servers import (
    PASSWORD,
    SERVERS,
    Server,
    ServerFailed,
    ServerMissing,
    Servers,
    account_of,
    make_folder,
)

DRIVERS = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg", "mariadb": "mariadb+pymysql"}
ON_SERVERS = pytest.mark.parametrize("dialect", sorted(SERVERS), indirect=True)


def with_driver(url: str) -> URL:
    plain = make_url(url)
    return plain.set(drivername=DRIVERS[plain.drivername])


def run(url: str, *statements: str):
    engine = create_engine(with_driver(url), poolclass=NullPool)
    with engine.begin() as connection:
        for statement in statements:
            result = connection.execute(text(statement))
        return result.all() if result.returns_rows else []


def table_names(url: str) -> list[str]:
    return inspect(create_engine(with_driver(url), poolclass=NullPool)).get_table_names()


def stand_in_for_migrations(url: str) -> None:
    run(
        url,
        f"create table {VERSION_TABLE} (version_num varchar(32) not null)",
        f"insert into {VERSION_TABLE} values ('0001')",
        "create table parent (id integer primary key)",
        "create table child (id integer primary key, parent integer references parent (id))",
    )


@pytest.fixture
def databases(dialect, servers, require_server, tmp_path):
    require_server(dialect)
    return AllDatabases(servers, tmp_path, stand_in_for_migrations).of(dialect)


@pytest.fixture
def server(dialect, require_server):
    require_server(dialect)
    server = SERVERS[dialect].launch()
    yield server
    server.stop()


def test_database_answers_through_its_driver(empty_database_url):
    assert run(empty_database_url, "select 1") == [(1,)]


def test_empty_database_is_empty(empty_database_url):
    assert table_names(empty_database_url) == []


def test_two_databases_of_a_test_are_distinct(dialect, new_database):
    first, second = (new_database(dialect, migrated=False) for _ in range(2))
    run(first, "create table only_here (id integer)")
    assert table_names(first) == ["only_here"]
    assert table_names(second) == []


def test_migrated_database_comes_without_rows_of_the_one_before(databases):
    first = databases.migrated()
    run(first, "insert into parent values (1)", "insert into child values (1, 1)")
    databases.free(first)

    second = databases.migrated()
    assert run(second, "select count(*) from child") == [(0,)]
    assert run(second, "select count(*) from parent") == [(0,)]
    assert run(second, f"select version_num from {VERSION_TABLE}") == [("0001",)]
    databases.free(second)


def test_changed_schema_is_not_handed_on(databases):
    first = databases.migrated()
    run(first, "alter table child add column more integer")
    databases.free(first)

    second = databases.migrated()
    columns = inspect(create_engine(with_driver(second), poolclass=NullPool)).get_columns("child")
    assert [column["name"] for column in columns] == ["id", "parent"]
    databases.free(second)


def test_database_is_freed_although_a_session_is_left_in_a_transaction(databases):
    url = databases.migrated()
    engine = create_engine(with_driver(url))
    connection = engine.connect()
    connection.execute(text("select * from parent")).all()
    databases.free(url)
    connection.invalidate()
    engine.dispose()


@ON_SERVERS
def test_wrong_password_is_refused(empty_database_url):
    url = make_url(empty_database_url)
    assert url.password == PASSWORD
    with pytest.raises(Exception, match=r"(?i)password"):
        run(url.set(password="wrong").render_as_string(hide_password=False), "select 1")


@ON_SERVERS
def test_nothing_is_left_of_a_stopped_server(server: Server):
    assert server.process is not None
    pid, port, folder = server.process.pid, server.port, server.folder
    server.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with socket.socket() as client:
        assert client.connect_ex(("127.0.0.1", port)) != 0
    assert not folder.exists()


@pytest.fixture
def broken_binaries(monkeypatch):
    # Not in tmp_path: root's server runs as another account, which cannot look into it.
    folder = make_folder("broken", None)
    folder.chmod(0o755)
    for program in ("initdb", "postgres", "mariadb-install-db", "mariadbd"):
        (folder / program).write_text("#!/bin/sh\necho no room for the cat >&2\nexit 3\n")
        (folder / program).chmod(0o755)
    monkeypatch.setenv("DATABASE_BINARIES", str(folder))
    yield
    shutil.rmtree(folder)


@ON_SERVERS
def test_server_that_cannot_start_shows_its_log(dialect, broken_binaries):
    servers = Servers()
    for _ in range(2):
        with pytest.raises(ServerFailed, match="no room for the cat"):
            servers.get(dialect)
    servers.stop()


@ON_SERVERS
def test_missing_binaries_are_said(dialect, monkeypatch, tmp_path: Path):
    monkeypatch.setenv("DATABASE_BINARIES", str(tmp_path))
    with pytest.raises(ServerMissing, match="was not found"):
        Servers().get(dialect)


@pytest.mark.parametrize("dialect", ["mariadb"], indirect=True)
def test_starting_leaves_the_temporary_tables_of_others(dialect, require_server):
    require_server(dialect)
    table = Path("/tmp", f"#sql-temptable-{secrets.token_hex(4)}.MAI")
    table.touch()
    try:
        if account := account_of(SERVERS[dialect].accounts):
            shutil.chown(table, account)
        SERVERS[dialect].launch().stop()
        assert table.exists()
    finally:
        table.unlink(missing_ok=True)


def test_surroundings_are_clean():
    left = [name for name in os.environ if name.startswith(("DD_", "HEATMAP_ETL_"))]
    assert left == []
    assert "DATABASE_URL" not in os.environ
