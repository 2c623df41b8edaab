"""Which view of a run owns a row, and which views list it. Pure.

A row belongs to one configured view. Another view that lists it may take it over only when the
owner has answered and no longer lists it, or is no longer configured.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from operator import attrgetter

from etl.load.changeset import ChangeSet, StoredId

_NO_VIEWS: frozenset[str] = frozenset()
_NO_IDS: frozenset[str] = frozenset()


@dataclass(slots=True)
class Claims:
    """The views of a run that list an id.

    A draft keeps what it learns in `own`, apart from what is `committed` and shared by all, so
    that a transaction that is rolled back leaves nothing behind. To copy instead would cost a run
    that loses many rows as much as all of its ids, at each transaction.
    """

    committed: dict[str, frozenset[str]] = field(default_factory=dict)
    count: int = 0  # ids
    own: dict[str, frozenset[str]] = field(default_factory=dict)

    def add(self, view_key: str, ids: Iterable[str]) -> None:
        """The view lists these ids."""
        only_view = frozenset((view_key,))  # one object for all ids: most are listed by one view
        for identifier in ids:
            views = self.of(identifier)
            if not views:
                self.count += 1
                self.own[identifier] = only_view
            elif view_key not in views:
                self.own[identifier] = views | only_view

    def of(self, identifier: str) -> frozenset[str]:
        """The views that list it."""
        views = self.own.get(identifier)
        return self.committed.get(identifier, _NO_VIEWS) if views is None else views

    def draft(self) -> Claims:
        """For one transaction. Only certain claims are drafted from: not those of a draft whose
        transaction may still be rolled back."""
        self.committed.update(self.own)
        self.own.clear()
        return replace(self, own={})


@dataclass(slots=True)
class Ownership:
    """Which views of one run have answered, and what they list and no longer list.

    `configured`: keys of every configured view of the source, of this run or not. `unread`: keys
    of views that this run has yet to read. `absent`: for each view that was read, the rows that
    it owns and provably no longer lists. `deferred`: for each view that waits for others, the ids
    in its listing.
    """

    configured: frozenset[str]
    unread: set[str]
    absent: dict[str, frozenset[str]] = field(default_factory=dict)
    deferred: dict[str, frozenset[str]] = field(default_factory=dict)
    claims: Claims = field(default_factory=Claims)

    def draft(self) -> Ownership:
        """A copy for one transaction, which shares nothing that grows."""
        return replace(
            self,
            unread=set(self.unread),
            absent=dict(self.absent),
            deferred=dict(self.deferred),
            claims=self.claims.draft(),
        )

    def assign(self, changes: ChangeSet, view_key: str) -> ChangeSet:
        """Decide who owns the listed rows of other views, and which absent rows are gone.

        Each of `changes.elsewhere` is taken over or foreign; an absent row that another view of
        the run lists is kept. Returns `changes`.
        """
        for snapshot, stored in changes.elsewhere:
            changes.is_deferred |= self._is_undecided(stored)
            if self._may_take(snapshot.id, stored):
                changes.take(snapshot, stored)
            else:
                changes.foreign.append(snapshot.id)
        if changes.taken:
            changes.changed.sort(key=attrgetter("id"))
            changes.returned.sort(key=attrgetter("id"))
        changes.elsewhere = []
        absence = changes.absence
        absence.gone = [i for i in absence.absent if not self.is_listed_elsewhere(i, view_key)]
        absence.kept = sorted(set(absence.unlisted) - set(absence.gone))
        # A view that is read later may list them.
        changes.is_deferred |= bool(absence.gone and self.unread - {view_key})
        return changes

    def _is_undecided(self, stored: StoredId) -> bool:
        """Whether the answer of the row's owner has yet to come."""
        return stored.view_key in self.configured and stored.view_key in self.unread

    def _may_take(self, identifier: str, stored: StoredId) -> bool:
        """Whether a view that lists the row may take it over from its owner."""
        owner = stored.view_key
        if owner not in self.configured:
            return True
        if owner not in self.absent or owner in self.unread:  # no answer, or not yet
            return False
        if stored.is_removed:
            return identifier not in self.deferred.get(owner, _NO_IDS)
        return identifier in self.absent[owner]

    def is_listed_elsewhere(self, identifier: str, view_key: str) -> bool:
        """Whether another view of this run lists the id."""
        return bool(self.claims.of(identifier) - {view_key})

    def record(
        self, view_key: str, changes: ChangeSet | None = None, listed: Iterable[str] = ()
    ) -> None:
        """The view has answered with these changes; None: its answer is that of last time.

        `listed`: for a view that waits, the ids in its listing.
        """
        self.unread.discard(view_key)
        self.deferred.pop(view_key, None)
        # All views that lost nothing share one empty set; each of its own would take 216 bytes.
        self.absent[view_key] = frozenset(changes.absence.absent if changes else ()) or _NO_IDS
        if changes is None:
            return
        self.claims.add(view_key, changes.taken)
        if changes.is_deferred:
            self.deferred[view_key] = frozenset(listed)
            self.claims.add(view_key, self.deferred[view_key])

    def record_failure(self, view_key: str, listed: Iterable[str] = ()) -> None:
        """The view gave no answer, or could not be loaded: it keeps the rows that it owns.

        The ids that it `listed` are not gone.
        """
        self.unread.discard(view_key)
        self.claims.add(view_key, listed)
