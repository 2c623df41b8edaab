"""What `status` found, in lines."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from etl.cli.output.status import quiet_status_lines, status_lines
from etl.config.views import View
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
        view_status = ViewStatus(view, verdict, last_read_at=NOW, last_trusted_at=earlier)
        assert view_status.trusted_at == trusted


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
        "/s: staler than --max-age",
        "/h: 3 removals held",
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
        "A run is due since 2026-03-04 03",
        "no view is known yet; run `heatmap-etl sync`",
    ]
