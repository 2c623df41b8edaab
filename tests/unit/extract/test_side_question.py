"""For how long a question without an answer is left alone."""

from datetime import UTC, datetime, timedelta

import pytest

from etl.errors import DatadogAuthError, DatadogError, DatadogRequestError, DatadogUnavailable
from etl.extract.side_question import Unanswered, unanswered

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.mark.parametrize(
    ("failures", "status", "pause"),
    [
        (0, 500, HOUR),
        (0, None, HOUR),
        (0, 429, HOUR),
        (0, 401, HOUR),
        (1, 500, 2 * HOUR),
        (2, 500, 4 * HOUR),
        (4, 500, 16 * HOUR),
        (5, 500, DAY),
        (10_000, 500, DAY),
        (0, 403, DAY),
        (0, 404, DAY),
        (3, 403, DAY),
    ],
)
def test_the_pause_is_an_hour_doubled_up_to_a_day_and_a_day_where_it_is_not_permitted(
    failures: int, status: int | None, pause: timedelta
) -> None:
    kind = {401: DatadogAuthError, 403: DatadogAuthError, 404: DatadogRequestError}
    error: DatadogError = kind.get(status or 0, DatadogUnavailable)("oops", status=status)
    last = Unanswered("applications", failures, NOON - DAY, NOON, "x") if failures else None
    found = unanswered("applications", error, last, NOON)
    assert found == Unanswered("applications", failures + 1, NOON, NOON + pause, "oops")


@pytest.mark.parametrize(
    ("now", "is_left_alone"),
    [
        (NOON, True),
        (NOON + HOUR - timedelta(microseconds=1), True),
        (NOON + HOUR, False),
        pytest.param(NOON - timedelta(seconds=1), False, id="a clock set back"),
    ],
)
def test_it_is_left_alone_from_its_failure_to_the_end_of_the_pause(
    now: datetime, is_left_alone: bool
) -> None:
    assert Unanswered("x", 1, NOON, NOON + HOUR, "").is_left_alone(now) is is_left_alone
