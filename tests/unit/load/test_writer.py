"""Loading, on each database, through real HTTP: what the tables say after what was listed."""

import json
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from etl.config.views import View
from etl.database import sql_views
from etl.database.migrations import downgrade, upgrade
from etl.load.schema_drift import save_drift
from etl.source.reapply_privacy import apply_privacy
from etl.transform.snapshot import Drift
from tests.support.api import Api, record
from tests.support.project import Project, counts

pytestmark = pytest.mark.every_server

ATTRIBUTES = {
    "application_id": "app-é",
    "created_at": "2026-01-02T03:04:05.678901Z",
    "created_by": "Zoë O'Neil; DROP TABLE x",
    "created_by_handle": "zoë@example.com",
    "created_by_user_id": 2**63 - 1,
    "device_type": "tablet ",
    "event_id": "",
    "is_device_type_selected_by_user": True,
    "modified_at": "2026-01-02T05:04:05.1+02:00",
    "org_id": -(2**63),
    "session_id": None,
    "snapshot_name": "menu 🙂 \\ % ? :x \t\n\r \x1b",
    "start": 0,
    "view_id": "x" * 70_000,
    "view_name": "/a b/ü?x=%2F",
}


def utc(value: Any) -> datetime:
    """SQLite, asked in plain SQL, gives text; the others a datetime, naive on MariaDB."""
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    instant: datetime = value
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)


def test_views_that_share_a_commit_see_each_others_rows(project: Project, api: Api) -> None:
    """An id that three of them list is new to one, and moves to another within one run."""
    own = {"/a": 1, "/b": 2, "/c": 3, "/large": 9}  # the largest is read last, and alone
    for view, count in own.items():
        api.views[view] = [record(f"{view} {n}") for n in range(count)]
    for view in ("/a", "/b", "/c"):
        api.views[view].append(record("shared"))
    project.watch(*own)
    assert counts(project.run()) == {"listed": 18, "new": 16, "foreign_records": 2}
    owner = project.one("SELECT synced_view FROM snapshots WHERE id = 'shared'")["synced_view"]
    api.views[owner].pop()
    assert counts(project.run()) == {"listed": 17, "unchanged": 16, "foreign_records": 1}
    owners = project.rows("SELECT synced_view FROM snapshots WHERE id = 'shared'")
    assert {row["synced_view"] for row in owners} < {"/a", "/b", "/c"} - {owner}
    assert project.rows("SELECT * FROM snapshot_history") == []


def test_each_attribute_stands_in_its_column_exactly(project: Project, api: Api) -> None:
    api.views["/home"] = [record("1", **ATTRIBUTES)]
    project.run()
    row = project.one("SELECT * FROM snapshots")
    expected = ATTRIBUTES | {
        "created_at": datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
        "modified_at": datetime(2026, 1, 2, 3, 4, 5, 100000, tzinfo=UTC),
    }
    expected["start_ms"] = expected.pop("start")
    found = {name: row[name] for name in expected}
    for name in ("created_at", "modified_at"):
        found[name] = utc(found[name])
    found["is_device_type_selected_by_user"] = bool(found["is_device_type_selected_by_user"])
    assert found == expected
    assert row["extra"] is None
    assert (row["source"], row["synced_view"]) == ("datadoghq.com", "/home")


def test_the_order_of_the_tables_columns_decides_nothing(project: Project, api: Api) -> None:
    with project.database.connect() as connection, connection.begin():
        for view in sql_views.NAMES:
            connection.exec_driver_sql(f"DROP VIEW {view}")
        connection.exec_driver_sql("ALTER TABLE snapshots DROP COLUMN created_by")
        connection.exec_driver_sql("ALTER TABLE snapshots ADD COLUMN created_by TEXT")
    api.views["/home"] = [record("1", **ATTRIBUTES)]
    assert counts(project.run()) == {"listed": 1, "new": 1}
    row = project.one("SELECT * FROM snapshots")
    found = {name: row[name] for name in ("application_id", "created_by", "created_by_handle")}
    assert found == {name: ATTRIBUTES[name] for name in found}


def test_a_second_run_writes_no_snapshot_row(project: Project, api: Api) -> None:
    api.views["/home"] = [record(str(n), start=n) for n in range(50)]
    first = project.run()
    before = project.snapshots()
    for is_full in (False, True):
        again = project.run(is_full=is_full)
        assert counts(again) == {"listed": 50, "unchanged": 50}
    assert counts(first) == {"listed": 50, "new": 50}
    assert project.snapshots() == before
    assert project.history() == []


def test_a_change_keeps_the_earlier_content_in_the_history(project: Project, api: Api) -> None:
    api.views["/home"] = [record("1", event_id="old"), record("2")]
    project.run()
    before = project.snapshots()["1"]
    api.views["/home"] = [record("1", event_id="new", session_id=None), record("2")]
    assert counts(project.run()) == {"listed": 2, "changed": 1, "unchanged": 1}
    (past,) = project.history()
    now = project.snapshots()["1"]
    assert (past["snapshot_id"], past["version"], past["event_id"]) == ("1", 1, "old")
    assert (past["began"], past["ended"], past["valid_from"]) == (
        "baseline",
        "changed",
        before["valid_from"],
    )
    assert past["valid_to"] == now["valid_from"] > before["valid_from"]
    assert (now["version"], now["began"], now["event_id"]) == (2, "changed", "new")
    assert now["changed_columns"] == "event_id,session_id"
    assert now["first_seen_at"] == before["first_seen_at"]


def test_what_is_unpinned_keeps_its_row(project: Project, api: Api) -> None:
    api.views["/home"] = [record("1"), record("2")]
    project.run()
    api.views["/home"] = [record("2")]
    run = project.run()
    assert counts(run) == {"listed": 1, "unchanged": 1, "vanished": 1}
    gone = project.snapshots()["1"]
    assert utc(gone["removed_at"]) == run.views[0].read_at
    assert (gone["version"], gone["event_id"]) == (1, "event-1")
    assert project.history() == []


def test_what_returns_has_its_absence_in_the_history(project: Project, api: Api) -> None:
    api.views["/home"] = [record("1"), record("2")]
    project.run()
    api.views["/home"] = [record("2")]
    project.run()
    removed_at = project.snapshots()["1"]["removed_at"]
    api.views["/home"] = [record("1", event_id="new"), record("2")]
    assert counts(project.run()) == {"listed": 2, "returned": 1, "unchanged": 1}
    (past,) = project.history()
    now = project.snapshots()["1"]
    assert (past["ended"], past["valid_to"], past["event_id"]) == ("removed", removed_at, "event-1")
    assert (now["began"], now["version"], now["removed_at"]) == ("returned", 2, None)
    assert now["changed_columns"] == "event_id"
    assert now["valid_from"] > removed_at


def test_a_later_addition_is_no_baseline(project: Project, api: Api) -> None:
    api.views["/home"] = []
    project.run()
    api.views["/home"] = [record("1")]
    project.run()
    assert project.snapshots()["1"]["began"] == "added"


def test_a_full_answer_is_truncated_and_removes_nothing(project: Project, api: Api) -> None:
    project.configure(page_limit=3)
    api.views["/home"] = [record("1"), record("2")]
    project.run()
    api.views["/home"] = [record(str(n)) for n in range(3, 9)]
    run = project.run()
    assert (run.status, run.views[0].verdict) == ("partial", "truncated")
    assert run.views[0].reason.startswith("3 of 3 asked for (fills the limit)")
    assert project.live() == {"1", "2", "3", "4", "5"}
    project.configure(page_limit=100)
    project.run()
    assert project.live() == {"3", "4", "5", "6", "7", "8"}


def test_accepting_truncation_keeps_the_verdict_but_not_the_fault(
    project: Project, api: Api
) -> None:
    project.watch(View("/home", accept_truncated=True))
    project.configure(page_limit=2)
    api.views["/home"] = [record(str(n)) for n in range(5)]
    run = project.run()
    assert (run.status, run.views[0].verdict) == ("ok", "truncated")


def test_a_failed_view_changes_nothing_and_stops_no_other(project: Project, api: Api) -> None:
    project.watch("/home", "/bad")
    api.views |= {"/home": [record("1")], "/bad": [record("2", view_name="/bad")]}
    project.run()
    api.views |= {"/home": [record("1"), record("3")], "/bad": (404, {}, b'{"data": []}')}
    run = project.run()
    assert run.status == "partial"
    assert project.live() == {"1", "2", "3"}
    failed = project.one(
        "SELECT * FROM sync_run_views WHERE run_id = :r AND verdict = 'failed'", r=run.run_id
    )
    assert (failed["view_name"], failed["error_class"]) == ("/bad", "DatadogRequestError")
    assert "404" in failed["error"]
    state = project.one("SELECT * FROM view_state WHERE view_name = '/bad'")
    assert (state["consecutive_failures"], state["listed"]) == (1, 1)
    api.views["/bad"] = []
    project.run()
    state = project.one("SELECT * FROM view_state WHERE view_name = '/bad'")
    assert (state["consecutive_failures"], state["verdict"]) == (0, "complete")


@pytest.mark.parametrize(
    "listing",
    [
        pytest.param(lambda old, new: [old, new], id="later last"),
        pytest.param(lambda old, new: [new, old], id="later first"),
    ],
)
def test_the_same_id_twice_is_one_row_with_the_later_content(
    project: Project, api: Api, listing: Any
) -> None:
    old = record("1", modified_at="2026-02-01T10:00:00Z", event_id="old")
    new = record("1", modified_at="2026-02-01T10:00:01Z", event_id="new")
    api.views["/home"] = listing(old, new)
    assert counts(project.run()) == {"listed": 2, "new": 1, "duplicates": 1}
    assert project.snapshots()["1"]["event_id"] == "new"
    assert counts(project.run()) == {"listed": 2, "unchanged": 1, "duplicates": 1}


def test_ids_that_look_alike_are_different_rows(project: Project, api: Api) -> None:
    ids = ["abc", "ABC", "abc ", " abc", "ábc", "abc", "🙂", "x" * 255, "ß", "ss", "a\u0301bc"]
    unique = sorted(set(ids))
    api.views["/home"] = [record(i) for i in unique]
    project.run()
    assert sorted(project.live()) == unique
    assert counts(project.run(is_full=True)) == {"listed": len(unique), "unchanged": len(unique)}


def test_a_record_without_a_usable_id_is_kept_as_a_reject(project: Project, api: Api) -> None:
    bad = [{"type": "snapshots", "attributes": {"start": 5}}, 7, record("y" * 256)]
    api.views["/home"] = [record("1"), *bad]
    for _ in range(2):
        run = project.run(is_full=True)
        assert run.total("rejected") == 3
    rejects = project.rows("SELECT * FROM rejected_records ORDER BY reason")
    assert [row["reason"] for row in rejects] == [
        "no id",
        "not an object",
        "the id is longer than 255 characters",
    ]
    assert [row["count"] for row in rejects] == [1, 1, 1]  # the answer did not change
    assert json.loads(rejects[0]["raw"]) == bad[0]
    api.views["/home"] = [record("1")]
    project.run()
    rows = project.rows("SELECT * FROM rejected_records WHERE resolved_at IS NOT NULL")
    assert len(rows) == 3


@pytest.mark.parametrize("stood", [[record(None)], [record(None), record("")]])
def test_one_more_of_the_same_unreadable_record_holds_removals_back(
    project: Project, api: Api, stood: list[object]
) -> None:
    api.views["/home"] = [record("1"), record("2"), *stood]
    project.run()
    api.views["/home"] = [record("2"), record(None), record(None)]
    assert project.run().total("vanished") == 0
    api.views["/home"] = [record("2"), record(None), record(None), record("3")]
    assert project.run().total("vanished") == 1


def test_an_unreadable_id_holds_removals_back_until_it_was_there_twice(
    project: Project, api: Api
) -> None:
    api.views["/home"] = [record("1"), record("2")]
    project.run()
    api.views["/home"] = [record("2"), record(None)]
    assert counts(project.run()) == {"listed": 2, "unchanged": 1, "rejected": 1}
    assert project.live() == {"1", "2"}
    run = project.run()
    assert counts(run) == {"listed": 2, "unchanged": 1, "rejected": 1, "vanished": 1}
    assert project.live() == {"2"}


def test_drift_is_counted_once_for_each_changed_answer(project: Project, api: Api) -> None:
    api.views["/home"] = [record("1", theme="dark", start="12"), record("2", theme="light")]
    project.run()
    project.run(is_full=True)
    query = "SELECT name, kind, example, count FROM schema_drift ORDER BY name"
    assert [tuple(row.values()) for row in project.rows(query)] == [
        ("start", "text for integer", '"12"', 1),
        ("theme", "unknown attribute", '"dark"', 2),
    ]
    row = project.snapshots()["1"]
    assert (row["start_ms"], json.loads(row["extra"])) == (12, {"theme": "dark"})
    api.views["/home"] = [record("1", theme="dark", start="12")]
    project.run()
    assert [row["count"] for row in project.rows(query)] == [2, 3]


def test_drift_is_first_and_last_seen_by_readings_whichever_is_written_last(
    project: Project,
) -> None:
    """A view that waits for others is written after them, though its answer came before theirs."""
    early, middle, late = (datetime(2026, 2, 1, 10, n, tzinfo=UTC) for n in range(3))
    drift = {Drift("theme", "unknown attribute"): (2, '"dark"')}
    for read_at in (middle, late, early):
        project.database.transaction(lambda c, at=read_at: save_drift(c, "s", drift, at))  # type: ignore[misc]
    row = project.one("SELECT count, first_seen_at, last_seen_at FROM schema_drift")
    assert row["count"] == 6
    assert (utc(row["first_seen_at"]), utc(row["last_seen_at"])) == (early, late)


def test_what_no_column_can_hold_comes_back_from_extra(project: Project, api: Api) -> None:
    body = (
        b'{"data": [{"id": "1", "type": "snapshots", "attributes": {"created_by": "a\\u0000b",'
        b' "session_id": "\\ud800", "start": 1e400, "org_id": NaN,'
        b' "created_at": "2026-01-01T00:00:00.123456789Z"}}]}'
    )
    api.views["/home"] = body
    assert counts(project.run()) == {"listed": 1, "new": 1}
    assert project.snapshots()["1"]["extra"] == (
        '{"created_at":"2026-01-01T00:00:00.123456789Z","created_by":"a\\u0000b",'
        '"org_id":{"$literal":"NaN"},"session_id":"\\ud800","start":1e400}'
    )
    assert counts(project.run(is_full=True)) == {"listed": 1, "unchanged": 1}


def test_an_id_of_another_source_is_a_reject(project: Project, api: Api) -> None:
    api.views["/home"] = [record("1")]
    project.run()
    project.configure(source="another", neighbours=("datadoghq.com",))
    api.views["/home"] = [record("1", event_id="stolen"), record("2")]
    assert counts(project.run()) == {"listed": 2, "new": 1, "rejected": 1}
    row = project.snapshots()["1"]
    assert (row["source"], row["event_id"]) == ("datadoghq.com", "event-1")
    reject = project.one("SELECT * FROM rejected_records")
    assert reject["reason"] == "the id belongs to another source"
    assert json.loads(reject["raw"]) == record("1", event_id="stolen")


def test_an_id_under_two_views_belongs_to_one(project: Project, api: Api) -> None:
    api.views["/home"] = [record("1", event_id="home")]
    project.run()
    project.watch("/home", "/other")
    others = {"view_name": "/other", "event_id": "other", "modified_at": "2027-01-01T00:00:00Z"}
    api.views["/other"] = [record("1", **others)]
    for _ in range(2):
        assert counts(project.run()) == {"listed": 2, "unchanged": 1, "foreign_records": 1}
    row = project.snapshots()["1"]
    assert (row["synced_view"], row["event_id"]) == ("/home", "home")


@pytest.mark.parametrize("first", ["/home", "/other"])
def test_an_id_moves_when_only_another_view_lists_it(
    project: Project, api: Api, first: str
) -> None:
    second = {"/home": "/other", "/other": "/home"}[first]
    api.views["/home"] = [record("1", event_id="a"), record("2")]
    project.run()
    project.watch(first, second)
    project.configure(concurrency=1)  # one after the other, in this order
    moved = record("1", view_name="/other", event_id="b")
    api.views |= {"/home": [record("2")], "/other": [moved]}
    run = project.run()
    assert run.total("vanished") == run.total("returned") == run.total("new") == 0
    row = project.snapshots()["1"]
    assert (row["synced_view"], row["event_id"], row["removed_at"]) == ("/other", "b", None)
    (past,) = project.history()
    assert (past["synced_view"], past["event_id"], past["ended"]) == ("/home", "a", "changed")
    assert counts(project.run()) == {"listed": 2, "unchanged": 2}


def test_rows_of_a_view_no_longer_configured_stay_and_can_be_taken_over(
    project: Project, api: Api
) -> None:
    api.views["/home"] = [record("1"), record("2")]
    project.run()
    project.watch(View("/home", device_type="desktop"))
    api.views["/home"] = [record("1")]
    assert counts(project.run()) == {"listed": 1, "unchanged": 1}
    rows = project.snapshots()
    assert rows["2"]["removed_at"] is None
    assert rows["1"]["view_key"] != rows["2"]["view_key"]
    assert project.history() == []


def test_a_clock_that_steps_back_makes_no_overlapping_spans(project: Project, api: Api) -> None:
    api.views["/home"] = [record("1", event_id="a")]
    project.run()
    ahead = datetime.now(UTC) + timedelta(days=1)
    moment = ahead.replace(tzinfo=None).isoformat(" ", "microseconds")
    project.execute("UPDATE view_state SET last_read_at = :at", at=moment)
    project.execute("UPDATE snapshots SET valid_from = :at", at=moment)
    if project.database.family == "postgresql":
        project.execute("UPDATE snapshots SET valid_from = timestamptz '" + moment + "+00'")
        project.execute("UPDATE view_state SET last_read_at = timestamptz '" + moment + "+00'")
    api.views["/home"] = [record("1", event_id="b")]
    project.run()
    (past,) = project.history()
    assert utc(past["valid_to"]) > utc(past["valid_from"])
    assert utc(past["valid_to"]) == ahead.replace(microsecond=ahead.microsecond) + timedelta(
        microseconds=1
    )


def test_the_ledger_sums_up(project: Project, api: Api) -> None:
    project.watch("/home", "/other")
    api.views |= {
        "/home": [record(str(n)) for n in range(7)],
        "/other": [record("x", view_name="/other")],
    }
    run = project.run()
    row = project.one("SELECT * FROM sync_runs")
    assert (row["run_id"], row["status"], row["views"]) == (run.run_id, "ok", 2)
    assert (row["listed"], row["new"], row["requests"], row["views_failed"]) == (8, 8, 2, 0)
    views = project.rows("SELECT * FROM sync_run_views ORDER BY view_name")
    assert [(v["view_name"], v["listed"], v["verdict"]) for v in views] == [
        ("/home", 7, "complete"),
        ("/other", 1, "complete"),
    ]
    for view in run.as_json()["views"]:
        parts = ("new", "changed", "unchanged", "returned", "foreign", "duplicates", "rejected")
        assert view["listed"] == sum(view[part] for part in parts)


def test_many_rows_are_written_in_batches(project: Project, api: Api) -> None:
    project.configure(page_limit=10_000)
    api.views["/home"] = [record(f"{n:05}", start=n) for n in range(3003)]
    assert counts(project.run()) == {"listed": 3003, "new": 3003}
    api.views["/home"] = [record(f"{n:05}", start=n + n % 2) for n in range(2003)]
    run = project.run(accept=True)
    assert counts(run) == {"listed": 2003, "changed": 1001, "unchanged": 1002, "vanished": 1000}
    assert len(project.history()) == 1001
    api.views["/home"] = [record(f"{n:05}", start=n + n % 2) for n in range(3003)]
    assert counts(project.run()) == {"listed": 3003, "unchanged": 2003, "returned": 1000}


# --- removals that are held ---------------------------------------------------------------


def test_too_many_removals_at_once_are_held_until_confirmed(project: Project, api: Api) -> None:
    api.views["/home"] = [record(str(n)) for n in range(52)]
    project.run()
    api.views["/home"] = [record(str(n)) for n in range(26)]
    run = project.run()
    assert counts(run) == {"listed": 26, "unchanged": 26, "held": 26}
    assert "26 removals held" in run.views[0].reason
    missing = project.rows(
        "SELECT id, missing_since FROM snapshots WHERE missing_since IS NOT NULL"
    )
    assert {row["id"] for row in missing} == {str(n) for n in range(26, 52)}
    assert {utc(row["missing_since"]) for row in missing} == {run.views[0].read_at}
    assert project.one("SELECT held, shortcut_digest FROM view_state") == {
        "held": 26,
        "shortcut_digest": None,
    }
    api.views["/home"] = [record(str(n)) for n in range(27)]
    run = project.run()
    assert counts(run) == {"listed": 27, "unchanged": 27, "vanished": 25}
    assert project.live() == {str(n) for n in range(27)}
    assert project.rows("SELECT id FROM snapshots WHERE missing_since IS NOT NULL") == []


def test_an_empty_listing_of_a_view_with_rows_is_held(project: Project, api: Api) -> None:
    api.views["/home"] = [record(str(n)) for n in range(3)]
    project.run()
    api.views["/home"] = []
    assert counts(project.run()) == {"held": 3}
    api.views["/home"] = [record(str(n)) for n in range(3)]
    assert counts(project.run()) == {"listed": 3, "unchanged": 3}
    assert project.rows("SELECT id FROM snapshots WHERE missing_since IS NOT NULL") == []
    api.views["/home"] = []
    assert counts(project.run(accept=True)) == {"vanished": 3}


def test_many_views_that_would_lose_everything_wait_for_a_person(
    project: Project, api: Api
) -> None:
    names = [f"/view-{n}" for n in range(4)]
    project.watch(*names)
    rows = {name: [record(f"{name} {n}") for n in range(3 + i)] for i, name in enumerate(names)}
    api.views = dict(rows)
    project.run()
    api.views = {name: [] for name in names}
    for _ in range(3):
        run = project.run()
        assert counts(run) == {"held": 18}
        assert "--accept-removals" in run.views[0].reason
    assert len(project.live()) == 18
    assert counts(project.run(accept=True)) == {"vanished": 18}


def test_keys_of_another_organization_remove_nothing(project: Project, api: Api) -> None:
    project.watch("/home", "/other")
    other = record("3", view_name="/other")
    api.views |= {"/home": [record("1"), record("2")], "/other": [other]}
    project.run()
    api.views |= {"/home": [record("9", org_id=43)], "/other": []}
    run = project.run()
    assert {view.view.name: view.verdict for view in run.views}["/home"] == "failed"
    assert "another organization" in str(run.views[0].error)
    assert project.live() == {"1", "2", "3"}
    assert project.one("SELECT org_id FROM sources") == {"org_id": 42}


def test_a_held_mass_removal_waits_for_a_person_in_later_runs_too(
    project: Project, api: Api
) -> None:
    names = [f"/view-{n}" for n in range(4)]
    project.watch(*names)
    api.views = {
        name: [record(f"{name} {n}") for n in range(3 + i)] for i, name in enumerate(names)
    }
    project.run()
    api.views = {name: [] for name in names}
    assert counts(project.run()) == {"held": 18}
    assert counts(project.run("/view-0")) == {"held": 3}
    api.views = dict.fromkeys(names, (404, {}, b"")) | {"/view-1": []}
    assert project.run().total("vanished") == 0
    assert len(project.live()) == 18
    assert counts(project.run("/view-1", accept=True)) == {"vanished": 4}


def applications_of(org_id: int) -> dict[str, Any]:
    return {"data": [{"id": "x", "type": "rum_application", "attributes": {"org_id": org_id}}]}


def test_empty_answers_with_keys_of_another_organization_remove_nothing(
    project: Project, api: Api
) -> None:
    api.views["/home"] = [record("1"), record("2")]
    project.run()
    api.views["/home"] = []
    api.applications = applications_of(8)
    for _ in range(2):
        run = project.run()
        assert run.total("vanished") == 0
        assert "another organization" in run.views[0].reason
    api.applications = applications_of(42)
    assert project.run().total("vanished") == 2


def test_a_view_that_lost_a_row_to_another_looks_at_its_next_answer(
    project: Project, api: Api
) -> None:
    api.views |= {"/a": [record("x")], "/b": [record("x"), record("y")]}
    for views in (["/a"], ["/b"], ["/a", "/b"]):
        project.watch(*views)
        project.run()
    api.views["/b"] = [record("y")]
    run = project.run()
    assert run.total("vanished") == 0
    assert project.live() == {"x", "y"}
    assert project.snapshots()["x"]["synced_view"] == "/a"


def test_a_filter_that_was_added_and_taken_back_leaves_no_row_behind(
    project: Project, api: Api
) -> None:
    api.views["/a"] = [record(str(n), application_id="AB"[n % 2]) for n in range(7)]
    for view in (View("/a"), View("/a", application_id="A"), View("/a")):
        project.watch(view)
        project.run()
    api.views["/a"] = api.views["/a"][:-1]
    assert project.run().total("vanished") == 1
    assert project.live() == {str(n) for n in range(6)}


@pytest.mark.parametrize("stored", ["e1", "e2"])
def test_a_new_hash_version_is_no_event_for_a_record_listed_twice(
    project: Project, api: Api, stored: str
) -> None:
    api.views["/home"] = [record("x", event_id=stored)]
    project.run()
    project.execute("UPDATE snapshots SET content_hash = 'old:0'")
    api.views["/home"] = [record("x", event_id="e1"), record("x", event_id="e2")]
    run = project.run(is_full=True)
    assert counts(run) == {"listed": 2, "unchanged": 1, "duplicates": 1}
    row = project.one("SELECT event_id, version, content_hash FROM snapshots")
    assert (row["event_id"], row["version"]) == (stored, 1)
    assert not row["content_hash"].startswith("old")


@pytest.mark.parametrize("shortcut", [True, False])
def test_every_reading_that_lists_something_is_the_last_one_that_did(
    project: Project, api: Api, shortcut: bool
) -> None:
    project.configure(shortcut=shortcut)
    api.views["/home"] = [record("1")]
    project.run()
    project.run()
    at = "SELECT last_read_at, last_nonempty_at FROM view_state"
    full = project.one(at)
    assert full["last_nonempty_at"] == full["last_read_at"]
    api.views["/home"] = []
    project.run()
    empty = project.one(at)
    assert empty["last_nonempty_at"] == full["last_nonempty_at"] < empty["last_read_at"]


@pytest.mark.parametrize("change", ["migration", "privacy"])
def test_no_shortcut_hides_what_was_changed_in_our_tables(
    project: Project, api: Api, change: str
) -> None:
    api.views["/home"] = [record("1", **{**ATTRIBUTES, "view_name": "/home"})]
    project.run()
    project.execute("UPDATE snapshots SET device_type = 'other', content_hash = '1:other'")
    assert counts(project.run(), "changed") == {"changed": 0}  # the answer is that of last time
    if change == "migration":
        downgrade(project.database, "-1")
        upgrade(project.database)
    else:
        project.configure(created_by="drop")
        apply_privacy(project.config, project.database, threading.Event())
    assert counts(project.run(), "changed") == {"changed": 1}
    assert project.snapshots()["1"]["device_type"] == ATTRIBUTES["device_type"]
