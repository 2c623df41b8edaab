"""The official Datadog client as an oracle for ours: same API, same moment, same values.

The official client reads the fake through its own models; `sync` reads it through
ours, into each database. What stands in the tables must be what the official client saw.
"""

import math
from datetime import UTC, datetime
from typing import Any

import pytest
from datadog_api_client import ApiClient, Configuration
from datadog_api_client.v2.api.rum_replay_heatmaps_api import RumReplayHeatmapsApi
from sqlalchemy import select

from etl.config.credentials import Keys
from etl.database.schema import snapshots
from etl.fake_datadog import API_KEY, APP_KEY, FakeDatadog, World
from etl.transform.snapshot import CONTENT
from tests.support.project import Project
from tests.support.view_names import ODD_VIEWS


@pytest.fixture
def world() -> World:
    return World(seed=5, views=ODD_VIEWS)


def official(url: str, view: str) -> dict[str, dict[str, Any]]:
    """What the official client makes of a view: id -> attributes by Datadog's names."""
    configuration = Configuration(
        host=url, api_key={"apiKeyAuth": API_KEY, "appKeyAuth": APP_KEY}, enable_retry=False
    )
    with ApiClient(configuration) as client:
        api = RumReplayHeatmapsApi(client)
        listed = api.list_replay_heatmap_snapshots(filter_view_name=view, page_limit=1000)
    return {item.id: dict(item.attributes.to_dict()) for item in listed.data}


def stored(project: Project) -> dict[str, dict[str, Any]]:
    with project.database.connect(write=False) as connection:
        rows = connection.execute(select(snapshots).where(snapshots.c.removed_at.is_(None)))
        return {row.id: row._asdict() for row in rows}


def agree(ours: Any, theirs: Any) -> bool:
    if isinstance(theirs, datetime):  # it rounds or cuts what is finer than microseconds
        theirs = theirs.astimezone(UTC) if theirs.tzinfo else theirs.replace(tzinfo=UTC)
        return math.isclose(ours.timestamp(), theirs.timestamp(), abs_tol=2e-6)
    return bool(ours == theirs)


def test_the_tables_hold_what_the_official_client_reads(project: Project, world: World) -> None:
    with FakeDatadog(world) as datadog:
        project.configure(api_url=datadog.url, keys=Keys(API_KEY, APP_KEY))
        project.watch(*ODD_VIEWS)
        for _ in range(3):
            run = project.run()
            assert run.status == "ok"
            rows = stored(project)
            seen: set[str] = set()
            for view in ODD_VIEWS:
                for identifier, attributes in official(datadog.url, view).items():
                    row = rows[identifier]
                    assert row["synced_view"] == view
                    for name in CONTENT[:-1]:
                        theirs = attributes.get({"start_ms": "start"}.get(name, name))
                        assert agree(row[name], theirs), (view, identifier, name)
                    seen.add(identifier)
            assert seen == rows.keys()
            world.tick()
