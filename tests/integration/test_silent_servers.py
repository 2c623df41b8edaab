"""Every wait for a server ends: of a port that accepts and stays silent, and of a frozen server."""

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

from etl.database.connection import Database, open_database
from etl.database.cursor import driver_cursor
from etl.database.dialects import bounded, dialect_of
from etl.errors import DatabaseUnreachable
from tests.support.api import Api, record
from tests.support.command_line import Cli, finish
from tests.support.frozen import freeze, frozen, processes, thaw
from tests.support.project import make_config
from tests.support.servers import Server

COMMANDS = (
    ("sync",),
    ("status",),
    ("check",),
    ("db", "upgrade"),
    ("db", "status"),
    ("export", "current_snapshots"),
)
ON_SERVERS = pytest.mark.parametrize("dialect", ["postgresql", "mariadb"], indirect=True)
LOGIN_S = 2  # psycopg waits no less
SILENT = "the server gave no answer for {} s (timed out)"


def impatient(url: str, *, read_s: int = 1) -> str:
    return f"{url}?connect_timeout={LOGIN_S}&read_timeout={read_s}"


@pytest.fixture
def cli(tmp_path: Path, api: Api) -> Cli:
    cli = Cli(tmp_path)
    views = json.dumps(["/home"])
    cli.configure(f'views = {views}\n[datadog]\napi_url = "{api.url}"\n')
    return cli


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    config = make_config(impatient(database_url), "http://127.0.0.1:1")
    database = open_database(config.database_url, label="LABEL")
    yield database
    database.close()


@pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
def test_every_command_gives_a_silent_port_up(scheme: str, cli: Cli, api: Api) -> None:
    api.views["/home"] = [record("1")]
    with socket.create_server(("127.0.0.1", 0), backlog=50) as listener:
        place = f"127.0.0.1:{listener.getsockname()[1]}/x"
        url = impatient(f"{scheme}://etl:secret@{place}")
        began = time.monotonic()
        started = [cli.start(*one, HEATMAP_ETL_DATABASE_URL=url) for one in COMMANDS]
        for command, process in zip(COMMANDS, started, strict=True):
            done = finish(process)
            assert done.code == 2, (command, done)
            said = done.out + done.err
            assert SILENT.format(LOGIN_S) in said
            assert place in said
            assert "check host and port in database_url, and that the server runs" in said
            assert done.is_one_line() or command == ("check",)
        assert time.monotonic() - began < 30


@ON_SERVERS
def test_a_run_ends_when_its_server_is_frozen_in_the_middle(
    database_url: str, server: Server, cli: Cli, api: Api
) -> None:
    url = impatient(database_url)

    def answer() -> list[Any]:
        freeze(server)
        return [record("1")]

    api.views["/home"] = answer
    try:
        began = time.monotonic()
        done = finish(cli.start("sync", HEATMAP_ETL_DATABASE_URL=url))
        took_s = time.monotonic() - began
        assert done.code == 2, done
        last = done.err.splitlines()[-1]
        assert last.startswith("heatmap-etl: ")
        assert url.rpartition("@")[2].partition("?")[0] in last
        assert "the server gave no answer for " in last
        assert took_s < 35, took_s
        frozen_status = cli("status", HEATMAP_ETL_DATABASE_URL=url)
        assert frozen_status.code == 2
        assert SILENT.format(LOGIN_S) in frozen_status.err
    finally:
        thaw(server)
    api.views["/home"] = [record("1")]
    assert cli("sync", HEATMAP_ETL_DATABASE_URL=url).code == 0


@ON_SERVERS
def test_a_transaction_is_not_repeated_for_a_frozen_server(
    database: Database, server: Server
) -> None:
    tries = []

    def work(connection: Connection) -> None:
        tries.append(connection)
        connection.execute(text("SELECT 1"))
        freeze(server)
        connection.execute(text("SELECT 2"))

    began = time.monotonic()
    try:
        with pytest.raises(DatabaseUnreachable) as caught:
            database.transaction(work)
        assert time.monotonic() - began < 8
    finally:
        thaw(server)
    assert len(tries) == 1
    assert str(caught.value) == f"LABEL: {SILENT.format(1)}"
    # The answer that comes late is no other statement's.
    assert database.read(lambda c: c.execute(text("SELECT 3")).scalar()) == 3


@ON_SERVERS
def test_an_idle_connection_of_the_pool_is_tried_as_briefly_as_a_login(
    database: Database, server: Server
) -> None:
    with database.connect() as connection:
        driver: Any = connection.connection.dbapi_connection
        assert driver.answer_timeout_s == 1
    assert driver.answer_timeout_s == LOGIN_S
    began = time.monotonic()
    with frozen(server), pytest.raises(DatabaseUnreachable, match=r"no answer for 2 s"):
        database.read(lambda c: c.execute(text("SELECT 1")).scalar())
    assert time.monotonic() - began < 6 * LOGIN_S


@ON_SERVERS
def test_to_send_to_a_frozen_server_ends_too(database: Database, server: Server) -> None:
    """More than the buffers of the socket hold."""
    large = "x" * 15_000_000

    def work(connection: Connection) -> None:
        with driver_cursor(connection) as cursor:
            cursor.execute("SELECT 1")
            freeze(server)
            if database.family == "mysql":
                cursor.execute("SELECT LENGTH(%s)", (large,))
            else:
                with cursor.copy("COPY snapshots (id) FROM STDIN") as copy:
                    copy.write(large)

    began = time.monotonic()
    try:
        with pytest.raises(DatabaseUnreachable, match="LABEL: the server gave no answer for 1 s"):
            database.transaction(work)
    finally:
        thaw(server)
    assert time.monotonic() - began < 10


@ON_SERVERS
def test_what_comes_slowly_is_waited_for(database: Database) -> None:
    """The time-out is for the next sign of life, not for all of an answer."""
    slow = {
        "postgresql": "SELECT repeat('x', 100000), pg_sleep(0.4) FROM generate_series(1, 4)",
        "mysql": "SELECT REPEAT('x', 100000), SLEEP(0.4) FROM (VALUES (1), (2), (3), (4)) AS v",
    }[database.family]
    began = time.monotonic()
    assert len(database.read(lambda c: c.execute(text(slow)).all())) == 4
    assert time.monotonic() - began > 1.5


@ON_SERVERS
def test_a_migration_waits_longer_and_nothing_else(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(database_url, "http://127.0.0.1:1")
    monkeypatch.setattr(bounded, "ANSWER_TIMEOUT_S", 1)
    database = open_database(config.database_url, label="LABEL")
    sleep = "SELECT pg_sleep(1.5)" if database.family == "postgresql" else "SELECT SLEEP(1.5)"
    with database.connect() as connection:
        dialect_of(connection).allow_long_answers(connection)
        connection.execute(text(sleep)).all()
    with pytest.raises(DatabaseUnreachable, match="no answer for 1 s"):
        database.read(lambda c: c.execute(text(sleep)).all())
    database.close()


@ON_SERVERS
def test_the_socket_notices_a_host_that_is_gone(database: Database) -> None:
    with database.connect() as connection:
        driver: Any = connection.connection.dbapi_connection
        number = driver.fileno() if database.family == "postgresql" else driver._sock.fileno()
        with socket.socket(fileno=os.dup(number)) as opened:
            options = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
            found = [opened.getsockopt(socket.IPPROTO_TCP, getattr(socket, n)) for n in options]
            assert opened.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert found == [30, 10, 3, 60_000]


@pytest.mark.parametrize("dialect", ["postgresql"], indirect=True)
def test_a_frozen_session_alone_is_given_up(database: Database, server: Server) -> None:
    """As behind a pooler whose other side hangs: logins still succeed."""
    stopped: list[int] = []

    def work(connection: Connection) -> None:
        pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        assert pid in processes(server)
        stopped.append(pid)
        os.kill(pid, signal.SIGSTOP)
        connection.execute(text("SELECT 1"))

    try:
        with pytest.raises(DatabaseUnreachable, match="no answer for 1 s"):
            database.transaction(work)
    finally:
        os.kill(stopped[0], signal.SIGCONT)
    assert len(stopped) == 1
