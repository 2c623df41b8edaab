"""Which of the rows that are gone may be removed at once, and which are held. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from etl.load.changeset import ChangeSet
from etl.load.ownership import Ownership

FEWEST = 3
"""Rows from which on it is doubted that all of them, and views that so many of them, went."""


@dataclass(frozen=True, slots=True)
class RemovalGuard:
    """When removals are held: above this share and this number of a view's rows, or all of them.

    `is_off`: never; a person has accepted them.
    """

    hold_above: float
    hold_min: int
    is_off: bool = False

    def holds(self, gone: int, live: int, *, is_any_listed: bool) -> bool:
        """Whether `gone` of so many `live` rows are too many to be believed at once."""
        if self.is_off or not gone:
            return False
        exceeds_limits = gone > self.hold_above * live and gone > self.hold_min
        return exceeds_limits or (live >= FEWEST and not is_any_listed)


class Loss(NamedTuple):
    """What one view would lose: rows that are absent, of so many live ones.

    `is_any_listed`: its answer lists any of those that it had.
    """

    absent: Sequence[str]
    live: int
    is_any_listed: bool


@dataclass(slots=True)
class Removals:
    """What the views of one run would lose together.

    What one view loses beyond the limits of `guard` is held until its next reading says the same.
    What all views lose together is held too, when the run lists none of the rows that they had and
    at least `FEWEST` are gone. Only a person lets them go when `FEWEST` views or more, and half of
    those with rows, lose too much, or when nothing is left of any view and more than `hold_min`
    rows are gone. A view that failed or was not read says nothing of its rows; one that answered
    as it did last time lists them.

    `needs_acceptance`: views whose removals an earlier run held until a person accepts them.
    `with_rows`: views that had rows. `listed`: those of which any view lists a row. `losses`: what
    each view would lose. `gone`: how many rows these are, without those that another view lists.
    `losing`: views that would lose too much. What depends on other views is valid while the run
    knows as many claims as `claims_counted`; what is listed stays so.
    """

    guard: RemovalGuard
    needs_acceptance: frozenset[str] = frozenset()
    with_rows: set[str] = field(default_factory=set)
    losses: dict[str, Loss] = field(default_factory=dict)
    listed: set[str] = field(default_factory=set)
    gone: dict[str, int] = field(default_factory=dict)
    losing: set[str] = field(default_factory=set)
    claims_counted: int = 0

    def draft(self) -> Removals:
        """A copy for one transaction."""
        return replace(
            self,
            with_rows=set(self.with_rows),
            losses=dict(self.losses),
            listed=set(self.listed),
            gone=dict(self.gone),
            losing=set(self.losing),
        )

    def hold(self, changes: ChangeSet, view_key: str, ownership: Ownership) -> ChangeSet:
        """Remove what is gone, or hold it: `changes` with `removed` and `held`.

        It is called when every view of the run was read, or for what must be decided again then.
        """
        absence = changes.absence
        absence.removed = absence.gone
        if self.guard.is_off:
            return changes
        needs_acceptance = view_key in self.needs_acceptance
        if not (absence.gone or needs_acceptance):
            return changes
        if not self.listed:
            self._count_again(ownership)
        self.record(view_key, changes, ownership)
        lost_by_all = 0 if self.listed else sum(self.gone.values())
        is_everything = lost_by_all > self.guard.hold_min
        exceeds_limits = view_key in self.losing or lost_by_all >= FEWEST
        if not (exceeds_limits or is_everything or needs_acceptance):
            return changes
        self._count_again(ownership)
        absence.needs_acceptance = needs_acceptance or is_everything or self._is_mass_removal()
        # Missing in the last proven reading too: proof enough, unless too much goes at once.
        is_proven_twice = not absence.needs_acceptance
        absence.removed = [i for i in absence.gone if is_proven_twice and i in absence.missing]
        absence.held = sorted(set(absence.gone) - set(absence.removed))
        return changes

    def record(self, view_key: str, changes: ChangeSet, ownership: Ownership) -> None:
        """The view has answered with these changes."""
        absence = changes.absence
        if absence.live:
            self.with_rows.add(view_key)
        is_any_listed = len(absence.unlisted) < absence.live
        self.losses[view_key] = Loss(absence.absent, absence.live, is_any_listed)
        self._count(view_key, ownership)

    def record_same(self, view_key: str, *, has_rows: bool) -> None:
        """The view has answered as it did last time; it lists the rows that it had."""
        if has_rows:
            self.with_rows.add(view_key)
            self.listed.add(view_key)

    def _is_mass_removal(self) -> bool:
        """Whether so many views would lose so much that the API is doubted."""
        return len(self.losing) >= FEWEST and 2 * len(self.losing) >= len(self.with_rows)

    def _count_again(self, ownership: Ownership) -> None:
        """What another view lists is not lost: count again when more is listed by now."""
        if self.claims_counted != ownership.claims.count:
            self.claims_counted = ownership.claims.count
            for view_key in self.losses:
                self._count(view_key, ownership)

    def _count(self, view_key: str, ownership: Ownership) -> None:
        loss = self.losses[view_key]
        gone = sum(not ownership.is_listed_elsewhere(i, view_key) for i in loss.absent)
        self.gone[view_key] = gone
        if loss.is_any_listed or gone < len(loss.absent):
            self.listed.add(view_key)  # for good: a row that moved is no longer one of the view
        if self.guard.holds(gone, loss.live, is_any_listed=loss.is_any_listed):
            self.losing.add(view_key)
        else:
            self.losing.discard(view_key)
