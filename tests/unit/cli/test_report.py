"""Tables and lines: results in, text out."""

import json
import unicodedata
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.cli.output import report
from etl.cli.progress import line
from etl.config.views import View
from etl.diagnose.check import OK, PROBLEM, WARNING, Point, check_lines, exit_code
from etl.formatting import age, clean, duration, shortened, table
from etl.ledger.results import RunResult, ViewResult
from etl.monitor.status import Status, ViewStatus, status_lines
from etl.pipeline.plan import RowPlan, ViewPlan

NOW = datetime(2026, 3, 4, 5, 6, 7, 891011, tzinfo=UTC)


def result(name: str = "/home", verdict: str = "complete", **counts: Any) -> ViewResult:
    error = counts.pop("error", None)
    found = ViewResult(View(name), verdict, error or "why", error=error)
    found.counts.update(counts)
    return found


def run_of(*results: ViewResult, status: str = "ok") -> RunResult:
    run = RunResult("us", "20260304-1", NOW, status, NOW + timedelta(seconds=3))
    run.views.extend(results)
    return run


# --- layout -------------------------------------------------------------------------------


def test_columns_stand_below_each_other() -> None:
    lines = table(("view", "new"), [("/a", "1"), ("/long", "1,000")], right="new")
    assert lines == ["view     new", "/a         1", "/long  1,000"]


def test_letters_that_take_two_columns_are_counted_so() -> None:
    assert table(("v", "n"), [("日本", "1"), ("abcd", "2"), ("e\u0301", "3")]) == [
        "v     n",
        "日本  1",
        "abcd  2",
        "e\u0301     3",
    ]


@given(st.text())
def test_nothing_a_terminal_obeys_is_left(text: str) -> None:
    cleaned = clean(text)
    assert cleaned.isprintable()
    assert not {unicodedata.category(c) for c in cleaned} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert cleaned == text or not text.isprintable()


@given(st.text(), st.integers(10, 80))
def test_shortened_is_short_and_keeps_both_ends(text: str, longest: int) -> None:
    short = shortened(text, longest)
    assert len(short) <= longest
    assert (short[:3], short[-3:]) == (text[:3], text[-3:])


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0.0 s"),
        (0.04, "0.0 s"),
        (9.9, "9.9 s"),
        (10, "10 s"),
        (119, "119 s"),
        (120, "2 min"),
        (7200, "2 h"),
        (172_800, "2 days"),
    ],
)
def test_durations_in_the_unit_that_matters(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_ages() -> None:
    assert age(None, NOW) == "never"
    assert age(NOW + timedelta(seconds=9), NOW) == "just now"  # clocks differ
    assert age(NOW - timedelta(seconds=5), NOW) == "5 s ago"
    assert age(NOW - timedelta(minutes=5), NOW) == "5 min ago"


def test_progress() -> None:
    assert line(1, 2, 1204, 3) == f"[{'#' * 15}{'.' * 15}] 1/2 views, 1,204 records, 3 requests"
    assert line(0, 2, 1, None).endswith("0/2 views, 1 record")


# --- sync ---------------------------------------------------------------------------------


def test_a_run_of_a_few_views_lists_them_all() -> None:
    run = run_of(
        result(listed=3, new=1, changed=2), result("/quiet", listed=5, unchanged=5, requests=1)
    )
    assert report.run_lines(run, "sqlite:///x.db", 2) == [
        "view    verdict   listed  new  changed  vanished  returned",
        "/home   complete       3    1        2         -         -",
        "/quiet  complete       5    -        -         -         -",
        "",
        "2 views: 2 complete",
        "8 records listed: 1 new, 2 changed, 5 unchanged",
        "sqlite:///x.db, run 20260304-1: ok, 3.0 s, 1 request",
    ]


def test_what_is_seldom_has_a_column_only_when_it_happens() -> None:
    header = report.run_lines(run_of(result(listed=2, foreign_records=1, held=1)), "x", 1)[0]
    assert header.split()[-2:] == ["held", "foreign"]


def test_of_hundreds_only_those_that_have_something_to_say() -> None:
    quiet = [result(f"/{n}", listed=1, unchanged=1) for n in range(300)]
    bad = result("/bad", "failed", error="view /bad: 500: oops")
    lines = report.run_lines(run_of(*quiet, bad, result("/new", new=1), status="partial"), "x", 302)
    assert [text.split()[0] for text in lines[1:3]] == ["/bad", "/new"]
    assert lines[3].startswith("... and 300 more views")
    assert "302 views: 301 complete, 1 failed" in lines
    assert "  /bad: failed: 500: oops" in lines


def test_hundreds_of_bad_ones_are_cut_and_the_bad_come_first() -> None:
    new = [result(f"/new{n}", new=1) for n in range(100)]
    bad = [result(f"/bad{n}", "failed", error=f"view /bad{n}: no answer") for n in range(100)]
    lines = report.run_lines(run_of(*new, *bad), "x", 200)
    assert sum(text.startswith("/bad") for text in lines) == report.MOST_SHOWN
    assert not any(text.startswith("/new") for text in lines)
    assert "  /bad0 and 99 more views: failed: no answer" in lines


def test_views_that_were_not_read_are_counted() -> None:
    lines = report.run_lines(run_of(result(), status="stopped"), "x", 3)
    assert "3 views: 1 complete, 2 not read" in lines
    assert report.run_lines(run_of(status="stopped"), "x", 3)[2] == "3 views: none read, 3 not read"


def test_an_accepted_cut_is_no_problem() -> None:
    cut = ViewResult(View("/a", accept_truncated=True), "truncated", "5 of 5")
    assert "Problems:" not in report.run_lines(run_of(cut), "x", 1)
    assert report.quiet_lines(run_of(cut)) == []


def test_quiet_lines_say_what_to_do() -> None:
    cut = result("/cut", "truncated")
    failed = result("/bad", "failed", error="view /bad: 500")
    first, second = report.quiet_lines(run_of(cut, result(), failed))
    assert first.startswith("/cut: truncated, why: ")
    assert "accept_truncated" in first
    assert second == "/bad: failed: 500"


# --- plan ---------------------------------------------------------------------------------


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
    assert report.plan_lines([plan], "x.db") == [
        "/home: complete, 2 listed, 1 unchanged",
        '  changed       id-1  "Name"',
        "                  start_ms     12 -> 15",
        "                  modified_at  nothing -> 2026-03-04T05:06:07.891011Z",
        "  would vanish  id-2  without a name",
        "",
        "A run would find 0 new, 1 changed, 0 returned, 1 would vanish, 0 would hold.",
        "Nothing was written to x.db.",
    ]
    (view,) = json.loads(json.dumps(report.plan_json("us", [plan])))["views"]
    assert view["changed"][0]["after"]["modified_at"] == "2026-03-04T05:06:07.891011Z"


def said_of(before: Any, after: Any) -> str:
    """What a plan says of a column that goes from one value to the other."""
    plan = ViewPlan(View("/home"), "complete", "", listed=1)
    plan.changed = [RowPlan("id-1", "Name", before={"extra": before}, after={"extra": after})]
    return report.plan_lines([plan], "x.db")[2].split("extra", 1)[1].strip()


def test_a_long_value_is_cut_around_the_first_difference() -> None:
    left, right = "L" * 100, "R" * 100
    short = f'"...{"L" * 17}%s{"R" * 16}..."'
    assert said_of(f"{left}a{right}", f"{left}b{right}") == f"{short % 'a'} -> {short % 'b'}"
    assert said_of("a" + right, "b" + right) == f'"a{"R" * 33}..." -> "b{"R" * 33}..."'
    assert said_of(left, left + "b") == f'"...{"L" * 17}" -> "...{"L" * 17}b"'
    assert said_of("short", left) == f'"short" -> "{"L" * 34}..."'
    assert said_of(None, left).startswith('nothing -> "LLL')


@given(st.text("ab"), st.text("ab"), st.text("c", min_size=30), st.text("d", min_size=30))
def test_what_differs_is_said_to_differ(one: str, other: str, head: str, tail: str) -> None:
    before, after = said_of(head + one + tail, head + other + tail).split(" -> ")
    assert (before == after) is (one == other)
    assert max(len(before), len(after)) <= 42


def test_long_lists_are_cut_for_people_only() -> None:
    plan = ViewPlan(View("/home"), "complete", "", listed=200)
    plan.new = [RowPlan(f"id-{n}", "x") for n in range(200)]
    lines = report.plan_lines([plan], "x.db")
    assert "  new           ... and 180 more" in lines
    assert len(lines) < 30
    assert len(report.plan_json("us", [plan])["views"][0]["new"]) == 200


def test_of_hundreds_of_views_those_as_stored_are_counted() -> None:
    plans = [ViewPlan(View(f"/{n}"), "complete", "") for n in range(300)]
    plans.append(ViewPlan(View("/bad"), "failed", "view /bad: 500"))
    lines = report.plan_lines(plans, "x.db")
    assert lines[:3] == ["/bad: failed: 500", "", "300 views as stored"]


# --- check and status ---------------------------------------------------------------------


def points(*verdicts: str, views: str = "") -> list[Point]:
    found = [Point("something", verdict, "text") for verdict in verdicts]
    listings = [
        Point(f"view /{n}", v, "text", View(f"/{n}"), is_failed=v == PROBLEM)
        for n, v in enumerate(views.split())
    ]
    return [*found, *listings]


@pytest.mark.parametrize(
    ("found", "code"),
    [
        (points(OK, WARNING, views="ok warning"), 0),
        (points(OK, views="ok PROBLEM"), 1),
        (points(OK, views="PROBLEM PROBLEM"), 2),
        (points(PROBLEM, views="ok"), 2),
        (points(PROBLEM), 2),
    ],
)
def test_exit_code_of_check(found: list[Point], code: int) -> None:
    assert exit_code(found) == code
    assert ("All holds" in check_lines(found)[-1]) is (code == 0)


def test_check_of_hundreds_of_views() -> None:
    lines = check_lines(points(OK, views="ok " * 300 + "PROBLEM"))
    assert len(lines) == 5
    assert lines[2] == "... and 300 more views that hold"


def status(*views: ViewStatus) -> Status:
    return Status("us", "x.db", NOW, views, (), "", 0)


def test_status_says_where_to_look() -> None:
    read = NOW - timedelta(hours=3)
    fresh = ViewStatus(View("/a"), "complete", "", 5, 0, read, read, read, 0, read)
    failed = ViewStatus(View("/b"), "failed", "view /b: 500", 5, 0, read, read, NOW, 4, read)
    lines = status_lines(status(fresh, failed, ViewStatus(View("/c"))))
    assert "3 views, 2 to look at; oldest trusted reading: 3 h ago" in lines
    assert "  /b: failed just now: 500" in lines
    assert "  /c: never read; run `heatmap-etl sync`" in lines
    assert lines[-1] == "No run yet."


def test_freshness_counts_readings_that_can_be_trusted() -> None:
    earlier = NOW - timedelta(days=1)
    for verdict, is_accepted, trusted in (
        ("truncated", False, earlier),
        ("truncated", True, NOW),
    ):
        view = View("/a", accept_truncated=is_accepted)
        found = ViewStatus(view, verdict, last_read_at=NOW, last_trusted_at=earlier)
        assert found.trusted_at == trusted
