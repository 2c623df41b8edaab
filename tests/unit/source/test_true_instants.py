"""etl.source.true_instants: what it makes of a history that was stamped under wrong clocks."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from etl.load.versions import reading_instant
from etl.source.true_instants import TICK, LedgerRun, Reading, true_instants

BEGIN = datetime(2026, 8, 1, 12, 0, tzinfo=UTC)
STEP = timedelta(hours=1)
TOOK = timedelta(seconds=20)
VIEWS = ("a", "b", "c")
SKEWS = (0, 0, 0, 90, 5400, 2 * 86400, 3650 * 86400)


@dataclass
class History:
    """What a database holds, by the rule for readings, and when each reading truly was."""

    runs: list[LedgerRun] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    last: dict[str, datetime] = field(default_factory=dict)  # by view
    rows: dict[int, list[datetime]] = field(default_factory=dict)  # instants of each snapshot
    owners: dict[int, str] = field(default_factory=dict)
    truth: dict[tuple[str, str], datetime] = field(default_factory=dict)
    others: list[tuple[datetime, datetime]] = field(default_factory=list)  # stamped, true
    end: datetime = BEGIN

    def run(self, number: int, skew_s: int, views: list[str], *, knows: bool, dice: int) -> None:
        choose = random.Random(dice)
        true, skew = BEGIN + number * STEP, timedelta(seconds=skew_s)
        run_id = f"run-{number}"
        for index, view in enumerate(views):
            arrived = true + (index + 1) * timedelta(seconds=1)
            touched = [i for i in self.rows if choose.random() < 0.3]
            instants = [self.rows[i][-1] for i in touched]
            read_at = reading_instant(arrived + skew, [self.last.get(view), *instants])
            for i in touched:  # it may take rows over from other views
                self.rows[i].append(read_at)
                self.owners[i] = view
            self.rows[len(self.rows)] = [read_at]
            self.owners[len(self.owners)] = view
            self.last[view] = read_at
            self.readings.append(Reading(run_id, view, read_at))
            self.truth[run_id, view] = arrived
        self.others.append((true + skew + TOOK / 2, true + TOOK / 2))
        self.end = true + TOOK
        known = float(skew_s) if knows else None
        self.runs.append(LedgerRun(run_id, true + skew, self.end + skew, None, known))

    def repaired(self, kept: int | None = None) -> dict[datetime, datetime]:
        """`kept`: of how many of the latest runs the ledger still has the rows."""
        runs = self.runs if kept is None else self.runs[-kept:]
        ids = {run.run_id for run in runs}
        now, until = self.end + STEP / 2, self.end + STEP / 2 + timedelta(milliseconds=100)
        ledger = [r for r in self.readings if r.run_id in ids]
        known = {r.read_at for r in ledger}
        lost = [
            Reading("", self.owners[i], at)
            for i, chain in self.rows.items()
            for at in chain
            if at > now and at not in known
        ]
        last = {r.view_key: r for r in ledger if r.read_at <= now}
        ledger = [*last.values(), *(r for r in ledger if r.read_at > now), *lost]
        instants = {at for run in runs for at in (run.started_at, run.finished_at) if at}
        instants |= {at for chain in self.rows.values() for at in chain}
        instants |= {stamped for stamped, _ in self.others}
        pairs = {pair for chain in self.rows.values() for pair in pairwise(chain)}
        found = true_instants(runs, ledger, instants, pairs, now=now, until=until)
        assert found.keys() == {at for at in instants if at > now}
        assert all(at <= until for at in found.values())
        return found


@st.composite
def histories(draw: st.DrawFn) -> History:
    history = History()
    for number in range(draw(st.integers(2, 14))):
        history.run(
            number,
            draw(st.sampled_from(SKEWS)),
            draw(st.lists(st.sampled_from(VIEWS), unique=True, max_size=3)),
            knows=draw(st.booleans()),
            dice=draw(st.integers(0, 99)),
        )
    return history


@given(histories(), st.none() | st.integers(1, 10))
def test_order_stays_in_each_row_and_view(history: History, kept: int | None) -> None:
    true = history.repaired(kept)
    for chain in history.rows.values():
        moved = [true.get(at, at) for at in chain]
        assert all(a < b for a, b in pairwise(moved)), (chain, moved)
    if kept is None:
        for view in VIEWS:
            moved = [true.get(r.read_at, r.read_at) for r in history.readings if r.view_key == view]
            assert all(a < b for a, b in pairwise(moved))


@given(histories())
def test_a_second_repair_finds_nothing(history: History) -> None:
    true = history.repaired()
    now = history.end + STEP
    instants = {true.get(at, at) for chain in history.rows.values() for at in chain}
    assert true_instants(history.runs, [], instants, (), now=now, until=now) == {}


def test_readings_come_back_to_their_runs() -> None:
    """One run was two days ahead, and did not know it; all later ones were raised above it."""
    history = History()
    for number in range(8):
        skew = 2 * 86400 if number == 3 else 0
        views = ["a", "b"] if number != 5 else ["b"]
        history.run(number, skew, views, knows=False, dice=number)
    true = history.repaired()
    for reading in history.readings:
        number = int(reading.run_id.removeprefix("run-"))
        at = true.get(reading.read_at, reading.read_at)
        if number < 3:
            assert reading.read_at not in true
        elif number == 3:  # somewhere before the next one, and after the one before
            assert BEGIN + 2 * STEP + TOOK < at < BEGIN + 4 * STEP
        else:
            run = BEGIN + number * STEP
            assert run <= at <= run + TOOK


def test_a_known_skew_gives_the_very_instants() -> None:
    history = History()
    for number in range(6):
        skew = 2 * 86400 if number == 3 else 0
        history.run(number, skew, ["a", "b"], knows=True, dice=number)
    true = history.repaired()
    wrong = history.runs[3]
    assert true[wrong.started_at] == BEGIN + 3 * STEP
    assert wrong.finished_at is not None
    assert true[wrong.finished_at] == BEGIN + 3 * STEP + TOOK
    for reading in history.readings:
        if reading.run_id == "run-3":
            assert true[reading.read_at] == history.truth["run-3", reading.view_key]
    stamped, when = history.others[3]
    assert true[stamped] == when


def test_the_latest_run_was_just_now() -> None:
    history = History()
    history.run(0, 0, ["a"], knows=False, dice=0)
    history.run(1, 86400, ["a"], knows=False, dice=0)
    true = history.repaired()
    now = history.end + STEP / 2
    assert max(true.values()) <= now + timedelta(seconds=1)
    assert min(true.values()) > now - STEP


def test_the_order_of_the_ledger_counts_and_not_that_of_wrong_clocks() -> None:
    """The first run was ten years ahead, the second only two days."""
    history = History()
    history.run(0, 3650 * 86400, ["a", "b"], knows=False, dice=1)
    history.run(1, 2 * 86400, ["a", "b"], knows=False, dice=2)
    history.run(2, 0, ["a", "b"], knows=False, dice=3)
    true = history.repaired()
    first, second, third = (run.started_at for run in history.runs)
    assert true[first] < true[second] < third == BEGIN + 2 * STEP


def test_nothing_in_the_future_is_nothing_to_do() -> None:
    now = BEGIN + STEP
    assert true_instants((), (), {BEGIN, now}, {(BEGIN, now)}, now=now, until=now) == {}
    assert true_instants((), (), {now + TICK}, (), now=now, until=now) == {now + TICK: now}
