"""`status`: when the next run is due, and which slots were not run."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine

from etl.cli.output.status import status_lines
from etl.monitor.status import Status, read_status
from etl.pipeline.run import Options
from etl.pipeline.sync import sync
from etl.source.lease import Lease
from tests.support.api import Api, record
from tests.support.project import Project

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
SLOT = Options(started_by="schedule", slot_at=NOON)


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    """Five seconds past noon, and it stands still."""
    with time_machine.travel(NOON + timedelta(seconds=5), tick=False) as traveller:
        yield traveller


@pytest.fixture
def scheduled(project: Project, api: Api) -> Project:
    """Every quarter of an hour."""
    api.views["/home"] = [record("1")]
    project.configure(every_s=900.0)
    return project


def run(project: Project, options: Options = SLOT) -> None:
    assert sync(project.config, project.database, options, stop=project.stop).status == "ok"


def status_of(project: Project) -> Status:
    return read_status(project.config, project.database, max_age_s=None)


def as_json(status: Status) -> tuple[Any, Any]:
    fields = status.as_json()
    return fields["next_run_at"], fields["due_since"]


def test_the_next_run_stands_in_status(scheduled: Project, clock: time_machine.Traveller) -> None:
    run(scheduled)
    status = status_of(scheduled)
    assert as_json(status) == ("2026-11-25T12:15:00.000000Z", None)
    assert "Next run: 2026-11-25 12:15:00Z, in 15 min (every 900 s)." in status_lines(status)
    scheduled.configure(every_s=None, cron="30 8 * * mon", timezone="Europe/Berlin")
    status = status_of(scheduled)
    assert as_json(status) == ("2026-11-30T07:30:00.000000Z", None)
    assert any("(cron 30 8 * * mon, Europe/Berlin)" in line for line in status_lines(status))


def test_without_a_daemon_there_is_no_next_run(
    scheduled: Project, clock: time_machine.Traveller
) -> None:
    for started_by in ("cron", "manual"):
        run(scheduled, Options(started_by=started_by))
    clock.shift(timedelta(days=1))
    status = status_of(scheduled)
    assert as_json(status) == (None, None)
    assert not any("Next run" in line or "is due" in line for line in status_lines(status))


def test_a_run_that_nobody_has_run_is_due_since_its_slot(
    scheduled: Project, clock: time_machine.Traveller
) -> None:
    run(scheduled)
    clock.move_to(NOON + timedelta(minutes=16))
    status = status_of(scheduled)
    quarter_past = "2026-11-25T12:15:00.000000Z"
    assert as_json(status) == ("2026-11-25T12:30:00.000000Z", quarter_past)
    assert not any("is due" in line for line in status_lines(status))  # it may just begin
    clock.move_to(NOON + timedelta(hours=3, minutes=16))
    status = status_of(scheduled)
    assert as_json(status) == ("2026-11-25T15:30:00.000000Z", quarter_past)
    due = (
        "A run has been due since 2026-11-25 12:15:00Z, 3 h ago: is `heatmap-etl schedule` running?"
    )
    assert due in status_lines(status)


def test_while_somebody_works_nothing_is_due_to_a_person(
    scheduled: Project, clock: time_machine.Traveller
) -> None:
    run(scheduled)
    lease = Lease(scheduled.config.source, 1e6)
    scheduled.database.transaction(lambda c: lease.take(c, scheduled.config))
    clock.shift(timedelta(hours=3))
    status = replace(
        status_of(scheduled), holder="process 1"
    )  # its lease lasts by the server's clock
    assert status.due_since is not None
    assert not any("is due" in line for line in status_lines(status))
