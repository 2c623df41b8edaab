"""Which views a run covers: those configured or, with `views = "discover"`, those known.

RUM is asked when that is due. A run stores the answer; a plan and a check only use it.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import msgspec
from sqlalchemy import Connection

from etl.config.model import Config, require_keys
from etl.config.views import View
from etl.database.connection import Database
from etl.database.migrations import found_schema, opened_if_current
from etl.datadog.client import Client
from etl.errors import DatadogError, DatadogUnavailable, EtlError
from etl.extract.discovery import Discovery, discover
from etl.extract.side_question import DISCOVERY
from etl.extract.view_selection import Bounds, is_due, select_names
from etl.formatting import clean, many, shortened
from etl.ledger.known_views import KnownViews, read_known_views
from etl.ledger.view_state import read_view_states
from etl.load.discovered import save_discovery
from etl.pipeline.side_questions import SideQuestions


class ViewSelection(msgspec.Struct, frozen=True):
    """`views`: all that are covered. `due`: those to be read now. `asked_daily`: those that are
    read once a day only, which are not always due. `notes`: warnings, for people.
    """

    views: tuple[View, ...]
    due: tuple[View, ...]
    notes: tuple[str, ...] = ()
    asked_daily: frozenset[View] = frozenset()

    @property
    def all_notes(self) -> list[str]:
        """The warnings, and how many views are not due."""
        not_due = len(self.views) - len(self.due)
        note = f"{many(not_due, 'view')} without any snapshot so far: asked once a day"
        return [*self.notes, *([note] if not_due else [])]


def bounds_of(config: Config) -> Bounds:
    """The bounds as configured."""
    return Bounds(config.discover_include, config.discover_exclude, config.discover_max_views)


def add_known_views(
    configured: Sequence[View], known: KnownViews, bounds: Bounds, now: datetime
) -> ViewSelection:
    """The configured views, and those whose names `select_names` adds."""
    names = [view.name for view in configured]
    added = select_names(names, known.read_before, known.traffic, bounds, now)
    views = (*configured, *map(View, added.names))
    notes = []
    if added.left_out:
        what = many(len(added.left_out), "discovered view")
        limit = f"discover.max_views = {bounds.max_views:,}"
        busiest = shortened(clean(added.left_out[0]))
        notes.append(f"{what} not added, beyond {limit}; the busiest is {busiest}")
    return ViewSelection(
        views=views,
        due=tuple(view for view in views if view.name not in added.not_due),
        notes=tuple(notes),
        asked_daily=frozenset(map(View, added.asked_daily)),
    )


def select_known(config: Config, known: KnownViews, now: datetime) -> ViewSelection:
    """The views covered by what is `known`; RUM is not asked."""
    if not config.discovers:
        return ViewSelection(config.views, config.views)
    return add_known_views(config.views, known, bounds_of(config), now)


def select_stored(connection: Connection, config: Config, now: datetime) -> ViewSelection:
    """The views covered by what the tables hold at this moment."""
    if not config.has_views:
        return select_watched(connection, config.source, now)
    if not config.discovers:
        return ViewSelection(config.views, config.views)
    return select_known(config, read_known_views(connection, config.source, now), now)


def select_watched(connection: Connection, source: str, now: datetime) -> ViewSelection:
    """The views that the last run had, for whoever has no configuration of it.

    The tables do not say which of them accept truncated answers, nor where a view was added that
    no run has tried yet.
    """
    known = read_known_views(connection, source, now)
    rows = [
        row for row in read_view_states(connection, source).values() if row.is_watched is not False
    ]
    views = sorted(
        (View(row.view_name, row.application_id, row.device_type) for row in rows),
        key=lambda view: view.label,
    )
    daily = {read.name for read in known.read_before if read.is_asked_daily}
    is_daily = known.discovered_at is not None  # views that are configured are always asked
    asked_daily = [v for v in views if is_daily and v == View(v.name) and v.name in daily]
    return ViewSelection(tuple(views), tuple(views), asked_daily=frozenset(asked_daily))


def expected_views(config: Config) -> tuple[View, ...]:
    """The views that a run would cover if RUM said nothing new. Raises `EtlError`."""
    if not config.discovers:
        return config.views
    with opened_if_current(config) as (database, _):
        now = datetime.now(UTC)
        return select_known(config, _known_views(config, database, now), now).views


def select_views(
    config: Config,
    database: Database | None,
    *,
    stop: threading.Event,
    side_questions: SideQuestions,
    guard: Callable[[Connection], None] | None = None,
    codes: Counter[str] | None = None,
) -> ViewSelection:
    """The views that are covered; RUM is asked for new ones when that is due.

    Where views are known already that is a side question. `guard` begins a transaction of the run;
    without it nothing is stored. `codes` counts the requests. Raises `EtlError` when no view is
    known at all.
    """
    if not config.discovers:
        return ViewSelection(config.views, config.views)
    now, notes = datetime.now(UTC), list[str]()
    known = _known_views(config, database, now)
    knows_views = bool(select_known(config, known, now).views)
    is_left_alone = knows_views and side_questions.is_left_alone(DISCOVERY)
    if is_due(known.discovered_at, config.discover_every_s, now) and not is_left_alone:
        try:
            with Client(
                config,
                require_keys(config),
                stop=stop,
                codes=codes,
                validation=side_questions.validation,
                server_clock=side_questions.server_clock,
            ) as client:
                discovery = discover(
                    client, side_questions.applications, is_side_question=knows_views
                )
        except DatadogError as error:
            notes.append(f"no views were discovered: {error}")
            if knows_views:
                side_questions.note_failure(DISCOVERY, error)
        else:
            if database and guard:
                _store(config.source, database, guard, discovery, now)
            known = known.with_traffic(discovery.traffic)
            notes += discovery.warnings
            if knows_views and discovery.is_cut_short:  # it would be again in each run
                cut = DatadogUnavailable("; ".join(discovery.warnings))
                side_questions.note_failure(DISCOVERY, cut)
    selection = select_known(config, known, now)
    if not selection.views and not stop.is_set():
        reason = "; ".join(notes) or "in 30 days RUM counted no page view that [discover] allows"
        raise EtlError(f'views = "discover", but no view is known: {reason}')
    return msgspec.structs.replace(selection, notes=(*notes, *selection.notes))


def _store(
    source: str,
    database: Database,
    guard: Callable[[Connection], None],
    discovery: Discovery,
    now: datetime,
) -> None:
    def save(connection: Connection) -> None:
        guard(connection)
        save_discovery(connection, source, discovery, now)

    database.transaction(save)


def _known_views(config: Config, database: Database | None, now: datetime) -> KnownViews:
    """What the tables hold; nothing when they are absent, or not as this program needs them."""
    if database is None or found_schema(database).state != "current":
        return KnownViews()
    return database.read(lambda connection: read_known_views(connection, config.source, now))


def with_views(config: Config, selection: ViewSelection) -> Config:
    """The same configuration with the views spelt out."""
    return replace(config, views=selection.views) if config.discovers else config
