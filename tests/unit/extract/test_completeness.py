"""Rule 1 as tables: what a number of records proves, clause by clause."""

import pytest

from etl.extract.completeness import ROUND_NUMBERS, Evidence, device_types

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
    "a learned cap": (1000, 37, [37], 37, "the API stopped at this number before"),
    "more than a learned cap is whole": (1000, 37, [38], 38, ""),
    "less than a learned cap is whole": (1000, 37, [36], 36, ""),
    "two of two views at one number": (1000, None, [37, 37], 37, ""),
    "three of three": (1000, None, [37] * 3, 37, "3 views stop at this number"),
    "three of fifteen are a fifth": (
        1000,
        None,
        [37] * 3 + [5] * 12,
        37,
        "3 views stop at this number",
    ),
    "three of sixteen are not": (1000, None, [37] * 3 + [5] * 13, 37, ""),
    "a view with one row counts among them": (1000, None, [37] * 3 + [1] * 13, 37, ""),
    "views without rows are not counted": (
        1000,
        None,
        [37] * 3 + [5] * 12 + [0] * 50,
        37,
        "3 views stop at this number",
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


@pytest.mark.parametrize(
    ("counts", "unproven", "why"),
    [
        ([37, 37], [37], "3 views stop at this number"),
        ([37], [37, 37], "3 views stop at this number"),
        ([37], [37], ""),
        ([37, 37], [38], ""),
        ([37] * 2 + [5] * 13, [37], "3 views stop at this number"),
        ([37] * 2 + [5] * 14, [37], ""),
        ([37], [5] * 3, ""),
    ],
)
def test_what_may_be_another_views_makes_a_number_doubted_and_clears_none(
    counts: list[int], unproven: list[int], why: str
) -> None:
    evidence = Evidence(1000)
    for number in unproven:
        evidence.add_unproven(number)
    for number in counts:
        evidence.add(number)
    assert not evidence.clears(37)
    assert evidence.suspicion(37) == why


def test_one_record_may_fill_a_limit_and_none_is_always_whole() -> None:
    evidence = Evidence(1)
    assert evidence.clears(0) is True
    evidence.add(1)
    assert evidence.suspicion(1) == "fills the limit"


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


@pytest.mark.parametrize(
    ("count", "reason"),
    [
        (0, "0 of 9 asked for"),
        (1, "1 of 9 asked for; another view had 5"),
        (5, "5 of 9 asked for"),
    ],
)
def test_the_reason_names_the_larger_answer(count: int, reason: str) -> None:
    assert Evidence(9, largest=5).reason(count) == reason


def test_the_spelling_is_that_of_a_usual_device() -> None:
    assert device_types(["TV", "mobile"]) == ["TV", "desktop", "mobile", "tablet"]
