"""Alembic's own command line with our alembic.ini, from any folder."""

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import text

from etl.config.database_url import parse_database
from etl.database import schema, sql_views
from etl.database.connection import Database, open_database
from etl.database.migrations import SchemaState, alembic_config, schema_state
from tests.support.paths import ROOT
from tests.support.servers import PASSWORD, Servers

URL = "HEATMAP_ETL_DATABASE_URL"


@pytest.fixture
def opened() -> Iterator[Callable[..., Database]]:
    databases: list[Database] = []

    def make(url: str, schema_name: str | None = None) -> Database:
        parsed = parse_database(url, Path.cwd())
        label = parsed.label
        databases.append(open_database(parsed.url, label=label, schema_name=schema_name))
        return databases[-1]

    yield make
    for database in databases:
        database.close()


def alembic(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    # The test's working directory is an empty folder, not the checkout.
    return subprocess.run(
        [sys.executable, "-m", "alembic", "-c", str(ROOT / "alembic.ini"), *arguments],
        env={"PATH": os.defpath, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_url_in_the_environment_is_all_it_needs(
    empty_database_url: str, opened: Callable[..., Database]
):
    done = alembic("upgrade", "head", **{URL: empty_database_url})
    assert done.returncode == 0, done.stderr
    assert schema_state(opened(empty_database_url)).state == "current"


def test_check_and_current_tell_the_truth():
    environment = {URL: "sqlite:///x.db"}
    done = alembic("current", **environment)
    assert (done.returncode, done.stdout) == (0, "")
    assert alembic("check", **environment).returncode != 0
    assert alembic("upgrade", "head", **environment).returncode == 0
    done = alembic("current", **environment)
    assert (done.returncode, done.stdout) == (0, f"{schema.HEAD} (head)\n")
    done = alembic("check", **environment)
    assert (done.returncode, done.stdout) == (0, "No new upgrade operations detected.\n")


def test_a_configuration_file_may_be_named(tmp_path: Path, opened: Callable[..., Database]):
    file = tmp_path / "conf" / "mine.toml"
    file.parent.mkdir()
    file.write_text('database_url = "sqlite:///mine.db"\nviews = ["/home"]\n', encoding="utf-8")
    for arguments, out in ((["upgrade", "head"], ""), (["current"], f"{schema.HEAD} (head)\n")):
        done = alembic("-x", f"config={file}", *arguments)
        assert (done.returncode, done.stdout) == (0, out), done.stderr
    assert [path.name for path in file.parent.glob("*.db")] == ["mine.db"]
    assert list(tmp_path.glob("*.db")) == []


def test_the_schema_of_postgresql_may_be_named_in_the_environment(
    new_database: Callable[..., str], opened: Callable[..., Database]
):
    url = new_database("postgresql", migrated=False)
    done = alembic("upgrade", "head", **{URL: url, "HEATMAP_ETL_DATABASE_SCHEMA": "heatmap"})
    assert done.returncode == 0, done.stderr
    assert schema_state(opened(url, "heatmap")).state == "current"
    assert schema_state(opened(url)).state == "absent"


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({}, "run `heatmap-etl init`"),
        ({URL: "nonsense"}, f"{URL} is not a database URL"),
        ({URL: "mysql://etl:s3cret@127.0.0.1:1/x?ssl=true"}, "write ssl_mode=REQUIRED"),
        ({URL: "postgresql://etl:s3cret@127.0.0.1:1/x"}, "check host and port"),
        ({URL: "sqlite:///no/folder/x.db"}, "check that the folder exists"),
    ],
)
def test_what_is_wrong_with_the_configuration_is_one_line(environment: dict[str, str], words: str):
    done = alembic("upgrade", "head", **environment)
    assert done.returncode != 0
    lines = (done.stdout + done.stderr).strip().splitlines()
    assert len(lines) == 1, lines
    assert words in lines[0]
    assert "s3cret" not in lines[0]


def test_somebody_elses_table_is_not_touched(
    empty_database_url: str, opened: Callable[..., Database]
):
    database = opened(empty_database_url)
    with database.connect() as connection, connection.begin():
        connection.execute(text("CREATE TABLE sources (id INTEGER, label VARCHAR(9))"))
    for arguments in (("upgrade", "head"), ("stamp", "head"), ("downgrade", "base")):
        done = alembic(*arguments, **{URL: empty_database_url})
        assert done.returncode != 0
        (line,) = (done.stdout + done.stderr).strip().splitlines()
        assert "has a table `sources` that is not ours" in line
    assert schema_state(database) == SchemaState("foreign", None, "sources")


def test_a_login_that_may_not_migrate_is_told_who_may(
    new_database: Callable[..., str], servers: Servers
):
    url, role = new_database("postgresql", migrated=False), f"etl_{secrets.token_hex(4)}"
    server = servers.get("postgresql")
    server.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")
    try:
        done = alembic("upgrade", "head", **{URL: server.url(url.rpartition("/")[2], user=role)})
    finally:
        server.execute(f"DROP ROLE {role}")
    assert done.returncode != 0
    (line,) = (done.stdout + done.stderr).strip().splitlines()
    assert f"has no schema yet, and {role} may not create it (permission denied" in line
    assert line.endswith("run as the owner: heatmap-etl db upgrade")


def test_sql_without_a_database_is_refused_in_one_line():
    done = alembic("upgrade", "head", "--sql", **{URL: "sqlite:///x.db"})
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "alembic --sql is not supported: migrations look at the database they change"
    ]
    assert not Path("x.db").exists()


@pytest.fixture
def copied_migrations(tmp_path: Path) -> Config:
    copied = shutil.copytree(ROOT / "migrations", tmp_path / "migrations")
    config: Config = alembic_config()
    config.set_main_option("script_location", str(copied))
    return config


def test_a_generated_revision_runs_as_it_is(
    copied_migrations: Config, tmp_path: Path, opened: Callable[..., Database]
):
    config = copied_migrations
    database = opened(f"sqlite:///{tmp_path}/x.db")
    with database.connect() as connection, connection.begin():
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        for view in sql_views.NAMES:
            connection.execute(text(f"DROP VIEW {view}"))
        connection.execute(text("ALTER TABLE snapshots DROP COLUMN modified_at"))
        connection.execute(text("ALTER TABLE snapshots DROP COLUMN extra"))
        command.revision(config, "Bring them back", autogenerate=True, rev_id="9999")
        command.upgrade(config, "head")
        command.check(config)
    (file,) = (tmp_path / "migrations" / "versions").glob("9999*")
    assert file.name == "9999_bring_them_back.py"
    assert 'revision = "9999"\ndown_revision = "' + schema.HEAD in file.read_text(encoding="utf-8")
