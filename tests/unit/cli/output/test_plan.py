"""What a run would do, in lines and as an object."""

import json
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from etl.cli.output.plan import plan_json, plan_lines
from etl.config.views import View
from etl.pipeline.plan import RowPlan, ViewPlan

NOW = datetime(2026, 3, 4, 5, 6, 7, 891011, tzinfo=UTC)


def test_a_plan_names_rows_and_what_differs() -> None:
    plan = ViewPlan(View("/home"), "complete", "", listed=2, unchanged=1)
    plan.changed = [
        RowPlan(
            "id-1",
            "Name",
            before={"start_ms": 12, "modified_at": None},
            after={"start_ms": 15, "modified_at": NOW},
        )
    ]
    plan.vanished = [RowPlan("id-2", None)]
    assert plan_lines([plan], "x.db") == [
        "/home: complete, 2 listed, 1 unchanged",
        '  changed           id-1  "Name"',
        "                      start_ms     12 -> 15",
        "                      modified_at  nothing -> 2026-03-04T05:06:07.891011Z",
        "  would be removed  id-2  without a name",
        "",
        "A run would store 0 new, 1 changed, 0 returned, 1 removed, 0 held.",
        "Nothing was written to x.db.",
    ]
    (view,) = json.loads(json.dumps(plan_json("us", [plan])))["views"]
    assert view["changed"][0]["after"]["modified_at"] == "2026-03-04T05:06:07.891011Z"


def test_a_plan_says_why_rows_would_be_held_or_a_listing_is_not_whole() -> None:
    held = ViewPlan(View("/a"), "complete", "0 of 9; 1 removal held")
    held.held = [RowPlan("id-1", None)]
    cut = ViewPlan(View("/b"), "truncated", "2 of 9 (links.next)", listed=2)
    assert plan_lines([held, cut], "x.db")[:6] == [
        "/a: complete, 0 listed",
        "  0 of 9; 1 removal held",
        "  would be held     id-1  without a name",
        "",
        "/b: truncated, 2 listed",
        "  2 of 9 (links.next)",
    ]


def test_views_that_fail_for_one_cause_are_one_line() -> None:
    failed = [ViewPlan(View(f"/{n}"), "failed", f"view /{n}: 500: id {n}") for n in range(120)]
    lines = plan_lines([*failed, ViewPlan(View("/good"), "complete", "", listed=1)], "x.db")
    assert lines[:2] == ["120 views (/0, /1, /2, ...), the first: failed: 500: id 0", ""]
    assert lines[2] == "1 view without a change"


def difference_of(before: Any, after: Any) -> str:
    """What a plan says of a column that goes from one value to the other."""
    plan = ViewPlan(View("/home"), "complete", "", listed=1)
    plan.changed = [RowPlan("id-1", "Name", before={"extra": before}, after={"extra": after})]
    return plan_lines([plan], "x.db")[2].split("extra", 1)[1].strip()


def test_a_long_value_is_cut_around_the_first_difference() -> None:
    left, right = "L" * 100, "R" * 100
    short = f'"...{"L" * 17}%s{"R" * 16}..."'
    assert difference_of(f"{left}a{right}", f"{left}b{right}") == f"{short % 'a'} -> {short % 'b'}"
    assert difference_of("a" + right, "b" + right) == f'"a{"R" * 33}..." -> "b{"R" * 33}..."'
    assert difference_of(left, left + "b") == f'"...{"L" * 17}" -> "...{"L" * 17}b"'
    assert difference_of("short", left) == f'"short" -> "{"L" * 34}..."'
    assert difference_of(None, left).startswith('nothing -> "LLL')


@given(st.text("ab"), st.text("ab"), st.text("c", min_size=30), st.text("d", min_size=30))
def test_what_differs_is_said_to_differ(one: str, other: str, head: str, tail: str) -> None:
    before, after = difference_of(head + one + tail, head + other + tail).split(" -> ")
    assert (before == after) is (one == other)
    assert max(len(before), len(after)) <= 42


def test_long_lists_are_cut_for_people_only() -> None:
    plan = ViewPlan(View("/home"), "complete", "", listed=200)
    plan.new = [RowPlan(f"id-{n}", "x") for n in range(200)]
    lines = plan_lines([plan], "x.db")
    assert "  new               ... and 180 more" in lines
    assert len(lines) < 30
    assert len(plan_json("us", [plan])["views"][0]["new"]) == 200


def test_of_hundreds_of_views_those_as_stored_are_counted() -> None:
    plans = [ViewPlan(View(f"/{n}"), "complete", "") for n in range(300)]
    plans.append(ViewPlan(View("/bad"), "failed", "view /bad: 500"))
    lines = plan_lines(plans, "x.db")
    assert lines[:3] == ["/bad: failed: 500", "", "300 views without a change"]
