"""A job for each source: it asks the ledger what is due, runs it, and says when to look again.

That is at the next slot or, when the slot could not be run, a little later. APScheduler waits and
gives each job a thread. The daemon keeps no state: after a restart, with another daemon, or when
the clock was moved, the ledger is asked again.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from apscheduler.executors.debug import DebugExecutor
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.background import BackgroundScheduler

from etl.config.model import Config, Sources, require_keys
from etl.database.connection import Database, opened
from etl.database.migrations import prepare_schema
from etl.datadog.wire.proxy import find_proxy
from etl.errors import ClockAhead, DatabaseUnreachable, EtlError, LeaseHeld, RunAbandoned, SlotTaken
from etl.formatting import iso, many
from etl.ledger.results import RunResult
from etl.pipeline.notify import Heartbeat, begin_heartbeat, log_run
from etl.pipeline.run import Options
from etl.pipeline.sync import sync
from etl.runtime.refusals import refusal_of
from etl.runtime.run_context import set_log_fields
from etl.runtime.signals import GIVE_UP_S, end_within
from etl.schedule.cron import Due, Slots
from etl.schedule.due import due_now, schedule_text, slots_of

log = logging.getLogger(__name__)

TICK_S = 1.0
_TICK = "tick"
_HELD_S = 5.0
_LONGEST_RETRY_S = 60.0
_MOST_AT_ONCE = 16
_HEARTBEAT_S = 1.0  # one that takes longer goes on by itself: the next slot may be due


@dataclass(slots=True)
class Job:
    """The job of one source.

    `since`: when the daemon started; earlier slots of a source that was never run are not due.

    `on_end` is called with each run that the ledger has closed, after it was logged.
    `stuck`: why its run is just being ended; "" while none hangs. `abandoned`: the run that could
    not be ended; `stop` is set then, as its thread may hold locks that only the end of the process
    frees.
    """

    config: Config
    stop: threading.Event
    on_end: Callable[[RunResult], None] | None = None
    since: datetime = field(default_factory=lambda: datetime.now(UTC))
    stuck: str = ""
    abandoned: RunAbandoned | None = None
    _heartbeat: Heartbeat | None = None
    _failures: int = 0  # since it last went well
    _reported: str = ""  # why it went wrong, so that the same is not logged again

    @property
    def slots(self) -> Slots:
        """When it is due."""
        return slots_of(self.config)

    def look(self) -> datetime:
        """Run what is due; returns when to look again."""
        set_log_fields(source=self.config.source)
        try:
            done_until = self._run_due()
        except LeaseHeld as held:
            # The run of the other process may not fulfil the slot: `sync` by hand does not.
            return self._retry(held, _HELD_S, logging.INFO)
        except ClockAhead as error:  # asked again at once, it would be refused again
            self._retry(error, 0, logging.ERROR)
            return self.slots.next_after(datetime.now(UTC))
        except RunAbandoned as error:
            self.abandoned = error
            self.stop.set()
            return self._retry(error, self._pause(), logging.DEBUG)
        except EtlError as error:
            return self._retry(error, self._pause(), logging.ERROR)
        except Exception as bug:  # noqa: BLE001 - `_retry_after` logs it
            return self._retry_after(bug)
        self._failures, self._reported = 0, ""
        return self.slots.next_after(done_until)

    def _retry_after(self, bug: Exception) -> datetime:
        """When to look again after what no run should raise: a bug, or a refusal of the system."""
        if refusal := refusal_of(bug):
            return self._retry(refusal, self._pause(), logging.ERROR)
        log.critical("%s: a bug; please report it", self.config.source, exc_info=bug)
        return datetime.now(UTC) + timedelta(seconds=self._pause())

    def _run_due(self) -> datetime:
        """Run until nothing is due: during a run the next slot may come.

        Returns the moment up to which nothing is due; the next slot may be a microsecond later.
        """
        with opened(self.config) as database:
            while True:
                now = datetime.now(UTC)
                due = due_now(self.config, database, since=self.since, now=now)
                if due is None or self.stop.is_set():
                    return now
                try:
                    self._run(database, due)
                except SlotTaken as taken:
                    log.debug("%s", taken)
                    return due.slot_at

    def _run(self, database: Database, due: Due) -> None:
        config, missed = self.config, due.missed_slots
        if missed:
            text = f"{many(missed, 'missed slot')} before {iso(due.slot_at)}"
            log.warning("%s: %s; this run makes up for them", config.source, text)
        options = Options(started_by="schedule", slot_at=due.slot_at, missed_slots=missed)
        self.stuck = ""
        run = sync(
            config,
            database,
            options,
            stop=self.stop,
            on_end=self._ended,
            on_stuck=self._note_stuck,
        )
        if heartbeat := begin_heartbeat(config, run):
            self._heartbeat = heartbeat
            heartbeat.wait(_HEARTBEAT_S)

    def finish(self) -> None:
        """Wait for a heartbeat that is still being sent: the process ends."""
        if self._heartbeat:
            self._heartbeat.wait()

    def _ended(self, run: RunResult) -> None:
        self.stuck = ""  # the ledger says it from now on
        log_run(run)
        if self.on_end:
            self.on_end(run)

    def _note_stuck(self, reason: str) -> None:
        self.stuck = reason

    def _pause(self) -> float:
        """Seconds until the next attempt: twice as many each time."""
        self._failures += 1
        return min(_LONGEST_RETRY_S, _HELD_S * 2.0 ** min(self._failures - 1, 8))

    def _retry(self, error: EtlError, seconds: float, level: int) -> datetime:
        """The slot stays due: returns when to look again. The same reason is logged once."""
        text = str(error)
        if text == self._reported:
            level = logging.DEBUG
        log.log(level, "%s: %s", self.config.source, text)
        self._reported = text
        return datetime.now(UTC) + timedelta(seconds=seconds)


def prepare(sources: Sources) -> None:
    """Require keys and proxy, prepare the schemas. Raises `EtlError` for what needs a person.

    A database that cannot be reached yet is only a warning: the jobs try again.
    """
    for config in sources.configs:
        require_keys(config)
        find_proxy(config.api_url, os.environ)
        try:
            with opened(config) as database:
                prepare_schema(database)
        except DatabaseUnreachable as error:
            log.warning("%s: %s", config.source, error)


class Daemon:
    """Runs the jobs of all sources. `ticked_at`: when its loop last ran, in monotonic time."""

    def __init__(
        self,
        sources: Sources,
        stop: threading.Event,
        on_end: Callable[[RunResult], None] | None = None,
    ) -> None:
        self.jobs = [Job(config, stop, on_end) for config in sources.configs]
        self.ticked_at = time.monotonic()
        self._stop = stop
        self._ending, self._has_ended = threading.Lock(), False
        self._scheduler = BackgroundScheduler(
            timezone=UTC,
            job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
            executors={
                "default": ThreadPoolExecutor(min(len(self.jobs), _MOST_AT_ONCE)),
                _TICK: DebugExecutor(),  # in the thread of the loop itself
            },
        )

    def run(self) -> None:
        """Run the jobs until `stop` is set and the runs under way have ended.

        Raises `RunAbandoned` when one could not be ended: the others are asked to, and the process
        should end, for a new one to begin with nothing that hangs.
        """
        self._tick()
        before = datetime.now(UTC)
        self._scheduler.start()
        for job in self.jobs:
            self._log_next_run(job)
            self._wait_until(before, job)
        try:
            self._watch_clock(before)
        finally:
            with self._ending:
                self._has_ended = True
            if any(job.abandoned for job in self.jobs):
                end_within(GIVE_UP_S, exit_code=RunAbandoned.exit_code)
            # Paused first: its loop starts a job, then removes it, and must find it there.
            self._scheduler.pause()
            self._scheduler.remove_all_jobs()
            self._scheduler.shutdown(wait=True)
        for job in self.jobs:
            if job.abandoned:
                raise job.abandoned
        for job in self.jobs:
            job.finish()

    def _tick(self) -> None:
        self.ticked_at = time.monotonic()
        # No interval: when the clock leaps APScheduler counts each second that was left out.
        soon = datetime.now(UTC) + timedelta(seconds=TICK_S)
        self._scheduler.add_job(self._tick, "date", run_date=soon, executor=_TICK)

    def _wait_until(self, when: datetime, job: Job) -> None:
        # With a new id each time: APScheduler removes the job that it has just started by its id,
        # and would remove the new one where the first ends at once.
        self._scheduler.add_job(self._look, "date", run_date=when, args=[job])

    def _look(self, job: Job) -> None:
        when = job.look()
        # Shutting down, APScheduler holds the lock that adding a job needs, and waits for this.
        with self._ending:
            if not self._has_ended:
                self._wait_until(when, job)

    def _watch_clock(self, before: datetime) -> None:
        """When the clock is put back, wake all jobs: they would wait by the old time."""
        while not self._stop.wait(TICK_S):
            now = datetime.now(UTC)
            if now < before - timedelta(seconds=TICK_S):
                log.warning("the clock was set back by %.0f s", (before - now).total_seconds())
                for job in self.jobs:  # else no slot before that would ever be due
                    job.since = min(job.since, now)
                for waiting in self._scheduler.get_jobs():
                    with suppress(JobLookupError):  # it has just begun
                        waiting.modify(next_run_time=now)
            before = now

    def _log_next_run(self, job: Job) -> None:
        when = job.slots.next_after(datetime.now(UTC))
        zone: Any = getattr(job.slots, "zone", UTC)
        text = when.astimezone(zone).isoformat(timespec="seconds")
        source, how = job.config.source, schedule_text(job.config)
        log.info("%s: next run at %s (%s)", source, text, how, extra={"source": source})
