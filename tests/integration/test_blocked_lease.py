"""A run whose own transaction waits for a lock, longer than its lease lasts, is not taken for dead.

While it waits it has the row of its source locked, so that nobody can renew the lease.
"""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Connection, create_engine, select, text, update
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

from etl.database.schema import sources
from etl.errors import LeaseHeld
from etl.monitor.status import read_status
from etl.source.lease import Lease, clock, holder
from tests.support.api import Api, record
from tests.support.processes import ended, syncs
from tests.support.project import Project
from tests.support.servers import Servers
from tests.support.waiting import wait_until

LEASE_S = 1.0
ON_SERVERS = pytest.mark.parametrize("dialect", ["postgresql", "mariadb"], indirect=True)


@pytest.fixture
def run(database_url: str, api: Api) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    with syncs(database_url, api.url, ["/home"]) as start:
        yield start


@contextmanager
def locked_snapshots(project: Project) -> Iterator[None]:
    """Another program may read the table, and keeps everybody from writing to it."""
    is_postgresql = project.database.family == "postgresql"
    lock = (
        "LOCK TABLE snapshots IN EXCLUSIVE MODE" if is_postgresql else "LOCK TABLES snapshots READ"
    )
    engine = create_engine(make_url(project.config.database_url), poolclass=NullPool)
    with engine.connect() as connection, connection.begin():
        connection.execute(text(lock))
        yield
    engine.dispose()


def past() -> datetime:
    return datetime.now(UTC) - timedelta(seconds=9)


def is_expired(project: Project) -> bool:
    with project.database.connect(write=False) as connection:
        expiry = connection.execute(select(sources.c.lease_expires_at)).scalar_one()
        return expiry is not None and expiry < clock(connection)


@ON_SERVERS
def test_a_run_that_waits_for_a_lock_beyond_its_lease_keeps_it(
    project: Project, api: Api, run: Callable[..., subprocess.Popen[str]]
) -> None:
    api.views["/home"] = [record("1")]
    project.run()
    api.views["/home"] = [record("1", snapshot_name="changed")]
    with locked_snapshots(project):
        first = run(LEASE_S, "first")
        wait_until(lambda: is_expired(project), 30)
        second = run(LEASE_S, "second")
        assert second.stdout is not None
        assert second.stdout.readline() == "takes\n"
        status = read_status(project.config, project.database, max_age_s=None)
        assert status.holder.endswith(" on first")
        assert status.runs[0]["status"] == "running"
        time.sleep(1)  # it waits for the row of the source
    code, said = ended(second)
    assert code == 75, said
    assert "on first works on source datadoghq.com" in said
    assert ended(first) == (0, "takes\nok\n")
    statuses = project.rows("SELECT status FROM sync_runs")
    assert [row["status"] for row in statuses] == ["ok", "ok"]
    assert project.one("SELECT snapshot_name AS name FROM snapshots")["name"] == "changed"


@ON_SERVERS
def test_the_lease_of_a_transaction_that_does_not_end_is_held(
    project: Project,
) -> None:
    """Its lock is not waited for again and again, and no raw error is told."""
    lease, other = (Lease(project.config.source, 60) for _ in range(2))
    project.database.transaction(lambda c: lease.take(c, project.config))
    tries = []

    def take(connection: Connection) -> None:
        tries.append(connection)
        project.database.dialect.wait_briefly(connection, 1)
        other.take(connection, project.config)

    project.database.transaction(
        lambda c: c.execute(update(sources).values(lease_expires_at=past()))
    )
    with project.database.connect() as connection, connection.begin():
        lease.guard(connection)
        with pytest.raises(LeaseHeld, match=f"process {os.getpid()} on .* waits or writes"):
            project.database.transaction(take)
        assert project.database.read(lambda c: holder(c, project.config.source))
    assert len(tries) == 1
    # With the transaction its proof of life is gone: the expiry wins.
    assert project.database.read(lambda c: holder(c, project.config.source)) == ""
    project.database.transaction(lambda c: other.take(c, project.config))


@pytest.mark.parametrize("dialect", ["postgresql"], indirect=True)
def test_a_login_with_one_connection_may_ask_who_holds_an_expired_lease(
    project: Project, servers: Servers
) -> None:
    """Whether its row is locked cannot be asked then: the expiry tells."""
    source, server = project.config.source, servers.get("postgresql")
    project.database.transaction(lambda c: Lease(source, 60).take(c, project.config))
    project.database.transaction(
        lambda c: c.execute(update(sources).values(lease_expires_at=past()))
    )
    project.database.close()
    limit = f'ALTER DATABASE "{project.database.engine.url.database}" CONNECTION LIMIT {{}}'
    server.execute(limit.format(1))
    try:
        assert project.database.read(lambda c: holder(c, source)) == ""
    finally:
        server.execute(limit.format(-1))


def test_a_transaction_that_lasts_renews_the_lease_before_it_commits(project: Project) -> None:
    lease = Lease(project.config.source, 3)
    project.database.transaction(lambda c: lease.take(c, project.config))

    def work(connection: Connection, seconds: float) -> None:
        with lease.guarded(connection):
            connection.execute(update(sources).values(lease_expires_at=past()))
            time.sleep(seconds)

    project.database.transaction(lambda c: work(c, 0))
    assert is_expired(project)
    project.database.transaction(lambda c: work(c, 1.05))
    assert not is_expired(project)
