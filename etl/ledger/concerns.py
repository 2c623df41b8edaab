"""What waits for a person: one rule for everybody who tells it, so that none stays silent.

It is read by `ledger/evidence.py`, for the end of a run (log, heartbeat), `status`, `/status`,
`/metrics` and `check`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from etl.causes import NAMES_SHOWN, cause_lines
from etl.config.views import View
from etl.extract.completeness import TRUNCATED, UNPROVEN
from etl.formatting import LARGEST_SKEW_S, clean, is_future, iso, many, moment, shortened, skew_text

CLOCK, NEEDS_ACCEPTANCE = "clock", "needs_acceptance"
REJECTED_RECORDS, SCHEMA_DRIFT = "rejected_records", "schema_drift"
KINDS = (CLOCK, NEEDS_ACCEPTANCE, UNPROVEN, TRUNCATED, REJECTED_RECORDS, SCHEMA_DRIFT)

NEWS = (REJECTED_RECORDS, SCHEMA_DRIFT)
"""Kinds that end by themselves after a day."""

PATIENCE = timedelta(days=1)
"""How long a view may be without proof before a person is called, and how long news is told."""

_VIEW_INSTANTS = ("last_run_at", "last_read_at", "last_trusted_at", "last_complete_at")
_RUN_INSTANTS = ("started_at", "finished_at")


class Concern(msgspec.Struct, frozen=True):
    """One thing that waits for a person, and what to do.

    `text` is the cause, equal for all views that share it. `view`: None when it is of the whole
    source. `since`: when it began, None where nobody can know.
    """

    kind: str
    text: str
    advice: str
    view: View | None = None
    since: datetime | None = None

    @property
    def line(self) -> str:
        """The cause and what to do, without the view."""
        return f"{self.text}; {self.advice}"

    def as_json(self) -> dict[str, Any]:
        """Its part of `status --json` and of `/status`."""
        return {
            "kind": self.kind,
            "view_name": self.view.name if self.view else None,
            "since": iso(self.since) if self.since else None,
            "text": self.text,
            "advice": self.advice,
        }


class NewRejects(msgspec.Struct, frozen=True):
    """Records of one view that cannot be rows for one reason, since the first of them was seen."""

    view_key: str
    reason: str
    count: int
    first_seen_at: datetime


class NewDrift(msgspec.Struct, frozen=True):
    """An attribute that is new to us, or of a wrong type, and how many records have it."""

    name: str
    kind: str
    count: int
    first_seen_at: datetime


class Evidence(msgspec.Struct, frozen=True):
    """What is stored of a source. `views`: each covered view, and its row of `view_state`.

    `runs`: rows of the last ones; `latest`: of the one that began last by its machine's clock.
    `held_since`: by view key, since when removals are held.
    `rejects` and `drift`: what was first seen within `PATIENCE`.
    """

    source: str
    views: Sequence[tuple[View, Any | None]] = ()
    runs: Sequence[Any] = ()
    latest: Any | None = None
    held_since: Mapping[str, datetime] = msgspec.field(default_factory=dict)
    rejects: Sequence[NewRejects] = ()
    drift: Sequence[NewDrift] = ()


def find_concerns(evidence: Evidence, now: datetime) -> tuple[Concern, ...]:
    """The rule, pure: most urgent first, and for each kind in the order of the views."""
    return (
        *_wrong_clock(evidence, now),
        *_held_removals(evidence),
        *_without_proof(evidence, now),
        *_rejected(evidence),
        *_drifting(evidence.drift),
    )


def causes_of(concerns: Iterable[Concern]) -> Iterator[tuple[str, str]]:
    """Each kind and cause once: the kind, and a line with whom it concerns and what to do."""
    by_kind: dict[str, list[Concern]] = {}
    for concern in concerns:
        by_kind.setdefault(concern.kind, []).append(concern)
    for kind, same in by_kind.items():
        yield from ((kind, concern.line) for concern in same if concern.view is None)
        of_views = cause_lines((c.view.label, c.line) for c in same if c.view)
        yield from ((kind, line) for line in of_views)


def concern_lines(concerns: Iterable[Concern]) -> list[str]:
    """One line for each cause, which begins with its kind."""
    return [f"{kind}: {line}" for kind, line in causes_of(concerns)]


# --- the kinds ----------------------------------------------------------------------------


def _wrong_clock(evidence: Evidence, now: datetime) -> Iterable[Concern]:
    run = evidence.latest
    if run is not None and run.status == "failed" and (run.clock_skew_s or 0) > LARGEST_SKEW_S:
        text = f"the last run was refused: this machine's clock is {skew_text(run.clock_skew_s)}"
        advice = "set the clock (NTP), or accept it with datadog.accept_wrong_clock = true"
        yield Concern(CLOCK, text, advice, since=run.started_at)
    instants = [getattr(run, name) for run in evidence.runs for name in _RUN_INSTANTS]
    states = [row for _, row in evidence.views if row is not None]
    instants += [getattr(row, name) for row in states for name in _VIEW_INSTANTS]
    future = [instant for instant in instants if is_future(instant, now)]
    if future:
        text = (
            f"stored times of this source lie in the future, the latest at {moment(max(future))}: "
            "the clock was wrong during a run, or the clock of this machine is behind now"
        )
        advice = f"set the clock, then run: heatmap-etl db repair-clock {evidence.source}"
        yield Concern(CLOCK, text, advice)


def _held_removals(evidence: Evidence) -> Iterable[Concern]:
    for view, row in evidence.views:
        if row is not None and row.needs_acceptance:
            yield Concern(
                NEEDS_ACCEPTANCE,
                "snapshots are no longer listed, too many at once, so their removal is held",
                "look in Datadog whether they are really gone, and only then run: heatmap-etl sync"
                " --accept-removals (for one view with --view NAME)",
                view,
                evidence.held_since.get(row.view_key),
            )


def _without_proof(evidence: Evidence, now: datetime) -> Iterable[Concern]:
    for view, row in evidence.views:
        if row is None or row.verdict not in (UNPROVEN, TRUNCATED) or view.accept_truncated:
            continue
        since = row.last_complete_at or row.first_read_at
        if since is not None and now - since > PATIENCE:
            yield Concern(
                row.verdict,
                f"{row.verdict}, and not complete for more than a day: {row.reason}",
                "narrow the view down by device_type or application_id, or set "
                "accept_truncated = true",
                view,
                since,
            )


def _rejected(evidence: Evidence) -> Iterable[Concern]:
    views = {row.view_key: view for view, row in evidence.views if row is not None}
    of_views = [new for new in evidence.rejects if new.view_key in views]
    counts = Counter[str]()
    for new in of_views:
        counts[new.reason] += new.count
    for new in of_views:
        yield Concern(
            REJECTED_RECORDS,
            f"{many(counts[new.reason], 'record')} that cannot become a row of snapshots, first "
            f"seen in the last day: {new.reason}",
            "look at the table rejected_records",
            views[new.view_key],
            new.first_seen_at,
        )


def _drifting(drift: Sequence[NewDrift]) -> Iterable[Concern]:
    if not drift:
        return
    named = [
        f"{clean(shortened(item.name))} ({item.kind}, {many(item.count, 'record')})"
        for item in drift[:NAMES_SHOWN]
    ]
    more = len(drift) - len(named)
    names = ", ".join(named) + f" and {more:,} more" * bool(more)
    yield Concern(
        SCHEMA_DRIFT,
        f"the API sends something new since the last day: {names}",
        "nothing is lost; look at the table schema_drift",
        since=min(item.first_seen_at for item in drift),
    )
