"""What somebody sees who has a database, and not the configuration of the runs."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Connection, update

from etl.config.model import Config, Sources
from etl.database.schema import sources, view_state
from etl.errors import StoreError
from etl.monitor.status import Status, read_status
from etl.monitor.stored_sources import spelt_out
from etl.pipeline.run import Options
from etl.pipeline.sync import sync
from tests.support.api import Api, record
from tests.support.project import Project


def reader(config: Config) -> Config:
    """As one with no more than the URL has it."""
    return replace(config, views=(), has_views=False, has_source=False, source="nobody knows")


def seen(project: Project, max_age_s: float | None = None) -> Status:
    ((config,), _) = spelt_out(Sources((reader(project.config),), is_folder=False))
    return read_status(config, project.database, max_age_s=max_age_s)


def names(status: Status) -> list[str]:
    return [view.view.name for view in status.views]


def test_the_views_are_those_of_the_last_run(project: Project, api: Api) -> None:
    api.views |= {"/home": [record("a")], "/old": [record("b", view_name="/old")]}
    project.watch("/home", "/old")
    project.run()
    assert names(seen(project)) == ["/home", "/old"]
    project.watch("/home")
    project.run()
    status = seen(project, 3600)
    assert (status.source, names(status)) == ("datadoghq.com", ["/home"])
    assert status.views_no_longer_configured == 1
    assert not status.is_stale


def test_what_only_the_configuration_knows_is_not_made_up(project: Project, api: Api) -> None:
    api.views["/home"] = [record("a")]
    project.configure(created_by="drop")
    options = Options(started_by="schedule", slot_at=datetime.now(UTC) - timedelta(days=2))
    sync(project.config, project.database, options, stop=project.stop)
    status = seen(project)
    assert (status.next_run_at, status.due_since, status.schedule) == (None, None, "")
    assert (status.privacy.configured, status.privacy.problem) == ("drop", "")


@pytest.mark.parametrize("is_discovered", [True, False])
def test_a_discovered_view_without_snapshots_is_asked_once_a_day(
    is_discovered: bool, project: Project, api: Api
) -> None:
    api.views |= {"/home": [record("a")], "/empty": []}
    project.watch("/home", "/empty")
    project.run()
    earlier = datetime.now(UTC) - timedelta(hours=20)

    def age(connection: Connection) -> None:
        connection.execute(update(view_state).values(last_trusted_at=earlier))
        if is_discovered:
            connection.execute(update(sources).values(discovered_at=earlier))

    project.database.transaction(age)
    stale = {view.view.name for view in seen(project, 3600).views if view.is_stale}
    assert stale == ({"/home"} if is_discovered else {"/home", "/empty"})


def test_each_stored_source_is_one(pair: tuple[Project, Project], api: Api, other_api: Api) -> None:
    for project, server in zip(pair, (api, other_api), strict=True):
        server.views["/home"] = [record(server.url, org_id=len(server.url) + id(server))]
        project.run()
    found = spelt_out(Sources((reader(pair[0].config),), is_folder=False))
    assert [config.source for config in found.configs] == ["a", "b"]
    assert found.is_folder
    named = Sources((pair[1].config,), is_folder=False)
    assert spelt_out(named) is named


def test_a_database_without_a_source_is_told(project: Project) -> None:
    with pytest.raises(StoreError, match="holds no source: no run has stored anything yet"):
        seen(project)
