"""What is stored of a view, and what one listing changes in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from etl.transform.snapshot import Rejected, Snapshot

NO_HASHES: Mapping[str, str] = MappingProxyType({})


class StoredId(msgspec.Struct, frozen=True, gc=False):
    """A stored row, as far as a decision needs it."""

    content_hash: str
    view_key: str
    source: str
    is_removed: bool
    is_missing: bool = False  # its removal is held
    equal_hash: str = ""  # of a listed record that it equals, under another hash version


class StoredIds(NamedTuple):
    """Every live row of a view, and every stored row of an id that it lists.

    `plain`: content hashes by id of live rows of the view and its source, with no removal held
    and listed at most once: nearly all. `others`: every other row.
    """

    plain: Mapping[str, str] = NO_HASHES
    others: Mapping[str, StoredId] = MappingProxyType({})


@dataclass(slots=True)
class Absence:
    """The rows of a view that its listing does not hold. Lists are in id order.

    `live`: how many rows the view had. `unlisted`: which of them are not listed. `absent`: which
    of those would have been listed if they were still pinned. `gone`: which of those no other
    view of the run lists. Each of `gone` is `removed` or, when too many are gone at once, `held`.
    `kept`: unlisted, but not gone. `missing`: rows whose removal an earlier reading held;
    `cleared`: those of them that are listed again.
    """

    live: int = 0
    unlisted: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    held: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    missing: frozenset[str] = frozenset()
    cleared: list[str] = field(default_factory=list)
    needs_acceptance: bool = False  # a person must let the held rows go
    is_other_organization: bool = False  # the keys belong to one, so that nothing is absent

    @property
    def still_missing(self) -> int:
        """How many removals are held once this listing is loaded."""
        return len(self.held) + sum(identifier in self.missing for identifier in self.kept)


@dataclass(slots=True)
class ChangeSet:
    """What one listing means for the tables. Lists are in id order.

    `elsewhere`: listed rows that another view of the source owns, until `Ownership` has decided
    which are `taken` over (former owner by id) and which stay `foreign`. `moved`: rows taken over
    with unchanged content. `is_deferred`: it must wait, since the answers of other views of this
    run decide who owns some ids, or whether rows may go.
    """

    new: list[Snapshot] = field(default_factory=list)
    changed: list[Snapshot] = field(default_factory=list)
    returned: list[Snapshot] = field(default_factory=list)
    moved: list[Snapshot] = field(default_factory=list)
    unchanged: int = 0
    duplicates: int = 0
    rejected: list[Rejected] = field(default_factory=list)
    elsewhere: list[tuple[Snapshot, StoredId]] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    taken: dict[str, str] = field(default_factory=dict)
    absence: Absence = field(default_factory=Absence)
    is_deferred: bool = False

    @property
    def touched(self) -> list[str]:
        """Ids of stored rows that will be written."""
        rewritten = (*self.changed, *self.returned, *self.moved)
        return sorted([*(snapshot.id for snapshot in rewritten), *self.absence.removed])

    def add_own(self, snapshot: Snapshot, stored: StoredId) -> None:
        """A listed row that the view owns, or has taken over."""
        if stored.is_removed:
            self.returned.append(snapshot)
        elif stored.content_hash != snapshot.content_hash:
            self.changed.append(snapshot)
        else:
            self.unchanged += 1

    def take(self, snapshot: Snapshot, stored: StoredId) -> None:
        """A listed row that the view takes over from its owner."""
        self.taken[snapshot.id] = stored.view_key
        unchanged = self.unchanged
        self.add_own(snapshot, stored)
        if self.unchanged > unchanged:
            self.moved.append(snapshot)
