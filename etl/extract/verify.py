"""Answers without a verdict -> listings with one (`completeness`), as soon as it is certain.

An answer smaller than another of the run is whole, and handed on at once. The largest of the run
wait, on disk, until every view has answered. A view whose answer then looks like a cut is asked
for again in parts: by application, and where a part is as large as the whole, by device type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import takewhile

from msgspec.structs import replace

from etl.config.views import View
from etl.errors import DatadogError, DatadogUnavailable
from etl.extract.api_state import ApiFindings, ApiState
from etl.extract.completeness import Evidence, device_types
from etl.extract.fetch import BATCH_BODIES, Failed, Fetcher, Result, was_answered
from etl.extract.listing import Listing, assembled, narrowed
from etl.extract.partition import (
    FILTER_IGNORED,
    NOT_ASKED,
    Applications,
    Partition,
    PartitionedListing,
)
from etl.transform.snapshot import Decoded

ListApplications = Callable[[], tuple[Sequence[str] | None, str]]
"""Every application of the organization; None when the list is not to be had, and why it is not."""
ReadStoredParts = Callable[[], tuple[set[str | None], set[str | None]]]
"""Applications and device types of the stored rows; None: rows without one."""


class Verifier:
    """Reads views through `fetcher`, and says what each listing proves."""

    def __init__(
        self,
        fetcher: Fetcher,
        api_state: ApiState,
        list_applications: ListApplications,
        read_stored_parts: ReadStoredParts,
    ) -> None:
        self._learned_cap = api_state.learned_cap
        self._is_cap_recent = api_state.is_cap_recent
        self._is_cap_seen = False
        self._fetcher = fetcher
        self._list_applications = list_applications
        self._known_applications: tuple[Sequence[str] | None, str, set[str | None]] | None = None
        self._read_stored_parts = read_stored_parts
        self._evidence: dict[int, Evidence] = {}
        self._largest: list[Listing] = []
        self._cleared: list[Listing] = []
        self._rate_limit_name: str | None = None

    def results(self, views: Sequence[View]) -> Iterator[list[Result]]:
        """The certain results, a few at a time; ends when all views have one, or `stop` is set."""
        for batch in self._fetcher.fetch(views):
            certain = [result for answer in batch for result in self._add(answer)]
            if certain:
                yield certain
            yield from self._cleared_batches()
        yield from self._cleared_batches()
        while self._largest and not self._fetcher.stop.is_set():
            yield [self._resolve(self._largest.pop(0))]

    def findings(self) -> ApiFindings:
        """What the run found out about the API, for the next one; call it when all is read."""
        return ApiFindings(
            self._learned_cap, self._is_cap_seen, self._fetcher.lowered_to, self._rate_limit_name
        )

    def _add(self, result: Result) -> list[Result]:
        """The result, if it is certain; else nothing, and it waits among the largest.

        Listings that this answer makes certain move from the largest to the cleared.
        """
        if isinstance(result, Failed):
            return [result]
        self._rate_limit_name = result.rate_limit_name or self._rate_limit_name
        evidence = self._evidence_of(result)
        evidence.add(result.listed)
        if self._learned_cap and evidence.largest > self._learned_cap:
            self._learned_cap = evidence.learned_cap = None
        if evidence.clears(result.listed):
            return [result.found_complete(evidence)]
        self._cleared += [e for e in self._largest if self._evidence_of(e).clears(e.listed)]
        self._largest = [e for e in self._largest if not self._evidence_of(e).clears(e.listed)]
        result.records.spill()
        self._largest.append(result)
        return []

    def _cleared_batches(self) -> Iterator[list[Result]]:
        """The cleared listings, a few at a time, and no more than there is room for in memory."""
        while batch := list(takewhile(_has_room, self._cleared[:BATCH_BODIES])):
            del self._cleared[: len(batch)]
            yield [listing.found_complete(self._evidence_of(listing)) for listing in batch]

    def _evidence_of(self, listing: Listing) -> Evidence:
        limit = listing.page_limit
        return self._evidence.setdefault(limit, Evidence(limit, self._learned_cap))

    def _resolve(self, listing: Listing) -> Result:
        """The verdict of one of the largest, after its parts were read where it is suspicious."""
        evidence = self._evidence_of(listing)
        suspicion = evidence.suspicion(listing.listed)
        if not suspicion:
            return listing.found_complete(evidence)
        if listing.is_same:
            again = self._fetcher.fetch_one(listing.view, listing.budget)
            if isinstance(again, Failed):
                again.error.requests += listing.requests
                return Failed(listing.view, again.error, listing.seconds)
            listing = replace(again, requests=listing.requests + again.requests)
        try:
            with listing.records as decoded:
                return self._in_parts(listing, decoded or Decoded(), suspicion)
        except DatadogError as error:
            error.requests += listing.requests
            return Failed(listing.view, error, listing.seconds)

    def _in_parts(self, whole: Listing, decoded: Decoded, suspicion: str) -> Listing:
        view = whole.view
        applications = self._applications(decoded)
        partitioned = PartitionedListing(
            whole=decoded,
            limit=whole.page_limit,
            suspicion=suspicion,
            # One not seen for long is a reason to doubt, but no longer known to cut.
            learned_cap=self._learned_cap if self._is_cap_recent else None,
            applications=applications,
            is_by_application=view.application_id is None,
        )
        parts: list[Listing] = []
        to_split = [view.application_id] if view.application_id else []
        if view.application_id is None:
            ids = sorted({*(applications.on_list or ()), *applications.off_list})
            parts += self._read_parts(whole, partitioned, [Partition(a) for a in ids])
            to_split = [
                part.application_id
                for part in partitioned.parts
                if partitioned.may_be_cut(part) and part not in partitioned.without_proof
            ]
        if view.device_type is None and to_split and not partitioned.is_given_up:
            devices = self._devices(partitioned)
            by_device = [Partition(a, device) for a in to_split for device in devices]
            parts += self._read_parts(whole, partitioned, by_device)
        listing = assembled(whole, partitioned, parts, self._fetcher.buffer)
        if listing.learned_cap and listing.learned_cap < whole.page_limit:
            self._learned_cap, self._is_cap_seen = listing.learned_cap, True
            self._is_cap_recent = True
        return listing

    def _read_parts(
        self, whole: Listing, partitioned: PartitionedListing, parts: Sequence[Partition]
    ) -> list[Listing]:
        """Read each part and add it to `partitioned`; returns the listings of those answered."""
        asked = {narrowed(whole.view, part): part for part in parts}
        read: list[Listing] = []
        for batch in self._fetcher.fetch_parts(list(asked), whole.budget):
            for result in batch:
                reason = _add_part(partitioned, asked.pop(result.view), result, read)
                if reason:
                    partitioned.give_up(asked.values(), reason)
                    return read
        if self._fetcher.stop.is_set():
            raise DatadogUnavailable("stopped before every part was read")
        return read

    def _applications(self, decoded: Decoded) -> Applications:
        if self._known_applications is None:
            self._known_applications = *self._list_applications(), self._read_stored_parts()[0]
        on_list, why_unknown, stored = self._known_applications
        seen = {*stored, *(s.application_id for s in decoded.snapshots)}
        off_list = frozenset(a for a in seen if a) - {*(on_list or ())}
        return Applications(on_list, off_list, None in seen, why_unknown)

    def _devices(self, partitioned: PartitionedListing) -> list[str]:
        answers = [partitioned.whole, *partitioned.parts.values()]
        listed = {s.device_type for answer in answers for s in answer.snapshots}
        return device_types({*listed, *self._read_stored_parts()[1]})


def _has_room(listing: Listing) -> bool:
    """Whether the records of a listing have room in memory; takes it."""
    return listing.records.reserve()


def _add_part(
    partitioned: PartitionedListing, part: Partition, result: Result, read: list[Listing]
) -> str:
    """Add one part to `partitioned` and `read`; returns why no other needs to be asked, or ""."""
    if isinstance(result, Failed):
        partitioned.add_unanswered(part, result.error)
        return "" if was_answered(result.error) else NOT_ASKED
    with result.records as decoded:
        partitioned.add(part, decoded or Decoded(), result.page_limit)
    read.append(result)
    if not partitioned.ignores_filter(part):
        return ""
    # Every further part would be the whole answer once more.
    partitioned.without_proof[part] = FILTER_IGNORED
    return FILTER_IGNORED
