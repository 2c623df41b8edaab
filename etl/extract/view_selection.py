"""Which view names a run covers with `views = "discover"`. Pure.

A name that RUM no longer counts page views for may still have snapshots: what was read once is
covered for good, within the bounds of `[discover]`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from fnmatch import fnmatchcase

import msgspec

DAY_S = 86400.0
_SLACK = 0.98  # a cron job of yesterday at 3:00:02 is not early at 3:00:01


def is_due(before: datetime | None, every_s: float, now: datetime) -> bool:
    """Whether `every_s` has passed since `before`; an instant in the future is a clock set back."""
    return before is None or not 0 <= (now - before).total_seconds() < every_s * _SLACK


class Bounds(msgspec.Struct, frozen=True):
    """`[discover]`: which names may be added, and how many views there may be in all."""

    include: tuple[str, ...]
    exclude: tuple[str, ...]
    max_views: int

    def allow(self, name: str) -> bool:
        """Whether the patterns take in the name."""
        return _matches(name, self.include) and not _matches(name, self.exclude)


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


class ReadBefore(msgspec.Struct, frozen=True):
    """A view name that an earlier run asked for, and how that ended."""

    name: str
    had_snapshots: bool = True
    is_failing: bool = False
    last_run_at: datetime | None = None

    @property
    def is_asked_daily(self) -> bool:
        """Whether one request a day is enough: it never had a snapshot."""
        return not self.had_snapshots and not self.is_failing

    def is_asked_at(self, now: datetime) -> bool:
        """Whether a run that begins now asks for it."""
        return not self.is_asked_daily or is_due(self.last_run_at, DAY_S, now)


class AddedNames(msgspec.Struct, frozen=True):
    """The names that a run covers besides the configured ones, in alphabetical order.

    `asked_daily` never had a snapshot; `not_due` are those of them that this run leaves out.
    `left_out` were discovered, but are beyond `max_views`; the busiest first.
    """

    names: tuple[str, ...] = ()
    asked_daily: frozenset[str] = frozenset()
    not_due: frozenset[str] = frozenset()
    left_out: tuple[str, ...] = ()


def select_names(
    configured: Sequence[str],
    read_before: Sequence[ReadBefore],
    traffic: Mapping[str, int],
    bounds: Bounds,
    now: datetime,
) -> AddedNames:
    """The names that were read before, and those discovered, the busiest first, up to `max_views`.

    `configured`: the name of each configured view, which is not added again. `traffic`: views of
    30 days by name.
    """
    listed = set(configured)
    known = {r.name: r for r in read_before if r.name not in listed and bounds.allow(r.name)}
    new = [n for n in traffic if n not in listed and n not in known and bounds.allow(n)]
    new.sort(key=lambda name: (-traffic[name], name))
    room = max(0, bounds.max_views - len(configured) - len(known))
    return AddedNames(
        names=tuple(sorted([*known, *new[:room]])),
        asked_daily=frozenset(name for name, read in known.items() if read.is_asked_daily),
        not_due=frozenset(name for name, read in known.items() if not read.is_asked_at(now)),
        left_out=tuple(new[room:]),
    )
