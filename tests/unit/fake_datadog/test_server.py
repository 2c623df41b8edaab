"""The fake Datadog over real HTTP, and the world behind it."""

from __future__ import annotations

import gzip
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from http.client import HTTPConnection
from typing import Any

import httpx
import pytest

from etl.fake_datadog import API_KEY, APP_KEY, BEARER_TOKEN, FakeDatadog, World, serve
from etl.fake_datadog.organization import draw_timestamp, go_timestamp
from etl.fake_datadog.rate_limit import RateLimit
from tests.support.fake_time import long_window_s
from tests.support.paths import ROOT

SNAPSHOTS = "/api/v2/replay/heatmap/snapshots"
AGGREGATE = "/api/v2/rum/analytics/aggregate"
KEYS = {"DD-API-KEY": API_KEY, "DD-APPLICATION-KEY": APP_KEY}
REQUIRED = {
    "view_name",
    "device_type",
    "application_id",
    "snapshot_name",
    "event_id",
    "start",
    "is_device_type_selected_by_user",
    "created_at",
    "created_by",
    "created_by_handle",
    "created_by_user_id",
    "modified_at",
    "org_id",
}
ROUND_COUNTS = {10, 20, 25, 30, 40, 50, 60, 75, 80, 90, 100}


@pytest.fixture
def world() -> World:
    return World(seed=7)


@pytest.fixture
def datadog(world: World) -> Iterator[FakeDatadog]:
    with FakeDatadog(world) as running:
        yield running


@pytest.fixture
def client(datadog: FakeDatadog) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=datadog.url, headers=KEYS, trust_env=False) as opened:
        yield opened


def listed(client: httpx.Client, view_name: str, **filters: object) -> list[Any]:
    params: Any = {"filter[view_name]": view_name, "page[limit]": 1000, **filters}
    answer = client.get(SNAPSHOTS, params=params)
    assert answer.status_code == 200, answer.text
    found: list[Any] = answer.json()["data"]
    return found


def ids(world: World) -> set[str]:
    return {record["id"] for view in world.view_names for record in world.records(view)}


# The world


def test_equal_seeds_give_equal_worlds_through_time() -> None:
    one, other = World(seed=3), World(seed=3)
    assert [one.tick() for _ in range(5)] == [other.tick() for _ in range(5)]
    assert [one.listing(v) for v in one.view_names] == [other.listing(v) for v in other.view_names]


def test_another_seed_gives_another_world() -> None:
    assert ids(World(seed=1)).isdisjoint(ids(World(seed=2)))


@pytest.mark.parametrize("seed", range(1, 6))
def test_no_view_of_a_default_world_has_a_round_count(seed: int) -> None:
    world = World(seed=seed)
    counts = [len(world.records(view)) for view in world.view_names]
    assert len(counts) == 9
    assert all(5 <= count <= 40 and count not in ROUND_COUNTS for count in counts)


def test_the_size_and_the_views_of_a_world_can_be_chosen() -> None:
    world = World(snapshots_per_view=50, views=["/a", "/b", "/a"])
    assert world.view_names == ("/a", "/b")
    assert [len(world.records(view)) for view in world.view_names] == [50, 50]


def test_every_record_has_what_datadog_requires_and_only_background_ids_may_lack() -> None:
    world = World(snapshots_per_view=100)
    attributes = [r["attributes"] for v in world.view_names for r in world.records(v)]
    assert all(set(a) >= REQUIRED for a in attributes)
    assert all(set(a) - REQUIRED <= {"session_id", "view_id"} for a in attributes)
    assert all(a[name] is not None for a in attributes for name in REQUIRED)
    assert any("session_id" not in a for a in attributes)
    assert any(a.get("session_id", "") is None for a in attributes)
    assert all(datetime.fromisoformat(a["modified_at"]) <= world.now for a in attributes)
    known = {application.application_id for application in world.applications}
    assert {a["application_id"] for a in attributes} <= known


@pytest.mark.parametrize(
    ("moment", "nanoseconds", "text"),
    [
        pytest.param(
            datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), 0, "2026-01-02T03:04:05Z", id="none"
        ),
        pytest.param(
            datetime(2026, 1, 2, 3, 4, 5, 120000, tzinfo=UTC),
            0,
            "2026-01-02T03:04:05.12Z",
            id="trailing zeros go",
        ),
        pytest.param(
            datetime(2026, 1, 2, 3, 4, 5, 7, tzinfo=UTC),
            80,
            "2026-01-02T03:04:05.00000708Z",
            id="nanoseconds",
        ),
    ],
)
def test_timestamps_are_printed_as_go_does(moment: datetime, nanoseconds: int, text: str) -> None:
    assert go_timestamp(moment, nanoseconds=nanoseconds) == text


def test_timestamps_have_a_varying_number_of_digits() -> None:
    random, moment = World()._random, datetime(2026, 1, 2, 3, 4, 5, 123456, tzinfo=UTC)
    lengths = {len(draw_timestamp(random, moment)) for _ in range(500)}
    assert {20, 24, 27, 30} <= lengths


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_each_tick_has_something_new_repointed_and_unpinned_and_events_tell_all(seed: int) -> None:
    world = World(seed=seed)
    kinds = set()
    for _ in range(20):
        before = {v: {r["id"]: r for r in world.records(v)} for v in world.view_names}
        events = world.tick()
        after = {v: {r["id"]: r for r in world.records(v)} for v in world.view_names}
        assert {event.kind for event in events} >= {"new", "repointed", "unpinned"}
        kinds |= {event.kind for event in events}
        for event in events:
            was = before[event.view_name].get(event.snapshot_id)
            now = after[event.view_name].get(event.snapshot_id)
            assert (was is None) == (event.kind in {"new", "pinned again"})
            assert (now is None) == (event.kind == "unpinned")
            if event.kind == "repointed":
                assert was is not None
                assert now is not None
                differing = {
                    name
                    for name in now["attributes"]
                    if name not in was["attributes"]
                    or was["attributes"][name] != now["attributes"][name]
                }
                assert differing == set(event.attributes_changed)
                assert "modified_at" in differing
                assert now["attributes"]["modified_at"] != was["attributes"]["modified_at"]
                assert differing <= {
                    "event_id",
                    "is_device_type_selected_by_user",
                    "modified_at",
                    "session_id",
                    "start",
                    "view_id",
                }
        touched = {event.snapshot_id for event in events}
        flat_before = {i: r for view in before.values() for i, r in view.items()}
        flat_after = {i: r for view in after.values() for i, r in view.items()}
        for snapshot_id in (flat_before.keys() | flat_after.keys()) - touched:
            assert flat_before.get(snapshot_id) == flat_after.get(snapshot_id)
    assert "pinned again" in kinds


def test_a_tick_moves_the_clock_by_its_hours() -> None:
    world = World(start_at=datetime(2026, 5, 1, tzinfo=UTC))
    world.tick(hours=24)
    assert world.now == datetime(2026, 5, 2, tzinfo=UTC)


@pytest.mark.slow
def test_a_year_of_ticks_keeps_every_view_below_a_page() -> None:
    world = World()
    for _ in range(365):
        world.tick(hours=24)
    assert all(10 < len(world.records(view)) < 200 for view in world.view_names)


def test_a_tick_leaves_an_almost_empty_world_what_it_has() -> None:
    world = World(views=["/a"], snapshots_per_view=1)
    kept = ids(world)
    assert "unpinned" not in {event.kind for event in world.tick()}
    assert kept <= ids(world)


def test_a_snapshot_pinned_again_returns_to_its_place(world: World) -> None:
    before = world.records("/home")
    snapshot_id = before[2]["id"]
    world.unpin(snapshot_id)
    assert len(world.records("/home")) == len(before) - 1
    world.pin_again(snapshot_id)
    assert world.records("/home") == before


def test_only_the_background_can_be_repointed(world: World) -> None:
    record = world.pin("/home", snapshot_name="mine")
    assert record["attributes"]["snapshot_name"] == "mine"
    changed = world.repoint(record["id"], start=77)
    assert changed["attributes"]["start"] == 77
    with pytest.raises(ValueError, match="snapshot_name"):
        world.repoint(record["id"], snapshot_name="other")


@pytest.mark.parametrize("name", ["repoint", "unpin", "pin_again", "record"])
def test_an_unknown_id_is_a_key_error(world: World, name: str) -> None:
    with pytest.raises(KeyError):
        getattr(world, name)("no-such-id")


def test_a_returned_record_is_a_copy(world: World) -> None:
    record = world.pin("/home")
    record["attributes"]["start"] = -1
    assert world.record(record["id"])["attributes"]["start"] != -1


# The listing


def test_every_view_is_listed_by_its_exact_name_newest_first(
    client: httpx.Client, world: World
) -> None:
    for view in world.view_names:
        records = listed(client, view)
        assert records == world.records(view)
        created = [datetime.fromisoformat(r["attributes"]["created_at"]) for r in records]
        assert created == sorted(created, reverse=True)
    for near_miss in ("/HOME", "/home/", "home", "/hom", "/checkout/*", "/search?q=1&x=/"):
        assert listed(client, near_miss) == []


def test_filters_narrow_and_their_parts_add_up(client: httpx.Client, world: World) -> None:
    whole = {record["id"] for record in listed(client, "/home")}
    by_application = [
        listed(client, "/home", **{"filter[application_id]": application.application_id})
        for application in world.applications
    ]
    assert {r["id"] for part in by_application for r in part} == whole
    by_device = {
        d: listed(client, "/home", **{"filter[device_type]": d})
        for d in ("desktop", "mobile", "tablet")
    }
    assert {r["id"] for part in by_device.values() for r in part} == whole
    for device, part in by_device.items():
        assert {r["attributes"]["device_type"] for r in part} <= {device}


@pytest.mark.parametrize("params", [{}, {"filter[view_name]": ""}], ids=["missing", "empty"])
def test_a_listing_without_a_view_name_is_a_400(
    client: httpx.Client, params: dict[str, str]
) -> None:
    answer = client.get(SNAPSHOTS, params=params)
    assert answer.status_code == 400
    assert isinstance(answer.json()["errors"][0], str)


@pytest.mark.parametrize("limit", ["0", "-1", "ten", "", "1.5", "1_0", "9" * 30])
def test_a_limit_that_is_no_positive_integer_is_a_400(client: httpx.Client, limit: str) -> None:
    answer = client.get(SNAPSHOTS, params={"filter[view_name]": "/home", "page[limit]": limit})
    assert answer.status_code == 400


def test_without_a_limit_ten_are_listed() -> None:
    world = World(views=["/v"], snapshots_per_view=33)
    with FakeDatadog(world) as datadog:
        answer = httpx.get(
            datadog.url + SNAPSHOTS, params={"filter[view_name]": "/v"}, headers=KEYS
        )
    assert answer.json()["data"] == world.records("/v")[:10]


def test_a_limit_over_the_maximum_is_capped_silently() -> None:
    world = World(views=["/v"], snapshots_per_view=33)
    with (
        FakeDatadog(world, page_max=25) as datadog,
        httpx.Client(base_url=datadog.url, headers=KEYS) as client,
    ):
        assert len(listed(client, "/v")) == 25
        assert len(listed(client, "/v", **{"page[limit]": 24})) == 24


def test_a_changed_record_is_listed_as_changed(client: httpx.Client, world: World) -> None:
    record = listed(client, "/home")[0]
    world.repoint(record["id"], session_id=None, start=5)
    again = listed(client, "/home")[0]
    assert again["attributes"]["session_id"] is None
    assert again["attributes"]["start"] == 5
    assert again["attributes"]["modified_at"] > record["attributes"]["modified_at"]


def test_odd_records_are_listed_exactly_as_put(client: httpx.Client, world: World) -> None:
    odd: list[object] = [
        None,
        "text",
        {"id": 12, "type": "snapshots"},
        {"id": "x", "attributes": [], "links": {"self": "/"}},
        {"id": "nul \x00", "attributes": {"start": 10**30, "snapshot_name": "\ud800", "é": 1.5}},
    ]
    for record in odd:
        world.put(record, "/odd")
    assert listed(client, "/odd") == odd[::-1]


def test_raw_bytes_are_listed_byte_for_byte(client: httpx.Client, world: World) -> None:
    world.put(b'{"id" : "a",  "n": 1.0}', "/raw")
    world.put(b"{broken", "/raw")
    answer = client.get(SNAPSHOTS, params={"filter[view_name]": "/raw"})
    assert answer.content == b'{"data":[{broken,{"id" : "a",  "n": 1.0}]}'


def test_a_record_put_takes_the_place_of_its_id_unless_both_are_wanted(world: World) -> None:
    before = world.records("/home")
    record: Any = before[3]
    changed = {**record, "attributes": {**record["attributes"], "brand_new": True}}
    world.put(changed)
    assert world.records("/home") == [*before[:3], changed, *before[4:]]
    world.put(record, replaces=False)
    assert len(world.records("/home")) == len(before) + 1
    world.put(record, "/elsewhere")
    assert world.records("/elsewhere") == [record]
    assert len(world.records("/home")) == len(before) + 1
    world.unpin(record["id"])
    assert len(world.records("/home")) == len(before) - 1
    assert world.records("/elsewhere") == []


def test_a_record_without_a_view_must_be_put_under_one(world: World) -> None:
    with pytest.raises(ValueError, match="view_name"):
        world.put({"id": "x"})


# Writing


def create_body(**attributes: object) -> dict[str, object]:
    given = {
        "view_name": "/new",
        "device_type": "mobile",
        "application_id": "a",
        "snapshot_name": "s",
        "event_id": "e",
        "start": 0,
        "is_device_type_selected_by_user": False,
    }
    return {"data": {"type": "snapshots", "attributes": given | attributes}}


def test_a_created_snapshot_is_listed_without_what_was_left_out(client: httpx.Client) -> None:
    created = client.post(SNAPSHOTS, json=create_body(view_id="v")).json()["data"]
    assert set(created["attributes"]) == REQUIRED | {"view_id"}
    assert listed(client, "/new") == [created]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        json.dumps(create_body(start="0")).encode(),
        json.dumps(create_body(event_id=None)).encode(),
        json.dumps({"data": {"type": "snapshot", "attributes": {}}}).encode(),
        b'{"data":{"type":"snapshots","attributes":{"view_name":"\xff"}}}',
    ],
)
def test_a_malformed_creation_is_a_400(client: httpx.Client, body: bytes) -> None:
    assert client.post(SNAPSHOTS, content=body).status_code == 400


def test_patch_changes_the_five_attributes_and_refuses_others(
    client: httpx.Client, world: World
) -> None:
    record = world.pin("/home")
    path = f"{SNAPSHOTS}/{record['id']}"

    def patch(**attributes: object) -> httpx.Response:
        return client.patch(path, json={"data": {"type": "snapshots", "attributes": attributes}})

    changed = patch(event_id="e", session_id="s", view_id="v", start=1).json()["data"]
    assert changed["attributes"]["event_id"] == "e"
    assert changed == world.record(record["id"])
    for refused in ({"snapshot_name": "x"}, {"start": "1"}, {}):
        assert patch(**refused).status_code == 400
    other = {"type": "snapshots", "id": "another", "attributes": {"start": 2}}
    assert client.patch(path, json={"data": other}).status_code == 400
    assert world.record(record["id"]) == changed


def test_a_deleted_snapshot_is_gone_and_unknown_ids_are_404(
    client: httpx.Client, world: World
) -> None:
    path = f"{SNAPSHOTS}/{world.pin('/home')['id']}"
    body = {"data": {"type": "snapshots", "attributes": {"start": 1}}}
    assert client.delete(path).status_code == 204
    for answer in (client.delete(path), client.patch(path, json=body)):
        assert answer.status_code == 404
        assert answer.json() == {"errors": ["Snapshot not found"]}


# Keys, paths, limits, the wire


def test_missing_keys_are_401_and_wrong_keys_403(datadog: FakeDatadog) -> None:
    with httpx.Client(base_url=datadog.url) as client:

        def ask(path: str = SNAPSHOTS, **headers: str) -> httpx.Response:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            return client.get(path, params={"filter[view_name]": "/home"}, headers=named)

        for missing in (ask(), ask(DD_API_KEY=API_KEY), ask(DD_APPLICATION_KEY=APP_KEY)):
            assert missing.status_code == 401
            assert missing.json() == {"errors": ["Unauthorized"]}
        for wrong in (
            ask(DD_API_KEY=API_KEY, DD_APPLICATION_KEY="x"),
            ask(DD_API_KEY="x", DD_APPLICATION_KEY=APP_KEY),
            ask(Authorization="Bearer x"),
        ):
            assert wrong.status_code == 403
            assert wrong.json() == {"errors": [{"title": "Forbidden", "status": "403"}]}
        assert ask(Authorization=f"Bearer {BEARER_TOKEN}").status_code == 200
        assert ask("/api/v1/validate", DD_API_KEY=API_KEY).json() == {"valid": True}
        assert ask("/api/v1/validate", DD_API_KEY="x").status_code == 403
        alone = ask("/api/v2/validate", DD_API_KEY=API_KEY).json()
        assert alone["data"]["attributes"]["valid"] is True
        assert ask("/api/v2/validate", DD_API_KEY="x").status_code == 403
        assert ask("/api/v2/validate").status_code == 401
        assert ask("/api/v2/validate_keys", DD_API_KEY=API_KEY).status_code == 401
        both = ask("/api/v2/validate_keys", DD_API_KEY=API_KEY, DD_APPLICATION_KEY=APP_KEY)
        assert both.json() == {"status": "ok"}


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("path", ["/", "/api/v2/nothing", f"{SNAPSHOTS}/"])
def test_an_unknown_path_is_a_404_in_json(client: httpx.Client, method: str, path: str) -> None:
    answer = client.request(method, path)
    assert answer.status_code == 404
    assert answer.json() == {"errors": ["Not Found"]}


@pytest.mark.parametrize(
    "headers", [{"Content-Length": "many"}, {"Transfer-Encoding": "chunked"}], ids=["bad", "none"]
)
def test_a_body_of_unknown_length_ends_the_connection(
    datadog: FakeDatadog, headers: dict[str, str]
) -> None:
    connection = HTTPConnection(datadog.url.removeprefix("http://"))
    connection.request("POST", SNAPSHOTS, headers=headers)
    answer = connection.getresponse()
    assert (answer.status, answer.headers["Connection"]) == (411, "close")
    answer.read()
    connection.close()


def test_beyond_the_rate_limit_comes_an_empty_429_without_retry_after(world: World) -> None:
    with (
        FakeDatadog(world, rate_limit=(3, window_s := long_window_s())) as datadog,
        httpx.Client(base_url=datadog.url, headers=KEYS) as client,
    ):
        answers = [client.get(SNAPSHOTS, params={"filter[view_name]": "/home"}) for _ in range(5)]
        assert client.get("/api/v2/rum/applications").status_code == 200
    assert [a.status_code for a in answers] == [200, 200, 200, 429, 429]
    assert [a.headers["X-RateLimit-Remaining"] for a in answers] == ["2", "1", "0", "0", "0"]
    assert answers[0].headers["X-RateLimit-Limit"] == "3"
    assert answers[0].headers["X-RateLimit-Period"] == str(window_s)
    assert answers[0].headers["X-RateLimit-Name"] == "rum_replay_heatmap_snapshots"
    assert 1 <= int(answers[0].headers["X-RateLimit-Reset"]) <= window_s
    assert answers[3].content == b""
    assert "Retry-After" not in answers[3].headers
    assert answers[3].headers["Content-Type"] == "application/json"


def test_rate_limit_windows_are_aligned_to_the_calendar() -> None:
    moments = iter([1009.0, 1009.5, 1010.0, 1010.0, 1025.0])
    limit = RateLimit(1, 10, lambda: next(moments))
    taken = [limit.take("name") for _ in range(5)]
    assert [t.allowed for t in taken] == [True, False, True, False, True]
    assert [t.headers["X-RateLimit-Reset"] for t in taken] == ["1", "1", "10", "10", "5"]


def test_even_refusals_carry_rate_limit_headers(datadog: FakeDatadog) -> None:
    for path in (SNAPSHOTS, "/nowhere"):
        assert "X-RateLimit-Remaining" in httpx.get(datadog.url + path).headers


def test_answers_are_compressed_when_asked_for_and_over_1_kb(client: httpx.Client) -> None:
    def raw(view: str, encoding: str) -> tuple[str | None, bytes]:
        params = {"filter[view_name]": view, "page[limit]": "1000"}
        with client.stream(
            "GET", SNAPSHOTS, params=params, headers={"Accept-Encoding": encoding}
        ) as answer:
            assert answer.headers["Content-Type"] == "application/vnd.api+json"
            return answer.headers.get("Content-Encoding"), b"".join(answer.iter_raw())

    plain, compressed = raw("/home", "identity"), raw("/home", "gzip, deflate")
    assert plain[0] is None
    assert compressed[0] == "gzip"
    assert gzip.decompress(compressed[1]) == plain[1]
    assert raw("/none", "gzip") == (None, b'{"data":[]}')


def test_requests_are_recorded_without_keys(client: httpx.Client, datadog: FakeDatadog) -> None:
    listed(client, "/a b/ü")
    [request] = datadog.requests
    assert datadog.request_count == 1
    assert (request.method, request.path) == ("GET", SNAPSHOTS)
    assert request.query == {"filter[view_name]": "/a b/ü", "page[limit]": "1000"}
    assert "user-agent" in request.headers
    assert API_KEY not in str(request)
    assert APP_KEY not in str(request)


def test_a_large_view_is_answered_in_milliseconds_over_one_connection() -> None:
    world = World(views=["/v"], snapshots_per_view=1000)
    with (
        FakeDatadog(world) as datadog,
        httpx.Client(base_url=datadog.url, headers=KEYS) as client,
    ):
        listed(client, "/v")
        seconds = []
        for _ in range(10):
            started = time.perf_counter()
            client.get(SNAPSHOTS, params={"filter[view_name]": "/v", "page[limit]": 1000})
            seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.03


def test_latency_is_added_to_every_answer(world: World) -> None:
    with FakeDatadog(world, latency_s=0.05) as datadog:
        started = time.perf_counter()
        httpx.get(datadog.url + "/nowhere")
        assert time.perf_counter() - started >= 0.05


def test_a_stopped_server_no_longer_answers_kept_connections(world: World) -> None:
    datadog = FakeDatadog(world)
    with httpx.Client(base_url=datadog.url, headers=KEYS) as client:
        with datadog:
            listed(client, "/home")
        with pytest.raises(httpx.TransportError):
            listed(client, "/home")


def test_a_client_that_goes_away_leaves_the_log_quiet(
    world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    with FakeDatadog(world, latency_s=0.1) as datadog:
        with pytest.raises(httpx.ReadTimeout):
            httpx.get(datadog.url + SNAPSHOTS, timeout=0.02)
        time.sleep(0.15)
        assert httpx.get(datadog.url + "/nowhere").status_code == 404
    assert capfd.readouterr() == ("", "")


# RUM


def buckets(client: httpx.Client, **body: object) -> list[dict[str, Any]]:
    """All pages."""
    found: list[dict[str, Any]] = []
    page: dict[str, object] = {"limit": 4}
    while True:
        answer = client.post(AGGREGATE, json={**body, "page": page})
        assert answer.status_code == 200, answer.text
        document = answer.json()
        assert document["meta"]["status"] == "done"
        assert len(document["data"]["buckets"]) <= 4
        found += document["data"]["buckets"]
        if "page" not in document["meta"]:
            return found
        page = {"limit": 4, "cursor": document["meta"]["page"]["after"]}


MONTH = {"from": "now-30d", "to": "now", "query": "@type:view"}
BY_VIEW = {"facet": "@view.name", "limit": 1000, "sort": {"aggregation": "count", "order": "desc"}}


def test_traffic_lacks_one_view_with_snapshots_and_has_two_without(
    client: httpx.Client, world: World
) -> None:
    found = buckets(client, filter=MONTH, group_by=[BY_VIEW])
    names = [bucket["by"]["@view.name"] for bucket in found]
    assert len(names) == len(set(names))
    assert len(set(names) - set(world.view_names)) == 2
    assert set(world.view_names) - set(names) == {world.view_names[-1]}
    counts = [bucket["computes"]["c0"] for bucket in found]
    assert counts == sorted(counts, reverse=True)


def test_traffic_by_view_and_application_adds_up(client: httpx.Client, world: World) -> None:
    pairs = buckets(
        client, filter=MONTH, group_by=[BY_VIEW | {"limit": 100}, {"facet": "@application.id"}]
    )
    assert {(b["by"]["@view.name"], b["by"]["@application.id"]) for b in pairs} == {
        (t.view_name, t.application_id) for t in world.traffic
    }
    [total] = buckets(client, filter=MONTH)
    assert total["computes"]["c0"] == sum(t.views_30d for t in world.traffic)


def test_traffic_of_one_application_can_be_asked_for(client: httpx.Client, world: World) -> None:
    application_id = world.applications[0].application_id
    query = MONTH | {"query": f"@type:view @application.id:{application_id}"}
    [bucket] = buckets(client, filter=query, group_by=[{"facet": "@application.id"}])
    assert bucket["by"] == {"@application.id": application_id}


def test_a_group_has_ten_buckets_unless_more_are_asked_for(client: httpx.Client) -> None:
    assert len(buckets(client, filter=MONTH, group_by=[{"facet": "@view.name"}])) == 10


def test_without_a_time_only_the_last_quarter_of_an_hour_counts(client: httpx.Client) -> None:
    recent = buckets(client, group_by=[BY_VIEW])
    month = buckets(client, filter=MONTH, group_by=[BY_VIEW])
    assert 0 < len(recent) < len(month)
    assert buckets(client, filter={"from": "0", "to": "1000"}, group_by=[BY_VIEW]) == []
    iso = {"from": "2026-01-01T00:00:00Z", "to": "2027-01-01T00:00:00"}
    assert len(buckets(client, filter=iso, group_by=[BY_VIEW])) == len(month)
    assert buckets(client, filter=MONTH, group_by=[{"facet": "@session.type"}]) == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"group_by": {"facet": "@view.name"}}',
        b'{"group_by": [{"facet": "@view.name", "limit": 0}]}',
        b'{"group_by": [{"facet": "@view.name", "limit": 10001}]}',
        b'{"group_by": [{"limit": 10}]}',
        b'{"filter": {"from": "yesterday"}}',
        b'{"filter": {"from": "now", "to": "now-1d"}}',
        b'{"filter": {"from": "99999999999999999999"}}',
        b'{"page": {"cursor": "?"}}',
        b'{"page": {"limit": 1001}}',
        b'{"compute": [{"aggregation": "many"}]}',
    ],
)
def test_a_malformed_aggregate_is_a_400(client: httpx.Client, body: bytes) -> None:
    answer = client.post(AGGREGATE, content=body)
    assert answer.status_code == 400
    assert answer.json()["errors"]


def test_applications_come_with_epoch_milliseconds_and_unspecified_attributes(
    client: httpx.Client, world: World
) -> None:
    items = client.get("/api/v2/rum/applications").json()["data"]
    assert [item["id"] for item in items] == [a.application_id for a in world.applications]
    first = items[0]["attributes"]
    assert first["name"] == "shop-web"
    assert first["created_at"] == int(world.applications[0].created_at.timestamp() * 1000)
    assert first["tags"] == ["team:shop"]
    assert [item["attributes"]["is_active"] for item in items].count(False) == 1


# In the foreground


SERVE = """
from etl.fake_datadog import World, serve
serve(World(), host="127.0.0.1", port=0, tick_every_s=0.05,
      on_ready=lambda url: print(url, flush=True))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_answers_while_time_passes_and_ends_on_a_signal(number: signal.Signals) -> None:
    command = [sys.executable, "-c", SERVE]
    root = ROOT
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=root, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        url = process.stdout.readline().strip()
        with httpx.Client(base_url=url, headers=KEYS) as client:

            def everything() -> list[Any]:
                return [listed(client, view) for view in World().view_names]

            before, deadline = everything(), time.monotonic() + 5
            while everything() == before:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            process.send_signal(number)
            assert process.wait(timeout=5) == 0
        assert process.stderr.read() == ""


def test_serve_says_that_the_port_is_taken(datadog: FakeDatadog) -> None:
    port = int(datadog.url.rpartition(":")[2])
    with pytest.raises(OSError, match="in use"):
        serve(World(), host="127.0.0.1", port=port, tick_every_s=None, on_ready=print)
