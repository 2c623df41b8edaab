"""One run at work: views -> answers -> judged listings -> rows, and the ledger of it.

Several views share a commit; a group that fails is repeated view by view, so
that one bad view never stops a run. What an earlier run learned of the API is
read before, what this one learned is written after.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TypeAlias

import msgspec
from sqlalchemy import Connection

from etl.config.load import Config, View, require_keys
from etl.database.connection import Database
from etl.datadog.client import Datadog
from etl.errors import (
    DatabaseUnreachable,
    DatadogError,
    EtlError,
    LeaseLost,
    SourceMismatch,
    StoreError,
)
from etl.extract.completeness import FAILED
from etl.extract.discovery import read_applications, refresh_applications
from etl.extract.fetch import Failed, Reader, Result
from etl.extract.listing import ApiState, Listing
from etl.extract.verify import Judge, Seen
from etl.ledger import runs as ledger
from etl.ledger.retention import old_runs, prune
from etl.ledger.runs import RunResult, ViewResult
from etl.ledger.view_state import Before, Entries, read_before
from etl.load import writer as store
from etl.load.diff import OtherViews
from etl.load.upsert import PendingRows
from etl.source.lease import Lease

log = logging.getLogger(__name__)

Progress: TypeAlias = "Callable[[RunResult], None]"


class Work(msgspec.Struct):
    """The state of one run while it works."""

    config: Config
    database: Database
    run: RunResult
    lease: Lease
    others: OtherViews
    stop: threading.Event
    progress: Progress | None = None
    on_end: Progress | None = None
    judge: Judge | None = None
    is_closed: bool = False
    must_prune: bool = False
    before: Before = msgspec.field(default_factory=Before)

    def read_and_load(self, views: Sequence[View], *, is_full: bool) -> None:
        """Each view as its answer is judged; those that depend on others when all have come."""
        keys, source = require_keys(self.config), self.config.source
        self.others.unread = {view.key(source) for view in views}
        memory = self.database.read(lambda c: ledger.remember(c, self.config, is_full=is_full))
        self.before = self.database.read(lambda c: read_before(c, source))
        self.others.org_id = memory.org_id
        self.others.needs_acceptance = set(memory.needs_acceptance)
        waiting: list[Listing] = []
        with Datadog(self.config, keys, stop=self.stop, codes=self.run.codes) as client:
            self.judge = open_judge(client, self.config, memory, self.stop, self._seen)
            with self.judge:
                for group in self.judge.results(views):
                    waiting += self._take(group)
                    del group  # its records are stored, and nobody else has them
                if waiting:
                    doubt_organization(client, self.others)
                for listing in waiting:
                    if not self.stop.is_set():
                        self._load([self.judge.taken_out(listing)])
            is_answered = any(result.verdict != FAILED for result in self.run.views)
            if is_answered and not self.stop.is_set():
                now = datetime.now(UTC)
                refresh_applications(client, self.database, source, self.lease.guard, now)

    def finish(self, views: Sequence[View]) -> None:
        """Close the run in the ledger and give the lease back, whatever happened."""
        order = {view: number for number, view in enumerate(views)}
        self.run.views.sort(key=lambda result: order[result.view])
        self.lease.stop_keeping()
        self.run.finished_at = datetime.now(UTC)
        if self.lease.is_lost:
            return
        try:
            self.database.transaction(self._close)
        except EtlError as error:
            log.warning("the run could not be closed in the ledger: %s", error)
            return
        self.is_closed = True
        if self.on_end:
            self.on_end(self.run)
        if self.must_prune:
            self._prune()

    def _close(self, connection: Connection) -> None:
        """Where there is something to prune the lease is kept for it."""
        if ledger.status_of(connection, self.run) != "running":
            return
        self.lease.guard(connection)
        if self.judge:
            ledger.learn(connection, self.run.source, self.judge.findings())
            ledger.note_watched(connection, self.run.source, self.others.configured)
        ledger.finish_run(connection, self.run)
        old = old_runs(connection, self.config, datetime.now(UTC))
        self.must_prune = bool(old) and not self.stop.is_set()
        if not self.must_prune:
            self.lease.release(connection)

    def _prune(self) -> None:
        prune(self.config, self.database, self.lease, self.stop)
        try:
            self.database.transaction(self.lease.release)
        except EtlError as error:
            log.warning("the lease was not given back, it expires: %s", error)

    def _seen(self) -> tuple[set[str | None], set[str | None]]:
        return self.database.read(lambda c: store.seen(c, self.config.source))

    def _take(self, group: Sequence[Result]) -> list[Listing]:
        """Load a group and put away the listings that must wait."""
        for failed in [item for item in group if isinstance(item, Failed)]:
            requests = failed.error.requests
            self._record_failure(failed.view, failed.error, failed.seconds, requests)
        waiting = self._load([item for item in group if isinstance(item, Listing)])
        return [self.judge.put_away(listing) for listing in waiting] if self.judge else []

    def _load(self, listings: Sequence[Listing]) -> list[Listing]:
        """Several views share one commit; when that fails, each gets its own."""
        if not listings:
            return []
        try:
            return self._load_together(listings)
        except (DatabaseUnreachable, LeaseLost):
            raise
        except StoreError as error:
            if len(listings) == 1:
                self.others.is_other_organization |= isinstance(error, SourceMismatch)
                failed = listings[0]
                self._record_failure(failed.view, error, failed.seconds, failed.requests)
                failed.without_records()
                return []
        return [waiting for listing in listings for waiting in self._load([listing])]

    def _load_together(self, listings: Sequence[Listing]) -> list[Listing]:
        results: list[ViewResult | None] = []
        others = self.others

        def load(connection: Connection) -> None:
            nonlocal others
            self.lease.guard(connection)
            if results and self._is_committed(connection, results):
                return
            others = self.others.copy()
            pending, entries = PendingRows(), Entries(self.run)
            results[:] = [
                store.load(connection, listing, pending, entries, others, self.before)
                for listing in listings
            ]
            pending.write(connection)
            entries.write(connection)

        self.database.transaction(load)
        self.others = others
        self._report([result for result in results if result])
        pairs = list(zip(listings, results, strict=True))
        for listing, result in pairs:
            if result:
                listing.without_records()
        return [listing for listing, result in pairs if result is None]

    def _is_committed(self, connection: Connection, results: Sequence[ViewResult | None]) -> bool:
        """After a lost connection: the ledger tells whether the commit happened."""
        loaded = [result.view for result in results if result]
        key = loaded[0].key(self.config.source) if loaded else ""
        return ledger.is_recorded(connection, self.run.run_id, key)

    def _record_failure(self, view: View, error: EtlError, seconds: float, requests: int) -> None:
        result = ledger.failed_result(view, error, requests=requests, seconds=seconds)
        key = view.key(self.config.source)

        def record(connection: Connection) -> None:
            self.lease.guard(connection)
            if ledger.is_recorded(connection, self.run.run_id, key):
                return
            entries = Entries(self.run)
            entries.add(result, self.before.states.get(key), {})
            entries.write(connection)

        self.database.transaction(record)
        self.others.has_failed(key)
        self._report([result])

    def _report(self, results: Sequence[ViewResult]) -> None:
        self.run.views.extend(results)
        if self.progress:
            self.progress(self.run)


def doubt_organization(client: Datadog, others: OtherViews) -> None:
    """Before rows go although no record named the organization: ask whose keys these are.

    RUM's list of applications names the organization of each; where it is not
    to be had, the brakes remain.
    """
    if not others.is_organization_open:
        return
    others.is_organization_asked = True
    try:
        named = {application.org_id for application in read_applications(client)} - {None}
    except DatadogError as error:
        log.debug("whose keys these are is not to be had: %s", error)
        return
    others.is_other_organization = bool(named) and others.org_id not in named


def open_judge(
    client: Datadog,
    config: Config,
    memory: ApiState,
    stop: threading.Event,
    seen: Seen = lambda: (set(), set()),
) -> Judge:
    """Who reads the configured views and says what their answers prove."""

    def applications() -> list[str] | None:
        try:
            return [application.application_id for application in read_applications(client)]
        except DatadogError as error:
            log.debug("the list of applications is not to be had: %s", error)
            return None

    return Judge(Reader(client, config, memory, stop), memory, applications, seen)
