"""One process at a time works on a source, and a process that lost its lease cannot write."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import event, select, update

from etl.database.schema import sources
from etl.errors import LeaseHeld, LeaseLost
from etl.source import lease as lease_module
from etl.source.lease import Lease, clock, is_gone, this_process
from tests.support.api import Api, record
from tests.support.project import Project

pytestmark = pytest.mark.every_server


@pytest.fixture
def lease(project: Project) -> Lease:
    lease = Lease(project.config.source, 60)
    project.database.transaction(lambda c: lease.take(c, project.config))
    return lease


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


def holder_of(pid: int) -> str:
    return f"{pid}@{lease_module._started(pid)}"


def set_lease(project: Project, **values: object) -> None:
    project.database.transaction(lambda c: c.execute(update(sources).values(**values)))


def expiry(project: Project) -> datetime:
    with project.database.connect(write=False) as connection:
        value = connection.execute(select(sources.c.lease_expires_at)).scalar_one()
        assert isinstance(value, datetime)
        return value


def another(project: Project) -> Lease:
    other = Lease(project.config.source, 60)
    project.database.transaction(lambda c: other.take(c, project.config))
    return other


def test_a_held_lease_is_refused_and_its_holder_named(project: Project, lease: Lease) -> None:
    with pytest.raises(LeaseHeld) as caught:
        another(project)
    assert f"process {os.getpid()}" in str(caught.value)
    assert "UTC" in str(caught.value)
    assert caught.value.exit_code == 75
    assert lease.token not in str(caught.value)


def test_the_holder_takes_its_own_lease_again(project: Project, lease: Lease) -> None:
    project.database.transaction(lambda c: lease.take(c, project.config))


def test_a_released_lease_is_free(project: Project, lease: Lease) -> None:
    project.database.transaction(lease.release)
    another(project)


def test_an_expired_lease_of_another_machine_is_free(project: Project, lease: Lease) -> None:
    set_lease(project, lease_host="elsewhere", lease_expires_at=datetime.now(UTC))
    another(project)


def test_a_running_lease_of_another_machine_is_held(project: Project, lease: Lease) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=30)
    set_lease(project, lease_host="elsewhere", lease_holder="1@1", lease_expires_at=soon)
    with pytest.raises(LeaseHeld, match="process 1 on elsewhere"):
        another(project)


def test_a_process_of_this_machine_that_is_gone_loses_its_lease_at_once(
    project: Project, lease: Lease, sleeper: subprocess.Popen[bytes]
) -> None:
    set_lease(project, lease_holder=holder_of(sleeper.pid))
    with pytest.raises(LeaseHeld):
        another(project)
    sleeper.kill()
    sleeper.wait()
    another(project)


def test_an_expired_lease_is_free_however_slowly_the_server_answers(
    project: Project, lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_module, "_SHORT_WAIT_S", 0.15)
    set_lease(project, lease_host="elsewhere", lease_expires_at=datetime.now(UTC))

    @event.listens_for(project.database.engine, "before_cursor_execute")
    def answer_slowly(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        time.sleep(0.2 if "FROM sources" in statement else 0)

    another(project)


def test_a_row_that_was_locked_by_a_process_that_is_gone_is_free(
    project: Project,
    lease: Lease,
    sleeper: subprocess.Popen[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its server may have taken a while to notice."""
    monkeypatch.setattr(lease_module, "_SHORT_WAIT_S", -9)  # whoever locks it has waited
    set_lease(project, lease_holder=holder_of(sleeper.pid))
    with pytest.raises(LeaseHeld, match="waits or writes just now"):
        another(project)
    sleeper.kill()
    sleeper.wait()
    another(project)


def test_a_pid_that_is_used_again_is_another_process(sleeper: subprocess.Popen[bytes]) -> None:
    host = this_process().host
    assert not is_gone(holder_of(sleeper.pid), host)
    assert is_gone(f"{sleeper.pid}@1", host)
    assert not is_gone(f"{sleeper.pid}@1", "elsewhere")
    assert not is_gone("somebody@1", host)


def test_a_living_process_that_proc_hides_is_not_gone(
    sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    holder = holder_of(sleeper.pid)
    # As with hidepid: another user's folder in /proc is not there.
    monkeypatch.setattr(lease_module, "_started", lambda _pid: "")
    assert not is_gone(holder, this_process().host)


def test_who_lost_the_lease_cannot_write(project: Project, lease: Lease) -> None:
    set_lease(project, lease_expires_at=datetime.now(UTC) - timedelta(seconds=1))
    other = another(project)
    for work in (lease.guard, lease.renew, lease.release):
        with pytest.raises(LeaseLost):
            project.database.transaction(work)
    assert lease.is_lost
    project.database.transaction(other.guard)


def test_renewing_pushes_the_expiry_on_by_the_databases_clock(
    project: Project, lease: Lease
) -> None:
    set_lease(project, lease_expires_at=datetime.now(UTC) + timedelta(seconds=1))
    with project.database.connect(write=False) as connection:
        now = clock(connection)
    project.database.transaction(lease.renew)
    assert now + timedelta(seconds=59) < expiry(project) < now + timedelta(seconds=90)


def test_the_databases_clock_is_utc(project: Project) -> None:
    with project.database.connect(write=False) as connection:
        assert abs(clock(connection) - datetime.now(UTC)) < timedelta(seconds=5)


def test_a_lease_is_kept_in_the_background(project: Project) -> None:
    lease = Lease(project.config.source, 0.3)
    project.database.transaction(lambda c: lease.take(c, project.config))
    first = expiry(project)
    thread = lease.keep(project.database, on_loss=lambda: None)
    waiting = threading.Event()
    for _ in range(100):
        waiting.wait(0.05)
        if expiry(project) > first:
            break
    assert expiry(project) > first
    lease.stop_keeping()
    thread.join(5)
    assert not thread.is_alive()


def test_losing_the_lease_in_the_background_is_told(project: Project) -> None:
    lease, told = Lease(project.config.source, 0.3), threading.Event()
    project.database.transaction(lambda c: lease.take(c, project.config))
    set_lease(project, lease_token="another's")
    lease.keep(project.database, on_loss=told.set)
    assert told.wait(5)


def test_a_run_that_lost_its_lease_writes_nothing_more(project: Project, api: Api) -> None:
    api.views["/home"] = [record("1")]
    project.run()

    def steal() -> list[dict[str, object]]:
        set_lease(project, lease_token="another's", lease_holder="1@1", lease_host="elsewhere")
        return [record("1"), record("2")]

    api.views["/home"] = steal
    with pytest.raises(LeaseLost):
        project.run()
    assert project.live() == {"1"}
    assert project.one("SELECT lease_token FROM sources")["lease_token"] == "another's"
    statuses = [r["status"] for r in project.rows("SELECT status FROM sync_runs ORDER BY 1")]
    assert statuses == ["ok", "running"]


def test_the_next_run_closes_a_dead_one(project: Project, api: Api) -> None:
    api.views["/home"] = [record("1")]
    project.run()
    project.execute("UPDATE sync_runs SET status = 'running', finished_at = NULL")
    project.run()
    rows = project.rows("SELECT status, finished_at, error FROM sync_runs ORDER BY started_at")
    assert [row["status"] for row in rows] == ["died", "ok"]
    assert rows[0]["finished_at"] is not None
    assert "died" in rows[0]["error"]
