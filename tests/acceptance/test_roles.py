"""Owner, writer and reader, made by the SQL of docs/databases.md on real servers."""

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

DATABASES = (ROOT / "docs" / "databases.md").read_text(encoding="utf-8")
HEADINGS = {"postgresql": "PostgreSQL", "mariadb": "MariaDB"}
REFUSED = (ProgrammingError, OperationalError)  # as PostgreSQL, as MariaDB says it

pytestmark = pytest.mark.parametrize("dialect", sorted(SERVERS), indirect=True)


def blocks(heading: str) -> list[list[str]]:
    """The statements of each block of SQL under the heading."""
    section = DATABASES.partition(f"### {heading}\n")[2].partition("\n## ")[0]
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
        config.chmod(0o600)  # there is a password in it
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


def test_a_login_that_may_not_change_comments_leaves_them(
    roles: Roles, dialect: str, capsys: pytest.CaptureFixture[str]
):
    assert roles.program("owner", "db", "upgrade") == 0
    other = {
        "postgresql": "COMMENT ON TABLE sources IS 'other words'",
        "mariadb": "ALTER TABLE sources COMMENT = 'other words'",
    }
    roles.run("owner", other[dialect])
    for role, words in (("writer", "other words"), ("owner", str(schema.sources.comment))):
        capsys.readouterr()
        assert roles.program(role, "db", "upgrade") == 0
        said = capsys.readouterr()
        assert "already current" in said.out
        assert ("1 comment brought up to date" in said.out) == (role == "owner")
        assert said.err.count("\n") == (role == "writer")
        assert ("run as the owner: heatmap-etl db upgrade" in said.err) == (role == "writer")
        url = parse_database(roles.url("owner"), Path.cwd()).url
        look = inspect(create_engine(url, poolclass=NullPool))
        assert look.get_table_comment("sources")["text"] == words


def test_the_writer_changes_no_table_and_says_who_can(
    roles: Roles, capsys: pytest.CaptureFixture[str]
):
    # No schema yet: it may not make one.
    assert roles.program("writer", "sync") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "has no schema yet" in line
    assert f"{roles.prefix}_writer may not create it" in line
    assert "denied" in line
    assert line.endswith("run as the owner: heatmap-etl db upgrade")
    upgrade_as_owner(roles, "0001")
    assert roles.program("writer", "db", "upgrade") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot migrate" in line
    assert line.endswith("run as the owner: heatmap-etl db upgrade")
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
    assert f"{roles.prefix}_reader needs the right to UPDATE: see Roles in docs" in line


# --- check --------------------------------------------------------------------------------


def check(roles: Roles, role: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    capsys.readouterr()
    code = roles.program(role, "check")
    return code, " ".join(capsys.readouterr().out.split())


def everything(roles: Roles) -> list[tuple[object, ...]]:
    """Every object of the database, and every row."""
    names = sorted(objects(roles))
    return [(name, *roles.run("owner", f"SELECT * FROM {name}")) for name in names]


def test_check_says_of_each_role_what_sync_would_do_with_an_empty_database(
    roles: Roles, capsys: pytest.CaptureFixture[str]
):
    roles.api.views["/home"] = [record("a")]
    for role in ("writer", "reader"):
        code, said = check(roles, role, capsys)
        assert code == 2
        assert "PROBLEM schema not there yet, and" in said
        assert f"{roles.prefix}_{role} may not create it" in said
        assert "run as the owner: heatmap-etl db upgrade" in said
        assert roles.program(role, "sync") == 2
    code, said = check(roles, "owner", capsys)
    assert code == 0
    assert "ok schema not there yet; the first sync creates it" in said
    assert objects(roles) == []
    assert roles.program("owner", "sync", "--quiet") == 0


def test_check_says_of_each_role_what_sync_would_do_with_a_current_schema(
    roles: Roles, capsys: pytest.CaptureFixture[str]
):
    upgrade_as_owner(roles, "head")
    roles.api.views["/home"] = [record("a")]
    assert roles.program("writer", "sync", "--quiet") == 0
    before = everything(roles)
    for role in ("owner", "writer"):
        code, said = check(roles, role, capsys)
        assert (code, "PROBLEM" in said) == (0, False), said
        assert "ok writing a test write was rolled back" in said
    code, said = check(roles, "reader", capsys)
    assert code == 2
    assert f"PROBLEM writing {roles.prefix}_reader may not write:" in said
    assert "denied" in said
    assert "see Roles in docs/databases.md" in said
    assert everything(roles) == before


RIGHTS = [
    ("REVOKE INSERT ON rejected_records FROM {role}", "rejected_records"),
    ("REVOKE UPDATE ON view_state FROM {role}", "view_state"),
    ("REVOKE DELETE ON sync_runs FROM {role}", "sync_runs"),
]


@pytest.mark.parametrize(("revoke", "table"), RIGHTS, ids=[table for _, table in RIGHTS])
def test_check_misses_each_right_that_a_run_needs(
    roles: Roles, dialect: str, capsys: pytest.CaptureFixture[str], revoke: str, table: str
):
    upgrade_as_owner(roles, "head")
    role = f"{roles.prefix}_writer"
    if dialect == "mariadb":  # a right to the whole database cannot be taken for one table
        grants = "SELECT, INSERT, UPDATE, DELETE"
        roles.server.execute(f"REVOKE {grants} ON {roles.prefix}.* FROM {role}@'%'")
        for name in objects(roles):
            right = revoke.split()[1] if name == table else ""
            kept = [g for g in grants.split(", ") if g != right]
            on = f"{roles.prefix}.{name}"
            roles.server.execute(f"GRANT {', '.join(kept)} ON {on} TO {role}@'%'")
    else:
        roles.run("owner", revoke.format(role=role))
    code, said = check(roles, "writer", capsys)
    assert code == 2
    assert f"PROBLEM writing {role} may not write:" in said
    assert table in said


def test_check_keeps_no_run_waiting_and_waits_for_none(
    roles: Roles, dialect: str, capsys: pytest.CaptureFixture[str]
):
    upgrade_as_owner(roles, "head")
    roles.api.views["/home"] = [record("a")]
    assert roles.program("writer", "sync", "--quiet") == 0
    url = parse_database(roles.url("writer"), Path.cwd()).url
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as run, run.begin():
        # More than the row of its source, beside which check has nothing to wait for.
        lock = "LOCK TABLE sources IN EXCLUSIVE MODE"
        run.execute(text(lock if dialect == "postgresql" else "SELECT * FROM sources FOR UPDATE"))
        run.execute(text("UPDATE view_state SET listed = 7"))
        code, said = check(roles, "writer", capsys)
        assert code == 0
        assert "ok writing a run is under way; writing was not tried" in said
    assert roles.run("reader", "SELECT listed FROM view_state") == [(7,)]


def test_check_of_a_login_without_temporary_tables(
    roles: Roles, dialect: str, capsys: pytest.CaptureFixture[str]
):
    upgrade_as_owner(roles, "head")
    if dialect == "postgresql":
        on = f"ON DATABASE {roles.prefix} FROM {roles.prefix}_writer"
        roles.run("owner", f"REVOKE TEMPORARY {on}")
        code, said = check(roles, "writer", capsys)
        assert code == 2
        assert "may not write: permission denied to create temporary tables" in said
    else:  # it has no right to any, and needs none
        assert check(roles, "writer", capsys)[0] == 0


def test_check_of_a_login_that_may_create_a_part_of_the_schema(
    roles: Roles,
    dialect: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    if dialect == "postgresql":
        monkeypatch.setenv("HEATMAP_ETL_DATABASE_SCHEMA", "other")
        denied = "permission denied for database"
    else:
        login, on = f"{roles.prefix}_writer@'%'", f"{roles.prefix}.*"
        roles.server.execute(f"GRANT CREATE, ALTER, INDEX, DROP ON {on} TO {login}")
        denied = "CREATE VIEW command denied"
    code, said = check(roles, "writer", capsys)
    assert code == 2
    assert "may not create it" in said
    assert denied in said
    code, said = check(roles, "owner", capsys)
    assert (code, "first sync creates it" in said) == (0, True)
    assert objects(roles) == []
    if dialect == "postgresql":
        assert roles.run("owner", "SELECT 1 FROM pg_namespace WHERE nspname = 'other'") == []


def test_a_login_for_the_views_reads_no_table(roles: Roles, dialect: str):
    upgrade_as_owner(roles, "head")
    roles.api.views["/home"] = [record("a")]
    assert roles.program("writer", "sync", "--quiet") == 0
    (block,) = blocks(f"SQL views only, {HEADINGS[dialect]}")
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
