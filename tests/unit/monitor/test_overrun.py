"""A run that goes on for longer than its views can take is seen in the ledger, by any process."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from etl.cli.output.status import status_lines
from etl.ledger.results import RunResult, new_run
from etl.ledger.runs import start_run
from etl.monitor.schedule_health import read_health
from etl.monitor.status import Status, read_status
from etl.source.lease import Lease
from tests.support.api import Api, record
from tests.support.project import Project
from tests.support.watched import Watched

Begin = Callable[..., RunResult]


@pytest.fixture
def begin(project: Project) -> Begin:
    """`begin(hours=3)`: a run that another process began that long ago, under a live lease."""
    project.configure(max_wait_s=120.0)

    def start(views: int = 3, **ago: float) -> RunResult:
        run = new_run(project.config.source)
        run.started_at, run.planned = datetime.now(UTC) - timedelta(**ago), views
        lease = Lease(project.config.source, 600)

        def take(connection: object) -> None:
            lease.take(connection, project.config)  # type: ignore[arg-type]
            start_run(connection, run)  # type: ignore[arg-type]

        project.database.transaction(take)
        return run

    return start


def reasons(project: Project) -> list[str]:
    health = read_health(project.config, since=datetime.now(UTC))
    return [reason for reason in health.reasons if reason.startswith("hangs: ")]


def status(project: Project) -> Status:
    return read_status(project.config, project.database, max_age_s=None)


def test_a_run_that_takes_too_long_is_told_with_its_bound(project: Project, begin: Begin) -> None:
    run = begin(hours=3)
    text = f"run {run.run_id} has gone on for 3 h, longer than its views can take (37 min)"
    assert reasons(project) == [f"hangs: {text}"]
    assert status(project).as_json()["overrun"] == text
    lines = status_lines(status(project))
    assert any(line.startswith("A run is under way: process ") for line in lines)
    assert f"It hangs: {text}. End that process: what is stored stays." in lines


def test_one_that_may_still_be_reading_is_not(project: Project, begin: Begin) -> None:
    begin(minutes=25)
    assert reasons(project) == []
    assert status(project).as_json()["overrun"] is None


def test_one_over_many_views_may_take_hours(project: Project, begin: Begin) -> None:
    begin(views=300, hours=3)
    assert reasons(project) == []


def test_parts_that_were_asked_for_have_their_time(
    project: Project, api: Api, begin: Begin
) -> None:
    api.views["/home"] = [record("1")]
    project.run()
    earlier = project.one("SELECT run_id FROM sync_runs")["run_id"]
    run = begin(hours=3)
    project.execute(
        "UPDATE sync_run_views SET run_id = :new, requests = 200 WHERE run_id = :old",
        new=run.run_id,
        old=earlier,
    )
    assert reasons(project) == []


def test_a_run_that_has_died_does_not_hang(project: Project, begin: Begin) -> None:
    begin(hours=3)
    project.execute("UPDATE sources SET lease_token = NULL, lease_holder = NULL")
    assert reasons(project) == []
    assert status(project).as_json()["overrun"] is None


def test_one_that_began_in_the_future_is_told_as_a_wrong_clock(
    project: Project, begin: Begin
) -> None:
    begin(hours=-3)
    assert reasons(project) == []
    (reason,) = read_health(project.config, since=datetime.now(UTC)).reasons
    assert reason.startswith("clock: ")


def test_a_run_of_another_source_is_none_of_ours(project: Project, begin: Begin) -> None:
    begin(hours=3)
    other = replace(project.config, source="other")
    assert read_health(other, since=datetime.now(UTC)).reasons == ()


def test_the_page_for_monitors_says_it_and_the_loop_is_alive(
    watched: Watched, project: Project, begin: Begin
) -> None:
    run = begin(hours=3)
    code, told = watched.code("/status"), watched.json("/status")
    assert (code, watched.code("/healthz")) == (503, 200)
    assert told["reasons"][0].startswith(f"datadoghq.com: hangs: run {run.run_id} has gone on for")
    assert project.rows("SELECT 1 FROM sync_runs WHERE status = 'running'") != []


def test_what_the_watchdog_knows_is_told_though_the_ledger_cannot_be_read(
    watched: Watched, project: Project
) -> None:
    watched.daemon.jobs[0].stuck = "run 1 of org: no progress for 9 min: ended"
    assert watched.json("/status")["reasons"][0].endswith(
        "hangs: run 1 of org: no progress for 9 min: ended"
    )
    project.execute("UPDATE heatmap_etl_version SET version_num = '9999'")
    first, second = watched.json("/status")["reasons"]
    assert "hangs: run 1" in first
    assert "newer" in second
