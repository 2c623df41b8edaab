"""What is due, by the ledger: a source's configured slots against those that were run."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import Connection

from etl import ledger
from etl.config import Config
from etl.database import Database, found_schema
from etl.slots import Due, Every, Slots, parse_cron


def slots_of(config: Config) -> Slots:
    """The slots that `[schedule]` names."""
    if config.every_s is not None:
        return Every(config.every_s)
    if config.timezone == "UTC":
        return parse_cron(config.cron, UTC)
    from zoneinfo import ZoneInfo  # most configurations keep UTC and need no zone data

    return parse_cron(config.cron, ZoneInfo(config.timezone))


def described(config: Config) -> str:
    """`[schedule]` in a few words."""
    if config.every_s is not None:
        return f"every {config.every_s:g} s"
    return f"cron {config.cron}, {config.timezone}"


def due_now(config: Config, database: Database, *, since: datetime, now: datetime) -> Due | None:
    """The slot to run now. Where none was ever run, those later than `since` count."""
    if found_schema(database).state != "current":
        return slots_of(config).due(since, now)

    def last(connection: Connection) -> datetime | None:
        return ledger.last_slot(connection, config.source, ledger.JOB, now)

    return slots_of(config).due(database.read(last) or since, now)
