"""A machine whose clock is wrong: what is refused, what is stored, and how it is repaired."""

import logging
import threading
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from etl.database.dialects.types import UtcDateTime
from etl.database.schema import (
    metadata,
    side_questions,
    snapshot_history,
    snapshots,
    sync_run_views,
    sync_runs,
    view_state,
)
from etl.datadog.server_clock import OLD_DATE
from etl.diagnose.check import OK, PROBLEM, WARNING, find_points
from etl.errors import ClockAhead, LeaseHeld, StoreError
from etl.pipeline.plan import make_plan
from etl.pipeline.run import Options
from etl.pipeline.sync import sync
from etl.source.lease import Lease
from etl.source.repair_clock import NOT_STAMPED, repair_clock, stamped_columns
from tests.support.api import Api, record
from tests.support.moved_clock import moved_clock
from tests.support.project import Project, counts

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SOURCE = "datadoghq.com"


def in_the_future(project: Project) -> dict[str, list[Any]]:
    """What lies ahead, by table and column; the lease and Datadog's own instants do not count."""
    found = {}
    with project.database.connect(write=False) as connection:
        now = datetime.now(UTC)
        for table in metadata.sorted_tables:
            for column in table.c:
                is_own = column.name in ("created_at", "modified_at", "ask_again_at")
                if isinstance(column.type, UtcDateTime) and not is_own:
                    query = select(column).where(column > now)
                    if rows := connection.execute(query).scalars().all():
                        found[str(column)] = list(rows)
    return found


def read(project: Project, query: Any) -> list[Any]:
    with project.database.connect(write=False) as connection:
        return list(connection.execute(query).all())


def latest_run(project: Project) -> Any:
    return read(project, select(sync_runs).order_by(sync_runs.c.started_at.desc()))[0]


@pytest.mark.parametrize("ahead", [2 * HOUR, 3650 * DAY])
def test_a_run_under_a_clock_that_is_ahead_leaves_nothing_in_the_future(
    project: Project, api: Api, ahead: timedelta
) -> None:
    api.views["/home"] = [record("1")]
    with moved_clock(ahead), pytest.raises(ClockAhead, match=r"is .* ahead of the Date of 127"):
        project.run()
    assert in_the_future(project) == {}
    run = latest_run(project)
    assert (run.status, "datadog.accept_wrong_clock" in run.error) == ("failed", True)
    assert abs(run.clock_skew_s - ahead.total_seconds()) < 5
    assert abs(run.started_at - datetime.now(UTC)) < timedelta(minutes=1)
    assert read(project, select(snapshots)) == read(project, select(view_state)) == []
    # The next one, under a clock that is right again, is the newest.
    assert project.run().status == "ok"
    assert latest_run(project).status == "ok"
    assert in_the_future(project) == {}


def test_a_refused_run_prunes_no_ledger_and_leaves_what_others_wrote(
    project: Project, api: Api
) -> None:
    api.views["/home"] = [record("1")]
    project.run()
    project.run()
    died = update(sync_runs).values(status="running", finished_at=None)
    with project.database.connect() as connection, connection.begin():
        connection.execute(died)
    state = read(project, select(view_state))
    with moved_clock(3650 * DAY), pytest.raises(ClockAhead):
        project.run()
    assert [run.status for run in read(project, select(sync_runs.c.status))].count("died") == 2
    assert in_the_future(project) == {}
    assert read(project, select(view_state)) == state


def test_what_got_no_answer_before_is_not_in_the_future_either(project: Project, api: Api) -> None:
    project.watch("/silent", "/home")
    project.configure(concurrency=1, max_wait_s=0.2)
    api.views = {"/silent": (500, {"Age": "0"}, b"{}"), "/home": [record("1")]}
    with moved_clock(2 * DAY), pytest.raises(ClockAhead):
        project.run()
    assert in_the_future(project) == {}
    assert read(project, select(side_questions)) == []


def test_a_plan_and_a_check_say_it_too(project: Project, api: Api) -> None:
    api.views["/home"] = [record("1")]
    stop = threading.Event()
    with moved_clock(2 * HOUR), pytest.raises(ClockAhead):
        make_plan(project.config, project.database, Options(), stop=stop)

    def clock_point() -> tuple[str, str]:
        points = find_points(project.config, stop=stop)
        assert not any(point.is_failed for point in points)
        (point,) = (p for p in points if p.about == "clock")
        return point.verdict, point.text

    with moved_clock(2 * HOUR):
        assert clock_point()[0] == PROBLEM
        project.configure(accept_wrong_clock=True)
        assert clock_point()[0] == WARNING
    project.configure(accept_wrong_clock=False)
    with moved_clock(-3 * HOUR):
        verdict, text = clock_point()
        assert (verdict, "3 h behind that of 127.0.0.1" in text) == (WARNING, True)
    assert clock_point() == (OK, "within 1 s of that of 127.0.0.1")


@pytest.mark.parametrize(("moved_s", "said"), [(120, "ahead of"), (-7200, "behind"), (30, "")])
def test_a_small_skew_and_a_clock_behind_are_only_warned_of(
    project: Project, api: Api, caplog: pytest.LogCaptureFixture, moved_s: int, said: str
) -> None:
    project.watch("/home", "/other")
    api.views = {"/home": [record("1")], "/other": [record("2", view_name="/other")]}
    with caplog.at_level(logging.WARNING), moved_clock(timedelta(seconds=moved_s)):
        run = project.run()
    assert run.status == "ok"
    assert run.clock_skew_s is not None
    assert abs(run.clock_skew_s - moved_s) < 5
    (stored,) = read(project, select(sync_runs.c.clock_skew_s))
    assert stored[0] == run.clock_skew_s
    warned = [r.getMessage() for r in caplog.records if "clock" in r.getMessage()]
    assert len(warned) == bool(said)
    assert all(said in text for text in warned)


def test_a_clock_that_leaps_in_a_run_ends_it_and_leaves_what_is_stored(
    project: Project, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.watch("/large", "/home", "/other")  # the largest answer waits for all others
    project.configure(concurrency=1)
    moved = ExitStack()
    is_stored = threading.Event()
    monkeypatch.setattr("etl.extract.fetch._LINGER_S", 0.0)

    def other() -> list[dict[str, Any]]:
        assert is_stored.wait(20)
        moved.enter_context(moved_clock(2 * DAY))
        return [record("2", view_name="/other")]

    large = [record(n, view_name="/large") for n in "34"]
    api.views = {"/large": large, "/home": [record("1")], "/other": other}

    def note(_: Any) -> None:
        is_stored.set()

    with moved:
        run = sync(project.config, project.database, Options(), stop=project.stop, progress=note)
    assert run.status == "partial"
    assert run.error is not None
    assert "2 days ahead" in run.error or "48 h ahead" in run.error
    assert project.live() == {"1"}
    assert in_the_future(project) == {}


def test_an_old_answer_without_a_word_of_a_cache_proves_no_absence(
    project: Project, api: Api
) -> None:
    project.watch("/home", "/other")
    project.configure(concurrency=1)
    api.views = {"/home": [record("1")], "/other": [record(n, view_name="/other") for n in "23"]}
    project.run()
    fresh, old = api.views["/home"], api.views["/other"][:1]

    def right() -> Any:
        api.clock_s = 0.0
        return [*fresh, record("4")]

    def kept() -> Any:
        api.clock_s = -7200.0
        return old

    api.views = {"/home": right, "/other": kept}
    run = project.run()
    assert [view.verdict for view in run.views] == ["complete", "unproven"]
    assert OLD_DATE in run.views[1].reason
    assert project.live() == {"1", "2", "3", "4"}
    # Also where the old one is the first: another question is asked before the clock is blamed.
    project.watch("/other", "/home")

    def validity(_: object) -> Any:
        api.clock_s = 0.0
        return {"valid": True}

    api.validate = validity
    api.views["/other"] = lambda: kept()[:0]
    run = project.run()
    assert [view.verdict for view in run.views] == ["unproven", "complete"]
    assert project.live() == {"1", "2", "3", "4"}


# --- db repair-clock ----------------------------------------------------------------------


def chains(project: Project) -> dict[str, list[datetime]]:
    """The instants of each snapshot, in the order of its versions."""
    h, s = snapshot_history.c, snapshots.c
    found: dict[str, list[datetime]] = {}
    rows = select(h.snapshot_id, h.valid_from, h.valid_to).order_by(h.snapshot_id, h.version)
    for identifier, begin, end in read(project, rows):
        found.setdefault(identifier, []).extend((begin, end))
    for identifier, begin, end in read(project, select(s.id, s.valid_from, s.removed_at)):
        found.setdefault(identifier, []).extend([begin, *([end] if end else [])])
    return found


def events(project: Project) -> list[tuple[str, str]]:
    rows = project.rows("SELECT snapshot_id, event, noticed_at FROM snapshot_changes")
    return [
        (r["snapshot_id"], r["event"])
        for r in sorted(rows, key=lambda r: (str(r["noticed_at"]), r["snapshot_id"]))
    ]


def lived_through(project: Project, api: Api) -> list[tuple[str, str]]:
    """A run two days ahead amid others; returns the events in the order in which they happened."""
    project.watch("/home", "/other")
    project.configure(hold_min=0, accept_wrong_clock=True)
    other = [record(n, view_name="/other") for n in ("8", "9")]
    home = [record(n) for n in "12345"]

    def run(first: list[Any], second: list[Any]) -> None:
        api.views = {"/home": first, "/other": second}
        assert project.run(accept=True).status == "ok"

    run(home, other)
    with moved_clock(2 * DAY):
        run([*home[1:], record("6", colour="red"), record(None)], other)
    changed = record("2", snapshot_name="Other")
    run([changed, *home[2:], record("6")], other)
    run([home[0], changed, *home[2:4], record("6")], [*other, home[4]])  # "5" moves
    run([home[0], home[1], *home[2:4]], [*other, record("5", snapshot_name="Moved")])
    return [
        *(("1", "baseline"), ("2", "baseline"), ("3", "baseline"), ("4", "baseline")),
        *(("5", "baseline"), ("8", "baseline"), ("9", "baseline")),
        *(("1", "removed"), ("6", "added")),
        *(("2", "changed"), ("6", "changed")),
        ("1", "returned"),
        *(("2", "changed"), ("5", "changed"), ("6", "removed")),
    ]


@pytest.mark.parametrize("at_once", [300, 1])
def test_a_repair_brings_everything_back_in_the_true_order(
    project: Project, api: Api, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr("etl.source.repair_clock._PAIRS_AT_ONCE", at_once)
    happened = lived_through(project, api)
    assert in_the_future(project)
    before, past = chains(project), datetime.now(UTC)
    started = sorted(r[0] for r in read(project, select(sync_runs.c.started_at)))
    plan = repair_clock(project.database, SOURCE, is_plan=True)
    assert chains(project) == before
    lines = repair_clock(project.database, SOURCE)
    assert [line.replace("moved", "would move") for line in lines] != []
    assert [line.split(": ")[0] for line in lines] == [line.split(": ")[0] for line in plan]
    assert all(" moved " in line for line in lines)
    assert in_the_future(project) == {}
    after = chains(project)
    assert {i: len(chain) for i, chain in after.items()} == {i: len(c) for i, c in before.items()}
    for identifier, chain in after.items():
        assert all(a <= b for a, b in pairwise(chain)), identifier
        for old, new in zip(before[identifier], chain, strict=True):
            assert new == old or old > past
        equal = [a == b for a, b in pairwise(chain)]
        assert equal == [a == b for a, b in pairwise(before[identifier])]
    assert sorted(events(project)) == sorted(happened)
    order = {event: number for number, event in enumerate(events(project))}
    assert order[("1", "removed")] < order[("2", "changed")] < order[("6", "removed")]
    assert order[("1", "removed")] < order[("1", "returned")] < order[("5", "changed")]
    # Each reading lies in its run, and one run is over before the next one begins.
    v, r = sync_run_views.c, sync_runs.c
    query = select(v.read_at, r.started_at, r.finished_at, r.clock_skew_s).join(
        sync_runs, v.run_id == r.run_id
    )
    second = timedelta(seconds=1.5)  # what a Date can tell
    for read_at, begin, end, _ in read(project, query):
        assert begin - second <= read_at <= end + second
    assert started != sorted(r[0] for r in read(project, select(sync_runs.c.started_at)))
    # A second time there is nothing left, and the next run is as any other.
    assert "nothing to repair" in repair_clock(project.database, SOURCE)[0]
    assert chains(project) == after
    now = datetime.now(UTC)
    run = project.run()
    assert run.status == "ok"
    assert all(view.read_at and now <= view.read_at <= datetime.now(UTC) for view in run.views)
    assert counts(run) == {"listed": 7, "unchanged": 7}


def test_no_instant_of_any_table_is_forgotten(project: Project, api: Api) -> None:
    """Every column of the catalogue that holds an instant, each in the future by another span."""
    lived_through(project, api)
    far = datetime.now(UTC) + 100 * DAY
    own = {"created_at", "modified_at"}
    with project.database.connect() as connection, connection.begin():
        for name in ("applications", "discovered_views"):
            table = metadata.tables[name]
            values = {"source": SOURCE, "first_seen_at": far, "application_id": "a"}
            others = (
                {"last_seen_at": far}
                if name == "applications"
                else {"discovered_key": "k", "view_name": "/x", "views_30d": 1, "sampled_at": far}
            )
            connection.execute(insert(table).values(values | others))
        question = {"source": SOURCE, "question": "discovery", "failures": 1, "error": "none"}
        later = {"failed_at": far, "ask_again_at": far + HOUR}
        connection.execute(insert(side_questions).values(question | later))
        number = 0
        for table in metadata.sorted_tables:
            for column in table.c:
                if not isinstance(column.type, UtcDateTime) or column.name in own:
                    continue
                number += 1
                if column.name not in NOT_STAMPED:
                    assert column in stamped_columns(table)
                    connection.execute(update(table).values({column: far + number * HOUR}))
        connection.execute(update(sync_runs).values(clock_skew_s=None))  # it was not measured
    repair_clock(project.database, SOURCE)
    assert in_the_future(project) == {}
    is_question = side_questions.c.question == "discovery"
    (question_after,) = read(project, select(side_questions).where(is_question))
    assert question_after.ask_again_at <= datetime.now(UTC) + timedelta(days=400)
    assert project.run().status == "ok"


def test_a_clock_that_is_behind_moves_nothing(project: Project, api: Api) -> None:
    api.views["/home"] = [record("1")]
    assert project.run().status == "ok"
    before = chains(project)
    with (
        moved_clock(-2 * DAY),
        pytest.raises(StoreError, match=r"is behind; set it first|set both clocks first"),
    ):
        repair_clock(project.database, SOURCE)
    assert chains(project) == before


def test_another_source_and_a_run_under_way_are_left_alone(
    project: Project, api: Api, other_api: Api
) -> None:
    lived_through(project, api)
    before = chains(project)
    config = project.config
    other_api.views["/home"] = [record("x", org_id=43)]
    project.configure(source="elsewhere", api_url=other_api.url, neighbours=(SOURCE,))
    assert project.run("/home").status == "ok"
    assert "nothing to repair" in repair_clock(project.database, "elsewhere")[0]
    lease = Lease(SOURCE, 60)
    project.database.transaction(lambda c: lease.take(c, config))
    with pytest.raises(LeaseHeld):
        repair_clock(project.database, SOURCE)
    after = chains(project)
    assert {i: chain for i, chain in after.items() if i in before} == before
    project.database.transaction(lease.release)
    assert "moved" in repair_clock(project.database, SOURCE)[0]
