"""Views and applications as RUM knows them: asked over HTTP, stored, and covered by runs."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from etl.config.credentials import Keys
from etl.config.views import View
from etl.datadog.client import Client
from etl.errors import ConfigError, DatadogAuthError, DatadogError, EtlError
from etl.extract.discovery import Discovery, Traffic, discover, read_applications
from etl.fake_datadog import API_KEY, APP_KEY, FakeDatadog, World
from etl.ledger.results import exit_code
from etl.load.discovered import save_discovery
from etl.source.lease import Lease
from tests.support.api import AGGREGATE, APPLICATIONS, Api, Reply, record
from tests.support.project import Project, make_config, open_project

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
WEB, IOS = "aaaaaaaa-1111-2222-3333-bbbbbbbbbbbb", "cccccccc-1111-2222-3333-dddddddddddd"


def client(url: str, **changes: Any) -> Client:
    config = replace(make_config("sqlite:///x.db", url), **changes)
    assert config.keys
    return Client(config, config.keys)


def bucket(view: object, count: object, application: object = WEB) -> dict[str, Any]:
    by = {"@view.name": view, "@application.id": application}
    return {"by": by, "computes": {"c0": count}}


def page(*buckets: object, **meta: object) -> dict[str, Any]:
    return {"meta": {"status": "done", "elapsed": 3} | meta, "data": {"buckets": list(buckets)}}


def found(api: Api) -> Discovery:
    with client(api.url) as datadog:
        return discover(datadog)


def pairs(discovery: Discovery) -> list[tuple[str, str | None, int]]:
    return [(t.view_name, t.application_id, t.views_30d) for t in discovery.traffic]


# --- applications -------------------------------------------------------------------------


def application(identifier: object, **attributes: object) -> dict[str, Any]:
    return {"type": "rum_application", "id": identifier, "attributes": attributes}


def test_applications_are_read_with_what_they_may_lack(api: Api) -> None:
    whole = {"application_id": "a", "name": "shop", "type": "browser", "is_active": True}
    api.applications = {
        "data": [
            application("other", **whole, org_id=2**40, tags=[], product_scales={"x": {}}),
            application("b", name=3, type=None, is_active=1, org_id=True),
            application("c", name="nul\0", org_id=2**63),
            {"id": "d", "attributes": None},
            {"id": "a", "attributes": {"name": "again"}},
        ]
    }
    with client(api.url) as datadog:
        read = {a.application_id: a for a in read_applications(datadog)}
    assert set(read) == {"a", "b", "c", "d"}
    shop = read["a"]
    assert (shop.name, shop.type, shop.is_active, shop.org_id) == ("shop", "browser", True, 2**40)
    assert {(read[i].name, read[i].type, read[i].is_active, read[i].org_id) for i in "bcd"} == {
        (None, None, None, None)
    }


def test_what_is_no_application_is_left_out(api: Api) -> None:
    junk: list[object] = [
        None,
        3,
        "x",
        [],
        {},
        {"id": 7},
        {"id": ""},
        {"id": "x" * 256},
        {"id": "\ud800"},
    ]
    api.applications = {"data": [*junk, {"id": "ok"}]}
    with client(api.url) as datadog:
        assert [a.application_id for a in read_applications(datadog)] == ["ok"]


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param((403, {}, b'{"errors": ["Forbidden"]}'), id="403"),
        pytest.param((404, {}, b""), id="404"),
        pytest.param(b"no json", id="no-json"),
        pytest.param(b"[" * 100_000, id="deep"),
        pytest.param([], id="list"),
        pytest.param({"data": {}}, id="no-list"),
    ],
)
def test_applications_that_cannot_be_read_raise_one_kind_of_error(api: Api, answer: Any) -> None:
    api.applications = answer
    with client(api.url, max_wait_s=0.1) as datadog, pytest.raises(DatadogError):
        read_applications(datadog)


# --- discover -----------------------------------------------------------------------------


def test_the_question_names_its_time_and_its_limits(api: Api) -> None:
    api.rum = page()
    assert found(api) == Discovery((), requests=1)
    (asked,) = api.asked[AGGREGATE]
    assert asked["filter"] == {
        "from": "now-30d",
        "to": "now",
        "query": "@type:view @session.type:user",
    }
    limits = [(group["facet"], group["limit"]) for group in asked["group_by"]]
    assert limits == [("@view.name", 1000), ("@application.id", 10)]
    assert asked["page"] == {"limit": 1000}


def test_the_question_is_one_that_the_specification_knows(api: Api) -> None:
    from datadog_api_client.configuration import Configuration
    from datadog_api_client.model_utils import validate_and_convert_types
    from datadog_api_client.v2.model.rum_aggregate_request import RUMAggregateRequest

    api.rum = page()
    found(api)
    (asked,) = api.asked[AGGREGATE]
    made = validate_and_convert_types(
        asked, (RUMAggregateRequest,), ["asked"], True, True, Configuration()
    )
    assert made.filter._from == "now-30d"
    assert "UnparsedObject" not in repr(made)


def test_views_of_the_fake_datadog_are_all_found() -> None:
    world = World(seed=3)
    keys = Keys(API_KEY, APP_KEY)
    with FakeDatadog(world) as server, client(server.url, keys=keys) as datadog:
        discovery = discover(datadog)
    expected = {(t.view_name, t.application_id): t.views_30d for t in world.traffic}
    assert {(v, a): n for v, a, n in pairs(discovery)} == {
        pair: n for pair, n in expected.items() if n
    }
    assert discovery.warnings == ()


def test_pages_are_followed_and_a_pair_counts_once(api: Api) -> None:
    def rum(asked: Any) -> object:
        cursor = asked["page"].get("cursor")
        pages = {
            None: page(bucket("/a", 5), bucket("/b", 9), page={"after": "1"}),
            "1": page(bucket("/a", 7), bucket("/a", 1, IOS), page={"after": "2"}),
            "2": page(bucket("/b", 9), page={"after": None}),
        }
        return pages[cursor]

    api.rum = rum
    assert pairs(found(api)) == [("/b", WEB, 9), ("/a", WEB, 7), ("/a", IOS, 1)]
    assert found(api).requests == 3


def test_a_cursor_that_goes_round_ends(api: Api) -> None:
    api.rum = page(bucket("/a", 5), page={"after": "again"})
    discovery = found(api)
    assert pairs(discovery) == [("/a", WEB, 5)]
    assert discovery.requests == 2
    assert "same page" in discovery.warnings[0]


def test_pages_without_end_end(api: Api) -> None:
    api.rum = lambda _: page(bucket("/a", 5), page={"after": str(len(api.asked[AGGREGATE]))})
    discovery = found(api)
    assert len(api.asked[AGGREGATE]) == discovery.requests == 100
    assert "more than 100 pages" in discovery.warnings[0]


def test_a_time_out_and_warnings_are_said(api: Api) -> None:
    warnings = [{"code": "x", "title": "Too\nmuch", "detail": "data"}, "plain", 3, {}]
    api.rum = page(bucket("/a", 5), status="timeout", warnings=warnings)
    discovery = found(api)
    assert discovery.is_cut_short
    assert discovery.warnings == (
        "RUM ran out of time: views may be missing, and the counts too small",
        "RUM warns: Too much: data: x",
        "RUM warns: plain",
        "RUM warns: without saying of what",
    )


def test_buckets_that_name_no_view_are_counted(api: Api) -> None:
    junk: list[object] = [
        *(None, [], {}, {"by": {}}, {"by": [], "computes": {}}),
        *(bucket(None, 1), bucket("", 1), bucket(3, 1), bucket("nul\0", 1), bucket("\ud800", 1)),
        *(bucket("x" * 1001, 1), bucket("/a", "1"), bucket("/a", True), bucket("/a", None)),
        *(bucket("/a", -1), bucket("/a", 2**63), bucket("/a", 10**400), bucket("/a", 1, 7)),
        *(bucket("/a", float("nan")), bucket("/a", float("inf"))),
    ]
    nowhere = {"by": {"@view.name": "/x"}, "computes": {"c0": 1}}
    good = [bucket(" ", 2.0), bucket("/ü/?", 1), nowhere]
    api.rum = page(*junk, *good)
    discovery = found(api)
    assert pairs(discovery) == [(" ", WEB, 2), ("/x", None, 1), ("/ü/?", WEB, 1)]
    assert discovery.skipped == len(junk)
    assert "name no view that could be asked for" in discovery.warnings[-1]


def test_a_limit_that_is_reached_makes_each_application_be_asked(api: Api) -> None:
    api.applications = {"data": [application(WEB), application('quo"ted'), application("quiet")]}

    def rum(asked: Any) -> object:
        if len(asked["group_by"]) == 2:
            return page(*(bucket(f"/{n}", 1) for n in range(1000)))
        if WEB in asked["filter"]["query"]:
            return page(*(bucket(f"/{n}", 2, None) for n in range(1200)))
        return page()

    api.rum = rum
    discovery = found(api)
    assert pairs(discovery)[-1][1:] == (WEB, 2)
    assert len(discovery.traffic) == 1200
    asked = api.asked[AGGREGATE][1:]
    assert {q["filter"]["query"].partition("@application.id:")[2] for q in asked} == {
        f'"{WEB}"',
        '"quo\\"ted"',
        '"quiet"',
    }
    assert {q["group_by"][0]["limit"] for q in asked} == {10_000}
    assert discovery.warnings == ()


def test_a_list_that_may_be_cut_is_said_to_be(api: Api) -> None:
    api.rum = page(*(bucket("/busy", 1, f"app-{n}") for n in range(10)))
    (warning,) = found(api).warnings
    assert "the list of views may be cut, applications are not known" in warning
    api.applications = {"data": [application("app-1")]}
    api.rum = page(*(bucket(f"/{n}", 1, "app-1") for n in range(10_000)))
    (warning,) = found(api).warnings
    assert "no more than 10,000 views of application app-1" in warning


def test_what_was_found_stays_when_a_later_question_fails(api: Api) -> None:
    api.applications = {"data": [application("app-1")]}
    refused: Reply = (400, {}, b'{"errors": ["group_by.limit"]}')
    full = page(*(bucket("/busy", 1, f"app-{n}") for n in range(10)))
    api.rum = lambda asked: full if len(asked["group_by"]) == 2 else refused
    discovery = found(api)
    assert len(discovery.traffic) == 10
    assert "group_by.limit" in discovery.warnings[0]


def test_missing_permission_is_named(api: Api) -> None:
    api.rum = (403, {}, b'{"errors": ["Forbidden"]}')
    with pytest.raises(DatadogAuthError, match="need the permission rum_apps_read"):
        found(api)


def test_an_answer_without_buckets_is_none(api: Api) -> None:
    api.rum = {"data": []}
    with client(api.url, max_wait_s=0.1) as datadog, pytest.raises(DatadogError, match="buckets"):
        discover(datadog)


# --- store --------------------------------------------------------------------------------


def leased(project: Project, work: Callable[[Any], None]) -> None:
    lease = Lease(project.config.source, 60)

    def transaction(connection: Any) -> None:
        lease.take(connection, project.config)
        work(connection)
        lease.release(connection)

    project.database.transaction(transaction)


def test_discovered_views_keep_when_they_were_first_seen(project: Project) -> None:
    source = project.config.source

    def save(at: datetime, *traffic: Traffic) -> None:
        leased(project, lambda c: save_discovery(c, source, Discovery(traffic), at))

    odd = "/A é\u2028👟 "
    save(NOON, Traffic("/a", WEB, 5), Traffic("/a", None, 1), Traffic(odd, WEB, 2))
    save(NOON + DAY, Traffic("/a", WEB, 6), Traffic(odd.lower(), WEB, 3))
    query = "SELECT view_name, application_id, views_30d, sampled_at = first_seen_at AS is_new"
    rows = project.rows(f"{query} FROM discovered_views ORDER BY views_30d")
    assert [(r["view_name"], r["application_id"], r["views_30d"]) for r in rows] == [
        ("/a", None, 1),
        (odd, WEB, 2),
        (odd.lower(), WEB, 3),
        ("/a", WEB, 6),
    ]
    assert [bool(r["is_new"]) for r in rows] == [True, True, True, False]
    assert project.one("SELECT count(*) AS n FROM sources WHERE discovered_at IS NOT NULL")["n"]


def _save(found: Discovery, at: datetime, connection: Any) -> None:
    save_discovery(connection, "datadoghq.com", found, at)


def test_ten_thousand_views_are_stored_in_batches(project: Project) -> None:
    many = tuple(Traffic(f"/{n}", WEB, n) for n in range(3000))
    for at in (NOON, NOON + DAY):
        leased(project, partial(_save, Discovery(many), at))
    assert project.one("SELECT count(*) AS n FROM discovered_views")["n"] == 3000


def test_a_count_that_was_cut_short_is_due_again(project: Project) -> None:
    cut = Discovery((Traffic("/a", WEB, 1),), is_cut_short=True)
    leased(project, lambda c: save_discovery(c, "datadoghq.com", cut, NOON))
    assert project.one("SELECT discovered_at FROM sources")["discovered_at"] is None
    assert project.one("SELECT views_30d FROM discovered_views")["views_30d"] == 1


def test_applications_are_stored_by_a_run_once_a_day(project: Project, api: Api) -> None:
    api.views["/home"] = [record("1")]
    api.applications = {"data": [application("a", name="shop", is_active=False)]}
    for _ in range(2):
        assert project.run().status == "ok"
    assert len(api.asked[APPLICATIONS]) == 1
    row = project.one("SELECT application_id, name, type, is_active FROM applications")
    assert (row["application_id"], row["name"], row["type"]) == ("a", "shop", None)
    assert not row["is_active"]
    project.execute("UPDATE sources SET applications_read_at = '2026-01-01 00:00:00'")
    api.applications = {"data": [application("a", name="shop 2"), application("b")]}
    assert project.run().status == "ok"
    rows = project.rows(
        "SELECT name, last_seen_at > first_seen_at AS is_old FROM applications"
        " ORDER BY application_id"
    )
    assert [(row["name"], bool(row["is_old"])) for row in rows] == [("shop 2", True), (None, False)]


@pytest.mark.parametrize("answer", [None, (403, {}, b"no"), (500, {}, b""), b"rubbish"])
def test_applications_that_are_not_to_be_had_do_no_harm(
    sqlite_project: Project, api: Api, answer: Any
) -> None:
    sqlite_project.configure(max_wait_s=0.1)
    api.views["/home"] = [record("1")]
    api.applications = answer
    for _ in range(2):
        assert sqlite_project.run().status == "ok"
    asked = len(api.asked[APPLICATIONS])
    sqlite_project.run()
    assert len(api.asked[APPLICATIONS]) == asked


def test_applications_are_left_alone_when_no_view_answered(
    sqlite_project: Project, api: Api
) -> None:
    api.views["/home"] = (500, {}, b"")
    sqlite_project.configure(max_wait_s=0.1)
    assert sqlite_project.run().status == "failed"
    assert api.asked[APPLICATIONS] == []


@pytest.fixture
def sqlite_project(new_database: Callable[..., str], api: Api) -> Iterator[Project]:
    project = open_project(make_config(new_database("sqlite"), api.url))
    yield project
    project.database.close()


# --- runs ---------------------------------------------------------------------------------


@pytest.fixture
def discovering(project: Project, api: Api) -> Project:
    project.configure(views=(), discovers=True)
    api.rum = page(bucket("/home", 9), bucket("/empty", 5), bucket("/admin", 2))
    api.views["/home"] = [record("1")]
    return project


def test_a_run_covers_what_rum_saw_and_what_was_read_once(discovering: Project, api: Api) -> None:
    run = discovering.run()
    assert run.status == "ok"
    assert sorted(v.view.name for v in run.views) == ["/admin", "/empty", "/home"]
    assert discovering.one("SELECT views FROM sync_runs")["views"] == 3
    api.rum = page()
    discovering.execute("UPDATE sources SET discovered_at = '2026-01-01 00:00:00'")
    discovering.execute("UPDATE discovered_views SET sampled_at = '2026-01-01 00:00:00'")
    run = discovering.run()
    assert [v.view.name for v in run.views] == ["/home"]
    assert run.notes == ["2 views without any snapshot so far: asked once a day"]
    assert len(api.asked[AGGREGATE]) == 2
    discovering.execute("UPDATE view_state SET last_run_at = '2026-01-01 00:00:00'")
    assert len(discovering.run().views) == 3
    assert len(api.asked[AGGREGATE]) == 2


def test_rows_of_a_view_without_traffic_still_go_when_it_is_empty(
    discovering: Project, api: Api
) -> None:
    discovering.run()
    api.rum, api.views["/home"] = page(), []
    run = discovering.run()
    assert {v.view.name: v.counts["vanished"] for v in run.views}["/home"] == 1
    assert discovering.live() == set()
    assert "/home" in {v.view.name for v in discovering.run().views}  # it had one once


def test_a_discovery_that_fails_lets_a_run_go_on(
    discovering: Project, api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    discovering.run()
    discovering.execute("UPDATE sources SET discovered_at = NULL")
    api.rum = (403, {}, b"")
    run = discovering.run()
    assert (run.status, [v.view.name for v in run.views]) == ("ok", ["/home"])
    assert "rum_apps_read" in run.notes[0]
    assert "rum_apps_read" in caplog.text


def test_without_any_known_view_it_fails(discovering: Project, api: Api) -> None:
    api.rum = (403, {}, b"")
    with pytest.raises(EtlError, match=r"no view is known: .* rum_apps_read") as caught:
        discovering.run()
    assert caught.value.exit_code == 2
    run = discovering.one("SELECT status, error FROM sync_runs")
    assert run["status"] == "failed"
    assert "rum_apps_read" in run["error"]
    api.rum = page()
    with pytest.raises(EtlError, match="RUM counted none"):
        discovering.run()


def test_views_beyond_max_views_are_not_added(discovering: Project, api: Api) -> None:
    discovering.configure(discover_max_views=1, discover_exclude=("/home",))
    run = discovering.run()
    assert [v.view.name for v in run.views] == ["/empty"]
    assert "1 discovered view not added, beyond discover.max_views = 1" in run.notes[0]
    assert exit_code(run) == 0


def test_a_single_view_of_those_discovered(discovering: Project, api: Api) -> None:
    discovering.run()
    assert [v.view.name for v in discovering.run("/empty").views] == ["/empty"]
    with pytest.raises(ConfigError, match='did you mean "/empty"'):
        discovering.run("/emty")


def test_a_view_that_was_configured_with_a_filter_is_read_as_a_whole(
    project: Project, api: Api
) -> None:
    project.watch(View("/home", device_type="desktop"))
    api.views["/home"], api.rum = [record("1")], page()
    project.run()
    project.configure(views=(), discovers=True)
    run = project.run()
    assert [v.view for v in run.views] == [View("/home")]
    assert project.live() == {"1"}
    assert project.run().total("unchanged") == 1


def test_a_plan_discovers_and_stores_nothing(discovering: Project, api: Api) -> None:
    from etl.pipeline.plan import make_plan
    from etl.pipeline.run import Options

    plans = make_plan(discovering.config, discovering.database, Options(), stop=discovering.stop)
    assert [plan.view.name for plan in plans] == ["/admin", "/empty", "/home"]
    assert discovering.rows("SELECT * FROM discovered_views") == []


def test_status_knows_the_views_and_that_some_are_asked_daily(discovering: Project) -> None:
    from etl.monitor.status import read_status

    def status() -> Any:
        return read_status(discovering.config, discovering.database, max_age_s=7200)

    assert status().is_stale  # nothing was ever read
    discovering.run()
    assert {v.view.name for v in status().views} == {"/home", "/empty", "/admin"}
    assert not status().is_stale
    shift = (datetime.now(UTC) - timedelta(hours=20)).strftime("%Y-%m-%d %H:%M:%S")
    names_ = "last_read_at", "last_complete_at", "last_trusted_at"
    values = ", ".join(f"{name} = '{shift}'" for name in names_)
    discovering.execute(f"UPDATE view_state SET {values} WHERE view_name = '/empty'")
    assert not status().is_stale
    discovering.execute(f"UPDATE view_state SET {values}")
    assert [v.view.name for v in status().views if v.is_stale] == ["/home"]
