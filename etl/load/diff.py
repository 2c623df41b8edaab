"""Decide: stored rows + what a view lists -> what to write. Pure.

In comes what one listing holds and what the tables know of its ids and of the
view's rows; out goes a `Decision`: which rows are new, changed, returned,
taken over, no longer listed. Knows no database, no clock and no network. The
rules are those of README, "Can I trust it?": content comes from the owner's
listing only, one id is one row, nothing is removed without proof.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from etl.transform.snapshot import Rejected, Snapshot, record_of, reject_text

OTHER_SOURCE = "the id belongs to another source"

NOTHING_PLAIN: Mapping[str, str] = MappingProxyType({})
_NEVER = datetime.min.replace(tzinfo=UTC)
_TICK = timedelta(microseconds=1)
_NOTHING: frozenset[str] = frozenset()


class Known(msgspec.Struct, frozen=True, gc=False):
    """A stored row, as far as a decision needs it."""

    content_hash: str
    view_key: str
    source: str
    is_removed: bool
    is_missing: bool = False  # its removal is held
    equal_hash: str = ""  # of a listed record that it equals, under another hash version


@dataclass(frozen=True, slots=True)
class Brake:
    """When removals are held: above this share and this number of a view's rows."""

    hold_above: float = 0.3
    hold_min: int = 20
    is_off: bool = False

    def holds(self, missing: int, live: int, *, is_any_listed: bool) -> bool:
        """Whether so many missing rows of so many live ones are too many to believe at once."""
        if self.is_off or not missing:
            return False
        is_much = missing > self.hold_above * live and missing > self.hold_min
        return is_much or (live >= 3 and not is_any_listed)


BRAKE = Brake()


class Loss(NamedTuple):
    """What one view would lose: rows that are absent, of so many live ones."""

    absent: Sequence[str] = ()
    live: int = 0
    is_any_listed: bool = True


@dataclass(slots=True)
class OtherViews:
    """What one run knows of the views beside the one that is decided.

    `configured`: keys of every configured view of the source, of this run or
    not. `unread`: keys this run has yet to read. `waiting`: ids listed by views
    that wait for the others. `absent`: rows that their owner provably no longer
    lists, by owner. `claims`: like `waiting`, and kept when those are loaded: what
    they list stays listed, whether they may take it or only mean to. `with_rows`
    had rows before; `losses` says what of them each would lose, and
    `holding` which would lose too much, with as many claims as `claims_counted`. `org_id`
    is the organization the source is bound to; `is_other_organization`: these
    keys belong to another one, so that nothing they do not list is gone;
    `is_organization_seen`: this run showed that they do not,
    `is_organization_asked`: or tried to. `needs_acceptance`:
    views whose removals are held until a person accepts them.
    """

    configured: frozenset[str]
    unread: set[str]
    read: set[str] = field(default_factory=set)
    waiting: dict[str, frozenset[str]] = field(default_factory=dict)
    absent: dict[str, frozenset[str]] = field(default_factory=dict)
    claims: dict[str, frozenset[str]] = field(default_factory=dict)
    with_rows: set[str] = field(default_factory=set)
    losses: dict[str, Loss] = field(default_factory=dict)
    holding: set[str] = field(default_factory=set)
    claims_counted: int = 0
    claimants: dict[str, set[str]] = field(default_factory=dict, repr=False, compare=False)
    needs_acceptance: set[str] = field(default_factory=set)
    org_id: int | None = None
    is_organization_seen: bool = False
    is_organization_asked: bool = False
    is_other_organization: bool = False
    brake: Brake = BRAKE

    def copy(self) -> OtherViews:
        """For a transaction that may have to be repeated from here."""
        return replace(
            self,
            unread=set(self.unread),
            read=set(self.read),
            waiting=dict(self.waiting),
            absent=dict(self.absent),
            claims=dict(self.claims),
            with_rows=set(self.with_rows),
            losses=dict(self.losses),
            holding=set(self.holding),
        )

    def has_read(
        self, view_key: str, absent: Iterable[str] = (), *, has_rows: bool = False
    ) -> None:
        """The view has answered; `absent` are rows it provably no longer lists."""
        if has_rows:
            self.with_rows.add(view_key)
        self.unread.discard(view_key)
        self.read.add(view_key)
        self.absent[view_key] = frozenset(absent) or _NOTHING  # an empty set takes 216 bytes
        self.waiting.pop(view_key, None)

    def has_failed(self, view_key: str) -> None:
        """The view gave no answer; what it owns stays its own."""
        self.unread.discard(view_key)

    def has_decided(self, view_key: str, decision: Decision) -> None:
        """The view has answered, and this is what it means."""
        self.has_read(view_key, decision.absent, has_rows=decision.live > 0)
        self.losses[view_key] = decision.loss
        self.holding.discard(view_key)
        if self._would_hold(view_key, decision.loss):
            self.holding.add(view_key)
        for identifier in decision.taken:
            self.claimants.setdefault(identifier, set()).add(view_key)

    def wait(self, view_key: str, ids: Iterable[str], decision: Decision) -> None:
        """Keep what the other views need to know of a listing that waits for them."""
        self.has_decided(view_key, decision)
        self.waiting[view_key] = frozenset(ids)
        self._claim(view_key, self.waiting[view_key])

    def __post_init__(self) -> None:
        if not self.claimants:
            for view_key, ids in list(self.claims.items()):
                self._claim(view_key, ids)

    def _claim(self, view_key: str, ids: frozenset[str]) -> None:
        # Shared by all copies: what a view was seen to list, it lists, whatever is rolled back.
        self.claims[view_key] = ids
        for identifier in ids:
            self.claimants.setdefault(identifier, set()).add(view_key)

    def is_claimed(self, identifier: str, by_other_than: str) -> bool:
        """Whether another view of this run lists `identifier`."""
        return bool(self.claimants.get(identifier, set()) - {by_other_than})

    @property
    def is_organization_open(self) -> bool:
        """Whether nothing has shown yet whose keys these are, and it could still be asked."""
        is_known = self.org_id is None or self.is_organization_seen or self.is_other_organization
        return not (is_known or self.is_organization_asked)

    def is_mass_removal(self, view_key: str) -> bool:
        """Whether so many views would lose so much, this one included, that the API is doubted."""
        losing = len(self._holding() | {view_key})
        return losing >= 3 and 2 * losing >= len(self.with_rows | {view_key})

    def _holding(self) -> set[str]:
        """Views that would lose too much; counted again when more claims are known."""
        if self.claims_counted != len(self.claimants):
            self.claims_counted = len(self.claimants)
            self.holding = {k for k, loss in self.losses.items() if self._would_hold(k, loss)}
        return self.holding

    def _would_hold(self, view_key: str, loss: Loss) -> bool:
        """As far as is known by now: what another view lists is not lost."""
        gone = sum(not self.is_claimed(i, by_other_than=view_key) for i in loss.absent)
        return self.brake.holds(gone, loss.live, is_any_listed=loss.is_any_listed)


@dataclass(slots=True)
class Decision:
    """What one listing means for the tables. Lists are in id order.

    `moved` rows are taken over from another view, content unchanged. `absent`
    rows are provably no longer listed; those that no other view of the run
    lists are `removed`. `blocked` rows are not listed and stay: that proves
    nothing, or another view of the run lists them. `held` rows are absent, but
    too many to believe it at once; `cleared` were, and are listed again.
    `former_owners`: views that lose rows to this one, `taken` those rows. `live`: how many rows the
    view had; `still_missing`: how many of them stay held. `must_wait`: the
    answers of other views of this run decide whose some ids are, and whether
    rows may go.
    """

    new: list[Snapshot] = field(default_factory=list)
    changed: list[Snapshot] = field(default_factory=list)
    returned: list[Snapshot] = field(default_factory=list)
    moved: list[Snapshot] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    blocked: list[str] = field(default_factory=list)
    former_owners: set[str] = field(default_factory=set)
    taken: list[str] = field(default_factory=list)
    loss: Loss = field(default_factory=Loss)
    held: list[str] = field(default_factory=list)
    cleared: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    unchanged: int = 0
    duplicates: int = 0
    live: int = 0
    still_missing: int = 0
    is_mass_removal: bool = False
    is_doubted: bool = False
    must_wait: bool = False

    @property
    def touched(self) -> list[str]:
        """Ids of stored rows that will be written."""
        rewritten = (*self.changed, *self.returned, *self.moved)
        return sorted([*(snapshot.id for snapshot in rewritten), *self.removed])


def decide(
    snapshots: Sequence[Snapshot],
    known: Mapping[str, Known],
    *,
    view_key: str,
    source: str,
    is_proven: bool,
    others: OtherViews,
    provable: Collection[str] = (),
    plain: Mapping[str, str] = NOTHING_PLAIN,
) -> Decision:
    """Compare what a view lists with what is stored.

    `known` and `plain` hold every live row of the view and every stored row of a listed id:
    `plain` the content hashes of live rows of the view, of this source, with no removal held and
    no duplicates among `snapshots`; `known` all others. `is_proven`: a row of the view that is
    not among `snapshots` is gone; else only those of `provable` are.
    """
    listed, duplicates = unique(snapshots, known)
    decision = Decision(duplicates=duplicates)
    differing = _not_as_it_was(listed, known, plain, view_key, source)
    decision.unchanged = len(listed) - len(differing)
    for snapshot, stored in differing:
        _decide_listed(decision, snapshot, stored, view_key, source, others)
    mine = {i: k for i, k in known.items() if k.view_key == view_key and not k.is_removed}
    missing = {i for i, k in mine.items() if k.is_missing}
    decision.live = len(mine) + len(plain)
    decision.cleared = sorted(missing & listed.keys())
    unlisted = sorted((mine.keys() | plain.keys()) - listed.keys())
    if others.is_other_organization:
        is_proven, provable, decision.is_doubted = False, (), bool(unlisted)
    decision.absent = unlisted if is_proven else [i for i in unlisted if i in provable]
    _decide_absent(decision, unlisted, missing, view_key, others)
    return decision


def unique(
    snapshots: Sequence[Snapshot], known: Mapping[str, Known]
) -> tuple[dict[str, Snapshot], int]:
    """One snapshot for each id, and how many records were superfluous.

    The later `modified_at` wins, NULL being earliest; on a tie the one equal to
    what is stored, else the greater hash: never the order of the answer.
    """
    by_id = {snapshot.id: snapshot for snapshot in snapshots}
    duplicates = len(snapshots) - len(by_id)
    if duplicates:
        for snapshot in snapshots:
            best = by_id[snapshot.id]
            stored = known.get(snapshot.id)
            by_id[snapshot.id] = max(best, snapshot, key=lambda s: _rank(s, stored))
    return by_id, duplicates


def _rank(snapshot: Snapshot, stored: Known | None) -> tuple[datetime, bool, str]:
    is_stored = stored is not None and snapshot.content_hash in (
        stored.content_hash,
        stored.equal_hash,
    )
    return snapshot.modified_at or _NEVER, is_stored, snapshot.content_hash


def _not_as_it_was(
    listed: Mapping[str, Snapshot],
    known: Mapping[str, Known],
    plain: Mapping[str, str],
    view_key: str,
    source: str,
) -> list[tuple[Snapshot, Known | None]]:
    """What is not plainly stored as it is listed, with what is stored of it, in id order.

    Nearly always that is next to nothing.
    """
    differing = sorted(i for i, s in listed.items() if plain.get(i) != s.content_hash)
    return [
        (listed[i], Known(plain[i], view_key, source, False) if i in plain else known.get(i))
        for i in differing
    ]


def _decide_listed(
    decision: Decision,
    snapshot: Snapshot,
    stored: Known | None,
    view_key: str,
    source: str,
    others: OtherViews,
) -> None:
    if stored is None:
        decision.new.append(snapshot)
        return
    if stored.source != source:
        decision.rejected.append(reject_text(OTHER_SOURCE, record_of(snapshot)))
        return
    if stored.view_key != view_key:
        if not _may_take(snapshot.id, stored, others, decision):
            decision.foreign.append(snapshot.id)
            return
        decision.former_owners.add(stored.view_key)
        decision.taken.append(snapshot.id)
    if stored.is_removed:
        decision.returned.append(snapshot)
    elif stored.content_hash != snapshot.content_hash:
        decision.changed.append(snapshot)
    else:
        decision.unchanged += 1
        if stored.view_key != view_key:
            decision.moved.append(snapshot)


def _may_take(identifier: str, stored: Known, others: OtherViews, decision: Decision) -> bool:
    """Whether a view may take over a listed row that another view owns."""
    owner = stored.view_key
    if owner not in others.configured:
        return True
    if owner in others.unread:
        decision.must_wait = True
        return False
    if owner not in others.read:
        return False
    if stored.is_removed:
        return identifier not in others.waiting.get(owner, ())
    return identifier in others.absent.get(owner, ())


def _decide_absent(
    decision: Decision,
    unlisted: Sequence[str],
    missing: Collection[str],
    view_key: str,
    others: OtherViews,
) -> None:
    live = decision.live
    gone = [i for i in decision.absent if not others.is_claimed(i, by_other_than=view_key)]
    decision.blocked = sorted(set(unlisted) - set(gone))
    is_any_listed = len(unlisted) < live
    decision.still_missing = sum(i in missing for i in decision.blocked)
    decision.loss = Loss(decision.absent, live, is_any_listed)
    would_hold = others.brake.holds(len(gone), live, is_any_listed=is_any_listed)
    decision.must_wait |= bool(gone and (others.unread - {view_key} or others.is_organization_open))
    decision.removed = gone
    waits_for_a_person = view_key in others.needs_acceptance and not others.brake.is_off
    if not (would_hold or waits_for_a_person):
        return
    decision.is_mass_removal = waits_for_a_person or others.is_mass_removal(view_key)
    # Missing in the last proven reading too: proof enough, unless many views say so at once.
    decision.removed = [i for i in gone if i in missing and not decision.is_mass_removal]
    decision.held = sorted(set(gone) - set(decision.removed))
    decision.still_missing += len(decision.held)
