"""What the number of records in an answer proves. Pure.

The endpoint has no cursor, no total, and no documented default or maximum for
`page[limit]`. So an answer is compared with the others: one of n records proves, for its
run and limit, that the server can send n; a smaller one of the same run is whole. The
largest of a run is suspicious when it looks like a cut. It is then asked for again in
parts (`partition`) that can prove it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import msgspec

COMPLETE, UNPROVEN, TRUNCATED, FAILED = "complete", "unproven", "truncated", "failed"

_SMALL = (10, 20, 25, 30, 40, 50, 60, 75, 80, 90, 100, 150, 200, 250, 300, 400, 500, 750)
ROUND_NUMBERS = frozenset((*_SMALL, 1000, 1500, 2000, 2500, 5000, 10000))
"""Counts at which people make servers stop."""
DEVICE_TYPES = ("desktop", "mobile", "tablet")
"""Datadog's examples for `device_type`; its RUM events spell them "Desktop"."""


class Evidence(msgspec.Struct):
    """How large the answers of one run under one limit were, parts excluded.

    `largest`: records in the largest; `at_largest`: how many answers have as many; `with_rows`: how
    many have any. `unproven`: how many answers that may be for another view have so many records.
    """

    limit: int
    learned_cap: int | None = None
    largest: int = 0
    at_largest: int = 0
    with_rows: int = 0
    unproven: Counter[int] = msgspec.field(default_factory=Counter)

    def add(self, count: int) -> None:
        """Add an answer of `count` records."""
        self.with_rows += count > 0
        if count > self.largest:
            self.largest, self.at_largest = count, 0
        self.at_largest += count == self.largest

    def add_unproven(self, count: int) -> None:
        """Add one that may be for another view: a cap cuts it, too, but it proves nothing whole."""
        self.unproven[count] += 1

    def clears(self, count: int) -> bool:
        """Whether an answer of `count` records is whole, as the server was seen to send more."""
        return count == 0 or count < self.largest

    def suspicion(self, count: int) -> str:
        """Why an answer of `count` records may be cut, or ""; final once all have answered."""
        if self.clears(count):
            return ""
        if count >= self.limit:
            return "fills the limit"
        if count == self.learned_cap:
            return "the API stopped at this number before"
        if count in ROUND_NUMBERS:
            return "a round number"
        stopped = self.at_largest + self.unproven[count]
        is_shared = stopped >= 3 and 5 * stopped >= self.with_rows
        return f"{stopped} views stop at this number" if is_shared else ""

    def reason(self, count: int) -> str:
        """Why an answer of `count` records is whole, for the ledger."""
        asked = f"{count} of {self.limit} asked for"
        return f"{asked}; another view had {self.largest}" if 0 < count < self.largest else asked


def device_types(seen: Iterable[str | None]) -> list[str]:
    """The device types to ask for: those seen, and the usual ones spelled as those are."""
    known = sorted({device for device in seen if device})
    usual = next((device for device in known if device.lower() in DEVICE_TYPES), "desktop")
    spellings = (str.lower, str.title, str.upper)
    spelling = next((s for s in spellings if s(usual) == usual), str.lower)
    return sorted({*known, *(spelling(device) for device in DEVICE_TYPES)})
