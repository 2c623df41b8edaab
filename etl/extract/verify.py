"""Extract: unjudged answers -> listings with a verdict (completeness), as soon as it is certain.

An answer smaller than another of the run is whole and handed on at once. The
largest of the run wait, on disk, until every view has answered. What then looks
like a cut is read again in parts: by application, and where a part is as large
as the whole, by device type.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import takewhile
from typing import Self

from msgspec.structs import replace

from etl.config.views import View
from etl.errors import DatadogError, DatadogUnavailable
from etl.extract.completeness import HEEDLESS, NOT_ASKED, Evidence, Place, Split, device_types
from etl.extract.fetch import GROUP, Failed, Reader, Result, forget, is_of_one
from etl.extract.listing import ApiFindings, ApiState, Listing, assembled, narrowed
from etl.extract.spool import Spool
from etl.transform.snapshot import Decoded

Applications = Callable[[], Sequence[str] | None]
"""Every application of the organization; None when the list is not to be had."""
Seen = Callable[[], tuple[set[str | None], set[str | None]]]
"""Applications and device types of the stored rows; None: rows without one."""


class Judge:
    """Reads views through `reader` and says what each listing proves.

    `findings()` is afterwards what the run found out about the API.
    """

    def __init__(
        self, reader: Reader, memory: ApiState, applications: Applications, seen: Seen
    ) -> None:
        self._learned_cap = memory.learned_cap
        self._is_cap_recent = memory.is_cap_recent
        self._is_cap_seen = False
        self._reader = reader
        self._stop: threading.Event = reader.stop
        self._applications = applications
        self._known_applications: tuple[Sequence[str] | None, set[str | None]] | None = None
        self._seen = seen
        self._spool = Spool()
        self._evidence: dict[int, Evidence] = {}
        self._largest: list[Listing] = []
        self._cleared: list[Listing] = []
        self._certain: list[Result] = []
        self._rate_limit_name: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def results(self, views: Sequence[View]) -> Iterator[list[Result]]:
        """Whatever is certain, a few at a time; ends when all were judged or `stop` is set."""
        for group in self._reader.wholes(views):
            self._certain += [known for result in group for known in self._sift(result)]
            group.clear()  # else these records stay in memory until the next ones are here
            if self._certain:
                yield self._handed_on()
            yield from self._released()
        yield from self._released()
        while self._largest and not self._stop.is_set():
            yield [self._resolve(self._largest.pop(0).taken_out(self._spool))]

    def findings(self) -> ApiFindings:
        """What is worth to be remembered."""
        return ApiFindings(
            self._learned_cap, self._is_cap_seen, self._reader.lowered_to, self._rate_limit_name
        )

    def put_away(self, listing: Listing) -> Listing:
        """A judged listing that must wait for other views goes to disk."""
        return listing.put_away(self._spool)

    def taken_out(self, listing: Listing) -> Listing:
        """And comes back."""
        return listing.taken_out(self._spool)

    def close(self) -> None:
        """Forget what lies on disk."""
        self._spool.close()

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
            return [result.judged(evidence)]
        self._cleared += [e for e in self._largest if self._evidence_of(e).clears(e.listed)]
        self._largest = [e for e in self._largest if not self._evidence_of(e).clears(e.listed)]
        self._largest.append(result.put_away(self._spool))
        return []

    def _released(self) -> Iterator[list[Result]]:
        """Those cleared, a few at a time and no more than there is room for beside what is read."""
        while some := list(takewhile(Listing.has_room, self._cleared[:GROUP])):
            del self._cleared[: len(some)]
            yield [e.taken_out(self._spool).judged(self._evidence_of(e)) for e in some]

    def _handed_on(self) -> list[Result]:
        """What is certain; a name for it here would keep its records until the next ones come."""
        certain, self._certain = self._certain, []
        return certain

    def _evidence_of(self, listing: Listing) -> Evidence:
        limit = listing.page_limit
        return self._evidence.setdefault(limit, Evidence(limit, self._learned_cap))

    def _resolve(self, listing: Listing) -> Result:
        evidence = self._evidence_of(listing)
        suspicion = evidence.suspicion(listing.listed)
        if not suspicion:
            return listing.judged(evidence)
        try:
            if listing.decoded is None:
                skipped, listing = (
                    listing,
                    _or_raise(self._reader.read(listing.view, listing.patience)),
                )
                listing = replace(listing, requests=skipped.requests + listing.requests)
            return self._in_parts(listing, listing.decoded or Decoded(), suspicion)
        except DatadogError as error:
            error.requests += listing.requests
            return Failed(listing.view, error, listing.seconds)

    # --- parts ----------------------------------------------------------------------------

    def _in_parts(self, whole: Listing, decoded: Decoded, suspicion: str) -> Listing:
        view = whole.view
        listed, others, has_homeless = self._all_applications(decoded)
        split = Split(
            whole=decoded,
            limit=whole.page_limit,
            suspicion=suspicion,
            # One not seen for long is a reason to doubt, but no longer known to cut.
            learned_cap=self._learned_cap if self._is_cap_recent else None,
            is_listed=listed is not None,
            is_by_application=view.application_id is None,
            unlisted=frozenset(others),
            has_homeless=has_homeless,
        )
        parts: list[Listing] = []
        full = [view.application_id] if view.application_id else []
        if view.application_id is None:
            applications = sorted({*(listed or ()), *others})
            parts += self._read_parts(whole, split, [Place(a) for a in applications])
            full = [p.application_id for p in split.parts if split.is_full(p)]
            full = [a for a in full if Place(a) not in split.mute]
        if view.device_type is None and full and not split.is_given_up:
            places = [Place(a, device) for a in full for device in self._devices(split)]
            parts += self._read_parts(whole, split, places)
        listing = assembled(whole, split, parts)
        if listing.learned_cap and listing.learned_cap < whole.page_limit:
            self._learned_cap, self._is_cap_seen = listing.learned_cap, True
            self._is_cap_recent = True
        return listing

    def _read_parts(self, whole: Listing, split: Split, places: Sequence[Place]) -> list[Listing]:
        """Put each part into `split`; a part that gives no answer proves nothing."""
        asked = {narrowed(whole.view, place): place for place in places}
        parts: list[Listing] = []
        for group in self._reader.parts(list(asked), whole.patience):
            for number, result in enumerate(group, start=1):
                if not (reason := _put(split, asked.pop(result.view), result, parts)):
                    continue
                for late in group[number:]:
                    forget(late)
                split.give_up(asked.values(), reason)
                return parts
        if self._stop.is_set():
            raise DatadogUnavailable("stopped before every part was read")
        return parts

    def _all_applications(self, decoded: Decoded) -> tuple[Sequence[str] | None, set[str], bool]:
        """Those of Datadog's list, if it is to be had; others seen; whether a record names none."""
        if self._known_applications is None:
            self._known_applications = self._applications(), self._seen()[0]
        listed, stored = self._known_applications
        seen = {*stored, *(s.application_id for s in decoded.snapshots)}
        others = {a for a in seen if a} - {*(listed or ())}
        return listed, others, None in seen

    def _devices(self, split: Split) -> list[str]:
        answers = [split.whole, *split.parts.values()]
        here = {s.device_type for answer in answers for s in answer.snapshots}
        return device_types({*here, *self._seen()[1]})


def _put(split: Split, place: Place, result: Result, parts: list[Listing]) -> str:
    """Put one part into `split`; why no other needs to be asked, or ""."""
    if isinstance(result, Listing):
        split.add(place, result.decoded or Decoded(), result.page_limit)
        parts.append(result.without_records())
        if not split.is_heedless(place):
            return ""
        # Every further part would be the whole answer once more.
        split.mute[place] = HEEDLESS
        return HEEDLESS
    split.add_mute(place, result.error)
    return "" if is_of_one(result.error) else NOT_ASKED


def _or_raise(result: Result) -> Listing:
    if isinstance(result, Failed):
        raise result.error
    return result
