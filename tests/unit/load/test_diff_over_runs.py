"""etl.load.diff over whole runs: several views, any order, a few dicts for the database."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from etl.load.changeset import ChangeSet, StoredId, StoredIds
from etl.load.decide import RunState, decide
from etl.load.ownership import Ownership
from etl.load.removals import RemovalGuard, Removals
from etl.load.versions import Owner
from etl.source.identity import Organization
from etl.transform.snapshot import Snapshot
from tests.support.strategies import snapshot

A, B, C = VIEWS = ("A", "B", "C")
IDS = "xyz"
CONTENTS = {
    "red": {"created_by": "red"},
    "blue": {"created_by": "blue", "modified_at": "2026-01-01T00:00:00Z"},
    "green": {"created_by": "green", "modified_at": "2026-01-01T00:00:00Z"},
}
SNAPSHOTS = {(i, c): snapshot(i, **attributes) for i in IDS for c, attributes in CONTENTS.items()}


@dataclass(frozen=True)
class Listing:
    """What a view lists: ids with contents. `verdict`: proven, unproven, failed or unasked."""

    records: tuple[tuple[str, str], ...] = ()
    verdict: str = "proven"

    @property
    def is_read(self) -> bool:
        return self.verdict in ("proven", "unproven")

    @property
    def ids(self) -> set[str]:
        return {identifier for identifier, _ in self.records} if self.is_read else set()

    def snapshots(self) -> list[Snapshot]:
        return [SNAPSHOTS[record] for record in self.records]


Run = dict[str, Listing]
"""What each configured view lists; a view that is not a key is not configured."""


def lists(ids: str, content: str = "red") -> Listing:
    return Listing(tuple((identifier, content) for identifier in ids))


FAILED = Listing(verdict="failed")


@dataclass(frozen=True)
class Row:
    read: Snapshot
    owner: str
    is_removed: bool = False


Rows = dict[str, Row]
Event = tuple[str, str]


def sync(rows: Rows, run: Run, order: Iterable[str]) -> tuple[Rows, list[Event]]:
    """One run as `Loader` does it: at once what can be loaded, at the end what waits."""
    tables = FakeTables(dict(rows), run)
    asked = [view for view in order if view in run and run[view].verdict != "unasked"]
    tables.state.ownership.unread = set(asked)
    waiting = [view for view in asked if not tables.take(view)]
    assert all(tables.take(view) for view in waiting), "no view waits for ever"
    return tables.rows, sorted(tables.events)


class FakeTables:
    def __init__(self, rows: Rows, run: Run) -> None:
        self.rows, self.run = rows, run
        self.state = RunState(
            Ownership(frozenset(run), set()),
            Removals(RemovalGuard(0.3, 20, is_off=True)),
            Organization(),
        )
        self.events: list[Event] = []

    def take(self, view: str) -> bool:
        listing = self.run[view]
        if not listing.is_read:
            self.state.ownership.record_failure(view)
            return True
        read = listing.snapshots()
        decide_on = partial(
            decide,
            read,
            owner=Owner("s", view, view),
            state=self.state,
            provable=None if listing.verdict == "proven" else (),
        )
        known = self.known(view, listing.ids)
        changes = decide_on(stored=StoredIds(others=known))
        repeated = {i for i, count in Counter(s.id for s in read).items() if count > 1}
        plain = {
            i: k.content_hash
            for i, k in known.items()
            if k.view_key == view and not k.is_removed and i not in repeated
        }
        rest = {i: k for i, k in known.items() if i not in plain}
        assert decide_on(stored=StoredIds(plain, rest)) == changes
        draft = self.state.draft()
        draft.record(view, changes, [s.id for s in read])
        self.state = draft
        if not changes.is_deferred:
            self.apply(view, changes)
        return not changes.is_deferred

    def known(self, view: str, listed: set[str]) -> dict[str, StoredId]:
        return {
            i: StoredId(row.read.content_hash, row.owner, "s", row.is_removed)
            for i, row in self.rows.items()
            if i in listed or (row.owner == view and not row.is_removed)
        }

    def apply(self, view: str, changes: ChangeSet) -> None:
        for kind in ("new", "changed", "returned"):
            for read in getattr(changes, kind):
                self.events.append((kind, read.id))
                assert (read.id in self.rows) is (kind != "new")
                self.rows[read.id] = Row(read, view)
        for read in changes.moved:
            assert self.rows[read.id].read == read
            self.rows[read.id] = Row(read, view)
        for identifier in changes.absence.removed:
            self.events.append(("removed", identifier))
            self.rows[identifier] = replace(self.rows[identifier], is_removed=True)


# --- cases that were once wrong, or easily are --------------------------------------------

CASES = [
    ([{A: lists("x"), B: lists("")}, {A: lists(""), B: lists("x")}], {"x": B}, "it moves"),
    (
        [{A: lists("x"), B: lists("y"), C: lists("")}, {A: lists(""), B: lists("x"), C: lists("")}],
        {"x": B},
        "it moves to a view that loses another",
    ),
    (
        [{A: lists("x"), B: lists("y")}, {A: lists("y"), B: lists("x")}],
        {"x": B, "y": A},
        "two change places",
    ),
    (
        [
            {A: lists("x"), B: lists("y"), C: lists("z")},
            {A: lists("z"), B: lists("x"), C: lists("y")},
        ],
        {"x": B, "y": C, "z": A},
        "three go round",
    ),
    (
        [
            {A: lists("xy"), B: lists("")},
            {A: lists("y"), B: lists("x")},
            {A: lists("x"), B: lists("y")},
        ],
        {"x": A, "y": B},
        "one comes back when the other goes",
    ),
    ([{A: lists("x")}, {B: lists("x")}], {"x": B}, "its view is no longer configured"),
    ([{A: lists("x")}, {B: lists("")}], {"x": A}, "nor is it listed elsewhere"),
    ([{A: lists("x"), B: lists("")}, {A: FAILED, B: lists("x")}], {"x": A}, "its owner failed"),
    ([{A: lists("x"), B: lists("")}, {A: lists(""), B: FAILED}], {}, "the other view failed"),
    (
        [{A: lists("x"), B: lists("")}, {A: Listing(verdict="unproven"), B: lists("x")}],
        {"x": A},
        "its owner's listing proves nothing",
    ),
    (
        [
            {A: lists("x"), B: lists("")},
            {A: lists(""), B: lists("")},
            {A: lists(""), B: lists("x")},
        ],
        {"x": B},
        "removed, then listed by another view",
    ),
    (
        [
            {A: lists("x"), B: lists("")},
            {A: lists(""), B: lists("")},
            {A: lists("x"), B: lists("x")},
        ],
        {"x": A},
        "removed, then listed by its owner and another view",
    ),
]


@pytest.mark.parametrize("order", ["ABC", "ACB", "BAC", "BCA", "CAB", "CBA"])
@pytest.mark.parametrize(("runs", "owners"), [pytest.param(*c[:2], id=c[2]) for c in CASES])
def test_who_owns_what_in_the_end(runs, owners, order):
    rows: Rows = {}
    for run in runs:
        before = rows
        rows, events = sync(rows, run, order)
        check_run(before, run, rows, events)
    assert {i: row.owner for i, row in rows.items() if not row.is_removed} == owners


def test_moving_is_no_event():
    rows, _ = sync({}, {A: lists("x"), B: lists("y")}, "AB")
    for order in ("AB", "BA"):
        assert sync(rows, {A: lists("y"), B: lists("x")}, order)[1] == []


# --- any runs -----------------------------------------------------------------------------

records = st.lists(st.sampled_from(sorted(SNAPSHOTS)), max_size=4).map(tuple)
verdicts = st.sampled_from(["proven", "proven", "proven", "unproven", "failed", "unasked"])
any_listing = st.builds(Listing, records, verdicts)
proven_listing = st.builds(Listing, records)
runs = st.dictionaries(st.sampled_from(VIEWS), any_listing, min_size=1)
proven_runs = st.dictionaries(st.sampled_from(VIEWS), proven_listing, min_size=1)
orders = st.permutations(VIEWS)
pasts = st.lists(st.tuples(proven_runs | runs, orders), max_size=3)


def after(past: Sequence[tuple[Run, Sequence[str]]]) -> Rows:
    rows: Rows = {}
    for run, order in past:
        rows, _ = sync(rows, run, order)
    return rows


def listing_views(run: Run, identifier: str) -> set[str]:
    return {view for view, listing in run.items() if identifier in listing.ids}


def check_run(before: Rows, run: Run, rows: Rows, events: list[Event]) -> None:
    """What holds after any run, whatever failed in it."""
    assert before.keys() <= rows.keys(), "no id is lost"
    assert len({identifier for _, identifier in events}) == len(events), "one event for each id"
    happened = {identifier: kind for kind, identifier in events}
    for identifier, row in rows.items():
        old, kind = before.get(identifier), happened.get(identifier)
        views = listing_views(run, identifier)
        if old is None:
            assert kind == "new"
        elif kind is None:
            assert (row.read, row.is_removed) == (old.read, old.is_removed)
        elif kind == "removed":
            assert not old.is_removed
            assert not views
            assert run[old.owner].verdict == "proven"
        else:
            assert kind == ("returned" if old.is_removed else "changed")
            assert kind == "returned" or row.read != old.read
        if kind in ("new", "changed", "returned") or (old and old.owner != row.owner):
            assert row.owner in views
            assert row.read in run[row.owner].snapshots()


@settings(max_examples=300)
@given(pasts, runs, orders)
def test_any_run_keeps_what_is_listed_and_removes_only_what_is_proven_gone(past, run, order):
    before = after(past)
    rows, events = sync(before, run, order)
    check_run(before, run, rows, events)


@settings(max_examples=300)
@given(pasts, proven_runs, orders)
@example(
    [({A: lists("x"), B: lists("y"), C: lists("")}, "ABC")],
    {A: lists(""), B: lists("x"), C: lists("")},
    "ABC",
)
def test_after_a_proven_run_the_rows_are_what_is_listed(past, run, order):
    rows, _ = sync(after(past), run, order)
    listed = {identifier for listing in run.values() for identifier in listing.ids}
    for identifier in listed:
        row = rows[identifier]
        assert not row.is_removed
        assert row.read == row_of_owner(run, row.owner, identifier, row.read)
    for identifier in rows.keys() - listed:
        assert rows[identifier].is_removed or rows[identifier].owner not in run


def row_of_owner(run: Run, owner: str, identifier: str, kept: Snapshot) -> Snapshot:
    """The latest of the owner's records; among equals whichever was kept."""
    mine = [read for read in run[owner].snapshots() if read.id == identifier]
    latest = max(map(modified, mine))
    best = [read for read in mine if modified(read) == latest]
    return kept if kept in best else best[0]


def modified(read: Snapshot) -> datetime:
    return read.modified_at or datetime.min.replace(tzinfo=UTC)


@settings(max_examples=300)
@given(pasts, runs, orders, orders)
def test_the_same_listings_again_change_nothing(past, run, order, other_order):
    rows, _ = sync(after(past), run, order)
    assert sync(rows, run, other_order) == (rows, [])


@settings(max_examples=300)
@given(pasts, runs, orders, orders)
def test_order_of_the_answers_decides_only_who_owns_what_two_views_gain(
    past, run, order, other_order
):
    before = after(past)
    (rows, events), (others, other_events) = (sync(before, run, o) for o in (order, other_order))

    def is_contested(identifier: str) -> bool:
        views, old = listing_views(run, identifier), before.get(identifier)
        return len(views) > 1 and (old is None or old.owner not in views)

    assert rows.keys() == others.keys()
    for identifier, row in rows.items():
        other = others[identifier]
        if is_contested(identifier):
            assert row.is_removed == other.is_removed
        else:
            assert row == other
    settled, other_settled = (
        [event for event in happened if not is_contested(event[1])]
        for happened in (events, other_events)
    )
    assert settled == other_settled
