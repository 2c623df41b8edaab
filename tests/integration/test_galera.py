"""Two nodes of a Galera cluster are written to at once: each has locks of its own."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text

from etl.database import schema, upgrade_wait
from etl.database.dialects import galera
from etl.database.migrations import downgrade, prepare_schema, schema_state, upgrade
from etl.errors import DatabaseUnreachable, LeaseHeld, LeaseLost, StoreError
from etl.source.lease import Lease
from tests.support.api import Api, record
from tests.support.command_line import Cli
from tests.support.galera import Node, started_cluster
from tests.support.processes import WAIT_FOR_THE_OTHERS, begin_at_once, start
from tests.support.project import Project, make_config, open_project
from tests.support.servers import ServerFailed, ServerMissing
from tests.support.waiting import wait_until

SYNC = f"""
import alembic.command, httpx, pymysql, sqlalchemy.dialects.mysql.pymysql
from etl.__main__ import run
{WAIT_FOR_THE_OTHERS}
sys.argv[1:] = ["sync", "--quiet"]
sys.exit(run())
"""
LOCK = "heatmap_etl_upgrade_lock"
WAITED = re.compile(".*another upgrade of .* is under way; waiting for it.*\n")  # of a slow machine


@pytest.fixture(scope="module")
def cluster(require_server: Callable[[str], None]) -> Iterator[tuple[Node, Node]]:
    require_server("mariadb")
    try:
        with started_cluster() as nodes:
            yield nodes
    except (ServerMissing, ServerFailed) as error:
        pytest.skip(f"LOUD: Galera is not tested: {error}")


@pytest.fixture
def nodes(cluster: tuple[Node, Node], api: Api) -> Iterator[tuple[Project, Project]]:
    """One empty database, through each node; what one commits the other waits for."""
    name = cluster[0].create_database()
    projects = [open_project(make_config(node.url(name), api.url)) for node in cluster]
    named = f"show databases like '{name}'"
    wait_until(lambda: cluster[1].execute(named))  # it gets there a moment later
    yield projects[0], projects[1]
    for project in projects:
        project.database.close()
    cluster[0].drop_database(name)


def at_once(action: Callable[[Project], Any], projects: tuple[Project, Project]) -> list[Any]:
    barrier = threading.Barrier(2)

    def run(project: Project) -> Any:
        barrier.wait()
        return action(project)

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(run, projects))


def assert_whole(project: Project) -> None:
    assert schema_state(project.database).state == "current"
    version = project.rows(f"SELECT version_num FROM {schema.VERSION_TABLE}")
    assert version == [{"version_num": schema.HEAD}]
    found = project.rows(
        "SELECT table_name AS name FROM information_schema.tables"
        " WHERE table_schema = DATABASE() AND table_type = 'BASE TABLE'"
    )
    assert {row["name"] for row in found} == {*schema.metadata.tables, schema.VERSION_TABLE}


@pytest.mark.parametrize("number", range(2))
def test_two_first_syncs_end_well_and_one_of_them_wrote(
    nodes: tuple[Project, Project], number: int, api: Api, tmp_path: Path
):
    api.views["/home"] = [record(f"{number} {i}") for i in range(20)]
    cli = Cli(tmp_path)
    cli.configure(f'views = ["/home"]\n[datadog]\napi_url = "{api.url}"\n')
    processes = []
    for project in nodes:
        url = project.config.database_url.replace("+pymysql", "")
        environment = cli.environment({"HEATMAP_ETL_DATABASE_URL": url})
        processes.append(start(SYNC, folder=tmp_path, environment=environment))
    ends = [(code, WAITED.sub("", said)) for code, said in begin_at_once(processes)]
    codes = [code for code, _ in ends]
    assert sorted(codes) in ([0, 0], [0, 75]), ends
    assert all("its lease lasts until" in said for code, said in ends if code), ends
    assert all(said == "" for code, said in ends if not code), ends
    for project in nodes:
        assert_whole(project)
        assert len(project.live()) == 20
        assert project.history() == []
        assert len(project.rows("SELECT * FROM sync_runs")) == codes.count(0)


def test_upgrades_and_downgrades_at_once_wait_for_each_other(nodes: tuple[Project, Project]):
    at_once(lambda project: prepare_schema(project.database), nodes)
    assert_whole(nodes[0])
    at_once(lambda project: downgrade(project.database, "0003"), nodes)
    at_once(lambda project: upgrade(project.database), nodes)
    for project in nodes:
        assert_whole(project)


def test_an_upgrade_that_a_run_on_another_node_cut_short_is_repeated(
    nodes: tuple[Project, Project], api: Api
):
    """What an upgrade writes into our tables is lost when another node has committed first."""
    writer, owner = nodes
    api.views["/home"] = [record(i) for i in "abc"]
    assert writer.run().status == "ok"
    downgrade(owner.database, "0003")
    cuts: list[str] = []

    @event.listens_for(owner.database.engine, "after_cursor_execute")
    def write_elsewhere(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("UPDATE view_state") and len(cuts) < 2:
            cuts.append(statement)
            writer.execute("UPDATE view_state SET listed = listed + 1")
            time.sleep(0.2)

    upgrade(owner.database)
    assert len(cuts) == 2
    assert_whole(owner)


def test_the_lock_of_an_upgrade_that_was_killed_is_taken(
    nodes: tuple[Project, Project], monkeypatch: pytest.MonkeyPatch
):
    first, second = nodes

    def leave(node: Project, expires: str) -> None:
        node.execute(galera._CREATE)
        (status,) = node.rows("SHOW STATUS LIKE 'wsrep_gcomm_uuid'")
        node.execute(f"INSERT INTO {LOCK} VALUES (1, '{status['Value']}', 7, {expires})")

    leave(first, "UTC_TIMESTAMP(6) + INTERVAL 600 SECOND")
    prepare_schema(first.database)  # of this node, where GET_LOCK is free: it is gone
    assert_whole(first)
    leave(first, "UTC_TIMESTAMP(6) - INTERVAL 1 SECOND")
    upgrade(second.database)
    assert_whole(second)
    leave(first, "UTC_TIMESTAMP(6) + INTERVAL 600 SECOND")
    monkeypatch.setattr(upgrade_wait, "WAIT_S", 0.5)
    with pytest.raises(StoreError, match="is still running; try again"):
        upgrade(second.database)
    first.execute(f"DROP TABLE {LOCK}")


def test_a_revision_that_was_kept_on_one_node_gets_to_the_others(nodes: tuple[Project, Project]):
    first, second = nodes
    upgrade(first.database)
    downgrade(first.database, "0005")
    first.execute(f"ALTER TABLE {schema.VERSION_TABLE} ENGINE = MyISAM")
    named = f"SHOW TABLE STATUS WHERE Name = '{schema.VERSION_TABLE}' AND Engine = 'MyISAM'"
    wait_until(lambda: second.rows(named))  # else the deletion would go to both
    second.execute(f"DELETE FROM {schema.VERSION_TABLE}")  # MyISAM: the row is on one node only
    assert schema_state(first.database).state == "outdated"
    upgrade(first.database)
    for project in nodes:
        assert_whole(project)


def test_one_process_gets_the_lease(nodes: tuple[Project, Project]):
    prepare_schema(nodes[0].database)

    def take(project: Project) -> Lease | None:
        lease = Lease(project.config.source, 60)
        try:
            project.database.transaction(lambda c: lease.take(c, project.config))
        except LeaseHeld:
            return None
        return lease

    for _ in range(15):
        leases = at_once(take, nodes)
        (held,) = [lease for lease in leases if lease]
        nodes[leases.index(held)].database.transaction(held.release)
    assert len(nodes[0].rows("SELECT * FROM sources")) == 1


def test_a_process_that_lost_its_lease_writes_nothing_on_a_node_that_lags(
    nodes: tuple[Project, Project],
):
    """Its node does not know of the new holder before it has applied what came first."""
    lagging, other = nodes
    upgrade(lagging.database)
    lagging.execute("CREATE TABLE others (n INT PRIMARY KEY, words VARCHAR(100))")
    wait_until(lambda: other.rows("SHOW TABLES LIKE 'others'"))
    lost, taken = Lease("datadoghq.com", 60), Lease("datadoghq.com", 60)
    lagging.database.transaction(lambda c: lost.take(c, lagging.config))
    lagging.execute("UPDATE sources SET lease_expires_at = '2020-01-01'")
    rows = "SELECT seq, REPEAT('x', 100) FROM seq_1_to_100000"
    other.execute(f"INSERT INTO others {rows}")
    other.database.transaction(lambda c: taken.take(c, other.config))
    tokens = []

    def write(connection: Any) -> None:
        tokens.append(connection.execute(text("SELECT lease_token FROM sources")).scalar())
        lost.guard(connection)
        connection.execute(text("INSERT INTO others VALUES (0, 'late')"))

    # On a slow machine the node may lag for longer than the transaction is repeated.
    with pytest.raises((LeaseLost, StoreError), match=r"took the lease|Deadlock"):
        lagging.database.transaction(write)
    assert tokens[0] == lost.token  # else the node did not lag, and nothing was tested
    assert lagging.rows("SELECT * FROM others WHERE n = 0") == []


def test_a_node_outside_the_cluster_is_told_as_such(
    cluster: tuple[Node, Node], nodes: tuple[Project, Project]
):
    project = nodes[1]
    cluster[1].execute("SET GLOBAL wsrep_reject_queries = ALL")
    try:
        with pytest.raises(StoreError) as while_connected:
            schema_state(project.database)
        project.database.close()
        with pytest.raises(DatabaseUnreachable) as at_first:
            schema_state(project.database)
    finally:
        cluster[1].execute("SET GLOBAL wsrep_reject_queries = NONE")
    for refusal in (while_connected, at_first):
        assert str(refusal.value).endswith(
            "WSREP has not yet prepared node for application use; this node is not part of its"
            " Galera cluster: name another node, or wait until wsrep_cluster_status is Primary and"
            " wsrep_ready is ON"
        )
