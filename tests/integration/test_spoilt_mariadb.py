"""A MariaDB whose administrator has set every session variable that changes what statements mean.

New sessions begin with them, so that a run, a reading and `check` must set what they depend on.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from etl.cli.app import main
from etl.database.dialects import dialect_of
from etl.database.dialects.servers import LOCK_TIMEOUT_S
from etl.database.migrations import downgrade
from etl.errors import StoreError
from tests.support.api import Api, record
from tests.support.project import Project, make_config, open_project
from tests.support.servers import Server, Servers

ON_MARIADB = pytest.mark.parametrize("dialect", ["mariadb"], indirect=True)

SPOILT = {
    "auto_increment_increment": "7",
    "autocommit": "1",
    "big_tables": "1",
    "character_set_client": "latin1",
    "character_set_connection": "latin1",
    "character_set_results": "latin1",
    "check_constraint_checks": "0",
    "collation_connection": "latin1_german2_ci",
    "completion_type": "'RELEASE'",
    "default_storage_engine": "MyISAM",
    "default_regex_flags": "'EXTENDED'",
    "default_week_format": "5",
    "div_precision_increment": "0",
    "explicit_defaults_for_timestamp": "0",
    "foreign_key_checks": "0",
    "group_concat_max_len": "4",
    "idle_readonly_transaction_timeout": "1",
    "idle_transaction_timeout": "1",
    "idle_write_transaction_timeout": "1",
    "innodb_lock_wait_timeout": "1",
    "innodb_strict_mode": "0",
    "lc_messages": "'de_DE'",
    "lc_time_names": "'de_DE'",
    "lock_wait_timeout": "1",
    "low_priority_updates": "1",
    "max_error_count": "0",
    "max_heap_table_size": "16384",
    "max_join_size": "1",
    "max_length_for_sort_data": "4",
    "max_sort_length": "64",
    "max_tmp_tables": "1",
    "old_mode": "'NO_DUP_KEY_WARNINGS_WITH_IGNORE,ZERO_DATE_TIME_CAST'",
    "optimizer_switch": "'default,semijoin=off,materialization=off,derived_merge=off'",
    "query_cache_type": "0",
    "sql_auto_is_null": "1",
    "sql_big_selects": "0",
    "sql_buffer_result": "1",
    "sql_if_exists": "1",
    "sql_mode": "'ANSI_QUOTES,PIPES_AS_CONCAT,NO_BACKSLASH_ESCAPES,ORACLE,PAD_CHAR_TO_FULL_LENGTH'",
    "sql_notes": "0",
    "sql_quote_show_create": "0",
    "sql_safe_updates": "1",
    "sql_select_limit": "3",
    "sql_warnings": "1",
    "standard_compliant_cte": "0",
    "time_zone": "'-11:00'",
    "tmp_memory_table_size": "1024",
    "tx_isolation": "'SERIALIZABLE'",
    "tx_read_only": "1",
    "unique_checks": "0",
    "updatable_views_with_limit": "0",
    "wsrep_sync_wait": "0",
}
AT_LOGIN = "SET NAMES latin1, SESSION sql_select_limit = 2, SESSION sql_safe_updates = 1"


@contextmanager
def spoilt(server: Server, settings: dict[str, str]) -> Iterator[None]:
    was = dict(server.execute("SHOW GLOBAL VARIABLES"))
    try:
        for name, value in settings.items():
            server.execute(f"SET GLOBAL {name} = {value}")
        yield
    finally:
        for name in settings:
            old = was[name]
            shown = old if re.fullmatch(r"[\d.]+", old) else "'" + old.replace("'", "''") + "'"
            server.execute(f"SET GLOBAL {name} = {shown}")


def worlds() -> Iterator[dict[str, list[Any]]]:
    """First many, then removals, changes and new ones."""
    views = [f"/v{n}" for n in range(3)]
    yield {v: [record(f"{v} é{n}", view_name=v) for n in range(12)] for v in views}
    yield {
        v: [
            record(f"{v} é{n}", view_name=v, snapshot_name="ü" if n % 4 == 0 else "Menu open")
            for n in range(3, 14)
        ]
        for v in views
    }


def used(url: str, api: Api, folder: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What each command says of a new database: two syncs, then what is to be seen."""
    folder.mkdir()
    configuration = folder / "heatmap-etl.toml"
    configuration.write_text(
        f'database_url = "{url}"\nviews = ["/v0", "/v1", "/v2"]\n'
        f'[datadog]\nconcurrency = 1\napi_url = "{api.url}"\nsource = "a"\n'
    )
    configuration.chmod(0o600)
    found: dict[str, Any] = {}

    def run(*arguments: str) -> str:
        code = main([*arguments, "--config", str(configuration)])
        said = capsys.readouterr()
        found[f"code of {len(found)}: {arguments}"] = code
        assert code == 0, said
        return without_instants(
            said.out.replace(url.rpartition("/")[2], "NAME").replace(str(folder), "FOLDER")
        )

    for number, world in enumerate(worlds()):
        api.views = world
        found[f"sync {number}"] = run("sync", "--json")
        found[f"check {number}"] = run("check")
    found["status"] = run("status", "--json")
    for view in ("current_snapshots", "snapshot_versions", "snapshot_changes", "sync_health"):
        found[view] = run("export", view, "--format", "jsonl")
    return found


def without_instants(said: str) -> str:
    # First these: digits of a number may look like an instant.
    said = re.sub(r'("(seconds|clock_skew_s|age_days|read_age_minutes)": ?)[\d.e-]+', r"\1N", said)
    said = re.sub(r"20\d\d-?\d\d-?\d\d[T ]?\d\d:?\d\d:?\d\d(\.\d+)?(Z|\+00:00)?", "AT", said)
    return re.sub(r"AT-[0-9a-f]+", "RUN", said)


@ON_MARIADB
def test_a_spoilt_server_is_used_as_any_other(
    server: Server,
    api: Api,
    new_database: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("DD_API_KEY", "DD_APP_KEY"):
        monkeypatch.setenv(name, "key")
    plain, other = (new_database("mariadb", migrated=False) for _ in range(2))
    expected = used(plain, api, tmp_path / "plain", capsys)
    assert expected["snapshot_versions"].count("\n") == 3 * (14 + 2)
    with spoilt(server, {**SPOILT, "init_connect": f'"{AT_LOGIN}"'}):
        found = used(other, api, tmp_path / "spoilt", capsys)
        database = open_project(make_config(other, api.url)).database
        with database.connect() as connection, connection.begin():
            assert dialect_of(connection).spoilt_settings(connection, None) == []
        database.close()
    assert found == expected
    name = other.rpartition("/")[2]
    engines = f"SELECT DISTINCT engine FROM information_schema.tables WHERE table_schema = '{name}'"
    assert server.execute(engines + " AND engine IS NOT NULL") == [("InnoDB",)]


def spoilt_settings(project: Project) -> list[str]:
    with project.database.connect() as connection, connection.begin():
        return dialect_of(connection).spoilt_settings(connection, None)


@ON_MARIADB
def test_what_differs_from_what_was_set_is_named(project: Project) -> None:
    with project.database.connect() as connection, connection.begin():
        connection.detach()
        connection.execute(text("SET sql_safe_updates = 1, sql_mode = '', tx_read_only = 1"))
        connection.execute(text("SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE"))
        assert dialect_of(connection).spoilt_settings(connection, None) == [
            "sql_mode is , not STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION",
            "sql_safe_updates is 1, not 0",
            "tx_read_only is 1, not 0",
            "tx_isolation is SERIALIZABLE, not READ-COMMITTED",
        ]
    assert spoilt_settings(project) == []


def test_a_brief_wait_is_not_handed_on(project: Project) -> None:
    asked = {
        "sqlite": "PRAGMA busy_timeout",
        "postgresql": "SHOW lock_timeout",
        "mysql": "SELECT CONCAT(@@lock_wait_timeout, ' ', @@innodb_lock_wait_timeout)",
    }[project.database.family]

    def wait_s(*, briefly: bool) -> object:
        with project.database.connect() as connection, connection.begin():
            assert dialect_of(connection).spoilt_settings(connection, None) == []
            if briefly:
                dialect_of(connection).wait_briefly(connection, 1)
            return connection.execute(text(asked)).scalar()

    usual = wait_s(briefly=False)
    assert wait_s(briefly=True) in (1000, "1s", "1 1")
    assert wait_s(briefly=False) == usual != 1000


@ON_MARIADB
def test_an_upgrade_gives_up_a_table_that_an_idle_reader_keeps(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("etl.database.dialects.mysql._PINNED", {"lock_wait_timeout": 1})
    impatient = open_project(project.config)
    with project.database.connect() as reader, reader.begin():
        reader.execute(text("SELECT * FROM snapshots")).all()
        with pytest.raises(StoreError) as caught:
            downgrade(impatient.database, "base")
    said = str(caught.value)
    assert said.startswith("cannot migrate ")
    assert f"another session kept these rows or tables locked for {LOCK_TIMEOUT_S} s" in said
    assert said.endswith("find it by SHOW FULL PROCESSLIST, let it end, and try again")
    downgrade(impatient.database, "base")
    impatient.database.close()


@ON_MARIADB
def test_who_may_write_to_a_read_only_server_is_not_refused(
    project: Project, servers: Servers, api: Api
) -> None:
    server, name = servers.get("mariadb"), project.config.database_url.rpartition("/")[2]
    is_read_only = project.database.dialect.is_read_only
    assert project.database.read(is_read_only) is False
    server.execute("SET GLOBAL read_only = 1")
    try:
        assert project.database.read(is_read_only) is True
        with pytest.raises(StoreError, match="it is read-only; use its primary server"):
            project.run()
        privileged = open_project(make_config(server.url(name, user="admin"), api.url))
        assert privileged.database.read(is_read_only) is False
        assert privileged.run().status == "ok"
        privileged.database.close()
    finally:
        server.execute("SET GLOBAL read_only = 0")
