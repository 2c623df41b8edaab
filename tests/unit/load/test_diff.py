"""etl.load.diff: stored rows and one listing -> what is to be written."""

from copy import deepcopy
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.load.changeset import Absence, ChangeSet, StoredId, StoredIds
from etl.load.decide import RunState, decide
from etl.load.diff import OTHER_SOURCE, diff, unique
from etl.transform.snapshot import Snapshot, record_of, reject_text
from tests.support.run_state import BLUE, OWNER, RED, run_state
from tests.support.strategies import snapshot


def stored(read: Snapshot = RED, *, by: str = "mine", source: str = "s", removed: bool = False):
    return StoredId(read.content_hash, by, source, is_removed=removed)


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


# --- the rows of a view with nothing special about them -------------------------------------


def test_plain_rows_are_compared_by_their_hashes_and_counted_with_the_others():
    new, same, other = snapshot("n"), snapshot("s"), snapshot("o")
    plain = {"s": same.content_hash, "o": "1:before", "gone": "1:before"}
    held = StoredId("1:before", "mine", "s", is_removed=False, is_missing=True)
    changes = diff([new, same, other], StoredIds(plain, {"held": held}), OWNER)
    assert changes.unchanged == 1
    assert [[s.id for s in some] for some in (changes.new, changes.changed)] == [["n"], ["o"]]
    absence = changes.absence
    assert (absence.live, absence.unlisted) == (4, ["gone", "held"])
    assert (absence.absent, absence.missing) == (["gone", "held"], frozenset({"held"}))


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
