"""Whole runs against a server that misbehaves on the socket, and what they hold in memory."""

import gc
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from sqlalchemy import event

from etl.datadog import retry
from etl.diagnose.check import _read_views
from etl.extract import buffer
from etl.extract.buffer import MAX_BODIES, Slot
from etl.extract.fetch import Failed
from etl.extract.listing import Listing
from etl.pipeline.plan import make_plan
from etl.pipeline.run import Options
from etl.transform.snapshot import Decoded
from tests.support import raw_server as raw
from tests.support.api import record
from tests.support.paths import ROOT
from tests.support.project import Project, make_config, open_project
from tests.support.raw_server import RawServer, Reply, answer, reply, view_of

KINDS = {
    "429, a reset": reply(429, "", {"X-RateLimit-Reset": "0.05"}),
    "429, a whole second": reply(429, "", {"X-RateLimit-Reset": "1", "X-RateLimit-Remaining": "0"}),
    "429, Retry-After": reply(429, "", {"Retry-After": "1"}),
    "429, Retry-After 0": reply(429, "", {"Retry-After": "0"}),
    "429, nothing": reply(429, '{"errors": ["Too many requests"]}'),
    "500": reply(500, "oops"),
    "503, Retry-After": reply(503, "", {"Retry-After": "1"}),
    "reset": raw.RESET,
    "hung up": raw.HUNG_UP,
    "half a body": raw.CUT,
    "reset in the body": raw.RESET_IN_BODY,
    "bad gzip": raw.BAD_GZIP,
    "cut gzip": raw.CUT_GZIP,
    "spoilt gzip": raw.SPOILT_GZIP,
    "HTML": reply(200, "<html><title>Sorry</title></html>"),
    "empty": reply(200, ""),
    "wrong JSON": reply(200, {"data": {"0": {}}}),
    "no data": reply(200, {"errors": ["who knows"]}),
    "an array": reply(200, "[]"),
    "no HTTP": raw.NO_HTTP,
    "slow": reply(200, '{"data": []}', pause_s=0.4),
}


@pytest.fixture
def open_on(new_database: Callable[..., str]) -> Iterator[Callable[..., Project]]:
    """A project on SQLite that asks this server for these views."""
    made: list[Project] = []

    def make(server: RawServer, views: list[str], **settings: object) -> Project:
        made.append(open_project(make_config(new_database("sqlite"), server.url, views)))
        made[-1].configure(**{"max_wait_s": 60.0, **settings})
        return made[-1]

    yield make
    for project in made:
        project.database.close()


# --- faults -------------------------------------------------------------------------------


def test_a_run_through_faults_of_all_kinds_ends_with_every_row(
    open_on: Callable[..., Project], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "BASE_S", 0.02)
    sizes = {f"/view-{n}": n for n in range(1, 62)}
    kinds = random.Random(3).sample(list(KINDS), len(KINDS))
    tries: Counter[str] = Counter()
    faults: Counter[str] = Counter()

    def misbehave(head: bytes) -> Reply:
        view = view_of(head)
        if view not in sizes:
            return reply(404, "")
        tries[view] += 1
        if random.Random(f"{view} {tries[view]}").random() >= 0.4:
            return answer(view, sizes[view])
        kind = kinds[sum(faults.values()) % len(kinds)]
        faults[kind] += 1
        return KINDS[kind]

    with RawServer(otherwise=misbehave) as server:
        project = open_on(server, list(sizes), concurrency=6, timeout_s=0.3)
        run = project.run()
    assert run.status == "ok"
    assert {v.verdict for v in run.views} == {"complete"}
    assert run.total("new") == len(project.live()) == sum(sizes.values())
    assert run.total("requests") == tries.total() == 61 + faults.total()
    assert faults.total() > 0.35 * tries.total()
    assert len(faults) == len(KINDS)
    assert server.most_in_flight <= 6


def test_a_view_that_never_answers_fails_alone_within_its_budget(
    open_on: Callable[..., Project],
) -> None:
    def misbehave(head: bytes) -> Reply:
        view = view_of(head)
        return reply(500, "oops") if view == "/bad" else answer(view, 2)

    with RawServer(otherwise=misbehave) as server:
        project = open_on(server, ["/good", "/bad", "/better"], max_wait_s=0.5)
        begun = time.monotonic()
        verdicts = {v.view.name: v.verdict for v in project.run().views}
    assert verdicts == {"/good": "complete", "/bad": "failed", "/better": "complete"}
    assert time.monotonic() - begun < 5


def test_the_parts_of_a_view_share_its_budget(open_on: Callable[..., Project]) -> None:
    """Each of eight parts is told to wait; together they wait no longer than one view may."""
    tries: Counter[str] = Counter()

    def limited(head: bytes) -> Reply:
        if b"rum/applications" in head:
            return reply(200, {"data": [{"id": f"app-{n}"} for n in range(8)]})
        tries[head.split(b" ")[1].decode()] += 1
        if b"application_id" in head and tries[head.split(b" ")[1].decode()] == 1:
            return reply(429, "", {"X-RateLimit-Reset": "0.3"})
        return answer("/home", 1 if b"application_id" in head else 12)

    with RawServer(otherwise=limited) as server:
        project = open_on(server, ["/home"], max_wait_s=1.0, page_limit=12, concurrency=1)
        (result,) = project.run().views
    asked = sum("application_id" in target for target in server.targets)
    # At most three waits of 0.3 s, and a fourth that would be too long.
    assert asked <= 3 * 2 + 2
    assert result.verdict == "truncated"
    assert "would exceed max_wait_s = 1" in result.reason
    assert len(project.live()) == 12


def test_a_server_that_heeds_no_filter_is_not_asked_for_every_part(
    open_on: Callable[..., Project],
) -> None:
    """Ten views of one size look like a cap, and each would be asked for 40 applications."""
    views = [f"/view {n}" for n in range(10)]
    rows = {
        v: [record(f"{v} {n}", view_name=v, application_id=f"app {v} {n % 4}") for n in range(17)]
        for v in views
    }

    def ignores_filters(head: bytes) -> Reply:
        if b"rum/applications" in head:
            return reply(403, '{"errors": ["Forbidden"]}')
        return reply(200, {"data": rows[view_of(head)]})

    with RawServer(otherwise=ignores_filters) as server:
        project = open_on(server, views, concurrency=4)
        run = project.run()
    assert {v.verdict for v in run.views} == {"unproven"}
    assert all("ignores the filter" in v.reason for v in run.views)
    assert len(project.live()) == 170
    # The whole, the first parts, and those that were on their way when the first one came.
    assert len(server.targets) <= 10 * (1 + 3 * 4) + 2


def test_views_without_any_answer_stop_no_other(open_on: Callable[..., Project]) -> None:
    views = [*(f"/dead {n}" for n in range(9)), "/good", "/better"]

    def reset(head: bytes) -> Reply:
        return raw.RESET if "dead" in view_of(head) else answer(view_of(head), 2)

    with RawServer(otherwise=reset) as server:
        project = open_on(server, views, max_wait_s=0.02)
        run = project.run()
    assert {v.view.name for v in run.views if v.verdict == "complete"} == {"/good", "/better"}
    assert run.status == "partial"


def test_refused_views_stop_no_other_once_the_keys_have_opened_one(
    open_on: Callable[..., Project],
) -> None:
    views = ["/open", *(f"/admin {n}" for n in range(9)), "/good"]

    def refuse(head: bytes) -> Reply:
        view = view_of(head)
        return reply(403, "<h1>Forbidden</h1>") if "admin" in view else answer(view, 2)

    with RawServer(otherwise=refuse) as server:
        project = open_on(server, views, concurrency=1)
        run = project.run()
    assert {v.view.name for v in run.views if v.verdict == "complete"} == {"/open", "/good"}


def test_without_any_answer_at_all_few_views_are_asked(open_on: Callable[..., Project]) -> None:
    with RawServer(otherwise=raw.RESET) as server:
        project = open_on(server, [f"/{n}" for n in range(60)], max_wait_s=0.0, concurrency=2)
        run = project.run()
    assert {v.verdict for v in run.views} == {"failed"}
    assert 30 <= len(server.heads) <= 31
    assert sum("not asked" in (v.error or "") for v in run.views) == 60 - len(server.heads)


# --- how many at once ---------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", [1, 3])
def test_requests_in_flight_are_as_many_as_allowed_and_no_more(
    open_on: Callable[..., Project], concurrency: int
) -> None:
    def after_a_while(head: bytes) -> Reply:
        ready = threading.Event()
        threading.Timer(0.02, ready.set).start()
        return answer(view_of(head), 2, wait_for=ready)

    with RawServer(otherwise=after_a_while) as server:
        project = open_on(server, [f"/{n}" for n in range(12)], concurrency=concurrency)
        project.run()
    assert server.most_in_flight == concurrency


def test_a_used_up_limit_pauses_every_thread_of_the_run(open_on: Callable[..., Project]) -> None:
    all_three = threading.Barrier(3)
    arrivals: list[float] = []

    def note(head: bytes) -> Reply:
        arrivals.append(time.monotonic())
        if len(arrivals) > 3:
            return answer(view_of(head), 2)
        used_up = {"X-RateLimit-Remaining": 0, "X-RateLimit-Reset": "0.5"}
        return reply(200, '{"data": []}', used_up, meet=all_three)

    with RawServer(otherwise=note) as server:
        project = open_on(server, [f"/{n}" for n in range(12)], concurrency=3)
        run = project.run()
    assert run.status == "ok"
    assert min(arrivals[3:]) - max(arrivals[:3]) >= 0.49


def test_rows_are_in_the_database_before_the_last_view_has_answered(
    open_on: Callable[..., Project],
) -> None:
    rows_are_there = threading.Event()
    names = ["/large", *(f"/{n}" for n in range(6)), "/last"]

    def hold_the_last(head: bytes) -> Reply:
        view = view_of(head)
        return answer(view, 9 if view == "/large" else 2, wait_for=held.get(view))

    held = {"/last": rows_are_there}
    with RawServer(otherwise=hold_the_last) as server:
        project = open_on(server, names, concurrency=2)
        seen: list[int] = []

        def watch() -> None:
            for _ in range(500):
                seen.append(len(project.live()))
                if seen[-1] >= 12:
                    break
                time.sleep(0.01)
            rows_are_there.set()

        watching = threading.Thread(target=watch)
        watching.start()
        project.run()
        watching.join()
    assert seen[-1] == 12  # of each small view but the last; the largest waits
    assert len(project.live()) == 9 + 2 * 7


def test_parts_that_nobody_waits_for_any_more_give_their_room_back(
    open_on: Callable[..., Project],
) -> None:
    """Of eight views, each with a part that never answers: nobody reads the others of its parts."""
    apps = [f"app-{n:02}" for n in range(16)]
    names = [f"/{n}" for n in range(8)]

    def answer_part(head: bytes) -> Reply:
        if b"rum/applications" in head:
            return reply(200, {"data": [{"id": app} for app in apps]})
        if b"app-03" in head:
            return reply(500, "oops")
        return answer(view_of(head), 1 if b"application_id" in head else 20)

    with RawServer(otherwise=answer_part) as server:
        project = open_on(server, names, concurrency=8, max_wait_s=0.05)
        run = threading.Thread(target=project.run, daemon=True)
        run.start()
        run.join(30)
    assert not run.is_alive()
    assert len(project.live()) == 8 * 20


def test_check_asks_for_more_views_than_there_is_room_for(
    open_on: Callable[..., Project],
) -> None:
    names = [f"/{n}" for n in range(20)]

    def fewer_each_time(head: bytes) -> Reply:
        return answer(view_of(head), 40 - len(server.heads))

    with RawServer(otherwise=fewer_each_time) as server:
        project = open_on(server, names)
        found: list[Listing | Failed] = []

        def ask() -> None:
            found.extend(_read_views(project.config, project.stop, lambda *_: None))

        work = threading.Thread(target=ask, daemon=True)
        work.start()
        work.join(20)
    assert not work.is_alive()
    assert len(found) == 20


class Counting(Slot):
    """How many slots are taken."""

    lock = threading.Lock()
    taken = most = 0

    def take(self) -> None:
        was_taken = self._is_taken
        super().take()
        self.count(self._is_taken - was_taken)

    def take_now(self) -> bool:
        was_taken = self._is_taken
        super().take_now()
        self.count(self._is_taken - was_taken)
        return self._is_taken

    def count(self, more: int) -> None:
        with self.lock:
            Counting.taken += more
            Counting.most = max(Counting.most, Counting.taken)

    def free(self) -> None:
        self.count(-self._is_taken)
        super().free()


def test_a_slow_database_leaves_at_most_eight_bodies_in_memory(
    open_on: Callable[..., Project], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buffer, "Slot", Counting)
    Counting.taken = Counting.most = 0
    names = ["/large", *(f"/{n}" for n in range(30))]
    sent: list[str] = []
    is_locked = threading.Event()

    def count_them(head: bytes) -> Reply:
        sent.append(view_of(head))
        if view_of(head) != "/large":  # once it is known, the others need no place on disk
            is_locked.wait(10)
        return answer(view_of(head), 300 if view_of(head) == "/large" else 200)

    with RawServer(otherwise=count_them) as server:
        project = open_on(server, names, concurrency=16)
        run = threading.Thread(target=project.run)
        with closing(sqlite3.connect(str(project.database.engine.url.database))) as other:
            other.isolation_level = None
            run.start()
            while not sent:  # the run is open, and the lease taken
                time.sleep(0.01)
            other.execute("BEGIN IMMEDIATE")
            time.sleep(0.5)
            is_locked.set()
            time.sleep(1)
            while_locked = Counting.taken, len(sent)
            other.execute("ROLLBACK")
        run.join(60)
    assert while_locked[0] == MAX_BODIES == 8
    assert while_locked[1] <= 8 + 16 + 5  # loaded before, in memory, or asked and not yet read
    assert Counting.most == 8
    assert Counting.taken == 0
    assert len(project.live()) == 300 + 30 * 200


def decoded_answers() -> list[object]:
    return [thing for thing in gc.get_objects() if isinstance(thing, Decoded)]


@pytest.mark.slow
def test_no_more_than_eight_answers_are_alive_when_many_leave_the_disk_at_once(
    open_on: Callable[..., Project],
) -> None:
    # Twelve of the largest so far wait on disk, until one has more: then they are certain.
    sizes = {f"/{n}": 40 for n in range(12)} | {"/more": 41}
    names = [*sizes, *(f"/small/{n}" for n in range(40))]
    before, alive = decoded_answers(), list[int]()  # those of other tests

    def count_them(*_: object) -> None:
        time.sleep(0.1)  # time to read as much as there is room for
        alive.append(len(decoded_answers()) - len(before))

    with RawServer(otherwise=lambda head: answer(view_of(head), sizes.get(view_of(head), 30))) as s:
        project = open_on(s, names, concurrency=8)
        _read_views(project.config, project.stop, count_them)
        make_plan(
            project.config, project.database, Options(), stop=project.stop, progress=count_them
        )
        event.listen(project.database.engine, "commit", count_them)
        assert project.run().status == "ok"
    assert len(project.live()) == 12 * 40 + 41 + 40 * 30
    assert 4 < max(alive) <= MAX_BODIES


# --- memory -------------------------------------------------------------------------------

CHILD = """
import resource, sys, threading
from etl.database.connection import open_database
from etl.pipeline.run import Options
from etl.pipeline.sync import sync
from tests.support.project import make_config
url, api, count = sys.argv[1:]
config = make_config(url, api, [f"/{n}" for n in range(int(count))] + ["/last"])
config = __import__("dataclasses").replace(config, concurrency=1, max_wait_s=60.0)
database = open_database(config.database_url, label="x")
run = sync(config, database, Options(), stop=threading.Event())
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(run.status, run.total("new"), peak // (1024 if sys.platform == "linux" else 1024**2))
"""


def peak(url: str, last: int, views: int) -> tuple[str, int, int]:
    """Status, new rows and the peak of memory in MB of a run in which all views wait."""

    def same(head: bytes) -> Reply:
        view = view_of(head)
        if not view or b"application_id" in head:
            return reply(404, "")
        return answer(view, last if view == "/last" else 300)

    with RawServer(otherwise=same) as server:
        # Linux counts the memory of whoever forked as the child's own: a small shell forks.
        shell = ["sh", "-c", '"$@"; exit $?', "sh"]
        command = [*shell, sys.executable, "-W", "error", "-c", CHILD, url, server.url, str(views)]
        done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    status, new, megabytes = done.stdout.split()
    return status, int(new), int(megabytes)


@pytest.mark.slow
@pytest.mark.parametrize("last", [300, 301], ids=["until they are split", "until one has more"])
def test_memory_does_not_grow_with_the_number_of_waiting_views(
    new_database: Callable[..., str], last: int
) -> None:
    few = peak(new_database("sqlite"), last, 10)
    many = peak(new_database("sqlite"), last, 200)
    assert few[:2] == ("ok", 10 * 300 + last)
    assert many[:2] == ("ok", 200 * 300 + last)
    assert many[2] - few[2] < 30
