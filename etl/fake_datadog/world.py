"""The world: which snapshots are pinned now, and how that changes while time passes.

It has its own clock, and knows nothing of HTTP.
"""

from __future__ import annotations

import bisect
import copy
import json
import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Literal

import msgspec

from etl.fake_datadog.organization import (
    REPOINTABLE,
    VIEWS,
    Application,
    Organization,
    Traffic,
    draw_attributes,
    draw_background,
    draw_counts,
    draw_id,
    draw_organization,
    draw_timestamp,
)

START_AT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)

Record = dict[str, Any]
Kind = Literal["new", "repointed", "unpinned", "pinned again"]


@dataclass(frozen=True, slots=True)
class Event:
    """One change that a tick made. `attributes_changed` is in alphabetical order."""

    kind: Kind
    snapshot_id: str
    view_name: str
    attributes_changed: tuple[str, ...] = ()


@dataclass(slots=True, eq=False)
class _Entry:
    """A record of a view; listings are sorted by `position`."""

    record: object  # as decoded; None when it was put as bytes that are not JSON
    view_name: str
    created_at: datetime
    number: int
    is_invented: bool  # by the world itself, so that a tick may change it
    encoded: bytes | None = None

    @property
    def position(self) -> tuple[datetime, int]:
        return self.created_at, self.number

    @property
    def id(self) -> str | None:
        identifier = self.record.get("id") if isinstance(self.record, dict) else None
        return identifier if isinstance(identifier, str) else None

    @property
    def attributes(self) -> dict[str, object]:
        attributes = self.record.get("attributes") if isinstance(self.record, dict) else None
        return attributes if isinstance(attributes, dict) else {}

    def matches(self, application_id: str | None, device_type: str | None) -> bool:
        attributes = self.attributes
        return (application_id is None or attributes.get("application_id") == application_id) and (
            device_type is None or attributes.get("device_type") == device_type
        )

    def encode(self) -> bytes:
        if self.encoded is None:
            self.encoded = _encode(self.record)
        return self.encoded


class World:
    """One organization and its snapshots. Equal seeds and calls give equal worlds.

    `snapshots_per_view` sets the size of every view, `views` their names; `start_at`
    is the first time of its clock: all its first snapshots are older.
    Every method may be called from any thread.
    """

    def __init__(
        self,
        seed: int = 1,
        snapshots_per_view: int | None = None,
        views: Sequence[str] | None = None,
        start_at: datetime = START_AT,
    ) -> None:
        names = list(dict.fromkeys(VIEWS if views is None else views))
        self._lock = threading.RLock()
        self._random = Random(seed)  # noqa: S311 - repeatable, not secret
        self._now = start_at
        self._numbers = 0
        self._views: dict[str, list[_Entry]] = {name: [] for name in names}  # oldest first
        self._by_id: dict[str, list[_Entry]] = {}
        self._unpinned: dict[str, _Entry] = {}
        self.organization: Organization = draw_organization(self._random, names, start_at)
        counts = draw_counts(self._random, len(names))
        for name, count in zip(names, counts, strict=True):
            self._fill(name, count if snapshots_per_view is None else snapshots_per_view)

    @property
    def view_names(self) -> tuple[str, ...]:
        """Every view that has or had a snapshot."""
        with self._lock:
            return tuple(self._views)

    @property
    def applications(self) -> tuple[Application, ...]:
        """All RUM applications, with and without snapshots."""
        return self.organization.applications

    @property
    def traffic(self) -> tuple[Traffic, ...]:
        """Visits by view and application."""
        return self.organization.traffic

    @property
    def now(self) -> datetime:
        """The time of the world's clock."""
        with self._lock:
            return self._now

    def records(self, view_name: str) -> list[Any]:
        """Copies of the decoded records of a view, newest first."""
        with self._lock:
            return [copy.deepcopy(e.record) for e in reversed(self._views.get(view_name, []))]

    def record(self, snapshot_id: str) -> Record:
        """A copy of one pinned snapshot. KeyError: there is none."""
        with self._lock:
            return _copy_of(self._by_id[snapshot_id][0])

    def listing(
        self,
        view_name: str,
        *,
        application_id: str | None = None,
        device_type: str | None = None,
        limit: int | None = None,
    ) -> list[bytes]:
        """The encoded records of a view, newest first, at most `limit`."""
        with self._lock:
            entries = reversed(self._views.get(view_name, []))
            matching = [e for e in entries if e.matches(application_id, device_type)]
            return [entry.encode() for entry in matching[:limit]]

    def pin(self, view_name: str, *, without: Collection[str] = (), **attributes: object) -> Record:
        """Pin a new snapshot; returns a copy. Attributes are invented unless given or `without`."""
        with self._lock:
            drawn = draw_attributes(self._random, self.organization, view_name, self._advance())
            kept = {n: v for n, v in (drawn | attributes).items() if n not in without}
            return _copy_of(self._add_invented(view_name, kept))

    def repoint(self, snapshot_id: str, **attributes: object) -> Record:
        """Changes the background, invented when no attribute is given. Returns a copy.

        KeyError: no such snapshot. ValueError: an attribute that cannot be changed.
        """
        fixed = sorted(set(attributes) - set(REPOINTABLE))
        if fixed:
            raise ValueError(f"cannot be changed: {', '.join(fixed)}")
        with self._lock:
            entry = self._by_id[snapshot_id][0]
            self._repoint(entry, attributes or draw_background(self._random))
            return _copy_of(entry)

    def unpin(self, snapshot_id: str) -> None:
        """Remove the snapshot from every listing. KeyError: there is none."""
        with self._lock:
            for entry in self._by_id.pop(snapshot_id):
                self._views[entry.view_name].remove(entry)
                self._unpinned[snapshot_id] = entry

    def pin_again(self, snapshot_id: str) -> Record:
        """List an unpinned snapshot again, at its old position. KeyError: there is none."""
        with self._lock:
            entry = self._unpinned.pop(snapshot_id)
            self._add(entry)
            return _copy_of(entry)

    def put(self, record: object, view_name: str | None = None, *, replaces: bool = True) -> None:
        """List a record, or bytes in its place, exactly as given, under a view.

        The view is `view_name`, else the one that the record names. If it `replaces`, a record
        takes the position of one with the same id in that view; else both are listed.
        """
        if isinstance(record, bytes):
            decoded, encoded = _decode(record), record
        else:
            decoded, encoded = copy.deepcopy(record), _encode(record)
        with self._lock:
            entry = _Entry(decoded, "", self._advance(), 0, is_invented=False, encoded=encoded)
            entry.view_name = _view_of(entry) if view_name is None else view_name
            old = self._same(entry) if replaces else None
            if old is None:
                entry.created_at = _created_at(entry) or entry.created_at
                entry.number = self._next_number()
            else:
                entry.created_at, entry.number = old.position
                self._remove(old)
            self._add(entry)

    def wait(self, hours: float) -> None:
        """Let time pass without any change."""
        with self._lock:
            self._now += timedelta(hours=hours)

    def tick(self, hours: float = 6) -> list[Event]:
        """Let time pass; returns the changes.

        At least one snapshot is new, one re-pointed and one unpinned. Some that were unpinned
        earlier come back. With fewer than two snapshots none is unpinned. The longer the time and
        the larger the world, the more changes.
        """
        with self._lock:
            end = self._now + timedelta(hours=hours)
            plan = self._plan(hours)
            step = timedelta(hours=hours) / (len(plan) + 1)
            events = []
            for kind, entry in plan:
                self._now += step * self._random.uniform(0.3, 1.0)
                events.append(self._apply(kind, entry))
            self._now = max(self._now, end)
            return events

    def _plan(self, hours: float) -> list[tuple[Kind, _Entry | None]]:
        """The changes of a tick, in order; none changes the same snapshot as another."""
        live = [e for entries in self._by_id.values() for e in entries if e.is_invented]
        maximum = 1 + round((1 + len(live) / 100) * min(hours / 6, 4.0))
        repointed = self._random.randint(1, maximum)
        # As many are removed as added: growth by a share would exceed any page within a year.
        added = self._random.randint(1, maximum)
        unpinned = self._random.randint(1, maximum)
        chosen = self._random.sample(live, min(len(live), repointed + unpinned))
        unpinned = min(unpinned, len(chosen) - 1) if len(chosen) > 1 else 0
        plan: list[tuple[Kind, _Entry | None]] = []
        plan += [("new", None)] * added
        plan += [("unpinned", entry) for entry in chosen[:unpinned]]
        plan += [("repointed", entry) for entry in chosen[unpinned:]]
        unpinned_before = [entry for entry in self._unpinned.values() if entry.is_invented]
        if unpinned_before and self._random.random() < 0.5:
            plan.append(("pinned again", self._random.choice(unpinned_before)))
        self._random.shuffle(plan)
        return plan

    def _apply(self, kind: Kind, entry: _Entry | None) -> Event:
        if entry is None:
            record = self.pin(self._random.choice(list(self._views)))
            return Event(kind, record["id"], record["attributes"]["view_name"])
        snapshot_id = str(entry.id)
        changed: tuple[str, ...] = ()
        if kind == "unpinned":
            self.unpin(snapshot_id)
        elif kind == "pinned again":
            self.pin_again(snapshot_id)
        if kind == "repointed" or (kind == "pinned again" and self._random.random() < 0.5):
            changed = self._repoint(entry, draw_background(self._random))
        return Event(kind, snapshot_id, entry.view_name, changed)

    def _repoint(self, entry: _Entry, attributes: dict[str, object]) -> tuple[str, ...]:
        """Set the attributes; returns the names of those that changed."""
        before = dict(entry.attributes)
        entry.attributes.update(attributes)
        entry.attributes["modified_at"] = draw_timestamp(self._random, self._advance())
        entry.encoded = None
        after = entry.attributes
        return tuple(sorted(name for name in after if _differ(before, after, name)))

    def _fill(self, view_name: str, count: int) -> None:
        """Add snapshots of the year before, at even distances."""
        span = timedelta(days=365) / (count + 1)
        for number in range(count, 0, -1):
            created_at = self._now - span * (number - self._random.random() * 0.9)
            drawn = draw_attributes(self._random, self.organization, view_name, created_at)
            if self._random.random() < 0.25:
                modified_at = created_at + (self._now - created_at) * self._random.random()
                drawn["modified_at"] = draw_timestamp(self._random, modified_at)
            self._add_invented(view_name, drawn)

    def _add_invented(self, view_name: str, attributes: dict[str, object]) -> _Entry:
        record = {"id": draw_id(self._random), "type": "snapshots", "attributes": attributes}
        entry = _Entry(record, view_name, self._now, self._next_number(), is_invented=True)
        entry.created_at = _created_at(entry) or self._now
        self._add(entry)
        return entry

    def _add(self, entry: _Entry) -> None:
        entries = self._views.setdefault(entry.view_name, [])
        bisect.insort(entries, entry, key=lambda e: e.position)
        if entry.id is not None:
            self._by_id.setdefault(entry.id, []).append(entry)

    def _remove(self, entry: _Entry) -> None:
        self._views[entry.view_name].remove(entry)
        self._by_id[str(entry.id)].remove(entry)

    def _same(self, entry: _Entry) -> _Entry | None:
        entries = self._by_id.get(entry.id, []) if entry.id is not None else []
        return next((old for old in entries if old.view_name == entry.view_name), None)

    def _next_number(self) -> int:
        self._numbers += 1
        return self._numbers

    def _advance(self) -> datetime:
        """Let a moment pass, and return the time: every write has its own."""
        self._now += timedelta(microseconds=self._random.randrange(1_000, 2_000_000))
        return self._now


def _copy_of(entry: _Entry) -> Record:
    if not isinstance(entry.record, dict):
        raise KeyError(entry.id)
    return copy.deepcopy(entry.record)


def _differ(before: dict[str, object], after: dict[str, object], name: str) -> bool:
    return name not in before or before[name] != after[name]


def _view_of(entry: _Entry) -> str:
    view_name = entry.attributes.get("view_name")
    if not isinstance(view_name, str):
        raise ValueError("the record names no view: say under which view_name to list it")  # noqa: TRY004 - a wrong value of the caller, not a wrong type
    return view_name


def _created_at(entry: _Entry) -> datetime | None:
    try:
        moment = datetime.fromisoformat(str(entry.attributes.get("created_at")))
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _encode(record: object) -> bytes:
    try:
        return msgspec.json.encode(record)
    except (UnicodeEncodeError, OverflowError):  # lone surrogates, huge integers: legal JSON
        return json.dumps(record).encode()


def _decode(raw: bytes) -> object:
    try:
        return json.loads(raw)
    except ValueError:
        return None
