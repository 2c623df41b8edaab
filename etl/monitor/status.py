"""Reads from the ledger how fresh each configured view is, and how the last runs went.

Needs no keys, and sends nothing to Datadog.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from msgspec.structs import asdict
from sqlalchemy import Connection, Row

from etl.config.model import Config
from etl.config.views import View
from etl.database.connection import Database
from etl.database.migrations import require_there
from etl.database.schema import view_state
from etl.extract.completeness import FAILED, TRUNCATED
from etl.extract.side_question import Unanswered
from etl.extract.view_selection import DAY_S
from etl.formatting import is_future, iso
from etl.ledger.concerns import Concern
from etl.ledger.evidence import read_concerns
from etl.ledger.results import CONTRACT
from etl.ledger.runs import last_clock_skew_s, last_runs, latest_run
from etl.ledger.side_questions import read_unanswered
from etl.ledger.view_state import read_view_states
from etl.monitor.overrun import read_overrun
from etl.pipeline.select_views import ViewSelection, select_stored
from etl.schedule.due import read_agenda, schedule_text
from etl.source.identity import require_label
from etl.source.lease import holder
from etl.source.privacy_setting import KEPT, PrivacyState, read_privacy

_RUNS = 10


@dataclass(frozen=True, slots=True)
class ViewStatus:
    """One configured view; `is_stale` is None unless a maximum age was given, or a wrong clock has
    put its last reading into the future."""

    view: View
    verdict: str | None = None
    reason: str | None = None
    listed: int = 0
    held: int = 0
    last_read_at: datetime | None = None
    last_complete_at: datetime | None = None
    last_run_at: datetime | None = None
    consecutive_failures: int = 0
    last_trusted_at: datetime | None = None
    is_stale: bool | None = None
    is_in_future: bool = False  # its last reading, by a wrong clock

    @property
    def trusted_at(self) -> datetime | None:
        """The last reading that counts for freshness."""
        return self.last_read_at if self.view.accept_truncated else self.last_trusted_at

    @property
    def is_bad(self) -> bool:
        """Whether a person should look at it."""
        return bool(self.is_stale or self.held) or self.is_unread_or_cut

    @property
    def is_unread_or_cut(self) -> bool:
        """Whether its last listing is no good: there was none, or it may lack records."""
        is_cut = self.verdict == TRUNCATED and not self.view.accept_truncated
        return is_cut or self.verdict in (None, FAILED)

    def as_json(self) -> dict[str, Any]:
        """The view's part of `status --json`."""
        return {
            "view_name": self.view.name,
            "application_id": self.view.application_id,
            "device_type": self.view.device_type,
            "verdict": self.verdict,
            "reason": self.reason,
            "listed": self.listed,
            "held": self.held,
            "last_read_at": _iso(self.last_read_at),
            "last_complete_at": _iso(self.last_complete_at),
            "last_trusted_at": _iso(self.last_trusted_at),
            "last_run_at": _iso(self.last_run_at),
            "consecutive_failures": self.consecutive_failures,
            "is_stale": self.is_stale,
        }


@dataclass(frozen=True, slots=True)
class Status:
    """The state of a source. `holder`: the process that works on it now, or ""."""

    source: str
    database: str
    at: datetime
    views: tuple[ViewStatus, ...]
    runs: tuple[Mapping[str, Any], ...]
    holder: str
    views_no_longer_configured: int
    privacy: PrivacyState = KEPT
    is_unread: bool = False  # with --max-age: no view is known yet, so none can be stale
    schedule: str = ""  # [schedule] in words, where a daemon runs the source
    next_run_at: datetime | None = None
    due_since: datetime | None = None  # the oldest slot that was not run
    overrun: str = ""  # why the run under way takes too long
    not_known: tuple[Unanswered, ...] = ()  # the side questions without an answer
    concerns: tuple[Concern, ...] = ()  # what waits for a person
    has_max_age: bool = False
    latest: Mapping[str, Any] | None = None  # the run that began last by its machine's clock
    clock_skew_s: float | None = None  # as the last run knew it

    @property
    def is_stale(self) -> bool:
        """Whether a view is staler than `--max-age` allows."""
        return self.is_unread or any(view.is_stale for view in self.views)

    @property
    def needs_attention(self) -> bool:
        """With `--max-age`: whether a monitor should call somebody."""
        return self.has_max_age and (self.is_stale or bool(self.concerns))

    def as_json(self) -> dict[str, Any]:
        """The object that `status --json` prints."""
        return {
            "contract": CONTRACT,
            "source": self.source,
            "database": self.database,
            "at": iso(self.at),
            "under_way": self.holder or None,
            "overrun": self.overrun or None,
            "next_run_at": _iso(self.next_run_at),
            "due_since": _iso(self.due_since),
            "views": [view.as_json() for view in self.views],
            "views_no_longer_configured": self.views_no_longer_configured,
            "privacy": asdict(self.privacy),
            "not_known": not_known_json(self.not_known),
            "concerns": [concern.as_json() for concern in self.concerns],
            "clock_skew_s": self.clock_skew_s,
            "runs": [{n: _plain(v) for n, v in run.items()} for run in self.runs],
        }


def read_status(config: Config, database: Database, *, max_age_s: float | None) -> Status:
    """Read the ledger; raises `StoreError` when there is no readable one.

    `SourceMismatch`, as `sync` does, when the source seems to have had another name.
    """
    require_there(database)
    return database.read(lambda connection: _read(connection, config, database.label, max_age_s))


def _read(connection: Connection, config: Config, label: str, max_age_s: float | None) -> Status:
    now = datetime.now(UTC)
    require_label(connection, config)
    states = read_view_states(connection, config.source)
    selection = select_stored(connection, config, now)
    views = [
        _view_status(
            view,
            states.pop(view.key(config.source), None),
            now,
            _allowed_age_s(view, selection, max_age_s),
        )
        for view in selection.views
    ]
    run_holder = holder(connection, config.source)
    runs = last_runs(connection, config.source, _RUNS, now)
    latest = latest_run(connection, config.source, now)
    # [schedule] has defaults; only the ledger shows whether a daemon runs the source. Without
    # views it is not the configuration that a run uses: its schedule and time-outs mean nothing.
    is_scheduled = config.has_views and any(run.started_by == "schedule" for run in runs)
    agenda = read_agenda(connection, config, now, now) if is_scheduled else None
    return Status(
        source=config.source,
        database=label,
        at=now,
        views=tuple(views),
        runs=tuple(_run(row, has_holder=bool(run_holder)) for row in runs),
        latest=_run(latest, has_holder=bool(run_holder)) if latest else None,
        holder=run_holder,
        views_no_longer_configured=len(states),
        privacy=read_privacy(connection, config),
        is_unread=max_age_s is not None and not views,
        schedule=schedule_text(config) if agenda else "",
        next_run_at=agenda.next_run_at if agenda else None,
        due_since=agenda.due_since if agenda else None,
        overrun=read_overrun(connection, config, now) if run_holder and config.has_views else "",
        not_known=tuple(read_unanswered(connection, config.source).values()),
        concerns=read_concerns(connection, config.source, selection.views, now),
        has_max_age=max_age_s is not None,
        clock_skew_s=last_clock_skew_s(connection, config.source, now),
    )


def _allowed_age_s(view: View, selection: ViewSelection, max_age_s: float | None) -> float | None:
    """A view that is read once a day may be a day older."""
    is_daily = max_age_s is not None and view in selection.asked_daily
    return (max_age_s or 0) + DAY_S if is_daily else max_age_s


def _view_status(
    view: View, state: Row[Any] | None, now: datetime, max_age_s: float | None
) -> ViewStatus:
    names = [n for n in ViewStatus.__dataclass_fields__ if n in view_state.columns]
    status = ViewStatus(view, **({n: getattr(state, n) for n in names} if state else {}))
    trusted_at = status.trusted_at
    if is_future(trusted_at, now):
        return replace(status, is_stale=True, is_in_future=True)
    if max_age_s is None:
        return status
    is_stale = trusted_at is None or (now - trusted_at).total_seconds() > max_age_s
    return replace(status, is_stale=is_stale)


def _run(row: Row[Any], *, has_holder: bool) -> Mapping[str, Any]:
    """A running run whose source has no holder died, even before the next run closes it."""
    run = row._asdict()
    run["foreign"] = run.pop("foreign_records")  # as in sync --json
    if run["status"] == "running" and not has_holder:
        run |= {"status": "died", "error": "its process is gone; the next run closes it"}
    return run


def not_known_json(questions: Iterable[Unanswered]) -> list[dict[str, Any]]:
    """The part `not_known` of `status --json` and of `/status`."""
    return [
        {
            "question": item.question,
            "since": iso(item.failed_at),
            "ask_again_at": iso(item.ask_again_at),
            "error": item.error,
        }
        for item in questions
    ]


def _iso(instant: datetime | None) -> str | None:
    return iso(instant) if instant else None


def _plain(value: Any) -> Any:
    return iso(value) if isinstance(value, datetime) else value
