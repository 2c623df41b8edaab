"""`[keep] runs`: the ledger stays small, and nothing that is needed leaves it."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import insert, select

from etl.database.schema import COUNTS, sync_run_views, sync_runs
from etl.ledger import retention
from etl.ledger.retention import BATCH, old_runs, prune
from etl.ledger.runs import last_slot_run
from etl.source.lease import Lease
from tests.support.api import Api, record
from tests.support.project import Project

NOW = datetime.now(UTC)


def add_runs(project: Project, *ages_in_days: float, slot: bool = False, source: str = "") -> None:
    """Runs of that age, each with the rows of two views."""
    zeros = dict.fromkeys(COUNTS, 0)
    runs = [
        {
            "run_id": f"{source}-{slot}-{age}",
            "source": source or project.config.source,
            "job": "sync",
            "started_by": "schedule" if slot else "cron",
            "slot_at": NOW - timedelta(days=age) if slot else None,
            "missed_slots": 0,
            "host": "h",
            "pid": 1,
            "status": "ok",
            "started_at": NOW - timedelta(days=age),
            "finished_at": NOW - timedelta(days=age),
            "views": 2,
            "views_failed": 0,
            **zeros,
        }
        for age in ages_in_days
    ]
    views = [
        {"run_id": run["run_id"], "view_key": key, "view_name": key, "verdict": "complete"}
        | {"seconds": 0.1, **zeros}
        for run in runs
        for key in ("a", "b")
    ]

    def add(connection):
        connection.execute(insert(sync_runs), runs)
        connection.execute(insert(sync_run_views), views)

    project.database.transaction(add)


def ages(project: Project) -> list[float]:
    with project.database.connect(write=False) as connection:
        rows = connection.execute(select(sync_runs.c.started_at)).scalars()
        return sorted(round((NOW - at).total_seconds() / 86400, 1) for at in rows)


def orphans(project: Project) -> int:
    query = "SELECT 1 FROM sync_run_views WHERE run_id NOT IN (SELECT run_id FROM sync_runs)"
    return len(project.rows(query))


def test_a_run_prunes_what_is_old(project: Project, api: Api) -> None:
    add_runs(project, *range(80, 80 + 3 * BATCH))
    api.views["/home"] = [record("1")]
    run = project.run()
    assert run.status == "ok"
    assert ages(project) == [0.0, *range(80, 90)]
    assert orphans(project) == 0
    assert len(project.rows("SELECT 1 FROM sync_run_views")) == 1 + 2 * 10
    assert project.one("SELECT lease_token FROM sources") == {"lease_token": None}


def test_what_is_needed_stays_however_old(project: Project, api: Api) -> None:
    api.views["/home"] = [record("1")]
    project.run()
    project.execute("UPDATE sync_runs SET started_at = :at", at="2020-01-01 00:00:00")
    add_runs(project, 300, 299, slot=True)
    add_runs(project, 200)
    with project.database.connect(write=False) as connection:
        # The newest, that of the last slot, and the one view_state names stay.
        (old,) = old_runs(connection, project.config, NOW)
        assert old.endswith("-True-300")
        slot = last_slot_run(connection, project.config.source, "sync", NOW)
    assert slot
    assert slot.run_id.endswith("-True-299")


def test_runs_of_other_sources_stay(project: Project, api: Api) -> None:
    add_runs(project, 100, 101, 102, source="another")
    api.views["/home"] = [record("1")]
    project.run()
    assert ages(project) == [0.0, 100.0, 101.0, 102.0]


def test_a_signal_ends_the_pruning_between_batches(project: Project, api: Api) -> None:
    add_runs(project, *range(100, 100 + 3 * BATCH))
    lease, stop = Lease(project.config.source, 60), threading.Event()
    project.database.transaction(lambda c: lease.take(c, project.config))
    stop.set()
    prune(project.config, project.database, lease, stop)
    assert len(ages(project)) == 3 * BATCH


def test_pruning_takes_its_time_and_no_more(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "LONGEST_S", 0.0)
    add_runs(project, *range(100, 100 + 3 * BATCH))
    lease = Lease(project.config.source, 60)
    project.database.transaction(lambda c: lease.take(c, project.config))
    prune(project.config, project.database, lease, threading.Event())
    assert len(ages(project)) == 3 * BATCH


def test_who_lost_the_lease_prunes_nothing(
    project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    add_runs(project, 100, 101)
    lease = Lease(project.config.source, 60)
    project.database.transaction(lambda c: lease.take(c, project.config))
    project.execute("UPDATE sources SET lease_token = 'another'")
    prune(project.config, project.database, lease, threading.Event())
    assert ages(project) == [100.0, 101.0]
    assert "was not pruned" in caplog.text
