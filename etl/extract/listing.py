"""Extract: the answers for one configured view -> a Listing with a verdict.

In come a configured view and what is remembered of its last reading; out goes
what it lists now, decoded, and what that proves. Knows nothing of stored rows.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Mapping
from datetime import datetime

import msgspec
from msgspec.structs import replace

from etl.config.views import View
from etl.datadog.client import Answer, Datadog
from etl.datadog.retry import Patience
from etl.extract.buffer import Bodies
from etl.extract.completeness import COMPLETE, NO_PROOF, Evidence, Place, Proof, Split
from etl.extract.spool import Spool, Ticket
from etl.transform.decode import decode
from etl.transform.privacy import Privacy
from etl.transform.snapshot import NORMALIZER_VERSION, Decoded


class LastReading(msgspec.Struct, frozen=True):
    """What is remembered of a view: the digest of an answer that may be skipped, and its size."""

    digest: str
    listed: int


class ApiState(msgspec.Struct, frozen=True):
    """What earlier runs learned: of each view by its key, of the API, of the organization."""

    readings: Mapping[str, LastReading] = msgspec.field(default_factory=dict)
    learned_cap: int | None = None
    is_cap_recent: bool = False
    page_limit: int | None = None
    org_id: int | None = None
    needs_acceptance: frozenset[str] = frozenset()


class ApiFindings(msgspec.Struct, frozen=True):
    """What one run found out about the API. `is_cap_seen`: it stopped there in this run."""

    learned_cap: int | None
    is_cap_seen: bool
    lowered_to: int | None
    rate_limit_name: str | None


class Listing(msgspec.Struct, frozen=True):
    """All that one configured view listed in one run.

    `is_same`: the answer is byte for byte that of the last reading, and not even
    decoded. `can_skip`: an equal answer may be skipped next time. `digest`
    covers the answers and the circumstances under which they were read.
    """

    view: View
    listed: int
    decoded: Decoded | None
    is_same: bool
    digest: str
    arrived_at: datetime
    page_limit: int
    requests: int
    seconds: float
    rate_limit_remaining: int | None
    rate_limit_name: str | None
    body: Bodies.Place | None = None
    patience: Patience | None = None
    ticket: Ticket | None = None
    verdict: str = ""
    reason: str = ""
    proof: Proof = NO_PROOF
    can_skip: bool = False
    learned_cap: int | None = None

    def judged(self, evidence: Evidence) -> Listing:
        """The whole answer, found complete."""
        return replace(
            self,
            verdict=COMPLETE,
            reason=evidence.reason(self.listed) + (", the same as last time" * self.is_same),
            proof=Proof(is_whole=True),
            can_skip=True,
        )

    def without_records(self) -> Listing:
        """Itself without its records, which stand elsewhere by now."""
        if self.body:
            self.body.free()
        return replace(self, decoded=None)

    def put_away(self, spool: Spool) -> Listing:
        """Itself without its records, which lie on disk until `taken_out`."""
        ticket = None if self.decoded is None else spool.put(self.decoded)
        return replace(self.without_records(), ticket=ticket)

    def has_room(self) -> bool:
        """Whether it can be `taken_out` now; if so there is room kept for its records."""
        return self.ticket is None or self.body is None or self.body.take_if_free()

    def taken_out(self, spool: Spool) -> Listing:
        """Itself with its records again."""
        if self.ticket is None:
            return self
        return replace(self, decoded=spool.get(self.ticket), ticket=None)


def read_whole(
    client: Datadog,
    view: View,
    *,
    limit: int,
    privacy: Privacy,
    last: LastReading | None = None,
    body: Bodies.Place | None = None,
    patience: Patience | None = None,
) -> Listing:
    """Ask for one view, unjudged; raises `DatadogError`."""
    started = time.monotonic()

    def read(text: bytes) -> tuple[str, Decoded | None]:
        digest = _digest(text, limit)
        return digest, None if last and digest == last.digest else privacy.apply(decode(text))

    answer = client.list_snapshots(view, limit=limit, read=read, body=body, patience=patience)
    digest, decoded = answer.content
    if decoded is None and body:
        body.free()  # nothing of it is kept
    return _listing(view, answer, digest, decoded, last, limit, time.monotonic() - started, body)


def _listing(
    view: View,
    answer: Answer[tuple[str, Decoded | None]],
    digest: str,
    decoded: Decoded | None,
    last: LastReading | None,
    limit: int,
    seconds: float,
    body: Bodies.Place | None,
) -> Listing:
    return Listing(
        view=view,
        listed=decoded.listed if decoded else last.listed if last else 0,
        decoded=decoded,
        is_same=decoded is None,
        digest=digest,
        arrived_at=answer.arrived_at,
        page_limit=limit,
        requests=answer.requests,
        seconds=seconds,
        rate_limit_remaining=answer.rate_limit_remaining,
        rate_limit_name=answer.rate_limit_name,
        body=body,
    )


def assembled(whole: Listing, split: Split, parts: list[Listing]) -> Listing:
    """The listing that a suspicious answer and its parts make together."""
    united = split.united()
    read = [whole, *parts]
    return replace(
        whole,
        listed=united.listed,
        decoded=united,
        is_same=False,
        digest=_digest_of(united),
        arrived_at=max(part.arrived_at for part in read),
        requests=sum(part.requests for part in read) + split.unanswered_requests,
        seconds=sum(part.seconds for part in read),
        rate_limit_remaining=read[-1].rate_limit_remaining,
        verdict=split.verdict(united),
        reason=split.reason(united),
        # Never the whole: a stored row may name no application, or one that is not on the list.
        proof=Proof(is_whole=False, parts=split.proven()),
        learned_cap=split.cap(united),
    )


def narrowed(view: View, place: Place) -> View:
    """The view asked for one part of it only."""
    return dataclasses.replace(
        view,
        application_id=place.application_id,
        device_type=place.device_type or view.device_type,
    )


def _digest(body: bytes, limit: int) -> str:
    # What was asked and how it is read belong to it: a change of either ends the shortcut.
    # The privacy setting does not: a change of it clears the shortcut, and moves no counts.
    digest = hashlib.sha256(f"{limit} {NORMALIZER_VERSION}\n".encode())
    digest.update(body)
    return digest.hexdigest()


def _digest_of(united: Decoded) -> str:
    """Of several answers, whatever order they came in."""
    hashes = sorted(f"{s.id} {s.content_hash}" for s in united.snapshots)
    hashes += sorted(r.raw_hash for r in united.rejected)
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()
