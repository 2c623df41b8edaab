"""Whether the schedule of a source is kept, and why not: for monitors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from etl.config.model import Config
from etl.database.migrations import opened_ready
from etl.errors import EtlError
from etl.extract.side_question import Unanswered
from etl.formatting import duration, iso, many
from etl.ledger.concerns import Concern, concern_lines
from etl.ledger.evidence import read_concerns
from etl.ledger.side_questions import read_unanswered
from etl.monitor.overrun import read_overrun
from etl.monitor.status import not_known_json
from etl.pipeline.select_views import select_stored
from etl.schedule.due import LATE, Agenda, read_agenda
from etl.source.identity import require_label
from etl.source.lease import holder

LATE_WHILE_WORKING = timedelta(hours=1)
"""How long a slot may be due while a process works on the source."""

_RUN_FIELDS = ("run_id", "status", "slot_at", "started_at", "finished_at")
_COUNTS = ("missed_slots", "views", "views_failed")


@dataclass(frozen=True, slots=True)
class Health:
    """`reasons`: what is wrong, empty when healthy. `last_run`: the last scheduled run.

    `not_known`: side questions without an answer; none of them is a reason. `concerns`: what waits
    for a person; each cause of it is a reason.
    """

    source: str
    reasons: tuple[str, ...] = ()
    last_run: Mapping[str, Any] | None = None
    next_run_at: datetime | None = None
    due_since: datetime | None = None
    under_way: str = ""
    not_known: tuple[Unanswered, ...] = ()
    concerns: tuple[Concern, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The source's part of `/status`."""
        return {
            "source": self.source,
            "reasons": list(self.reasons),
            "last_run": {n: _plain(v) for n, v in self.last_run.items()} if self.last_run else None,
            "next_run_at": _plain(self.next_run_at),
            "due_since": _plain(self.due_since),
            "under_way": self.under_way or None,
            "not_known": not_known_json(self.not_known),
            "concerns": [concern.as_json() for concern in self.concerns],
        }


def read_health(config: Config, *, since: datetime, stuck: str = "") -> Health:
    """Read the ledger; an unreadable one is a reason. `since`: when the daemon started.

    `stuck`: what its watchdog says of a run that hangs, "" for none.
    """
    now = datetime.now(UTC)
    hangs = [f"hangs: {stuck}"] if stuck else []

    def read(
        connection: Connection,
    ) -> tuple[Agenda, str, str, dict[str, Unanswered], tuple[Concern, ...]]:
        require_label(connection, config)
        run_holder = holder(connection, config.source)
        overrun = read_overrun(connection, config, now) if run_holder else ""
        agenda = read_agenda(connection, config, since, now)
        views = select_stored(connection, config, now).views
        concerns = read_concerns(connection, config.source, views, now)
        unanswered = read_unanswered(connection, config.source)
        return agenda, run_holder, overrun, unanswered, concerns

    try:
        with opened_ready(config) as database:
            agenda, run_holder, overrun, unanswered, concerns = database.read(read)
    except EtlError as error:
        return Health(config.source, (*hangs, str(error)))
    if agenda.last and agenda.last.run_id in stuck:  # the ledger says it by now
        hangs.clear()
    if overrun:
        hangs.append(f"hangs: {overrun}")
    last = agenda.last._asdict() if agenda.last else None
    return Health(
        config.source,
        (
            *hangs,
            *find_reasons(agenda, is_working=bool(run_holder), now=now),
            *concern_lines(concerns),
        ),
        {n: last[n] for n in (*_RUN_FIELDS, *_COUNTS, "error")} if last else None,
        agenda.next_run_at,
        agenda.due_since,
        run_holder,
        tuple(unanswered.values()),
        concerns,
    )


def find_reasons(agenda: Agenda, *, is_working: bool, now: datetime) -> list[str]:
    """What is wrong with the schedule: the last due run is late, or failed."""
    reasons = []
    if agenda.due_since and now - agenda.due_since > (LATE_WHILE_WORKING if is_working else LATE):
        late = duration((now - agenda.due_since).total_seconds())
        reasons.append(f"late: a run has been due since {iso(agenda.due_since)}, {late} ago")
    if agenda.last and agenda.last.status == "failed":
        of_views = f"{agenda.last.views_failed} of {many(agenda.last.views, 'view')}"
        cause = agenda.last.error or of_views
        reasons.append(f"failed: run {agenda.last.run_id} of {iso(agenda.last.slot_at)}: {cause}")
    return reasons


def _plain(value: Any) -> Any:
    return iso(value) if isinstance(value, datetime) else value
