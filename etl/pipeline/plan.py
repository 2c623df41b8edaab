"""What a run would do, row by row: the same run with a writer that writes nothing.

`sync --plan` makes neither file nor schema, takes no lease and leaves no trace in the ledger. A
database that is not there yet holds no rows.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from etl.config.model import Config, require_keys
from etl.config.views import View
from etl.database.connection import Database
from etl.database.migrations import found_schema, require_schema
from etl.datadog.client import Client
from etl.errors import EtlError, SourceMismatch, StoreError
from etl.extract.api_state import ApiState
from etl.extract.completeness import FAILED
from etl.extract.listing import Listing
from etl.extract.partition import Proof
from etl.ledger.api_state import read_api_state
from etl.ledger.results import is_refused
from etl.ledger.side_questions import read_unanswered
from etl.load.changeset import ChangeSet, StoredId, StoredIds
from etl.load.decide import RunState, decide_listing
from etl.load.loader import Failure, Loader, OpenListing
from etl.load.lookup import Lookup, Tables
from etl.load.versions import Owner, StoredRow, content_of, differences
from etl.load.writer import owner_of, reason_of
from etl.pipeline.read_views import open_verifier, read_and_load, stored_in
from etl.pipeline.run import Options, initial_state, warn_of_clock
from etl.pipeline.select_views import select_views, with_views
from etl.pipeline.side_questions import SideQuestions
from etl.pipeline.sync import chosen_views
from etl.source.identity import require_label
from etl.source.privacy_setting import read_privacy
from etl.transform.fields import MAX_ID
from etl.transform.snapshot import CONTENT, Decoded, Snapshot


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
    """What a run would do to each view, in the configured order. Raises `EtlError`."""
    keys = require_keys(config)
    if not config.discovers:
        chosen_views(config, options.views)
    tables = database if _has_tables(config, database) else None
    unanswered = tables.read(lambda c: read_unanswered(c, config.source)) if tables else {}
    side_questions = SideQuestions(stop, unanswered)
    selection = select_views(config, database, stop=stop, side_questions=side_questions)
    config = with_views(config, selection)
    views = chosen_views(config, options.views) if options.views else selection.due
    api_state = ApiState()
    if tables:  # every answer is decoded
        api_state = tables.read(lambda c: read_api_state(c, config, is_full=True))
    writer = PlanWriter(config.source, tables, progress)
    state = initial_state(config, views, api_state, accepts_removals=options.accepts_removals)
    loader = Loader(writer, state, config.source, stop)
    stored = stored_in(tables, config.source)
    with (
        Client(
            config,
            keys,
            stop=stop,
            validation=side_questions.validation,
            server_clock=side_questions.server_clock,
        ) as client,
        open_verifier(client, side_questions, config, api_state, stop, stored) as verifier,
    ):
        read_and_load(client, side_questions, verifier, views, loader)
    warn_of_clock(side_questions.server_clock, config.api_url)
    if is_refused(writer.errors) and len(writer.errors) == len(writer.plans):
        raise writer.errors[0]
    order = {view: number for number, view in enumerate(views)}
    return sorted(writer.plans, key=lambda plan: order[plan.view])


def _has_tables(config: Config, database: Database) -> bool:
    """Whether there are tables; raises `EtlError` when a run would refuse them."""
    if found_schema(database).state == "absent":
        return False
    require_schema(database)
    database.read(lambda connection: require_label(connection, config))
    database.read(lambda connection: read_privacy(connection, config)).require_same()
    return True


class PlanWriter:
    """Keeps what a run would write. `database`: None while there are no tables."""

    is_grouping = False  # there is no commit to share

    def __init__(
        self,
        source: str,
        database: Database | None,
        progress: Callable[[list[ViewPlan]], None] | None = None,
    ) -> None:
        self.plans: list[ViewPlan] = []
        self.errors: list[EtlError] = []
        self._source = source
        self._database = database
        self._progress = progress
        self._planned: dict[str, StoredId] = {}

    def write(
        self, listings: Sequence[OpenListing], state: RunState
    ) -> tuple[RunState, list[Listing]]:
        """As `Writer.write`, for one listing at a time."""
        ((listing, decoded),) = listings
        draft = state.draft()

        def compare(connection: Connection | None) -> ViewPlan | None:
            tables = Tables(connection) if connection else NoTables()
            planned = PlannedTables(tables, self._planned)
            return self._compare(listing, decoded or Decoded(), planned, draft)

        plan = self._database.read(compare) if self._database else compare(None)
        if plan is None:
            return draft, [listing]
        self._add(plan)
        return draft, []

    def write_failure(self, failure: Failure) -> None:
        """As `Writer.write_failure`: nothing is planned for the view.

        Raises the error of a database that cannot be read: a plan has no ledger to note it in.
        """
        error = failure.error
        if isinstance(error, StoreError) and not isinstance(error, SourceMismatch):
            raise error
        self.errors.append(error)
        self._add(ViewPlan(failure.view, FAILED, str(failure.error)))

    def _compare(
        self, listing: Listing, decoded: Decoded, tables: PlannedTables, state: RunState
    ) -> ViewPlan | None:
        """What a run would do; None: the listing must wait for the views still unread."""
        owner = owner_of(listing, self._source)
        state.organization.recognise(self._source, decoded)
        changes = decide_listing(listing, decoded, owner, tables, state)
        state.record(owner.view_key, changes, [snapshot.id for snapshot in decoded.snapshots])
        if changes.is_deferred:
            return None
        stored = tables.rows(sorted({*changes.touched, *changes.absence.held}))
        tables.add(changes, owner, stored)
        return _view_plan(listing, decoded, changes, stored)

    def _add(self, plan: ViewPlan) -> None:
        self.plans.append(plan)
        if self._progress:
            self._progress(self.plans)


@dataclass(frozen=True, slots=True)
class PlannedTables:
    """The tables as they would be, had a dry run written what it planned so far.

    `planned`: by id, what it would have written of views other than the one that is decided, each
    of which is decided once. A view may list these ids, but never takes over a row that another
    view of the run lists, so that the content of planned rows is not needed.
    """

    tables: Lookup
    planned: dict[str, StoredId]

    def add(self, changes: ChangeSet, owner: Owner, stored: Mapping[str, StoredRow]) -> None:
        """One more view is decided; `stored`: its touched rows as they are in the tables."""
        for snapshot in (*changes.new, *changes.changed, *changes.returned, *changes.moved):
            self.planned[snapshot.id] = StoredId(
                snapshot.content_hash, owner.view_key, owner.source, is_removed=False
            )
        for identifier in changes.absence.removed:
            self.planned[identifier] = StoredId(
                stored[identifier].content_hash, owner.view_key, owner.source, is_removed=True
            )

    def ids(self, owner: Owner, listed: Collection[str]) -> StoredIds:
        """As `Lookup.ids`: a planned row is the view's own no longer, but may be listed."""
        plain, others = self.tables.ids(owner, listed)
        planned = self.planned
        return StoredIds(
            {i: content_hash for i, content_hash in plain.items() if i not in planned},
            {i: stored for i, stored in others.items() if i not in planned}
            | {i: planned[i] for i in planned.keys() & {*listed}},
        )

    def rows(self, ids: Sequence[str]) -> dict[str, StoredRow]:
        """As `Lookup.rows`."""
        return self.tables.rows(ids)

    def covered(self, view_key: str, proof: Proof) -> set[str]:
        """As `Lookup.covered`."""
        return self.tables.covered(view_key, proof)

    def has_same_rejects(self, owner: Owner, decoded: Decoded) -> bool:
        """As `Lookup.has_same_rejects`."""
        return self.tables.has_same_rejects(owner, decoded)

    def longest_id(self) -> int:
        """As `Lookup.longest_id`."""
        return self.tables.longest_id()


class NoTables:
    """Before the schema is there, nothing is stored."""

    def ids(self, owner: Owner, listed: Collection[str]) -> StoredIds:  # noqa: ARG002
        """As `Lookup.ids`."""
        return StoredIds()

    def rows(self, ids: Sequence[str]) -> dict[str, StoredRow]:  # noqa: ARG002
        """As `Lookup.rows`."""
        return {}

    def covered(self, view_key: str, proof: Proof) -> set[str]:  # noqa: ARG002
        """As `Lookup.covered`."""
        return set()

    def has_same_rejects(self, owner: Owner, decoded: Decoded) -> bool:  # noqa: ARG002
        """As `Lookup.has_same_rejects`."""
        return False

    def longest_id(self) -> int:
        """As `Lookup.longest_id`."""
        return MAX_ID


def _view_plan(
    listing: Listing, decoded: Decoded, changes: ChangeSet, stored: Mapping[str, StoredRow]
) -> ViewPlan:
    changed = [_row_plan(s, stored[s.id]) for s in changes.changed]
    reason = listing.reason + reason_of(changes.absence)
    plan = ViewPlan(listing.view, listing.verdict, reason)
    plan.listed = decoded.listed
    plan.foreign, plan.duplicates = len(changes.foreign), changes.duplicates
    plan.rejected = len(changes.rejected) + len(decoded.rejected)
    plan.new = [RowPlan(s.id, s.snapshot_name) for s in changes.new]
    plan.changed = [row for row in changed if row.after]
    plan.unchanged = changes.unchanged + len(changed) - len(plan.changed)
    plan.returned = [_row_plan(s, stored[s.id]) for s in changes.returned]
    plan.vanished = [
        _absent_row(identifier, stored[identifier]) for identifier in changes.absence.removed
    ]
    plan.held = [_absent_row(identifier, stored[identifier]) for identifier in changes.absence.held]
    return plan


def _row_plan(snapshot: Snapshot, stored: StoredRow) -> RowPlan:
    new = content_of(snapshot)
    names = [name for name in differences(stored, snapshot).split(",") if name]
    return RowPlan(
        snapshot.id, snapshot.snapshot_name, _columns(stored.content, names), _columns(new, names)
    )


def _absent_row(identifier: str, stored: StoredRow) -> RowPlan:
    return RowPlan(identifier, _columns(stored.content, ["snapshot_name"])["snapshot_name"])


def _columns(content: Sequence[Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: content[CONTENT.index(name)] for name in names}
