"""What waits for a person, read from real databases after real runs, and told by everybody."""

import json
import logging
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import pytest
import time_machine

from etl.diagnose.check import find_points
from etl.ledger.concerns import CLOCK, KINDS, NEEDS_ACCEPTANCE, REJECTED_RECORDS, SCHEMA_DRIFT
from etl.ledger.evidence import read_concerns
from etl.monitor.status import read_status
from tests.support.api import Api, record
from tests.support.project import Project
from tests.support.watched import QUARTER, Watched, just_past_noon

VIEWS = ("/a", "/b", "/c")
DAY = timedelta(days=1)


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    with just_past_noon() as traveller:
        yield traveller


@pytest.fixture
def three(clock: time_machine.Traveller, project: Project, api: Api) -> Project:
    """Three views with snapshots, read once; every quarter of an hour."""
    project.watch(*VIEWS)
    project.configure(every_s=900.0, max_wait_s=0.0)
    fill(api)
    assert project.run().status == "ok"
    return project


def fill(api: Api) -> None:
    for number, view in enumerate(VIEWS):
        api.views[view] = [record(f"{view}-{n}", view_name=view) for n in range(6 + number)]


def empty(api: Api) -> None:
    for view in VIEWS:
        api.views[view] = []


def found(project: Project) -> list[tuple[str, str | None]]:
    now, config = datetime.now(UTC), project.config
    concerns = project.database.read(lambda c: read_concerns(c, config.source, config.views, now))
    return [(c.kind, c.view.name if c.view else None) for c in concerns]


def test_held_removals_wait_until_a_person_lets_them_go(three: Project, api: Api) -> None:
    assert found(three) == []
    empty(api)
    before = datetime.now(UTC)
    run = three.run()
    assert (run.status, run.total("held")) == ("ok", 21)
    assert [c.kind for c in run.concerns] == [NEEDS_ACCEPTANCE] * 3
    assert all(c.since and c.since >= before for c in run.concerns)
    assert found(three) == [(NEEDS_ACCEPTANCE, view) for view in VIEWS]
    assert len(three.run("/a").concerns) == 3  # also those of the views that it does not read
    three.watch("/a")
    assert found(three) == [(NEEDS_ACCEPTANCE, "/a")]
    three.watch(*VIEWS)
    assert three.run(accept=True).concerns == ()
    assert found(three) == []


def test_what_is_new_in_answers_is_told_for_a_day(
    three: Project, api: Api, clock: time_machine.Traveller
) -> None:
    odd = [{"id": None, "type": "snapshots", "attributes": {"created_by": "Grace"}}]
    api.views["/b"] = [*api.views["/b"], *odd, record("n", view_name="/b", colour="red")]
    run = three.run()
    assert [c.kind for c in run.concerns] == [REJECTED_RECORDS, SCHEMA_DRIFT]
    assert "colour (unknown attribute, 1 record)" in run.concerns[1].text
    told = json.dumps([concern.as_json() for concern in run.concerns])
    assert not any(word in told for word in ("Grace", "Ada", "red"))
    assert found(three) == [(REJECTED_RECORDS, "/b"), (SCHEMA_DRIFT, None)]
    clock.shift(DAY + timedelta(minutes=1))
    assert found(three) == []


def test_what_the_first_run_finds_and_more_digits_are_no_news(
    clock: time_machine.Traveller, project: Project, api: Api
) -> None:
    project.watch("/a")
    api.views["/a"] = [record("1", zoom=1)]
    assert project.run().concerns == ()
    clock.shift(60)
    fine = "2026-01-02T03:04:05.123456789Z"
    api.views["/a"] = [record("1", zoom=1), record("2", created_at=fine)]
    assert project.run().concerns == ()
    assert {row["kind"] for row in project.rows("SELECT kind FROM schema_drift")} == {
        *("unknown attribute", "finer than microseconds")
    }


def test_a_reject_that_is_gone_waits_no_longer(three: Project, api: Api) -> None:
    whole = api.views["/b"]
    api.views["/b"] = [*whole, {"id": 7}]
    three.run()
    assert (REJECTED_RECORDS, "/b") in found(three)
    api.views["/b"] = whole
    three.run()
    assert (REJECTED_RECORDS, "/b") not in found(three)


def test_a_view_that_is_cut_for_a_day(
    three: Project, api: Api, clock: time_machine.Traveller
) -> None:
    three.configure(page_limit=5)
    clock.shift(timedelta(hours=23))
    assert {view.verdict for view in three.run().views} == {"truncated"}
    assert found(three) == []
    clock.shift(timedelta(hours=2))
    assert found(three) == [("truncated", view) for view in VIEWS]


def test_a_run_of_a_wrong_clock_is_told_until_it_is_mended(
    three: Project, api: Api, clock: time_machine.Traveller
) -> None:
    clock.shift(2 * DAY)
    assert three.run().concerns == ()  # by its own clock nothing is wrong
    clock.shift(-2 * DAY)
    assert found(three) == [(CLOCK, None)]
    assert [c.kind for c in three.run().concerns] == [CLOCK]


# --- everybody tells it -------------------------------------------------------------------


def test_a_daemon_tells_it_by_every_page(
    three: Project, api: Api, clock: time_machine.Traveller, caplog: pytest.LogCaptureFixture
) -> None:
    def sample(name: str, **labels: str) -> float:
        given = {"source": "datadoghq.com", **labels}
        text = ",".join(f'{key}="{given[key]}"' for key in sorted(given))
        return watched.samples()[f"heatmap_etl_{name}{{{text}}}"]

    with ExitStack() as stack:
        watched = Watched(three.config, stack)
        clock.shift(QUARTER)
        watched.look()
        assert (watched.code("/status"), watched.json("/status")["reasons"]) == (200, [])
        assert sample("needs_acceptance") == 0
        assert [sample("concerns", kind=kind) for kind in KINDS] == [0] * len(KINDS)

        empty(api)
        clock.shift(QUARTER)
        caplog.clear()
        watched.look()
        told = watched.json("/status")
        assert watched.code("/status") == 503
        (reason,) = told["reasons"]
        assert reason.startswith("datadoghq.com: needs_acceptance: 3 views (/a, /b, /c): ")
        concerns = told["sources"][0]["concerns"]
        assert [(c["kind"], c["view_name"]) for c in concerns] == [
            (NEEDS_ACCEPTANCE, view) for view in VIEWS
        ]
        assert [watched.code(page) for page in ("/healthz", "/readyz")] == [200, 200]
        assert sample("needs_acceptance") == 3
        assert sample("concerns", kind=NEEDS_ACCEPTANCE) == 3
        (warning,) = [r for r in caplog.records if r.levelno == logging.WARNING]
        assert warning.getMessage() == reason
        assert warning.__dict__["concern"] == NEEDS_ACCEPTANCE

        fill(api)
        clock.shift(QUARTER)
        watched.look()
        assert (watched.code("/status"), sample("needs_acceptance")) == (200, 0)


def test_nothing_is_fresh_because_of_a_clock(three: Project, clock: time_machine.Traveller) -> None:
    name = 'heatmap_etl_last_{}_timestamp_seconds{{source="datadoghq.com"{}}}'
    of_view, of_run = name.format("complete", ',view_name="/a"'), name.format("run", "")
    with ExitStack() as stack:
        watched = Watched(three.config, stack)
        now = datetime.now(UTC).timestamp()
        samples = watched.samples()
        assert all(now - 60 < samples[key] <= now for key in (of_view, of_run))
        clock.shift(2 * DAY)
        three.run()
        clock.shift(-2 * DAY)
        samples = watched.samples()
        assert samples[of_view] == 0
        assert now - 60 < samples[of_run] <= now  # of the run before
        assert samples['heatmap_etl_concerns{kind="clock",source="datadoghq.com"}'] == 1
        (reason,) = watched.json("/status")["reasons"]
        assert reason.startswith("datadoghq.com: clock: ")
        assert watched.code("/status") == 503
    status = read_status(three.config, three.database, max_age_s=1e9)
    assert status.needs_attention
    assert [view.is_stale for view in status.views] == [True] * 3
    assert [c.kind for c in status.concerns] == [CLOCK]
    assert not read_status(three.config, three.database, max_age_s=None).needs_attention


def test_a_source_whose_only_run_lies_in_the_future_has_never_run(
    clock: time_machine.Traveller, project: Project, api: Api
) -> None:
    clock.shift(2 * DAY)
    project.run()
    clock.shift(-2 * DAY)
    with ExitStack() as stack:
        samples = Watched(project.config, stack).samples()
    assert samples['heatmap_etl_last_run_timestamp_seconds{source="datadoghq.com"}'] == 0


def test_the_skew_of_the_last_run_is_a_gauge(three: Project, clock: time_machine.Traveller) -> None:
    name = 'heatmap_etl_clock_skew_seconds{source="datadoghq.com"}'
    three.execute("UPDATE sync_runs SET clock_skew_s = NULL")
    with ExitStack() as stack:
        watched = Watched(three.config, stack)
        assert name not in watched.samples()
        three.execute("UPDATE sync_runs SET clock_skew_s = 90.5")
        assert watched.samples()[name] == 90.5
    status = read_status(three.config, three.database, max_age_s=None)
    assert status.as_json()["clock_skew_s"] == 90.5


def test_check_tells_it_and_lets_the_next_run_be(three: Project, api: Api) -> None:
    empty(api)
    three.run()
    points = find_points(three.config, stop=three.stop)
    (point,) = [p for p in points if p.about == NEEDS_ACCEPTANCE]
    assert (point.verdict, point.text.partition(":")[0]) == ("warning", "3 views (/a, /b, /c)")
