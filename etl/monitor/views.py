"""`views list` and `views discover`: which views are covered, and which RUM sees beside them."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row

from etl.config.edit import add_views
from etl.config.model import Config, require_keys
from etl.config.views import View
from etl.database.connection import Database
from etl.database.migrations import opened_if_current
from etl.datadog.client import Client
from etl.datadog.rum import Application
from etl.errors import DatadogError, EtlError
from etl.extract.discovery import (
    Discovery,
    Traffic,
    discover,
    read_applications,
    traffic_by_name,
)
from etl.extract.view_selection import select_names
from etl.formatting import iso
from etl.ledger.known_views import KnownViews, read_known_views
from etl.ledger.results import CONTRACT
from etl.ledger.view_state import read_view_states
from etl.load.discovered import application_names, save_applications, save_discovery
from etl.pipeline.select_views import ViewSelection, bounds_of, select_known
from etl.source.lease import Lease

CONFIGURED, MISSING, NEVER_SEEN = "configured", "missing", "never_seen"


# --- views list ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Listed:
    """What is known of every covered view. `reason`: why the tables could not tell."""

    source: str
    at: datetime
    scope: ViewSelection
    known: KnownViews
    states: Mapping[str, Row[Any]]
    configured: frozenset[View]
    left_out: int  # read once, and now outside [discover]
    reason: str

    def rows(self) -> Iterator[tuple[View, str, Row[Any] | None]]:
        """Each view, why it is covered, and its row of `view_state`."""
        read_before = {view.name for view in self.known.read_before}
        for view in self.scope.views:
            origin = "configured"
            if view not in self.configured:
                origin = "read before" if view.name in read_before else "discovered"
            yield view, origin, self.states.get(view.key(self.source))

    def as_json(self) -> dict[str, Any]:
        """The object that `views list --json` prints."""
        return {
            "contract": CONTRACT,
            "source": self.source,
            "views": [self._view_json(*row) for row in self.rows()],
            "notes": [*self.scope.all_notes, *([self.reason] if self.reason else [])],
        }

    def _view_json(self, view: View, origin: str, state: Row[Any] | None) -> dict[str, Any]:
        read_at = state.last_read_at if state else None
        return {
            "view_name": view.name,
            "application_id": view.application_id,
            "device_type": view.device_type,
            "origin": origin,
            "verdict": state.verdict if state else None,
            "listed": state.listed if state else None,
            "last_read_at": iso(read_at) if read_at else None,
            "views_30d": self.known.traffic.get(view.name),
        }


def list_views(config: Config) -> Listed:
    """The covered views, without asking Datadog."""
    now = datetime.now(UTC)
    known, states = KnownViews(), dict[str, Row[Any]]()
    with opened_if_current(config) as (database, reason):
        if database:
            known, states = database.read(lambda c: _stored(c, config.source, now))
    bounds = bounds_of(config)
    left_out = [v for v in known.read_before if config.discovers and not bounds.allow(v.name)]
    return Listed(
        source=config.source,
        at=now,
        scope=select_known(config, known, now),
        known=known,
        states=states,
        left_out=len(left_out),
        reason=reason,
        configured=frozenset(config.views),
    )


def _stored(
    connection: Connection, source: str, now: datetime
) -> tuple[KnownViews, dict[str, Row[Any]]]:
    return read_known_views(connection, source, now), read_view_states(connection, source)


# --- views discover -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SeenView:
    """One view name: whether it is configured, and its traffic by application."""

    name: str
    state: str
    traffic: tuple[Traffic, ...] = ()

    @property
    def views_30d(self) -> int:
        """Over all applications."""
        return sum(item.views_30d for item in self.traffic)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What RUM sees beside what is configured. `not_stored`: why not; empty: it was."""

    source: str
    views: tuple[SeenView, ...]
    to_add: tuple[str, ...]  # missing, and within [discover]
    application_names: Mapping[str, str]
    warnings: tuple[str, ...] = ()
    not_stored: str = ""
    added_to: str = ""  # the file that --write changed

    def of(self, state: str) -> list[SeenView]:
        """Busiest first."""
        return [view for view in self.views if view.state == state]

    def as_json(self) -> dict[str, Any]:
        """The object that `views discover --json` prints."""
        return {
            "contract": CONTRACT,
            "source": self.source,
            "views": [self._view_json(view) for view in self.views],
            "to_add": list(self.to_add),
            "added_to": self.added_to or None,
            "warnings": list(self.warnings),
            "not_stored": self.not_stored or None,
        }

    def _view_json(self, view: SeenView) -> dict[str, Any]:
        return {
            "view_name": view.name,
            "state": view.state,
            "views_30d": view.views_30d,
            "applications": [
                {
                    "application_id": item.application_id,
                    "application_name": self.application_names.get(item.application_id or ""),
                    "views_30d": item.views_30d,
                }
                for item in view.traffic
            ],
        }


def compare_views(config: Config, *, stop: threading.Event) -> Comparison:
    """Ask RUM, store what it said, and compare; raises `EtlError`."""
    keys, warnings, listed = require_keys(config), list[str](), None
    with Client(config, keys, stop=stop) as client:
        found = discover(client)
        try:
            listed = read_applications(client)
        except DatadogError as error:
            warnings.append(f"applications have no names: {error}")
    now = datetime.now(UTC)
    with opened_if_current(config) as (database, not_stored):
        known, names, reason = KnownViews(), dict[str, str](), not_stored
        if database:
            reason = _store(config, database, found, listed, now)
            known, names = database.read(lambda c: _remembered(c, config.source, now))
    names |= {a.application_id: a.name for a in listed or () if a.name}
    configured = select_known(config, known, now).views
    return Comparison(
        source=config.source,
        views=tuple(_compared(configured, found.traffic)),
        to_add=tuple(_to_add(config, configured, traffic_by_name(found.traffic), now)),
        application_names=names,
        warnings=(*found.warnings, *warnings),
        not_stored=reason,
    )


def added(config: Config, found: Comparison) -> Comparison:
    """With the missing views in the configuration file; raises `ConfigError`."""
    if not found.to_add:
        return found
    add_views(config.path, config.views, found.to_add)
    return replace(found, added_to=str(config.path))


def _remembered(
    connection: Connection, source: str, now: datetime
) -> tuple[KnownViews, dict[str, str]]:
    names = application_names(connection, source)
    return read_known_views(connection, source, now), names


def _store(
    config: Config,
    database: Database,
    found: Discovery,
    listed: Sequence[Application] | None,
    now: datetime,
) -> str:
    """Why it could not be stored, or ""; a run that is under way is not disturbed."""
    lease = Lease(config.source, config.lease_s)

    def store(connection: Connection) -> None:
        lease.take(connection, config)
        save_discovery(connection, config.source, found, now)
        if listed is not None:
            save_applications(connection, config.source, listed, now)
        lease.release(connection)

    try:
        database.transaction(store)
    except EtlError as error:
        return str(error)
    return ""


def _compared(configured: Sequence[View], traffic: Sequence[Traffic]) -> Iterator[SeenView]:
    seen: dict[str, list[Traffic]] = {}
    for item in traffic:
        seen.setdefault(item.view_name, []).append(item)
    names = {view.name for view in configured}
    found = [
        SeenView(name, CONFIGURED if name in names else MISSING, tuple(items))
        for name, items in seen.items()
    ]
    yield from sorted(found, key=lambda view: (-view.views_30d, view.name))
    yield from (SeenView(name, NEVER_SEEN) for name in sorted(names - set(seen)))


def _to_add(
    config: Config, configured: Sequence[View], traffic: Mapping[str, int], now: datetime
) -> list[str]:
    """Busiest first."""
    names = [view.name for view in configured]
    added = select_names(names, (), traffic, bounds_of(config), now)
    return sorted(added.names, key=lambda name: (-traffic[name], name))
