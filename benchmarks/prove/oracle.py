"""What the tables must hold after a story, worked out from the documents alone.

The oracle shares no code with the program. It is told what each view answered, and which readings
the ledger says were applied, and when; it says what every row, every span of the history, the
state of each view, the rejects, the drift and the counts of the ledger must be. So a run that was
killed counts exactly as far as the ledger says that it came: a row without its ledger, or a ledger
without its rows, shows.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from benchmarks.prove.story import HOLD_ABOVE, HOLD_MIN, Answers

COLUMNS = (
    "application_id", "created_at", "created_by", "created_by_handle", "created_by_user_id",
    "device_type", "event_id", "is_device_type_selected_by_user", "modified_at", "org_id",
    "session_id", "snapshot_name", "start_ms", "view_id", "view_name", "extra",
)  # fmt: skip
"""Of the content, in the order of the table."""
PERSONAL = ("created_by", "created_by_handle", "created_by_user_id")
COUNTS = (
    "listed", "new", "changed", "unchanged", "returned", "foreign_records", "duplicates",
    "rejected", "vanished", "held",
)  # fmt: skip
DISTINCT = ("new", "changed", "unchanged", "returned", "foreign_records", "duplicates", "rejected")
"""What `listed` is the sum of."""
_SMALLEST = 3
"""Rows of a view from which on it is doubted that all of them went."""

Content = dict[str, Any]


@dataclass(frozen=True, order=True)
class Reading:
    """That a listing was applied: a row of `sync_run_views`."""

    read_at: datetime
    run_id: str
    view: str


@dataclass(frozen=True)
class Version:
    """One version of a snapshot; `valid_to` and `ended` of one that is over."""

    view: str
    content: Content
    version: int
    began: str
    changed_columns: str | None
    valid_from: datetime
    valid_to: datetime | None = None
    ended: str | None = None


@dataclass(frozen=True)
class Row:
    """A row of `snapshots`."""

    now: Version
    first_seen_at: datetime
    missing_since: datetime | None = None
    removed_at: datetime | None = None


@dataclass
class ViewState:
    """What `view_state` says of a view, as far as readings move it."""

    first_read_at: datetime
    last_read_at: datetime
    last_nonempty_at: datetime | None
    last_run_id: str
    counts: Counter[str]
    body: str
    rejects: Counter[str]


@dataclass
class Seen:
    """A row of `rejected_records` or `schema_drift`."""

    first_seen_at: datetime
    last_seen_at: datetime
    count: int = 0
    resolved_at: datetime | None = None


@dataclass
class _Listing:
    records: dict[str, Content]
    listed: int
    duplicates: int
    rejects: Counter[str]
    drift: Counter[tuple[str, str]]
    body: str


@dataclass
class Oracle:
    """`tell` it each run in order; what it expects stands in its fields."""

    rows: dict[str, Row] = field(default_factory=dict)
    history: dict[str, list[Version]] = field(default_factory=dict)
    views: dict[str, ViewState] = field(default_factory=dict)
    rejects: dict[tuple[str, str], Seen] = field(default_factory=dict)
    drift: dict[tuple[str, str], Seen] = field(default_factory=dict)
    counts: dict[tuple[str, str], Counter[str]] = field(default_factory=dict)
    """Of each view in each run."""

    def tell(self, answers: Answers, readings: Iterable[Reading]) -> None:
        """One run, in which the views answered so and these readings were applied, in order."""
        listings = {view: _listing(records) for view, records in answers.items()}
        # Decided by what was stored when the run began: all views answer before rows go.
        absent = {view: self._absent(view, listing) for view, listing in listings.items()}
        for reading in readings:
            self._apply(reading, listings, absent)

    def live(self) -> dict[str, Row]:
        return {identifier: row for identifier, row in self.rows.items() if row.removed_at is None}

    def _absent(self, view: str, listing: _Listing) -> set[str]:
        """Rows of the view that are provably no longer in its answer.

        A record that cannot be read may be any of them, unless it stood in the last answer, too.
        """
        state = self.views.get(view)
        if listing.rejects and (state is None or listing.rejects - state.rejects):
            return set()
        return {
            i for i, row in self.live().items() if row.now.view == view
        } - listing.records.keys()

    def _apply(
        self, reading: Reading, listings: Mapping[str, _Listing], absent: Mapping[str, set[str]]
    ) -> None:
        view, at, listing = reading.view, reading.read_at, listings[reading.view]
        counts = Counter(listed=listing.listed, duplicates=listing.duplicates)
        counts["rejected"] = listing.rejects.total()
        of_view = {i: row for i, row in self.live().items() if row.now.view == view}
        missing = {i for i, row in of_view.items() if row.missing_since is not None}
        for identifier, content in listing.records.items():
            counts[self._list(reading, identifier, content, listings, absent)] += 1
        unlisted = of_view.keys() - listing.records.keys()
        elsewhere = {i for name, other in listings.items() if name != view for i in other.records}
        gone = (unlisted & absent[view]) - elsewhere
        held = gone - missing if _is_doubted(len(gone), of_view, unlisted) else set()
        for identifier in gone - held:
            row = self.rows[identifier]
            self.rows[identifier] = replace(row, removed_at=at, missing_since=None)
        for identifier in held - missing:
            self.rows[identifier] = replace(self.rows[identifier], missing_since=at)
        counts["vanished"] = len(gone - held)
        counts["held"] = len(held) + len((unlisted - gone) & missing)
        self._note(reading, listing, counts)

    def _list(
        self,
        reading: Reading,
        identifier: str,
        content: Content,
        listings: Mapping[str, _Listing],
        absent: Mapping[str, set[str]],
    ) -> str:
        """Apply one record; returns the name of the count that it belongs to."""
        view, at = reading.view, reading.read_at
        row = self.rows.get(identifier)
        if row is None:
            began = "added" if view in self.views else "baseline"
            first = Version(view, content, 1, began, None, at)
            self.rows[identifier] = Row(first, at)
            return "new"
        owner = row.now.view
        is_removed = row.removed_at is not None
        if owner != view:
            answer = listings[owner].records
            may_take = identifier not in answer if is_removed else identifier in absent[owner]
            if not may_take:
                return "foreign_records"
        changed = [name for name in COLUMNS if row.now.content[name] != content[name]]
        columns = ",".join(changed) or None
        if is_removed:
            over = replace(row.now, valid_to=row.removed_at, ended="removed")
            new = Version(view, content, row.now.version + 1, "returned", columns, at)
        elif changed:
            over = replace(row.now, valid_to=at, ended="changed")
            new = Version(view, content, row.now.version + 1, "changed", columns, at)
        else:
            kept = replace(row.now, view=view)
            self.rows[identifier] = replace(row, now=kept, missing_since=None)
            return "unchanged"
        self.history.setdefault(identifier, []).append(over)
        self.rows[identifier] = Row(new, row.first_seen_at)
        return "returned" if is_removed else "changed"

    def _note(self, reading: Reading, listing: _Listing, counts: Counter[str]) -> None:
        view, at, before = reading.view, reading.read_at, self.views.get(reading.view)
        if before is None or before.body != listing.body:
            self._note_oddities(view, at, listing)
        last_nonempty_at = before.last_nonempty_at if before else None
        self.views[view] = ViewState(
            first_read_at=before.first_read_at if before else at,
            last_read_at=at,
            last_nonempty_at=at if listing.listed else last_nonempty_at,
            last_run_id=reading.run_id,
            counts=counts,
            body=listing.body,
            rejects=listing.rejects,
        )
        self.counts[reading.run_id, view] = counts

    def _note_oddities(self, view: str, at: datetime, listing: _Listing) -> None:
        """Their counts move only with an answer that is another one than the last."""
        for (owner, raw), seen in self.rejects.items():
            if owner == view and seen.resolved_at is None and raw not in listing.rejects:
                seen.resolved_at = at
        for raw, times in listing.rejects.items():
            _count(self.rejects.setdefault((view, raw), Seen(at, at)), times, at)
        for key, times in listing.drift.items():
            _count(self.drift.setdefault(key, Seen(at, at)), times, at)


def _count(seen: Seen, times: int, at: datetime) -> None:
    seen.count += times
    seen.first_seen_at, seen.last_seen_at = min(seen.first_seen_at, at), max(seen.last_seen_at, at)
    seen.resolved_at = None


def _is_doubted(gone: int, of_view: Mapping[str, Row], unlisted: set[str]) -> bool:
    exceeds_limits = gone > HOLD_ABOVE * len(of_view) and gone > HOLD_MIN
    lists_none = len(of_view) >= _SMALLEST and len(unlisted) == len(of_view)
    return bool(gone) and (exceeds_limits or lists_none)


def _listing(records: list[Any]) -> _Listing:
    """Of several records with one id, the one that was modified last counts."""
    readable: dict[str, Content] = {}
    listing = _Listing(readable, len(records), 0, Counter(), Counter(), json.dumps(records))
    for item in records:
        identifier = item.get("id") if isinstance(item, dict) else None
        if not isinstance(identifier, str) or not 1 <= len(identifier) <= 255:
            listing.rejects[json.dumps(item, sort_keys=True)] += 1
            continue
        content = content_of(item["attributes"], listing.drift)
        listing.duplicates += identifier in readable
        best = readable.setdefault(identifier, content)
        if content["modified_at"] > best["modified_at"]:
            readable[identifier] = content
    return listing


def content_of(attributes: Mapping[str, Any], drift: Counter[tuple[str, str]]) -> Content:
    """The columns of a record; `drift` counts what the specification does not have."""
    content: Content = dict.fromkeys(COLUMNS)
    extra: dict[str, Any] = {}
    for name, value in attributes.items():
        column = "start_ms" if name == "start" else name
        if column not in COLUMNS:
            extra[name] = value
            drift[name, "unknown attribute"] += 1
        elif column == "start_ms" and isinstance(value, str):
            extra[name] = value
            drift[name, "wrong type"] += 1
        elif name in ("created_at", "modified_at"):
            content[column] = datetime.fromisoformat(value).astimezone(UTC)
        else:
            content[column] = value
    content["extra"] = extra or None
    return content
