"""A run whose own transaction waits for a lock, longer than its lease lasts, is not taken for dead.

While it waits it has the row of its source locked, so that nobody can renew the lease.
"""

import os
import secrets
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
from tests.support.poolers import PgBouncer
from tests.support.processes import ended, syncs
from tests.support.project import Project, make_config, open_project
from tests.support.servers import PASSWORD, PostgreSQL, ServerMissing, Servers
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


def leave_expired(project: Project) -> None:
    """A lease of another host that nobody renews."""
    project.database.transaction(lambda c: Lease(project.config.source, 60).take(c, project.config))
    values = {"lease_host": "elsewhere", "lease_expires_at": past()}
    project.database.transaction(lambda c: c.execute(update(sources).values(**values)))


@contextmanager
def locked_sources(project: Project) -> Iterator[None]:
    with project.database.connect() as connection, connection.begin():
        connection.execute(select(sources).with_for_update())
        yield


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


@pytest.mark.parametrize("dialect", ["postgresql"], indirect=True)
def test_through_a_pool_of_one_connection_it_is_told_who_holds_an_expired_lease(
    project: Project, servers: Servers
) -> None:
    server = servers.get("postgresql")
    assert isinstance(server, PostgreSQL)
    try:
        pooler = PgBouncer.before(server, "transaction", 1)
    except ServerMissing as error:
        pytest.skip(f"LOUD: PgBouncer is not tested: {error}")
    name = str(project.database.engine.url.database)
    through = open_project(make_config(pooler.url(name), ""))
    leave_expired(project)
    try:
        began = time.monotonic()
        assert through.database.read(lambda c: holder(c, project.config.source)) == ""
        with locked_sources(project):
            assert through.database.read(lambda c: holder(c, project.config.source))
        assert time.monotonic() - began < 5
    finally:
        through.database.close()
        pooler.stop()


@ON_SERVERS
def test_to_ask_who_holds_an_expired_lease_keeps_nobody_from_taking_it(project: Project) -> None:
    source, other = project.config.source, Lease(project.config.source, 60)
    leave_expired(project)

    def ask_and_let_take(connection: Connection) -> None:
        assert holder(connection, source) == ""
        assert connection.execute(select(sources.c.source)).scalars().all() == [source]
        project.database.transaction(lambda c: other.take(c, project.config))
        assert holder(connection, source)

    project.database.read(ask_and_let_take)


@ON_SERVERS
@pytest.mark.parametrize("rights", ["SELECT", "SELECT ({columns})"])
def test_who_may_only_read_goes_on_after_the_question(
    project: Project, servers: Servers, dialect: str, rights: str
) -> None:
    server, role = servers.get(dialect), f"reader_{secrets.token_hex(4)}"
    name, columns = project.database.engine.url.database, ", ".join(sources.columns.keys())
    is_postgresql = dialect == "postgresql"
    place = "public" if is_postgresql else name
    server.execute(
        f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'"
        if is_postgresql
        else f"CREATE USER {role} IDENTIFIED BY '{PASSWORD}'"
    )
    grant = f"GRANT {rights.format(columns=columns)} ON {place}.sources TO {role}"
    if is_postgresql:  # its owner may
        project.execute(grant)
    else:
        server.execute(grant)
    leave_expired(project)
    reader = open_project(make_config(server.url(str(name), user=role), ""))

    def ask_twice(connection: Connection) -> list[str]:
        return [holder(connection, project.config.source) for _ in range(2)]

    try:
        assert reader.database.read(ask_twice) == ["", ""]
        with locked_sources(project):
            # PostgreSQL says who locks a row to those who may read all of its table.
            is_seen = not is_postgresql or rights == "SELECT"
            assert [bool(told) for told in reader.database.read(ask_twice)] == [is_seen] * 2
    finally:
        reader.database.close()


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
