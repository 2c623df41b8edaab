"""The privacy setting of stored rows: taken, refused, applied in place, killed and resumed."""

import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from etl.cli.output.privacy import privacy_lines
from etl.cli.output.status import status_lines
from etl.database.dialects.sqlite import Sqlite
from etl.errors import LeaseHeld, PrivacyMismatch
from etl.monitor.status import read_status
from etl.pipeline.plan import make_plan
from etl.pipeline.run import Options
from etl.source import reapply_privacy as module
from etl.source.lease import Lease
from etl.source.reapply_privacy import apply_privacy
from etl.transform.privacy import Privacy
from tests.support.api import Api, record
from tests.support.processes import start
from tests.support.project import Project, counts, make_config, open_project

KEY = "planted-hash-key-4711"
PLANTED = ("Lovelace", "planted.example", "987654321987", "Hopper", KEY)

CLOCKS = ("first_seen_at", "last_seen_at", "valid_from", "valid_to", "removed_at", "resolved_at")
SETTINGS: dict[str, dict[str, Any]] = {
    "drop": {"created_by": "drop"},
    "hash": {"created_by": "hash", "hash_key": KEY},
}
SETTINGS["keep"] = {"created_by": "keep", "hash_key": ""}

ADA: dict[str, Any] = {
    "created_by": "Ada Lovelace",
    "created_by_handle": "ada@planted.example",
    "created_by_user_id": 987_654_321_987,
}


def ada(identifier: object, **attributes: Any) -> dict[str, Any]:
    return record(identifier, **{**ADA, **attributes})


def first_answer() -> list[Any]:
    return [
        *(ada(f"id-{number}", created_by=f"Lovelace {number}") for number in range(5)),
        ada("changes"),
        ada("goes"),
        ada("odd", created_by=["Lovelace"], created_by_handle="ada\0@planted.example"),
        {**ada("beside"), "created_by": "Lovelace"},
        ada("unknown", blob={"created_by": "Lovelace"}, created_by_email="ada@planted.example"),
        ada(None),
        ada("", created_by="Grace Hopper"),
        ["text", ADA],
    ]


def second_answer() -> list[Any]:
    answer = [r for r in first_answer() if not (isinstance(r, dict) and r["id"] == "goes")]
    answer[5] = ada("changes", created_by="Grace Hopper", snapshot_name="Another")
    return answer


def fill(project: Project, api: Api) -> None:
    """Rows, history of both kinds, removed rows, rejects and drift."""
    api.views["/home"] = first_answer()
    project.run()
    api.views["/home"] = second_answer()
    project.run()


def applied(project: Project, stop: threading.Event | None = None) -> list[str]:
    """What `privacy apply` prints."""
    done = apply_privacy(project.config, project.database, stop or threading.Event())
    return privacy_lines(done, project.config, project.database)


def apply(project: Project, setting: str, **changes: Any) -> list[str]:
    project.configure(**{**SETTINGS[setting], **changes})
    return applied(project)


TABLES = {
    "snapshots": "id",
    "snapshot_history": "snapshot_id, version",
    "rejected_records": "raw_hash",
    "schema_drift": "name, kind",
}


def stored(project: Project, *, without: tuple[str, ...] = ()) -> dict[str, list[dict[str, Any]]]:
    return {
        table: [
            {name: value for name, value in row.items() if name not in without}
            for row in project.rows(f"SELECT * FROM {table} ORDER BY {key}")
        ]
        for table, key in TABLES.items()
    }


def everything(project: Project) -> str:
    names = [*TABLES, "sync_runs", "sync_run_views", "view_state", "sources"]
    return repr([project.rows(f"SELECT * FROM {name}") for name in names])


def assert_nobody_is_found(project: Project) -> None:
    found = everything(project)
    assert [word for word in PLANTED if word in found] == []


def setting(project: Project) -> str | None:
    found: str | None = project.one("SELECT privacy FROM sources")["privacy"]
    return found


# --- a run under each setting -------------------------------------------------------------


@pytest.mark.parametrize("name", ["hash", "drop"])
def test_a_new_database_takes_the_setting_and_holds_nobody(
    name: str, project: Project, api: Api
) -> None:
    project.configure(**SETTINGS[name])
    fill(project, api)
    assert_nobody_is_found(project)
    assert str(setting(project)).startswith(name)
    run = project.run(is_full=True)
    assert counts(run, "changed", "new", "returned") == {"changed": 0, "new": 0, "returned": 0}


def test_equal_people_are_equal_across_rows(project: Project, api: Api) -> None:
    project.configure(**SETTINGS["hash"])
    api.views["/home"] = [ada("a"), ada("b"), ada("c", created_by="Grace Hopper")]
    project.run()
    rows = project.snapshots()
    assert rows["a"]["created_by"] == rows["b"]["created_by"] != rows["c"]["created_by"]
    assert rows["a"]["created_by_user_id"] == rows["b"]["created_by_user_id"]


# --- a setting that differs ---------------------------------------------------------------


@pytest.mark.parametrize("name", ["hash", "drop"])
def test_a_run_refuses_another_setting_before_any_request(
    name: str, project: Project, api: Api
) -> None:
    fill(project, api)
    before, asked = stored(project), len(api.requests)
    project.configure(**SETTINGS[name])
    with pytest.raises(PrivacyMismatch, match="heatmap-etl privacy apply") as caught:
        project.run()
    assert caught.value.exit_code == 2
    with pytest.raises(PrivacyMismatch, match="heatmap-etl privacy apply"):
        make_plan(project.config, project.database, Options(), stop=threading.Event())
    assert len(api.requests) == asked
    assert stored(project) == before
    run = project.rows("SELECT status, error FROM sync_runs ORDER BY started_at")[-1]
    assert (run["status"], run["error"]) == ("failed", str(caught.value))
    found = read_status(project.config, project.database, max_age_s=None)
    assert found.as_json()["privacy"]["problem"] == str(caught.value)
    assert any("privacy apply" in line for line in status_lines(found))
    project.configure(**SETTINGS["keep"])
    assert project.run().status == "ok"


def test_another_key_is_another_setting(project: Project, api: Api) -> None:
    project.configure(**SETTINGS["hash"])
    fill(project, api)
    project.configure(hash_key="another key that is long")
    with pytest.raises(PrivacyMismatch, match="HEATMAP_ETL_HASH_KEY is not the key") as caught:
        project.run()
    assert "another key" not in str(caught.value)
    project.configure(hash_key=KEY)
    assert project.run().status == "ok"


def test_a_source_without_rows_takes_any_setting(project: Project, api: Api) -> None:
    api.views["/home"] = []
    for name in ("keep", "hash", "drop", "keep"):
        project.configure(**SETTINGS[name])
        assert project.run().status == "ok"
        assert str(setting(project) or "keep").startswith(name)


# --- apply --------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 3)


@pytest.fixture
def other_project(dialect: str, new_database: Callable[..., str], api: Api) -> Any:
    """A second database on the same server."""
    made = open_project(make_config(new_database(dialect), api.url))
    yield made
    made.database.close()


@pytest.mark.parametrize("way", [("keep", "hash"), ("keep", "drop"), ("hash", "drop")])
def test_what_was_rewritten_is_what_a_run_would_have_stored(
    way: tuple[str, str], project: Project, other_project: Project, api: Api
) -> None:
    project.configure(**SETTINGS[way[0]])
    fill(project, api)
    before = stored(project)
    said = apply(project, way[1])
    assert_nobody_is_found(project)
    assert KEY not in "".join(said)
    assert "is now" in said[0]
    other_project.configure(**SETTINGS[way[1]])
    fill(other_project, api)
    # That a dropped column changed was known before it was dropped.
    hidden = (*CLOCKS, "changed_columns") if way[1] == "drop" else CLOCKS
    assert stored(project, without=hidden) == stored(other_project, without=hidden)
    assert setting(project) == setting(other_project)
    after = stored(project)
    for table in ("snapshots", "snapshot_history"):
        names = (
            "version",
            "began",
            "changed_columns",
            *(c for c in CLOCKS if c in before[table][0]),
        )
        assert [[row[n] for n in names] for row in before[table]] == [
            [row[n] for n in names] for row in after[table]
        ]


@pytest.mark.parametrize("way", [("keep", "hash"), ("keep", "drop"), ("hash", "drop")])
@pytest.mark.parametrize("is_full", [True, False])
def test_the_next_run_sees_nothing_new(
    way: tuple[str, str], is_full: bool, project: Project, api: Api
) -> None:
    project.configure(**SETTINGS[way[0]])
    fill(project, api)
    apply(project, way[1])
    before = stored(project)
    run = project.run(is_full=is_full)
    assert counts(run) == {"listed": 12, "unchanged": 9, "rejected": 3}
    assert stored(project) == before
    # A changed answer: what was rejected before is found again, and counted.
    api.views["/home"] = [*second_answer(), ada("more")]
    project.run()
    after = stored(project)
    assert [r["raw_hash"] for r in after["rejected_records"]] == [
        r["raw_hash"] for r in before["rejected_records"]
    ]
    assert {r["count"] for r in after["rejected_records"]} == {3}
    assert all(r["resolved_at"] is None for r in after["rejected_records"])
    assert len(after["snapshots"]) == len(before["snapshots"]) + 1
    assert after["snapshot_history"] == before["snapshot_history"]


def test_rejects_that_become_equal_are_counted_together(project: Project, api: Api) -> None:
    api.views["/home"] = [ada(None), ada(None, created_by="Grace Hopper")]
    project.run()
    api.views["/home"] = [ada(None), ada(None, created_by="Grace Hopper"), ada(None, view_id="v")]
    project.run()
    apply(project, "drop")
    found = project.rows("SELECT * FROM rejected_records")
    assert sorted(row["count"] for row in found) == [1, 4]
    before = stored(project)
    assert counts(project.run(is_full=True)) == {"listed": 3, "rejected": 3}
    assert stored(project) == before


def test_only_the_rows_of_the_source_are_rewritten(project: Project, api: Api) -> None:
    fill(project, api)
    project.execute("UPDATE snapshots SET source = 'other' WHERE id = 'id-0'")
    before = project.snapshots()["id-0"]
    apply(project, "drop")
    assert project.snapshots()["id-0"] == before
    assert project.snapshots()["id-1"]["created_by"] is None


def test_applied_twice_is_applied_once(project: Project, api: Api) -> None:
    fill(project, api)
    apply(project, "hash")
    before = stored(project)
    assert "nothing to rewrite" in apply(project, "hash")[0]
    assert stored(project) == before


def wide_answer() -> list[Any]:
    """Persons in every place that the rules name."""
    return [
        ada("pair", pair=[{"value": "Lovelace", "name": "createdBy"}], owner="Hopper"),
        ada("same", snapshot_name="ada lovelace ", nick=["Ada Lovelace"], color="red"),
        {**ada("beside"), "creator": {"handle": "ada@planted.example", "name": "Ada Lovelace"}},
        ada("tag", tags=["env:prod", "owner:Hopper"], **{"ada@planted.example": 1}),
        ada("lead", team_lead="Grace Hopper"),
        ada(None, modified_by="Grace Hopper", x="grace hopper"),
        "user: Hopper",
    ]


@pytest.mark.parametrize("name", ["hash", "drop"])
def test_every_place_is_reached_and_nothing_changes_by_it(
    name: str, project: Project, api: Api
) -> None:
    wide = {**SETTINGS[name], "person_attributes": ("teamLead",)}
    api.views["/home"] = wide_answer()
    project.run()
    project.execute("UPDATE sync_runs SET error = 'no such user: Ada Lovelace'")
    project.execute(
        "UPDATE sync_run_views SET error = 'Grace Hopper', reason = 'Hopper', verdict = 'failed'"
    )
    project.execute("UPDATE view_state SET reason = 'Ada Lovelace', verdict = 'failed'")
    project.configure(**wide)
    assert "message" in applied(project)[0]
    assert_nobody_is_found(project)
    assert project.one("SELECT error FROM sync_runs")["error"] == module.CLEARED
    before = stored(project)
    run = project.run(is_full=True)
    assert counts(run) == {"listed": 7, "unchanged": 5, "rejected": 2}
    assert stored(project) == before
    assert_nobody_is_found(project)


@pytest.mark.parametrize("name", ["hash", "drop"])
def test_more_attributes_are_another_setting_but_no_event(
    name: str, project: Project, api: Api
) -> None:
    project.configure(**SETTINGS[name])
    api.views["/home"] = wide_answer()
    project.run()
    assert "Grace Hopper" in everything(project)
    before = stored(project)
    project.configure(person_attributes=("team_lead",))
    with pytest.raises(PrivacyMismatch, match=r"privacy\.person_attributes, or .* privacy apply"):
        project.run()
    applied(project)
    assert_nobody_is_found(project)
    run = project.run()
    assert counts(run) == {"listed": 7, "unchanged": 5, "rejected": 2}
    after = stored(project)
    assert after["snapshot_history"] == []
    assert [r["version"] for r in after["snapshots"]] == [1] * 5
    assert [r["valid_from"] for r in after["snapshots"]] == [
        r["valid_from"] for r in before["snapshots"]
    ]
    assert_nobody_is_found(project)
    assert counts(project.run(is_full=True), "changed", "new") == {"changed": 0, "new": 0}
    assert stored(project) == after


def hide_as_before(project: Project, name: str) -> None:
    """Hide the columns of persons as the release before did: fewer rules, none in the marks."""
    hidden = {"hash": Privacy("hash", KEY), "drop": Privacy("drop")}[name]
    mark = hidden.mark[:17].removesuffix("2")
    columns = {c: hidden.column(c, ADA[c]) for c in ADA}
    changes = ", ".join(f"{column} = :{column}" for column in columns)
    project.execute(
        f"UPDATE snapshots SET {changes}, content_hash = REPLACE(content_hash, '1:', '1{mark}:')",
        **columns,
    )
    before = {"hash": f"hash:{mark[1:]}", "drop": "drop"}[name]
    project.execute("UPDATE sources SET privacy = :setting", setting=before)


@pytest.mark.parametrize("name", ["hash", "drop"])
def test_rows_that_earlier_rules_left_are_brought_along(
    name: str, project: Project, api: Api
) -> None:
    """As the release before left them: fewer rules, and none named in the marks."""
    api.views["/home"] = wide_answer()
    project.run()
    hide_as_before(project, name)
    project.configure(**SETTINGS[name])
    with pytest.raises(PrivacyMismatch, match="what this program knows to hold a person"):
        project.run()
    applied(project)
    # What was dropped cannot be compared; a hash can, with a text as it was.
    beyond = ("lead", "same", "tag") if name == "drop" else ("lead", "same")
    found = repr([row for i, row in project.snapshots().items() if i not in beyond])
    assert [word for word in PLANTED if word in found] == []
    run = project.run(is_full=True)
    assert counts(run, "changed", "new", "returned") == {"changed": 0, "new": 0, "returned": 0}
    assert project.history() == []
    rows = repr(project.rows("SELECT * FROM snapshots WHERE id <> 'lead'"))
    assert [word for word in PLANTED if word in rows] == []


@pytest.mark.parametrize("name", ["hash", "drop"])
def test_no_example_keeps_whom_earlier_rules_hid_in_the_rows(
    name: str, project: Project, api: Api
) -> None:
    """No reading replaces an example: the first one of a name stays."""
    api.views["/home"] = [ada("same", nick="ada lovelace ", count=3, parts=["ADA LOVELACE"])]
    project.run()
    hide_as_before(project, name)
    apply(project, name)
    examples = {
        row["name"]: str(row["example"]) for row in project.rows("SELECT * FROM schema_drift")
    }
    assert "lovelace" not in repr(examples).casefold()
    assert examples["count"] == "3"


# --- what cannot be brought back ----------------------------------------------------------


@pytest.mark.parametrize(
    "way",
    [("hash", "keep"), ("drop", "keep"), ("drop", "hash"), ("hash", "other-key")],
    ids="-to-".join,
)
def test_a_wider_setting_comes_with_the_next_reading_and_is_no_event(
    way: tuple[str, str], project: Project, api: Api
) -> None:
    project.configure(**SETTINGS[way[0]])
    fill(project, api)
    before = stored(project)
    wider = (
        {"created_by": "hash", "hash_key": "x" * 16} if way[1] == "other-key" else SETTINGS[way[1]]
    )
    project.configure(**wider)
    said = applied(project)
    assert any("cannot be brought back" in line for line in said)
    assert stored(project) == before
    run = project.run()
    assert counts(run, "changed", "new", "returned", "vanished", "unchanged") == {
        "changed": 0,
        "new": 0,
        "returned": 0,
        "vanished": 0,
        "unchanged": 9,
    }
    after = stored(project)
    assert after["snapshot_history"] == before["snapshot_history"]
    rows = {row["id"]: row for row in after["snapshots"]}
    for row in before["snapshots"]:
        same = (*CLOCKS[2:3], "version", "began", "changed_columns", "removed_at", "first_seen_at")
        assert [row[name] for name in same] == [rows[row["id"]][name] for name in same]
        is_listed = row["removed_at"] is None
        assert (rows[row["id"]]["created_by_handle"] != row["created_by_handle"]) == (
            is_listed and row["id"] != "odd"
        )
    if way[1] == "keep":
        assert rows["id-0"]["created_by_handle"] == ADA["created_by_handle"]
    project.run(is_full=True)
    assert stored(project) == after


def test_a_change_beside_a_wider_setting_is_a_change_of_its_own_columns(
    project: Project, api: Api
) -> None:
    project.configure(**SETTINGS["drop"])
    fill(project, api)
    apply(project, "keep")
    api.views["/home"] = [*second_answer()[1:], ada("id-0", snapshot_name="New"), ada("goes")]
    run = project.run()
    assert counts(run, "changed", "returned", "new") == {"changed": 1, "returned": 1, "new": 0}
    rows = project.snapshots()
    assert rows["id-0"]["changed_columns"] == "snapshot_name"
    assert rows["id-0"]["created_by"] == ADA["created_by"]
    assert rows["goes"]["changed_columns"] is None


def test_back_and_forth_never_hashes_a_hash(project: Project, api: Api) -> None:
    project.configure(**SETTINGS["hash"])
    fill(project, api)
    before = stored(project)
    apply(project, "keep")
    api.views["/home"] = second_answer()[:3]
    project.run()  # some rows are plain now, the others and the history hashed still
    apply(project, "hash")
    assert_nobody_is_found(project)
    names = ("id", "created_by", "created_by_handle", "created_by_user_id", "extra", "content_hash")
    assert [[row[n] for n in names] for row in stored(project)["snapshots"]] == [
        [row[n] for n in names] for row in before["snapshots"]
    ]
    assert stored(project)["snapshot_history"] == before["snapshot_history"]


# --- one at a time, killed and resumed ----------------------------------------------------


def test_neither_works_while_the_other_does(project: Project, api: Api) -> None:
    fill(project, api)
    lease = Lease(project.config.source, 60)
    project.database.transaction(lambda connection: lease.take(connection, project.config))
    before = stored(project)
    with pytest.raises(LeaseHeld) as caught:
        apply(project, "drop")
    assert caught.value.exit_code == 75
    assert stored(project) == before
    assert setting(project) is None


def test_stopped_it_leaves_off_and_goes_on(project: Project, api: Api) -> None:
    fill(project, api)
    project.configure(**SETTINGS["hash"])
    stop = threading.Event()
    stop.set()
    assert applied(project, stop) == []
    assert str(setting(project)).startswith("applying:hash:")
    with pytest.raises(PrivacyMismatch, match="cut short"):
        project.run()
    apply(project, "hash")
    assert_nobody_is_found(project)
    assert project.run().status == "ok"


_KILLED = """
import os, signal, sys, threading
from dataclasses import replace
from etl.source import reapply_privacy as module
from etl.database.connection import Database
from tests.support.project import make_config, open_project

url, created_by, key = sys.argv[1:]
module.BATCH, calls, moment, real = 2, 0, 0, Database.transaction

def transaction(self, work):
    def counted(connection):
        global calls
        if threading.current_thread() is threading.main_thread():
            calls += 1
            if calls == moment:
                work(connection)
                os.kill(os.getpid(), signal.SIGKILL)
        return work(connection)
    return real(self, counted)

Database.transaction = transaction
config = replace(make_config(url, "http://127.0.0.1:9"), created_by=created_by, hash_key=key)
open_project(config).database.close()  # its driver is imported
# A process of its own for each moment, without all the imports.
for line in sys.stdin:
    moment, child = int(line), os.fork()
    if child == 0:
        module.apply_privacy(config, open_project(config).database, threading.Event())
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hash", "drop"])
def test_killed_at_any_moment_and_run_again_it_ends_the_same(
    name: str,
    database_url: str,
    dialect: str,
    project: Project,
    other_project: Project,
    api: Api,
) -> None:
    fill(project, api)
    fill(other_project, api)
    apply(other_project, name)
    project.configure(**SETTINGS[name])
    with start(_KILLED, database_url, name, project.config.hash_key) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for moment in (2, 3, 6, 8, 10, 12, 13, 14):
            print(moment, file=process.stdin, flush=True)
            assert process.stdout.readline() == f"{-signal.SIGKILL}\n"
            with pytest.raises(PrivacyMismatch, match="privacy apply"):
                project.run()
        assert process.communicate(timeout=60)[1] == ""
    apply(project, name)
    assert stored(project, without=CLOCKS) == stored(other_project, without=CLOCKS)
    assert setting(project) == setting(other_project)
    assert project.run(is_full=True).status == "ok"
    assert stored(project, without=CLOCKS) == stored(other_project, without=CLOCKS)


# --- SQLite's file ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["hash", "drop"])
def test_nothing_remains_in_the_file(name: str, new_database: Callable[..., str], api: Api) -> None:
    url = new_database("sqlite")
    project = open_project(make_config(url, api.url))
    fill(project, api)
    with project.database.connect(write=False) as connection:
        path = Path(str(connection.execute(text("PRAGMA database_list")).one()[2]))
    apply(project, name)
    for file in path.parent.glob(f"{path.name}*"):
        content = file.read_bytes()
        assert [word for word in PLANTED if word.encode() in content] == []
    project.database.close()


def test_a_reader_that_keeps_the_log_is_told_of(
    new_database: Callable[..., str], api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Sqlite, "compact", lambda _self, _connection: False)
    project = open_project(make_config(new_database("sqlite"), api.url))
    fill(project, api)
    assert any("Another process has the file open" in line for line in apply(project, "drop"))
    project.database.close()
