"""Several organizations side by side in one database; one never touches another."""

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl.cli.fan_out import (
    CommandResult,
    Outcome,
    code_of_runs,
    run_for_each,
)
from etl.config.model import Config, Sources
from etl.database.connection import open_database
from etl.errors import LeaseHeld
from etl.ledger.results import exit_code
from etl.pipeline.run import Options
from etl.pipeline.sync import sync
from etl.source.lease import Lease
from tests.support.api import Api, Reply, record
from tests.support.project import Project, counts, make_config, of_source, open_project


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ((0, 0), 0),
        ((0, 75), 75),
        ((75, 75), 75),
        ((2, 2), 2),
        ((2, 75), 2),
        ((0, 2), 1),
        ((0, 1), 1),
        ((1, 75), 1),
        ((0, 2, 75), 1),
        ((0,), 0),
    ],
)
def test_the_exit_code_of_several_runs(codes: tuple[int, ...], expected: int) -> None:
    assert code_of_runs(codes) == code_of_runs(codes[::-1]) == expected


def run_all(*configs: Config) -> list[Outcome]:
    def work(config: Config) -> CommandResult:
        database = open_database(config.database_url, label=config.database_label)
        try:
            run = sync(config, database, Options(), stop=threading.Event())
        finally:
            database.close()
        return CommandResult(exit_code(run), as_json=run.as_json())

    return run_for_each(Sources(configs, is_folder=True), work)


def test_sources_run_side_by_side(pair: tuple[Project, Project], api: Api, other_api: Api) -> None:
    both_asked = threading.Barrier(2, timeout=20)

    def answer(*ids: str) -> Callable[[], list[dict[str, Any]]]:
        def reply() -> list[dict[str, Any]]:
            both_asked.wait()  # neither answers before both were asked
            return [record(i) for i in ids]

        return reply

    api.views["/home"] = answer("1", "2")
    other_api.views["/home"] = answer("3")
    outcomes = run_all(*(project.config for project in pair))
    assert [outcome.code for outcome in outcomes] == [0, 0]
    rows = pair[0].rows("SELECT id, source, synced_view, view_key FROM snapshots ORDER BY id")
    assert [(r["id"], r["source"], r["synced_view"]) for r in rows] == [
        ("1", "a", "/home"),
        ("2", "a", "/home"),
        ("3", "b", "/home"),
    ]
    assert rows[0]["view_key"] != rows[2]["view_key"]
    runs = pair[0].rows("SELECT source, status, new FROM sync_runs ORDER BY source")
    assert [(r["source"], r["status"], r["new"]) for r in runs] == [("a", "ok", 2), ("b", "ok", 1)]


def test_an_id_that_another_source_has_stays_there(
    pair: tuple[Project, Project], api: Api, other_api: Api
) -> None:
    api.views["/home"] = [record("1", event_id="a"), record("2")]
    other_api.views["/home"] = [record("1", event_id="b", org_id=43), record("3", org_id=43)]
    assert counts(pair[0].run()) == {"listed": 2, "new": 2}
    assert counts(pair[1].run()) == {"listed": 2, "new": 1, "rejected": 1}
    row = pair[0].snapshots()["1"]
    assert (row["source"], row["event_id"]) == ("a", "a")


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda c: replace(c, keys=None, keys_problem="none"), id="no keys"),
        pytest.param(lambda c: replace(c, database_url="sqlite:////no/such/x.db"), id="database"),
        pytest.param(lambda c: replace(c, page_limit="a bug"), id="a bug"),
    ],
)
def test_a_source_that_fails_stops_no_other(
    pair: tuple[Project, Project], api: Api, spoil: Callable[[Config], Config]
) -> None:
    api.views["/home"] = [record("1")]
    bad, good = run_all(spoil(pair[1].config), pair[0].config)
    assert bad.result is None or bad.result.code == 1
    assert good.code == 0
    assert pair[0].live() == {"1"}


def test_a_held_lease_stops_no_other(pair: tuple[Project, Project], api: Api) -> None:
    api.views["/home"] = [record("1")]
    lease = Lease("b", 60)
    pair[1].database.transaction(lambda c: lease.take(c, pair[1].config))
    held, good = run_all(pair[1].config, pair[0].config)
    assert isinstance(held.error, LeaseHeld)
    assert [held.code, good.code] == [75, 0]


def test_many_sources_in_one_database_at_the_same_time(empty_database_url: str, api: Api) -> None:
    """They make the schema at once, and no write is lost to another's lock."""
    views = [f"/{n}" for n in range(8)]
    names = [f"source-{n}" for n in range(6)]
    base = make_config(empty_database_url, api.url, views)

    def reply() -> Reply:
        return 200, {}, b'{"data": []}'

    api.views = dict.fromkeys(views, reply)
    configs = [replace(base, source=n, neighbours=tuple(names)) for n in names]
    assert [o.code for o in run_all(*configs)] == [0] * len(names)
    project = open_project(base)
    row = project.one("SELECT COUNT(*) AS n FROM sync_run_views WHERE verdict = 'complete'")
    project.database.close()
    assert row["n"] == len(views) * len(names)


ids = st.lists(st.sampled_from("1234567"), unique=True, max_size=6)
listings = st.lists(st.tuples(st.booleans(), ids, st.sampled_from("xyz")), max_size=6)


@pytest.mark.slow
@settings(
    max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(steps=listings)
def test_no_source_ever_changes_rows_of_another(
    pair: tuple[Project, Project], api: Api, other_api: Api, steps: list[Any]
) -> None:
    for is_first, listed, event in steps:
        number = 0 if is_first else 1
        mine, server = pair[number], (api, other_api)[number]
        org_id = 42 + number
        server.views["/home"] = [record(i, event_id=event, org_id=org_id) for i in listed]
        before = of_source(mine, "ba"[number])
        assert exit_code(mine.run()) == 0
        assert of_source(mine, "ba"[number]) == before
