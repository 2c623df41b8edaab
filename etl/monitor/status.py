"""What the ledger says: how fresh each configured view is, and how the last runs went.

Reads only; needs no keys and asks nothing of Datadog.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from msgspec.structs import asdict
from sqlalchemy import Connection, Row

from etl.cli.output.report import chosen, left_out
from etl.config.model import Config
from etl.config.views import View
from etl.database.connection import Database
from etl.database.migrations import require_there
from etl.database.schema import view_state
from etl.extract.completeness import COMPLETE, FAILED, TRUNCATED, UNPROVEN
from etl.extract.view_selection import DAY_S
from etl.formatting import (
    BAD,
    DOUBTFUL,
    GOOD,
    age,
    clipped,
    count,
    duration,
    iso,
    many,
    moment,
    shortened,
    table,
)
from etl.ledger.results import CONTRACT
from etl.ledger.runs import last_runs
from etl.ledger.view_state import read_view_states
from etl.pipeline.select_views import ViewSelection, select_stored
from etl.schedule.due import LATE, described, read_agenda
from etl.source.lease import holder
from etl.source.privacy_setting import KEPT, PrivacyState, read_privacy

NEVER = "never read"
_TONES = {
    **dict.fromkeys((COMPLETE, "ok"), GOOD),
    **dict.fromkeys((UNPROVEN, "partial", "stopped", "running"), DOUBTFUL),
    **dict.fromkeys((TRUNCATED, FAILED, "died", NEVER), BAD),
}
_RUNS = 10


@dataclass(frozen=True, slots=True)
class ViewStatus:
    """One configured view; `is_stale` None: nobody asked."""

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

    @property
    def trusted_at(self) -> datetime | None:
        """The last reading that counts for freshness."""
        return self.last_read_at if self.view.accept_truncated else self.last_trusted_at

    @property
    def is_bad(self) -> bool:
        """Whether a person should look at it."""
        is_cut = self.verdict == TRUNCATED and not self.view.accept_truncated
        is_unread = self.verdict in (None, FAILED)
        return bool(self.is_stale or self.held) or is_cut or is_unread

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
    """What is known of a source. `holder`: who works on it now; empty: nobody."""

    source: str
    database: str
    at: datetime
    views: tuple[ViewStatus, ...]
    runs: tuple[Mapping[str, Any], ...]
    holder: str
    views_no_longer_configured: int
    privacy: PrivacyState = KEPT
    is_unread: bool = False  # with --max-age: no view is known yet that could be stale
    schedule: str = ""  # [schedule] in words, where a daemon runs the source
    next_run_at: datetime | None = None
    due_since: datetime | None = None  # a slot that nobody has run

    @property
    def is_stale(self) -> bool:
        """Whether a view is staler than `--max-age` allows."""
        return self.is_unread or any(view.is_stale for view in self.views)

    def as_json(self) -> dict[str, Any]:
        """The object that `status --json` prints."""
        return {
            "contract": CONTRACT,
            "source": self.source,
            "database": self.database,
            "at": iso(self.at),
            "under_way": self.holder or None,
            "next_run_at": _iso(self.next_run_at),
            "due_since": _iso(self.due_since),
            "views": [view.as_json() for view in self.views],
            "views_no_longer_configured": self.views_no_longer_configured,
            "privacy": asdict(self.privacy),
            "runs": [{n: _plain(v) for n, v in run.items()} for run in self.runs],
        }


def read_status(config: Config, database: Database, *, max_age_s: float | None) -> Status:
    """Read the ledger; raises `StoreError` when there is none that can be read."""
    require_there(database)
    return database.read(lambda connection: _read(connection, config, database.label, max_age_s))


def _read(connection: Connection, config: Config, label: str, max_age_s: float | None) -> Status:
    now = datetime.now(UTC)
    states = read_view_states(connection, config.source)
    selection = select_stored(connection, config, now)
    found = [_view(view, states.pop(view.key(config.source), None)) for view in selection.views]
    working = holder(connection, config.source)
    runs = last_runs(connection, config.source, _RUNS)
    # [schedule] always says something; only the ledger shows whether a daemon heeds it.
    is_scheduled = any(run.started_by == "schedule" for run in runs)
    agenda = read_agenda(connection, config, now, now) if is_scheduled else None
    return Status(
        source=config.source,
        database=label,
        at=now,
        views=tuple(_judged(view, now, _allowed(view, selection, max_age_s)) for view in found),
        runs=tuple(_run(row, is_held=bool(working)) for row in runs),
        holder=working,
        views_no_longer_configured=len(states),
        privacy=read_privacy(connection, config),
        is_unread=max_age_s is not None and not found,
        schedule=described(config) if agenda else "",
        next_run_at=agenda.next_run_at if agenda else None,
        due_since=agenda.due_since if agenda else None,
    )


def _allowed(
    view: dict[str, Any], selection: ViewSelection, max_age_s: float | None
) -> float | None:
    """A view that is asked once a day may be a day older."""
    is_daily = max_age_s is not None and view["view"] in selection.asked_daily
    return (max_age_s or 0) + DAY_S if is_daily else max_age_s


def _view(view: View, state: Row[Any] | None) -> dict[str, Any]:
    names = [n for n in ViewStatus.__dataclass_fields__ if n in view_state.columns]
    return {"view": view, **({n: getattr(state, n) for n in names} if state else {})}


def _judged(fields: dict[str, Any], now: datetime, max_age_s: float | None) -> ViewStatus:
    if max_age_s is None:
        return ViewStatus(**fields)
    trusted_at = ViewStatus(**fields).trusted_at
    is_stale = trusted_at is None or (now - trusted_at).total_seconds() > max_age_s
    return ViewStatus(**fields, is_stale=is_stale)


def _run(row: Row[Any], *, is_held: bool) -> Mapping[str, Any]:
    """A run that nobody works on any more died, even before the next one says so."""
    run = row._asdict()
    run["foreign"] = run.pop("foreign_records")  # as in sync --json
    if run["status"] == "running" and not is_held:
        run |= {"status": "died", "error": "its process is gone; the next run closes it"}
    return run


def _iso(instant: datetime | None) -> str | None:
    return iso(instant) if instant else None


def _plain(value: Any) -> Any:
    return iso(value) if isinstance(value, datetime) else value


# --- for people ---------------------------------------------------------------------------


def status_lines(status: Status) -> list[str]:
    """Freshness first, then what is wrong, then the last runs."""
    kept = f", created_by: {status.privacy.stored}"
    lines = [f"{status.database}, source {status.source}{kept}", ""]
    lines += _view_lines(status)
    if status.privacy.problem:
        lines += ["", f"No run starts: {status.privacy.problem}"]
    if bad := [v for v in status.views if v.is_bad]:
        lines += ["", "Look at:", *_complaints(bad, status.at)]
    return [*lines, "", *_run_lines(status)]


def _view_lines(status: Status) -> list[str]:
    shown = chosen(status.views, lambda v: v.is_bad, lambda v: v.verdict != COMPLETE)
    header = ("view", "verdict", "listed", "last read", "last complete", "failures", "held")
    rows = [
        (
            shortened(v.view.label),
            v.verdict or NEVER,
            count(v.listed),
            age(v.last_read_at, status.at),
            age(v.last_complete_at, status.at),
            count(v.consecutive_failures),
            count(v.held),
        )
        for v in shown
    ]
    right = "listed failures held"
    lines = table(header, rows, right=right, tones=_TONES) if rows else []
    lines += left_out(len(status.views), len(shown), ", all complete" if rows else "")
    oldest = min((v.trusted_at for v in status.views if v.trusted_at), default=None)
    bad = sum(v.is_bad for v in status.views)
    total = f"{many(len(status.views), 'view')}, {bad} to look at"
    lines += ["", f"{total}; oldest trusted reading: {age(oldest, status.at)}"]
    if status.views_no_longer_configured:
        gone = many(status.views_no_longer_configured, "view")
        lines.append(f"{gone} no longer configured; the rows stay")
    return lines


def _complaints(bad: list[ViewStatus], now: datetime) -> list[str]:
    lines = []
    for view in bad[: 2 * _RUNS]:
        stale = ["staler than --max-age"] if view.is_stale and view.verdict else []
        reason = (view.reason or "").removeprefix(f"view {view.view.label}: ")
        if view.verdict in (FAILED, TRUNCATED):
            stale.append(f"{view.verdict} {age(view.last_run_at, now)}: {reason}")
        if view.held:
            last = reason.rpartition("; ")[2]
            stale.append(last if "held" in last else f"{many(view.held, 'removal')} held")
        said = "; ".join(stale) or f"{NEVER}; run `heatmap-etl sync`"
        lines.append(f"  {shortened(view.view.label)}: {said}")
    return lines + [f"  ... and {len(bad) - len(lines)} more"] * (len(bad) > len(lines))


def _run_lines(status: Status) -> list[str]:
    lines = [f"A run is under way: {status.holder}.", ""] if status.holder else []
    if not status.runs:
        return [*lines, "No run yet."]
    lines += _next_lines(status)
    numbers = "views failed new changed vanished requests"
    header = ["run started", "status", "by", "took", *numbers.split(), "error"]
    rows = [_run_row(run) for run in status.runs]
    return [*lines, *table(header, rows, right=numbers, tones=_TONES)]


def _next_lines(status: Status) -> list[str]:
    if status.next_run_at is None:
        return []
    wait = duration((status.next_run_at - status.at).total_seconds())
    lines = [f"Next run: {moment(status.next_run_at)}, in {wait} ({status.schedule}).", ""]
    due = status.due_since
    if due and status.at - due > LATE and not status.holder:
        since = f"{moment(due)}, {age(due, status.at)}"
        lines.insert(0, f"A run is due since {since}: is `heatmap-etl schedule` running?")
    return lines


def _run_row(run: Mapping[str, Any]) -> list[str]:
    end = run["finished_at"]
    took = duration((end - run["started_at"]).total_seconds()) if end else "-"
    numbers = ("views", "views_failed", "new", "changed", "vanished", "requests")
    return [
        moment(run["started_at"]),
        run["status"],
        run["started_by"],
        took,
        *(count(run[name]) for name in numbers),
        clipped(run["error"] or "", 80),
    ]
