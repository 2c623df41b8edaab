"""When it is time to ask again."""

from datetime import UTC, datetime, timedelta

import pytest

from etl.extract.view_selection import is_due

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.mark.parametrize(
    ("before", "due"),
    [
        (None, True),
        (NOON - DAY, True),
        (NOON - DAY + timedelta(seconds=30), True),  # cron is not to the second
        (NOON - timedelta(hours=23), False),
        (NOON, False),
        (NOON + HOUR, True),  # the clock was set back
    ],
)
def test_due_once_a_day(before: datetime | None, due: bool) -> None:
    assert is_due(before, 86400, NOON) is due
