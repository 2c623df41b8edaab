"""What runs learn of the API, from one to the next."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


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
