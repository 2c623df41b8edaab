"""What a run would do, row by row, without writing: `sync --plan`.

Makes neither file nor schema, takes no lease and leaves no trace in the
ledger. A database that is not there yet holds no rows.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from etl.config.load import Config, View, require_keys
from etl.database.connection import Database, found_schema, require_schema
from etl.datadog.client import Datadog
from etl.errors import DatadogAuthError, DatadogHostUnknown, EtlError, SourceMismatch
from etl.extract.completeness import FAILED
from etl.extract.fetch import Failed
from etl.extract.listing import ApiState, Listing
from etl.ledger import runs as ledger
from etl.load import writer as store
from etl.load.diff import (
    Decision,
    OtherViews,
)
from etl.load.versions import (
    Stored,
    content_of,
    differences,
)
from etl.pipeline.run import doubt_organization, open_judge
from etl.pipeline.select_views import select_views, with_views
from etl.pipeline.sync import Options, brake_of, chosen_views, configured_keys
from etl.source.identity import require_label
from etl.source.privacy_setting import read_privacy
from etl.transform.snapshot import CONTENT, Snapshot


@dataclass(frozen=True, slots=True)
class RowPlan:
    """One row that would be written. `before` and `after` hold what differs, by column."""

    id: str
    snapshot_name: str | None
    before: Mapping[str, Any] = field(default_factory=dict)
    after: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class ViewPlan:
    """What a run would do to one configured view."""

    view: View
    verdict: str
    reason: str
    listed: int = 0
    unchanged: int = 0
    foreign: int = 0
    duplicates: int = 0
    rejected: int = 0
    new: list[RowPlan] = field(default_factory=list)
    changed: list[RowPlan] = field(default_factory=list)
    returned: list[RowPlan] = field(default_factory=list)
    vanished: list[RowPlan] = field(default_factory=list)
    held: list[RowPlan] = field(default_factory=list)


def make_plan(
    config: Config,
    database: Database,
    options: Options,
    *,
    stop: threading.Event,
    progress: Callable[[list[ViewPlan]], None] | None = None,
) -> list[ViewPlan]:
    """Read the views and compare; raises `EtlError`. Views come in the configured order."""
    keys = require_keys(config)
    if not config.discovers:
        chosen_views(config, options.views)
    has_rows = _has_rows(config, database)
    scope = select_views(config, database, stop=stop)
    config = with_views(config, scope)
    views = chosen_views(config, options.views) if options.views else scope.due
    planner = _Planner(config, database, options, has_rows=has_rows)
    memory = planner.memory()
    planner.others.org_id = memory.org_id
    planner.others.needs_acceptance = set(memory.needs_acceptance)
    planner.others.unread = {view.key(config.source) for view in views}
    waiting: list[Listing] = []
    with (
        Datadog(config, keys, stop=stop) as client,
        open_judge(client, config, memory, stop, planner.seen) as judge,
    ):
        for group in judge.results(views):
            while group:
                item = group.pop(0)  # it gives its room back: nothing here may keep its records
                if isinstance(item, Failed):
                    planner.fail(item)
                elif not planner.take(item):
                    waiting.append(judge.put_away(item))
            del item
            if progress:
                progress(planner.plans)
        if waiting:
            doubt_organization(client, planner.others)
        for listing in waiting:
            planner.take(judge.taken_out(listing))
    planner.raise_if_refused()
    order = {view: number for number, view in enumerate(views)}
    return sorted(planner.plans, key=lambda plan: order[plan.view])


def _has_rows(config: Config, database: Database) -> bool:
    """Whether there may be rows; raises `EtlError` when a run would refuse them."""
    if found_schema(database).state == "absent":
        return False
    require_schema(database)
    database.read(lambda connection: require_label(connection, config))
    database.read(lambda connection: read_privacy(connection, config)).require_same()
    return True


class _Planner:
    def __init__(
        self, config: Config, database: Database, options: Options, *, has_rows: bool
    ) -> None:
        self.plans: list[ViewPlan] = []
        brake = brake_of(config, options)
        self.others = OtherViews(configured_keys(config), set(), brake=brake)
        self._config = config
        self._source = config.source
        self._database = database
        self._has_rows = has_rows
        self._listed: set[str] = set()
        self._errors: list[EtlError] = []

    def memory(self) -> ApiState:
        """What earlier runs learned; every answer is decoded."""
        if not self._has_rows:
            return ApiState()
        return self._database.read(lambda c: ledger.remember(c, self._config, is_full=True))

    def seen(self) -> tuple[set[str | None], set[str | None]]:
        """Applications and device types of the stored rows."""
        if not self._has_rows:
            return set(), set()
        return self._database.read(lambda c: store.seen(c, self._source))

    def fail(self, failed: Failed) -> None:
        """Plan nothing for a view that gave no answer."""
        self.others.has_failed(failed.view.key(self._source))
        self.plans.append(ViewPlan(failed.view, FAILED, str(failed.error)))
        self._errors.append(failed.error)

    def raise_if_refused(self) -> None:
        """Raises the `DatadogAuthError` when the keys were refused for every view."""
        hopeless = {DatadogAuthError, DatadogHostUnknown}
        is_refused = {type(error) for error in self._errors} <= hopeless
        if self._errors and is_refused and len(self._errors) == len(self.plans):
            raise self._errors[0]

    def take(self, item: Listing) -> bool:
        """Plan one view; False: it must wait for the views still unread."""
        try:
            found = self._compare(item)
        except SourceMismatch as error:
            self.others.is_other_organization = True
            self.others.has_failed(item.view.key(self._source))
            self.plans.append(ViewPlan(item.view, FAILED, str(error)))
            item.without_records()
            return True
        if found is None:
            return False
        decision, stored = found
        self._settle(item, decision)
        self.plans.append(_view_plan(item, decision, stored))
        return True

    def _settle(self, listing: Listing, decision: Decision) -> None:
        """What the tables would know by now, had the views before been written.

        An id that two views list is new (or returned) in one of them and foreign to
        the other; a row that another view has taken over is not gone.
        """
        for mine in (decision.new, decision.returned):
            twice = [s for s in mine if s.id in self._listed]
            mine[:] = [s for s in mine if s.id not in self._listed]
            decision.foreign += [s.id for s in twice]
        decision.removed = [i for i in decision.removed if i not in self._listed]
        listing.without_records()
        self._listed |= {s.id for s in listing.decoded.snapshots} if listing.decoded else set()

    def _compare(self, listing: Listing) -> tuple[Decision, dict[str, Stored]] | None:
        def compare(connection: Connection | None) -> tuple[Decision, dict[str, Stored]] | None:
            return store.plan(connection, listing, self._source, self.others)

        return self._database.read(compare) if self._has_rows else compare(None)


def _view_plan(listing: Listing, decision: Decision, stored: Mapping[str, Stored]) -> ViewPlan:
    decoded = listing.decoded
    changed = [_row_plan(s, stored[s.id]) for s in decision.changed]
    plan = ViewPlan(listing.view, listing.verdict, listing.reason)
    plan.listed = decoded.listed if decoded else 0
    plan.foreign, plan.duplicates = len(decision.foreign), decision.duplicates
    plan.rejected = len(decision.rejected) + (len(decoded.rejected) if decoded else 0)
    plan.new = [RowPlan(s.id, s.snapshot_name) for s in decision.new]
    plan.changed = [row for row in changed if row.after]
    plan.unchanged = decision.unchanged + len(changed) - len(plan.changed)
    plan.returned = [_row_plan(s, stored[s.id]) for s in decision.returned]
    plan.vanished = [_gone(identifier, stored[identifier]) for identifier in decision.removed]
    plan.held = [_gone(identifier, stored[identifier]) for identifier in decision.held]
    return plan


def _row_plan(snapshot: Snapshot, stored: Stored) -> RowPlan:
    new = content_of(snapshot)
    names = [name for name in differences(stored, snapshot).split(",") if name]
    return RowPlan(
        snapshot.id, snapshot.snapshot_name, _some(stored.content, names), _some(new, names)
    )


def _gone(identifier: str, stored: Stored) -> RowPlan:
    return RowPlan(identifier, _some(stored.content, ["snapshot_name"])["snapshot_name"])


def _some(content: Sequence[Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: content[CONTENT.index(name)] for name in names}
