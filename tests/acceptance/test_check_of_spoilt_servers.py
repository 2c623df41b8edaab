"""`check` of servers that are not as a run needs them, each in another way, and what it says."""

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from etl.cli.app import main
from etl.errors import StoreError
from tests.support.api import Api, record
from tests.support.poolers import PgBouncer
from tests.support.project import make_config, open_project
from tests.support.servers import MariaDB, PostgreSQL, Servers

Check = Callable[[str], tuple[int, list[str]]]
BY_STATEMENT = "set binlog_format of the server to ROW or MIXED, also in its"


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


def test_a_pooler_that_knows_no_transactions(
    new_database: Callable[..., str], servers: Servers, check: Check
):
    url, server = make_url(new_database("postgresql")), servers.get("postgresql")
    assert isinstance(server, PostgreSQL)
    pooler = PgBouncer.before(server, "statement")
    try:
        code, lines = check(url.set(port=pooler.port).render_as_string(hide_password=False))
    finally:
        pooler.stop()
    assert code == 2
    (line,) = lines
    assert "transaction blocks not allowed in statement pooling mode" in line
    assert line.endswith("set pool_mode of PgBouncer to transaction or session")


def test_a_binary_log_of_statements_is_refused_with_what_to_do(
    require_server: Callable[[str], None], check: Check, api: Api
):
    """As up to MariaDB 10.2 was the default."""
    require_server("mariadb")
    server = MariaDB.launch("--log-bin", "--server-id=1", "--binlog-format=STATEMENT")
    try:
        url = server.url(server.create_database())
        project = open_project(make_config(url, api.url))
        without_tables = check(url)
        with pytest.raises(StoreError, match=BY_STATEMENT):
            project.run()
        for log in ("MIXED", "ROW"):
            server.execute(f"SET GLOBAL binlog_format = {log}")
            project.database.close()
            assert project.run().status == "ok"
            assert check(url) == (0, [])
        server.execute("SET GLOBAL binlog_format = STATEMENT")
        project.database.close()
        with_tables = check(url)
        with pytest.raises(StoreError, match=BY_STATEMENT):
            project.run()
        project.database.close()
    finally:
        server.stop()
    for (code, lines), doing in ((without_tables, "a table"), (with_tables, "each table")):
        assert code == 2
        (line,) = lines
        assert line.startswith(f"PROBLEM  writing        a row in {doing} fails:")
        assert "BINLOG_FORMAT = STATEMENT" in line
        assert BY_STATEMENT in line


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
ADVICE = "look for a trigger, rule, policy or column that others added"
TABLES = [
    (
        [SECURED, POLICY],
        'new row violates row-level security policy for table "view_state"; change that policy',
    ),
    ([FUNCTION, TRIGGER], f"adding snapshots: 0 of 120 new rows are in snapshots; {ADVICE}"),
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
    assert (ADVICE in line) is (POLICY not in statements)
