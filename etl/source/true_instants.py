"""Instants that a wrong clock has put into the future -> when they were. Pure.

A reading is raised above every instant it touches (rule 11), so that one run under a clock that was
ahead puts the readings of all later runs into the future, too. The ledger knows the run of each
reading, and one run is over before the next begins. That gives the time of each reading. The order
of two that touch the same row or view stays as it was.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta
from itertools import pairwise
from typing import NamedTuple, TypeVar

T = TypeVar("T", str, datetime)

TICK = timedelta(microseconds=1)
_NOTHING = timedelta(0)
_LONGEST_RUN = timedelta(days=1)


class LedgerRun(NamedTuple):
    """A run as the ledger has it."""

    run_id: str
    started_at: datetime
    finished_at: datetime | None = None
    slot_at: datetime | None = None
    clock_skew_s: float | None = None


class Reading(NamedTuple):
    """A reading of one view. `run_id`: "" where only rows know it: its run left the ledger."""

    run_id: str
    view_key: str
    read_at: datetime


def true_instants(
    runs: Collection[LedgerRun],
    readings: Iterable[Reading],
    instants: Collection[datetime],
    pairs: Collection[tuple[datetime, datetime]],
    *,
    now: datetime,
    until: datetime,
) -> dict[datetime, datetime]:
    """The true instant of each of `instants` that is after `now`; none of them is after `until`.

    `readings`: those after `now`, and the last one before of each view. `pairs`: instants of one
    row, of which the first came before the second.
    """
    chains = _chains(readings)
    future = {instant for instant in instants if instant > now}
    future |= {reading.read_at for chain in chains for reading in chain if reading.read_at > now}
    if not future:
        return {}
    until = max(now, min(until, min(future) - TICK))
    windows = _windows(runs, chains, now, until)
    guesses = _guesses(runs, chains, windows, future, until)
    order = {pair for pair in pairs if pair[0] != pair[1]}
    for chain in chains:
        order |= {(a.read_at, b.read_at) for a, b in pairwise(chain)}
    return _in_true_order(guesses, order, until)


def _chains(readings: Iterable[Reading]) -> list[list[Reading]]:
    """The readings of each view, in their order; each instant once, that of a run if there is."""
    by_view: dict[str, dict[datetime, Reading]] = defaultdict(dict)
    for reading in readings:
        known = by_view[reading.view_key].get(reading.read_at)
        if known is None or not known.run_id:
            by_view[reading.view_key][reading.read_at] = reading
    return [[chain[at] for at in sorted(chain)] for chain in by_view.values()]


class _Window(NamedTuple):
    """When a run took place. `shift`: how far its clock was ahead; None: its clock was right."""

    begin: datetime
    end: datetime
    shift: timedelta | None = None


def _windows(
    runs: Collection[LedgerRun],
    chains: Sequence[Sequence[Reading]],
    now: datetime,
    until: datetime,
) -> dict[str, _Window]:
    """When each run took place: one under a wrong clock by its skew, if that fits between the runs
    before and after it, else just before the next one, or now.
    """
    before, after = defaultdict[str, set[str]](set), defaultdict[str, set[str]](set)
    for chain in chains:
        for a, b in pairwise([reading.run_id for reading in chain if reading.run_id]):
            if a != b:
                after[a].add(b)
                before[b].add(a)
    windows: dict[str, _Window] = {}
    wrong: dict[str, LedgerRun] = {}
    for run in runs:
        if run.started_at > now:
            wrong[run.run_id] = run
        else:
            end = run.finished_at or run.started_at
            if end > now:  # the clock was moved while it ran, or who closed it had a wrong one
                end -= timedelta(seconds=run.clock_skew_s or 0.0)
            is_possible = run.started_at <= end <= now
            windows[run.run_id] = _Window(run.started_at, end if is_possible else run.started_at)
    by_start = sorted(wrong, key=lambda run_id: wrong[run_id].started_at)
    for run_id in reversed(_sorted_by(after, by_start)):
        run = wrong[run_id]
        latest = min(
            (windows[i].begin - TICK for i in after[run_id] if i in windows), default=until
        )
        earliest = max(
            (windows[i].end + TICK for i in before[run_id] if i in windows), default=None
        )
        took = (run.finished_at or run.started_at) - run.started_at
        took = took if _NOTHING <= took <= _LONGEST_RUN else _NOTHING
        begin = latest - took
        skew = timedelta(seconds=run.clock_skew_s or 0.0)
        if skew > _NOTHING and run.started_at - skew <= begin:
            begin = run.started_at - skew
        if earliest is not None and earliest <= latest:
            begin = max(begin, earliest)
        end = max(begin, min(begin + took, latest))
        windows[run_id] = _Window(begin, end, run.started_at - begin)
    return windows


def _guesses(
    runs: Collection[LedgerRun],
    chains: Sequence[Sequence[Reading]],
    windows: Mapping[str, _Window],
    future: AbstractSet[datetime],
    until: datetime,
) -> dict[datetime, datetime]:
    """When each instant was, as far as one can tell from its run; else from its neighbours."""
    guesses: dict[datetime, datetime] = {}
    by_run = defaultdict[str, set[datetime]](set)
    for chain in chains:
        for reading in chain:
            by_run[reading.run_id].add(reading.read_at)
    for run in runs:
        read = sorted(by_run[run.run_id] & future)
        for instant, when in _guesses_of(run, windows[run.run_id], read, until):
            if instant in future:
                known = guesses.get(instant)
                guesses[instant] = min(until, max(when, known) if known else when)
    for chain in chains:
        following = None
        for reading in reversed(chain):
            if reading.read_at in future and following:
                guesses.setdefault(reading.read_at, following - TICK)
            following = guesses.get(reading.read_at, following)
    _guess_from_neighbours(runs, windows, future, guesses, until)
    return guesses


def _guesses_of(
    run: LedgerRun, window: _Window, read: Sequence[datetime], until: datetime
) -> Iterator[tuple[datetime, datetime]]:
    """Instants of one run, and when they were. `read`: of its readings, in their order."""
    shift = window.shift or timedelta(seconds=max(0.0, run.clock_skew_s or 0.0))
    last = run.finished_at or max([run.started_at, *read])
    for number, at in enumerate(read):
        # Read under the wrong clock itself, or raised by a microsecond.
        is_own = at <= last and window.begin <= at - shift <= until
        raised = max(window.begin, window.end - TICK * (len(read) - 1 - number))
        yield at, at - shift if is_own else raised
    if window.shift is not None:
        yield run.started_at, window.begin
        if run.slot_at:
            yield run.slot_at, run.slot_at - window.shift
    if run.finished_at and shift:
        yield run.finished_at, max(window.begin, min(window.end, run.finished_at - shift))


def _guess_from_neighbours(
    runs: Collection[LedgerRun],
    windows: Mapping[str, _Window],
    future: AbstractSet[datetime],
    guesses: dict[datetime, datetime],
    until: datetime,
) -> None:
    """What no reading and no run has: during a run under a wrong clock, or before what followed."""
    wrong = sorted((run for run in runs if windows[run.run_id].shift), key=lambda r: r.started_at)
    starts = [run.started_at for run in wrong]
    known = sorted(guesses)
    for instant in sorted(future - guesses.keys()):
        run = wrong[place - 1] if (place := bisect_right(starts, instant)) else None
        if run and instant <= (run.finished_at or run.started_at + _LONGEST_RUN):
            window = windows[run.run_id]
            when = min(instant - (window.shift or _NOTHING), window.end)
        elif (place := bisect_left(known, instant)) < len(known):
            when = guesses[known[place]] - TICK
        else:
            when = until
        guesses[instant] = min(when, until)


def _in_true_order(
    guesses: Mapping[datetime, datetime],
    order: Collection[tuple[datetime, datetime]],
    until: datetime,
) -> dict[datetime, datetime]:
    """The guesses, moved as little as is needed for the order to hold, none after `until`."""
    before, after = (
        defaultdict[datetime, set[datetime]](set),
        defaultdict[datetime, set[datetime]](set),
    )
    for a, b in order:
        before[b].add(a)
        after[a].add(b)
    true: dict[datetime, datetime] = dict(guesses)
    instants = _sorted_by(after, sorted(guesses))
    for instant in instants:
        earlier = [true.get(a, a) + TICK for a in before[instant]]
        true[instant] = max([true[instant], *earlier])
    for instant in reversed(instants):
        later = [true.get(b, b) - TICK for b in after[instant]]
        true[instant] = min([true[instant], until, *later])
    return true


def _sorted_by(after: Mapping[T, Collection[T]], items: Sequence[T]) -> list[T]:
    """`items` so that each comes before those in `after`, else in their order.

    Where that goes in a circle, which only foreign hands can have made, their order decides.
    """
    place = {item: number for number, item in enumerate(items)}
    waits_for = dict.fromkeys(items, 0)
    for item in items:
        for later in after.get(item, ()):
            if later in waits_for:
                waits_for[later] += 1
    ready = [place[item] for item in items if not waits_for[item]]
    heapq.heapify(ready)
    done: dict[T, None] = {}
    rest = iter(items)
    while len(done) < len(items):
        item = items[heapq.heappop(ready)] if ready else next(i for i in rest if i not in done)
        if item in done:
            continue
        done[item] = None
        for later in after.get(item, ()):
            if later in waits_for and later not in done:
                waits_for[later] -= 1
                if not waits_for[later]:
                    heapq.heappush(ready, place[later])
    return list(done)
