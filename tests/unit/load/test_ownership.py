"""etl.load.ownership: what one run knows of its views."""

from typing import Any

from etl.load.changeset import Absence, ChangeSet, StoredId
from tests.support.run_state import run_state
from tests.support.strategies import snapshot


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


def test_a_row_that_was_taken_over_is_listed_by_its_new_owner():
    state = run_state()
    state.record("mine", ChangeSet(taken={"a": "other"}), ["a"])
    assert state.ownership.is_listed_elsewhere("a", "other")
    assert not state.ownership.is_listed_elsewhere("a", "mine")


def test_what_is_taken_over_stands_in_the_order_of_ids():
    ownership = run_state(read=("other",), absent={"other": frozenset("ab")}).ownership
    changes = ChangeSet(changed=[snapshot("c")], returned=[snapshot("d")])
    old, removed = (StoredId("1:before", "other", "s", is_removed=r) for r in (False, True))
    changes.elsewhere = [(snapshot("a"), old), (snapshot("b"), removed)]
    ownership.assign(changes, "mine")
    assert [s.id for s in changes.changed] == ["a", "c"]
    assert [s.id for s in changes.returned] == ["b", "d"]


def test_a_view_that_answers_as_last_time_has_lost_nothing_and_waits_no_longer():
    state = run_state(absent={"mine": frozenset("a")}, waiting={"mine": frozenset("b")})
    state.record_same("mine", has_rows=True)
    ownership = state.ownership
    assert (ownership.unread, ownership.deferred) == (set(), {})
    assert ownership.absent == {"mine": frozenset()}
    assert state.organization.is_seen


def test_whether_a_row_may_be_taken_over_is_a_plain_answer():
    ownership = run_state(unread=("other",), read=("third",)).ownership
    for owner in ("other", "third"):
        row = StoredId("1:before", owner, "s", is_removed=False)
        assert ownership._may_take("a", row) is False
