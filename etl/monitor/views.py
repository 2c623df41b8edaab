"""`views list` and `views discover`: the covered views, compared with those that RUM saw."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row

from etl.config.model import Config, require_keys
from etl.config.views import View
from etl.config.writing.edit import add_views
from etl.database.connection import Database
from etl.database.migrations import opened_if_current
from etl.datadog.client import Client
from etl.datadog.rum import Application
from etl.errors import DatadogError, EtlError, SourceMismatch
from etl.extract.discovery import (
    Discovery,
    Traffic,
    discover,
    traffic_by_name,
)
from etl.extract.view_selection import select_names
from etl.formatting import iso
from etl.ledger.known_views import KnownViews, read_known_views
from etl.ledger.results import CONTRACT
from etl.ledger.view_state import read_view_states
from etl.load.discovered import application_names, save_applications, save_discovery
from etl.pipeline.select_views import ViewSelection, bounds_of, select_known
from etl.pipeline.side_questions import SideQuestions
from etl.source.identity import require_label
from etl.source.lease import Lease

CONFIGURED, MISSING, NEVER_SEEN = "configured", "missing", "never_seen"


# --- views list ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CoveredViews:
    """Every covered view and its state. `reason`: why the database could not be read, or ""."""

    source: str
    at: datetime
    selection: ViewSelection
    known: KnownViews
    states: Mapping[str, Row[Any]]
    configured: frozenset[View]
    outside_discover: int  # views read before that [discover] excludes now
    reason: str

    def rows(self) -> Iterator[tuple[View, str, Row[Any] | None]]:
        """Each view, why it is covered, and its row of `view_state`."""
        read_before = {view.name for view in self.known.read_before}
        for view in self.selection.views:
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
            "notes": [*self.selection.all_notes, *([self.reason] if self.reason else [])],
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


def list_views(config: Config) -> CoveredViews:
    """The covered views and their states, from configuration and database alone."""
    now = datetime.now(UTC)
    known, states = KnownViews(), dict[str, Row[Any]]()
    with opened_if_current(config) as (database, not_current):
        reason = not_current
        if database:
            try:
                known, states = database.read(lambda c: _read_states(c, config, now))
            except SourceMismatch as error:
                reason = str(error)
    bounds = bounds_of(config)
    outside = [v for v in known.read_before if config.discovers and not bounds.allow(v.name)]
    return CoveredViews(
        source=config.source,
        at=now,
        selection=select_known(config, known, now),
        known=known,
        states=states,
        outside_discover=len(outside),
        reason=reason,
        configured=frozenset(config.views),
    )


def _read_states(
    connection: Connection, config: Config, now: datetime
) -> tuple[KnownViews, dict[str, Row[Any]]]:
    require_label(connection, config)
    known = read_known_views(connection, config.source, now)
    return known, read_view_states(connection, config.source)


# --- views discover -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SeenView:
    """One view name: whether it is configured, and its page views by application."""

    name: str
    state: str
    traffic: tuple[Traffic, ...] = ()

    @property
    def views_30d(self) -> int:
        """Over all applications."""
        return sum(item.views_30d for item in self.traffic)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What RUM saw and what is configured. `not_stored`: why it could not be stored, or ""."""

    source: str
    views: tuple[SeenView, ...]
    to_add: tuple[str, ...]  # missing, and within [discover]
    application_names: Mapping[str, str]
    warnings: tuple[str, ...] = ()
    not_stored: str = ""
    added_to: str = ""  # the file that --write changed

    def in_state(self, state: str) -> list[SeenView]:
        """The views of one state, busiest first."""
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
    """Ask RUM, store its answer, and compare; raises `EtlError`."""
    keys, warnings, applications = require_keys(config), list[str](), None
    side_questions = SideQuestions(stop)
    with Client(config, keys, stop=stop) as client:
        discovery = discover(client, side_questions.applications)
        try:
            applications = side_questions.applications(client).applications
        except DatadogError as error:
            warnings.append(f"applications have no names: {error}")
    now = datetime.now(UTC)
    with opened_if_current(config) as (database, not_stored):
        known, names, reason = KnownViews(), dict[str, str](), not_stored
        if database:
            reason = _save(config, database, discovery, applications, now)
            known, names = database.read(lambda c: _read_known(c, config.source, now))
    names |= {a.application_id: a.name for a in applications or () if a.name}
    configured = select_known(config, known, now).views
    return Comparison(
        source=config.source,
        views=tuple(_compare(configured, discovery.traffic)),
        to_add=tuple(_to_add(config, configured, traffic_by_name(discovery.traffic), now)),
        application_names=names,
        warnings=(*discovery.warnings, *warnings),
        not_stored=reason,
    )


def add_missing(config: Config, comparison: Comparison) -> Comparison:
    """Add the missing views to the configuration file; raises `ConfigError`."""
    if not comparison.to_add:
        return comparison
    add_views(config.path, config.views, comparison.to_add)
    return replace(comparison, added_to=str(config.path))


def _read_known(
    connection: Connection, source: str, now: datetime
) -> tuple[KnownViews, dict[str, str]]:
    names = application_names(connection, source)
    return read_known_views(connection, source, now), names


def _save(
    config: Config,
    database: Database,
    discovery: Discovery,
    applications: Sequence[Application] | None,
    now: datetime,
) -> str:
    """Why it could not be stored, or "". The lease keeps it from disturbing a run."""
    lease = Lease(config.source, config.lease_s)

    def save(connection: Connection) -> None:
        lease.take(connection, config)
        save_discovery(connection, config.source, discovery, now)
        if applications is not None:
            save_applications(connection, config.source, applications, now)
        lease.release(connection)

    try:
        database.transaction(save)
    except EtlError as error:
        return str(error)
    return ""


def _compare(configured: Sequence[View], traffic: Sequence[Traffic]) -> Iterator[SeenView]:
    by_name: dict[str, list[Traffic]] = {}
    for item in traffic:
        by_name.setdefault(item.view_name, []).append(item)
    names = {view.name for view in configured}
    seen = [
        SeenView(name, CONFIGURED if name in names else MISSING, tuple(items))
        for name, items in by_name.items()
    ]
    yield from sorted(seen, key=lambda view: (-view.views_30d, view.name))
    yield from (SeenView(name, NEVER_SEEN) for name in sorted(names - set(by_name)))


def _to_add(
    config: Config, configured: Sequence[View], traffic: Mapping[str, int], now: datetime
) -> list[str]:
    """The missing views that [discover] allows, busiest first."""
    names = [view.name for view in configured]
    selected = select_names(names, (), traffic, bounds_of(config), now)
    return sorted(selected.names, key=lambda name: (-traffic[name], name))
