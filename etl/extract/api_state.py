"""What one run learns of the API, for the next run."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class LastReading(msgspec.Struct, frozen=True):
    """The last reading of a view: the digest of its answer, and how many records that listed."""

    digest: str
    listed: int


class ApiState(msgspec.Struct, frozen=True):
    """What earlier runs learned of the API and of the organization.

    `readings`: by view key, where an equal answer may be skipped. `learned_cap`: the number of
    records at which the API was seen to cut answers. `page_limit`: the largest that it accepted.
    `needs_acceptance`: keys of the views whose held removals a person must accept.
    `name_matching`: how view names were seen to match, see `names.RELATIONS`.
    """

    readings: Mapping[str, LastReading] = msgspec.field(default_factory=dict)
    learned_cap: int | None = None
    is_cap_recent: bool = False
    page_limit: int | None = None
    org_id: int | None = None
    needs_acceptance: frozenset[str] = frozenset()
    name_matching: frozenset[str] = frozenset()


class ApiFindings(msgspec.Struct, frozen=True):
    """What one run found out about the API. `is_cap_seen`: an answer was cut there in this run.

    `name_matching`: all that is known by now of how names match; empty: nothing was learned.
    """

    learned_cap: int | None
    is_cap_seen: bool
    lowered_to: int | None
    rate_limit_name: str | None
    name_matching: frozenset[str] = frozenset()
