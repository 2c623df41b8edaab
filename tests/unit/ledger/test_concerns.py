"""What waits for a person: the rule, without a database."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from etl.config.views import View
from etl.ledger.concerns import (
    CLOCK,
    NEEDS_ACCEPTANCE,
    PATIENCE,
    REJECTED_RECORDS,
    SCHEMA_DRIFT,
    Concern,
    Evidence,
    NewDrift,
    NewRejects,
    causes_of,
    concern_lines,
    find_concerns,
)

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)
SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)
HOME = View("/home")
ACCEPTED = View("/cut", accept_truncated=True)


def state(view: View = HOME, **changes: Any) -> Any:
    """A row of `view_state` of a view that is as it should be."""
    usual: dict[str, Any] = dict.fromkeys(
        ("last_run_at", "last_read_at", "last_trusted_at", "last_complete_at"), NOW - HOUR
    )
    usual |= {"view_key": view.key("us"), "verdict": "complete", "reason": "5 of 1000 asked for"}
    usual |= {"first_read_at": NOW - 9 * PATIENCE, "needs_acceptance": False}
    return SimpleNamespace(**{**usual, **changes})


def kinds(row: Any, view: View = HOME, **more: Any) -> list[str]:
    return [c.kind for c in find_concerns(Evidence("us", [(view, row)], **more), NOW)]


@pytest.mark.parametrize(
    ("status", "skew_s", "expected"),
    [("failed", 7200.0, [CLOCK]), ("failed", 60.0, []), ("ok", 7200.0, []), ("failed", None, [])],
)
def test_a_run_that_was_refused_for_its_clock_waits_for_a_person(
    status: str, skew_s: float | None, expected: list[str]
) -> None:
    run = SimpleNamespace(status=status, clock_skew_s=skew_s, started_at=NOW - HOUR)
    assert kinds(state(), latest=run) == expected


def test_a_source_that_is_well_waits_for_nobody() -> None:
    assert kinds(state()) == []
    assert kinds(None) == []  # never read: status says so
    assert find_concerns(Evidence("us"), NOW) == ()


@pytest.mark.parametrize(
    "name", ["last_run_at", "last_read_at", "last_trusted_at", "last_complete_at"]
)
@pytest.mark.parametrize(("ahead_s", "expected"), [(60, []), (61, [CLOCK]), (3e8, [CLOCK])])
def test_an_instant_of_a_view_in_the_future_is_a_wrong_clock(
    name: str, ahead_s: float, expected: list[str]
) -> None:
    instants: dict[str, Any] = {name: NOW + timedelta(seconds=ahead_s)}
    assert kinds(state(**instants)) == expected


@pytest.mark.parametrize("name", ["started_at", "finished_at"])
@pytest.mark.parametrize(("ahead_s", "expected"), [(60, []), (61, [CLOCK])])
def test_so_is_one_of_a_run(name: str, ahead_s: float, expected: list[str]) -> None:
    run: dict[str, Any] = {"started_at": NOW - HOUR, "finished_at": None}
    run[name] = NOW + timedelta(seconds=ahead_s)
    assert kinds(state(), runs=[SimpleNamespace(**run)]) == expected


def test_a_wrong_clock_is_told_once_with_the_command_that_mends_it() -> None:
    future = NOW + timedelta(days=3650)
    evidence = Evidence(
        "us",
        [(HOME, state(last_read_at=future)), (View("/b"), state(last_read_at=NOW + HOUR))],
    )
    (concern,) = find_concerns(evidence, NOW)
    assert (concern.view, concern.since) == (None, None)
    assert "the latest at 2036-03-01 12:00:00Z" in concern.text
    assert concern.advice.endswith("heatmap-etl db repair-clock us")


def test_held_removals_say_to_look_first_and_since_when() -> None:
    row = state(needs_acceptance=True)
    since = NOW - 2 * HOUR
    evidence = Evidence("us", [(HOME, row)], held_since={row.view_key: since})
    (concern,) = find_concerns(evidence, NOW)
    assert (concern.kind, concern.view, concern.since) == (NEEDS_ACCEPTANCE, HOME, since)
    looking, commanding = concern.advice.index("Datadog"), concern.advice.index("--accept-removals")
    assert looking < commanding


@pytest.mark.parametrize("verdict", ["unproven", "truncated"])
def test_a_view_without_proof_has_a_day(verdict: str) -> None:
    def found(view: View = HOME, **changes: Any) -> list[str]:
        return kinds(state(view, verdict=verdict, **changes), view)

    day_old, older = NOW - PATIENCE, NOW - PATIENCE - SECOND
    assert found(last_complete_at=day_old) == []
    assert found(last_complete_at=older) == [verdict]
    assert found(last_complete_at=None, first_read_at=day_old) == []
    assert found(last_complete_at=None, first_read_at=older) == [verdict]
    assert found(last_complete_at=None, first_read_at=None) == []
    assert found(ACCEPTED, last_complete_at=older) == []


@pytest.mark.parametrize("verdict", ["complete", "failed"])
def test_other_verdicts_are_told_elsewhere(verdict: str) -> None:
    assert kinds(state(verdict=verdict, last_complete_at=NOW - 9 * PATIENCE)) == []


def test_new_rejects_are_those_of_covered_views_by_reason() -> None:
    other = View("/b")
    rejects = [
        NewRejects(HOME.key("us"), "no id", 2, NOW - HOUR),
        NewRejects(other.key("us"), "no id", 3, NOW - SECOND),
        NewRejects("of a view that is read no more", "no id", 9, NOW),
    ]
    evidence = Evidence("us", [(HOME, state()), (other, state(other))], rejects=rejects)
    found = find_concerns(evidence, NOW)
    assert [(c.kind, c.view, c.since) for c in found] == [
        (REJECTED_RECORDS, HOME, NOW - HOUR),
        (REJECTED_RECORDS, other, NOW - SECOND),
    ]
    (line,) = concern_lines(found)  # one cause, although the views have different counts
    assert line.startswith("rejected_records: 2 views (/home, /b): 5 records")
    assert "no id" in line


def test_drift_is_one_concern_with_its_first_names() -> None:
    drift = [NewDrift(f"a{n}\n", "unknown attribute", n, NOW - n * HOUR) for n in range(1, 6)]
    (concern,) = find_concerns(Evidence("us", drift=drift), NOW)
    assert (concern.kind, concern.view, concern.since) == (SCHEMA_DRIFT, None, NOW - 5 * HOUR)
    assert "a1\\n (unknown attribute, 1 record), a2\\n" in concern.text
    assert concern.text.endswith("a3\\n (unknown attribute, 3 records) and 2 more")


def test_a_hundred_views_with_one_cause_are_one_line() -> None:
    views = [View(f"/{n}") for n in range(120)]
    rows = [(view, state(view, needs_acceptance=True)) for view in views]
    found = find_concerns(Evidence("us", rows), NOW)
    assert len(found) == 120
    (line,) = concern_lines(found)
    assert line.startswith("needs_acceptance: 120 views (/0, /1, /2, ...): snapshots")
    assert [kind for kind, _ in causes_of(found)] == [NEEDS_ACCEPTANCE]


def test_as_json() -> None:
    of_view = Concern("unproven", "why", "what to do", View("/a", device_type="mobile"), NOW)
    assert of_view.as_json() == {
        "kind": "unproven",
        "view_name": "/a",
        "since": "2026-03-04T12:00:00.000000Z",
        "text": "why",
        "advice": "what to do",
    }
    of_source = Concern("clock", "why", "what to do").as_json()
    assert (of_source["view_name"], of_source["since"]) == (None, None)
