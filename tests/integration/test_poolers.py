"""Through real poolers: what a transaction needs it sets, and nothing is left on a connection.

Another client of the same pool leaves what it likes.
"""

import contextlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from etl.cli.app import main
from etl.diagnose.self_test import find_faults
from etl.errors import StoreError
from tests.support.api import Api, record
from tests.support.poolers import HotStandby, PgBouncer, Pgpool, PoolMode
from tests.support.project import make_config, open_project
from tests.support.servers import PostgreSQL, Server, ServerMissing

LEFT_BY_ANOTHER = """
SET search_path TO pg_catalog; SET TimeZone TO 'Asia/Kathmandu'; SET DateStyle TO 'German';
SET lock_timeout TO '1ms'; SET standard_conforming_strings TO off;
CREATE TEMP TABLE IF NOT EXISTS snapshots (id text)
"""
STRANGERS = 2
"""Connections of a pool, so that sources and strangers always meet."""
ROUNDS = 5
ON_POSTGRESQL = pytest.mark.parametrize("dialect", ["postgresql"], indirect=True)


@pytest.fixture
def bouncer(server: Server) -> Iterator[Callable[[PoolMode], PgBouncer]]:
    """`bouncer(mode)`: a PgBouncer with two connections to each database."""
    assert isinstance(server, PostgreSQL)
    with ExitStack() as stack:

        def start(pool_mode: PoolMode) -> PgBouncer:
            try:
                pooler = PgBouncer.before(server, pool_mode, STRANGERS)
            except ServerMissing as error:
                pytest.skip(f"LOUD: PgBouncer is not tested: {error}")
            stack.callback(pooler.stop)
            return pooler

        yield start


@pytest.fixture
def database(server: Server) -> Iterator[str]:
    name = server.create_database()
    yield name
    server.drop_database(name)


def listing(source: str, round_: int) -> list[dict[str, Any]]:
    """Ids of one source; in each round some are gone, some changed, some back, some new."""
    return [
        record(f"{source} {n}", snapshot_name=f"{source} {max(n % 7, round_)}", org_id=ord(source))
        for n in range(40 + round_ * 5)
        if n % 23 != round_
    ]


def leave_settings(url: str, stop: threading.Event) -> int:
    """As another client, until told to stop; returns how often."""
    count = 0
    with psycopg.connect(url, autocommit=True, prepare_threshold=None) as connection:
        while not stop.wait(0.005):
            connection.execute(LEFT_BY_ANOTHER)
            count += 1
    return count


@ON_POSTGRESQL
def test_sources_in_two_schemas_share_a_small_pool_and_never_meet(
    bouncer: Callable[[PoolMode], PgBouncer], database: str, api: Api, other_api: Api
):
    """Each is created by its first sync, while the other is at the same."""
    url = bouncer("transaction").url(database)
    apis = {"a": api, "b": other_api}
    projects = {}
    with ExitStack() as stack, ThreadPoolExecutor(3) as pool:
        for source, its_api in apis.items():
            config = make_config(url, its_api.url)
            config = replace(config, source=source, database_schema=f"of_{source}")
            projects[source] = open_project(config)
            stack.callback(projects[source].database.close)
        stop = threading.Event()
        stranger = pool.submit(leave_settings, url, stop)
        try:
            for round_ in range(ROUNDS):
                for source, its_api in apis.items():
                    its_api.views["/home"] = listing(source, round_)
                runs = [pool.submit(project.run) for project in projects.values()]
                assert [run.result(60).status for run in runs] == ["ok", "ok"]
                for source, project in projects.items():
                    assert {
                        (row["id"], row["source"], row["snapshot_name"])
                        for row in project.snapshots().values()
                        if row["removed_at"] is None
                    } == {
                        (r["id"], source, r["attributes"]["snapshot_name"])
                        for r in listing(source, round_)
                    }
        finally:
            stop.set()
        assert stranger.result(20) > ROUNDS


@ON_POSTGRESQL
def test_what_another_client_left_hides_no_table_and_changes_no_owner(
    bouncer: Callable[[PoolMode], PgBouncer], database: str, server: PostgreSQL, api: Api
):
    """Without a schema of ours, as most have it."""
    pooler = bouncer("transaction")
    server.execute("CREATE ROLE stranger")
    server.execute("GRANT stranger TO etl")
    api.views["/home"] = [record("1"), record("2")]
    project = open_project(make_config(pooler.url(database), api.url))
    with (
        contextlib.closing(project.database),
        psycopg.connect(server.url(database), autocommit=True) as directly,
    ):

        def spoil(*statements: str) -> None:
            # One after the other in a transaction: so each is on a connection of its own.
            with contextlib.ExitStack() as stack:
                for _ in range(STRANGERS):
                    other = psycopg.connect(pooler.url(database), prepare_threshold=None)
                    stack.enter_context(other)
                    for statement in statements:
                        other.execute(statement.encode())

        spoil("SET ROLE stranger", "SET row_security TO off")
        assert project.run().status == "ok"
        owners = "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'"
        assert directly.execute(owners).fetchall() == [("etl",)]
        spoil(
            "RESET ROLE",
            "CREATE TEMP TABLE snapshots (LIKE public.snapshots INCLUDING ALL)",
            "CREATE TEMP TABLE view_state (x integer)",
        )
        api.views["/home"] = [record("1", snapshot_name="new"), record("3")]
        assert project.run().status == "ok"
        found = directly.execute("SELECT id, snapshot_name FROM public.snapshots ORDER BY id")
        assert [row[0] for row in found.fetchall()] == ["1", "2", "3"]
        assert find_faults(project.database, project.config, has_tables=True) == []
    server.execute("DROP ROLE stranger")


@ON_POSTGRESQL
@pytest.mark.parametrize("pool_mode", ["transaction", "session"])
def test_every_command_works_and_leaves_nothing_on_a_connection(
    bouncer: Callable[[PoolMode], PgBouncer],
    pool_mode: PoolMode,
    database: str,
    api: Api,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    pooler = bouncer(pool_mode)
    for name in ("DD_API_KEY", "DD_APP_KEY"):
        monkeypatch.setenv(name, "a-key")
    before = state_of_the_pool(pooler.url(database))

    def run(*arguments: str, privacy: str = "keep", source: str = "datadoghq.com") -> str:
        (tmp_path / "heatmap-etl.toml").write_text(
            f'database_url = "{pooler.url(database)}"\ndatabase_schema = "Heat_map"\n'
            f'views = ["/home"]\n[datadog]\nsource = "{source}"\napi_url = "{api.url}"\n'
            f'[privacy]\ncreated_by = "{privacy}"\n'
        )
        capsys.readouterr()
        code = main([*arguments])
        told = capsys.readouterr()
        assert code == 0, told.out + told.err
        return told.out

    run("check")
    for round_ in range(ROUNDS):
        api.views["/home"] = listing("a", round_)
        run("sync")
    run("check")
    assert json.loads(run("status", "--json"))["runs"][0]["status"] == "ok"
    exported = run("export", "current_snapshots", "--format", "jsonl")
    assert len(exported.splitlines()) == len(listing("a", ROUNDS - 1))
    run("privacy", "apply", privacy="drop")
    run("db", "rename-source", "datadoghq.com", "new", privacy="drop", source="new")
    run("sync", privacy="drop", source="new")
    assert state_of_the_pool(pooler.url(database)) == before


def state_of_the_pool(url: str) -> set[tuple[Any, ...]]:
    """What another client finds on each of the pool's connections."""
    found = set()
    with ExitStack() as stack:
        for _ in range(STRANGERS):
            connection = psycopg.connect(url, prepare_threshold=None, application_name="x")
            stack.enter_context(contextlib.closing(connection))
            found |= {
                ("setting", *row)
                for row in connection.execute(
                    "SELECT name, setting FROM pg_settings WHERE setting <> reset_val"
                    " AND name NOT LIKE 'transaction_%'"
                )
            }
            for kind, table in (
                ("statement", "SELECT name FROM pg_prepared_statements"),
                ("lock", "SELECT objid FROM pg_locks WHERE locktype = 'advisory'"),
                ("table", "SELECT relname FROM pg_class WHERE relpersistence = 't'"),
            ):
                found |= {(kind, *row) for row in connection.execute(table.encode())}
    return found


@ON_POSTGRESQL
def test_statement_mode_is_named_as_what_it_is(
    bouncer: Callable[[PoolMode], PgBouncer], database: str, api: Api
):
    project = open_project(make_config(bouncer("statement").url(database), api.url))
    with contextlib.closing(project.database), pytest.raises(StoreError) as refused:
        project.run()
    assert str(refused.value).endswith(
        "transaction blocks not allowed in statement pooling mode;"
        " set pool_mode of PgBouncer to transaction or session"
    )


@ON_POSTGRESQL
def test_a_parameter_that_pgbouncer_refuses_is_named(
    bouncer: Callable[[PoolMode], PgBouncer], database: str, api: Api
):
    url = bouncer("transaction").url(database) + "?options=-csearch_path%3Dx"
    project = open_project(make_config(url, api.url))
    with contextlib.closing(project.database), pytest.raises(StoreError) as refused:
        project.run()
    assert re.search(r"unsupported startup parameter: options; remove it", str(refused.value))


@pytest.fixture(scope="module")
def replicated(require_server: Callable[[str], None]) -> Iterator[tuple[PostgreSQL, HotStandby]]:
    """A primary with a database `etl`, and its standby."""
    require_server("postgresql")
    with ExitStack() as stack:
        primary = PostgreSQL.launch()
        stack.callback(primary.stop)
        primary.execute("create database etl owner etl")
        standby = HotStandby.make(primary)
        stack.callback(standby.stop)
        yield primary, standby


@pytest.fixture
def pgpool(replicated: tuple[PostgreSQL, HotStandby]) -> Iterator[Callable[..., Pgpool]]:
    """`pgpool(*settings)`: the standby takes all that may be read from either."""
    with ExitStack() as stack:

        def start(*settings: str) -> Pgpool:
            try:
                pooler = Pgpool.before(*replicated, *settings)
            except ServerMissing as error:
                pytest.skip(f"LOUD: pgpool-II is not tested: {error}")
            stack.callback(pooler.stop)
            return pooler

        yield start


def test_behind_pgpool_nothing_is_decided_by_a_standby_that_lags(
    pgpool: Callable[..., Pgpool], api: Api
):
    pooler = pgpool()
    pooler.standby.pause()
    try:
        config = replace(make_config(pooler.url("etl"), api.url), database_schema="of_a")
        project = open_project(config)
        with contextlib.closing(project.database):
            for round_ in range(3):
                api.views["/home"] = listing("a", round_)
                assert project.run().status == "ok"
                assert project.live() == {r["id"] for r in listing("a", round_)}
            assert find_faults(project.database, config, has_tables=True) == []
            assert (
                project.database.read(
                    lambda c: c.exec_driver_sql("SELECT inet_server_port()").scalar()
                )
                == pooler.origin.port
            )
        # It would have been asked: what no transaction of ours says goes there.
        with psycopg.connect(pooler.url("etl"), autocommit=True) as other:
            ports = other.execute("SELECT inet_server_port()").fetchall()
        assert ports == [(pooler.standby.port,)]
        assert pooler.standby.execute("SELECT 1 FROM pg_namespace WHERE nspname = 'of_a'") == []
    finally:
        pooler.standby.resume()


def test_a_pgpool_that_reads_from_a_standby_even_so_is_named(pgpool: Callable[..., Pgpool]):
    pooler = pgpool("disable_load_balance_on_write = 'off'")
    database = open_project(make_config(pooler.url("etl"), "http://localhost")).database
    with contextlib.closing(database):
        spoilt = database.transaction(lambda c: database.dialect.spoilt_settings(c, None))
    assert "lock_timeout is 0, not 10s" in spoilt
