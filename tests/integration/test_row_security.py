"""PostgreSQL with policies on our tables: COPY is refused there, and rows may be hidden."""

from collections.abc import Callable, Iterator, Sequence

import psycopg
import pytest

from etl.database import schema
from etl.diagnose.self_test import find_faults
from tests.support.api import Api, record
from tests.support.project import Project, counts, make_config, open_project
from tests.support.servers import ADMIN, PASSWORD, Servers

OF_MENU = record("c", view_name="/menu")
OWN_ROWS = "source = 'datadoghq.com'"
Open = Callable[..., Project]


def as_admin(project: Project, servers: Servers, *statements: str) -> None:
    name = str(project.database.engine.url.database)
    url = servers.get("postgresql").url(name, user=ADMIN)
    with psycopg.connect(url, autocommit=True) as admin:
        for statement in statements:
            admin.execute(statement.encode())


def policies(tables: Sequence[str], rule: str) -> list[str]:
    return [
        statement
        for table in tables
        for statement in (
            f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
            f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY",
            f"CREATE POLICY own ON {table} {rule}",
        )
    ]


@pytest.fixture
def open_here(new_database: Callable[..., str], api: Api) -> Iterator[Open]:
    """`open_here()`: our schema in a database; again: the same one, as another source or login."""
    url = new_database("postgresql")
    made: list[Project] = []

    def make(**changes: str) -> Project:
        user = changes.pop("user", "etl")
        named = url.replace("//etl:", f"//{user}:")
        made.append(open_project(make_config(named, api.url, ["/home", "/menu"])))
        made[-1].configure(**changes)
        return made[-1]

    yield make
    for project in made:
        project.database.close()


@pytest.fixture
def writer(servers: Servers, require_server: Callable[[str], None]) -> Iterator[str]:
    """A login that owns no table."""
    require_server("postgresql")
    server = servers.get("postgresql")
    server.execute(f"CREATE ROLE some_writer LOGIN PASSWORD '{PASSWORD}'")
    yield "some_writer"
    server.execute("DROP ROLE some_writer")


def go_through_a_history(project: Project, api: Api) -> None:
    api.views = {"/home": [record(n) for n in "abc"]}
    assert counts(project.run()) == {"listed": 3, "new": 3}
    api.views["/home"] = [record("a", start=7), record("b"), record("d")]
    run = project.run()
    assert (run.status, counts(run, "changed", "new", "vanished")) == (
        "ok",
        {"changed": 1, "new": 1, "vanished": 1},
    )
    api.views["/home"].append(record("c"))
    assert counts(project.run(), "returned", "unchanged") == {"returned": 1, "unchanged": 3}
    assert project.live() == set("abcd")
    assert [(row["snapshot_id"], row["ended"]) for row in project.history()] == [
        ("a", "changed"),
        ("c", "removed"),
    ]


def test_an_owner_under_policies_stores_and_changes_rows(
    open_here: Open, servers: Servers, api: Api
):
    project = open_here()
    tables = schema.metadata.tables
    own = [name for name, table in tables.items() if "source" in table.c]
    as_admin(project, servers, *policies(own, f"USING ({OWN_ROWS})"))
    as_admin(project, servers, *policies(sorted({*tables} - {*own}), "USING (true)"))
    go_through_a_history(project, api)


def test_a_writer_under_policies_stores_and_changes_rows(
    open_here: Open, servers: Servers, api: Api, writer: str
):
    owner, project = open_here(), open_here(user=writer)
    as_admin(
        owner,
        servers,
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {writer}",
    )
    as_admin(owner, servers, *policies(list(schema.metadata.tables), f"TO {writer} USING (true)"))
    try:
        go_through_a_history(project, api)
    finally:
        as_admin(owner, servers, f"DROP OWNED BY {writer}")


def test_an_id_that_a_policy_hides_fails_its_view_in_one_line_and_stays(
    open_here: Open, servers: Servers, api: Api, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("random.uniform", lambda *_: 0.0)  # between its tries
    project, other = open_here(), open_here(source="other")
    api.views["/home"] = [record("a", start=1)]
    other.run("/home")
    before = other.snapshots()
    as_admin(project, servers, *policies(["snapshots"], f"USING ({OWN_ROWS})"))
    api.views = {"/home": [record("a", start=2), record("b")], "/menu": [OF_MENU]}
    failed, loaded = project.run().views
    assert failed.error is not None
    assert failed.error.partition(": ")[2] == (
        'duplicate key value violates unique constraint "pk_snapshots" (table snapshots); '
        "if a policy hides rows of that table from this login, let it see them"
    )
    assert (loaded.error, project.live()) == (None, {"c"})
    as_admin(project, servers, "ALTER TABLE snapshots NO FORCE ROW LEVEL SECURITY")
    assert {**project.snapshots(), "c": None} == {**before, "c": None}


@pytest.mark.parametrize("route", ["new", "changed"])
def test_a_row_that_a_policy_refuses_fails_its_view_in_one_line(
    open_here: Open, servers: Servers, api: Api, route: str
):
    project = open_here()
    api.views = {"/home": [record("a")] if route == "changed" else []}
    project.run()
    rule = "USING (true) WITH CHECK (created_by <> 'Grace')"
    as_admin(project, servers, *policies(["snapshots"], rule))
    api.views = {"/home": [record("a", created_by="Grace")], "/menu": [OF_MENU]}
    failed, loaded = project.run().views
    assert failed.error is not None
    assert failed.error.partition(": ")[2] == (
        'new row violates row-level security policy for table "snapshots"; '
        "change that policy: heatmap-etl must be allowed to write these rows"
    )
    assert loaded.error is None
    assert project.live() == ({"a", "c"} if route == "changed" else {"c"})


def test_what_others_left_on_the_connection_is_not_used_and_ours_goes(
    open_here: Open, servers: Servers, api: Api
):
    project = open_here()
    with project.database.connect() as kept, kept.begin():
        kept.exec_driver_sql("CREATE TEMP TABLE heatmap_etl_incoming (anything integer)")
    go_through_a_history(project, api)
    assert find_faults(project.database, project.config, has_tables=True) == []
    left = "SELECT 1 FROM pg_class WHERE relname LIKE 'heatmap_etl_%' AND relpersistence = 't'"
    assert project.rows(left) == []
