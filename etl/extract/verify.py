"""Answers without a verdict -> listings with one (completeness), as soon as it is certain.

An answer smaller than another of the run is whole and handed on at once. The
largest of the run wait, on disk, until every view has answered. What then looks
like a cut is read again in parts: by application, and where a part is as large
as the whole, by device type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import takewhile

from msgspec.structs import replace

from etl.config.views import View
from etl.errors import DatadogError, DatadogUnavailable
from etl.extract.api_state import ApiFindings, ApiState
from etl.extract.completeness import Evidence, device_types
from etl.extract.fetch import BATCH_BODIES, Failed, Fetcher, Result, is_answer
from etl.extract.listing import Listing, assembled, narrowed
from etl.extract.partition import (
    FILTER_IGNORED,
    NOT_ASKED,
    Applications,
    Partition,
    PartitionedListing,
)
from etl.transform.snapshot import Decoded

ListApplications = Callable[[], Sequence[str] | None]
"""Every application of the organization; None when the list is not to be had."""
Seen = Callable[[], tuple[set[str | None], set[str | None]]]
"""Applications and device types of the stored rows; None: rows without one."""


class Verifier:
    """Reads views through `fetcher` and says what each listing proves.

    `findings()` is afterwards what the run found out about the API.
    """

    def __init__(
        self, fetcher: Fetcher, api_state: ApiState, list_applications: ListApplications, seen: Seen
    ) -> None:
        self._learned_cap = api_state.learned_cap
        self._is_cap_recent = api_state.is_cap_recent
        self._is_cap_seen = False
        self._fetcher = fetcher
        self._list_applications = list_applications
        self._known_applications: tuple[Sequence[str] | None, set[str | None]] | None = None
        self._seen = seen
        self._evidence: dict[int, Evidence] = {}
        self._largest: list[Listing] = []
        self._cleared: list[Listing] = []
        self._rate_limit_name: str | None = None

    def results(self, views: Sequence[View]) -> Iterator[list[Result]]:
        """Whatever is certain, a few at a time; ends when all have a verdict or `stop` is set."""
        for batch in self._fetcher.fetch(views):
            certain = [known for result in batch for known in self._sift(result)]
            if certain:
                yield certain
            yield from self._released()
        yield from self._released()
        while self._largest and not self._fetcher.stop.is_set():
            yield [self._resolve(self._largest.pop(0))]

    def findings(self) -> ApiFindings:
        """What is worth to be remembered."""
        return ApiFindings(
            self._learned_cap, self._is_cap_seen, self._fetcher.lowered_to, self._rate_limit_name
        )

    def _sift(self, result: Result) -> list[Result]:
        """A failure or an answer that is certain, or nothing; what else it makes certain is put
        among those cleared."""
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

    def _released(self) -> Iterator[list[Result]]:
        """Those cleared, a few at a time and no more than there is room for beside what is read."""
        while some := list(takewhile(_has_room, self._cleared[:BATCH_BODIES])):
            del self._cleared[: len(some)]
            yield [listing.found_complete(self._evidence_of(listing)) for listing in some]

    def _evidence_of(self, listing: Listing) -> Evidence:
        limit = listing.page_limit
        return self._evidence.setdefault(limit, Evidence(limit, self._learned_cap))

    def _resolve(self, listing: Listing) -> Result:
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

    # --- parts ----------------------------------------------------------------------------

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
        full = [view.application_id] if view.application_id else []
        if view.application_id is None:
            asked = sorted({*(applications.on_list or ()), *applications.off_list})
            parts += self._read_parts(whole, partitioned, [Partition(a) for a in asked])
            full = [p.application_id for p in partitioned.parts if partitioned.may_be_cut(p)]
            full = [a for a in full if Partition(a) not in partitioned.without_proof]
        if view.device_type is None and full and not partitioned.is_given_up:
            devices = self._devices(partitioned)
            by_device = [Partition(a, device) for a in full for device in devices]
            parts += self._read_parts(whole, partitioned, by_device)
        listing = assembled(whole, partitioned, parts, self._fetcher.buffer)
        if listing.learned_cap and listing.learned_cap < whole.page_limit:
            self._learned_cap, self._is_cap_seen = listing.learned_cap, True
            self._is_cap_recent = True
        return listing

    def _read_parts(
        self, whole: Listing, partitioned: PartitionedListing, parts: Sequence[Partition]
    ) -> list[Listing]:
        """Put each part into `partitioned`; a part that gives no answer proves nothing."""
        asked = {narrowed(whole.view, part): part for part in parts}
        read: list[Listing] = []
        for batch in self._fetcher.fetch_parts(list(asked), whole.budget):
            for result in batch:
                reason = _put(partitioned, asked.pop(result.view), result, read)
                if reason:
                    partitioned.give_up(asked.values(), reason)
                    return read
        if self._fetcher.stop.is_set():
            raise DatadogUnavailable("stopped before every part was read")
        return read

    def _applications(self, decoded: Decoded) -> Applications:
        if self._known_applications is None:
            self._known_applications = self._list_applications(), self._seen()[0]
        on_list, stored = self._known_applications
        seen = {*stored, *(s.application_id for s in decoded.snapshots)}
        others = frozenset(a for a in seen if a) - {*(on_list or ())}
        return Applications(on_list, others, None in seen)

    def _devices(self, partitioned: PartitionedListing) -> list[str]:
        answers = [partitioned.whole, *partitioned.parts.values()]
        here = {s.device_type for answer in answers for s in answer.snapshots}
        return device_types({*here, *self._seen()[1]})


def _has_room(listing: Listing) -> bool:
    return listing.records.reserve()


def _put(
    partitioned: PartitionedListing, part: Partition, result: Result, read: list[Listing]
) -> str:
    """Put one part into `partitioned`; why no other needs to be asked, or ""."""
    if isinstance(result, Failed):
        partitioned.add_unanswered(part, result.error)
        return "" if is_answer(result.error) else NOT_ASKED
    with result.records as decoded:
        partitioned.add(part, decoded or Decoded(), result.page_limit)
    read.append(result)
    if not partitioned.ignores_filter(part):
        return ""
    # Every further part would be the whole answer once more.
    partitioned.without_proof[part] = FILTER_IGNORED
    return FILTER_IGNORED
