"""A role or a database may have settings that suit others: ours do not depend on them."""

import json
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

from etl.cli.app import main
from etl.config.database_url import parse_database
from etl.database.connection import Database, open_database
from etl.errors import StoreError
from tests.support.api import Api, record
from tests.support.servers import PASSWORD, PostgreSQL, Servers

SPOILT = {
    # Set by each transaction.
    "search_path": "pg_catalog",
    "lock_timeout": "1ms",
    "idle_in_transaction_session_timeout": "2s",
    "TimeZone": "Asia/Kathmandu",
    "DateStyle": "German, DMY",
    "client_encoding": "LATIN1",
    "extra_float_digits": "-15",
    "standard_conforming_strings": "off",
    "quote_all_identifiers": "on",
    "default_transaction_isolation": "serializable",
    # Harmless.
    "IntervalStyle": "sql_standard",
    "array_nulls": "off",
    "backslash_quote": "off",
    "bytea_output": "escape",
    "client_min_messages": "debug5",
    "default_transaction_deferrable": "on",
    "plan_cache_mode": "force_generic_plan",
    "row_security": "off",
    "session_replication_role": "replica",
    "transform_null_equals": "on",
    "xmloption": "document",
}
OF_THE_RUN = {
    *("first_seen_at", "valid_from", "valid_to", "removed_at", "last_seen_at", "age_days"),
    *("noticed_at", "not_before"),
}
CREATED = ("1970-01-02T03:04:05.6Z", "2026-02-03T04:05:06.789123Z", "0001-01-01T00:00:00Z")
LISTINGS = (
    [
        record(n, snapshot_name=f"{n} é \\ 😀", created_at=at)
        for n, at in zip("789", CREATED, strict=True)
    ],
    [record("7", snapshot_name="new"), record("8"), record("10", created_by=None)],
)


@pytest.fixture
def make_login(servers: Servers, new_database: Callable[..., str]) -> Iterator[Callable[..., str]]:
    """`make_login(**settings)`: the URL of a new database, whose owner has these settings."""
    made: list[tuple[str, str]] = []

    def make(**settings: str) -> str:
        name = new_database("postgresql", migrated=False).rpartition("/")[2]
        server = servers.get("postgresql")
        assert isinstance(server, PostgreSQL)
        role = f"etl_{secrets.token_hex(4)}"
        made.append((name, role))
        server.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")
        server.execute(f'ALTER DATABASE "{name}" OWNER TO {role}')
        for setting, value in settings.items():
            server.execute(f"ALTER ROLE {role} SET {setting} = '{value}'")
        return server.url(name, user=role)

    yield make
    for name, role in made:
        servers.get("postgresql").drop_database(name)
        servers.get("postgresql").execute(f"DROP ROLE {role}")


@pytest.fixture
def opened() -> Iterator[Callable[..., Database]]:
    """`opened(url, schema_name=None)`: closed after the test."""
    with ExitStack() as stack:

        def make(url: str, schema_name: str | None = None) -> Database:
            parsed = parse_database(url, Path.cwd())
            database = open_database(parsed.url, label=parsed.label, schema_name=schema_name)
            stack.callback(database.close)
            return database

        yield make


@pytest.fixture
def run(
    tmp_path: Path, api: Api, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """`run(url, *arguments)` runs a command; returns its exit code and what it printed."""
    for name in ("DD_API_KEY", "DD_APP_KEY"):
        monkeypatch.setenv(name, "a-key")

    def run(url: str, *arguments: str) -> tuple[int, str]:
        (tmp_path / "heatmap-etl.toml").write_text(
            f'database_url = "{url}"\ndatabase_schema = "ours"\nviews = ["/home"]\n'
            f'[datadog]\napi_url = "{api.url}"\n'
        )
        capsys.readouterr()
        code = main([*arguments])
        told = capsys.readouterr()
        return code, told.out + told.err

    return run


def test_no_setting_of_the_role_changes_what_is_stored_or_told(
    make_login: Callable[..., str], run: Callable[..., tuple[int, str]], api: Api
):
    def story(url: str) -> list[Any]:
        told: list[Any] = []
        for listing in LISTINGS:
            api.views["/home"] = listing
            code, synced = run(url, "sync")
            assert code == 0, synced
            for view in ("current_snapshots", "snapshot_versions", "snapshot_changes"):
                code, exported = run(url, "export", view, "--format", "jsonl")
                assert code == 0, exported
                rows = [json.loads(line) for line in exported.splitlines()]
                told += [{k: v for k, v in row.items() if k not in OF_THE_RUN} for row in rows]
        code, status = run(url, "status", "--json")
        assert code == 0, status
        told.append([run["status"] for run in json.loads(status)["runs"]])
        code, checked = run(url, "check")
        assert code == 0, checked
        return told

    plain, spoilt = story(make_login()), story(make_login(**SPOILT))
    assert spoilt == plain
    assert len(plain) > 20


def test_a_login_that_may_only_read_by_default_is_called_read_only(
    make_login: Callable[..., str], run: Callable[..., tuple[int, str]], api: Api
):
    url = make_login(default_transaction_read_only="on")
    code, told = run(url, "sync")
    assert code == 2
    assert "read-only transaction; it is read-only; use its primary server" in told
    code, told = run(url, "check")
    assert code == 2
    assert "it is read-only; use its primary server, or another user" in told


def test_without_a_schema_of_ours_the_search_path_is_that_of_role_and_url(
    make_login: Callable[..., str], opened: Callable[..., Database]
):
    """Not what another client left on the connection."""

    def path(connection: Connection) -> object:
        return connection.execute(text("SELECT current_setting('search_path')")).scalar()

    def leave(connection: Connection) -> None:
        connection.execute(text("SET search_path TO left_over"))

    url = make_login(search_path="of_role")
    for database, expected in (
        (opened(url), "of_role, pg_temp"),
        (opened(f"{url}?options=-csearch_path%3Dof_url"), "of_url, pg_temp"),
        (opened(url, "Ours"), '"Ours", pg_temp'),
    ):
        assert database.transaction(path) == expected
        database.transaction(leave)
        assert database.transaction(path) == expected


def test_a_setting_that_is_not_as_each_transaction_sets_it_is_named(
    new_database: Callable[..., str], opened: Callable[..., Database]
):
    database = opened(new_database("postgresql"), "Ours")

    def spoil(connection: Connection) -> list[str]:
        connection.execute(text("SET LOCAL DateStyle = 'German'"))
        connection.execute(text("SET LOCAL search_path = public"))
        return told(connection)

    def told(connection: Connection) -> list[str]:
        return database.dialect.spoilt_settings(connection, database.schema_name)

    assert database.transaction(told) == []
    assert database.transaction(spoil) == [
        "search_path is public, not Ours, pg_temp",
        "DateStyle is German, DMY, not ISO, MDY",
    ]


@pytest.mark.parametrize(
    ("kind", "limit", "work", "hint"),
    [
        (
            "postgresql",
            "SET LOCAL statement_timeout = 10",
            "SELECT pg_sleep(9)",
            "; raise statement_timeout of this login, unless",
        ),
        (
            "mariadb",
            "SET max_statement_time = 0.01",
            "SELECT SUM(SLEEP(1)) FROM seq_1_to_9",
            r"; raise max_statement_time \(max_execution_time on MySQL\) of this login",
        ),
    ],
    ids=["postgresql", "mariadb"],
)
def test_a_statement_that_the_server_cancels_gets_the_name_of_the_limit(
    kind: str,
    limit: str,
    work: str,
    hint: str,
    new_database: Callable[..., str],
    opened: Callable[..., Database],
):
    def wait(connection: Connection) -> None:
        connection.execute(text(limit))
        connection.execute(text(work))

    with pytest.raises(StoreError, match=hint):
        opened(new_database(kind, migrated=False)).transaction(wait)
