"""Answers without a verdict -> listings with one (`completeness`), as soon as it is certain.

An answer smaller than another of the run is whole, and handed on at once. The largest of the run
wait, on disk, until every view has answered. A view whose answer then looks like a cut is asked
for again in parts: by application, and where a part is as large as the whole, by device type.

An answer whose records name another view, application or device type than was asked for is no
answer (`names`): the view is asked again once, on a new connection.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import chain, takewhile

import msgspec
from msgspec.structs import replace

from etl.config.views import View
from etl.errors import DatadogError, DatadogResponseError, DatadogUnavailable, SpillFailed
from etl.extract.api_state import ApiFindings, ApiState
from etl.extract.completeness import TRUNCATED, UNPROVEN, Evidence, device_types
from etl.extract.fetch import BATCH_BODIES, Failed, Fetcher, Result, was_answered
from etl.extract.listing import Listing, assembled, narrowed
from etl.extract.names import OTHERS, OURS, UNKNOWN, judge, learned, naming, other_part
from etl.extract.partition import (
    FILTER_IGNORED,
    NOT_ASKED,
    Applications,
    Partition,
    PartitionedListing,
)
from etl.transform.snapshot import Decoded

ListApplications = Callable[[], tuple[Sequence[str] | None, str]]
"""Every application of the organization; None without the list, and why there is none."""


class Stored(msgspec.Struct, frozen=True):
    """What the verifier asks the tables.

    `read_parts`: applications and device types of the stored rows; None: rows without one.
    `read_names`: the view names that the rows of a configured view have, removed ones included.
    """

    read_parts: Callable[[], tuple[set[str | None], set[str | None]]]
    read_names: Callable[[View], set[str]]


class Verifier:
    """Reads views through `fetcher`, and says what each listing proves.

    `names`: those of all configured views, of this run or not.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        api_state: ApiState,
        list_applications: ListApplications,
        stored: Stored,
        names: Collection[str],
    ) -> None:
        self._learned_cap = api_state.learned_cap
        self._is_cap_recent = api_state.is_cap_recent
        self._is_cap_seen = False
        self._fetcher = fetcher
        self._list_applications = list_applications
        self._known_applications: tuple[Sequence[str] | None, str, set[str | None]] | None = None
        self._stored = stored
        self._names = frozenset(names)
        self._known_matching = self._matching = api_state.name_matching
        self._doubted: dict[View, Listing] = {}
        self._evidence: dict[int, Evidence] = {}
        self._largest: list[Listing] = []
        self._cleared: list[Listing] = []
        self._rate_limit_name: str | None = None

    @property
    def parts_asked(self) -> int:
        """How many parts of views were asked for so far."""
        return self._fetcher.parts_asked

    @property
    def answers_read(self) -> int:
        """How many answers were decoded so far."""
        return self._fetcher.answers_read

    def results(self, views: Sequence[View]) -> Iterator[list[Result]]:
        """The certain results, a few at a time; ends when all views have one, or `stop` is set."""
        for batch in chain(self._fetcher.fetch(views), self._second_answers()):
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
            self._learned_cap,
            self._is_cap_seen,
            self._fetcher.lowered_to,
            self._rate_limit_name,
            self._matching if self._matching != self._known_matching else frozenset(),
        )

    def _add(self, result: Result) -> list[Result]:
        """The result, if it is certain; else nothing, and it waits among the largest.

        Listings that this answer makes certain move from the largest to the cleared. The view of an
        answer that is another one's is asked again when no body waits for room any more.
        """
        if isinstance(result, Failed):
            return [result]
        self._rate_limit_name = result.rate_limit_name or self._rate_limit_name
        judged = self._judged(result)
        if isinstance(judged, Failed):
            is_second = result.view in self._doubted
            self._doubted.setdefault(result.view, result)
            return [judged] if is_second else []
        evidence = self._evidence_of(result)
        if judged.verdict:
            evidence.add_unproven(result.listed)
            return [judged]
        evidence.add(result.listed)
        if self._learned_cap and evidence.largest > self._learned_cap:
            self._learned_cap = evidence.learned_cap = None
        if evidence.clears(result.listed):
            return [result.found_complete(evidence)]
        self._cleared += [e for e in self._largest if self._evidence_of(e).clears(e.listed)]
        self._largest = [e for e in self._largest if not self._evidence_of(e).clears(e.listed)]
        try:
            result.records.spill()
        except SpillFailed as error:
            error.requests = result.requests
            return [Failed(result.view, error, result.seconds)]
        self._largest.append(result)
        return []

    def _second_answers(self) -> Iterator[list[Result]]:
        """Those of the doubted views."""
        budgets = {view: first.budget for view, first in self._doubted.items()}
        for batch in self._fetcher.fetch_again(budgets):
            yield [_after(self._doubted[second.view], second) for second in batch]

    def _judged(self, listing: Listing) -> Listing | Failed:
        """The listing where it is the view's own; unproven where that is not to be told; else the
        failure, with its records gone."""
        verdict, reason = self._doubt(listing, listing.view)
        if verdict == OTHERS:
            listing.records.close()
            text = f"view {listing.view.label}: {reason}"
            error = DatadogResponseError(text, status=200, detail=reason, requests=listing.requests)
            return Failed(listing.view, error, listing.seconds)
        if verdict == UNKNOWN and not listing.verdict:
            listing = replace(listing, verdict=UNPROVEN, reason=reason)
        is_full = listing.listed >= listing.page_limit or listing.listed == self._learned_cap
        if listing.verdict == UNPROVEN and is_full:
            return replace(listing, verdict=TRUNCATED)
        return listing

    def _doubt(self, answer: Listing, view: View) -> tuple[str, str]:
        """Whose the answer for a view or a part of it is, and why it is doubted; learns of it how
        names match."""
        names = answer.named.view_names
        verdict = judge(
            view.name,
            names,
            others=self._names,
            matching=self._matching,
            read_stored=lambda: self._stored.read_names(view),
        )
        if verdict == OTHERS:
            return OTHERS, self._told(f"the answer is for another view: {naming(names)}")
        if reason := other_part(view.application_id, view.device_type, answer.named):
            return OTHERS, self._told(reason)
        if verdict == UNKNOWN:
            reason = f"{naming(names)}, and how the API matches names is not known"
            return UNKNOWN, self._told(reason)
        self._matching |= learned(view.name, names)
        return verdict, ""

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
            again = self._read_again(listing)
            if isinstance(again, Failed) or again.verdict:
                return again
            listing = again
        try:
            with listing.records as decoded:
                return self._in_parts(listing, decoded or Decoded(), suspicion)
        except DatadogError as error:
            error.requests += listing.requests
            return Failed(listing.view, error, listing.seconds)

    def _read_again(self, listing: Listing) -> Listing | Failed:
        """The same view, with its records, and judged."""
        again = _after(listing, self._fetcher.fetch_one(listing.view, listing.budget))
        if isinstance(again, Failed):
            return again
        judged = self._judged(again)
        if isinstance(judged, Listing):
            return judged
        fresh = self._fetcher.fetch_one(listing.view, listing.budget, is_fresh=True)
        second = _after(again, fresh)
        return second if isinstance(second, Failed) else self._judged(second)

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
        """Read each part and add it to `partitioned`; returns the listings of those answered.

        Once it is certain that further parts prove nothing, only those under way are still read:
        they may list what the whole answer does not.
        """
        asked = {narrowed(whole.view, part): part for part in parts}
        read: list[Listing] = []
        enough, given_up = threading.Event(), ""
        for is_fresh in (False, True):
            answers = self._fetcher.fetch_parts(
                list(asked), whole.budget, is_fresh=is_fresh, enough=enough
            )
            for result in chain.from_iterable(answers):
                if given_up and isinstance(result, Failed):
                    continue
                doubt = self._doubt_of_part(whole, result)
                if isinstance(result, Listing) and doubt[0] == OTHERS and not is_fresh:
                    result.records.close()
                    partitioned.unanswered_requests += result.requests
                    continue
                reason = _add_part(partitioned, asked.pop(result.view), result, read, doubt)
                given_up = given_up or reason
                if reason == NOT_ASKED:  # those under way may wait as long as this one did
                    break
                if reason:
                    enough.set()
            if given_up:
                partitioned.give_up(asked.values(), given_up)
                return read
        if self._fetcher.stop.is_set():
            raise DatadogUnavailable("stopped before every part was read")
        return read

    def _doubt_of_part(self, whole: Listing, result: Result) -> tuple[str, str]:
        """As `_doubt`, for an answer for a part. One as large as the whole may be the whole once
        more, where the API ignores the filter."""
        if isinstance(result, Failed):
            return OURS, ""
        doubt = self._doubt(result, whole.view)
        if doubt[0] == OTHERS or result.listed >= whole.listed:
            return doubt
        reason = other_part(result.view.application_id, result.view.device_type, result.named)
        return (OTHERS, self._told(reason)) if reason else doubt

    def _told(self, reason: str) -> str:
        """A reason that quotes a record, without runs of our keys."""
        return self._fetcher.own_keys.blotted(reason)

    def _applications(self, decoded: Decoded) -> Applications:
        if self._known_applications is None:
            self._known_applications = *self._list_applications(), self._stored.read_parts()[0]
        on_list, why_unknown, stored = self._known_applications
        seen = {*stored, *(s.application_id for s in decoded.snapshots)}
        off_list = frozenset(a for a in seen if a) - {*(on_list or ())}
        return Applications(on_list, off_list, None in seen, why_unknown)

    def _devices(self, partitioned: PartitionedListing) -> list[str]:
        answers = [partitioned.whole, *partitioned.parts.values()]
        listed = {s.device_type for answer in answers for s in answer.snapshots}
        return device_types({*listed, *self._stored.read_parts()[1]})


def _has_room(listing: Listing) -> bool:
    """Whether the records of a listing have room in memory; takes it."""
    return listing.records.reserve()


def _after(first: Listing, second: Result) -> Result:
    """The second answer for a view, with what the first one cost."""
    if isinstance(second, Failed):
        second.error.requests += first.requests
        return Failed(second.view, second.error, first.seconds + second.seconds)
    return replace(
        second,
        requests=first.requests + second.requests,
        seconds=first.seconds + second.seconds,
    )


def _add_part(
    partitioned: PartitionedListing,
    part: Partition,
    result: Result,
    read: list[Listing],
    doubt: tuple[str, str],
) -> str:
    """Add one part to `partitioned` and `read`; returns why no other needs to be asked, or "".

    `doubt`: whose its answer is, and why it is doubted.
    """
    if isinstance(result, Failed):
        partitioned.add_unanswered(part, result.error)
        return "" if was_answered(result.error) else NOT_ASKED
    whose, why = doubt
    with result.records as decoded:
        if whose == OTHERS:
            partitioned.add_unanswered(part, why)
            partitioned.unanswered_requests += result.requests
            return ""
        partitioned.add(part, decoded or Decoded(), result.page_limit)
    read.append(result)
    if result.verdict:
        partitioned.distrust(part, result.reason, is_cut=result.verdict == TRUNCATED)
        return ""
    if whose == UNKNOWN:
        partitioned.without_proof[part] = why
    if not partitioned.ignores_filter(part):
        return ""
    # Every further part would be the whole answer once more.
    partitioned.without_proof[part] = FILTER_IGNORED
    return FILTER_IGNORED
