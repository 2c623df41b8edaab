"""Rule 1 as tables: what the parts of a view prove, clause by clause."""

import pytest

from etl.errors import DatadogRequestError
from etl.extract.completeness import COMPLETE, TRUNCATED, UNPROVEN
from etl.extract.partition import (
    NO_PROOF,
    Applications,
    Partition,
    PartitionedListing,
    Proof,
    unite,
)
from etl.transform.snapshot import Decoded, reject
from tests.support.strategies import snapshot

# --- parts --------------------------------------------------------------------------------

A, B, C = Partition("a"), Partition("b"), Partition("c")
A_DESKTOP, A_MOBILE = Partition("a", "desktop"), Partition("a", "mobile")


def records(ids: str, application: str | None = None, device: str | None = None) -> Decoded:
    """One record for each letter, "a1" style ids being of application "a"."""
    return Decoded(
        [
            snapshot(i, application_id=application or i[0], device_type=device)
            if application != ""
            else snapshot(i, application_id=None)
            for i in ids.split()
        ]
    )


NOTHING = records("")


def listing(
    whole: Decoded,
    parts: dict[Partition, Decoded],
    *,
    limit: int = 1000,
    learned_cap: int | None = None,
    is_list_known: bool = True,
    is_by_application: bool = True,
    off_list: str = "",
    has_records_without: bool = False,
    unanswered: tuple[Partition, ...] = (),
) -> PartitionedListing:
    made = PartitionedListing(
        whole,
        limit,
        "a round number",
        learned_cap,
        Applications(
            [] if is_list_known else None, frozenset(off_list.split()), has_records_without
        ),
        is_by_application,
    )
    for part, answer in parts.items():
        made.add(part, answer, limit)
    for part in unanswered:
        made.add_unanswered(part, DatadogRequestError("404"))
    return made


WHOLE = records("a1 a2 b1 b2")
MORE = {A: records("a1 a2 a3"), B: records("b1 b2 b3")}
FULL_A = {A: records("a1 a2 a3 a4"), B: records("b1 b2")}
DEVICES = {A_DESKTOP: records("a1 a2 a3", device="desktop"), A_MOBILE: NOTHING}
WITHOUT_APPLICATION = Decoded([*records("a1 a2 b1").snapshots, *records("n1", "").snapshots])

VERDICTS = {
    # name: (split, verdict, proven parts)
    "every part smaller, every id in one": (
        listing(WHOLE, {A: records("a1 a2"), B: records("b1 b2")}),
        COMPLETE,
        {A, B},
    ),
    "and more than the whole answer": (listing(WHOLE, MORE), COMPLETE, {A, B}),
    "an empty part is smaller": (listing(WHOLE, {**MORE, C: NOTHING}), COMPLETE, {A, B, C}),
    "more, by applications that were only seen": (
        listing(WHOLE, MORE, is_list_known=False),
        UNPROVEN,
        {A, B},
    ),
    "an empty list of applications": (listing(WHOLE, {}), UNPROVEN, set()),
    "an empty list, and the limit filled": (listing(WHOLE, {}, limit=4), TRUNCATED, set()),
    "an empty list, and a learned cap": (listing(WHOLE, {}, learned_cap=4), TRUNCATED, set()),
    "an id of the whole answer in no part": (
        listing(WITHOUT_APPLICATION, {A: records("a1 a2"), B: records("b1")}),
        UNPROVEN,
        {A, B},
    ),
    "the same, and the whole answer was cut": (
        listing(WITHOUT_APPLICATION, {A: records("a1 a2 a3"), B: records("b1")}),
        TRUNCATED,
        {A, B},
    ),
    "a reject of the whole answer in no part": (
        listing(Decoded(records("a1 a2 b1").snapshots, [reject("no id", {})]), MORE),
        UNPROVEN,
        {A, B},
    ),
    "an application that is not on the list, with records": (
        listing(WHOLE, {**MORE, C: records("c1")}, off_list="c"),
        UNPROVEN,
        {A, B, C},
    ),
    "and without any": (listing(WHOLE, {**MORE, C: NOTHING}, off_list="c"), COMPLETE, {A, B, C}),
    "only such applications": (listing(NOTHING, {}, off_list="c"), UNPROVEN, set()),
    "a record without an application was seen elsewhere": (
        listing(WHOLE, MORE, has_records_without=True),
        UNPROVEN,
        {A, B},
    ),
    "a part as large as the whole answer": (listing(WHOLE, FULL_A), TRUNCATED, {B}),
    "and larger, the limit not filled": (
        listing(WHOLE, {A: records("a1 a2 a3 a4 a5"), B: records("b1 b2")}),
        UNPROVEN,
        {B},
    ),
    "as large, and nothing is known to be cut": (
        listing(records("a1 a2 a3"), {A: records("a1 a2 a3"), B: NOTHING}),
        UNPROVEN,
        {B},
    ),
    "as large, and the limit filled": (
        listing(records("a1 a2 a3"), {A: records("a1 a2 a3"), B: NOTHING}, limit=3),
        TRUNCATED,
        {B},
    ),
    "as large, and a learned cap": (
        listing(records("a1 a2 a3"), {A: records("a1 a2 a3"), B: NOTHING}, learned_cap=3),
        TRUNCATED,
        {B},
    ),
    "as large, its device types smaller": (
        listing(WHOLE, {**FULL_A, A_DESKTOP: records("a1 a2 a3"), A_MOBILE: records("a4")}),
        UNPROVEN,
        {B, A_DESKTOP, A_MOBILE},
    ),
    "the same, with more than the application's part": (
        listing(WHOLE, {**FULL_A, A_DESKTOP: records("a1 a2 a3"), A_MOBILE: records("a4 a5")}),
        UNPROVEN,
        {B, A_DESKTOP, A_MOBILE},
    ),
    "the same, and an id of that in none of them": (
        listing(WHOLE, {**FULL_A, A_DESKTOP: records("a1 a2 a3"), A_MOBILE: records("a5")}),
        TRUNCATED,
        {B, A_DESKTOP, A_MOBILE},
    ),
    "as large, one of its device types as well": (
        listing(WHOLE, {**FULL_A, A_DESKTOP: records("a1 a2 a3 a4", device="desktop")}),
        TRUNCATED,
        {B},
    ),
    "a part without an id that the whole answer has of it": (
        listing(WHOLE, {A: records("a1"), B: records("b1 b2")}),
        UNPROVEN,
        {B},
    ),
    "a part that gave no answer": (
        listing(WHOLE, {A: records("a1 a2")}, unanswered=(B,)),
        UNPROVEN,
        {A},
    ),
    "no answer, and the whole answer was cut": (
        listing(WHOLE, {A: records("a1 a2 a3")}, unanswered=(B,)),
        TRUNCATED,
        {A},
    ),
    "no answer, and the limit filled": (
        listing(WHOLE, {A: records("a1 a2")}, unanswered=(B,), limit=4),
        TRUNCATED,
        {A},
    ),
    "a view of one application, by device types": (
        listing(
            records("a1 a2 a3", device="desktop"),
            {A_DESKTOP: records("a1 a2", device="desktop"), A_MOBILE: records("a3")},
            is_by_application=False,
        ),
        UNPROVEN,
        {A_MOBILE},
    ),
}


@pytest.mark.parametrize(("made", "verdict", "proven"), VERDICTS.values(), ids=VERDICTS)
def test_parts_prove(made: PartitionedListing, verdict: str, proven: set[Partition]) -> None:
    assert made.verdict(made.united()) == verdict
    assert made.proven() == proven


def test_a_part_under_another_limit_proves_nothing() -> None:
    made = listing(WHOLE, {B: records("b1 b2")})
    made.add(A, records("a1 a2"), 500)
    assert made.proven() == {B}
    assert made.verdict(made.united()) == UNPROVEN
    assert made.reason(made.united()).endswith(
        "; 1 of them proves nothing: the API now refuses a limit of 1000"
    )


CAPS = {
    "the parts have more": (listing(WHOLE, MORE), 4),
    "the parts have as many": (listing(WHOLE, {A: records("a1 a2"), B: records("b1 b2")}), None),
    "there are no parts": (listing(WHOLE, {}), None),
}


@pytest.mark.parametrize(("made", "cap"), CAPS.values(), ids=CAPS)
def test_a_cap_is_where_the_server_had_more(made: PartitionedListing, cap: int | None) -> None:
    assert made.cap(made.united()) == cap


REASONS = {
    "all": (listing(WHOLE, MORE), "; 6 in 2 parts by all applications"),
    "known": (
        listing(WHOLE, MORE, is_list_known=False),
        "; 6 in 2 parts by the known applications",
    ),
    "devices": (
        listing(WHOLE, DEVICES, is_by_application=False),
        "; 5 in 2 parts by device types",
    ),
    "none": (listing(WHOLE, {}), "; it cannot be split further"),
    "unanswered": (
        listing(WHOLE, {A: MORE[A]}, unanswered=(B,)),
        "; 5 in 2 parts by all applications; 1 of them proves nothing: 404",
    ),
}


@pytest.mark.parametrize(("made", "end"), REASONS.values(), ids=REASONS)
def test_the_reason_says_how_it_was_partitioned(made: PartitionedListing, end: str) -> None:
    assert made.reason(made.united()) == f"4 of 1000 asked for (a round number){end}"


# --- which rows may go --------------------------------------------------------------------

COVERED = {
    # name: (proof, application, device type, whether such a row would have been listed)
    "the whole covers any row": (Proof(is_whole=True), None, None, True),
    "no proof covers none": (NO_PROOF, "a", "desktop", False),
    "the part of its application": (Proof(is_whole=False, parts=frozenset({A})), "a", None, True),
    "whatever its device type": (Proof(is_whole=False, parts=frozenset({A})), "a", "tv", True),
    "not another application's": (Proof(is_whole=False, parts=frozenset({A})), "b", None, False),
    "not without an application": (Proof(is_whole=False, parts=frozenset({A})), None, None, False),
    "the part of its device type": (
        Proof(is_whole=False, parts=frozenset({A_MOBILE})),
        "a",
        "mobile",
        True,
    ),
    "not another device type's": (
        Proof(is_whole=False, parts=frozenset({A_MOBILE})),
        "a",
        "desktop",
        False,
    ),
    "not one spelled otherwise": (
        Proof(is_whole=False, parts=frozenset({A_MOBILE})),
        "a",
        "Mobile",
        False,
    ),
    "not without a device type": (
        Proof(is_whole=False, parts=frozenset({A_MOBILE})),
        "a",
        None,
        False,
    ),
}


@pytest.mark.parametrize(
    ("proof", "application", "device", "is_covered"), COVERED.values(), ids=COVERED
)
def test_a_proof_covers(
    proof: Proof, application: str | None, device: str | None, is_covered: bool
) -> None:
    assert proof.covers(application, device) is is_covered


@pytest.mark.parametrize(
    ("part", "application", "device", "is_held"),
    [
        (A, "a", "desktop", True),
        (A, "a", None, True),
        (A, None, "desktop", False),
        (A_MOBILE, "a", "mobile", True),
        (A_MOBILE, "a", None, False),
        (A_MOBILE, "b", "mobile", False),
    ],
)
def test_a_part_holds(
    part: Partition, application: str | None, device: str | None, is_held: bool
) -> None:
    assert part.holds(application, device) is is_held


# --- one listing of several answers -------------------------------------------------------


def test_united_answers_hold_each_id_once_and_the_later_one() -> None:
    early, late = snapshot("x", event_id="early"), snapshot("x", event_id="late")
    united = unite([Decoded([early, snapshot("y")]), Decoded([late, snapshot("z")])])
    assert sorted(s.id for s in united.snapshots) == ["x", "y", "z"]
    assert late in united.snapshots
    assert early not in united.snapshots


def test_united_answers_keep_what_one_answer_listed_twice() -> None:
    twice = Decoded([snapshot("x"), snapshot("x")])
    assert unite([twice, Decoded([snapshot("x")])]).listed == 2
    assert unite([Decoded([snapshot("x")]), twice]).listed == 2


def test_united_answers_hold_each_reject_once() -> None:
    one, other = reject("no id", {}), reject("not an object", [])
    united = unite([Decoded([], [one]), Decoded([], [one, other])])
    assert united.rejected == [one, other]


def test_united_answers_count_drift_as_the_answer_that_has_most_of_it() -> None:
    first, second = Decoded(), Decoded()
    for _ in range(3):
        first.note("new", "unknown attribute", '"b"')
    second.note("new", "unknown attribute", '"a"')
    assert list(unite([first, second]).drift.values()) == [(3, '"a"')]
