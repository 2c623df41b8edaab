"""What a run did, in lines."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from etl.cli.output.run import quiet_lines, run_lines
from etl.cli.output.selection import MOST_SHOWN
from etl.config.views import View
from etl.ledger.concerns import Concern
from etl.ledger.results import RunResult, ViewResult

NOW = datetime(2026, 3, 4, 5, 6, 7, 891011, tzinfo=UTC)


def result(name: str = "/home", verdict: str = "complete", **counts: Any) -> ViewResult:
    error = counts.pop("error", None)
    view_result = ViewResult(View(name), verdict, error or "why", error=error)
    view_result.counts.update(counts)
    return view_result


def run_of(*results: ViewResult, status: str = "ok") -> RunResult:
    run = RunResult("us", "20260304-1", NOW, status, NOW + timedelta(seconds=3))
    run.views.extend(results)
    return run


def test_a_run_of_a_few_views_lists_them_all() -> None:
    run = run_of(
        result(listed=3, new=1, changed=2), result("/quiet", listed=5, unchanged=5, requests=1)
    )
    assert run_lines(run, "sqlite:///x.db", 2) == [
        "view    verdict   listed  new  changed  removed  returned",
        "/home   complete       3    1        2        -         -",
        "/quiet  complete       5    -        -        -         -",
        "",
        "2 views: 2 complete",
        "8 records listed: 1 new, 2 changed, 5 unchanged",
        "sqlite:///x.db, run 20260304-1: ok, 3.0 s, 1 request",
    ]


def test_what_is_seldom_has_a_column_only_when_it_happens() -> None:
    header = run_lines(run_of(result(listed=2, foreign_records=1, held=1)), "x", 1)[0]
    assert header.split()[-2:] == ["held", "foreign"]


def test_of_hundreds_only_those_that_have_something_to_say() -> None:
    quiet = [result(f"/{n}", listed=1, unchanged=1) for n in range(300)]
    bad = result("/bad", "failed", error="view /bad: 500: oops")
    lines = run_lines(run_of(*quiet, bad, result("/new", new=1), status="partial"), "x", 302)
    assert [text.split()[0] for text in lines[1:3]] == ["/bad", "/new"]
    assert lines[3].startswith("... and 300 more views")
    assert "302 views: 301 complete, 1 failed" in lines
    assert "  /bad: failed: 500: oops" in lines


def test_hundreds_of_bad_ones_are_cut_and_the_bad_come_first() -> None:
    new = [result(f"/new{n}", new=1) for n in range(100)]
    bad = [result(f"/bad{n}", "failed", error=f"view /bad{n}: no answer") for n in range(100)]
    lines = run_lines(run_of(*new, *bad), "x", 200)
    assert sum(text.startswith("/bad") for text in lines) == MOST_SHOWN
    assert not any(text.startswith("/new") for text in lines)
    assert "  100 views (/bad0, /bad1, /bad2, ...): failed: no answer" in lines


def test_views_that_were_not_read_are_counted() -> None:
    lines = run_lines(run_of(result(), status="stopped"), "x", 3)
    assert "3 views: 1 complete, 2 not read" in lines
    assert run_lines(run_of(status="stopped"), "x", 3)[2] == "3 views: none read, 3 not read"


def test_an_accepted_cut_is_no_problem() -> None:
    cut = ViewResult(View("/a", accept_truncated=True), "truncated", "5 of 5")
    assert "Problems:" not in run_lines(run_of(cut), "x", 1)
    assert quiet_lines(run_of(cut)) == []


def test_every_verdict_but_complete_says_why() -> None:
    unproven = [result(f"/{n}", "unproven") for n in range(120)]
    cut = ViewResult(View("/cut", accept_truncated=True), "truncated", "5 of 5")
    lines = run_lines(run_of(result("/good"), *unproven, cut), "x", 122)
    assert lines[-3:] == [
        "Not complete, and why:",
        "  120 views (/0, /1, /2, ...): unproven: why",
        "  /cut: truncated: 5 of 5",
    ]


def waiting(*concerns: Concern, results: Sequence[ViewResult]) -> RunResult:
    run = run_of(*results)
    run.concerns = concerns
    return run


def test_what_waits_for_a_person_is_told_once_with_what_to_do() -> None:
    held = [result(f"/{n}", held=n + 1) for n in range(3)]
    concerns = [Concern("needs_acceptance", "held", "look", v.view) for v in held]
    run = waiting(Concern("clock", "ahead", "set it"), *concerns, results=held)
    assert quiet_lines(run) == [
        "clock: ahead; set it",
        "needs_acceptance: 3 views (/0, /1, /2): held; look",
    ]
    assert [line.strip() for line in run_lines(run, "x", 3)[-2:]] == quiet_lines(run)


def test_held_removals_that_the_next_run_decides_are_told_as_before() -> None:
    assert quiet_lines(run_of(result(held=2))) == ["/home: complete: why"]


def test_a_view_that_is_bad_in_this_run_is_not_told_twice() -> None:
    cut, unproven = result("/cut", "truncated"), result("/b", "unproven")
    concerns = [Concern(v.verdict, "for a day", "narrow it", v.view) for v in (cut, unproven)]
    lines = quiet_lines(waiting(*concerns, results=[cut, unproven]))
    assert [line.partition(", ")[0] for line in lines] == [
        "/cut: truncated",
        "unproven: /b: for a day; narrow it",
    ]
    assert "Not complete, and why:" not in run_lines(waiting(*concerns, results=[unproven]), "x", 1)


def test_quiet_lines_say_what_to_do() -> None:
    cut = result("/cut", "truncated")
    failed = result("/bad", "failed", error="view /bad: 500")
    first, second = quiet_lines(run_of(cut, result(), failed))
    assert first.startswith("/cut: truncated, why: ")
    assert "accept_truncated" in first
    assert second == "/bad: failed: 500"


def test_why_a_run_ended_early_is_told_beside_what_is_wrong_with_its_views() -> None:
    run = run_of(result(new=1), result("/bad", "failed", error="500"), status="partial")
    run.error = "x.db: database or disk is full"
    assert quiet_lines(run) == ["/bad: failed: 500", "x.db: database or disk is full"]
    assert run_lines(run, "x", 9)[-3:-1] == [f"  {line}" for line in quiet_lines(run)]


def test_a_cause_that_ends_a_run_is_one_line_with_the_views_that_it_cost() -> None:
    full = "x.db: database or disk is full"
    run = run_of(result(new=1), result("/bad", "failed", error=full), status="partial")
    run.error, run.planned = full, 9
    assert quiet_lines(run) == ["x.db: database or disk is full; 8 views not read"]


def test_a_few_cut_views_have_a_line_each_and_many_one() -> None:
    cut = [result(f"/{n}", "truncated") for n in range(9)]
    for number, view in enumerate(cut, 1):
        view.reason = f"{number} of 9 asked for"
    assert [line[:24] for line in quiet_lines(run_of(*cut[:2]))] == [
        "/0: truncated, 1 of 9 as",
        "/1: truncated, 2 of 9 as",
    ]
    (line,) = quiet_lines(run_of(*cut))
    assert line.startswith("9 views (/0, /1, /2, ...), the first: truncated, 1 of 9 asked for")
