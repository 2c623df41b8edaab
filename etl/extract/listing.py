"""One view -> a `Listing`: the records of its answer, or of its parts, and what they prove.

Knows nothing of stored rows.
"""

from __future__ import annotations

import dataclasses
import hashlib
from datetime import datetime

import msgspec
from msgspec.structs import replace

from etl.config.views import View
from etl.datadog.client import Answer, Client
from etl.datadog.retry import RetryBudget
from etl.extract.api_state import LastReading
from etl.extract.buffer import Buffer, Records
from etl.extract.completeness import COMPLETE, TRUNCATED, UNPROVEN, Evidence
from etl.extract.names import NOTHING_NAMED, Named, named_in
from etl.extract.partition import NO_PROOF, Partition, PartitionedListing, Proof
from etl.own_keys import OwnKeys
from etl.transform.decode import decode
from etl.transform.envelope import open_envelope
from etl.transform.privacy import Privacy
from etl.transform.snapshot import NORMALIZER_VERSION, Decoded, Drift


class Listing(msgspec.Struct, frozen=True):
    """All that one configured view listed in one run.

    `is_same`: the answer is byte for byte that of the last reading, and not even decoded.
    `can_skip`: an equal answer may be skipped next time. `digest` covers the answer, and how it
    was asked for and read. `budget`: what is left of the retry budget, for the parts of the view.
    `verdict` is "" before one is certain. `named`: what the records name; of one that is the same,
    nothing.
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
    named: Named = NOTHING_NAMED

    def found_complete(self, evidence: Evidence) -> Listing:
        """The listing with the verdict complete: one answer held all."""
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
    is_fresh: bool = False,
    within_s: float | None = None,
) -> Listing:
    """Send one request for a view. Raises as `Client` does.

    The listing has no verdict yet, unless the answer itself says that it is partial, or that it
    comes from a cache. An answer equal to `last` is not decoded, unless it is partial; nor searched
    for our keys, as that one was.
    `is_fresh`, `within_s`: see `list_snapshots`.
    """
    # A body is not received before there is room for it; else all would wait in memory. Only
    # one large body is received and decoded at a time.
    with buffer.slot() as slot:
        answer = client.list_snapshots(
            view,
            limit,
            before_body=slot.take,
            on_large=slot.take_turn,
            is_fresh=is_fresh,
            within_s=within_s,
        )
        envelope = answer.opened(open_envelope)
        digest = _digest(envelope.essence, limit)
        is_same = last is not None and digest == last.digest
        partial = answer.part_header or (envelope.partial(last.listed) if last and is_same else "")
        is_same = is_same and not partial
        decoded = None
        if not is_same:
            decoded = privacy.apply(answer.decoded(lambda _: decode(envelope)))
            decoded = _without_keys(decoded, answer.own_keys)
            partial = partial or decoded.partial
        listing = Listing(
            view=view,
            listed=decoded.listed if decoded else last.listed if last else 0,
            records=slot.keep(decoded),
            is_same=is_same,
            digest=digest,
            arrived_at=answer.arrived_at,
            page_limit=limit,
            rate_limit_remaining=answer.rate_limit_remaining,
            rate_limit_name=answer.rate_limit_name,
            named=named_in(decoded.snapshots, decoded.rejected) if decoded else NOTHING_NAMED,
        )
        return _judged_by_itself(listing, answer, answer.safe(partial))


def _without_keys(decoded: Decoded, own_keys: OwnKeys) -> Decoded:
    """Names and examples of drift are shown to people: no run of eight of a key stays in them."""
    texts = "\n".join(f"{name}\n{example}" for (name, _), (_, example) in decoded.drift.items())
    if own_keys.blotted(texts) == texts:
        return decoded
    shown = Decoded()
    for (name, kind), (count, example) in decoded.drift.items():
        key = Drift(own_keys.blotted(name), kind)
        shown.add_drift({key: (count, own_keys.blotted(example))})
    return dataclasses.replace(decoded, drift=shown.drift)


def _judged_by_itself(listing: Listing, answer: Answer, partial: str) -> Listing:
    """The listing with the verdict that the answer passes on itself, if it does.

    `partial`: the member or header that says that there is more, "" for none.
    """
    asked = f"{listing.listed} of {listing.page_limit} asked for"
    if partial:
        reason = f"{asked}; the answer says that it is not whole ({partial})"
        return replace(listing, verdict=TRUNCATED, reason=reason)
    if answer.cache_header:
        reason = f"{asked}; the answer comes from a cache ({answer.cache_header})"
        return replace(listing, verdict=UNPROVEN, reason=reason)
    return listing


def assembled(
    whole: Listing, partitioned: PartitionedListing, parts: list[Listing], buffer: Buffer
) -> Listing:
    """The listing that a suspicious answer and its parts make together."""
    united = partitioned.united()
    listings = [whole, *parts]
    return replace(
        whole,
        listed=united.listed,
        records=buffer.wrap(united),
        is_same=False,
        digest=_digest_of(united),
        arrived_at=max(part.arrived_at for part in listings),
        requests=sum(part.requests for part in listings) + partitioned.unanswered_requests,
        seconds=sum(part.seconds for part in listings),
        rate_limit_remaining=listings[-1].rate_limit_remaining,
        verdict=partitioned.verdict(united),
        reason=partitioned.reason(united),
        # Never the whole: a stored row may name no application, or one that is not on the list.
        proof=Proof(is_whole=False, parts=partitioned.proven()),
        learned_cap=partitioned.cap(united),
    )


def narrowed(view: View, part: Partition) -> View:
    """The view with the filters of one part of it."""
    return dataclasses.replace(
        view,
        application_id=part.application_id,
        device_type=part.device_type or view.device_type,
    )


def _digest(essence: bytes | memoryview, limit: int) -> str:
    # The limit and the normalizer are part of it: a change of either ends the shortcut. The
    # privacy setting is not: a change of it clears the shortcut, and changes no counts.
    digest = hashlib.sha256(f"{limit} {NORMALIZER_VERSION}\n".encode())
    digest.update(essence)
    return digest.hexdigest()


def _digest_of(united: Decoded) -> str:
    """The digest of several answers, whatever order they came in."""
    hashes = sorted(f"{s.id} {s.content_hash}" for s in united.snapshots)
    hashes += sorted(r.raw_hash for r in united.rejected)
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()
