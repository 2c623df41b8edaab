"""The label of a source: what refuses another one, and how it is changed."""

import threading
import time
from typing import Any

import pytest

from etl.config.views import View
from etl.database.schema import metadata
from etl.errors import ConfigError, LeaseHeld, SourceMismatch
from etl.pipeline.plan import make_plan
from etl.pipeline.run import Options
from etl.source.lease import Lease
from etl.source.rename import rename_source
from tests.support.api import Api, record
from tests.support.project import TABLES_OF_SOURCE, Project, counts, of_source


def test_a_changed_label_is_refused(project: Project, api: Api) -> None:
    api.views["/home"] = [record("1")]
    project.run()
    before = project.rows("SELECT * FROM sources"), project.rows("SELECT * FROM sync_runs")
    project.configure(source="new")
    command = "heatmap-etl db rename-source datadoghq.com new"
    with pytest.raises(SourceMismatch, match=command):
        project.run()
    with pytest.raises(SourceMismatch, match=command):
        make_plan(project.config, project.database, Options(), stop=threading.Event())
    after = project.rows("SELECT * FROM sources"), project.rows("SELECT * FROM sync_runs")
    assert after == before
    assert len(api.requests) == 1


def test_another_source_is_welcome(project: Project, api: Api, other_api: Api) -> None:
    api.views["/home"] = [record("1")]
    project.run()
    config = project.config
    other_api.views["/home"] = [record("2", org_id=43)]
    project.configure(source="elsewhere", api_url=other_api.url)
    assert project.run().status == "ok"
    project.configure(source="neighbour", neighbours=("datadoghq.com",), api_url=config.api_url)
    assert project.run().status == "ok"
    # Who was welcome once need not be configured beside it any more.
    project.configure(neighbours=())
    assert project.run().status == "ok"


def test_a_database_without_rows_takes_any_label(project: Project, api: Api) -> None:
    project.run()
    project.configure(source="new")
    api.views["/home"] = [record("1")]
    assert project.run().status == "ok"


def full_of_everything(project: Project, api: Api) -> None:
    """Two views with rows, history, rejects and drift, of which the second has filters."""
    project.watch("/home", View("/other", device_type="mobile"), "/empty")
    other = [record(n, view_name="/other", device_type="mobile") for n in ("3", "4")]
    api.views = {"/home": [record("1", colour="red"), record("2"), record(None)], "/other": other}
    project.run()
    api.views["/home"] = [record("1", event_id="changed"), record(None)]
    api.views["/other"] = other[:1]
    project.run()


def test_a_renamed_source_goes_on_as_if_nothing_had_happened(project: Project, api: Api) -> None:
    full_of_everything(project, api)
    before = project.snapshots()
    said = rename_source(project.database, "datadoghq.com", "acme")
    assert "source datadoghq.com is acme now, 4 snapshots" in said
    for table in metadata.sorted_tables:
        if "source" in table.c:
            labels = project.rows(f"SELECT DISTINCT source FROM {table.name}")
            assert {row["source"] for row in labels} <= {"acme"}, table.name
    keys = {view.key("acme") for view in project.config.views}
    for name in [t.name for t in metadata.sorted_tables if "view_key" in t.c]:
        rows = project.rows(f"SELECT DISTINCT view_key FROM {name}")
        assert {row["view_key"] for row in rows} <= keys, name
    project.configure(source="acme")
    for is_full in (False, True):
        run = project.run(is_full=is_full)
        assert run.status == "ok"
        assert counts(run) == {"listed": 3, "unchanged": 2, "rejected": 1}
    changed = {"source", "view_key"}
    assert {i: without(row, changed) for i, row in project.snapshots().items()} == {
        i: without(row, changed) for i, row in before.items()
    }


def without(row: dict[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in names}


def test_only_the_named_source_is_renamed(
    pair: tuple[Project, Project], api: Api, other_api: Api
) -> None:
    api.views["/home"] = [record("1"), record(None)]
    other_api.views["/home"] = [record("2", org_id=43), record(None)]
    for project in pair:
        project.run()
    before = of_source(pair[0], "b")
    rename_source(pair[0].database, "a", "c")
    assert of_source(pair[0], "b") == before
    assert of_source(pair[0], "a") == {table: [] for table in TABLES_OF_SOURCE}


def test_keys_of_discovered_views_follow(project: Project, api: Api) -> None:
    from etl.extract.discovery import Traffic

    project.run()
    traffic = [Traffic("/home", "app", 3), Traffic("/home", None, 1)]
    for item in traffic:
        project.execute(
            "INSERT INTO discovered_views VALUES (:key, 'datadoghq.com', :name, :application, 1,"
            " '2026-01-01 00:00:00', '2026-01-01 00:00:00')",
            key=item.key("datadoghq.com"),
            name=item.view_name,
            application=item.application_id,
        )
    rename_source(project.database, "datadoghq.com", "acme")
    rows = project.rows("SELECT discovered_key FROM discovered_views")
    assert {row["discovered_key"] for row in rows} == {item.key("acme") for item in traffic}


@pytest.mark.slow
def test_renaming_many_views_and_rows_is_quick(project: Project, api: Api) -> None:
    views = [f"/view-{n}" for n in range(310)]  # more than one statement takes
    api.views = {v: [record(v)] for v in views}
    api.views["/view-0"] = [record(f"{n}") for n in range(5000)]
    project.configure(page_limit=10_000)
    project.watch(*views)
    project.run()
    started = time.monotonic()
    rename_source(project.database, "datadoghq.com", "acme")
    assert time.monotonic() - started < 10
    project.configure(source="acme")
    assert counts(project.run(is_full=True)) == {"listed": 5309, "unchanged": 5309}


def test_a_rename_that_would_mix_or_lose_is_refused(
    pair: tuple[Project, Project], api: Api, other_api: Api
) -> None:
    project = pair[0]
    api.views["/home"] = [record("1")]
    for one in pair:
        one.run()
    before = of_source(project, "a")
    with pytest.raises(SourceMismatch, match="has rows of source b already"):
        rename_source(project.database, "a", "b")
    with pytest.raises(SourceMismatch, match="no source x; the database holds: a, b"):
        rename_source(project.database, "x", "y")
    with pytest.raises(ConfigError, match="NEW"):
        rename_source(project.database, "a", " ")
    lease = Lease("a", 60)
    project.database.transaction(lambda c: lease.take(c, project.config))
    with pytest.raises(LeaseHeld):
        rename_source(project.database, "a", "c")
    assert of_source(project, "a") == before
