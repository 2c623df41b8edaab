"""The answers for one configured view -> a Listing with a verdict.

In come a configured view and what is remembered of its last reading; out goes
what it lists now, decoded, and what that proves. Knows nothing of stored rows.
"""

from __future__ import annotations

import dataclasses
import hashlib
from datetime import datetime

import msgspec
from msgspec.structs import replace

from etl.config.views import View
from etl.datadog.client import Client
from etl.datadog.retry import RetryBudget
from etl.extract.api_state import LastReading
from etl.extract.buffer import Buffer, Records
from etl.extract.completeness import COMPLETE, Evidence
from etl.extract.partition import NO_PROOF, Partition, PartitionedListing, Proof
from etl.transform.decode import decode
from etl.transform.privacy import Privacy
from etl.transform.snapshot import NORMALIZER_VERSION, Decoded


class Listing(msgspec.Struct, frozen=True):
    """All that one configured view listed in one run.

    `is_same`: the answer is byte for byte that of the last reading, and not even
    decoded. `can_skip`: an equal answer may be skipped next time. `digest`
    covers the answers and the circumstances under which they were read. `budget`: what is
    left for further questions about the view.
    """

    view: View
    listed: int
    records: Records
    is_same: bool
    digest: str
    arrived_at: datetime
    page_limit: int
    rate_limit_remaining: int | None
    rate_limit_name: str | None
    requests: int = 1
    seconds: float = 0.0
    budget: RetryBudget | None = None
    verdict: str = ""
    reason: str = ""
    proof: Proof = NO_PROOF
    can_skip: bool = False
    learned_cap: int | None = None

    def found_complete(self, evidence: Evidence) -> Listing:
        """With the verdict that one answer was the whole."""
        return replace(
            self,
            verdict=COMPLETE,
            reason=evidence.reason(self.listed) + (", the same as last time" * self.is_same),
            proof=Proof(is_whole=True),
            can_skip=True,
        )


def try_to_read(
    client: Client,
    view: View,
    limit: int,
    *,
    buffer: Buffer,
    privacy: Privacy,
    last: LastReading | None = None,
) -> Listing:
    """Ask for one view, once; the listing has no verdict yet. Raises as `Client` does.

    An answer equal to `last` is not decoded.
    """
    # A body is not received before there is room for it, or all would wait in memory.
    with buffer.slot() as slot:
        answer = client.list_snapshots(view, limit, before_body=slot.take)
        digest = _digest(answer.body, limit)
        is_same = last is not None and digest == last.digest
        decoded = None if is_same else privacy.apply(answer.decoded(decode))
        return Listing(
            view=view,
            listed=decoded.listed if decoded else last.listed if last else 0,
            records=slot.keep(decoded),
            is_same=is_same,
            digest=digest,
            arrived_at=answer.arrived_at,
            page_limit=limit,
            rate_limit_remaining=answer.rate_limit_remaining,
            rate_limit_name=answer.rate_limit_name,
        )


def assembled(
    whole: Listing, partitioned: PartitionedListing, parts: list[Listing], buffer: Buffer
) -> Listing:
    """The listing that a suspicious answer and its parts make together."""
    united = partitioned.united()
    read = [whole, *parts]
    return replace(
        whole,
        listed=united.listed,
        records=buffer.hold(united),
        is_same=False,
        digest=_digest_of(united),
        arrived_at=max(part.arrived_at for part in read),
        requests=sum(part.requests for part in read) + partitioned.unanswered_requests,
        seconds=sum(part.seconds for part in read),
        rate_limit_remaining=read[-1].rate_limit_remaining,
        verdict=partitioned.verdict(united),
        reason=partitioned.reason(united),
        # Never the whole: a stored row may name no application, or one that is not on the list.
        proof=Proof(is_whole=False, parts=partitioned.proven()),
        learned_cap=partitioned.cap(united),
    )


def narrowed(view: View, part: Partition) -> View:
    """The view asked for one part of it only."""
    return dataclasses.replace(
        view,
        application_id=part.application_id,
        device_type=part.device_type or view.device_type,
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
