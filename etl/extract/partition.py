"""The parts of a view, and what their answers prove that one answer for all cannot. Pure.

A view whose answer looks like a cut is asked for again by application, and where a part is as large
as the whole, by device type.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

import msgspec

from etl.errors import DatadogError
from etl.extract.completeness import COMPLETE, TRUNCATED, UNPROVEN
from etl.formatting import many
from etl.transform.snapshot import Decoded, Rejected, Snapshot

R = TypeVar("R")

FILTER_IGNORED, NOT_ASKED = "the API ignores the filter", "not asked"
"""Why a part proves nothing."""


class Partition(msgspec.Struct, frozen=True):
    """A part of a view: one application, or one device type of one application."""

    application_id: str
    device_type: str | None = None

    def holds(self, application_id: str | None, device_type: str | None) -> bool:
        """Whether a record with these attributes belongs to the part."""
        return self.application_id == application_id and (
            self.device_type is None or self.device_type == device_type
        )

    def may_hold(self, snapshot: Snapshot) -> bool:
        """Whether a filter for the part may let the record through; it may ignore case."""
        filters = (self.application_id, self.device_type)
        values = (snapshot.application_id, snapshot.device_type)
        return all(
            wanted is None or value is None or wanted.casefold() == value.casefold()
            for wanted, value in zip(filters, values, strict=True)
        )


class Proof(msgspec.Struct, frozen=True):
    """Which rows a listing would certainly hold, were their snapshots still pinned."""

    is_whole: bool
    parts: frozenset[Partition] = frozenset()

    def covers(self, application_id: str | None, device_type: str | None) -> bool:
        """Whether the listing would hold a row with these attributes."""
        if self.is_whole:
            return True
        if application_id is None:
            return False
        matching = (Partition(application_id), Partition(application_id, device_type))
        return any(part in self.parts for part in matching)


NO_PROOF = Proof(is_whole=False)


class Applications(msgspec.Struct, frozen=True):
    """The applications whose records a view may list."""

    on_list: Sequence[str] | None
    """Datadog's list of all applications; None when it cannot be read."""
    off_list: frozenset[str] = frozenset()
    """Applications that were seen, but are not on the list."""
    has_records_without: bool = False
    """Whether records without an application were seen."""
    why_unknown: str = ""
    """Why the list cannot be read; "" where it can."""

    @property
    def is_open_ended(self) -> bool:
        """Whether there may be records that asking by application would not find."""
        return self.on_list is None or self.has_records_without


class PartitionedListing(msgspec.Struct):
    """A suspicious answer, and the parts that were read to prove it.

    `suspicion`: why the answer may be cut. `is_by_application`: the view has no application filter
    of its own. `without_proof`: parts that prove nothing, and why; `cut`: those of them that say
    that they are not whole.
    """

    whole: Decoded
    limit: int
    suspicion: str
    learned_cap: int | None
    applications: Applications
    is_by_application: bool
    parts: dict[Partition, Decoded] = msgspec.field(default_factory=dict)
    without_proof: dict[Partition, str] = msgspec.field(default_factory=dict)
    cut: set[Partition] = msgspec.field(default_factory=set)
    unanswered_requests: int = 0
    is_given_up: bool = False

    def add(self, part: Partition, answer: Decoded, limit: int) -> None:
        """Add the answer for a part, which was asked for under `limit`."""
        self.parts[part] = answer
        if limit != self.limit:
            self.without_proof[part] = f"the API now refuses a limit of {self.limit}"

    def distrust(self, part: Partition, why: str, *, is_cut: bool) -> None:
        """The answer for a part proves nothing. `is_cut`: it says that it is not whole."""
        self.without_proof[part] = why
        if is_cut:
            self.cut.add(part)

    def add_unanswered(self, part: Partition, error: DatadogError | str = NOT_ASKED) -> None:
        """Add a part that gave no answer, or was not asked, and why."""
        self.parts[part] = Decoded()
        self.without_proof[part] = str(error)
        self.unanswered_requests += error.requests if isinstance(error, DatadogError) else 0

    def give_up(self, parts: Iterable[Partition], why: str) -> None:
        """Ask for no further part: those not read so far, `parts`, prove nothing."""
        self.is_given_up = True
        for part in parts:
            self.add_unanswered(part, why)

    def ignores_filter(self, part: Partition) -> bool:
        """Whether the part is as large as the whole, and holds records of other parts."""
        return self.may_be_cut(part) and not all(
            part.may_hold(snapshot) for snapshot in self.parts[part].snapshots
        )

    def may_be_cut(self, part: Partition) -> bool:
        """Whether the part is as large as the whole answer, and therefore may be cut itself."""
        return part in self.without_proof or self.parts[part].listed >= self.whole.listed

    def contradicts(self, part: Partition) -> bool:
        """Whether the whole answer holds records of the part that the part does not list."""
        ids = {snapshot.id for snapshot in self.parts[part].snapshots}
        return any(
            snapshot.id not in ids and part.holds(snapshot.application_id, snapshot.device_type)
            for snapshot in self.whole.snapshots
        )

    def proven(self) -> frozenset[Partition]:
        """The parts that are whole: they have fewer records than the server was seen to send."""
        return frozenset(
            p for p in self.parts if not self.may_be_cut(p) and not self.contradicts(p)
        )

    def unresolved(self) -> list[Partition]:
        """Parts that may be cut and were not split, or whose own parts may be cut as well."""
        split = {p.application_id for p in self.parts if p.device_type is not None}
        return [
            p
            for p in self.parts
            if self.may_be_cut(p) and not (p.device_type is None and p.application_id in split)
        ]

    def united(self) -> Decoded:
        """Every record of every answer, once for each id."""
        return unite([self.whole, *self.parts.values()])

    def cap(self, united: Decoded) -> int | None:
        """The number of records at which the server was proven to cut; None: it was not."""
        return self.whole.listed if united.listed > self.whole.listed else None

    def is_exhaustive(self) -> bool:
        """Whether the parts by application leave no room for a record elsewhere."""
        if self.applications.is_open_ended or not self.is_by_application:
            return False
        by_application = {p for p in self.parts if p.device_type is None}
        off_list = self.applications.off_list
        on_list = {p for p in by_application if p.application_id not in off_list}
        in_parts = {s.id for part in on_list for s in self.parts[part].snapshots}
        rejects = {r.raw_hash for part in on_list for r in self.parts[part].rejected}
        is_disproved = (
            any(s.id not in in_parts for s in self.whole.snapshots)
            or any(r.raw_hash not in rejects for r in self.whole.rejected)
            or any(self.parts[part].listed for part in by_application - on_list)
        )
        return bool(on_list) and by_application <= self.proven() and not is_disproved

    def verdict(self, united: Decoded) -> str:
        """complete, unproven or truncated, as `docs/trust.md` defines them."""
        if self.is_exhaustive():
            return COMPLETE
        return TRUNCATED if self._is_cut(united) else UNPROVEN

    def _is_cut(self, united: Decoded) -> bool:
        cap = self.cap(united)
        sizes = [
            self.whole.listed if part in self.without_proof else self.parts[part].listed
            for part in self.unresolved()
        ]
        if not self.parts:
            sizes = [self.whole.listed]
        caps = {self.learned_cap, cap} - {None}
        if self.cut or any(size >= self.limit or size in caps for size in sizes):
            return True
        return _leaks(self.whole, list(self.parts.values())) or any(
            _leaks(self.parts[part], self._device_parts(part)) for part in self.parts
        )

    def _device_parts(self, outer: Partition) -> list[Decoded]:
        """The answers of the parts by device type of one application."""
        if outer.device_type is not None:
            return []
        by_device = (p for p in self.parts if p.device_type is not None)
        return [self.parts[p] for p in by_device if p.application_id == outer.application_id]

    def reason(self, united: Decoded) -> str:
        """The reason for the verdict, for the ledger: why the answer was doubted, and its parts."""
        asked = f"{self.whole.listed} of {self.limit} asked for ({self.suspicion})"
        if not self.parts:
            return f"{asked}; it cannot be split further"
        which = "all" if self.applications.on_list is not None else "the known"
        by = f"{which} applications" if self.is_by_application else "device types"
        text = f"{asked}; {united.listed} in {many(len(self.parts), 'part')} by {by}"
        if self.without_proof:
            why = next(iter(self.without_proof.values()))
            number = len(self.without_proof)
            text += f"; {number} of them {'proves' if number == 1 else 'prove'} nothing: {why}"
        if self.is_by_application and self.applications.why_unknown:
            text += f"; there may be other applications: {self.applications.why_unknown}"
        return text


def _leaks(outer: Decoded, inner: Sequence[Decoded]) -> bool:
    """Whether an answer was cut, and its parts lack records of it: they may lack others too."""
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
            largest, first = united.drift.get(drift, (0, example))
            united.drift[drift] = (max(largest, count), min(first, example))
    united.snapshots = [s for same in snapshots.values() for s in same]
    united.rejected = [r for same in rejected.values() for r in same]
    return united


def _keep_the_most(kept: dict[str, list[R]], records: Iterable[tuple[str, R]]) -> None:
    """Add `records` by key to `kept`; for each key the answer that has it most often wins."""
    of_answer: dict[str, list[R]] = {}
    for key, record in records:
        of_answer.setdefault(key, []).append(record)
    for key, same in of_answer.items():
        if len(same) >= len(kept.get(key, ())):
            kept[key] = same
