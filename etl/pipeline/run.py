"""One run: it owns the lease and the row in the ledger, and says how it ended."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection

from etl.config.model import Config, require_keys
from etl.config.views import View
from etl.database.connection import Database
from etl.datadog.client import Client
from etl.datadog.responses import host_of
from etl.datadog.server_clock import WORTH_A_WORD_S, ServerClock, skew_warning
from etl.errors import ClockAhead, EtlError, LeaseLost
from etl.extract.api_state import ApiState
from etl.extract.side_question import APPLICATIONS, VALIDATION, Unanswered
from etl.extract.verify import Verifier
from etl.ledger.api_state import read_api_state, write_findings
from etl.ledger.concerns import Concern
from etl.ledger.evidence import read_concerns
from etl.ledger.results import JOB, RunResult, ViewResult, new_run
from etl.ledger.retention import old_runs, prune
from etl.ledger.runs import correct_start, finish_run, start_run, status_of
from etl.ledger.side_questions import note_answered, read_unanswered, write_unanswered
from etl.ledger.view_state import note_watched, read_states_before
from etl.library_faults import said_of
from etl.load.decide import RunState
from etl.load.discovered import note_applications_asked
from etl.load.loader import Loader
from etl.load.ownership import Ownership
from etl.load.removals import RemovalGuard, Removals
from etl.load.writer import TableWriter
from etl.pipeline.applications import refresh_applications
from etl.pipeline.read_views import open_verifier, read_and_load, stored_in
from etl.pipeline.side_questions import SideQuestions
from etl.pipeline.watchdog import Watchdog
from etl.runtime.run_context import set_log_fields
from etl.source.identity import Organization, require_label
from etl.source.lease import Lease
from etl.source.privacy_setting import PrivacyState, adopt_privacy

log = logging.getLogger(__name__)

OnRun = Callable[[RunResult], None]


@dataclass(frozen=True, slots=True)
class Options:
    """What one run does differently. `views`: names; empty: all that are configured.

    `is_full`: no answer is skipped. `accepts_removals`: nothing is held. `slot_at`: the slot of
    the schedule that it fulfils, `missed_slots`: how many earlier ones it makes up for.
    """

    views: Sequence[str] = ()
    is_full: bool = False
    accepts_removals: bool = False
    started_by: str = "manual"
    slot_at: datetime | None = None
    missed_slots: int = 0
    job: str = JOB


def initial_state(
    config: Config, views: Iterable[View], api_state: ApiState, *, accepts_removals: bool
) -> RunState:
    """What a run over `views` knows before it has read any."""
    guard = RemovalGuard(config.hold_above, config.hold_min, is_off=accepts_removals)
    configured = frozenset(view.key(config.source) for view in config.views)
    unread = {view.key(config.source) for view in views}
    return RunState(
        Ownership(configured, unread),
        Removals(guard, api_state.needs_acceptance),
        Organization(api_state.org_id),
    )


def warn_of_clock(server_clock: ServerClock, api_url: str) -> None:
    """Log, once a run, that this machine's clock is wrong by more than a minute, if it is."""
    if warning := skew_warning(server_clock.skew_s, host_of(api_url)):
        log.warning("%s", warning)


@dataclass(slots=True)
class Run:
    """A run that has begun. `stop` is set to ask it to end, and when the lease is lost.

    `steps` counts the uses of its `database`. `is_clock_refused`: it ended as this machine's clock
    is too far ahead. `began_at`: when it began; under a refused clock, by that of the server.
    """

    config: Config
    database: Database
    stop: threading.Event
    result: RunResult
    lease: Lease
    progress: OnRun | None = None
    on_end: OnRun | None = None
    views: Sequence[View] = ()
    client: Client | None = None
    verifier: Verifier | None = None
    steps: int = 0
    is_clock_refused: bool = False
    began_at: datetime = field(init=False)
    server_clock: ServerClock = field(init=False)
    side_questions: SideQuestions = field(init=False)

    def __post_init__(self) -> None:
        self.began_at = self.result.started_at
        self.server_clock = ServerClock(datetime.now(UTC).timestamp() - time.monotonic())
        self.side_questions = SideQuestions(self.stop, server_clock=self.server_clock)
        self.database = replace(self.database, on_step=self._count_step)

    def knows_unanswered(self, stored: Mapping[str, Unanswered]) -> None:
        """Leave alone what got no answer in an earlier run not long ago."""
        self.side_questions = SideQuestions(self.stop, stored, self.server_clock)

    def load(self, views: Sequence[View], options: Options) -> None:
        """Read each view and load it; a view that fails is part of the result."""
        config, database, source = self.config, self.database, self.config.source
        keys, self.views = require_keys(config), views
        api_state = database.read(lambda c: read_api_state(c, config, is_full=options.is_full))
        states = database.read(lambda c: read_states_before(c, source))
        writer = TableWriter(database, self.result, self.lease, states, self._report)
        state = initial_state(config, views, api_state, accepts_removals=options.accepts_removals)
        loader = Loader(writer, state, source, self.stop)
        stored, side = stored_in(database, source), self.side_questions
        with (
            Client(
                config,
                keys,
                stop=self.stop,
                codes=self.result.codes,
                validation=side.validation,
                server_clock=self.server_clock,
            ) as client,
            open_verifier(client, side, config, api_state, self.stop, stored) as self.verifier,
        ):
            self.client = client
            read_and_load(client, side, self.verifier, views, loader)
            if self.result.has_read and not self.stop.is_set():
                guard, now = self.lease.guard, datetime.now(UTC)
                refresh_applications(client, side, database, source, guard, now)

    def _report(self, view: ViewResult) -> None:
        self.result.views.append(view)
        if self.progress:
            self.progress(self.result)

    def note_error(self, error: EtlError) -> None:
        """It ends with this error; what is stored stays."""
        self.is_clock_refused = isinstance(error, ClockAhead)
        self.result.error = str(error)
        self.result.status = "partial" if self.result.has_read else "failed"

    def end(self) -> None:
        """Note when it ended and how wrong this machine's clock is, and warn of that.

        Under a refused clock its own instants are those of the server's clock.
        """
        clock, result, now = self.server_clock, self.result, datetime.now(UTC)
        result.clock_skew_s = None if clock.skew_s is None else round(clock.skew_s, 3)
        if not self.is_clock_refused:
            result.finished_at = now
            warn_of_clock(clock, self.config.api_url)
            return
        skew_s = clock.skew_at_start_s or 0.0
        if skew_s > WORTH_A_WORD_S:  # else the clock was moved while it ran
            self.began_at = result.started_at - timedelta(seconds=skew_s + clock.margin_s)
        result.finished_at = max(self.true_now(), self.began_at)

    def true_now(self) -> datetime:
        """Now, or little earlier, by the server's clock where this machine's is ahead of it."""
        skew_s = self.server_clock.skew_s or 0.0
        ahead_s = skew_s + self.server_clock.margin_s if skew_s > WORTH_A_WORD_S else 0.0
        return datetime.now(UTC) - timedelta(seconds=ahead_s)

    def _count_step(self) -> None:
        self.steps += 1

    # --- as its watchdog sees it -----------------------------------------------------------

    @property
    def name(self) -> str:
        """Which run it is."""
        return f"run {self.result.run_id} of {self.config.source}"

    @property
    def done(self) -> int:
        """How much is done so far: exchanges, answers decoded, views, uses of the database."""
        answers = self.verifier.answers_read if self.verifier else 0
        return self.result.codes.total() + answers + len(self.result.views) + self.steps

    @property
    def views_to_read(self) -> int:
        """How many views it reads; 0: it does not read yet."""
        return len(self.views)

    @property
    def parts_asked(self) -> int:
        """How many parts of views were asked for."""
        return self.verifier.parts_asked if self.verifier else 0

    @property
    def lease_s(self) -> float:
        """Seconds after which its lease expires unless renewed."""
        return self.lease.seconds

    def break_off(self) -> None:
        """Ask it to end: no further request, no open connection, no renewal of its lease."""
        self.lease.stop_keeping()
        self.stop.set()
        if self.client:
            self.client.close()

    def give_up(self, reason: str) -> None:
        """Close it in the ledger and give the lease back: its own thread hangs, and does not."""
        result, lease = self.result, self.lease
        result.status, result.error = "failed", reason
        self.end()

        def close(connection: Connection) -> bool:
            if status_of(connection, result) != "running":
                return False
            lease.guard(connection)
            finish_run(connection, result)
            lease.release(connection)
            return True

        try:
            is_closed = self.database.transaction(close)
        except EtlError as error:
            log.warning("the run could not be closed in the ledger: %s", error)
            is_closed = False
        lease.is_lost = True  # whatever its thread still does, it writes nothing more
        if is_closed and self.on_end:
            self.on_end(result)


@contextmanager
def open_run(
    config: Config,
    database: Database,
    options: Options,
    stop: threading.Event,
    *,
    watchdog: Watchdog,
    planned: int,
    progress: OnRun | None = None,
    on_end: OnRun | None = None,
) -> Iterator[Run]:
    """Take the lease and open a run in the ledger; at the end, close it and give the lease back.

    `planned`: how many views it must read. `on_end` is called once the ledger has it closed,
    also when this raises. A bug is recorded as a failed run, and raised; so is an `EtlError`,
    unless some view is stored. One that `watchdog` ends is a failed run, too.
    """
    result, lease = new_run(config.source), Lease(config.source, config.lease_s)
    run = Run(config, database, stop, result, lease, progress, on_end)
    set_log_fields(source=result.source, run_id=result.run_id)
    result.job, result.started_by, result.planned = options.job, options.started_by, planned
    result.slot_at, result.missed_slots = options.slot_at, options.missed_slots

    def start(connection: Connection) -> PrivacyState:
        require_label(connection, config)
        lease.take(connection, config)
        start_run(connection, result)
        run.knows_unanswered(read_unanswered(connection, config.source))
        return adopt_privacy(connection, config)

    privacy = database.transaction(start)
    lease.keep(database, on_loss=stop.set)
    watchdog.watch(run)
    is_closed = False
    try:
        privacy.require_same()
        yield run
        result.settle(is_stopped=stop.is_set() and not lease.is_lost)
    except LeaseLost:
        raise
    except EtlError as error:
        run.note_error(error)
        if not result.has_read:
            raise
    except BaseException as bug:
        result.error, result.status = f"a bug: {type(bug).__name__}: {said_of(bug)}", "failed"
        raise
    finally:
        order = {view: number for number, view in enumerate(run.views)}
        result.views.sort(key=lambda view: order[view.view])
        lease.stop_keeping()
        if watchdog.reason:
            result.error, result.status = watchdog.reason, "failed"
        run.end()
        is_closed = not lease.is_lost and _close(run)
    if lease.is_lost and not is_closed:
        raise LeaseLost(f"another process took the lease of {config.source} during the run")


def _close(run: Run) -> bool:
    """Close the run in the ledger, delete old runs and give the lease back.

    Returns whether the run is closed; what could not be done is logged.
    """
    config, database, lease = run.config, run.database, run.lease

    def close(connection: Connection) -> bool:
        """Where there are old runs to delete the lease is kept for that; says whether it is."""
        if status_of(connection, run.result) != "running":
            return lease.is_held(connection)  # a commit whose answer was lost
        lease.guard(connection)
        if run.is_clock_refused:  # what it would note bears instants of that clock
            correct_start(connection, run.result, run.began_at)
        else:
            _note_findings(connection, run)
        finish_run(connection, run.result)
        has_old = bool(old_runs(connection, config, run.true_now())) and not run.stop.is_set()
        if not has_old:
            lease.release(connection)
        return has_old

    try:
        has_old = database.transaction(close)
    except EtlError as error:
        log.warning("the run could not be closed in the ledger: %s", error)
        return False
    run.result.started_at = run.began_at
    run.result.concerns = _concerns(run)
    if run.on_end:
        run.on_end(run.result)
    if has_old:
        prune(config, database, lease, run.stop, run.true_now())
        try:
            database.transaction(lease.release)
        except EtlError as error:
            log.warning("the lease was not given back, it expires: %s", error)
    return True


def _concerns(run: Run) -> tuple[Concern, ...]:
    """What waits for a person now; none for a run that was refused, whose error says it."""
    source, views, now = run.config.source, run.config.views, run.true_now()
    if run.is_clock_refused:
        return ()
    try:
        return run.database.read(lambda connection: read_concerns(connection, source, views, now))
    except EtlError as error:
        log.warning("what waits for a person could not be read: %s", error)
        return ()


def _note_findings(connection: Connection, run: Run) -> None:
    if run.verifier:
        source = run.config.source
        write_findings(connection, source, run.verifier.findings())
        configured = {view.key(source) for view in run.config.views}
        note_watched(connection, source, configured)
    _note_side_questions(connection, run)


def _note_side_questions(connection: Connection, run: Run) -> None:
    if run.side_questions.note_validation():
        note_answered(connection, run.config.source, VALIDATION)
    failed = run.side_questions.failed
    write_unanswered(connection, run.config.source, failed.values())
    if last := failed.get(APPLICATIONS):
        note_applications_asked(connection, run.config.source, last.failed_at)
