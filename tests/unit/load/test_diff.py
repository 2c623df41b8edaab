"""etl.load.diff: stored rows and one listing -> what is to be written."""

from copy import deepcopy
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.database.schema import snapshots
from etl.load.changeset import Absence, ChangeSet, StoredId, StoredIds
from etl.load.decide import RunState, decide
from etl.load.diff import OTHER_SOURCE, unique
from etl.load.ownership import Ownership
from etl.load.removals import RemovalGuard, Removals
from etl.load.versions import (
    Owner,
    StoredRow,
    changed_columns,
    content_of,
    kept_row,
    new_rows,
    next_row,
    reading_instant,
)
from etl.source.identity import Organization
from etl.transform.snapshot import CONTENT, Snapshot, record_of, reject_text
from tests.support.strategies import snapshot

NOON = datetime(2026, 8, 1, 12, tzinfo=UTC)
TICK = timedelta(microseconds=1)
VIEWS = frozenset({"mine", "other", "third"})
OWNER = Owner("s", "mine", "/home")

RED, BLUE = snapshot("a", created_by="red"), snapshot("a", created_by="blue")


def stored(read: Snapshot = RED, *, by: str = "mine", source: str = "s", removed: bool = False):
    return StoredId(read.content_hash, by, source, is_removed=removed)


def run_state(
    *,
    unread: tuple[str, ...] = (),
    read: tuple[str, ...] = (),
    absent: dict[str, frozenset[str]] | None = None,
    waiting: dict[str, frozenset[str]] | None = None,
    claims: dict[str, frozenset[str]] | None = None,
) -> RunState:
    """`mine` has just answered; what the other views did is known."""
    gone = {view: (absent or {}).get(view, frozenset()) for view in read}
    ownership = Ownership(VIEWS, {"mine", *unread}, gone, dict(waiting or {}))
    for view, ids in (claims or {}).items():
        ownership.claims.add(view, ids)
    return RunState(ownership.draft(), Removals(RemovalGuard(0.3, 20, is_off=True)), Organization())


def listing(
    *read: Snapshot,
    known: dict[str, StoredId] | None = None,
    is_proven: bool = True,
    state: RunState | None = None,
) -> ChangeSet:
    stored_ids = StoredIds(others=known or {})
    return decide(read, stored_ids, OWNER, state or run_state(), None if is_proven else ())


def outcome(changes: ChangeSet) -> dict[str, Any]:
    """What of the changes is not empty, snapshots by their ids."""
    inner = ("live", "unlisted", "gone", "missing")
    absence = {n: getattr(changes.absence, n) for n in Absence.__slots__ if n not in inner}
    fields = {name: getattr(changes, name) for name in ChangeSet.__slots__}
    for name in ("new", "changed", "returned", "moved"):
        fields[name] = [read.id for read in fields[name]]
    del fields["absence"], fields["taken"]
    return {name: value for name, value in (fields | absence).items() if value}


# --- one listed id ------------------------------------------------------------------------

ABSENT_THERE: dict[str, Any] = {"read": ("other",), "absent": {"other": frozenset("a")}}
WAITS_THERE: dict[str, Any] = {"read": ("other",), "waiting": {"other": frozenset("a")}}

LISTED = [
    (None, run_state(), {"new": ["a"]}, "not stored: new"),
    (stored(), run_state(), {"unchanged": 1}, "the same content: unchanged"),
    (stored(BLUE), run_state(), {"changed": ["a"]}, "other content: changed"),
    (stored(removed=True), run_state(), {"returned": ["a"]}, "removed: returned"),
    (
        stored(BLUE, removed=True),
        run_state(),
        {"returned": ["a"]},
        "removed, and other content: returned only",
    ),
    (
        stored(by="other"),
        run_state(unread=("other",)),
        {"foreign": ["a"], "is_deferred": True},
        "its owner is still unread: wait",
    ),
    (
        stored(by="other", removed=True),
        run_state(unread=("other",)),
        {"foreign": ["a"], "is_deferred": True},
        "removed, and its owner still unread: wait",
    ),
    (
        stored(by="other"),
        run_state(),
        {"foreign": ["a"]},
        "its owner failed or had no part: foreign",
    ),
    (
        stored(by="other", removed=True),
        run_state(),
        {"foreign": ["a"]},
        "removed, and its owner failed: foreign",
    ),
    (
        stored(by="other"),
        run_state(read=("other",)),
        {"foreign": ["a"]},
        "its owner lists it: foreign",
    ),
    (
        stored(BLUE, by="other"),
        run_state(read=("other",)),
        {"foreign": ["a"]},
        "its owner lists it with other content: foreign",
    ),
    (
        stored(by="other"),
        run_state(**WAITS_THERE),
        {"foreign": ["a"]},
        "its owner lists it and waits: foreign",
    ),
    (
        stored(by="other", removed=True),
        run_state(**WAITS_THERE),
        {"foreign": ["a"]},
        "removed, but its owner lists it and waits: foreign",
    ),
    (
        stored(by="other", removed=True),
        run_state(read=("other",)),
        {"returned": ["a"]},
        "removed, and its owner does not list it: returned",
    ),
    (
        stored(by="other"),
        run_state(**ABSENT_THERE),
        {"unchanged": 1, "moved": ["a"]},
        "its owner no longer lists it: moved, no event",
    ),
    (
        stored(BLUE, by="other"),
        run_state(**ABSENT_THERE),
        {"changed": ["a"]},
        "its owner no longer lists it, other content: changed",
    ),
    (
        stored(by="third"),
        run_state(**ABSENT_THERE),
        {"foreign": ["a"]},
        "another than its owner no longer lists it: foreign",
    ),
    (
        stored(by="gone"),
        run_state(),
        {"unchanged": 1, "moved": ["a"]},
        "its owner is no longer configured: moved",
    ),
    (
        stored(BLUE, by="gone"),
        run_state(unread=("other",)),
        {"changed": ["a"]},
        "its owner is no longer configured, other content: changed",
    ),
    (
        stored(by="gone", removed=True),
        run_state(),
        {"returned": ["a"]},
        "removed, its owner no longer configured: returned",
    ),
]


@pytest.mark.parametrize(
    ("known", "state", "expected"), [pytest.param(*row[:3], id=row[3]) for row in LISTED]
)
def test_listed_id(known, state, expected):
    rows = {} if known is None else {"a": known}
    for is_proven in (True, False):
        changes = listing(RED, known=rows, state=state, is_proven=is_proven)
        assert outcome(changes) == expected
        is_taken = known is not None and known.view_key != "mine" and not changes.foreign
        assert changes.taken == ({"a": known.view_key} if is_taken else {})


@pytest.mark.parametrize("by", ["mine", "other", "gone"])
@pytest.mark.parametrize("removed", [True, False])
def test_id_of_another_source_is_a_reject(by, removed):
    known = {"a": stored(by=by, source="elsewhere", removed=removed)}
    changes = listing(RED, known=known, state=run_state(unread=("other",)))
    assert outcome(changes) == {"rejected": [reject_text(OTHER_SOURCE, record_of(RED))]}


def test_what_is_written_is_what_the_view_lists():
    read = [snapshot(i, created_by="red") for i in "cba"]
    known = {"a": stored(BLUE), "b": stored(BLUE, removed=True)}
    changes = listing(*read, known=known)
    assert (changes.new, changes.changed, changes.returned) == ([read[0]], [read[2]], [read[1]])


# --- what is not listed -------------------------------------------------------------------


UNLISTED = [
    (stored(), True, run_state(), {"absent": ["a"], "removed": ["a"]}, "proven: removed"),
    (stored(), False, run_state(), {"kept": ["a"]}, "not proven: kept"),
    (
        stored(),
        False,
        run_state(unread=("other",)),
        {"kept": ["a"]},
        "not proven: nothing to wait for",
    ),
    (
        stored(),
        True,
        run_state(unread=("other",)),
        {"absent": ["a"], "removed": ["a"], "is_deferred": True},
        "another view is still unread: wait",
    ),
    (
        stored(),
        True,
        run_state(read=("other",), claims={"other": frozenset("a")}),
        {"absent": ["a"], "kept": ["a"]},
        "another view lists it: it stays",
    ),
    (
        stored(),
        True,
        run_state(claims={"mine": frozenset("a")}),
        {"absent": ["a"], "removed": ["a"]},
        "what this view listed earlier in the run is no claim of another",
    ),
    (stored(removed=True), True, run_state(), {}, "removed already: nothing"),
    (stored(removed=True), False, run_state(), {}, "removed already and not proven: nothing"),
    (stored(by="other"), True, run_state(), {}, "a row of another view: nothing"),
]


@pytest.mark.parametrize(
    ("known", "is_proven", "state", "expected"),
    [pytest.param(*row[:4], id=row[4]) for row in UNLISTED],
)
def test_id_that_is_not_listed(known, is_proven, state, expected):
    changes = listing(known={"a": known}, is_proven=is_proven, state=state)
    assert outcome(changes) == expected


def test_lists_are_in_id_order():
    known = {i: stored() for i in "fdeb"} | {"g": stored(BLUE), "c": stored(BLUE)}
    read = [snapshot(i, created_by="red") for i in "hgca"]
    changes = listing(*read, known=known)
    assert [s.id for s in changes.new] == ["a", "h"]
    assert [s.id for s in changes.changed] == ["c", "g"]
    assert changes.absence.removed == ["b", "d", "e", "f"]
    assert changes.touched == ["b", "c", "d", "e", "f", "g"]


def test_deciding_alters_nothing_it_was_given():
    state = run_state(unread=("other",), **WAITS_THERE)
    known = {"a": stored(by="other"), "b": stored()}
    before = deepcopy(state), dict(known)
    listing(RED, known=known, state=state)
    assert (state, known) == before


# --- what one run knows of its views ------------------------------------------------------


def waits(absent: str, **more: Any) -> ChangeSet:
    return ChangeSet(absence=Absence(absent=list(absent)), is_deferred=True, **more)


def test_a_draft_leaves_what_it_was_made_of_alone_until_it_takes_its_place():
    state = run_state(unread=("other",), claims={"third": frozenset("a")})
    draft = state.draft()
    draft.record("mine", waits("b"), ["a", "c"])
    draft.ownership.record_failure("other", ["d"])
    draft.organization.is_seen = True
    assert state == run_state(unread=("other",), claims={"third": frozenset("a")})
    assert draft.ownership.claims.of("a") == {"mine", "third"}
    assert draft.ownership.claims.count == 3
    assert draft.draft().ownership.claims.of("a") == {"mine", "third"}
    assert draft.draft().ownership.claims.of("d") == {"other"}


def test_view_that_waits_tells_the_others_what_it_lists_and_what_not():
    state = run_state(unread=("other",))
    state.record("mine", waits("bd", foreign=["c"]), ["a", "c"])
    ownership = state.ownership
    assert (ownership.unread, set(ownership.absent)) == ({"other"}, {"mine"})
    assert ownership.deferred == {"mine": frozenset("ac")}
    assert ownership.absent == {"mine": frozenset("bd")}
    assert ownership.is_listed_elsewhere("a", "other")
    assert ownership.is_listed_elsewhere("c", "other")
    assert not ownership.is_listed_elsewhere("b", "other")
    assert not ownership.is_listed_elsewhere("a", "mine")


def test_view_that_was_loaded_waits_no_longer_but_its_claims_stay():
    state = run_state()
    state.record("mine", waits(""), ["a"])
    state.record("mine", ChangeSet(absence=Absence(absent=["b"])), ["a"])
    ownership = state.ownership
    assert (ownership.deferred, ownership.absent) == ({}, {"mine": frozenset("b")})
    assert ownership.is_listed_elsewhere("a", "other")


def test_view_that_failed_was_not_read_but_what_it_listed_is_not_gone():
    state = run_state(unread=("other",))
    state.ownership.record_failure("other", ["a"])
    assert (state.ownership.unread, state.ownership.absent) == ({"mine"}, {})
    assert state.ownership.is_listed_elsewhere("a", "mine")


# --- one id listed twice ------------------------------------------------------------------

OLD, NEW = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"
ZERO = "0001-01-01T00:00:00Z"


def copies(*modified: str | None) -> list[Snapshot]:
    """Records of one id; each has a name of its own."""
    return [snapshot("a", snapshot_name=str(n), modified_at=m) for n, m in enumerate(modified)]


def greatest(*read: Snapshot) -> Snapshot:
    return max(read, key=lambda s: s.content_hash)


def winner(read: list[Snapshot], known: dict[str, StoredId] | None = None) -> Snapshot:
    """The same whatever the order."""
    winners = [unique(order, known or {}) for order in permutations(read)]
    assert all(winner == winners[0] for winner in winners)
    by_id, duplicates = winners[0]
    assert duplicates == len(read) - 1
    return by_id["a"]


@pytest.mark.parametrize(
    ("modified", "wins"),
    [
        pytest.param((OLD, NEW), 1, id="the later"),
        pytest.param((OLD, NEW, ZERO), 1, id="the latest of three"),
        pytest.param((None, OLD), 1, id="any instant before NULL"),
        pytest.param((None, OLD, None), 1, id="one instant among NULLs"),
    ],
)
def test_later_of_two_records_wins(modified, wins):
    read = copies(*modified)
    assert winner(read) == read[wins]
    assert winner(read, {"a": stored(read[0])}) == read[wins]


@pytest.mark.parametrize("modified", [OLD, None], ids=["equal instants", "NULLs"])
def test_on_a_tie_the_stored_one_wins_else_the_greater_hash(modified):
    read = copies(modified, modified, modified)
    assert winner(read) == greatest(*read)
    assert winner(read, {"a": stored(BLUE)}) == greatest(*read)
    for one in read:
        assert winner(read, {"a": stored(one)}) == one


def test_equal_records_are_duplicates_all_the_same():
    by_id, duplicates = unique([RED, RED, snapshot("b"), RED], {})
    assert (by_id, duplicates) == ({"a": RED, "b": snapshot("b")}, 2)


pool = st.builds(
    lambda i, name, at: snapshot(i, snapshot_name=name, modified_at=at),
    st.sampled_from("abc"),
    st.sampled_from("xyz"),
    st.sampled_from([None, OLD, NEW]),
)
known_rows = st.dictionaries(
    st.sampled_from("abcde"),
    st.builds(
        lambda read, by, source, removed: stored(read, by=by, source=source, removed=removed),
        pool,
        st.sampled_from(["mine", "other", "gone"]),
        st.sampled_from(["s", "s", "s", "elsewhere"]),
        st.booleans(),
    ),
)
surroundings = st.builds(
    lambda unread, read, absent, waiting, claims: run_state(
        unread=unread,
        read=read,
        absent={"other": absent},
        waiting={"other": waiting},
        claims={"third": claims},
    ),
    st.sampled_from([(), ("other",), ("third",)]),
    st.sampled_from([(), ("other",)]),
    *[st.frozensets(st.sampled_from("abcde"))] * 3,
)


@given(st.lists(pool, max_size=8), known_rows, surroundings, st.booleans(), st.data())
def test_order_of_an_answer_decides_nothing(read, known, state, is_proven, data):
    changes = listing(*read, known=known, state=state, is_proven=is_proven)
    shuffled = data.draw(st.permutations(read))
    assert listing(*shuffled, known=known, state=state, is_proven=is_proven) == changes


@given(st.lists(pool, max_size=8), known_rows, surroundings, st.booleans())
def test_each_record_of_a_listing_is_counted_once(read, known, state, is_proven):
    d = listing(*read, known=known, state=state, is_proven=is_proven)
    written = len(d.new) + len(d.changed) + len(d.returned)
    left_alone = len(d.foreign) + len(d.rejected)
    assert written + d.unchanged + left_alone + d.duplicates == len(read)
    assert len(d.moved) <= d.unchanged
    ids = [s.id for s in (*d.new, *d.changed, *d.returned)] + d.foreign
    ids += d.absence.removed + d.absence.kept
    assert len(ids) == len(set(ids))


@given(st.lists(pool, max_size=8), known_rows, surroundings, st.booleans())
def test_only_rows_of_the_view_that_are_live_and_unlisted_go(read, known, state, is_proven):
    changes = listing(*read, known=known, state=state, is_proven=is_proven)
    mine = {i for i, row in known.items() if row.view_key == "mine" and not row.is_removed}
    absence = changes.absence
    assert {*absence.removed, *absence.kept} == mine - {s.id for s in read}
    assert is_proven or not absence.removed


# --- rows ---------------------------------------------------------------------------------

LATER = NOON + timedelta(hours=1)
ROW = [column.name for column in snapshots.columns]


def place(row: tuple[Any, ...]) -> dict[str, Any]:
    named = dict(zip(ROW, row, strict=True))
    return {name: value for name, value in named.items() if name not in CONTENT}


def stored_row(read: Snapshot = RED, removed_at: datetime | None = None) -> StoredRow:
    return StoredRow(content_of(read), NOON, 3, "changed", "device_type", NOON + TICK, removed_at)


def test_new_row_begins_with_its_reading():
    (row,) = new_rows([RED], OWNER, began="baseline", read_at=LATER)
    assert place(row) == {
        "id": "a",
        "source": "s",
        "view_key": "mine",
        "synced_view": "/home",
        "content_hash": RED.content_hash,
        "first_seen_at": LATER,
        "version": 1,
        "began": "baseline",
        "changed_columns": None,
        "valid_from": LATER,
        "missing_since": None,
        "removed_at": None,
    }


def test_row_holds_the_content_in_the_order_of_the_columns():
    (row,) = new_rows([BLUE], OWNER, began="added", read_at=NOON)
    named = dict(zip(ROW, row, strict=True))
    assert tuple(named[name] for name in CONTENT) == content_of(BLUE)
    assert (named["created_by"], named["extra"]) == ("blue", None)


@pytest.mark.parametrize("began", ["changed", "returned"])
def test_next_row_is_the_next_version_of_the_same_id(began):
    row = place(next_row(BLUE, stored_row(), OWNER, began=began, read_at=LATER))
    assert (row["first_seen_at"], row["valid_from"], row["removed_at"]) == (NOON, LATER, None)
    assert (row["version"], row["began"], row["changed_columns"]) == (4, began, "created_by")
    assert row["content_hash"] == BLUE.content_hash


def test_row_that_returns_as_it_was_has_no_changed_columns():
    row = place(next_row(RED, stored_row(removed_at=NOON), OWNER, began="returned", read_at=LATER))
    assert (row["version"], row["changed_columns"], row["removed_at"]) == (4, None, None)


def test_kept_row_is_the_same_version_under_its_owner():
    row = place(kept_row(RED, stored_row(), Owner("s", "third", "/third")))
    assert (row["view_key"], row["synced_view"]) == ("third", "/third")
    assert (row["version"], row["began"], row["changed_columns"]) == (3, "changed", "device_type")
    assert (row["first_seen_at"], row["valid_from"]) == (NOON, NOON + TICK)


@pytest.mark.parametrize(
    ("before", "after", "names"),
    [
        pytest.param({}, {}, "", id="nothing"),
        pytest.param({}, {"start": 0}, "start_ms", id="NULL against zero"),
        pytest.param({"view_id": ""}, {}, "view_id", id="an empty text against NULL"),
        pytest.param({}, {"color": 1}, "extra", id="an unknown attribute"),
        pytest.param(
            {"view_id": "b", "created_by": "a"},
            {"view_id": "a", "created_by": "b"},
            "created_by,view_id",
            id="two, in the order of the columns",
        ),
    ],
)
def test_changed_columns(before, after, names):
    contents = [content_of(snapshot("a", **attributes)) for attributes in (before, after)]
    assert changed_columns(*contents) == names


# --- the instant of a reading -------------------------------------------------------------


@pytest.mark.parametrize(
    ("touched", "expected"),
    [
        pytest.param([], NOON, id="nothing touched: when it arrived"),
        pytest.param([None, None], NOON, id="NULLs do not count"),
        pytest.param([NOON - TICK], NOON, id="later than all: when it arrived"),
        pytest.param([NOON], NOON + TICK, id="the same instant: one microsecond later"),
        pytest.param([LATER, NOON, None], LATER + TICK, id="the clock stepped back: after all"),
    ],
)
def test_reading_instant(touched, expected):
    assert reading_instant(NOON, touched) == expected
    assert reading_instant(NOON, iter(touched)) == expected
