"""`sync --plan` says exactly what the run then does, over invented worlds and several runs."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl.database import sql_views
from etl.database.schema import metadata
from etl.errors import StoreError
from etl.pipeline.plan import ViewPlan, make_plan
from etl.pipeline.run import Options
from tests.support.api import Api, Reply, record
from tests.support.project import Project, make_config, open_project

VIEWS = ("/a", "/b", "/c", "/d")
NOT_FOUND: Reply = (404, {}, b'{"errors": ["Not found"]}')
NO_ID: dict[str, Any] = {"type": "snapshots", "attributes": {}}
COUNTS = (
    *("listed", "new", "changed", "unchanged", "returned", "foreign_records", "duplicates"),
    *("rejected", "vanished"),
)

some_records = st.lists(
    st.builds(
        lambda i, content, at, name: record(
            i, snapshot_name=content, modified_at=at, view_name=name
        ),
        st.sampled_from("uvwxyz"),
        st.sampled_from(["one", "two"]),
        st.sampled_from([None, "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"]),
        st.sampled_from([None, "/a", "/A", "/b", "/home", "/home"]),
    ),
    max_size=5,
)
# More than `hold_min`, so that removals are held; of which some have an unreadable record.
many = st.integers(0, 26).map(lambda size: [record(f"many-{n}") for n in range(size)])
other_organization = st.sampled_from([[], [], [], [], [record("foreign", org_id=43)]])
listing = st.one_of(
    some_records,
    st.builds(lambda some, more: some + more, some_records, many),
    st.builds(lambda some, times: some + [NO_ID] * times, some_records, st.integers(1, 2)),
    st.builds(lambda some, more: some + more, some_records, other_organization),
    st.just(NOT_FOUND),
)
worlds = st.fixed_dictionaries(dict.fromkeys(VIEWS, listing))
runs = st.lists(st.tuples(worlds, st.booleans(), st.booleans()), min_size=2, max_size=4)


@pytest.fixture
def project(new_database: Callable[..., str], api: Api) -> Iterator[Project]:
    project = open_project(make_config(new_database("sqlite"), api.url, VIEWS))
    project.configure(concurrency=1)  # the answers come in the same order in plan and run
    yield project
    project.database.close()


@pytest.mark.slow
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(runs=runs)
def test_a_plan_says_what_the_run_then_does(
    project: Project, api: Api, runs: list[tuple[dict[str, Any], bool, bool]]
) -> None:
    for table in reversed(metadata.sorted_tables):
        project.execute(f"DELETE FROM {table.name}")
    for world, accepts, is_full in runs:
        api.views = dict(world)
        options = Options(accepts_removals=accepts)
        plans = make_plan(project.config, project.database, options, stop=project.stop)
        before = project.snapshots()
        run = project.run(accept=accepts, is_full=is_full)
        after = project.snapshots()
        assert [plan.view for plan in plans] == [result.view for result in run.views]
        for plan, result in zip(plans, run.views, strict=True):
            assert plan.verdict == result.verdict
            told = result.reason.partition("; ")[2]
            assert not plan.held or plan.reason.partition("; ")[2] == told
            if plan.verdict != "failed":
                assert planned(plan) == {name: result.counts[name] for name in COUNTS}
        assert ids(plans, "new") == after.keys() - before.keys()
        assert ids(plans, "changed") == began(before, after, "changed")
        assert ids(plans, "returned") == began(before, after, "returned")
        assert ids(plans, "vanished") == marked(after, "removed_at") - marked(before, "removed_at")
        held = marked(after, "missing_since")
        assert ids(plans, "held") <= held
        assert held - ids(plans, "held") <= marked(before, "missing_since")
        for row in (row for plan in plans for row in (*plan.changed, *plan.returned)):
            # An instant of a plan is one; by plain SQL, SQLite gives its text.
            for name in row.after.keys() - {"created_at", "modified_at"}:
                assert (row.before[name], row.after[name]) == (
                    before[row.id][name],
                    after[row.id][name],
                )
            assert ",".join(row.after) == (after[row.id]["changed_columns"] or "")


def test_a_plan_ends_with_the_error_of_a_database_that_cannot_be_read(
    project: Project, api: Api
) -> None:
    """No view of it failed: there is no ledger that could say so, and nothing to plan."""
    api.views = {"/a": [record("u")]}
    project.run()
    for view in sql_views.NAMES:
        project.execute(f"DROP VIEW {view}")
    project.execute("ALTER TABLE snapshots RENAME TO elsewhere")
    with pytest.raises(StoreError, match="no such table: snapshots"):
        make_plan(project.config, project.database, Options(), stop=project.stop)


def planned(plan: ViewPlan) -> dict[str, int]:
    """The plan in the counts of the ledger."""
    lists = {name: len(getattr(plan, name)) for name in ("new", "changed", "returned", "vanished")}
    numbers = {name: getattr(plan, name) for name in ("listed", "unchanged", "duplicates")}
    return {**lists, **numbers, "rejected": plan.rejected, "foreign_records": plan.foreign}


def ids(plans: list[ViewPlan], kind: str) -> set[str]:
    return {row.id for plan in plans for row in getattr(plan, kind)}


def began(before: dict[str, Any], after: dict[str, Any], kind: str) -> set[str]:
    """Ids of rows whose version began in this run, and how."""
    return {
        i
        for i, row in after.items()
        if i in before and row["version"] > before[i]["version"] and row["began"] == kind
    }


def marked(rows: dict[str, Any], column: str) -> set[str]:
    return {i for i, row in rows.items() if row[column] is not None}
