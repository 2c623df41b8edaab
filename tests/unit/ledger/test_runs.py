"""The last run is the last by a right clock."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert

from etl.database.schema import COUNTS, sync_runs
from etl.ledger.results import new_run
from etl.ledger.runs import last_clock_skew_s, last_finished, last_runs, last_slot_run
from tests.support.project import Project

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)
HOUR, YEARS = timedelta(hours=1), timedelta(days=3650)
SOURCE = "datadoghq.com"


def add(project: Project, run_id: str, started_at: datetime, **changes: Any) -> None:
    row = {
        "run_id": run_id,
        "source": SOURCE,
        "job": "sync",
        "started_by": "schedule",
        "missed_slots": 0,
        "host": "h",
        "pid": 1,
        "status": "ok",
        "started_at": started_at,
        "finished_at": started_at + timedelta(seconds=5),
        "views": 1,
        "views_failed": 0,
        **dict.fromkeys(COUNTS, 0),
        **changes,
    }
    project.database.transaction(lambda c: c.execute(insert(sync_runs).values(row)))


@pytest.fixture
def ledger(project: Project) -> Project:
    """Two runs, one of a clock that was ten years ahead, and one of another source."""
    add(project, "ahead", NOW + YEARS, clock_skew_s=YEARS.total_seconds())
    add(project, "older", NOW - 2 * HOUR, clock_skew_s=0.25)
    add(project, "newer", NOW - HOUR, slot_at=NOW - HOUR)
    add(project, "foreign", NOW, source="other", clock_skew_s=9.0)
    return project


def ids(project: Project, count: int) -> list[str]:
    runs = project.database.read(lambda c: last_runs(c, SOURCE, count, NOW))
    return [run.run_id for run in runs]


def test_runs_of_a_wrong_clock_come_last(ledger: Project) -> None:
    assert ids(ledger, 10) == ["newer", "older", "ahead"]
    assert ids(ledger, 2) == ["newer", "older"]


def test_a_clock_that_is_ahead_as_clocks_may_be_is_right(ledger: Project) -> None:
    add(ledger, "now", NOW + timedelta(seconds=60))
    assert ids(ledger, 2) == ["now", "newer"]


def test_the_last_that_ended_and_the_last_that_knew_the_clock(ledger: Project) -> None:
    add(ledger, "running", NOW, finished_at=None, status="running")
    run = ledger.database.read(lambda c: last_finished(c, SOURCE, NOW))
    assert run is not None
    assert (run.run_id, run.finished_at) == ("newer", NOW - HOUR + timedelta(seconds=5))
    assert ledger.database.read(lambda c: last_clock_skew_s(c, SOURCE, NOW)) == 0.25


def test_without_another_the_one_of_a_wrong_clock_is_the_last(project: Project) -> None:
    nothing = project.database.read(
        lambda c: (last_finished(c, SOURCE, NOW), last_clock_skew_s(c, SOURCE, NOW))
    )
    assert nothing == (None, None)
    add(project, "ahead", NOW + YEARS, clock_skew_s=7200.0)
    run = project.database.read(lambda c: last_finished(c, SOURCE, NOW))
    assert run is not None
    assert run.run_id == "ahead"
    assert project.database.read(lambda c: last_clock_skew_s(c, SOURCE, NOW)) == 7200.0


def test_a_slot_run_ahead_of_time_is_still_due(ledger: Project) -> None:
    """A clock 20 hours ahead runs a slot of this day, which comes an hour later."""
    add(ledger, "early", NOW + 20 * HOUR, slot_at=NOW)

    def last(now: datetime) -> str | None:
        run = ledger.database.read(lambda c: last_slot_run(c, SOURCE, "sync", now))
        return run.run_id if run else None

    assert last(NOW + HOUR) == "newer"
    assert last(NOW + 20 * HOUR) == "early"


def test_runs_of_one_second_have_ids_in_their_order():
    ids = [new_run("a").run_id for _ in range(200)]
    times = [run_id[:-8] for run_id in ids]  # without what is random
    assert times == sorted(times)
    assert len({run_id.partition("-")[0] for run_id in ids}) <= 2 < len(set(times))
