"""`db copy TO`: everything arrives on any other database, whatever happens meanwhile.

What arrived is read by the drivers themselves, and not by what copied it.
"""

import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import permutations
from pathlib import Path
from typing import Any

import psycopg
import pymysql
import pytest
from sqlalchemy import Boolean, Column, select, text
from sqlalchemy.engine import make_url

from etl.cli.commands.db import schema_status, upgrade_schema
from etl.config.copy_target import copy_target
from etl.config.database_url import parse_database
from etl.database.connection import Database, open_database
from etl.database.dialects.types import JsonText, UtcDateTime
from etl.database.migrations import prepare_schema, require_there, upgrade
from etl.database.schema import HEAD, metadata
from etl.database.sql_views import metadata as sql_views
from etl.errors import ConfigError, LeaseLost, SchemaMismatch
from etl.source import copy_database as copying
from etl.source.copy_database import Copied, copy_database
from etl.source.lease import Lease
from tests.support.api import Api, record
from tests.support.command_line import Cli, Result, finish, on_terminal
from tests.support.hostile_rows import fill
from tests.support.project import counts, make_config, open_project
from tests.support.servers import DIALECTS, Servers

pytestmark = pytest.mark.slow

TO = "HEATMAP_ETL_COPY_TO_URL"
UNFINISHED = "is an unfinished copy of another one; finish it: run the same heatmap-etl db copy"
Contents = dict[str, list[tuple[Any, ...]]]

# `db copy`, which waits for a line after each batch, once it has said what it does.
STEP_BY_STEP = """
import sys
from etl.cli import progress
from etl.cli.app import main
from etl.source import table_copy
table_copy.BATCH = 7
def add(self, what, rows):
    print(what, flush=True)
    sys.stdin.readline()
progress.RowProgress.add = add
sys.exit(main(["db", "copy"]))
"""

_AS_TEXT: dict[str, dict[type[Any], str]] = {
    "sqlite": {},
    "postgresql": {
        UtcDateTime: "to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')",
        Boolean: "{}::int",
        JsonText: "{}::text",
    },
    "mysql": {UtcDateTime: "DATE_FORMAT({}, '%Y-%m-%d %H:%i:%s.%f')"},
}


def read(url: str, schema: str = "") -> Contents:
    """All tables, sorted, with instants as text."""
    kind = make_url(url).get_backend_name().replace("mariadb", "mysql")
    with closing(_connect(url)) as connection:
        cursor = connection.cursor()
        found = {}
        for table in metadata.sorted_tables:
            columns = ", ".join(_as_text(column, kind) for column in table.columns)
            cursor.execute(f"SELECT {columns} FROM {schema}{table.name}")
            found[table.name] = sorted(map(tuple, cursor.fetchall()), key=repr)
    return found


def _as_text(column: Column[Any], kind: str) -> str:
    return _AS_TEXT[kind].get(type(column.type), "{}").format(column.name)


def _connect(url: str) -> Any:
    parsed = make_url(url)
    login: dict[str, Any] = {"host": parsed.host, "port": parsed.port, "user": parsed.username}
    login["password"] = parsed.password
    if parsed.get_backend_name() == "sqlite":
        return sqlite3.connect(str(parsed.database))
    if parsed.get_backend_name() == "postgresql":
        return psycopg.connect(**login, dbname=parsed.database, autocommit=True)
    return pymysql.connect(**login, database=parsed.database, autocommit=True)


def opened(url: str) -> Database:
    parsed = parse_database(url, Path.cwd())
    return open_database(parsed.url, label=parsed.label)


def asked(url: str, view: str) -> list[Any]:
    """All that a SQL view answers, but for ages, which grow."""
    columns = [c for c in sql_views.tables[view].columns if "age_" not in c.name]
    with closing(opened(url)) as database:
        rows = database.read(lambda connection: connection.execute(select(*columns)).all())
    return sorted(rows, key=repr)


def execute(url: str, *statements: str) -> None:
    with closing(opened(url)) as database:
        for statement in statements:
            database.transaction(lambda connection, s=statement: connection.execute(text(s)))  # type: ignore[misc]


def filled(url: str, rows: int = 60) -> Contents:
    with closing(opened(url)) as database:
        database.transaction(lambda connection: fill(connection, rows))
    return read(url)


@pytest.fixture
def source(new_database: Callable[..., str]) -> str:
    return new_database("sqlite")


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path)


@pytest.fixture
def copy(cli: Cli) -> Callable[..., Result]:
    """`copy(source, target)` in a process of its own; no password is on its command line."""

    def run(source: str, target: str, *options: str) -> Result:
        return cli("db", "copy", *options, HEATMAP_ETL_DATABASE_URL=source, **{TO: target})

    return run


@pytest.fixture
def step_by_step(cli: Cli) -> Iterator[Callable[[str, str], subprocess.Popen[str]]]:
    """Start a copy that waits for a line after each batch."""
    started = []

    def start(source: str, target: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", STEP_BY_STEP],
            cwd=cli.folder,
            env=cli.environment({"HEATMAP_ETL_DATABASE_URL": source, TO: target}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def advance(process: subprocess.Popen[str], batches: int) -> None:
    """Let it finish so many batches; it waits then."""
    assert process.stdin
    assert process.stdout
    for number in range(batches):
        if number:
            process.stdin.write("\n")
            process.stdin.flush()
        assert process.stdout.readline().strip() in {"copying", "comparing"}


def leases(url: str) -> set[Any]:
    with closing(_connect(url)) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT lease_token FROM sources")
        return {token for (token,) in cursor.fetchall()}


@pytest.mark.parametrize(
    ("dialect", "other"), [*permutations(DIALECTS, 2), *((name, name) for name in DIALECTS)]
)
def test_all_that_is_stored_arrives_as_it_is(
    dialect: str, other: str, new_database: Callable[..., str], copy: Callable[..., Result]
) -> None:
    source, target = new_database(dialect), new_database(other, migrated=False)
    before = filled(source)
    result = copy(source, target)
    assert (result.code, result.err) == (0, "")
    number = sum(map(len, before.values()))
    *_, total, last = result.out.splitlines()
    assert f": {number} rows copied from " in total
    assert last == "Next: set database_url to the new database, then run: heatmap-etl check"
    assert read(target) == before
    assert read(source) == before
    for view in sql_views.tables:
        assert len(asked(source, view)) == len(asked(target, view))


def test_the_first_sync_after_the_copy_finds_everything_unchanged(
    dialect: str,
    source: str,
    new_database: Callable[..., str],
    api: Api,
    copy: Callable[..., Result],
) -> None:
    before, after = (
        open_project(make_config(url, api.url))
        for url in (source, new_database(dialect, migrated=False))
    )
    with closing(before.database), closing(after.database):
        for name in ("one", "two"):
            api.views["/home"] = [record("1", snapshot_name=name), record("2", theme="\0\ud800🧊")]
            assert before.run().status == "ok"
        target = after.config.database_url
        assert copy(source, target).code == 0
        for view in sql_views.tables:
            assert asked(source, view) == asked(target, view)
        assert len(asked(target, "snapshot_versions")) == 3
        assert counts(after.run(is_full=True)) == {"listed": 2, "unchanged": 2}
        assert asked(target, "snapshot_versions") == asked(source, "snapshot_versions")


def test_a_copy_that_is_killed_at_any_moment_goes_on(
    dialect: str,
    source: str,
    new_database: Callable[..., str],
    cli: Cli,
    step_by_step: Callable[[str, str], subprocess.Popen[str]],
    copy: Callable[..., Result],
) -> None:
    target, before = new_database(dialect, migrated=False), filled(source)
    moments = random.Random(14)
    seen = 0
    for batches in (1, moments.randrange(5, 40), moments.randrange(60, 85)):
        process = step_by_step(source, target)
        advance(process, batches)
        process.kill()
        process.communicate()
        held = sum(map(len, read(target).values()))
        assert held >= seen
        seen = held
    views = {"HEATMAP_ETL_VIEWS": '["/home"]'}
    refused = cli("sync", HEATMAP_ETL_DATABASE_URL=target, **views)
    assert (refused.code, refused.is_one_line(), UNFINISHED in refused.err) == (2, True, True)
    with closing(opened(target)) as database:
        for act in (upgrade, upgrade_schema, prepare_schema, require_there):
            with pytest.raises(SchemaMismatch, match=UNFINISHED):
                act(database)
        assert schema_status(database)[1] == 2
    result = copy(source, target)
    assert (result.code, result.err) == (0, "")
    assert read(target) == read(source) == before
    with closing(opened(target)) as database:
        assert schema_status(database)[1] == 0


def test_a_copy_that_is_killed_before_its_first_row_goes_on(
    source: str,
    new_database: Callable[..., str],
    step_by_step: Callable[[str, str], subprocess.Popen[str]],
    copy: Callable[..., Result],
) -> None:
    """While the schema is created, which on MariaDB takes many transactions."""
    target, before = new_database("mariadb", migrated=False), filled(source, 10)
    for seconds in (0.6, 0.9, 1.2):
        process = step_by_step(source, target)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate()
    result = copy(source, target)
    assert (result.code, result.err) == (0, "")
    assert read(target) == before


def test_nothing_else_works_on_either_database_meanwhile_and_a_signal_ends_it(
    source: str,
    new_database: Callable[..., str],
    cli: Cli,
    api: Api,
    step_by_step: Callable[[str, str], subprocess.Popen[str]],
    copy: Callable[..., Result],
) -> None:
    target, before = new_database("sqlite", migrated=False), filled(source)
    cli.configure(f'views = ["/home"]\n[datadog]\napi_url = "{api.url}"\n')
    process = step_by_step(source, target)
    advance(process, 20)
    assert None not in leases(source)
    for refused in (cli("sync", HEATMAP_ETL_DATABASE_URL=source), copy(source, target)):
        assert (refused.code, "works on source" in refused.err) == (75, True)
        assert refused.is_one_line()
    process.send_signal(signal.SIGTERM)
    assert process.stdin
    process.stdin.write("\n" * 5)
    process.stdin.flush()
    ended = finish(process)
    assert ended.code == 128 + signal.SIGTERM
    assert "stopped by signal 15; what was copied stays; run the same command again" in ended.err
    assert leases(source) == {None}
    assert 0 < sum(map(len, read(target).values())) < sum(map(len, before.values()))
    assert copy(source, target).code == 0
    assert read(target) == before


def test_what_is_changed_in_the_target_meanwhile_is_found(
    source: str,
    new_database: Callable[..., str],
    step_by_step: Callable[[str, str], subprocess.Popen[str]],
    copy: Callable[..., Result],
) -> None:
    target, before = new_database("postgresql", migrated=False), filled(source)
    process = step_by_step(source, target)
    advance(process, 40)
    process.kill()
    process.communicate()
    execute(
        target,
        "UPDATE discovered_views SET views_30d = views_30d - 1 WHERE views_30d = 1",
        "DELETE FROM applications WHERE application_id = 'a'",
    )
    found = copy(source, target)
    assert (found.code, found.out) == (2, "")
    assert found.is_one_line()
    assert "rows of discovered_views differ; something else wrote" in found.err
    assert "applications has 59 rows instead of 60" in found.err
    again = copy(source, target)
    assert (again.code, "begins from the start" in again.err) == (0, True)
    assert read(target) == before


def test_a_copy_begins_anew_where_the_database_had_a_run_since(
    source: str,
    new_database: Callable[..., str],
    step_by_step: Callable[[str, str], subprocess.Popen[str]],
    copy: Callable[..., Result],
) -> None:
    filled(source)
    target = new_database("sqlite", migrated=False)
    process = step_by_step(source, target)
    advance(process, 60)
    process.kill()
    process.communicate()
    execute(
        source,
        "UPDATE sync_runs SET status = 'died' WHERE run_id = 'a'",
        "UPDATE snapshots SET snapshot_name = 'new' WHERE id = 'a'",
    )
    result = copy(source, target)
    assert (result.code, result.err.count("\n"), "begins from the start" in result.err) == (
        0,
        1,
        True,
    )
    assert read(target) == read(source)


def test_a_target_that_is_not_empty_is_refused(
    dialect: str, source: str, new_database: Callable[..., str], copy: Callable[..., Result]
) -> None:
    target = new_database(dialect)
    filled(source, 2)
    before = filled(target, 1)
    refused = copy(source, target)
    assert (refused.code, refused.is_one_line()) == (2, True)
    assert (
        "neither empty nor an unfinished copy: applications has rows; name an empty" in refused.err
    )
    assert read(target) == before
    assert leases(source) == {None}


def test_the_unfinished_copy_of_another_database_is_refused(
    source: str,
    new_database: Callable[..., str],
    step_by_step: Callable[[str, str], subprocess.Popen[str]],
    copy: Callable[..., Result],
) -> None:
    filled(source, 2)
    target, other = new_database("sqlite", migrated=False), new_database("sqlite")
    filled(other, 1)
    execute(other, "UPDATE sources SET first_seen_at = '2020-01-01 00:00:00.000000'")
    process = step_by_step(source, target)
    advance(process, 3)
    process.kill()
    process.communicate()
    before = read(target)
    refused = copy(other, target)
    assert (refused.code, refused.is_one_line()) == (2, True)
    assert "is an unfinished copy" in refused.err
    assert "its sources changed since, or it belongs to another database" in refused.err
    assert read(target) == before


def test_a_source_that_somebody_works_on_is_not_copied(
    source: str, new_database: Callable[..., str], copy: Callable[..., Result]
) -> None:
    filled(source, 1)
    lease = (
        "lease_holder = '1@1', lease_host = 'elsewhere', lease_token = 'x', "
        "lease_expires_at = '2999-01-01 00:00:00.000000'"
    )
    execute(source, f"UPDATE sources SET {lease} WHERE source = 'DATADOGHQ.COM'")
    target = new_database("sqlite", migrated=False)
    refused = copy(source, target)
    assert (refused.code, refused.is_one_line()) == (75, True)
    assert "process 1 on elsewhere works on source DATADOGHQ.COM" in refused.err
    assert leases(source) == {None, "x"}
    assert not Path(make_url(target).database or "").exists()


def test_a_login_that_may_only_read_the_source_learns_what_it_lacks(
    new_database: Callable[..., str], servers: Servers, copy: Callable[..., Result], cli: Cli
) -> None:
    source = make_url(new_database("postgresql"))
    filled(source.render_as_string(hide_password=False), 1)
    server = servers.get("postgresql")
    with server.connect(source.database) as connection:  # type: ignore[attr-defined]
        connection.execute("CREATE ROLE copy_reader LOGIN PASSWORD 'read'")
        connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO copy_reader")
    reader = source.set(username="copy_reader", password="read")
    try:
        refused = copy(reader.render_as_string(hide_password=False), "to.db")
    finally:
        with server.connect(source.database) as connection:  # type: ignore[attr-defined]
            connection.execute("DROP OWNED BY copy_reader")
            connection.execute("DROP ROLE copy_reader")
    assert (refused.code, refused.is_one_line()) == (2, True)
    assert "copy_reader needs the right to UPDATE" in refused.err
    assert "so that no run starts meanwhile" in refused.err
    assert cli.files() == set()


@pytest.mark.skipif(os.geteuid() != 0, reason="LOUD: only root can give a link away")
@pytest.mark.parametrize("is_there", [False, True])
def test_no_copy_goes_behind_a_link_of_another_user(
    source: str, tmp_path: Path, copy: Callable[..., Result], *, is_there: bool
) -> None:
    filled(source, 1)
    link, there = tmp_path / "copy.db", tmp_path / "there.db"
    if is_there:
        there.touch(mode=0o666)
    link.symlink_to(there)
    os.chown(link, 20003, 20003, follow_symlinks=False)
    done = copy(source, f"sqlite:///{link}")
    assert done.code == 2
    assert "copy.db is a link of another user" in done.err
    assert not there.exists() or not there.stat().st_size


def test_what_cannot_be_a_target_is_refused(
    source: str, tmp_path: Path, copy: Callable[..., Result], cli: Cli
) -> None:
    filled(source, 1)
    environ = {"HEATMAP_ETL_DATABASE_URL": source}
    file = str(make_url(source).database)
    for to, words in {
        str(tmp_path): "is not a file",
        "postgres//etl:planted-password-51aa@host/x": "neither a file nor a database URL",
        "oracle://x/y": "oracle:// is not supported",
    }.items():
        with pytest.raises(ConfigError, match=words) as refusal:
            copy_target(to, None, None)
        assert len(refusal.value.problems) == 1
        assert "planted" not in str(refusal.value)
    for to, words in {
        file: "is the configured database itself",
        str(tmp_path / "no" / "such.db"): "cannot open the database",
    }.items():
        refused = cli("db", "copy", to, **environ)
        assert (refused.code, refused.is_one_line(), words in refused.err) == (2, True, True), (
            refused.err
        )
    nothing = cli("db", "copy", **environ)
    assert (nothing.code, "TO is missing" in nothing.err) == (2, True)
    schema = cli("db", "copy", "x.db", "--schema", "s", **environ)
    assert (schema.code, "only PostgreSQL has schemas" in schema.err) == (2, True)
    assert leases(source) == {None}
    assert cli.files() == set()
    execute(source, f"UPDATE heatmap_etl_version SET version_num = '0005' WHERE '{HEAD}' > '0005'")
    outdated = cli("db", "copy", "x.db", **environ)
    assert (outdated.code, "run: heatmap-etl db upgrade" in outdated.err) == (2, True)
    assert cli.files() == set()


def test_a_folder_with_several_databases_needs_the_name_of_a_file(cli: Cli) -> None:
    for name in ("a", "b"):
        (cli.folder / f"{name}.toml").write_text(
            f'database_url = "sqlite:///{name}.db"\nviews = ["/{name}"]\n'
            f'[datadog]\nsource = "{name}"\n'
        )
        assert cli("db", "upgrade", "--config", f"{name}.toml").code == 0
    refused = cli("db", "copy", "to.db", "--config", ".")
    assert (refused.code, "name one of its files with --config" in refused.err) == (2, True)
    assert cli("db", "copy", "to.db", "--config", "a.toml").code == 0


def test_the_target_may_be_in_a_file_and_in_a_schema(
    new_database: Callable[..., str], source: str, cli: Cli
) -> None:
    before = filled(source, 3)
    target = new_database("postgresql", migrated=False)
    (cli.folder / "url").write_text(f"{target}\n")
    environ = {"HEATMAP_ETL_DATABASE_URL": source, f"{TO}_FILE": "url"}
    result = cli("db", "copy", "--schema", "heat", "--json", **environ)
    assert (result.code, result.err) == (0, "")
    assert result.json["contract"] == 1
    assert result.json["rows"] == sum(map(len, before.values()))
    assert result.json["tables"]["sources"]["rows"] == 4
    assert read(target, "heat.") == before


def test_a_terminal_shows_how_far_it_is(source: str, cli: Cli) -> None:
    filled(source, 3)
    seen = on_terminal(cli, "db", "copy", "to.db", HEATMAP_ETL_DATABASE_URL=source)
    assert "copying: " in seen
    assert "/34 rows" in seen


# --- in this process ----------------------------------------------------------------------


class Interrupted(Exception):
    """Raised in the middle of a copy, of which it leaves a part."""


def copied(source: str, target: str, interrupt: Callable[[str, int], None] | None = None) -> Copied:
    with closing(opened(source)) as one, closing(opened(target)) as other:
        return copy_database(
            one, other, lease_s=60, on_rows=interrupt or (lambda _what, _rows: None)
        )


def interrupted(source: str, target: str) -> None:
    def interrupt(_what: str, _rows: int) -> None:
        raise Interrupted

    with pytest.raises(Interrupted):
        copied(source, target, interrupt)


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def test_the_last_line_says_what_to_do_about_the_schema(
    new_database: Callable[..., str], source: str, cli: Cli
) -> None:
    before = filled(source, 1)
    number = sum(map(len, before.values()))
    first, second = (new_database("postgresql", migrated=False) for _ in range(2))
    of_heat = {"HEATMAP_ETL_DATABASE_SCHEMA": "heat"}
    then = "then run: heatmap-etl check"

    def lines(source: str, target: str, *options: str, **settings: str) -> tuple[str, str]:
        environ = {"HEATMAP_ETL_DATABASE_URL": source, TO: target, **settings}
        result = cli("db", "copy", *options, **environ)
        assert (result.code, result.err) == (0, "")
        *_, total, last = result.out.splitlines()
        return total, last

    total, last = lines(source, first, "--schema", "heat")
    assert f", schema heat: {number} rows copied from " in total
    asked_for = 'Next: set database_url to the new database and {} database_schema = "heat", '
    assert last == asked_for.format("set") + then
    total, last = lines(first, second, **of_heat)
    assert f", schema heat: {number} rows copied from " in total
    assert last == asked_for.format("keep") + then
    assert read(second, "heat.") == before
    total, last = lines(second, "sqlite:///back.db", **of_heat)
    assert "schema" not in total
    assert last == "Next: set database_url to the new database and remove database_schema, " + then
    assert read(f"sqlite:///{cli.folder}/back.db") == before
    assert (cli.folder / "back.db").stat().st_mode & 0o777 == 0o600


def test_a_new_file_can_be_read_by_those_who_read_the_old_one(source: str, tmp_path: Path) -> None:
    filled(source, 1)
    Path(make_url(source).database or "").chmod(0o640)
    seen: set[tuple[str, int]] = set()

    def look(_what: str, _rows: int) -> None:
        seen.update((file.name, file.stat().st_mode & 0o777) for file in tmp_path.glob("new.db*"))

    with umask(0o022):
        copied(source, f"sqlite:///{tmp_path}/new.db", look)
    assert {("new.db", 0o640), ("new.db-wal", 0o640)} <= seen
    assert {mode for _, mode in seen} == {0o640}


def test_a_link_to_a_new_file_leaves_it_as_private(source: str, tmp_path: Path) -> None:
    filled(source, 1)
    Path(make_url(source).database or "").chmod(0o600)
    (tmp_path / "link.db").symlink_to("new.db")
    with umask(0o022):
        copied(source, f"sqlite:///{tmp_path}/link.db")
    assert (tmp_path / "new.db").stat().st_mode & 0o777 == 0o600


def test_what_is_wrong_with_the_target_is_told_by_the_name_it_was_given(
    new_database: Callable[..., str], source: str, cli: Cli
) -> None:
    filled(source, 1)
    target = make_url(new_database("postgresql", migrated=False))
    unknown = target.set(username="nobody").render_as_string(hide_password=False)
    closed = target.set(port=1).render_as_string(hide_password=False)
    execute(target.render_as_string(hide_password=False), "CREATE TABLE sources (other INTEGER)")
    foreign = target.render_as_string(hide_password=False)
    environ = {"HEATMAP_ETL_DATABASE_URL": source}
    for refused, words in (
        (cli("db", "copy", unknown, **environ), "check user and password in TO"),
        (cli("db", "copy", **environ, **{TO: closed}), f"check host and port in {TO}"),
        (cli("db", "copy", foreign, **environ), "use another database or --schema"),
    ):
        assert (refused.code, refused.is_one_line()) == (2, True)
        assert words in refused.err
        assert "database_" not in refused.err


def test_a_copy_goes_on_after_the_sources_changed(source: str, new_database: Callable[..., str]):
    filled(source, 3)
    target = new_database("sqlite", migrated=False)
    interrupted(source, target)
    columns = "site, api_url, app_url, normalizer_version"
    execute(
        source,
        "UPDATE sources SET source = 'renamed' WHERE source = 'DATADOGHQ.COM'",
        f"INSERT INTO sources (source, first_seen_at, {columns})"
        f" SELECT 'second', '2026-11-29 00:00:00.000000', {columns} FROM sources LIMIT 1",
    )
    copied(source, target)
    assert read(target) == read(source)


def test_two_copies_into_one_database_are_told_of_each_other(
    source: str, new_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(source, 1)
    target, other = new_database("sqlite", migrated=False), new_database("sqlite")
    filled(other, 1)
    execute(other, "UPDATE sources SET first_seen_at = '2020-01-01 00:00:00.000000'")

    def after_the_other(database: Database) -> None:
        monkeypatch.setattr(copying, "upgrade", upgrade)
        interrupted(other, target)
        upgrade(database)

    monkeypatch.setattr(copying, "upgrade", after_the_other)
    with pytest.raises(SchemaMismatch, match="another db copy fills sqlite"):
        copied(source, target)


def test_a_database_is_not_copied_onto_itself(
    new_database: Callable[..., str], tmp_path: Path
) -> None:
    file = make_url(new_database("sqlite")).database or ""
    (tmp_path / "hard.db").hardlink_to(file)
    server = make_url(new_database("postgresql"))
    other_name = server.set(host="localhost").render_as_string(hide_password=False)
    for one, other in (
        (f"sqlite:///{file}", f"sqlite:///{tmp_path}/hard.db"),
        (server.render_as_string(hide_password=False), other_name),
    ):
        with pytest.raises(SchemaMismatch, match="is the configured database itself"):
            copied(one, other)
        with closing(opened(one)) as database:
            assert schema_status(database)[1] == 0


def test_a_lease_that_is_lost_at_the_end_says_what_to_do(
    source: str, new_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(source, 1)
    renew = Lease.renew

    def lose(lease: Lease, connection: Any) -> None:
        connection.execute(text("UPDATE sources SET lease_token = 'of another'"))
        renew(lease, connection)

    monkeypatch.setattr(Lease, "renew", lose)
    with pytest.raises(LeaseLost, match="what was copied stays; run the same command again"):
        copied(source, new_database("sqlite", migrated=False))
