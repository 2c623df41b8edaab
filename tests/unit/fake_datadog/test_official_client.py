"""The official Datadog client as an oracle: it and plain JSON must read the fake alike.

What the official client sends, the fake must understand; what the fake answers, the
official client must parse into its own models. So neither can be wrong alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from datadog_api_client import ApiClient, Configuration
from datadog_api_client.exceptions import ApiException, ForbiddenException, NotFoundException
from datadog_api_client.v2.api.key_management_api import KeyManagementApi
from datadog_api_client.v2.api.rum_api import RUMApi
from datadog_api_client.v2.api.rum_replay_heatmaps_api import RumReplayHeatmapsApi
from datadog_api_client.v2.model.rum_aggregate_request import RUMAggregateRequest
from datadog_api_client.v2.model.rum_aggregate_sort import RUMAggregateSort
from datadog_api_client.v2.model.rum_aggregation_function import RUMAggregationFunction
from datadog_api_client.v2.model.rum_compute import RUMCompute
from datadog_api_client.v2.model.rum_compute_type import RUMComputeType
from datadog_api_client.v2.model.rum_group_by import RUMGroupBy
from datadog_api_client.v2.model.rum_query_filter import RUMQueryFilter
from datadog_api_client.v2.model.rum_query_page_options import RUMQueryPageOptions
from datadog_api_client.v2.model.rum_sort_order import RUMSortOrder
from datadog_api_client.v2.model.snapshot_create_request import SnapshotCreateRequest
from datadog_api_client.v2.model.snapshot_create_request_data import SnapshotCreateRequestData
from datadog_api_client.v2.model.snapshot_create_request_data_attributes import (
    SnapshotCreateRequestDataAttributes,
)
from datadog_api_client.v2.model.snapshot_update_request import SnapshotUpdateRequest
from datadog_api_client.v2.model.snapshot_update_request_data import SnapshotUpdateRequestData
from datadog_api_client.v2.model.snapshot_update_request_data_attributes import (
    SnapshotUpdateRequestDataAttributes,
)
from datadog_api_client.v2.model.snapshot_update_request_data_type import (
    SnapshotUpdateRequestDataType,
)

from etl.fake_datadog import API_KEY, APP_KEY, BEARER_TOKEN, FakeDatadog, World
from tests.support.fake_time import long_window_s
from tests.support.view_names import ODD_VIEWS

SNAPSHOTS = "/api/v2/replay/heatmap/snapshots"
KEYS = {"DD-API-KEY": API_KEY, "DD-APPLICATION-KEY": APP_KEY}
TYPE = SnapshotUpdateRequestDataType.SNAPSHOTS


def configuration(url: str, **keys: Any) -> Configuration:
    made = Configuration(host=url, **keys)
    # An answer is what it is: a second try would hide it.
    made.enable_retry = False
    return made


@pytest.fixture
def world() -> World:
    return World(seed=11, views=ODD_VIEWS)


@pytest.fixture
def datadog(world: World) -> Iterator[FakeDatadog]:
    with FakeDatadog(world) as running:
        yield running


@pytest.fixture
def api_client(datadog: FakeDatadog) -> Iterator[ApiClient]:
    keys = {"apiKeyAuth": API_KEY, "appKeyAuth": APP_KEY}
    with ApiClient(configuration(datadog.url, api_key=keys)) as opened:
        yield opened


@pytest.fixture
def heatmaps(api_client: ApiClient) -> RumReplayHeatmapsApi:
    return RumReplayHeatmapsApi(api_client)


@pytest.fixture
def plain(datadog: FakeDatadog) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=datadog.url, headers=KEYS, trust_env=False) as opened:
        yield opened


def as_plain(snapshot: Any) -> dict[str, Any]:
    """A parsed snapshot with its datetimes, as a dictionary."""
    return {
        "id": snapshot.id,
        "type": str(snapshot.type),
        "attributes": dict(snapshot.attributes.to_dict()),
    }


def with_datetimes(record: dict[str, Any]) -> dict[str, Any]:
    """A record as JSON has it, with its instants read by the standard library."""
    attributes = dict(record["attributes"])
    for name in ("created_at", "modified_at"):
        attributes[name] = datetime.fromisoformat(attributes[name])
    return {**record, "attributes": attributes}


@pytest.mark.parametrize("view", ODD_VIEWS)
def test_official_client_and_plain_json_read_each_oddly_named_view_alike(
    heatmaps: RumReplayHeatmapsApi, plain: httpx.Client, world: World, view: str
) -> None:
    parsed = heatmaps.list_replay_heatmap_snapshots(view, page_limit=1000).data
    answer = plain.get(SNAPSHOTS, params={"filter[view_name]": view, "page[limit]": 1000})
    records = answer.json()["data"]
    assert records
    assert {record["attributes"]["view_name"] for record in records} == {view}
    assert records == world.records(view)
    assert [as_plain(snapshot) for snapshot in parsed] == [with_datetimes(r) for r in records]
    assert all(s.attributes.created_at.utcoffset() is not None for s in parsed)


def test_limit_and_filters_of_the_official_client_are_obeyed(
    heatmaps: RumReplayHeatmapsApi, world: World
) -> None:
    view, application_id = "/home", world.applications[2].application_id
    for number in range(12):
        device = "mobile" if number % 3 else "tablet"
        world.pin(view, application_id=application_id, device_type=device)
    everything = heatmaps.list_replay_heatmap_snapshots(view, page_limit=1000).data
    assert [s.id for s in heatmaps.list_replay_heatmap_snapshots(view).data] == [
        s.id for s in everything[:10]
    ]
    assert len(heatmaps.list_replay_heatmap_snapshots(view, page_limit=3).data) == 3
    narrowed = heatmaps.list_replay_heatmap_snapshots(
        view,
        filter_application_id=application_id,
        filter_device_type="tablet",
        page_limit=1000,
    ).data
    assert len(narrowed) >= 4
    assert [s.id for s in narrowed] == [
        s.id
        for s in everything
        if (s.attributes.application_id, s.attributes.device_type) == (application_id, "tablet")
    ]


def creation(world: World, **optional: str) -> SnapshotCreateRequest:
    attributes = SnapshotCreateRequestDataAttributes(
        application_id=world.applications[0].application_id,
        device_type="desktop",
        event_id="11111111-2222-3333-4444-555555555555",
        is_device_type_selected_by_user=False,
        snapshot_name="Größe 👟",
        start=0,
        view_name="/made/by client?&ü",
        **optional,
    )
    return SnapshotCreateRequest(data=SnapshotCreateRequestData(attributes=attributes, type=TYPE))


def test_a_snapshot_lives_from_create_to_delete(
    heatmaps: RumReplayHeatmapsApi, world: World
) -> None:
    view = "/made/by client?&ü"
    created = heatmaps.create_replay_heatmap_snapshot(creation(world, session_id="s-1")).data
    assert created.attributes.snapshot_name == "Größe 👟"
    assert created.attributes.start == 0
    assert created.attributes.is_device_type_selected_by_user is False
    assert created.attributes.session_id == "s-1"
    assert "view_id" not in created.attributes
    assert created.attributes.org_id == world.organization.org_id
    assert created.attributes.created_at.replace(microsecond=0) == world.now.replace(microsecond=0)
    [listed] = heatmaps.list_replay_heatmap_snapshots(view).data
    assert as_plain(listed) == as_plain(created)

    update = SnapshotUpdateRequest(
        data=SnapshotUpdateRequestData(
            attributes=SnapshotUpdateRequestDataAttributes(
                event_id="e-2",
                is_device_type_selected_by_user=True,
                session_id="s-2",
                start=1_800_000,
                view_id="v-2",
            ),
            id=created.id,
            type=TYPE,
        )
    )
    changed = heatmaps.update_replay_heatmap_snapshot(created.id, update).data
    assert changed.attributes.modified_at > created.attributes.modified_at
    expected = as_plain(created)
    expected["attributes"] |= {
        "event_id": "e-2",
        "is_device_type_selected_by_user": True,
        "modified_at": changed.attributes.modified_at,
        "session_id": "s-2",
        "start": 1_800_000,
        "view_id": "v-2",
    }
    assert as_plain(changed) == expected
    assert [as_plain(s) for s in heatmaps.list_replay_heatmap_snapshots(view).data] == [expected]

    heatmaps.delete_replay_heatmap_snapshot(created.id)
    assert heatmaps.list_replay_heatmap_snapshots(view).data == []
    for gone in (
        lambda: heatmaps.delete_replay_heatmap_snapshot(created.id),
        lambda: heatmaps.update_replay_heatmap_snapshot(created.id, update),
    ):
        with pytest.raises(NotFoundException) as caught:
            gone()
        assert caught.value.body["errors"] == ["Snapshot not found"]


def test_the_official_client_follows_the_world_through_time(
    heatmaps: RumReplayHeatmapsApi, world: World
) -> None:
    for _ in range(3):
        for event in world.tick():
            found = heatmaps.list_replay_heatmap_snapshots(event.view_name, page_limit=1000).data
            assert (event.snapshot_id in {s.id for s in found}) == (event.kind != "unpinned")


def test_applications_are_parsed_with_their_epoch_milliseconds(
    api_client: ApiClient, world: World
) -> None:
    items = RUMApi(api_client).get_rum_applications().data
    assert [(item.id, item.attributes.name) for item in items] == [
        (application.application_id, application.name) for application in world.applications
    ]
    for item, application in zip(items, world.applications, strict=True):
        assert str(item.type) == "rum_application"
        assert item.attributes.application_id == item.id
        assert item.attributes.is_active is application.is_active
        assert item.attributes.type == application.type
        moment = datetime.fromtimestamp(item.attributes.created_at / 1000, UTC)
        assert moment == application.created_at
        scale = item.attributes.product_scales.rum_event_processing_scale
        assert str(scale.state) == "ALL"


def test_aggregate_pages_hold_the_traffic_of_the_world(api_client: ApiClient, world: World) -> None:
    api, found = RUMApi(api_client), {}
    page: dict[str, Any] = {"limit": 7}
    sort = RUMAggregateSort(aggregation=RUMAggregationFunction.COUNT, order=RUMSortOrder.DESCENDING)
    while True:
        answer = api.aggregate_rum_events(
            RUMAggregateRequest(
                compute=[
                    RUMCompute(aggregation=RUMAggregationFunction.COUNT, type=RUMComputeType.TOTAL)
                ],
                filter=RUMQueryFilter(_from="now-30d", to="now", query="@type:view"),
                group_by=[
                    RUMGroupBy(facet="@view.name", limit=1000, sort=sort),
                    RUMGroupBy(facet="@application.id", limit=10),
                ],
                page=RUMQueryPageOptions(**page),
            )
        )
        assert str(answer.meta.status) == "done"
        assert len(answer.data.buckets) <= 7
        for bucket in answer.data.buckets:
            pair = (bucket.by["@view.name"], bucket.by["@application.id"])
            assert pair not in found
            found[pair] = bucket.computes["c0"]
        if "page" not in answer.meta:
            break
        page = {"limit": 7, "cursor": answer.meta.page.after}
    assert found == {(t.view_name, t.application_id): t.views_30d for t in world.traffic}


def test_keys_are_validated(api_client: ApiClient, datadog: FakeDatadog) -> None:
    assert str(KeyManagementApi(api_client).validate_api_key().status) == "ok"
    api_client.configuration.unstable_operations["validate"] = True
    with pytest.warns(UserWarning, match="unstable"):
        assert KeyManagementApi(api_client).validate().data.attributes.valid is True
    wrong = configuration(datadog.url, api_key={"apiKeyAuth": "x", "appKeyAuth": APP_KEY})
    with ApiClient(wrong) as client, pytest.raises(ForbiddenException) as caught:
        RumReplayHeatmapsApi(client).list_replay_heatmap_snapshots("/home")
    assert caught.value.body["errors"][0]["title"] == "Forbidden"


def test_a_bearer_token_alone_opens_the_listing(datadog: FakeDatadog, world: World) -> None:
    with ApiClient(configuration(datadog.url, access_token=BEARER_TOKEN)) as client:
        found = RumReplayHeatmapsApi(client).list_replay_heatmap_snapshots("/home").data
    assert [s.id for s in found] == [r["id"] for r in world.records("/home")][:10]


def test_errors_of_the_fake_are_errors_of_the_client(world: World) -> None:
    keys = {"apiKeyAuth": API_KEY, "appKeyAuth": APP_KEY}
    with (
        FakeDatadog(world, rate_limit=(1, long_window_s())) as datadog,
        ApiClient(configuration(datadog.url, api_key=keys)) as client,
    ):
        api = RumReplayHeatmapsApi(client)
        with pytest.raises(ApiException) as refused:
            api.list_replay_heatmap_snapshots("")
        assert refused.value.status == 400
        with pytest.raises(ApiException) as limited:
            api.list_replay_heatmap_snapshots("/home")
        assert limited.value.status == 429
        assert limited.value.headers["X-RateLimit-Remaining"] == "0"
