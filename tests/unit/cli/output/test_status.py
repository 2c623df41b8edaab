"""What `status` found, in lines."""

from datetime import UTC, datetime, timedelta

from etl.cli.output.status import status_lines
from etl.config.views import View
from etl.monitor.status import Status, ViewStatus

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
