"""`check` of servers that are not as a run needs them, each in another way, and what it says."""

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from etl.cli.app import main
from etl.database.migrations import upgrade_url
from tests.support.api import Api, record
from tests.support.project import make_config, open_project
from tests.support.servers import (
    PASSWORD,
    USER,
    MariaDB,
    Servers,
    account_of,
    free_port,
    make_folder,
)
from tests.support.waiting import wait_until

Check = Callable[[str], tuple[int, list[str]]]


@pytest.fixture
def check(
    tmp_path: Path, api: Api, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Check:
    """`check(url)`: exit code, and the lines of check that are no `ok`."""
    monkeypatch.setenv("DD_API_KEY", "api-key")
    monkeypatch.setenv("DD_APP_KEY", "app-key")
    api.views["/home"] = [record("a")]

    def check(url: str) -> tuple[int, list[str]]:
        config = tmp_path / "heatmap-etl.toml"
        config.write_text(
            f'database_url = "{url}"\nviews = ["/home"]\n[datadog]\napi_url = "{api.url}"\n',
            encoding="utf-8",
        )
        code = main(["check", "--config", str(config)])
        lines = capsys.readouterr().out.splitlines()
        return code, [line for line in lines if line.startswith("PROBLEM")]

    return check


@contextlib.contextmanager
def pooled_by_statement(port: int) -> Iterator[int]:
    """The port of a PgBouncer that gives a connection away after each statement."""
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("LOUD: pgbouncer was not found")
    account = account_of(("postgres", "nobody"))
    folder = make_folder("pgbouncer", account)
    ours = free_port()
    settings = folder / "pgbouncer.ini"
    settings.write_text(
        f"[databases]\n* = host=127.0.0.1 port={port} user={USER} password={PASSWORD}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {ours}\nunix_socket_dir =\n"
        "auth_type = any\npool_mode = statement\n",
        encoding="utf-8",
    )
    pooler = subprocess.Popen([program, "--quiet", settings], user=account, cwd=folder)
    try:
        wait_until(lambda: is_listening(ours))
        yield ours
    finally:
        pooler.terminate()
        pooler.wait(20)
        shutil.rmtree(folder)


def is_listening(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


class LoggingMariaDB(MariaDB):
    """One that logs by statement, as up to MariaDB 10.2 was the default."""

    def _command(self) -> list[str]:
        return [*super()._command(), "--log-bin", "--server-id=1", "--binlog-format=STATEMENT"]


def test_a_pooler_that_knows_no_transactions(
    new_database: Callable[..., str], servers: Servers, check: Check
):
    url = make_url(new_database("postgresql"))
    with pooled_by_statement(servers.get("postgresql").port) as port:
        code, lines = check(url.set(port=port).render_as_string(hide_password=False))
    assert code == 2
    (line,) = lines
    assert "transaction blocks not allowed in statement pooling mode" in line


def test_a_binary_log_by_statement(require_server: Callable[[str], None], check: Check):
    require_server("mariadb")
    server = LoggingMariaDB.launch()
    try:
        url = server.url(server.create_database())
        without_tables = check(url)
        server.execute("SET GLOBAL binlog_format = MIXED")
        upgrade_url(url)
        assert check(url) == (0, [])
        server.execute("SET GLOBAL binlog_format = STATEMENT")
        with_tables = check(url)
    finally:
        server.stop()
    for (code, lines), doing in ((without_tables, "a table"), (with_tables, "each table")):
        assert code == 2
        (line,) = lines
        assert line.startswith(f"PROBLEM  writing        a row in {doing} fails:")
        assert "BINLOG_FORMAT = STATEMENT" in line


def test_a_server_that_only_reads(new_database: Callable[..., str], servers: Servers, check: Check):
    url = new_database("mariadb")
    server = servers.get("mariadb")
    server.execute("SET GLOBAL read_only = 1")
    try:
        code, lines = check(url)
    finally:
        server.execute("SET GLOBAL read_only = 0")
    assert code == 2
    (line,) = lines
    assert "it is read-only; use its primary server, or another user" in line


POLICY = "CREATE POLICY own ON view_state USING (source = 'other')"
SECURED = "ALTER TABLE view_state ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY"
FUNCTION = "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$"
TRIGGER = "CREATE TRIGGER t BEFORE INSERT ON snapshots FOR EACH ROW EXECUTE FUNCTION f()"
TABLES = [
    ([SECURED, POLICY], 'new row violates row-level security policy for table "view_state"'),
    ([FUNCTION, TRIGGER], "adding snapshots: 0 of 1,100 new rows are in snapshots; look for"),
    (["ALTER TABLE sync_runs ADD team text NOT NULL"], 'null value in column "team"'),
]


@pytest.mark.parametrize(("statements", "expected"), TABLES)
def test_tables_with_something_of_others(
    new_database: Callable[..., str], check: Check, statements: list[str], expected: str
):
    url = new_database("postgresql")
    project = open_project(make_config(url, ""))
    for statement in statements:
        project.execute(statement)
    project.database.close()
    code, lines = check(url)
    assert code == 2
    (line,) = lines
    assert expected in line
    assert "look for a trigger, rule, policy or column that others added" in line
