"""Views and applications as RUM knows them, asked over HTTP."""

from dataclasses import replace
from typing import Any

import pytest

from etl.config.credentials import Keys
from etl.datadog.client import Client
from etl.errors import DatadogAuthError, DatadogError
from etl.extract.discovery import Discovery, discover, read_applications
from etl.fake_datadog import API_KEY, APP_KEY, FakeDatadog, World
from tests.support.api import AGGREGATE, Api, Reply, record
from tests.support.project import make_config
from tests.support.rum import IOS, WEB, application, bucket, page


def client(url: str, **changes: Any) -> Client:
    config = replace(make_config("sqlite:///x.db", url), **changes)
    assert config.keys
    return Client(config, config.keys)


def found(api: Api) -> Discovery:
    with client(api.url) as datadog:
        return discover(datadog)


def pairs(discovery: Discovery) -> list[tuple[str, str | None, int]]:
    return [(t.view_name, t.application_id, t.views_30d) for t in discovery.traffic]


# --- applications -------------------------------------------------------------------------


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
        read = {a.application_id: a for a in read_applications(datadog).applications}
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
        listed = read_applications(datadog)
    assert [a.application_id for a in listed.applications] == ["ok"]
    assert listed.doubt == "9 without a usable id"


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param((403, {}, b'{"errors": ["Forbidden"]}'), id="403"),
        pytest.param((404, {}, b""), id="404"),
        pytest.param(b"no json", id="no-json"),
        pytest.param(b"[" * 100_000, id="deep"),
        pytest.param([], id="list"),
        pytest.param({"data": {}}, id="no-list"),
        pytest.param({"data": [record("s")]}, id="snapshots"),
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
        "RUM warns: it gives no reason",
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
    assert "have no view name that can be asked for" in discovery.warnings[-1]


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
