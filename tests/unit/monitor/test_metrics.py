"""`/metrics`: samples read from the ledger, and the counters of this process."""

from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import time_machine

from tests.support.api import Api, record
from tests.support.project import Project, make_config, open_project
from tests.support.watched import QUARTER, Watched

COMPLETE_AT = (
    'heatmap_etl_last_complete_timestamp_seconds{source="datadoghq.com",view_name="/home"}'
)


def test_metrics_are_those_of_the_ledger(
    watched: Watched, api: Api, clock: time_machine.Traveller
) -> None:
    before = watched.samples()
    assert before['heatmap_etl_runs_total{source="datadoghq.com",status="ok"}'] == 0
    assert before[COMPLETE_AT] == 0  # never
    api.views["/home"] = (200, {"X-RateLimit-Remaining": "7"}, b'{"data": []}')
    clock.shift(QUARTER)
    watched.look()
    api.views["/home"] = [record("1"), record("2")]
    clock.shift(QUARTER)
    watched.look()
    now = datetime.now(UTC).timestamp()
    samples = watched.samples()
    assert samples['heatmap_etl_records_total{outcome="new",source="datadoghq.com"}'] == 2
    assert samples['heatmap_etl_views{source="datadoghq.com",verdict="complete"}'] == 1
    assert now - 60 < samples[COMPLETE_AT] <= now
    assert (
        now - 60 < samples['heatmap_etl_last_run_timestamp_seconds{source="datadoghq.com"}'] <= now
    )
    assert samples["heatmap_etl_run_duration_seconds_count"] == 2
    assert samples['heatmap_etl_run_duration_seconds_bucket{le="+Inf"}'] == 2
    assert {name.partition("{")[0] for name in samples} >= {"heatmap_etl_build_info"}
    assert 'heatmap_etl_rate_limit_remaining{source="datadoghq.com"}' not in samples


def test_a_run_that_raised_is_counted_too(
    watched: Watched, project: Project, clock: time_machine.Traveller
) -> None:
    project.run()
    project.execute("UPDATE sources SET privacy = 'hash:x'")
    clock.shift(QUARTER)
    watched.look()
    samples = watched.samples()
    assert samples['heatmap_etl_runs_total{source="datadoghq.com",status="failed"}'] == 1


def test_without_a_database_the_last_known_metrics_stay(
    clock: time_machine.Traveller, new_database: Callable[..., str], api: Api
) -> None:
    api.views["/home"] = [record("1")]
    project = open_project(make_config(new_database("sqlite"), api.url))
    project.run()
    project.database.close()
    path = Path(project.config.database_url.removeprefix("sqlite:///"))
    with ExitStack() as stack:
        watched = Watched(project.config, stack)
        before = watched.samples()
        path.rename(path.with_suffix(".away"))
        assert watched.samples() == before
        assert watched.code("/readyz") == watched.code("/status") == 503
        assert watched.code("/healthz") == 200
        assert not path.exists()
        path.with_suffix(".away").rename(path)
    assert before[COMPLETE_AT] > 0
