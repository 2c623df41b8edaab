"""Properties over sequences of listings, on each database, through real HTTP."""

from collections.abc import Callable
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl.config.views import View
from tests.support.api import Api, record
from tests.support.project import Project, counts

pytestmark = pytest.mark.every_server

NUMBERS = count(1)
# What one listing holds: some ids of a small pool, each with one of a few contents.
LISTINGS = st.lists(
    st.dictionaries(st.sampled_from("abcd"), st.sampled_from(["x", "y", None]), max_size=4),
    min_size=1,
    max_size=6,
)
ON_A_DATABASE = settings(
    max_examples=15,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture
def fresh_view(project: Project) -> Callable[[], str]:
    """A view of its own for each example: all share one database."""

    def make() -> str:
        name = f"/view-{next(NUMBERS)}"
        project.watch(View(name))
        return name

    return make


def ids_of(view: str, listing: dict[str, str | None]) -> list[dict[str, object]]:
    return [record(f"{view}:{key}", event_id=value) for key, value in listing.items()]


@pytest.mark.slow
@ON_A_DATABASE
@given(listings=LISTINGS)
def test_the_tables_equal_the_last_listing_and_keep_every_change(
    project: Project, api: Api, fresh_view: Callable[[], str], listings: list[dict[str, str | None]]
) -> None:
    view = fresh_view()
    events = 0
    before: dict[str, str | None] = {}
    last_known: dict[str, str | None] = {}
    for listing in listings:
        api.views[view] = ids_of(view, listing)
        run = project.run(accept=True)
        changes = {k for k in before.keys() & listing.keys() if before[k] != listing[k]}
        returns = listing.keys() & (last_known.keys() - before.keys())
        expected = {
            "listed": len(listing),
            "new": len(listing.keys() - last_known.keys()),
            "changed": len(changes),
            "returned": len(returns),
            "unchanged": len(before.keys() & listing.keys()) - len(changes),
            "vanished": len(before.keys() - listing.keys()),
        }
        assert counts(run) == {name: number for name, number in expected.items() if number}
        events += len(changes) + len(returns)
        before, last_known = listing, last_known | listing
    query = "SELECT * FROM snapshots WHERE synced_view = :v"
    rows = {row["id"].rpartition(":")[2]: row for row in project.rows(query, v=view)}
    assert {k: row["event_id"] for k, row in rows.items()} == last_known
    assert {k for k, row in rows.items() if row["removed_at"] is None} == before.keys()
    past = project.rows(
        "SELECT * FROM snapshot_history WHERE synced_view = :v ORDER BY snapshot_id, version",
        v=view,
    )
    assert len(past) == events
    for row in past:
        assert row["valid_from"] < row["valid_to"]
    for key, row in rows.items():
        mine = [p for p in past if p["snapshot_id"] == row["id"]]
        assert [p["version"] for p in mine] == list(range(1, row["version"])), key
        ends = [p["valid_to"] for p in mine]
        starts = [p["valid_from"] for p in mine[1:]] + ([row["valid_from"]] if mine else [])
        assert all(end <= start for end, start in zip(ends, starts, strict=True))


@pytest.mark.slow
@ON_A_DATABASE
@given(listings=LISTINGS)
def test_syncing_twice_equals_once(
    project: Project, api: Api, fresh_view: Callable[[], str], listings: list[dict[str, str | None]]
) -> None:
    view = fresh_view()
    for listing in listings:
        api.views[view] = ids_of(view, listing)
        project.run(accept=True)

    def rows_of_the_view() -> list[list[dict[str, object]]]:
        # In an order: PostgreSQL gives that of its plan, which its statistics change meanwhile.
        orders = {"snapshots": "id", "snapshot_history": "snapshot_id, version"}
        query = "SELECT * FROM {} WHERE synced_view = :v ORDER BY {}"
        return [project.rows(query.format(*of), v=view) for of in orders.items()]

    once = rows_of_the_view()
    project.run()
    project.run(is_full=True)
    assert rows_of_the_view() == once
