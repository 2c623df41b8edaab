"""The SQL views on every database: the columns of the catalogue, the rows of a known history."""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Boolean, DateTime, inspect, select, text, update

from etl.config.database_url import parse_database
from etl.config.sites import SITES, hosts
from etl.database import schema, sql_views
from etl.database.connection import Database, open_database
from etl.errors import EtlError
from tests.support import known_history
from tests.support.api import Api, record
from tests.support.known_history import APP, SESSION, SHOP, SOURCE, day
from tests.support.project import Project

VIEWS = list(sql_views.metadata.tables.values())
REPLAY = f"https://app.datadoghq.eu/rum/replay/sessions/{SESSION}"


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    parsed = parse_database(database_url, Path.cwd())
    database = open_database(parsed.url, label=parsed.label)
    yield database
    database.close()


@pytest.fixture
def known(database: Database) -> Database:
    """With the rows of `known_history`."""
    known_history.write(database)
    return database


def rows(database: Database, name: str, where: str = "1 = 1") -> list[dict[str, Any]]:
    """Rows of a view, as the types of the catalogue read them."""
    with database.connect(write=False) as connection:
        found = connection.execute(select(sql_views.metadata.tables[name]).where(text(where)))
        return [dict(row._mapping) for row in found]


def values(database: Database, name: str, *columns: str, where: str = "1 = 1") -> list[Any]:
    """Tuples of some columns, in order of their values."""
    found = [tuple(row[column] for column in columns) for row in rows(database, name, where)]
    return sorted(found, key=repr)


def by_id(database: Database, name: str, column: str) -> dict[str, Any]:
    key = "id" if name == "current_snapshots" else "snapshot_id"
    return {row[key]: row[column] for row in rows(database, name)}


def change(database: Database, identifier: str, **columns: Any) -> None:
    with database.connect() as connection, connection.begin():
        these = update(schema.snapshots).where(schema.snapshots.c.id == identifier)
        connection.execute(these.values(**columns))


# --- columns ------------------------------------------------------------------------------


def test_the_database_has_the_views_and_columns_of_the_catalogue(database: Database):
    with database.connect(write=False) as connection:
        look = inspect(connection)
        found = {
            name: [column["name"] for column in look.get_columns(name)]
            for name in look.get_view_names()
        }
    assert found == {view.name: list(view.columns.keys()) for view in VIEWS}
    for view in VIEWS:
        assert rows(database, view.name) == []


def test_every_view_and_column_says_what_it_means():
    assert [view.name for view in VIEWS if not (view.comment or "").strip()] == []
    columns = [column for view in VIEWS for column in view.columns]
    assert [str(column) for column in columns if not (column.comment or "").strip()] == []
    assert len(columns) > 100


@pytest.mark.parametrize("dialect", ["postgresql"])
def test_postgresql_says_the_same(database: Database):
    with database.connect(write=False) as connection:
        look = inspect(connection)
        for view in VIEWS:
            assert look.get_table_comment(view.name)["text"] == view.comment
            comments = {c["name"]: c["comment"] for c in look.get_columns(view.name)}
            assert comments == {column.name: column.comment for column in view.columns}


def test_a_column_that_is_never_null_is_called_so(known: Database):
    for view in VIEWS:
        found = rows(known, view.name)
        assert found
        for column in view.columns:
            if not column.nullable:
                assert all(row[column.name] is not None for row in found), column


def test_values_are_of_the_types_of_the_catalogue(known: Database):
    with known.connect(write=False) as connection:
        for view in VIEWS:
            for row in connection.execute(text(f"SELECT * FROM {view.name}")):
                for column, value in zip(view.columns, row, strict=True):
                    if value is not None:
                        assert_of_type(known.family, column, value)


def assert_of_type(family: str, column: Any, value: Any) -> None:
    """As the driver gives it, without our types in between: so BI tools get it."""
    if isinstance(column.type.dialect_impl, Boolean) or isinstance(column.type, Boolean):
        assert value in (True, False)
    elif isinstance(getattr(column.type, "impl", None), DateTime):
        if family == "sqlite":
            assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}", value), column
        else:
            assert isinstance(value, datetime), column
    else:
        assert isinstance(value, column.type.python_type), column


# --- rows ---------------------------------------------------------------------------------


def test_current_snapshots_are_those_that_are_listed(known: Database):
    columns = ("id", "synced_view", "application_name", "is_watched", "last_seen_at", "version")
    assert values(known, "current_snapshots", *columns) == [
        # Missed by the reading of day 5, and by no other before: last seen on day 4.
        ("held", "/home", "web", True, day(4), 1),
        ("kept", "/home", "web", True, day(5), 1),
        ("left", "/old", None, False, day(2), 1),
        ("moved", "/home", "web", True, day(5), 2),
        ("new", "/home", "web", True, day(5), 2),
    ]


def test_current_snapshots_have_the_content_of_the_table(known: Database):
    view, table = sql_views.current_snapshots, schema.snapshots
    shared = [column.name for column in view.columns if column.name in table.c]
    assert {*table.c.keys()} - {*shared} == {"removed_at"}
    with known.connect(write=False) as connection:
        ours = connection.execute(select(*(view.c[n] for n in shared)).order_by(view.c.id)).all()
        listed = select(*(table.c[n] for n in shared)).where(table.c.removed_at.is_(None))
        assert ours == connection.execute(listed.order_by(table.c.id)).all()


def test_an_age_is_the_whole_days_since_the_snapshot_was_created(known: Database):
    now = datetime.now(UTC)
    ages = {"held": 0, "kept": 1, "moved": 400, "new": -1, "left": None}
    for identifier, days in ages.items():
        # Half a day on the safe side of the boundary.
        age = None if days is None else timedelta(days=days, hours=12 if days >= 0 else -12)
        change(known, identifier, created_at=now - age if age is not None else None)
    assert by_id(known, "current_snapshots", "age_days") == ages


@pytest.mark.parametrize("dialect", ["sqlite"])
def test_an_age_is_exact_where_sqlite_rounds_into_the_next_day(known: Database):
    """Its date functions round to milliseconds."""
    for created in (
        datetime(2026, 2, 28, 23, 59, 59, 999999, tzinfo=UTC),
        datetime(2023, 12, 31, 23, 59, 59, 999500, tzinfo=UTC),
        datetime(1900, 3, 1, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    ):
        change(known, "kept", created_at=created)
        seconds = (datetime.now(UTC) - created).total_seconds()
        assert by_id(known, "current_snapshots", "age_days")["kept"] == int(seconds / 86400)


def test_versions_are_history_and_present_in_one(known: Database):
    columns = ("snapshot_id", "version", "valid_from", "valid_to", "is_current", "began", "ended")
    assert values(known, "snapshot_versions", *columns) == [
        ("gone", 1, day(1), day(2), False, "baseline", "removed"),
        ("held", 1, day(1), None, True, "baseline", None),
        ("kept", 1, day(1), None, True, "baseline", None),
        ("left", 1, day(1), None, True, "baseline", None),
        ("moved", 1, day(1), day(2), False, "baseline", "changed"),
        ("moved", 2, day(2), None, True, "changed", None),
        ("new", 1, day(2), day(4), False, "added", "removed"),
        ("new", 2, day(5), None, True, "returned", None),
    ]
    names = values(
        known, "snapshot_versions", "version", "snapshot_name", where="synced_view = '/home'"
    )
    assert (1, "New") in names
    assert (2, "New again") in names


def test_changes_are_one_row_for_each_event_with_the_span_it_happened_in(known: Database):
    columns = ("snapshot_id", "event", "not_before", "noticed_at", "version", "changed_columns")
    assert values(known, "snapshot_changes", *columns) == [
        ("gone", "baseline", None, day(1), 1, None),
        ("gone", "removed", day(1), day(2), 1, None),
        ("held", "baseline", None, day(1), 1, None),
        ("kept", "baseline", None, day(1), 1, None),
        ("left", "baseline", None, day(1), 1, None),
        ("moved", "baseline", None, day(1), 1, None),
        ("moved", "changed", day(1), day(2), 2, "modified_at,session_id,view_id"),
        ("new", "added", day(1), day(2), 1, None),
        # The reading of day 3 failed: it may have happened since that of day 2.
        ("new", "removed", day(2), day(4), 1, None),
        ("new", "returned", day(4), day(5), 2, "snapshot_name"),
    ]


@pytest.mark.parametrize(
    "reading", ["verdict = 'truncated'", "held = 3", "verdict = 'failed', read_at = NULL"]
)
def test_a_reading_that_proves_no_absence_is_not_the_one_before(known: Database, reading: str):
    where = "snapshot_id = 'new' AND event = 'returned'"
    assert values(known, "snapshot_changes", "not_before", where=where) == [(day(4),)]
    with known.connect() as connection, connection.begin():
        connection.execute(
            text(f"UPDATE sync_run_views SET {reading} WHERE view_key='home' AND run_id='run-4'")
        )
    assert values(known, "snapshot_changes", "not_before", where=where) == [(day(2),)]


def test_where_the_ledger_was_pruned_nobody_knows_the_reading_before(known: Database):
    with known.connect() as connection, connection.begin():
        connection.execute(text("DELETE FROM sync_run_views WHERE run_id IN ('run-1', 'run-2')"))
    columns = ("snapshot_id", "event", "not_before")
    found = values(known, "snapshot_changes", *columns, where="event <> 'baseline'")
    assert found == [
        ("gone", "removed", None),
        ("moved", "changed", None),
        ("new", "added", None),
        ("new", "removed", None),
        ("new", "returned", day(4)),
    ]


def test_coverage_sets_snapshots_against_traffic(known: Database):
    columns = ("view_name", "application_id", "device_type", "has_snapshot", "snapshots",
               "views_30d", "is_watched", "newest_at", "last_read_at")  # fmt: skip
    morning = day(1, hour=8)
    assert values(known, "view_coverage", *columns) == [
        ("/cart", None, None, False, 0, None, True, None, day(5)),
        ("/checkout/?", APP, None, False, 0, 500, False, None, None),
        ("/home", APP, "desktop", True, 3, 900, True, morning, day(5)),
        ("/home", APP, "mobile", True, 1, 900, True, day(2, hour=7), day(5)),
        ("/home", SHOP, None, False, 0, 80, True, None, day(5)),
        ("/old", None, None, True, 1, 3, False, morning, day(2)),
    ]
    ages = values(known, "view_coverage", "newest_age_days", "newest_at", where="has_snapshot")
    assert all(age == (datetime.now(UTC) - newest).days for age, newest in ages)


def test_removed_snapshots_cover_nothing(known: Database):
    change(known, "new", removed_at=day(6))
    where = "view_name = '/home'"
    found = values(known, "view_coverage", "device_type", "snapshots", where=where)
    assert found == [("desktop", 3), (None, 0)]


def test_health_is_what_is_known_of_each_view(known: Database):
    columns = ("view_name", "verdict", "is_trusted", "is_watched", "held", "last_read_at",
               "requests", "seconds", "consecutive_failures", "needs_acceptance")  # fmt: skip
    assert values(known, "sync_health", *columns) == [
        ("/cart", "complete", True, True, 0, day(5), 0, 0.5, 0, False),
        ("/home", "complete", True, True, 1, day(5), 0, 0.5, 0, False),
        ("/old", "complete", True, False, 0, day(2), 0, 0.5, 0, False),
    ]
    (minutes,) = values(known, "sync_health", "read_age_minutes", where="view_name = '/home'")
    # SQLite counts whole seconds of both instants.
    since = (int(datetime.now(UTC).timestamp()) - int(day(5).timestamp())) // 60
    assert minutes[0] in (since - 1, since)


@pytest.mark.parametrize("moment", [1, 2, 3, 4, 5])
def test_any_moment_can_be_asked_for(known: Database, moment: int):
    listed = {
        1: {"gone", "held", "kept", "left", "moved"},
        2: {"held", "kept", "left", "moved", "new"},
        3: {"held", "kept", "left", "moved", "new"},
        4: {"held", "kept", "left", "moved"},
        5: {"held", "kept", "left", "moved", "new"},
    }
    view = sql_views.snapshot_versions.c
    with known.connect(write=False) as connection:
        for instant in (day(moment), day(moment, hour=20)):
            as_of = (view.valid_from <= instant) & (
                view.valid_to.is_(None) | (view.valid_to > instant)
            )
            found = connection.execute(select(view.snapshot_id).where(as_of)).scalars().all()
            assert sorted(found) == sorted(listed[moment])


# --- replays ------------------------------------------------------------------------------


def test_a_replay_is_linked_by_session_and_view(known: Database):
    assert by_id(known, "current_snapshots", "replay_url") == {
        "kept": f"{REPLAY}?seed=view-1",
        "new": f"{REPLAY}?seed=view-1",
        "moved": REPLAY,
        "held": None,
        "left": None,
    }
    where = "snapshot_id = 'moved' AND version = 1"
    session_0 = "https://app.datadoghq.eu/rum/replay/sessions/session-0"
    for name in ("snapshot_versions", "snapshot_changes"):
        assert values(known, name, "replay_url", where=where) == [(session_0,)]


@pytest.mark.parametrize("session", ["", "../../x", "a?b", "a#b", "a%2e", "a\nb", "é", "<script>"])
def test_an_id_that_would_have_to_be_encoded_gives_no_link(known: Database, session: str):
    change(known, "kept", session_id=session)
    assert by_id(known, "current_snapshots", "replay_url")["kept"] is None
    change(known, "kept", session_id=SESSION, view_id=session)
    assert by_id(known, "current_snapshots", "replay_url")["kept"] == REPLAY


@pytest.mark.parametrize("dialect", ["sqlite"])
@pytest.mark.parametrize("site", [*SITES, "example.com"])
def test_a_link_leads_to_the_application_of_the_site(database: Database, site: str):
    known_history.write(database, app_url=hosts(site, None, None).app_url)
    url = by_id(database, "current_snapshots", "replay_url")["kept"]
    host = SITES.get(site, "app.example.com")
    assert url == f"https://{host}/rum/replay/sessions/{SESSION}?seed=view-1"


def test_a_link_leads_to_the_app_url_that_is_configured(project: Project, api: Api):
    api.views["/home"] = [record("1")]
    project.configure(app_url="https://acme.datadoghq.com")
    project.run()
    url = "https://acme.datadoghq.com/rum/replay/sessions/session-1?seed=view-1"
    assert project.one("SELECT replay_url FROM current_snapshots") == {"replay_url": url}


@pytest.mark.parametrize(
    ("saved", "expires"),
    [
        ("2026-01-01T08:00:00.123456", "2027-04-01T08:00:00.123456"),
        ("2026-11-30T23:59:59.999999", "2028-02-29T23:59:59.999999"),
        ("2025-11-30T00:00:00", "2027-02-28T00:00:00"),
        ("2026-03-31T12:00:00", "2027-06-30T12:00:00"),
        # In Berlin there is summer time between the one and the other.
        ("2026-03-29T01:30:00", "2027-06-29T01:30:00"),
        ("9999-12-31T23:59:59.999999", None),
    ],
)
def test_a_replay_is_thought_to_last_15_months(known: Database, saved: str, expires: str | None):
    instant = datetime.fromisoformat(saved).replace(tzinfo=UTC)
    change(known, "kept", created_at=instant)
    change(known, "moved", modified_at=instant)
    expected = expires and datetime.fromisoformat(expires).replace(tzinfo=UTC)
    found = by_id(known, "current_snapshots", "replay_expires_at")
    assert (found["kept"], found["moved"]) == (expected, expected)
    assert found["held"] is None  # no session, no replay
    change(known, "kept", created_at=None)
    assert by_id(known, "current_snapshots", "replay_expires_at")["kept"] is None


@pytest.mark.parametrize("dialect", ["postgresql"])
def test_the_time_zone_of_a_session_moves_no_instant(known: Database):
    change(known, "kept", created_at=datetime(2026, 1, 30, 23, 30, tzinfo=UTC))
    query = "SELECT replay_expires_at FROM current_snapshots WHERE id = 'kept'"
    with known.connect() as connection:
        connection.execute(text("SET TIME ZONE 'Pacific/Auckland'"))
        found = connection.execute(text(query)).scalar_one()
    assert found == datetime(2027, 4, 30, 23, 30, tzinfo=UTC)


@pytest.mark.parametrize("dialect", ["sqlite"])
def test_sqlites_date_functions_read_every_instant(known: Database):
    with known.connect(write=False) as connection:
        for view in VIEWS:
            for column in view.columns:
                if column.name.endswith("_at"):
                    unread = (
                        f"SELECT COUNT(*) FROM {view.name} WHERE {column.name} IS NOT NULL AND "
                        f"(strftime('%Y-%W', {column.name}) IS NULL"
                        f" OR julianday({column.name}) IS NULL)"
                    )
                    assert connection.execute(text(unread)).scalar() == 0, column


# --- from real runs -----------------------------------------------------------------------


def test_the_first_reading_is_a_baseline_and_later_ones_are_events(project: Project, api: Api):
    api.views["/home"] = [record("a"), record("b")]
    project.run()
    api.views["/home"] = [record("a", snapshot_name="x"), record("c")]
    project.run()
    api.views["/home"] = [record("a", snapshot_name="x"), record("b"), record("c")]
    project.run()
    found = project.rows("SELECT event, snapshot_id FROM snapshot_changes")
    assert sorted((row["snapshot_id"], row["event"]) for row in found) == [
        ("a", "baseline"), ("a", "changed"), ("b", "baseline"), ("b", "removed"),
        ("b", "returned"), ("c", "added"),
    ]  # fmt: skip
    readings = [r["read_at"] for r in project.rows("SELECT read_at FROM sync_run_views ORDER BY 1")]
    spans = project.rows("SELECT DISTINCT not_before, noticed_at FROM snapshot_changes")
    expected = {(None, readings[0]), (readings[0], readings[1]), (readings[1], readings[2])}
    assert {(row["not_before"], row["noticed_at"]) for row in spans} == expected


def watched(project: Project) -> dict[str, bool]:
    found = project.rows("SELECT view_name, is_watched FROM sync_health")
    return {row["view_name"]: bool(row["is_watched"]) for row in found}


def test_a_view_that_is_no_longer_configured_is_not_watched(project: Project, api: Api):
    api.views |= {"/home": [record("a")], "/cart": [record("b", view_name="/cart")]}
    project.watch("/home", "/cart")
    project.run()
    assert watched(project) == {"/home": True, "/cart": True}
    project.run("/home")  # a partial run watches the others too
    assert watched(project) == {"/home": True, "/cart": True}
    project.watch("/home")
    project.run()
    assert watched(project) == {"/home": True, "/cart": False}
    rows = project.rows("SELECT id, is_watched FROM current_snapshots")
    assert {row["id"]: bool(row["is_watched"]) for row in rows} == {"a": True, "b": False}
    project.watch("/home", "/cart")
    project.run()
    assert watched(project) == {"/home": True, "/cart": True}


def test_another_source_keeps_what_it_watches(project: Project, api: Api):
    api.views["/home"] = [record("a")]
    project.run()
    project.config = replace(project.config, source="other", neighbours=("datadoghq.com",))
    project.watch("/cart")
    project.run()
    assert watched(project) == {"/home": True, "/cart": True}


def test_a_run_that_was_refused_changes_nothing_of_it(project: Project, api: Api):
    api.views["/home"] = [record("a")]
    project.run()
    project.configure(discovers=True, views=(), discover_include=("nothing*",))
    with pytest.raises(EtlError, match="no view is known"):
        project.run()
    assert watched(project) == {"/home": True}


def test_before_a_run_has_said_so_a_view_counts_as_watched(known: Database):
    with known.connect() as connection, connection.begin():
        connection.execute(text("UPDATE view_state SET is_watched = NULL"))
    assert {row["is_watched"] for row in rows(known, "sync_health")} == {True}
    assert {row["is_watched"] for row in rows(known, "current_snapshots")} == {True}
    assert {row["source"] for row in rows(known, "view_coverage")} == {SOURCE}
