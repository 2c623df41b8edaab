"""Tries in the database what a run does, as the login that will run, and rolls it back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from uuid import uuid4

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from etl.config.model import Config
from etl.database.connection import ROLES, Database
from etl.database.migrations import creation_refused
from etl.diagnose.trials import (
    ELSEWHERE,
    NOTHING_LEFT,
    SESSION,
    TABLES,
    WITHOUT_TABLES,
    Trial,
    TrialRun,
)
from etl.errors import DatabaseUnreachable

_RIGHTS = f"use the login of a writer, or grant its rights: see Roles in {ROLES}"
# What drivers raise about a value that they cannot read is no error of theirs.
_UNREADABLE = (ArithmeticError, NotImplementedError, TypeError, ValueError)


class Busy(Exception):
    """A run has locked what the test would try; it is not disturbed."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that a run would suffer from; `str()` is one line that says what to do."""

    about: str
    what: str
    advice: str
    has_hint: bool = False  # the advice is about the error, not about the trial

    def __str__(self) -> str:
        return "; ".join(filter(None, (f"{self.about}: {self.what}", self.advice)))

    def is_same(self, other: Fault) -> bool:
        """Whether one cause has both: a login that lacks one right often lacks all."""
        return self.what == other.what or (self.has_hint and self.advice == other.advice)


def find_faults(database: Database, config: Config, *, has_tables: bool) -> list[Fault]:
    """What a run would suffer from; nothing of the trials is left behind.

    `has_tables`: whether the schema is current; else a temporary table is tried. Raises `Busy`, and
    `StoreError`, also where the connection is lost meanwhile.
    """
    try:
        return _find_faults(database, config, has_tables=has_tables)
    except DBAPIError as error:
        raise database.failure(error) from error


def _find_faults(database: Database, config: Config, *, has_tables: bool) -> list[Fault]:
    # SQLite's journal stays in its mode, which only a writer may change.
    with database.connect(write=False) as first:
        on = TrialRun(first, config, uuid4().hex)
        if faults := _try_session(database, on):
            return faults
        with _rolled_back(first):
            faults = _run_trials(
                database, on, (*SESSION, *(TABLES if has_tables else WITHOUT_TABLES))
            )
        if has_tables:
            faults += _run_trials(database, on, (NOTHING_LEFT,), faults)
            first.commit()  # what it has deleted
    return faults


def _try_session(database: Database, on: TrialRun) -> list[Fault]:
    """The faults of another connection, on which nothing was set yet.

    One after the other: a pooler may have one connection to the server left for both.
    """
    try:
        with database.connect(write=False) as second, _rolled_back(second):
            return _run_trials(database, replace(on, connection=second), SESSION)
    except DatabaseUnreachable:
        return []  # one connection may be all that is allowed


def create_refusal(database: Database) -> str:
    """Why this login may not create the schema, and who may; "": it may."""
    if database.file:
        return ""
    try:
        with database.connect() as connection:
            database.dialect.try_to_create(connection, database.schema_name)
    except DBAPIError as error:
        if error.connection_invalidated:
            raise database.failure(error) from error
        if database.dialect.is_repeatable(error):
            return ""  # another process creates it at this moment
        return creation_refused(database, error)
    return ""


@contextmanager
def _rolled_back(connection: Connection) -> Iterator[None]:
    connection.begin()
    try:
        yield
    finally:
        connection.rollback()


def _run_trials(
    database: Database, on: TrialRun, trials: Iterable[Trial], known: Sequence[Fault] = ()
) -> list[Fault]:
    """The faults that trials find. The rows of each stay until the transaction ends, as one does
    that is refused."""
    faults: list[Fault] = []
    has_failed = False
    for trial in trials:
        if trial.builds_on_last and has_failed:
            continue
        found = _try(database, on, trial)
        has_failed = bool(found)
        for fault in found:
            if not any(fault.is_same(other) for other in (*known, *faults)):
                faults.append(fault)
        if has_failed and trial in SESSION:
            break
    return faults


def _try(database: Database, on: TrialRun, trial: Trial) -> list[Fault]:
    try:
        return [Fault(trial.name, what, trial.advice) for what in trial.faults(on)]
    except DBAPIError as error:
        if error.connection_invalidated:
            raise
        if on.is_busy(error):
            raise Busy from error
        fault = _refusal(database, trial, error)
    except _UNREADABLE as error:
        fault = Fault(f"{trial.name} fails", str(error), trial.advice)
    on.begin_again()
    return [fault]


def _refusal(database: Database, trial: Trial, error: DBAPIError) -> Fault:
    dialect = database.dialect
    reason = dialect.brief(error)
    if dialect.is_denied(error):
        return Fault(f"{database.login} may not write", reason, _RIGHTS, has_hint=True)
    if hint := database.advice(error) or ELSEWHERE * dialect.is_missing_table(error):
        return Fault(f"{trial.name} fails", reason, hint, has_hint=True)
    return Fault(f"{trial.name} fails", reason, trial.advice)
