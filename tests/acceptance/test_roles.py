"""Owner, writer and reader, made by the SQL of docs/operations.md on real servers."""

import re
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import NullPool, create_engine, inspect, text
from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError

from etl.cli.app import main
from etl.config.database_url import parse_database
from etl.database import schema
from etl.database.connection import open_database
from etl.database.migrations import upgrade
from tests.support.api import Api, record
from tests.support.paths import ROOT
from tests.support.servers import ADMIN, PASSWORD, SERVERS, Server, Servers

OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
HEADINGS = {"postgresql": "PostgreSQL", "mariadb": "MariaDB"}
REFUSED = (ProgrammingError, OperationalError)  # as PostgreSQL, as MariaDB says it

pytestmark = pytest.mark.parametrize("dialect", sorted(SERVERS), indirect=True)


def blocks(heading: str) -> list[list[str]]:
    """The statements of each block of SQL under the heading."""
    section = OPERATIONS.partition(f"### {heading}\n")[2].partition("\n## ")[0]
    section = section.partition("\n### ")[0]
    found = re.findall(r"^```sql\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    plain = [re.sub(r"--.*", "", block) for block in found]
    return [[s.strip() for s in block.split(";") if s.strip()] for block in plain]


@dataclass
class Roles:
    """A database and three logins of its own, named as in the document but for a prefix."""

    server: Server
    prefix: str
    folder: Path
    api: Api

    def url(self, role: str) -> str:
        return self.server.url(self.prefix, user=f"{self.prefix}_{role}")

    def run(self, role: str, *statements: str) -> list[tuple[object, ...]]:
        return _run(self.url(role), statements)

    def program(self, role: str, *arguments: str) -> int:
        config = self.folder / "heatmap-etl.toml"
        config.write_text(
            f'database_url = "{self.url(role)}"\nviews = ["/home"]\n'
            f'[datadog]\napi_url = "{self.api.url}"\n',
            encoding="utf-8",
        )
        return main([*arguments, "--config", str(config)])

    def make(self, block: list[str], url: str) -> None:
        for statement in block:
            ours = statement.replace("heatmap", self.prefix).replace("'...'", f"'{PASSWORD}'")
            _run(url, [ours])


def _run(url: str, statements: tuple[str, ...] | list[str]) -> list[tuple[object, ...]]:
    parsed = parse_database(url, Path.cwd())
    engine = create_engine(parsed.url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        rows: list[tuple[object, ...]] = []
        for statement in statements:
            result = connection.execute(text(statement))
            rows = [tuple(row) for row in result] if result.returns_rows else []
        return rows


@pytest.fixture
def roles(
    dialect: str,
    servers: Servers,
    require_server: Callable[[str], None],
    tmp_path: Path,
    api: Api,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Roles]:
    require_server(dialect)
    monkeypatch.setenv("DD_API_KEY", "api-key")
    monkeypatch.setenv("DD_APP_KEY", "app-key")
    server = servers.get(dialect)
    roles = Roles(server, f"h{secrets.token_hex(5)}", tmp_path, api)
    first, *then = blocks(HEADINGS[dialect])
    roles.make(first, server.url("postgres" if dialect == "postgresql" else "mysql", user=ADMIN))
    for block in then:
        roles.make(block, server.url(roles.prefix, user=ADMIN))
    yield roles
    server.drop_database(roles.prefix)
    kind = "role" if dialect == "postgresql" else "user"
    for role in ("owner", "writer", "reader", "bi"):
        server.execute(f"drop {kind} if exists {roles.prefix}_{role}")


def upgrade_as_owner(roles: Roles, revision: str) -> None:
    parsed = parse_database(roles.url("owner"), Path.cwd())
    database = open_database(parsed.url, label=parsed.label)
    try:
        upgrade(database, revision)
    finally:
        database.close()


def objects(roles: Roles) -> list[str]:
    url = parse_database(roles.url("owner"), Path.cwd()).url
    look = inspect(create_engine(url, poolclass=NullPool))
    return [*look.get_table_names(), *look.get_view_names()]


def test_the_owner_migrates_the_writer_syncs_and_the_reader_reads(
    roles: Roles, capsys: pytest.CaptureFixture[str]
):
    # Grants were made before there was a table; later revisions add more.
    upgrade_as_owner(roles, "0001")
    assert roles.program("writer", "sync", "--quiet") == 2
    assert "heatmap-etl db upgrade" in capsys.readouterr().err
    assert roles.program("owner", "db", "upgrade") == 0
    roles.api.views["/home"] = [record("a"), record("b")]
    assert roles.program("writer", "sync", "--quiet") == 0
    roles.api.views["/home"] = [record("a", snapshot_name="Menu"), record("c")]
    assert roles.program("writer", "sync", "--quiet") == 0
    names = objects(roles)
    assert set(schema.metadata.tables) <= set(names)
    for name in names:
        roles.run("reader", f"SELECT * FROM {name}")
    assert roles.run("reader", "SELECT COUNT(*) FROM snapshots") == [(3,)]
    assert roles.run("reader", "SELECT COUNT(*) FROM snapshot_history") == [(1,)]
    assert roles.program("reader", "status") == 0


def test_the_writer_changes_no_table_and_says_who_can(
    roles: Roles, capsys: pytest.CaptureFixture[str]
):
    # No schema yet: it may not make one.
    assert roles.program("writer", "sync") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "denied" in line
    upgrade_as_owner(roles, "0001")
    assert roles.program("writer", "db", "upgrade") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot migrate" in line
    upgrade_as_owner(roles, "head")
    for statement in (
        "CREATE TABLE mine (id INTEGER)",
        "CREATE VIEW mine AS SELECT 1",
        "ALTER TABLE snapshots ADD COLUMN mine INTEGER",
        "DROP TABLE snapshots",
        "CREATE INDEX mine ON snapshots (source)",
    ):
        with pytest.raises(REFUSED):
            roles.run("writer", statement)


def test_the_reader_writes_nothing(roles: Roles, capsys: pytest.CaptureFixture[str]):
    upgrade_as_owner(roles, "head")
    roles.api.views["/home"] = [record("a")]
    assert roles.program("writer", "sync", "--quiet") == 0
    for name in schema.metadata.tables:
        with pytest.raises(REFUSED):
            roles.run("reader", f"DELETE FROM {name}")
    with pytest.raises(REFUSED):
        roles.run("reader", "UPDATE snapshots SET version = 2")
    with pytest.raises(REFUSED):
        roles.run("reader", "CREATE TABLE mine (id INTEGER)")
    assert roles.run("reader", "SELECT version FROM snapshots") == [(1,)]
    assert roles.program("reader", "sync") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "denied" in line


def test_a_login_for_the_views_reads_no_table(roles: Roles, dialect: str):
    upgrade_as_owner(roles, "head")
    roles.api.views["/home"] = [record("a")]
    assert roles.program("writer", "sync", "--quiet") == 0
    (block,) = blocks(f"Views alone, {HEADINGS[dialect]}")
    roles.make(block, roles.server.url(roles.prefix, user=ADMIN))
    views = sorted(set(objects(roles)) - set(schema.metadata.tables) - {schema.VERSION_TABLE})
    assert len(views) == 5
    for view in views:
        assert view in str(block)
        roles.run("bi", f"SELECT * FROM {view}")
    assert roles.run("bi", "SELECT id FROM current_snapshots") == [("a",)]
    for table in schema.metadata.tables:
        with pytest.raises(REFUSED):
            roles.run("bi", f"SELECT * FROM {table}")


def test_others_do_not_get_in(roles: Roles):
    with pytest.raises(DBAPIError):
        _run(roles.server.url(roles.prefix), ["SELECT 1"])
