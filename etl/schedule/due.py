"""What is due: the slots of a source that were not run, by the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row

from etl.config.model import Config
from etl.config.validators import UTC_NAMES
from etl.database.connection import Database
from etl.database.migrations import found_schema, prepare_schema
from etl.ledger.results import JOB
from etl.ledger.runs import last_slot_run
from etl.schedule.cron import Due, Every, Slots, parse_cron

LATE = timedelta(minutes=2)
"""How long a slot may be due before its run counts as late."""


def slots_of(config: Config) -> Slots:
    """The slots that `[schedule]` names."""
    if config.every_s is not None:
        return Every(config.every_s)
    if config.timezone in UTC_NAMES:
        return parse_cron(config.cron, UTC)
    from zoneinfo import ZoneInfo  # most configurations keep UTC and need no zone data

    return parse_cron(config.cron, ZoneInfo(config.timezone))


def schedule_text(config: Config) -> str:
    """`[schedule]` in a few words, for people."""
    if config.every_s is not None:
        return f"every {config.every_s:g} s"
    return f"cron {config.cron}, {config.timezone}"


def due_now(config: Config, database: Database, *, since: datetime, now: datetime) -> Due | None:
    """The slot to run now, or None. When none was ever run, slots later than `since` count.

    Where a run is due, the ledger that says so is there. One that seems to have no tables may be on
    a disk that is away for a moment: then slots that were run would count as missed.
    """
    if found_schema(database).state != "current":
        if slots_of(config).due(since, now) is None:
            return None
        prepare_schema(database)
    return database.read(lambda c: read_agenda(c, config, since, now)).due


@dataclass(frozen=True, slots=True)
class Agenda:
    """A source's slots at one moment. `last`: the run of the latest slot that was run.

    `due_since`: the earliest slot that was not run, None when all were.
    """

    last: Row[Any] | None
    due: Due | None
    due_since: datetime | None
    next_run_at: datetime


def read_agenda(connection: Connection, config: Config, since: datetime, now: datetime) -> Agenda:
    """From the ledger; when no slot was ever run, those later than `since` count."""
    slots = slots_of(config)
    last = last_slot_run(connection, config.source, JOB, now)
    done_until = last.slot_at if last else since
    due = slots.due(done_until, now)
    due_since = slots.next_after(done_until) if due else None
    return Agenda(last, due, due_since, slots.next_after(now))
