"""Rule 1 as tables: what a number of records proves, clause by clause."""

import pytest

from etl.errors import DatadogRequestError
from etl.extract.completeness import (
    COMPLETE,
    NO_PROOF,
    ROUND_NUMBERS,
    TRUNCATED,
    UNPROVEN,
    Evidence,
    Place,
    Proof,
    Split,
    device_types,
    lowered_limit,
    unite,
)
from etl.transform.snapshot import Decoded, reject
from tests.support.strategies import snapshot

# --- one number among the others of its run -----------------------------------------------

SUSPICIONS = {
    # name: (limit, learned cap, counts of the run, the count in question, why it is doubted)
    "nothing is whole": (1000, None, [0, 0], 0, ""),
    "nothing is whole, be it all there is": (1000, None, [0], 0, ""),
    "an odd number is whole": (1000, None, [37], 37, ""),
    "a round number below ten is whole": (1000, None, [5], 5, ""),
    "a full answer fills the limit": (37, None, [37], 37, "fills the limit"),
    "more than the limit fills it": (37, None, [41], 41, "fills the limit"),
    "a full answer is doubted however many others are full": (
        37,
        None,
        [37, 37],
        37,
        "fills the limit",
    ),
    "one less than the limit is whole": (38, None, [37], 37, ""),
    "less than another of the run is whole": (1000, None, [50, 51], 50, ""),
    "a learned cap less than another is whole": (1000, 37, [37, 38], 37, ""),
    "the other may come first": (1000, None, [51, 50], 50, ""),
    "the larger of two is still doubted": (1000, None, [99, 100], 100, "a round number"),
    "a learned cap": (1000, 37, [37], 37, "the API was seen to stop there"),
    "more than a learned cap is whole": (1000, 37, [38], 38, ""),
    "less than a learned cap is whole": (1000, 37, [36], 36, ""),
    "two of two views at one number": (1000, None, [37, 37], 37, ""),
    "three of three": (1000, None, [37] * 3, 37, "3 views stop there"),
    "three of fifteen are a fifth": (1000, None, [37] * 3 + [5] * 12, 37, "3 views stop there"),
    "three of sixteen are not": (1000, None, [37] * 3 + [5] * 13, 37, ""),
    "views without rows are not counted": (
        1000,
        None,
        [37] * 3 + [5] * 12 + [0] * 50,
        37,
        "3 views stop there",
    ),
    "three at a number that is not the largest": (1000, None, [37] * 3 + [38], 37, ""),
    "and the largest of them alone": (1000, None, [37] * 3 + [38], 38, ""),
}


@pytest.mark.parametrize(
    ("limit", "cap", "counts", "count", "why"), SUSPICIONS.values(), ids=SUSPICIONS
)
def test_a_number_is_doubted(
    limit: int, cap: int | None, counts: list[int], count: int, why: str
) -> None:
    for order in (counts, counts[::-1]):
        evidence = Evidence(limit, cap)
        for number in order:
            evidence.add(number)
        assert evidence.suspicion(count) == why


ROUND = (10, 20, 25, 30, 40, 50, 60, 75, 80, 90, 100, 150, 200, 250, 300, 400, 500, 750)
LARGE = (1000, 1500, 2000, 2500, 5000, 10000)


@pytest.mark.parametrize("count", [*ROUND, *LARGE])
def test_a_round_number_is_doubted(count: int) -> None:
    evidence = Evidence(10**6)
    evidence.add(count)
    assert evidence.suspicion(count) == "a round number"


def test_no_other_number_is_round() -> None:
    assert {*ROUND, *LARGE} == ROUND_NUMBERS


def test_the_reason_names_what_was_asked_for_and_what_proves_it() -> None:
    evidence = Evidence(1000)
    evidence.add(12)
    assert evidence.reason(12) == "12 of 1000 asked for"
    evidence.add(40)
    assert evidence.reason(12) == "12 of 1000 asked for; another view had 40"
    assert evidence.reason(0) == "0 of 1000 asked for"


# --- parts --------------------------------------------------------------------------------

A, B, C = Place("a"), Place("b"), Place("c")
A_DESKTOP, A_MOBILE = Place("a", "desktop"), Place("a", "mobile")


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


def split(
    whole: Decoded,
    parts: dict[Place, Decoded],
    *,
    limit: int = 1000,
    learned_cap: int | None = None,
    is_listed: bool = True,
    is_by_application: bool = True,
    unlisted: str = "",
    has_homeless: bool = False,
    mute: tuple[Place, ...] = (),
) -> Split:
    made = Split(
        whole,
        limit,
        "a round number",
        learned_cap,
        is_listed,
        is_by_application,
        frozenset(unlisted.split()),
        has_homeless,
    )
    for place, answer in parts.items():
        made.add(place, answer, limit)
    for place in mute:
        made.add_mute(place, DatadogRequestError("404"))
    return made


WHOLE = records("a1 a2 b1 b2")
MORE = {A: records("a1 a2 a3"), B: records("b1 b2 b3")}
FULL_A = {A: records("a1 a2 a3 a4"), B: records("b1 b2")}
DEVICES = {A_DESKTOP: records("a1 a2 a3", device="desktop"), A_MOBILE: NOTHING}
WITHOUT_APPLICATION = Decoded([*records("a1 a2 b1").snapshots, *records("n1", "").snapshots])

VERDICTS = {
    # name: (split, verdict, proven parts)
    "every part smaller, every id in one": (
        split(WHOLE, {A: records("a1 a2"), B: records("b1 b2")}),
        COMPLETE,
        {A, B},
    ),
    "and more than the whole answer": (split(WHOLE, MORE), COMPLETE, {A, B}),
    "an empty part is smaller": (split(WHOLE, {**MORE, C: NOTHING}), COMPLETE, {A, B, C}),
    "more, by applications that were only seen": (
        split(WHOLE, MORE, is_listed=False),
        UNPROVEN,
        {A, B},
    ),
    "an empty list of applications": (split(WHOLE, {}), UNPROVEN, set()),
    "an empty list, and the limit filled": (split(WHOLE, {}, limit=4), TRUNCATED, set()),
    "an empty list, and a learned cap": (split(WHOLE, {}, learned_cap=4), TRUNCATED, set()),
    "an id of the whole answer in no part": (
        split(WITHOUT_APPLICATION, {A: records("a1 a2"), B: records("b1")}),
        UNPROVEN,
        {A, B},
    ),
    "the same, and the whole answer was cut": (
        split(WITHOUT_APPLICATION, {A: records("a1 a2 a3"), B: records("b1")}),
        TRUNCATED,
        {A, B},
    ),
    "a reject of the whole answer in no part": (
        split(Decoded(records("a1 a2 b1").snapshots, [reject("no id", {})]), MORE),
        UNPROVEN,
        {A, B},
    ),
    "an application that is not on the list, with records": (
        split(WHOLE, {**MORE, C: records("c1")}, unlisted="c"),
        UNPROVEN,
        {A, B, C},
    ),
    "and without any": (split(WHOLE, {**MORE, C: NOTHING}, unlisted="c"), COMPLETE, {A, B, C}),
    "only such applications": (split(NOTHING, {}, unlisted="c"), UNPROVEN, set()),
    "a record without an application was seen elsewhere": (
        split(WHOLE, MORE, has_homeless=True),
        UNPROVEN,
        {A, B},
    ),
    "a part as large as the whole answer": (split(WHOLE, FULL_A), TRUNCATED, {B}),
    "and larger, the limit not filled": (
        split(WHOLE, {A: records("a1 a2 a3 a4 a5"), B: records("b1 b2")}),
        UNPROVEN,
        {B},
    ),
    "as large, and nothing is known to be cut": (
        split(records("a1 a2 a3"), {A: records("a1 a2 a3"), B: NOTHING}),
        UNPROVEN,
        {B},
    ),
    "as large, and the limit filled": (
        split(records("a1 a2 a3"), {A: records("a1 a2 a3"), B: NOTHING}, limit=3),
        TRUNCATED,
        {B},
    ),
    "as large, and a learned cap": (
        split(records("a1 a2 a3"), {A: records("a1 a2 a3"), B: NOTHING}, learned_cap=3),
        TRUNCATED,
        {B},
    ),
    "as large, its device types smaller": (
        split(WHOLE, {**FULL_A, A_DESKTOP: records("a1 a2 a3"), A_MOBILE: records("a4")}),
        UNPROVEN,
        {B, A_DESKTOP, A_MOBILE},
    ),
    "the same, with more than the application's part": (
        split(WHOLE, {**FULL_A, A_DESKTOP: records("a1 a2 a3"), A_MOBILE: records("a4 a5")}),
        UNPROVEN,
        {B, A_DESKTOP, A_MOBILE},
    ),
    "the same, and an id of that in none of them": (
        split(WHOLE, {**FULL_A, A_DESKTOP: records("a1 a2 a3"), A_MOBILE: records("a5")}),
        TRUNCATED,
        {B, A_DESKTOP, A_MOBILE},
    ),
    "as large, one of its device types as well": (
        split(WHOLE, {**FULL_A, A_DESKTOP: records("a1 a2 a3 a4", device="desktop")}),
        TRUNCATED,
        {B},
    ),
    "a part without an id that the whole answer has of it": (
        split(WHOLE, {A: records("a1"), B: records("b1 b2")}),
        UNPROVEN,
        {B},
    ),
    "a part that gave no answer": (split(WHOLE, {A: records("a1 a2")}, mute=(B,)), UNPROVEN, {A}),
    "no answer, and the whole answer was cut": (
        split(WHOLE, {A: records("a1 a2 a3")}, mute=(B,)),
        TRUNCATED,
        {A},
    ),
    "no answer, and the limit filled": (
        split(WHOLE, {A: records("a1 a2")}, mute=(B,), limit=4),
        TRUNCATED,
        {A},
    ),
    "a view of one application, by device types": (
        split(
            records("a1 a2 a3", device="desktop"),
            {A_DESKTOP: records("a1 a2", device="desktop"), A_MOBILE: records("a3")},
            is_by_application=False,
        ),
        UNPROVEN,
        {A_MOBILE},
    ),
}


@pytest.mark.parametrize(("made", "verdict", "proven"), VERDICTS.values(), ids=VERDICTS)
def test_parts_prove(made: Split, verdict: str, proven: set[Place]) -> None:
    assert made.verdict(made.united()) == verdict
    assert made.proven() == proven


def test_a_part_under_another_limit_proves_nothing() -> None:
    made = split(WHOLE, {B: records("b1 b2")})
    made.add(A, records("a1 a2"), 500)
    assert made.proven() == {B}
    assert made.verdict(made.united()) == UNPROVEN
    assert made.reason(made.united()).endswith(
        "; 1 of them prove nothing: the API now refuses to be asked for 1000"
    )


CAPS = {
    "the parts have more": (split(WHOLE, MORE), 4),
    "the parts have as many": (split(WHOLE, {A: records("a1 a2"), B: records("b1 b2")}), None),
    "there are no parts": (split(WHOLE, {}), None),
}


@pytest.mark.parametrize(("made", "cap"), CAPS.values(), ids=CAPS)
def test_a_cap_is_where_the_server_had_more(made: Split, cap: int | None) -> None:
    assert made.cap(made.united()) == cap


REASONS = {
    "all": (split(WHOLE, MORE), "; 6 in 2 parts by all applications"),
    "known": (split(WHOLE, MORE, is_listed=False), "; 6 in 2 parts by the known applications"),
    "devices": (
        split(WHOLE, DEVICES, is_by_application=False),
        "; 5 in 2 parts by device types",
    ),
    "none": (split(WHOLE, {}), "; it cannot be split further"),
    "mute": (
        split(WHOLE, {A: MORE[A]}, mute=(B,)),
        "; 5 in 2 parts by all applications; 1 of them prove nothing: 404",
    ),
}


@pytest.mark.parametrize(("made", "end"), REASONS.values(), ids=REASONS)
def test_the_reason_tells_how_it_was_split(made: Split, end: str) -> None:
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
    ("place", "application", "device", "is_held"),
    [
        (A, "a", "desktop", True),
        (A, "a", None, True),
        (A, None, "desktop", False),
        (A_MOBILE, "a", "mobile", True),
        (A_MOBILE, "a", None, False),
        (A_MOBILE, "b", "mobile", False),
    ],
)
def test_a_place_holds(
    place: Place, application: str | None, device: str | None, is_held: bool
) -> None:
    assert place.holds(application, device) is is_held


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


# --- what is asked ------------------------------------------------------------------------

DEVICES_ASKED = {
    "the usual ones": ([], ["desktop", "mobile", "tablet"]),
    "in the records' own case": (["Mobile"], ["Desktop", "Mobile", "Tablet"]),
    "in capitals": (["TABLET"], ["DESKTOP", "MOBILE", "TABLET"]),
    "and unusual ones": (["tv", None, ""], ["desktop", "mobile", "tablet", "tv"]),
    "in a case of their own": (["mObile"], ["desktop", "mObile", "mobile", "tablet"]),
    "in two cases": (["Desktop", "mobile"], ["Desktop", "Mobile", "Tablet", "mobile"]),
}


@pytest.mark.parametrize(("seen", "asked"), DEVICES_ASKED.values(), ids=DEVICES_ASKED)
def test_device_types_asked_are(seen: list[str | None], asked: list[str]) -> None:
    assert device_types(seen) == asked


LOWERED = {
    "the number it names": (1000, "page[limit] must be between 1 and 100", 100),
    "not the one that was asked for": (1000, "limit 1000 is larger than 250", 250),
    "the half without one": (1000, "page[limit] is too large", 500),
    "the half when it names no smaller one": (1000, "limit must be less than 5000", 500),
    "not a number of a path": (1000, "Invalid page[limit] for /api/v2/replay/heatmap", 500),
    "not a number of a request": (1000, "page[limit] is too large (trace 7)", 500),
    "one with a separator": (10000, "must not exceed 5,000", 5000),
    "a maximum of it": (1000, "page[limit] 1000 exceeds the maximum of 100", 100),
    "what the maximum is": (1000, "page[limit]: the maximum allowed value is 100.", 100),
    "a limit of it": (1000, "limit of 100 exceeded", 100),
    "what is the maximum": (1000, "page[limit]: 100 is the maximum", 100),
    "what it may not be above": (1000, "page[limit] can't be above 100", 100),
    "the end of a range": (1000, "page[limit] must be in [1, 100]", 100),
    "the end of dots": (1000, "page[limit] must be in the range 1..100", 100),
    "not zero": (10, "the limit must be above 0", 5),
    "of an odd number the smaller half": (5, "limit", 2),
    "never less than one": (2, "limit", 1),
}


@pytest.mark.parametrize(("limit", "refusal", "lowered"), LOWERED.values(), ids=LOWERED)
def test_a_refused_limit_is_lowered_to(limit: int, refusal: str, lowered: int) -> None:
    assert lowered_limit(limit, refusal) == lowered
