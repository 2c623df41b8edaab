"""etl.load.removals: what is held, without a database."""

from collections.abc import Collection, Sequence
from itertools import combinations_with_replacement, product

import pytest

from etl.load.changeset import Absence, ChangeSet
from etl.load.ownership import Ownership
from etl.load.removals import FEWEST, RemovalGuard, Removals
from tests.support.removal_rules import Sizes, outcomes

GUARD = RemovalGuard(0.3, 20)
Lost = dict[str, tuple[int, Sequence[str]]]
"""For each view, how many rows it had, and which of them are absent."""


@pytest.mark.parametrize(
    ("gone", "live", "is_any_listed", "holds"),
    [
        (0, 0, False, False),
        (0, 3, False, False),
        (20, 60, True, False),
        (20, 21, True, False),
        (21, 70, True, False),
        (21, 69, True, True),
        (2, 2, False, False),
        (3, 3, False, True),
        (1, 3, False, True),
        (3, 3, True, False),
    ],
)
def test_the_guard_needs_a_share_and_a_number_or_nothing_listed(
    gone: int, live: int, is_any_listed: bool, holds: bool
) -> None:
    assert GUARD.holds(gone, live, is_any_listed=is_any_listed) is holds
    off = RemovalGuard(0.3, 20, is_off=True)
    assert off.holds(gone, live, is_any_listed=is_any_listed) is False


def test_three_are_the_fewest() -> None:
    assert FEWEST == 3


def changes(
    live: int, absent: Sequence[str], ownership: Ownership, view: str, missing: Collection[str] = ()
) -> ChangeSet:
    """Those of a view that no longer lists `absent`."""
    unlisted = [*absent]
    gone = [i for i in absent if not ownership.is_listed_elsewhere(i, view)]
    return ChangeSet(
        absence=Absence(live, unlisted, [*absent], gone, missing=frozenset(missing)),
    )


def told(
    lost: Lost,
    missing: Collection[str] = (),
    ownership: Ownership | None = None,
    removals: Removals | None = None,
) -> dict[str, Absence]:
    """What becomes of the rows once all views have answered, by view."""
    ownership = ownership or Ownership(frozenset(lost), set())
    removals = removals or Removals(GUARD)
    for view, (live, absent) in lost.items():
        removals.record(view, changes(live, absent, ownership, view), ownership)
    found = {}
    for view, (live, absent) in lost.items():
        given = changes(live, absent, ownership, view, missing)
        assert removals.hold(given, view, ownership) is given
        found[view] = given.absence
    return found


def kind(absence: Absence) -> str:
    if not absence.held:
        assert absence.removed == absence.gone
        return "gone"
    assert (absence.removed, absence.held) == ([], sorted(absence.gone))
    return "waits" if absence.needs_acceptance else "held"


PAIRS = [(live, kept) for live in (0, 1, 2, 3, 12, 23) for kept in {0, min(live, 1), live}]
MANY = [(0, 0), (1, 0), (3, 0), (3, 3), (23, 0), (30, 9)]


@pytest.mark.parametrize(
    ("pairs", "number"), [(PAIRS, 1), (PAIRS, 2), (PAIRS, 3), (MANY, 4), (MANY, 5), (MANY, 7)]
)
def test_of_any_views_what_goes_and_what_waits_is_as_the_rules_say(
    pairs: Sizes, number: int
) -> None:
    for views in combinations_with_replacement(pairs, number):
        lost: Lost = {
            f"/{n}": (live, [f"{n}-{k}" for k in range(live - kept)])
            for n, (live, kept) in enumerate(views)
        }
        expected = dict(zip(lost, outcomes([*views]), strict=True))
        for view, absence in told(lost).items():
            assert kind(absence) == (expected[view] if lost[view][1] else "gone"), (views, view)
        everything = [i for _, absent in lost.values() for i in absent]
        for view, absence in told(lost, everything).items():
            waits = bool(absence.gone) and expected[view] == "waits"
            assert absence.held == (sorted(absence.gone) if waits else [])
            assert absence.needs_acceptance is waits


@pytest.mark.parametrize(
    ("sizes", "outcome"),
    [((20,), "held"), ((21,), "waits"), ((10, 10), "held"), ((10, 11), "waits")],
)
def test_more_than_twenty_rows_that_are_all_there_was_wait(
    sizes: tuple[int, ...], outcome: str
) -> None:
    lost: Lost = {
        f"/{n}": (size, [f"{n}-{k}" for k in range(size)]) for n, size in enumerate(sizes)
    }
    assert {kind(absence) for absence in told(lost).values()} == {outcome}


def test_one_row_that_is_not_all_there_was_goes_even_if_no_number_is_small_enough() -> None:
    found = told({"/a": (10, ["a"])}, removals=Removals(RemovalGuard(0.3, 0)))
    assert kind(found["/a"]) == "gone"


def test_the_view_that_is_decided_counts_before_it_is_recorded() -> None:
    ownership, removals = elsewhere(), Removals(GUARD)
    given = removals.hold(changes(3, ["a", "b", "c"], ownership, "/a"), "/a", ownership)
    assert kind(given.absence) == "held"


def test_what_was_missing_before_goes_and_the_rest_is_held() -> None:
    found = told({"/a": (30, ["d", "b", "c", "a"] + [f"x{n}" for n in range(20)])}, {"a", "d"})
    assert found["/a"].removed == ["d", "a"]
    assert found["/a"].held == ["b", "c", *sorted(f"x{n}" for n in range(20))]


def test_all_of_a_view_may_go_when_the_person_accepts_it() -> None:
    removals = Removals(RemovalGuard(0.3, 20, is_off=True), frozenset({"/a"}))
    found = told({"/a": (30, [f"{n}" for n in range(30)])}, removals=removals)
    assert kind(found["/a"]) == "gone"
    assert not found["/a"].needs_acceptance


@pytest.mark.parametrize("gone", [0, 1])
def test_what_waited_for_a_person_goes_on_waiting(gone: int) -> None:
    removals = Removals(GUARD, frozenset({"/a"}))
    found = told({"/a": (30, ["a"][:gone]), "/b": (30, ["b"])}, {"a"}, removals=removals)
    assert found["/a"].needs_acceptance
    assert (found["/a"].removed, found["/a"].held) == ([], ["a"][:gone])
    assert (found["/b"].removed, found["/b"].needs_acceptance) == (["b"], False)


def elsewhere(*ids: str) -> Ownership:
    ownership = Ownership(frozenset({"/a", "/b", "/c", "/d"}), set())
    ownership.claims.add("/d", ids)
    return ownership


@pytest.mark.parametrize(("moved", "held"), [("", 4), ("a", 0), ("abcd", 0)])
def test_a_row_that_another_view_lists_is_no_loss(moved: str, held: int) -> None:
    """Four rows of views too small for a guard of their own."""
    found = told({"/a": (2, ["a", "b"]), "/b": (2, ["c", "d"])}, ownership=elsewhere(*moved))
    assert sum(len(absence.held) for absence in found.values()) == held
    assert sum(len(absence.removed) for absence in found.values()) == 4 - held - len(moved)


@pytest.mark.parametrize(("later", "waits"), [((), True), (("b1", "b2", "b3"), False)])
def test_what_another_view_listed_since_is_no_loss(later: tuple[str, ...], waits: bool) -> None:
    """Three views lost all; the rows of one of them turn up elsewhere before it is decided."""
    ownership, removals = elsewhere(), Removals(GUARD)
    lost = {view: [f"{view[1]}{n}" for n in (1, 2, 3)] for view in ("/a", "/b", "/c")}
    for view, absent in lost.items():
        removals.record(view, changes(3, absent, ownership, view), ownership)
    ownership.claims.add("/d", later)
    for view in ("/a", "/c"):
        given = removals.hold(changes(3, lost[view], ownership, view), view, ownership)
        assert given.absence.held == lost[view]
        assert given.absence.needs_acceptance is waits


@pytest.mark.parametrize("same", [(), ("/e",)])
@pytest.mark.parametrize("size", [3, 12])
def test_it_is_counted_again_before_a_person_is_asked(size: int, same: tuple[str, ...]) -> None:
    """Of three views that lost all, or of all that was there, one has only moved its rows."""
    ownership, removals = elsewhere(), Removals(GUARD)
    for view in same:
        removals.record_same(view, has_rows=True)
    names = ("/a", "/b", "/c") if size == 3 else ("/a", "/b")
    lost = {view: [f"{view[1]}{n:02}" for n in range(size)] for view in names}
    for view, absent in lost.items():
        removals.record(view, changes(size, absent, ownership, view), ownership)
    ownership.claims.add("/d", lost["/b"])
    given = removals.hold(changes(size, lost["/a"], ownership, "/a"), "/a", ownership)
    assert kind(given.absence) == "held"


def test_a_row_that_moved_shows_for_good_that_not_all_is_lost() -> None:
    ownership, removals = elsewhere("a"), Removals(GUARD)
    removals.record("/a", changes(1, ["a"], ownership, "/a"), ownership)
    removals.record("/a", changes(0, [], ownership, "/a"), ownership)
    given = changes(2, ["b", "c"], ownership, "/b")
    removals.record("/c", changes(2, ["d", "e"], ownership, "/c"), ownership)
    assert removals.hold(given, "/b", ownership).absence.removed == ["b", "c"]


@pytest.mark.parametrize("has_rows", [True, False])
def test_a_view_that_answers_as_last_time_lists_its_rows(has_rows: bool) -> None:
    ownership, removals = elsewhere(), Removals(GUARD)
    removals.record_same("/d", has_rows=has_rows)
    lost: Lost = {"/a": (2, ["a", "b"]), "/b": (2, ["c", "d"])}
    found = told(lost, ownership=ownership, removals=removals)
    assert {kind(absence) for absence in found.values()} == {"gone" if has_rows else "held"}
    assert ("/d" in removals.with_rows) is has_rows


@pytest.mark.parametrize(("same", "waits"), [(3, True), (4, False)])
def test_three_of_six_views_with_rows_are_many_and_of_seven_are_not(same: int, waits: bool) -> None:
    removals = Removals(GUARD)
    for n in range(same):
        removals.record_same(f"/same-{n}", has_rows=True)
    lost: Lost = {f"/{n}": (3, [f"{n}-{k}" for k in range(3)]) for n in range(3)}
    lost["/empty"] = (0, [])
    found = told(lost, removals=removals)
    assert {kind(found[f"/{n}"]) for n in range(3)} == {"waits" if waits else "held"}


def test_a_view_that_lists_its_rows_again_loses_nothing() -> None:
    ownership, removals = elsewhere(), Removals(GUARD)
    for view, absent in product(("/a", "/b", "/c"), (["x", "y", "z"], [])):
        removals.record(view, changes(3, absent, ownership, view), ownership)
    assert removals.losing == set()
    given = changes(2, ["p", "q"], ownership, "/d")
    assert kind(removals.hold(given, "/d", ownership).absence) == "gone"


def test_a_draft_leaves_what_it_was_made_of_alone() -> None:
    ownership, removals = elsewhere(), Removals(GUARD)
    draft = removals.draft()
    draft.record("/a", changes(3, ["a", "b", "c"], ownership, "/a"), ownership)
    draft.record_same("/b", has_rows=True)
    assert removals == Removals(GUARD)
    assert draft.draft() == draft
    assert draft.losing == {"/a"}
