"""The daemon: the ledger says what is due, and whatever happens to a run, its slot is not lost."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import time_machine
from sqlalchemy import text

from etl.config.model import Sources
from etl.database.connection import Database
from etl.database.migrations import SchemaState, found_schema
from etl.errors import SlotTaken
from etl.ledger.results import RunResult
from etl.pipeline.run import Options
from etl.pipeline.sync import sync
from etl.schedule.cron import Every
from etl.schedule.daemon import TICK_S, Daemon, Job
from etl.schedule.due import due_now
from etl.source.lease import Lease
from tests.support.api import Api, record
from tests.support.project import Project, make_config, open_project

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
QUARTER = timedelta(minutes=15)


def wait_until(is_so: Callable[[], object], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    """Noon; it runs on, and can be moved."""
    with time_machine.travel(NOON + timedelta(seconds=5), tick=True) as traveller:
        yield traveller


@pytest.fixture
def job(clock: time_machine.Traveller, project: Project, api: Api) -> Job:
    """Every quarter of an hour, since a second before noon."""
    api.views["/home"] = [record("1")]
    project.configure(every_s=900.0)
    return new_job(project)


def new_job(project: Project, since: datetime = NOON - timedelta(seconds=1), **more: Any) -> Job:
    return Job(project.config, project.stop, since=since, **more)


def ledger(project: Project) -> list[tuple[Any, ...]]:
    """`(slot, missed, started_by, status)` of each run; slots as quarters since noon."""
    with project.database.connect(write=False) as connection:
        rows = connection.execute(
            text("SELECT started_at, slot_at, missed_slots, started_by, status FROM sync_runs")
        ).all()
    found = []
    for started_at, slot_at, *rest in sorted(rows, key=lambda row: str(row.started_at)):
        slot = datetime.fromisoformat(str(slot_at)) if slot_at else None
        if slot:
            slot = slot.replace(tzinfo=UTC) if slot.tzinfo is None else slot
        found.append((slot and (slot - NOON) / QUARTER, *rest))
        assert started_at is not None
    return found


# --- one job ------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
def test_a_file_that_is_away_for_a_moment_counts_no_slot_again(
    job: Job, project: Project, clock: time_machine.Traveller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is gone when the daemon looks what is due, and back when the run begins."""
    job.look()
    project.database.close()
    clock.shift(QUARTER)
    file = project.database.file
    assert file

    def while_it_is_away(database: Database) -> SchemaState:
        away = file.rename(file.with_suffix(".away"))
        found = found_schema(database)
        away.rename(file)
        return found

    monkeypatch.setattr("etl.schedule.due.found_schema", while_it_is_away)
    job.look()
    assert ledger(project) == [(0, 0, "schedule", "ok"), (1, 0, "schedule", "ok")]


def test_a_slot_is_run_once_and_stands_in_the_ledger(job: Job, project: Project) -> None:
    for _ in range(2):
        assert job.look() == NOON + QUARTER
    assert ledger(project) == [(0, 0, "schedule", "ok")]
    assert project.live() == {"1"}


def test_after_downtime_one_run_makes_up_for_all_missed_slots(
    job: Job, project: Project, clock: time_machine.Traveller
) -> None:
    job.look()
    clock.shift(timedelta(hours=5))
    restarted = new_job(project, since=datetime.now(UTC))
    assert restarted.look() == NOON + 21 * QUARTER
    assert ledger(project) == [(0, 0, "schedule", "ok"), (20, 19, "schedule", "ok")]


def test_a_new_source_begins_with_the_next_slot(job: Job, project: Project) -> None:
    fresh = new_job(project, since=datetime.now(UTC))
    assert fresh.look() == NOON + QUARTER
    assert ledger(project) == []


def test_runs_by_hand_fulfil_no_slot(job: Job, project: Project) -> None:
    project.run()
    project.run("/home")
    job.look()
    by_hand = (None, 0, "manual", "ok")
    assert ledger(project) == [by_hand, by_hand, (0, 0, "schedule", "ok")]


def test_a_failed_run_fulfils_its_slot(job: Job, project: Project, api: Api) -> None:
    api.views["/home"] = (400, {}, b"{}")
    assert job.look() == job.look() == NOON + QUARTER
    assert ledger(project) == [(0, 0, "schedule", "failed")]


@pytest.mark.parametrize("status", ["stopped", "died", "running"])
def test_a_run_that_came_to_no_end_is_done_again(
    job: Job, project: Project, clock: time_machine.Traveller, status: str
) -> None:
    job.look()
    project.execute("UPDATE sync_runs SET status = :status", status=status)
    clock.shift(QUARTER)
    new_job(project).look()
    ended = "died" if status == "running" else status
    assert ledger(project) == [(0, 0, "schedule", ended), (1, 1, "schedule", "ok")]


def test_what_a_wrong_clock_ran_ahead_of_time_holds_nothing_up(
    job: Job, project: Project, clock: time_machine.Traveller
) -> None:
    clock.shift(timedelta(days=2))
    job.look()
    clock.shift(timedelta(days=-2))
    new_job(project).look()
    assert [row[0] for row in ledger(project)] == [0, 192]


def test_a_slot_that_a_wrong_clock_ran_too_early_is_run_when_it_comes(
    job: Job, project: Project, clock: time_machine.Traveller
) -> None:
    project.configure(every_s=86400.0)
    midnight, early = timedelta(hours=12), timedelta(hours=20)
    clock.shift(early)
    new_job(project).look()
    clock.shift(midnight - early)
    for _ in range(2):
        new_job(project).look()
    assert [row[0] for row in ledger(project)] == [midnight / QUARTER] * 2


def test_a_stopped_daemon_runs_nothing(job: Job, project: Project) -> None:
    project.stop.set()
    job.look()
    assert ledger(project) == []


def test_a_slot_that_another_process_took_is_seen_under_the_lease(
    job: Job, project: Project
) -> None:
    job.look()
    for slot in (NOON, NOON - QUARTER):
        late = Options(started_by="schedule", slot_at=slot)
        with pytest.raises(SlotTaken) as caught:
            sync(project.config, project.database, late, stop=project.stop)
        assert caught.value.exit_code == 75
    assert len(ledger(project)) == 1
    assert project.one("SELECT lease_token FROM sources") == {"lease_token": None}


@pytest.mark.slow
def test_two_daemons_never_run_a_slot_twice(
    job: Job, project: Project, clock: time_machine.Traveller
) -> None:
    jobs = [job, new_job(project), new_job(project)]
    for number in range(4):
        together = threading.Barrier(len(jobs))

        def look(mine: Job, together: threading.Barrier = together) -> None:
            together.wait()
            mine.look()

        threads = [threading.Thread(target=look, args=(mine,)) for mine in jobs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        again = [mine.look() for mine in jobs]  # who found it held looks again
        assert again == [NOON + (number + 1) * QUARTER] * len(jobs)
        clock.shift(QUARTER)
    assert ledger(project) == [(n, 0, "schedule", "ok") for n in range(4)]


def test_while_somebody_works_the_slot_stays_due(job: Job, project: Project) -> None:
    other = Lease(project.config.source, 60)
    project.run()
    project.database.transaction(lambda c: other.take(c, project.config))
    again = job.look()
    assert again - datetime.now(UTC) < timedelta(seconds=10)
    assert ledger(project) == [(None, 0, "manual", "ok")]
    project.database.transaction(other.release)
    assert job.look() == NOON + QUARTER
    assert ledger(project)[1:] == [(0, 0, "schedule", "ok")]


def test_a_lost_lease_ends_its_run_and_not_the_daemon(job: Job, project: Project, api: Api) -> None:
    def steal() -> list[dict[str, Any]]:
        project.execute("UPDATE sources SET lease_token = 'another', lease_holder = '1@1'")
        return [record("2")]

    job.look()
    api.views["/home"] = steal
    project.execute("UPDATE sync_runs SET slot_at = NULL")
    job.look()
    assert not project.stop.is_set()
    assert project.live() == {"1"}


def test_a_bug_ends_one_run_and_not_the_daemon(
    job: Job, project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_run: RunResult) -> None:
        raise ZeroDivisionError

    broken = new_job(project, on_end=fail)
    assert broken.look() > datetime.now(UTC)
    assert "a bug" in caplog.text
    assert broken.look() == NOON + QUARTER


def test_a_database_out_of_reach_is_asked_again_and_reported_once(
    clock: time_machine.Traveller, caplog: pytest.LogCaptureFixture
) -> None:
    config = make_config("postgresql://etl:s3cret@127.0.0.1:9/x", "http://127.0.0.1:9")
    job = Job(replace(config, every_s=900.0), threading.Event(), since=NOON - QUARTER)
    waits = [(job.look() - datetime.now(UTC)).total_seconds() for _ in range(6)]
    assert [round(wait) for wait in waits] == [5, 10, 20, 40, 60, 60]
    errors = [r for r in caplog.records if r.levelname == "ERROR"]
    assert len(errors) == 1
    assert "s3cret" not in caplog.text


# --- all jobs -----------------------------------------------------------------------------


@pytest.fixture
def project_on_sqlite(new_database: Callable[..., str], api: Api) -> Iterator[Project]:
    api.views["/home"] = [record("1")]
    project = open_project(make_config(new_database("sqlite"), api.url))
    yield project
    project.database.close()


@pytest.fixture
def running() -> Iterator[Callable[..., Daemon]]:
    """`running(config, ...)`: a daemon in a thread; in the end it is stopped, and must end."""
    stop, threads = threading.Event(), []

    def start(*configs: Any) -> Daemon:
        daemon = Daemon(Sources(configs, is_folder=len(configs) > 1), stop)
        threads.append(threading.Thread(target=daemon.run))
        threads[-1].start()
        return daemon

    yield start
    stop.set()
    for thread in threads:
        thread.join(15)
        assert not thread.is_alive()


BERLIN = ZoneInfo("Europe/Berlin")


def has_done(job: Job, project: Project) -> bool:
    """Whether the ledger says that nothing is due."""
    now = datetime.now(UTC)
    return due_now(job.config, project.database, since=job.since, now=now) is None


def has_ticked(daemon: Daemon, before: float) -> bool:
    return daemon.ticked_at > before


@pytest.mark.parametrize(
    ("line", "begin", "hours", "expected"),
    [
        pytest.param(
            "30 2 * * *",
            "2026-03-28T22:10+00:00",
            5,
            ["03-29 03:00:00"],
            id="spring: the missing half past two",
        ),
        pytest.param(
            "30 2 * * *",
            "2026-10-24T22:10+00:00",
            5,
            ["10-25 02:30:00"],
            id="autumn: half past two comes twice",
        ),
        pytest.param(
            "15 * * * *",
            "2026-03-28T22:30+00:00",
            5,
            [
                "03-29 00:15:00",
                "03-29 01:15:00",
                "03-29 03:15:00",
                "03-29 04:15:00",
                "03-29 05:15:00",
            ],
            id="spring, hourly",
        ),
        pytest.param(
            "15 * * * *",
            "2026-10-24T22:30+00:00",
            5,
            [
                "10-25 01:15:00",
                "10-25 02:15:00",
                "10-25 02:15:00",
                "10-25 03:15:00",
                "10-25 04:15:00",
            ],
            id="autumn, hourly",
        ),
    ],
)
def test_the_daemon_lives_through_both_changes_of_clocks(
    project_on_sqlite: Project,
    running: Callable[..., Daemon],
    line: str,
    begin: str,
    hours: int,
    expected: list[str],
) -> None:
    project = project_on_sqlite
    project.configure(cron=line, timezone="Europe/Berlin", lease_s=86400.0)
    with time_machine.travel(datetime.fromisoformat(begin), tick=True) as clock:
        daemon = running(project.config)
        for _ in range(hours):
            clock.shift(timedelta(hours=1))
            wait_until(lambda: has_done(daemon.jobs[0], project))
        rows = project.rows("SELECT slot_at, missed_slots, status FROM sync_runs ORDER BY slot_at")
    found = [datetime.fromisoformat(row["slot_at"]).replace(tzinfo=UTC) for row in rows]
    assert [f"{slot.astimezone(BERLIN):%m-%d %H:%M:%S}" for slot in found] == expected
    assert {(row["missed_slots"], row["status"]) for row in rows} == {(0, "ok")}


def test_a_daemon_runs_at_each_slot_and_ticks(
    project_on_sqlite: Project, running: Callable[..., Daemon]
) -> None:
    project = project_on_sqlite
    daemon = running(replace(project.config, every_s=1.0))
    wait_until(lambda: len(project.rows("SELECT 1 FROM sync_runs WHERE status = 'ok'")) >= 3)
    assert time.monotonic() - daemon.ticked_at < 5
    rows = project.rows("SELECT slot_at, missed_slots FROM sync_runs ORDER BY slot_at")
    slots = [datetime.fromisoformat(row["slot_at"]).replace(tzinfo=UTC) for row in rows]
    assert len(set(slots)) == len(slots)
    covered = sum(row["missed_slots"] + 1 for row in rows[1:])
    assert slots[-1] - slots[0] == timedelta(seconds=covered)  # none is unaccounted for


def test_every_source_has_its_own_slots(
    project_on_sqlite: Project, running: Callable[..., Daemon]
) -> None:
    project = project_on_sqlite
    seldom = replace(project.config, source="seldom", every_s=86400.0 * 300)
    often = replace(project.config, source="often", every_s=1.0, neighbours=("seldom",))
    daemon = running(replace(seldom, neighbours=("often",)), often)
    assert [job.slots for job in daemon.jobs] == [Every(86400.0 * 300), Every(1.0)]
    wait_until(lambda: len(project.rows("SELECT 1 FROM sync_runs WHERE status = 'ok'")) >= 2)
    assert {row["source"] for row in project.rows("SELECT source FROM sync_runs")} == {"often"}


def test_a_clock_that_is_put_back_keeps_nobody_waiting(
    project_on_sqlite: Project, running: Callable[..., Daemon]
) -> None:
    project = project_on_sqlite
    with time_machine.travel(NOON + timedelta(minutes=1), tick=True) as clock:
        daemon = running(replace(project.config, every_s=900.0))
        wait_until(partial(has_ticked, daemon, daemon.ticked_at))
        clock.shift(timedelta(hours=-3))
        time.sleep(2 * TICK_S)
        wait_until(partial(has_ticked, daemon, daemon.ticked_at), seconds=10)
        clock.shift(timedelta(minutes=15))  # a slot long before the daemon began, as it seemed
        wait_until(lambda: project.rows("SELECT 1 FROM sync_runs WHERE status = 'ok'"))


def test_an_end_at_any_moment_of_the_loop_is_a_clean_one(
    project_on_sqlite: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that dies of an error is one that pytest reports."""
    monkeypatch.setattr("etl.schedule.daemon.TICK_S", 0.0003)
    seldom = replace(project_on_sqlite.config, every_s=86400.0 * 300)
    for lived_s in (0.01 + 0.0007 * n for n in range(60)):
        stop = threading.Event()
        threading.Timer(lived_s, stop.set).start()
        Daemon(Sources((seldom,), is_folder=False), stop).run()
    assert stop.is_set()
