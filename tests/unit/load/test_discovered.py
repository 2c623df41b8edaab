"""What is stored of the views and applications that RUM knows."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from etl.extract.discovery import Discovery, Traffic
from etl.load.discovered import save_discovery
from etl.source.lease import Lease
from tests.support.api import APPLICATIONS, Api, record
from tests.support.project import Project, make_config, open_project
from tests.support.rum import WEB, application

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
DAY = timedelta(days=1)


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
