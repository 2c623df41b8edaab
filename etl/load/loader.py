"""The listings of one run, as they come -> a writer.

Several views share a commit; a group that cannot be written is repeated view by view, so that one
bad view never stops a run. A listing that depends on others waits until all are read. A run and a
dry run differ in their writer only.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import NamedTuple, Protocol

from etl.config.views import View
from etl.errors import (
    DatabaseUnreachable,
    EtlError,
    LeaseLost,
    SourceMismatch,
    SpillFailed,
    StoreError,
)
from etl.extract.fetch import Failed, Result
from etl.extract.listing import Listing
from etl.load.decide import RunState
from etl.transform.snapshot import Decoded


class OpenListing(NamedTuple):
    """A listing with its records in memory; None: they are those of the last reading."""

    listing: Listing
    decoded: Decoded | None

    @property
    def ids(self) -> list[str]:
        """The ids that it lists."""
        return [snapshot.id for snapshot in self.decoded.snapshots] if self.decoded else []


class Failure(NamedTuple):
    """A view that could not be read or loaded."""

    view: View
    error: EtlError
    seconds: float
    requests: int


class Writer(Protocol):
    """Where the changes of a run go. `is_grouping`: several listings may be written as one."""

    is_grouping: bool

    def write(
        self, listings: Sequence[OpenListing], state: RunState
    ) -> tuple[RunState, list[Listing]]:
        """Write several listings as one; returns the new state, and those that must wait.

        Raises `StoreError` when nothing was written. `state` itself is never changed.
        """

    def write_failure(self, failure: Failure) -> None:
        """Write that a view failed."""


class Loader:
    """Hands each listing of a run to `writer`, and keeps on disk those that wait for others.

    `source`: label of the organization; once `stop` is set, none of those is loaded.
    """

    def __init__(self, writer: Writer, state: RunState, source: str, stop: threading.Event) -> None:
        self.state = state
        self._writer = writer
        self._source = source
        self._stop = stop
        self._deferred: list[Listing] = []

    def load(self, results: Sequence[Result]) -> None:
        """Load what was read; spill listings that need the answers of other views."""
        for failed in results:
            if isinstance(failed, Failed):
                error = failed.error
                self._fail(Failure(failed.view, error, failed.seconds, error.requests))
        with ExitStack() as memory:
            listings = [
                opened
                for result in results
                if isinstance(result, Listing) and (opened := self._opened(result, memory))
            ]
            groups = [listings] if self._writer.is_grouping else [[one] for one in listings]
            for listing in (waiting for group in groups for waiting in self._write(group)):
                try:
                    listing.records.spill()
                except SpillFailed as error:
                    (ids,) = (one.ids for one in listings if one.listing is listing)
                    self._fail_listing(listing, error, ids)
                else:
                    self._deferred.append(listing)

    def load_deferred(self, ask_organization: Callable[[], set[int]]) -> None:
        """Load what waited, now that every view has answered.

        `ask_organization`: ids of the organizations that the keys belong to, none when they cannot
        be known; called only when rows may go and no record has shown the organization.
        """
        organization = self.state.organization
        if self._deferred and organization.is_open:
            organization.is_asked = True
            named = ask_organization()
            organization.is_other = bool(named) and organization.org_id not in named
        for listing in self._deferred:
            if not self._stop.is_set():
                with ExitStack() as memory:
                    if opened := self._opened(listing, memory):
                        self._write([opened])
        self._deferred.clear()

    def _write(self, listings: Sequence[OpenListing]) -> list[Listing]:
        """In one commit or, when that fails, in one for each view; returns those that must wait."""
        if not listings:
            return []
        try:
            self.state, waiting = self._writer.write(listings, self.state)
        except (DatabaseUnreachable, LeaseLost):
            raise
        except StoreError as error:
            if len(listings) > 1:
                return [waiting for one in listings for waiting in self._write([one])]
            self.state.organization.is_other |= isinstance(error, SourceMismatch)
            self._fail_listing(listings[0].listing, error, listings[0].ids)
            return []
        return waiting

    def _opened(self, listing: Listing, memory: ExitStack) -> OpenListing | None:
        """The listing with its records; None: they are lost, and so the view has failed."""
        try:
            return OpenListing(listing, memory.enter_context(listing.records))
        except SpillFailed as error:
            self._fail_listing(listing, error)
            return None

    def _fail_listing(self, listing: Listing, error: EtlError, ids: Sequence[str] = ()) -> None:
        self._fail(Failure(listing.view, error, listing.seconds, listing.requests), ids)

    def _fail(self, failure: Failure, listed: Sequence[str] = ()) -> None:
        self._writer.write_failure(failure)
        self.state.ownership.record_failure(failure.view.key(self._source), listed)
