"""What no listing depends on costs a run seconds, and is left alone after it failed."""

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from etl.diagnose.check import find_points
from etl.errors import EtlError
from etl.ledger.results import RunResult
from etl.monitor.schedule_health import read_health
from etl.monitor.status import read_status
from etl.monitor.views import compare_views
from etl.pipeline.plan import make_plan
from etl.pipeline.run import Options
from etl.source.rename import rename_source
from tests.support.api import AGGREGATE, APPLICATIONS, VALIDATE, Api, record
from tests.support.project import Project, make_config, open_project
from tests.support.raw_server import RawServer, Reply, answer, view_of
from tests.support.rum import application, bucket, page

VIEWS = ("/a", "/b", "/c")
USED_UP = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "600", "X-RateLimit-Name": "rum"}
ROWS = "SELECT question, failures, failed_at, ask_again_at, error FROM side_questions"
SOON_S = 2.0  # with `max_wait_s` a minute or more, nothing was waited for


def records(view: str, count: int) -> list[dict[str, Any]]:
    return [record(f"{view} {number}", view_name=view) for number in range(count)]


@pytest.fixture
def three(project: Project, api: Api) -> Project:
    """Three views of equally many rows, which look cut: their applications are asked for."""
    project.watch(*VIEWS)
    project.configure(max_wait_s=120.0)
    api.views = {view: records(view, 100) for view in VIEWS}
    return project


@pytest.fixture
def on_sqlite(new_database: Callable[..., str], api: Api) -> Iterator[Project]:
    project = open_project(make_config(new_database("sqlite"), api.url, VIEWS))
    project.configure(max_wait_s=120.0)
    api.views = {view: records(view, 100) for view in VIEWS}
    yield project
    project.database.close()


def timed_run(project: Project) -> tuple[RunResult, float]:
    begun = time.monotonic()
    run = project.run()
    return run, time.monotonic() - begun


def pass_time(project: Project, **by: float) -> None:
    """As if the failures of side questions were longer ago."""
    for row in project.rows(ROWS):
        earlier = {
            name: as_instant(row[name]) - timedelta(**by) for name in ("failed_at", "ask_again_at")
        }
        project.execute(
            "UPDATE side_questions SET failed_at = :f, ask_again_at = :a WHERE question = :q",
            q=row["question"],
            f=earlier["failed_at"].strftime("%Y-%m-%d %H:%M:%S.%f"),
            a=earlier["ask_again_at"].strftime("%Y-%m-%d %H:%M:%S.%f"),
        )


def as_instant(value: Any) -> datetime:
    instant = datetime.fromisoformat(value) if isinstance(value, str) else value
    return instant.replace(tzinfo=UTC)


def pauses(project: Project) -> dict[str, timedelta]:
    return {
        row["question"]: as_instant(row["ask_again_at"]) - as_instant(row["failed_at"])
        for row in project.rows(ROWS)
    }


# --- applications -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "requests", "pause"),
    [
        pytest.param((500, {}, b""), 2, timedelta(hours=1), id="500"),
        pytest.param((503, {"Retry-After": "600"}, b""), 1, timedelta(hours=1), id="503"),
        pytest.param((429, USED_UP, b""), 1, timedelta(hours=1), id="429"),
        pytest.param(b"<html>", 2, timedelta(hours=1), id="a page"),
        pytest.param((403, {}, b""), 1, timedelta(days=1), id="403"),
        pytest.param((404, {}, b""), 1, timedelta(days=1), id="404"),
    ],
)
def test_applications_without_an_answer_cost_one_run_seconds_and_the_next_nothing(
    on_sqlite: Project, api: Api, said: Any, requests: int, pause: timedelta
) -> None:
    api.applications = said
    run, seconds = timed_run(on_sqlite)
    assert (run.status, {v.verdict for v in run.views}) == ("ok", {"unproven"})
    assert (len(api.asked[APPLICATIONS]), seconds < SOON_S) == (requests, True)
    assert pauses(on_sqlite) == {"applications": pause}
    run, seconds = timed_run(on_sqlite)
    assert (len(api.asked[APPLICATIONS]), seconds < SOON_S) == (requests, True)
    assert run.status == "ok"
    assert "not asked again before 20" in run.views[0].reason


def test_the_list_is_asked_for_once_where_a_split_and_the_names_need_it(
    on_sqlite: Project, api: Api
) -> None:
    api.applications = {"data": [application(record("1")["attributes"]["application_id"])]}
    assert "by all applications" in on_sqlite.run().views[0].reason
    assert len(api.asked[APPLICATIONS]) == 1
    assert on_sqlite.one("SELECT count(*) AS n FROM applications")["n"] == 1
    assert on_sqlite.rows(ROWS) == []


def test_each_failure_doubles_the_pause_and_an_answer_ends_it(three: Project, api: Api) -> None:
    api.applications = (500, {}, b'{"errors": ["out of order"]}')
    for hours in (1, 2, 4):
        three.run()
        assert pauses(three) == {"applications": timedelta(hours=hours)}
        pass_time(three, hours=hours)
    assert "out of order" in three.one(ROWS)["error"]
    assert three.one("SELECT applications_read_at FROM sources")["applications_read_at"]
    api.applications = {"data": [application("a", name="shop")]}
    assert three.run().status == "ok"
    assert three.rows(ROWS) == []
    assert three.one("SELECT name FROM applications")["name"] == "shop"


def test_the_reason_of_a_split_says_that_applications_are_not_known(
    on_sqlite: Project, api: Api
) -> None:
    api.applications = (500, {}, b"")
    reason = on_sqlite.run().views[0].reason
    assert "by the known applications" in reason
    assert "there may be other applications: the list of RUM applications: 500; given up" in reason


def test_a_server_that_says_nothing_costs_a_run_a_few_seconds_once() -> None:
    never = threading.Event()

    def said(head: bytes) -> Reply:
        if APPLICATIONS.encode() in head:
            return Reply(wait_for=never, end="close")
        return answer(view_of(head), 10)

    with RawServer(otherwise=said) as server:
        project = open_project(make_config("sqlite:///x.db", server.url, VIEWS))
        project.configure(max_wait_s=120.0)
        run, seconds = timed_run(project)
        assert (run.status, seconds < 8) == ("ok", True)
        run, seconds = timed_run(project)
        assert (run.status, seconds < SOON_S) == ("ok", True)
        project.database.close()
        never.set()
    assert sum(APPLICATIONS in target for target in server.targets) <= 2


def test_a_used_up_limit_of_rum_keeps_no_view_waiting(on_sqlite: Project, api: Api) -> None:
    api.applications = (429, USED_UP, b"")
    api.views |= {VIEWS[0]: records(VIEWS[0], 99)}
    run, seconds = timed_run(on_sqlite)
    assert (run.status, seconds < SOON_S) == ("ok", True)


def test_a_run_that_is_stopped_says_nothing_of_what_it_asked(on_sqlite: Project, api: Api) -> None:
    def stopping(_: object) -> Any:
        on_sqlite.stop.set()
        return (500, {}, b"")

    api.applications = stopping
    on_sqlite.run()
    assert on_sqlite.rows(ROWS) == []


def test_whose_keys_these_are_is_asked_although_the_list_is_left_alone(
    three: Project, api: Api
) -> None:
    api.views = {view: records(view, 2) for view in VIEWS}
    three.run()
    assert pauses(three).keys() == {"applications"}
    api.views = {}
    api.applications = {"data": [application("a", org_id=43)]}
    assert three.run().total("vanished") == 0
    assert len(three.live()) == 6
    assert three.rows(ROWS) == []


def test_whose_keys_these_are_is_left_alone_too_where_nobody_says(three: Project, api: Api) -> None:
    api.views = {view: records(view, 4) for view in VIEWS}
    api.applications = (500, {}, b"")
    three.run()
    api.views = {}
    for _ in range(2):
        run, seconds = timed_run(three)
        assert (run.status, run.total("held"), seconds < SOON_S) == ("ok", 12, True)
        failures = {row["question"]: row["failures"] for row in three.rows(ROWS)}
        assert failures == {"applications": 1, "organization": 1}
    assert len(api.asked[APPLICATIONS]) == 4


# --- discovery ----------------------------------------------------------------------------


@pytest.fixture
def discovering(three: Project, api: Api) -> Project:
    three.configure(views=(), discovers=True)
    api.applications = {"data": [application(record("1")["attributes"]["application_id"])]}
    api.rum = page(*(bucket(view, 9) for view in VIEWS))
    return three


def forget_discovery(project: Project) -> None:
    project.execute("UPDATE sources SET discovered_at = NULL")


@pytest.mark.parametrize(
    ("said", "requests"), [((500, {}, b""), 2), ((429, USED_UP, b""), 1), ((403, {}, b""), 1)]
)
def test_discovery_that_fails_costs_a_run_seconds_where_views_are_known(
    discovering: Project, api: Api, said: Any, requests: int
) -> None:
    discovering.run()
    forget_discovery(discovering)
    before, api.rum = len(api.asked[AGGREGATE]), said
    run, seconds = timed_run(discovering)
    assert [v.view.name for v in run.views] == list(VIEWS)
    assert (run.status, seconds < SOON_S) == ("ok", True)
    assert "no views were discovered" in run.notes[0]
    assert pauses(discovering).keys() == {"discovery"}
    run = discovering.run()
    assert (run.status, run.notes) == ("ok", [])
    assert len(api.asked[AGGREGATE]) - before == requests
    pass_time(discovering, days=1)
    api.rum = page(bucket("/new", 1))
    assert "/new" in {v.view.name for v in discovering.run().views}
    assert discovering.rows(ROWS) == []


def test_discovery_is_no_side_question_where_no_view_is_known(
    discovering: Project, api: Api
) -> None:
    discovering.configure(max_wait_s=1.0)
    api.rum = (500, {}, b"")
    for _ in range(2):
        asked = len(api.asked[AGGREGATE])
        with pytest.raises(EtlError, match="no view is known"):
            discovering.run()
        assert len(api.asked[AGGREGATE]) > asked + 2
    assert discovering.rows(ROWS) == []


def test_a_discovery_of_many_slow_pages_goes_on_as_long_as_they_come(
    discovering: Project, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    discovering.run()
    forget_discovery(discovering)
    monkeypatch.setattr("etl.datadog.client.SIDE_WAIT_S", 0.3)

    def slowly(asked: Any) -> Any:
        time.sleep(0.1)
        number = int(asked["page"].get("cursor", 0))
        return page(bucket(f"/{number}", 1), page={"after": str(number + 1)} if number < 9 else {})

    api.rum = slowly
    run = discovering.run()
    assert len(run.views) == len(VIEWS) + 10
    assert discovering.rows(ROWS) == []


def test_a_discovery_without_an_end_keeps_no_run_waiting(
    discovering: Project, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    discovering.run()
    forget_discovery(discovering)
    monkeypatch.setattr("etl.extract.discovery.SEARCH_S", 0.5)
    numbers = itertools.count()

    def slowly(_: object) -> Any:
        time.sleep(0.2)
        number = next(numbers)
        return page(bucket(f"/{number}", 1), page={"after": str(number)})

    api.rum = slowly
    run, seconds = timed_run(discovering)
    assert (run.status, seconds < SOON_S) == ("ok", True)
    assert "RUM took longer than 0.5 s" in run.notes[0]
    assert "/0" in {v.view.name for v in run.views}
    asked = len(api.asked[AGGREGATE])
    discovering.run()
    assert len(api.asked[AGGREGATE]) == asked


@pytest.mark.parametrize("look", ["run", "plan", "check"])
def test_which_key_was_refused_is_asked_once_though_discovery_is_refused_too(
    discovering: Project, api: Api, look: str
) -> None:
    discovering.run()
    forget_discovery(discovering)
    api.rum, api.validate = (403, {}, b""), {"valid": True}
    api.views = dict.fromkeys(VIEWS, (403, {}, b""))
    if look == "check":
        points = find_points(discovering.config, stop=threading.Event())
        assert "it is the application key" in points[-1].text
    elif look == "plan":
        with pytest.raises(EtlError, match="it is the application key"):
            make_plan(discovering.config, discovering.database, Options(), stop=discovering.stop)
    else:
        assert "it is the application key" in (discovering.run().views[0].error or "")
    assert len(api.asked[VALIDATE]) == 1


def test_a_person_who_discovers_views_ends_the_pause(discovering: Project, api: Api) -> None:
    discovering.run()
    forget_discovery(discovering)
    discovering.execute("UPDATE sources SET applications_read_at = NULL")
    api.applications, api.rum = (500, {}, b""), (500, {}, b"")
    discovering.run()
    assert pauses(discovering).keys() == {"applications", "discovery"}
    api.rum, api.applications = page(bucket("/a", 1)), {"data": [application("a")]}
    assert not compare_views(discovering.config, stop=threading.Event()).not_stored
    assert discovering.rows(ROWS) == []


# --- which key was refused ----------------------------------------------------------------


def test_which_key_was_refused_is_left_alone_where_nobody_answers(three: Project, api: Api) -> None:
    api.views = {"/a": records("/a", 3), "/b": (403, {}, b""), "/c": records("/c", 4)}
    api.applications = {"data": [application("a")]}
    api.validate = (503, {"Retry-After": "600"}, b"")
    for _ in range(2):
        run = three.run()
        assert "the keys were refused (DD_API_KEY, DD_APP_KEY)" in (run.views[1].error or "")
        assert pauses(three) == {"validation": timedelta(hours=1)}
        assert len(api.asked[VALIDATE]) == 1
    pass_time(three, hours=1)
    api.validate = {"valid": False}
    assert "the API key in DD_API_KEY" in (three.run().views[1].error or "")
    assert three.rows(ROWS) == []


def test_which_key_was_refused_is_no_question_any_more_where_none_is(
    three: Project, api: Api
) -> None:
    three.watch("/a")
    api.views, api.applications = {"/a": (403, {}, b"")}, {"data": [application("a")]}
    api.validate = (500, {}, b"")
    three.run()
    assert pauses(three).keys() == {"validation"}
    api.views = {"/a": records("/a", 3)}
    assert three.run().status == "ok"
    assert three.rows(ROWS) == []


# --- who only looks -----------------------------------------------------------------------


def test_a_plan_leaves_alone_what_a_run_does_and_writes_nothing(three: Project, api: Api) -> None:
    api.applications = (500, {}, b"")
    make_plan(three.config, three.database, Options(), stop=three.stop)
    assert len(api.asked[APPLICATIONS]) == 2
    three.run()
    before = three.rows(ROWS)
    plans = make_plan(three.config, three.database, Options(), stop=three.stop)
    assert {plan.verdict for plan in plans} == {"unproven"}
    assert len(api.asked[APPLICATIONS]) == 4
    assert three.rows(ROWS) == before


def test_check_asks_what_runs_leave_alone_for_a_few_seconds(three: Project, api: Api) -> None:
    api.applications = (500, {}, b"")
    three.run()
    before, asked = three.rows(ROWS), len(api.asked[APPLICATIONS])
    find_points(three.config, stop=threading.Event())
    assert len(api.asked[APPLICATIONS]) == asked + 2
    assert three.rows(ROWS) == before


def test_status_says_what_is_not_known_and_is_healthy_all_the_same(
    three: Project, api: Api
) -> None:
    api.applications = (500, {}, b'{"errors": ["out of order"]}')
    three.run()
    status = read_status(three.config, three.database, max_age_s=3600)
    assert not status.is_stale
    (item,) = status.as_json()["not_known"]
    assert item.keys() == {"question", "since", "ask_again_at", "error"}
    assert item["question"] == "applications"
    assert "out of order" in item["error"]
    assert item["since"] < item["ask_again_at"]
    health = read_health(three.config, since=datetime.now(UTC))
    assert health.reasons == ()
    assert health.as_json()["not_known"] == [item]


def test_the_table_goes_with_its_source_and_outlives_the_ledger(three: Project, api: Api) -> None:
    api.applications = (403, {}, b"")
    three.run()
    rename_source(three.database, "datadoghq.com", "acme")
    three.configure(source="acme", keep_runs_s=0.0)
    assert three.one("SELECT source FROM side_questions")["source"] == "acme"
    for _ in range(2):
        assert three.run().status == "ok"
    assert len(api.asked[APPLICATIONS]) == 1
    assert pauses(three).keys() == {"applications"}
