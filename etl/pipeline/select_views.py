"""Which views a run covers: those configured or, with `views = "discover"`, those known.

`effective_views` decides, and is pure. A name that RUM no longer counts traffic for may
still have snapshots: what was read once is covered for good, within the bounds of
`[discover]`.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, select

from etl.config.load import Config, View, require_keys
from etl.database.connection import Database, open_database
from etl.database.migrations import found_schema
from etl.database.schema import discovered_views, sources
from etl.datadog.client import Datadog
from etl.errors import DatadogError, EtlError
from etl.extract.discovery import DAY_S, SPAN, Discovery, Traffic, discover, is_due, save_discovery
from etl.formatting import clean, many, shortened
from etl.ledger import runs as ledger


class Bounds(msgspec.Struct, frozen=True):
    """`[discover]`: which names to take, and how many."""

    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    max_views: int = 1000

    def take(self, name: str) -> bool:
        """Whether the patterns let this very name in."""
        return _matches(name, self.include) and not _matches(name, self.exclude)


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


class Seen(msgspec.Struct, frozen=True):
    """A view name that was read before."""

    name: str
    had_snapshots: bool = True
    is_failing: bool = False
    last_run_at: datetime | None = None

    @property
    def is_idle(self) -> bool:
        """Whether it is asked once a day only: it never had a snapshot."""
        return not self.had_snapshots and not self.is_failing

    def rests(self, now: datetime) -> bool:
        """Whether it need not be asked now."""
        return self.is_idle and not is_due(self.last_run_at, DAY_S, now)


class Scope(msgspec.Struct, frozen=True):
    """`views`: all that are covered. `due`: those to be asked now, the others being among those
    `asked_daily`. `notes`: what to say of it.
    """

    views: tuple[View, ...]
    due: tuple[View, ...]
    notes: tuple[str, ...] = ()
    asked_daily: frozenset[View] = frozenset()

    @property
    def all_notes(self) -> list[str]:
        """With what is no cause for concern."""
        resting = len(self.views) - len(self.due)
        said = f"{many(resting, 'view')} without any snapshot so far: asked once a day"
        return [*self.notes, *([said] if resting else [])]


class Known(msgspec.Struct, frozen=True):
    """What the tables know of a source's views; `traffic` of 30 days by name."""

    seen: tuple[Seen, ...] = ()
    traffic: Mapping[str, int] = msgspec.field(default_factory=dict)
    discovered_at: datetime | None = None

    def and_found(self, traffic: Sequence[Traffic]) -> Known:
        """With what was discovered just now."""
        return msgspec.structs.replace(self, traffic={**self.traffic, **by_name(traffic)})


def by_name(traffic: Iterable[Traffic]) -> dict[str, int]:
    """Traffic by view name, over all applications."""
    found: dict[str, int] = {}
    for item in traffic:
        found[item.view_name] = found.get(item.view_name, 0) + item.views_30d
    return found


def effective_views(
    configured: Sequence[View],
    seen: Sequence[Seen],
    discovered: Mapping[str, int],
    bounds: Bounds,
    now: datetime,
) -> Scope:
    """The union of what is configured, was read once, and was discovered; busiest first when
    there is no room for all. A configured name stands for itself: no other view of it joins.
    """
    names = {view.name for view in configured}
    known = {s.name: s for s in seen if s.name not in names and bounds.take(s.name)}
    new = [n for n in discovered if n not in names and n not in known and bounds.take(n)]
    new.sort(key=lambda name: (-discovered[name], name))
    room = max(0, bounds.max_views - len(configured) - len(known))
    added = (View(name) for name in sorted([*known, *new[:room]]))
    views = (*configured, *added)
    due = [v for v in views if v.name not in known or not known[v.name].rests(now)]
    idle = frozenset(v for v in views if v.name in known and known[v.name].is_idle)
    return Scope(views, tuple(due), tuple(_left_out(new[room:], bounds)), idle)


def _left_out(names: Sequence[str], bounds: Bounds) -> list[str]:
    if not names:
        return []
    what, limit = many(len(names), "discovered view"), f"discover.max_views = {bounds.max_views:,}"
    return [f"{what} not added, beyond {limit}; the busiest is {shortened(clean(names[0]))}"]


# --- what the tables know -----------------------------------------------------------------


def bounds_of(config: Config) -> Bounds:
    """The bounds as configured."""
    return Bounds(config.discover_include, config.discover_exclude, config.discover_max_views)


def read_known(connection: Connection, source: str, now: datetime) -> Known:
    """From `view_state`, `discovered_views` and `sources`."""
    seen: dict[str, Seen] = {}
    for row in ledger.states(connection, source).values():
        if row.last_read_at is not None:
            seen[row.view_name] = _seen(row, seen.get(row.view_name))
    d = discovered_views.c
    query = select(d.view_name, d.application_id, d.views_30d).where(
        d.source == source, d.sampled_at >= now - SPAN
    )
    traffic = by_name(Traffic(*row) for row in connection.execute(query))
    at = select(sources.c.discovered_at).where(sources.c.source == source)
    return Known(tuple(seen.values()), traffic, connection.execute(at).scalar())


def _seen(row: Row[Any], other: Seen | None) -> Seen:
    """A name may have been read in parts before, by filters: then not yet as a whole."""
    had_snapshots = row.last_nonempty_at is not None or row.listed > 0 or row.held > 0
    had_snapshots = had_snapshots or bool(other and other.had_snapshots)
    if row.application_id is None and row.device_type is None:
        return Seen(row.view_name, had_snapshots, row.consecutive_failures > 0, row.last_run_at)
    return msgspec.structs.replace(other or Seen(row.view_name), had_snapshots=had_snapshots)


@contextmanager
def usable_database(config: Config) -> Iterator[tuple[Database | None, str]]:
    """The database where it is there and current; else None, and why."""
    database, reason = None, ""
    try:
        database = open_database(
            config.database_url, label=config.database_label, schema_name=config.database_schema
        )
        state = found_schema(database).state
        reason = "" if state == "current" else f"the schema of {database.label} is {state}"
    except EtlError as error:
        reason = str(error)
    try:
        yield (None if reason else database), reason
    finally:
        if database:
            database.close()


def known_of(config: Config, database: Database | None) -> Known:
    """What the tables know; nothing when they are not there, or not as this program needs them."""
    if database is None or found_schema(database).state != "current":
        return Known()
    now = datetime.now(UTC)
    return database.read(lambda connection: read_known(connection, config.source, now))


def scope_of(config: Config, known: Known, now: datetime) -> Scope:
    """What is covered as far as is known without asking."""
    if not config.discovers:
        return Scope(config.views, config.views)
    return effective_views(config.views, known.seen, known.traffic, bounds_of(config), now)


def scope_as_known(connection: Connection, config: Config, now: datetime) -> Scope:
    """The same, by what the tables know at this moment."""
    known = read_known(connection, config.source, now) if config.discovers else Known()
    return scope_of(config, known, now)


def with_scope(config: Config, scope: Scope) -> Config:
    """The same configuration with the views spelt out."""
    return replace(config, views=scope.views) if config.discovers else config


# --- asked --------------------------------------------------------------------------------


def asked_scope(
    config: Config,
    database: Database | None,
    *,
    stop: threading.Event,
    guard: Callable[[Connection], None] | None = None,
    codes: Counter[str] | None = None,
) -> Scope:
    """What is covered, with views discovered anew when that is due. Only with `guard`, which
    begins a transaction of the run, is anything stored. `codes` counts the requests.

    Raises `EtlError` when no view is known at all.
    """
    if not config.discovers:
        return Scope(config.views, config.views)
    known, now, notes = known_of(config, database), datetime.now(UTC), list[str]()
    if is_due(known.discovered_at, config.discover_every_s, now):
        try:
            found = _discover(config, stop, codes)
        except DatadogError as error:
            notes.append(f"no views were discovered: {error}")
        else:
            if database and guard:
                _keep(config.source, database, guard, found, now)
            known = known.and_found(found.traffic)
            notes += found.warnings
    scope = scope_of(config, known, now)
    if not scope.views and not stop.is_set():
        reason = "; ".join(notes) or "RUM counted none within [discover] in 30 days"
        raise EtlError(f'views = "discover", but no view is known: {reason}')
    return msgspec.structs.replace(scope, notes=(*notes, *scope.notes))


def _discover(config: Config, stop: threading.Event, codes: Counter[str] | None) -> Discovery:
    with Datadog(config, require_keys(config), stop=stop, codes=codes) as client:
        return discover(client)


def _keep(
    source: str,
    database: Database,
    guard: Callable[[Connection], None],
    found: Discovery,
    now: datetime,
) -> None:
    def save(connection: Connection) -> None:
        guard(connection)
        save_discovery(connection, source, found, now)

    database.transaction(save)
