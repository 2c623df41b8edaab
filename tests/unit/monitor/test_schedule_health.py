"""etl.monitor.schedule_health: is the schedule kept, or why not?"""

from datetime import timedelta
from typing import Any

import pytest

from etl.monitor.schedule_health import find_reasons
from etl.schedule.cron import Due
from etl.schedule.due import Agenda
from tests.support.watched import NOON


class Run:
    def __init__(self, status: str) -> None:
        self.status = status
        self.run_id, self.error, self.views, self.views_failed = "r", None, 3, 3
        self.slot_at = NOON


@pytest.mark.parametrize(
    ("status", "due_s", "is_working", "expected"),
    [
        pytest.param("ok", None, False, [], id="all done"),
        pytest.param("partial", None, False, [], id="a bad view is no failed run"),
        pytest.param("failed", None, False, ["failed"], id="failed"),
        pytest.param("ok", 60, False, [], id="just due"),
        pytest.param("ok", 180, False, ["late"], id="late"),
        pytest.param("ok", 180, True, [], id="somebody works on it"),
        pytest.param("ok", 7200, True, ["late"], id="somebody works on it for ever"),
        pytest.param("failed", 180, False, ["late", "failed"], id="both"),
        pytest.param(None, 180, False, ["late"], id="never run"),
    ],
)
def test_a_schedule_is_kept_or_why_not(
    status: str | None, due_s: int | None, is_working: bool, expected: list[str]
) -> None:
    due_since = NOON - timedelta(seconds=due_s) if due_s else None
    due = Due(due_since, 0) if due_since else None
    last: Any = Run(status) if status else None
    reasons = find_reasons(Agenda(last, due, due_since, NOON), is_working=is_working, now=NOON)
    assert [reason.partition(":")[0] for reason in reasons] == expected
