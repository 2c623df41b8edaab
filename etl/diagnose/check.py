"""Does everything hold? Configuration, database, keys, and one real request per view.

Writes nothing, and goes on after a point that fails: a person sees all at once.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, text

from etl.config.load import Config, View
from etl.database.connection import (
    Database,
    found_schema,
    network_file_system,
    open_database,
    require_schema,
)
from etl.datadog.client import Datadog
from etl.errors import DatadogAuthError, EtlError, SchemaMismatch, SourceMismatch
from etl.extract.completeness import TRUNCATED
from etl.extract.fetch import Failed
from etl.extract.listing import ApiState, Listing
from etl.formatting import many, shortened
from etl.pipeline.run import open_judge
from etl.pipeline.select_views import Scope, asked_scope, usable_database, with_scope
from etl.source.identity import require_label
from etl.source.privacy_setting import standing

OK, WARNING, PROBLEM = "ok", "warning", "PROBLEM"
_RUNS_A_DAY = 24


@dataclass(frozen=True, slots=True)
class Point:
    """One thing that holds or not; `text` says what to do. `view` is set for a view's listing."""

    about: str
    verdict: str
    text: str
    view: View | None = None
    is_failed: bool = False  # the view gave no answer
    listed: int = 0  # records of the view


def check(
    config: Config,
    *,
    stop: threading.Event,
    progress: Callable[[int, int], None] = lambda _views, _records: None,
) -> list[Point]:
    """Every point, in the order in which a person would mend them."""
    points = [_configuration(config)]
    points += [Point("configuration", WARNING, warning) for warning in config.warnings]
    points += _database(config)
    if not config.discovers or config.keys is None:
        return points + list(_datadog(config, stop, progress))
    try:
        with usable_database(config) as (database, _):
            scope = asked_scope(config, database, stop=stop)
    except EtlError as error:
        return [*points, Point("views", PROBLEM, str(error))]
    points += _discovered(scope)
    return points + list(_datadog(with_scope(config, scope), stop, progress))


def _discovered(scope: Scope) -> Iterator[Point]:
    said = f'"discover" means {many(len(scope.views), "view")} now'
    if scope.asked_daily:
        said += f", of which {len(scope.asked_daily):,} are asked once a day: no snapshot so far"
    yield Point("views", OK, said)
    yield from (Point("views", WARNING, note) for note in scope.notes)


def listed_by_view(points: Sequence[Point]) -> list[tuple[View, int]]:
    """How many records each view has; -1: it failed."""
    return [(p.view, -1 if p.is_failed else p.listed) for p in points if p.view]


def exit_code(points: Sequence[Point]) -> int:
    """0 all holds, 1 some views do not, 2 something must be mended before a run makes sense."""
    views = [point for point in points if point.view]
    if any(point.verdict == PROBLEM and not point.view for point in points):
        return 2
    if views and all(point.is_failed for point in views):
        return 2
    return 1 if any(point.verdict == PROBLEM for point in views) else 0


def _configuration(config: Config) -> Point:
    where = str(config.path) if config.path else "environment only"
    views = "views by discovery" if config.discovers else many(len(config.views), "view")
    return Point("configuration", OK, f"{where}: {views}, source {config.source}")


# --- database -----------------------------------------------------------------------------


def _database(config: Config) -> Iterator[Point]:
    database = None
    try:
        database = open_database(
            config.database_url, label=config.database_label, schema_name=config.database_schema
        )
        is_usable = True
        for point in _database_points(database):
            is_usable &= point.verdict != PROBLEM
            yield point
        if is_usable:
            yield from _privacy(config, database)
            yield from _label(config, database)
    except SchemaMismatch as error:
        yield Point("schema", PROBLEM, str(error))
    except EtlError as error:
        yield Point("database", PROBLEM, str(error))
    finally:
        if database:
            database.close()


def _database_points(database: Database) -> Iterator[Point]:
    file = database.engine.url.database
    if database.family == "sqlite" and file:
        points = list(_file_points(database.label, Path(file)))
        yield from points
        if any(point.verdict == PROBLEM for point in points):
            return
    state = found_schema(database)  # raises before anything good is said of a server
    if database.family != "sqlite":
        is_read_only = database.read(_is_read_only)
        advice = ": it is read-only; use its primary server, or another user" * is_read_only
        yield Point("database", PROBLEM if is_read_only else OK, database.label + advice)
    if state.state == "absent":
        yield Point("schema", OK, "not there yet; the first sync creates it")
        return
    require_schema(database)
    yield Point("schema", OK, f"current, revision {state.revision}")


def _privacy(config: Config, database: Database) -> Iterator[Point]:
    if found_schema(database).state != "current":
        return
    found = database.read(lambda connection: standing(connection, config))
    text = found.problem or f"created_by: {found.configured}"
    yield Point("privacy", PROBLEM if found.problem else OK, text)


def _label(config: Config, database: Database) -> Iterator[Point]:
    if found_schema(database).state != "current":
        return
    try:
        database.read(lambda connection: require_label(connection, config))
    except SourceMismatch as error:
        yield Point("source", PROBLEM, str(error))


def _file_points(label: str, file: Path) -> Iterator[Point]:
    folder = file.parent
    if not folder.is_dir():
        yield Point("database", PROBLEM, f"{label}: the folder {folder} does not exist; make it")
    elif not os.access(folder, os.W_OK) or (file.exists() and not os.access(file, os.W_OK)):
        advice = "let the user who runs heatmap-etl write the file and its folder"
        yield Point("database", PROBLEM, f"{label} cannot be written; {advice}")
    else:
        yield Point("database", OK, label + ("" if file.exists() else ", not there yet"))
    if kind := network_file_system(folder):
        advice = "SQLite's locks fail there; use a local disk, or a database server"
        yield Point("database", WARNING, f"{folder} is a network file system ({kind}): {advice}")


def _is_read_only(connection: Connection) -> bool:
    name = connection.dialect.name
    asked = "current_setting('transaction_read_only') = 'on'"
    asked = asked if name == "postgresql" else "@@global.read_only"
    return bool(connection.execute(text(f"SELECT {asked}")).scalar())


# --- Datadog ------------------------------------------------------------------------------


def _datadog(
    config: Config, stop: threading.Event, progress: Callable[[int, int], None]
) -> Iterator[Point]:
    if config.keys is None:
        yield Point("keys", PROBLEM, f"{config.keys_problem}. No view was asked for.")
        yield _requests(config, [])
        return
    try:
        results = list(_ask(config, stop, progress))
    except EtlError as error:
        yield Point("keys", PROBLEM, str(error))
        return
    refused = [
        r.error for r in results if isinstance(r, Failed) and isinstance(r.error, DatadogAuthError)
    ]
    if refused and len(refused) == len(results):
        about = f"view {results[0].view.label}: "
        yield Point("keys", PROBLEM, str(refused[0]).removeprefix(about))
        return
    listings = [r for r in results if isinstance(r, Listing)]
    if listings:
        yield Point("keys", OK, f"accepted by {config.api_url}")
    yield _requests(config, listings)
    order = {view: number for number, view in enumerate(config.views)}
    yield from map(_view, sorted(results, key=lambda r: order[r.view]))


def _ask(
    config: Config, stop: threading.Event, progress: Callable[[int, int], None]
) -> Iterator[Listing | Failed]:
    views = records = 0
    if config.keys is None:
        return
    with (
        Datadog(config, config.keys, stop=stop) as client,
        open_judge(client, config, ApiState(), stop) as judge,
    ):
        for group in judge.results(config.views):
            # Their room is wanted by the views that follow.
            group[:] = [r.without_records() if isinstance(r, Listing) else r for r in group]
            yield from group
            views += len(group)
            records += sum(_listed(r) for r in group if isinstance(r, Listing))
            progress(views, records)


def _requests(config: Config, listings: Sequence[Listing]) -> Point:
    views = len(config.views)
    requests = max(views, sum(listing.requests for listing in listings))
    said = f"{views:,} views: {requests:,} requests a run, {_RUNS_A_DAY * requests:,} a day, hourly"
    limits = [item for item in listings if item.rate_limit_remaining is not None]
    if not limits:
        return Point("requests", OK, said)
    least = min(limits, key=lambda item: item.rate_limit_remaining or 0)
    name = least.rate_limit_name or "without a name"
    said += f"; rate limit {name}: {least.rate_limit_remaining:,} left"
    is_tight = (least.rate_limit_remaining or 0) < requests
    advice = ", so a run has to wait for it; fewer views, or a higher limit, make it faster"
    return Point("requests", WARNING if is_tight else OK, said + advice * is_tight)


def _view(result: Listing | Failed) -> Point:
    about = f"view {shortened(result.view.label)}"
    if isinstance(result, Failed):
        text = str(result.error).removeprefix(f"view {result.view.label}: ")
        return Point(about, PROBLEM, text, result.view, is_failed=True)
    said = f"{result.verdict}, {_listed(result):,} listed"
    if result.verdict == TRUNCATED:
        said += ": there may be more; narrow it down by device_type or application_id"
        verdict = WARNING if result.view.accept_truncated else PROBLEM
        return Point(about, verdict, said, result.view, listed=result.listed)
    if not _listed(result):
        said += ": is the name spelt exactly as RUM shows it?"
        return Point(about, WARNING, said, result.view)
    return Point(about, OK, said, result.view, listed=result.listed)


def _listed(listing: Listing) -> int:
    return listing.listed
