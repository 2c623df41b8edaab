"""Extract: what the number of records in an answer proves. Pure.

The endpoint has no cursor, no total, and no documented default or maximum for
`page[limit]`. So a number is judged by what else is known: an answer of n
records proves, for its run and limit, that the server can send n; a smaller
one of the same run is whole. The largest of a run is suspicious when it looks
like a cut, and is then split into parts that can prove it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TypeVar

import msgspec

from etl.errors import DatadogError
from etl.transform.snapshot import Decoded, Rejected, Snapshot

R = TypeVar("R")

COMPLETE, UNPROVEN, TRUNCATED, FAILED = "complete", "unproven", "truncated", "failed"

_SMALL = (10, 20, 25, 30, 40, 50, 60, 75, 80, 90, 100, 150, 200, 250, 300, 400, 500, 750)
ROUND_NUMBERS = frozenset((*_SMALL, 1000, 1500, 2000, 2500, 5000, 10000))
"""Counts at which people make servers stop."""
DEVICE_TYPES = ("desktop", "mobile", "tablet")
"""Datadog's examples for `device_type`; its RUM events spell them "Desktop"."""
HEEDLESS, NOT_ASKED = "the API does not heed the filter", "not asked"
"""Why a part proves nothing."""


class Evidence(msgspec.Struct):
    """What the whole answers of one run under one limit say together."""

    limit: int
    learned_cap: int | None = None
    largest: int = 0
    at_largest: int = 0
    with_rows: int = 0

    def add(self, count: int) -> None:
        """Take note of a whole answer."""
        self.with_rows += count > 0
        if count > self.largest:
            self.largest, self.at_largest = count, 0
        self.at_largest += count == self.largest

    def clears(self, count: int) -> bool:
        """Whether the server was seen to send more than `count`: it is whole."""
        return count == 0 or count < self.largest

    def suspicion(self, count: int) -> str:
        """Why `count` may be a cut, or ""; known once every view has answered."""
        if self.clears(count):
            return ""
        if count >= self.limit:
            return "fills the limit"
        if count == self.learned_cap:
            return "the API was seen to stop there"
        if count in ROUND_NUMBERS:
            return "a round number"
        is_shared = self.at_largest >= 3 and 5 * self.at_largest >= self.with_rows
        return f"{self.at_largest} views stop there" if is_shared else ""

    def reason(self, count: int) -> str:
        """Why `count` is whole, for the ledger."""
        asked = f"{count} of {self.limit} asked for"
        return f"{asked}; another view had {self.largest}" if 0 < count < self.largest else asked


class Place(msgspec.Struct, frozen=True):
    """A part of a view: one application, or one device type of one application."""

    application_id: str
    device_type: str | None = None

    def holds(self, application_id: str | None, device_type: str | None) -> bool:
        """Whether a record with these attributes belongs to the part."""
        return self.application_id == application_id and (
            self.device_type is None or self.device_type == device_type
        )

    def may_hold(self, snapshot: Snapshot) -> bool:
        """Whether a filter for the part may have let the record through: case may not count."""
        wanted = (self.application_id, self.device_type)
        found = (snapshot.application_id, snapshot.device_type)
        return all(
            want is None or have is None or want.casefold() == have.casefold()
            for want, have in zip(wanted, found, strict=True)
        )


class Proof(msgspec.Struct, frozen=True):
    """Which rows would certainly have been listed, were they still pinned."""

    is_whole: bool
    parts: frozenset[Place] = frozenset()

    def covers(self, application_id: str | None, device_type: str | None) -> bool:
        """Whether a row with these attributes would have been."""
        if self.is_whole:
            return True
        if application_id is None:
            return False
        places = (Place(application_id), Place(application_id, device_type))
        return any(place in self.parts for place in places)


NO_PROOF = Proof(is_whole=False)


class Split(msgspec.Struct):
    """A suspicious answer, and the parts that were read to prove it.

    `is_listed`: the applications came from Datadog's list of all of them.
    `unlisted`: others that were seen all the same. `has_homeless`: records without an
    application were seen, so that no list holds them all. `is_by_application`: the view
    has no application filter of its own. `mute`: parts that prove nothing, and why.
    """

    whole: Decoded
    limit: int
    suspicion: str
    learned_cap: int | None
    is_listed: bool
    is_by_application: bool
    unlisted: frozenset[str] = frozenset()
    has_homeless: bool = False
    parts: dict[Place, Decoded] = msgspec.field(default_factory=dict)
    mute: dict[Place, str] = msgspec.field(default_factory=dict)
    unanswered_requests: int = 0
    is_given_up: bool = False

    def add(self, place: Place, answer: Decoded, limit: int) -> None:
        """An answer for a part, asked for under `limit`."""
        self.parts[place] = answer
        if limit != self.limit:
            self.mute[place] = f"the API now refuses to be asked for {self.limit}"

    def add_mute(self, place: Place, error: DatadogError | str = NOT_ASKED) -> None:
        """A part that gave no answer, or was not asked, and why."""
        self.parts[place] = Decoded()
        self.mute[place] = str(error)
        self.unanswered_requests += error.requests if isinstance(error, DatadogError) else 0

    def give_up(self, places: Iterable[Place], why: str) -> None:
        """Nothing further will be asked: what was not read so far proves nothing."""
        self.is_given_up = True
        for place in places:
            self.add_mute(place, why)

    def is_heedless(self, place: Place) -> bool:
        """Whether the part is as large as the whole, and holds records of other parts."""
        return self.is_full(place) and not all(
            place.may_hold(snapshot) for snapshot in self.parts[place].snapshots
        )

    def is_full(self, place: Place) -> bool:
        """Whether the part is as large as the whole answer, hence may be cut itself."""
        return place in self.mute or self.parts[place].listed >= self.whole.listed

    def contradicts(self, place: Place) -> bool:
        """Whether the whole answer holds records of the part that the part does not list."""
        ids = {snapshot.id for snapshot in self.parts[place].snapshots}
        return any(
            snapshot.id not in ids and place.holds(snapshot.application_id, snapshot.device_type)
            for snapshot in self.whole.snapshots
        )

    def proven(self) -> frozenset[Place]:
        """Parts with fewer records than the server was seen to send."""
        return frozenset(p for p in self.parts if not self.is_full(p) and not self.contradicts(p))

    def unresolved(self) -> list[Place]:
        """Full parts that were not split further, or whose own parts are full as well."""
        inner = {p.application_id for p in self.parts if p.device_type is not None}
        return [
            p
            for p in self.parts
            if self.is_full(p) and not (p.device_type is None and p.application_id in inner)
        ]

    def united(self) -> Decoded:
        """Every record of every answer, once for each id."""
        return unite([self.whole, *self.parts.values()])

    def cap(self, united: Decoded) -> int | None:
        """Where the server was proven to stop: it has more than it sent."""
        return self.whole.listed if united.listed > self.whole.listed else None

    def is_exhaustive(self) -> bool:
        """Whether the parts by application leave no room for an unlisted record."""
        if not (self.is_listed and self.is_by_application) or self.has_homeless:
            return False
        by_application = {p for p in self.parts if p.device_type is None}
        on_the_list = {p for p in by_application if p.application_id not in self.unlisted}
        in_parts = {s.id for place in on_the_list for s in self.parts[place].snapshots}
        rejects = {r.raw_hash for place in on_the_list for r in self.parts[place].rejected}
        is_disproved = (
            any(s.id not in in_parts for s in self.whole.snapshots)
            or any(r.raw_hash not in rejects for r in self.whole.rejected)
            or any(self.parts[place].listed for place in by_application - on_the_list)
        )
        return bool(on_the_list) and by_application <= self.proven() and not is_disproved

    def verdict(self, united: Decoded) -> str:
        """complete, unproven or truncated, as README defines them."""
        if self.is_exhaustive():
            return COMPLETE
        return TRUNCATED if self._is_cut(united) else UNPROVEN

    def _is_cut(self, united: Decoded) -> bool:
        cap = self.cap(united)
        full = [
            self.whole.listed if place in self.mute else self.parts[place].listed
            for place in self.unresolved()
        ]
        if not self.parts:
            full = [self.whole.listed]
        known = {self.learned_cap, cap} - {None}
        if any(count >= self.limit or count in known for count in full):
            return True
        return _leaks(self.whole, list(self.parts.values())) or any(
            _leaks(self.parts[place], self._device_parts(place)) for place in self.parts
        )

    def _device_parts(self, outer: Place) -> list[Decoded]:
        """The parts that the part of one application was split into."""
        if outer.device_type is not None:
            return []
        inner = (p for p in self.parts if p.device_type is not None)
        return [self.parts[p] for p in inner if p.application_id == outer.application_id]

    def reason(self, united: Decoded) -> str:
        """For the ledger: what was asked, why it was doubted, what the parts showed."""
        asked = f"{self.whole.listed} of {self.limit} asked for ({self.suspicion})"
        if not self.parts:
            return f"{asked}; it cannot be split further"
        known = "all" if self.is_listed else "the known"
        by = f"{known} applications" if self.is_by_application else "device types"
        why = next(iter(self.mute.values()), "")
        mute = f"; {len(self.mute)} of them prove nothing: {why}" if self.mute else ""
        return f"{asked}; {united.listed} in {len(self.parts)} parts by {by}{mute}"


def _leaks(outer: Decoded, inner: Sequence[Decoded]) -> bool:
    """Whether an answer was cut, and holds records that no part has: so may what was cut off."""
    ids = {s.id for s in outer.snapshots}
    in_parts = {s.id for part in inner for s in part.snapshots}
    return bool(in_parts - ids) and bool(ids - in_parts)


def unite(answers: Sequence[Decoded]) -> Decoded:
    """One `Decoded` of several answers that may hold the same records; later answers win."""
    snapshots: dict[str, list[Snapshot]] = {}
    rejected: dict[str, list[Rejected]] = {}
    united = Decoded()
    for answer in answers:
        _keep_the_most(snapshots, ((s.id, s) for s in answer.snapshots))
        _keep_the_most(rejected, ((r.raw_hash, r) for r in answer.rejected))
        for drift, (count, example) in answer.drift.items():
            before, first = united.drift.get(drift, (0, example))
            united.drift[drift] = (max(before, count), min(first, example))
    united.snapshots = [s for same in snapshots.values() for s in same]
    united.rejected = [r for same in rejected.values() for r in same]
    return united


def _keep_the_most(kept: dict[str, list[R]], records: Iterable[tuple[str, R]]) -> None:
    """Records of one id, from the answer that has it most often."""
    of_answer: dict[str, list[R]] = {}
    for key, record in records:
        of_answer.setdefault(key, []).append(record)
    for key, same in of_answer.items():
        if len(same) >= len(kept.get(key, ())):
            kept[key] = same


def device_types(seen: Iterable[str | None]) -> list[str]:
    """The device types to ask for: those seen, and the usual ones spelled as those are."""
    known = sorted({device for device in seen if device})
    usual = next((device for device in known if device.lower() in DEVICE_TYPES), "desktop")
    spellings = (str.lower, str.title, str.upper)
    spelling = next((s for s in spellings if s(usual) == usual), str.lower)
    return sorted({*known, *(spelling(device) for device in DEVICE_TYPES)})


_NUMBER = r"(\d{1,3}(?:[,_']\d{3})+|\d{1,9})(?![\w/])"
_BOUND = (
    r"(?:max\w*|exceed\w*|than|most|above|over|between|and|to|be|in|limit|[<=\u2264])"
    r"(?:[^\w/]{1,6}(?:a|allowed|is|maximum|of|page|permitted|range|size|supported|the|value))*"
    rf"[^\w/]{{1,12}}(?:\d{{1,3}}(?:\.\.+|-|\u2013|, ?))?{_NUMBER}"
    rf"|{_NUMBER} (?:is the max|or (?:less|fewer))"
)


def lowered_limit(limit: int, refusal: str) -> int:
    """The limit to ask for after a refusal: the number it names as a bound, else the half.

    Other numbers stand in such texts too: those of paths, versions and requests.
    """
    bounds = re.findall(_BOUND, refusal, re.IGNORECASE)
    named = [int(re.sub(r"\D", "", "".join(found))) for found in bounds]
    return max((n for n in named if 0 < n < limit), default=limit // 2)
