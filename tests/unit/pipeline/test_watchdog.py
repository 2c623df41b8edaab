"""etl.pipeline.watchdog: a run that hangs is ended, and one that is slow is not."""

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from etl.errors import LeaseLost, RunAbandoned, RunStuck
from etl.ledger.results import RunResult
from etl.load.loader import Loader
from etl.pipeline import progress_bound, watchdog
from etl.pipeline.run import Options
from etl.pipeline.sync import sync
from etl.pipeline.watchdog import Watchdog
from tests.support.api import Api, record
from tests.support.project import Project

PATIENCE_S = 0.6


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_bound, "STEP_S", PATIENCE_S - 0.3)
    monkeypatch.setattr(progress_bound, "VIEW_STORED_S", 0.0)
    monkeypatch.setattr(watchdog, "POLL_S", 0.02)
    monkeypatch.setattr(watchdog, "GRACE_S", 0.5)


@dataclass
class Waits:
    max_wait_s: float = 0.1
    timeout_s: float = 0.1
    concurrency: int = 1


@dataclass
class Work:
    """A run of which the test says how much is done."""

    name: str = "run 1 of org"
    done: int = 0
    views_to_read: int = 0
    parts_asked: int = 0
    lease_s: float = 60.0
    stop: threading.Event = field(default_factory=threading.Event)
    given_up: list[str] = field(default_factory=list)

    def break_off(self) -> None:
        self.stop.set()

    def give_up(self, reason: str) -> None:
        self.given_up.append(reason)


def guarded(work: Work, run: Callable[[], object], told: list[str] | None = None) -> object:
    dog = Watchdog(Waits(), told.append if told is not None else None)

    def watched() -> object:
        dog.watch(work)
        return run()

    return dog.guard(watched)


def test_what_a_run_returns_or_raises_is_handed_on() -> None:
    assert guarded(Work(), lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        guarded(Work(), lambda: 1 // 0)
    with pytest.raises(LeaseLost):
        Watchdog(Waits()).guard(_lose)


def _lose() -> None:
    raise LeaseLost("lost")


def test_a_run_that_only_does_little_is_left_alone() -> None:
    work = Work()

    def slow() -> str:
        for _ in range(6):
            assert not work.stop.wait(PATIENCE_S / 2)
            work.done += 1
        return "done"

    assert guarded(work, slow) == "done"


def test_a_run_without_progress_is_asked_to_end_and_told_of() -> None:
    work, told = Work(), list[str]()
    with pytest.raises(RunStuck, match=r"run 1 of org: no progress for 0\.[67] s: ended") as caught:
        guarded(work, lambda: work.stop.wait(20), told)
    assert not isinstance(caught.value, RunAbandoned)
    assert told == [str(caught.value)]
    assert work.given_up == []


def test_a_run_that_cannot_be_ended_is_abandoned() -> None:
    work, never = Work(), threading.Event()
    begun = time.monotonic()
    with pytest.raises(RunAbandoned, match="its thread still hangs"):
        guarded(work, lambda: never.wait(20))
    never.set()
    assert time.monotonic() - begun < 5
    (reason,) = work.given_up
    assert reason.startswith("no progress for ")


def test_it_is_given_up_before_its_lease_could_expire() -> None:
    work, never = Work(lease_s=0.2), threading.Event()
    begun = time.monotonic()
    with pytest.raises(RunAbandoned):
        guarded(work, lambda: never.wait(20))
    never.set()
    assert time.monotonic() - begun < PATIENCE_S + 0.4


def test_a_run_that_goes_on_for_ever_is_ended_though_it_makes_progress() -> None:
    work = Work(views_to_read=2)
    longest_s = progress_bound.longest_run_s(Waits(), 2)
    begun = time.monotonic()

    def busy() -> None:
        while not work.stop.wait(0.05):
            work.done += 1

    with pytest.raises(RunStuck, match="longer than its views can take"):
        guarded(work, busy)
    assert longest_s < time.monotonic() - begun < longest_s + 2


def test_a_bug_on_the_way_out_is_not_covered_up() -> None:
    work = Work()

    def fail() -> None:
        work.stop.wait(20)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        guarded(work, fail)


def test_a_run_that_is_interrupted_closes_itself_first() -> None:
    work, steps = Work(), list[str]()

    def interrupted() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        assert work.stop.wait(10)
        steps.append("closed")

    with pytest.raises(KeyboardInterrupt):
        guarded(work, interrupted)
    assert steps == ["closed"]


# --- a run of ours ------------------------------------------------------------------------


@pytest.fixture
def hang(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Loading hangs until it is set."""
    may_load, load = threading.Event(), Loader.load

    def wait(self: Loader, results: object) -> None:
        may_load.wait(20)
        load(self, results)  # type: ignore[arg-type]

    monkeypatch.setattr(Loader, "load", wait)
    return may_load


def test_an_abandoned_run_is_closed_and_writes_nothing_when_it_wakes(
    project: Project, api: Api, hang: threading.Event
) -> None:
    api.views["/home"] = [record("1")]
    project.configure(timeout_s=0.1, max_wait_s=0.1)
    ended: list[RunResult] = []
    threads = set(threading.enumerate())
    with pytest.raises(RunAbandoned):
        sync(project.config, project.database, Options(), stop=project.stop, on_end=ended.append)
    (stuck,) = [t for t in set(threading.enumerate()) - threads if t.name == "run"]
    run = project.one("SELECT status, error FROM sync_runs")
    assert run["status"] == "failed"
    assert run["error"].startswith("no progress for ")
    assert project.one("SELECT lease_token FROM sources") == {"lease_token": None}
    assert [run.status for run in ended] == ["failed"]
    hang.set()
    stuck.join(10)
    assert not stuck.is_alive()
    assert len(ended) == 1
    assert project.snapshots() == {}
    project.configure(timeout_s=30.0, max_wait_s=1.0)
    assert project.run().status == "ok"
    assert project.live() == {"1"}
    assert len(project.rows("SELECT 1 FROM sync_runs")) == 2
