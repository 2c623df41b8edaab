"""Runs that cover the views which RUM knows."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from etl.config.views import View
from etl.errors import ConfigError, EtlError
from etl.ledger.results import exit_code
from tests.support.api import AGGREGATE, Api, record
from tests.support.project import Project
from tests.support.rum import bucket, page


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
    with pytest.raises(EtlError, match="in 30 days RUM counted no page view"):
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
