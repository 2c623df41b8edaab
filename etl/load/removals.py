"""Which of the rows that are gone may be removed at once, and which are held. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from etl.load.changeset import Absence, ChangeSet
from etl.load.ownership import Ownership


@dataclass(frozen=True, slots=True)
class RemovalGuard:
    """When removals are held: above this share and this number of a view's rows."""

    hold_above: float
    hold_min: int
    is_off: bool = False

    def holds(self, gone: int, live: int, *, is_any_listed: bool) -> bool:
        """Whether `gone` of so many `live` rows are too many to be believed at once."""
        if self.is_off or not gone:
            return False
        exceeds_limits = gone > self.hold_above * live and gone > self.hold_min
        return exceeds_limits or (live >= 3 and not is_any_listed)


class Loss(NamedTuple):
    """What one view would lose: rows that are absent, of so many live ones."""

    absent: Sequence[str]
    live: int
    is_any_listed: bool


@dataclass(slots=True)
class Removals:
    """What the views of one run would lose together.

    `needs_acceptance`: views whose removals an earlier run held until a person accepts them.
    `with_rows`: views that had rows. `losses`: what of them each view would lose. `losing`: views
    that would lose too much; valid while the run knows as many claims as `claims_counted`.
    """

    guard: RemovalGuard
    needs_acceptance: frozenset[str] = frozenset()
    with_rows: set[str] = field(default_factory=set)
    losses: dict[str, Loss] = field(default_factory=dict)
    losing: set[str] = field(default_factory=set)
    claims_counted: int = 0

    def draft(self) -> Removals:
        """A copy for one transaction."""
        return replace(
            self,
            with_rows=set(self.with_rows),
            losses=dict(self.losses),
            losing=set(self.losing),
        )

    def hold(self, changes: ChangeSet, view_key: str, ownership: Ownership) -> ChangeSet:
        """Remove what is gone, or hold it: `changes` with `removed` and `held`."""
        absence = changes.absence
        absence.removed = absence.gone
        needs_acceptance = view_key in self.needs_acceptance and not self.guard.is_off
        exceeds_limits = self.guard.holds(
            len(absence.gone), absence.live, is_any_listed=_is_any_listed(absence)
        )
        if not (exceeds_limits or needs_acceptance):
            return changes
        absence.needs_acceptance = needs_acceptance or self._is_mass_removal(view_key, ownership)
        # Missing in the last proven reading too: proof enough, unless many views say so at once.
        is_proven_twice = not absence.needs_acceptance
        absence.removed = [i for i in absence.gone if is_proven_twice and i in absence.missing]
        absence.held = sorted(set(absence.gone) - set(absence.removed))
        return changes

    def record(self, view_key: str, changes: ChangeSet, ownership: Ownership) -> None:
        """The view has answered with these changes."""
        absence = changes.absence
        self.record_rows(view_key, has_rows=absence.live > 0)
        loss = Loss(absence.absent, absence.live, _is_any_listed(absence))
        self.losses[view_key] = loss
        self.losing.discard(view_key)
        if self._is_losing(view_key, loss, ownership):
            self.losing.add(view_key)

    def record_rows(self, view_key: str, *, has_rows: bool) -> None:
        """Whether the view had rows before."""
        if has_rows:
            self.with_rows.add(view_key)

    def _is_mass_removal(self, view_key: str, ownership: Ownership) -> bool:
        """Whether so many views, this one included, would lose so much that the API is doubted."""
        if self.claims_counted != ownership.claims.count:
            self.claims_counted = ownership.claims.count
            self.losing = {
                key for key, loss in self.losses.items() if self._is_losing(key, loss, ownership)
            }
        losing = len(self.losing | {view_key})
        return losing >= 3 and 2 * losing >= len(self.with_rows | {view_key})

    def _is_losing(self, view_key: str, loss: Loss, ownership: Ownership) -> bool:
        """As far as is known by now: what another view lists is not lost."""
        gone = sum(not ownership.is_listed_elsewhere(i, view_key) for i in loss.absent)
        return self.guard.holds(gone, loss.live, is_any_listed=loss.is_any_listed)


def _is_any_listed(absence: Absence) -> bool:
    return len(absence.unlisted) < absence.live
