"""What `status` found, in lines."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from etl.cli.output.status import quiet_status_lines, status_lines
from etl.config.views import View
from etl.ledger.concerns import Concern
from etl.monitor.status import Status, ViewStatus
from etl.source.privacy_setting import PrivacyState

NOW = datetime(2026, 3, 4, 5, 6, 7, 891011, tzinfo=UTC)


def status(*views: ViewStatus) -> Status:
    return Status("us", "x.db", NOW, views, (), "", 0)


def test_status_says_where_to_look() -> None:
    read = NOW - timedelta(hours=3)
    fresh = ViewStatus(View("/a"), "complete", "", 5, 0, read, read, read, 0, read)
    failed = ViewStatus(View("/b"), "failed", "view /b: 500", 5, 0, read, read, NOW, 4, read)
    lines = status_lines(status(fresh, failed, ViewStatus(View("/c"))))
    assert "3 views, 2 to look at; oldest trusted reading: 3 h ago" in lines
    assert "  /b: failed: 500" in lines
    assert "  /c: never read; run `heatmap-etl sync`" in lines
    assert lines[-1] == "No run yet."


def test_freshness_counts_readings_that_can_be_trusted() -> None:
    earlier = NOW - timedelta(days=1)
    for verdict, is_accepted, trusted in (
        ("truncated", False, earlier),
        ("truncated", True, NOW),
    ):
        view = View("/a", accept_truncated=is_accepted)
        view_status = ViewStatus(view, verdict, last_read_at=NOW, last_trusted_at=earlier)
        assert view_status.trusted_at == trusted


def failed(name: str, minutes: int = 0, **more: Any) -> ViewStatus:
    tried = NOW - timedelta(minutes=minutes)
    return ViewStatus(View(name), "failed", f"view {name}: 500", last_run_at=tried, **more)


def section(lines: list[str], title: str) -> list[str]:
    """The lines under a title."""
    begin = lines.index(title) + 1
    return [line.strip() for line in lines[begin : lines.index("", begin)]]


def test_a_hundred_views_with_one_cause_are_one_line_whenever_each_was_tried() -> None:
    views = [failed(f"/{n}", minutes=n) for n in range(120)]
    lines = section(status_lines(status(*views, ViewStatus(View("/new")))), "Look at:")
    assert lines == [
        "120 views (/0, /1, /2, ...): failed: 500",
        "/new: never read; run `heatmap-etl sync`",
    ]


def test_every_verdict_but_complete_says_why() -> None:
    views = [
        ViewStatus(View("/a"), "unproven", "a round number"),
        ViewStatus(View("/b"), "unproven", "a round number", is_stale=True),
        ViewStatus(View("/c", accept_truncated=True), "truncated", "5 of 5"),
        ViewStatus(View("/d"), "truncated", "5 of 5"),
        ViewStatus(View("/e"), "complete", "2 of 5"),
    ]
    lines = status_lines(status(*views))
    assert section(lines, "Not complete, and why:") == [
        "2 views (/a, /b): unproven: a round number",
        "/c: truncated: 5 of 5",
    ]
    assert section(lines, "Look at:") == ["/b: older than --max-age", "/d: truncated: 5 of 5"]


def test_what_waits_for_a_person_comes_first_and_once() -> None:
    held = [ViewStatus(View(name), "complete", "", held=3) for name in ("/a", "/b")]
    cut = ViewStatus(View("/c"), "truncated", "5 of 5")
    found = replace(
        status(*held, cut),
        concerns=(
            Concern("clock", "ahead", "set it"),
            Concern("needs_acceptance", "held", "look", View("/a")),
            Concern("truncated", "for a day", "narrow it", View("/c")),
        ),
    )
    lines = status_lines(found)
    assert section(lines, "Look at:") == [
        "clock: ahead; set it",
        "needs_acceptance: /a: held; look",
        "truncated: /c: for a day; narrow it",
        "/b: removals are held until the next reading confirms them",
    ]
    assert any(line.startswith("3 views, 3 to look at") for line in lines)
    assert not found.needs_attention
    assert replace(found, has_max_age=True).needs_attention


def test_a_view_that_waits_is_shown_among_hundreds() -> None:
    views = [ViewStatus(View(f"/{n}"), "complete", "") for n in range(300)]
    concern = Concern("rejected_records", "odd", "look", View("/299"))
    lines = status_lines(replace(status(*views), concerns=(concern,)))
    assert any(line.startswith("/299 ") for line in lines)


def test_a_reading_in_the_future_is_no_fresh_one() -> None:
    view = ViewStatus(
        View("/a"), "complete", "", last_read_at=NOW + timedelta(days=2), is_stale=True
    )
    view = replace(view, is_in_future=True)
    lines = status_lines(replace(status(view), has_max_age=True))
    assert section(lines, "Look at:") == ["/a: clock: its last reading is in the future"]
    assert "in the future" in lines[3]


@pytest.mark.parametrize(
    ("skew_s", "expected"),
    [
        (None, ""),
        (0.9, "This machine's clock was within 1 s of Datadog's in the last run that saw it."),
        (-0.9, "This machine's clock was within 1 s of Datadog's in the last run that saw it."),
        (2.5, "This machine's clock was 2.5 s ahead of Datadog's in the last run that saw it."),
        (-60.0, "This machine's clock was 60 s behind Datadog's in the last run that saw it."),
        (7200.0, "WARNING: this machine's clock was 2 h ahead of Datadog's in the last run that"),
    ],
)
def test_how_far_the_clock_is_off(skew_s: float | None, expected: str) -> None:
    lines = status_lines(replace(status(), clock_skew_s=skew_s))
    found = [line for line in lines if "clock" in line]
    assert [line[: len(expected)] for line in found] == [expected] * bool(expected)


def test_quiet_is_silent_when_all_is_well() -> None:
    fresh = ViewStatus(View("/a"), "complete", "", 5, 0, NOW, NOW, NOW, 0, NOW, is_stale=False)
    unproven = replace(fresh, view=View("/b"), verdict="unproven", reason="no cap is known")
    assert quiet_status_lines(status(fresh, unproven)) == []


def test_quiet_has_one_line_for_each_cause_and_no_ages() -> None:
    fresh = ViewStatus(View("/a"), "complete", "", 5, 0, NOW, NOW, NOW, 0, NOW, is_stale=False)
    earlier = [
        replace(fresh, view=View(f"/{n}"), verdict="failed", reason=f"view /{n}: 500")
        for n in range(5)
    ]
    failed = [replace(view, last_run_at=NOW - timedelta(hours=n)) for n, view in enumerate(earlier)]
    stale = replace(fresh, view=View("/s"), is_stale=True)
    held = replace(fresh, view=View("/h"), held=3, reason="listed; 3 removals held")
    unread = ViewStatus(View("/u"), is_stale=True)
    assert quiet_status_lines(status(fresh, *failed, stale, held, unread)) == [
        "5 views (/0, /1, /2, ...): failed: 500",
        "/s: older than --max-age",
        "/h: removals are held until the next reading confirms them",
        "/u: never read; run `heatmap-etl sync`",
    ]


def test_quiet_says_what_concerns_the_whole_source() -> None:
    told = replace(
        status(),
        privacy=PrivacyState("keep", "drop", "they differ"),
        overrun="run x takes too long",
        due_since=NOW - timedelta(hours=2),
        is_unread=True,
    )
    assert [line.partition(":")[0] for line in quiet_status_lines(told)] == [
        "No run starts",
        "The run under way hangs",
        "A run has been due since 2026-03-04 03",
        "no view is known yet; run `heatmap-etl sync`",
    ]


def test_a_source_without_any_view_says_why_it_is_stale() -> None:
    unread = replace(status(), is_unread=True, has_max_age=True)
    assert section(status_lines(unread), "Look at:") == [
        "no view is known yet; run `heatmap-etl sync`"
    ]
    assert unread.needs_attention


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        ({"status": "failed", "error": "no schema"}, ["the last run failed: no schema"]),
        ({"status": "died", "error": "its process is gone"}, ["the last run died: its process"]),
        ({"status": "partial", "error": "lease lost"}, ["the last run ended early: lease lost"]),
        ({"status": "failed", "error": "view /a: 500"}, []),
        ({"status": "failed", "error": None}, []),
        ({"status": "ok", "error": None}, []),
    ],
)
def test_why_the_last_run_did_not_end_well(run: dict[str, Any], expected: list[str]) -> None:
    bad = ViewStatus(View("/a"), "failed", "view /a: 500")
    lines = quiet_status_lines(replace(status(bad), latest=run))
    assert lines[-1] == "/a: failed: 500"
    assert [line[: len(text)] for line, text in zip(lines, expected, strict=False)] == expected
    assert len(lines) == len(expected) + 1


def test_what_ends_by_itself_comes_last() -> None:
    news = Concern("schema_drift", "new", "look")
    held = Concern("needs_acceptance", "held", "look", View("/b"))
    bad = ViewStatus(View("/a"), "failed", "view /a: 500")
    lines = quiet_status_lines(replace(status(bad), concerns=(news, held)))
    assert [line.partition(":")[0] for line in lines] == ["needs_acceptance", "/a", "schema_drift"]
