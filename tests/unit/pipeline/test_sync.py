"""One run: what fails, what is stored all the same, and what the ledger says of it."""

import errno
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from etl.config.views import View
from etl.database.connection import Database, is_there
from etl.errors import ConfigError, DatabaseUnreachable
from etl.extract import fetch
from etl.ledger.results import RunResult, exit_code
from etl.pipeline.plan import make_plan
from etl.pipeline.run import Options
from etl.pipeline.sync import sync
from tests.support.api import Api, Reply, record
from tests.support.project import Project, counts, make_config, open_project

FORBIDDEN: Reply = (403, {}, b'{"errors": [{"title": "Forbidden"}]}')
MANY = [f"/view-{n}" for n in range(12)]


def one_process(project: Project) -> None:
    project.configure(concurrency=1)


def test_refused_keys_end_the_run_before_every_view_was_asked(project: Project, api: Api) -> None:
    project.watch(*MANY)
    api.views = dict.fromkeys(MANY, FORBIDDEN)
    run = project.run()
    assert (exit_code(run), run.status) == (2, "failed")
    assert len(api.requests) < len(MANY)
    assert len(run.views) == len(MANY)
    row = project.one("SELECT status, error, views_failed FROM sync_runs")
    assert (row["status"], row["views_failed"]) == ("failed", len(MANY))
    assert "rum_session_replay_read" in row["error"]
    assert project.snapshots() == {}


def test_keys_refused_after_a_view_was_stored_are_a_partial_run(project: Project, api: Api) -> None:
    one_process(project)
    project.watch(*MANY)
    api.views = dict.fromkeys(MANY, FORBIDDEN) | {MANY[0]: [record("1")]}
    run = project.run()
    assert (exit_code(run), run.status) == (1, "partial")
    assert project.live() == {"1"}


def test_one_forbidden_view_stops_no_other(project: Project, api: Api) -> None:
    one_process(project)
    project.watch(*MANY)
    api.views = {name: [record(name)] for name in MANY} | {MANY[0]: FORBIDDEN}
    run = project.run()
    assert (exit_code(run), run.total("new")) == (1, len(MANY) - 1)


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param((500, {}, b'{"data": []}'), id="500 with an empty listing"),
        pytest.param((204, {}, b""), id="204"),
        pytest.param((302, {"Location": "/elsewhere"}, b'{"data": []}'), id="redirect"),
        pytest.param((200, {}, b'{"data": null}'), id="200 with null data"),
        pytest.param((200, {}, b'{"errors": []}'), id="200 without data"),
        pytest.param((200, {}, b"<html>maintenance</html>"), id="200 with HTML"),
        pytest.param((200, {}, b'{"data": [{"id": '), id="200 cut in the middle"),
        pytest.param((200, {}, b""), id="200 with nothing"),
        pytest.param((429, {}, b'{"data": []}'), id="429 with an empty listing"),
    ],
)
def test_what_is_no_answer_removes_nothing(
    project: Project, api: Api, reply: tuple[int, dict[str, str], bytes]
) -> None:
    project.configure(max_wait_s=0.1)
    api.views["/home"] = [record("1")]
    project.run()
    api.views["/home"] = reply
    run = project.run()
    assert (exit_code(run), run.views[0].verdict) == (1, "failed")
    assert "/home" in str(run.views[0].error)
    assert project.live() == {"1"}


def test_a_fault_that_passes_is_not_a_failure(project: Project, api: Api) -> None:
    replies: Iterator[Reply] = iter([(503, {}, b""), (200, {}, b"{"), (200, {}, b'{"data": []}')])
    project.configure(max_wait_s=20)
    api.views["/home"] = lambda: next(replies)
    run = project.run()
    assert (run.status, run.total("requests")) == ("ok", 3)


def test_missing_keys_are_reported_and_recorded(project: Project) -> None:
    project.configure(keys=None, keys_problem="DD_API_KEY: set it in the environment")
    with pytest.raises(ConfigError, match="DD_API_KEY"):
        project.run()
    row = project.one("SELECT status, error FROM sync_runs")
    assert row == {"status": "failed", "error": "DD_API_KEY: set it in the environment"}
    assert project.one("SELECT lease_token FROM sources") == {"lease_token": None}


def test_missing_keys_make_no_database_file(tmp_path: Path) -> None:
    project = open_project(make_config(f"sqlite:///{tmp_path}/new.db", "http://127.0.0.1:1"))
    project.configure(keys=None, keys_problem="DD_API_KEY: set it")
    with pytest.raises(ConfigError):
        project.run()
    assert list(tmp_path.iterdir()) == []


def test_a_view_that_is_not_configured_is_refused_with_the_nearest(project: Project) -> None:
    with pytest.raises(ConfigError, match='did you mean "/home"'):
        project.run("/hom")


def test_only_the_chosen_views_are_read_and_the_others_stay(project: Project, api: Api) -> None:
    project.watch("/home", "/other")
    api.views |= {"/home": [record("1")], "/other": [record("2")]}
    project.run()
    api.views |= {"/home": [], "/other": []}
    project.run("/other")
    assert project.live() == {"1"}


def test_a_database_error_in_one_view_fails_that_view_alone(project: Project, api: Api) -> None:
    poison(project)
    project.watch(*MANY)
    api.views = {name: [record(f"{name} id")] for name in MANY}
    api.views[MANY[3]] = [record("poison"), record("another")]
    run = project.run()
    assert (exit_code(run), run.total("new")) == (1, len(MANY) - 1)
    assert len(project.live()) == len(MANY) - 1
    failed = project.one("SELECT * FROM sync_run_views WHERE verdict = 'failed'")
    assert (failed["view_name"], failed["error_class"]) == (MANY[3], "StoreError")
    assert "no poison here" in failed["error"]


@pytest.mark.parametrize("order", [("/owner", "/taker"), ("/taker", "/owner")])
def test_a_row_that_a_failing_view_lists_is_not_gone(
    project: Project, api: Api, order: tuple[str, str]
) -> None:
    """Its owner no longer lists it, and the view that does could not be stored."""
    one_process(project)
    project.watch(*order, "/large")
    large = [record(f"large {n}") for n in range(12)]  # so that the two others are whole
    api.views |= {"/owner": [record("x"), record("y")], "/taker": [], "/large": large}
    project.run()
    poison(project)
    api.views |= {"/owner": [record("y")], "/taker": [record("x"), record("poison")]}
    run = project.run()
    assert {view.view.name for view in run.views if view.is_bad} == {"/taker"}
    assert {"x", "y"} < project.live()


def poison(project: Project) -> None:
    """The database refuses one id."""
    if project.database.family == "postgresql":
        project.execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'no poison here'; END $$"
        )
        project.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON snapshots FOR EACH ROW "
            "WHEN (NEW.id = 'poison') EXECUTE FUNCTION refuse()"
        )
    elif project.database.family == "sqlite":
        project.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON snapshots WHEN NEW.id = 'poison' "
            "BEGIN SELECT RAISE(ABORT, 'no poison here'); END"
        )
    else:
        project.execute(
            "CREATE OR REPLACE TRIGGER refuse BEFORE INSERT ON snapshots FOR EACH ROW "
            "IF NEW.id = 'poison' THEN "
            "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no poison here'; END IF"
        )


@pytest.mark.parametrize("dialect", ["postgresql", "mariadb"], indirect=True)
def test_connections_that_break_in_mid_run_lose_nothing(project: Project, api: Api) -> None:
    project.watch(*MANY)
    one_at_a_time = threading.Lock()  # parts are asked together: they would end each other's

    def break_connections() -> list[dict[str, object]]:
        with one_at_a_time:
            kill_others(project)
        return [record("1")]

    api.views = {name: [record(name)] for name in MANY}
    api.views[MANY[5]] = break_connections
    run = project.run()
    project.database.close()  # what was killed may still lie in the pool, for the reads below
    assert (run.status, run.total("new")) == ("ok", len(MANY))
    assert len(project.rows("SELECT * FROM sync_run_views")) == len(MANY)
    assert project.one("SELECT status FROM sync_runs") == {"status": "ok"}


@pytest.mark.parametrize("dialect", ["postgresql"], indirect=True)
def test_a_database_lost_for_good_leaves_what_was_stored(project: Project, api: Api) -> None:
    one_process(project)
    project.watch(*MANY)

    def lose() -> list[dict[str, object]]:
        deadline = time.monotonic() + 10
        while not project.rows("SELECT 1 FROM sync_run_views") and time.monotonic() < deadline:
            time.sleep(0.01)
        name = project.one("SELECT current_database() AS name")["name"]
        other_url = str(project.config.database_url).replace(name, "postgres")
        another = open_project(replace(project.config, database_url=other_url))
        another.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"
        another.rows(terminate, name=name)
        another.database.close()
        return [record("late")]

    api.views = {name: [record(name)] for name in MANY}
    api.views[MANY[5]] = lose
    api.views[MANY[0]] = [record(f"first {n}") for n in range(13)]  # it clears the smaller ones
    run = project.run()
    assert (exit_code(run), run.status) == (1, "partial")
    assert "not currently accepting connections" in str(run.error)
    assert 0 < len(run.views) < len(MANY)


def kill_others(project: Project) -> None:
    if project.database.family == "postgresql":
        project.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return
    mine = project.one("SELECT CONNECTION_ID() AS id")["id"]
    for row in project.rows("SELECT id FROM information_schema.processlist WHERE db = DATABASE()"):
        if row["id"] != mine:
            project.execute(f"KILL {row['id']}")


def test_a_bug_is_recorded_and_raised(project: Project, api: Api) -> None:
    def bug(_: RunResult) -> None:
        raise RuntimeError("a bug")

    api.views["/home"] = [record("1")]
    with pytest.raises(RuntimeError, match="a bug"):
        sync(project.config, project.database, Options(), stop=threading.Event(), progress=bug)
    row = project.one("SELECT status, error FROM sync_runs")
    assert row == {"status": "failed", "error": "a bug: RuntimeError: a bug"}
    assert project.one("SELECT lease_token FROM sources") == {"lease_token": None}


def test_a_view_for_which_no_disk_has_room_fails_alone(
    project: Project, api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The largest listing waits on disk for the others, which may show a limit that cut it."""
    monkeypatch.setattr(fetch, "spill_folders", lambda *_: [tmp_path / "none"])
    one_process(project)
    project.watch("/large", "/small")
    api.views["/large"] = [record(n, view_name="/large") for n in ("1", "2")]
    api.views["/small"] = [record("3", view_name="/small")]
    run = project.run()
    assert (exit_code(run), run.status) == (1, "partial")
    found = {view.view.name: (view.verdict, view.error) for view in run.views}
    assert found["/small"] == ("complete", None)
    verdict, error = found["/large"]
    assert verdict == "failed"
    assert error is not None
    assert "\n" not in error
    assert f"fit neither in memory nor on disk ({tmp_path}/none: No such file" in error
    assert project.live() == {"3"}
    monkeypatch.undo()
    assert project.run().status == "ok"


def test_what_the_system_refuses_is_recorded_as_one_line(project: Project, api: Api) -> None:
    def refuse(_: RunResult) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    api.views["/home"] = [record("1")]
    run = sync(project.config, project.database, Options(), stop=threading.Event(), progress=refuse)
    assert (exit_code(run), run.status) == (1, "partial")
    assert run.error is not None
    assert run.error.startswith("the operating system refused: Too many open files; raise")
    assert project.one("SELECT lease_token FROM sources") == {"lease_token": None}


def test_commits_whose_answers_were_lost_are_noticed(
    project: Project, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each transaction is repeated although it was committed; the lease is given back too."""
    api.views["/home"] = [record("1"), record("2")]
    project.run()
    project.run()
    project.execute("UPDATE sync_runs SET started_at = :at", at="2020-01-01 00:00:00")
    api.views["/home"] = [record("2", start=5), record("3")]
    commit = Database.transaction

    def commit_and_repeat(database: Database, work: Callable[[Connection], Any]) -> Any:
        commit(database, work)
        return commit(database, work)

    monkeypatch.setattr(Database, "transaction", commit_and_repeat)
    run = project.run()
    assert counts(run) == {"listed": 2, "new": 1, "changed": 1, "vanished": 1}
    assert (run.status, project.live()) == ("ok", {"2", "3"})
    assert len(project.history()) == 1
    assert len(project.rows("SELECT 1 FROM sync_runs")) == 1, "the old ones were not deleted"
    assert project.one("SELECT lease_token FROM sources") == {"lease_token": None}


def test_a_stopped_run_keeps_what_it_loaded(project: Project, api: Api) -> None:
    one_process(project)
    project.watch("/home", "/stops", "/later")

    def stop() -> list[dict[str, object]]:
        project.stop.set()
        return []

    api.views |= {"/home": [record("1")], "/stops": stop, "/later": [record("3")]}
    run = project.run()
    assert run.status == "stopped"
    assert project.one("SELECT status FROM sync_runs") == {"status": "stopped"}
    assert "3" not in project.live()
    assert len(api.requests) == 2


def test_progress_is_reported_view_by_view(project: Project, api: Api) -> None:
    project.watch(*MANY)
    seen: list[int] = []
    sync(
        project.config,
        project.database,
        Options(),
        stop=threading.Event(),
        progress=lambda run: seen.append(len(run.views)),
    )
    assert seen == sorted(seen)
    assert seen[-1] == len(MANY)


def test_a_plan_names_each_row_and_leaves_no_trace(project: Project, api: Api) -> None:
    project.watch("/home", View("/other"))
    api.views |= {"/home": [record(i) for i in ("same", "other", "gone", "back")], "/other": []}
    project.run()
    api.views["/home"] = [record(i) for i in ("same", "other", "gone")]
    project.run()
    api.views["/home"] = [
        record("same"),
        record("other", event_id="event-2", start=9),
        record("back"),
        record("fresh", snapshot_name="Fresh"),
    ]
    tables = ("snapshots", "snapshot_history", "sync_runs", "sync_run_views", "view_state")
    before = [project.rows(f"SELECT * FROM {table}") for table in (*tables, "sources")]
    home, other = make_plan(project.config, project.database, Options(), stop=threading.Event())
    assert [(row.id, row.snapshot_name) for row in home.new] == [("fresh", "Fresh")]
    (changed,) = home.changed
    assert changed.before == {"event_id": "event-1", "start_ms": 0}
    assert changed.after == {"event_id": "event-2", "start_ms": 9}
    assert [row.id for row in home.returned] == ["back"]
    assert [row.id for row in home.vanished] == ["gone"]
    assert (home.unchanged, home.listed, other.listed) == (1, 4, 0)
    assert [project.rows(f"SELECT * FROM {table}") for table in (*tables, "sources")] == before
    done = counts(project.run())
    assert done == {
        "listed": 4, "new": 1, "changed": 1, "returned": 1, "vanished": 1, "unchanged": 1
    }  # fmt: skip


def test_a_plan_knows_that_a_row_moves(project: Project, api: Api) -> None:
    one_process(project)
    moving = record("1", view_name=None)
    api.views["/home"] = [moving, record("2")]
    project.run()
    project.watch("/home", "/other")
    api.views |= {"/home": [], "/other": [moving, record("3", view_name="/other")]}
    home, other = make_plan(project.config, project.database, Options(), stop=threading.Event())
    assert [row.id for row in home.vanished] == ["2"]
    assert [row.id for row in other.new] == ["3"]
    assert (other.unchanged, other.foreign) == (1, 0)
    assert counts(project.run(), "vanished", "new", "unchanged", "foreign_records") == {
        "vanished": 1, "new": 1, "unchanged": 1, "foreign_records": 0
    }  # fmt: skip


def test_a_plan_makes_no_database(tmp_path: Path, api: Api) -> None:
    project = open_project(make_config(f"sqlite:///{tmp_path}/new.db", api.url))
    api.views["/home"] = [record("1")]
    (plan,) = make_plan(project.config, project.database, Options(), stop=threading.Event())
    assert [row.id for row in plan.new] == ["1"]
    assert not is_there(project.database)


def test_an_unreachable_database_is_named_without_its_password(api: Api) -> None:
    url = "postgresql://etl:hush-hush@127.0.0.1:1/etl"
    project = open_project(make_config(url, api.url))
    with pytest.raises(DatabaseUnreachable) as caught:
        project.run()
    assert "127.0.0.1" in str(caught.value)
    assert "hush" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert api.requests == []


def test_a_plan_sees_keys_of_another_organization(project: Project, api: Api) -> None:
    project.watch("/home", "/other")
    api.views |= {"/home": [record("1")], "/other": [record("2")]}
    project.run()
    api.views |= {"/home": [record("9", org_id=43)], "/other": []}
    home, other = make_plan(project.config, project.database, Options(), stop=threading.Event())
    assert (home.verdict, "another organization" in home.reason) == ("failed", True)
    assert other.vanished == []
