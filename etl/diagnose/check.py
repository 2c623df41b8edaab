"""Checks configuration, database, keys, and one real request for each view.

Writes nothing, and goes on after a failure, so that a person sees all problems at once. A database
or an API that does not answer ends no later than after `HASTY_WAIT_S`, whatever is configured.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Connection

from etl.config.credentials import LIST_PERMISSION, PERMISSIONS, RUM_PERMISSION
from etl.config.model import Config, require_keys
from etl.config.output_file import files_of_sqlite
from etl.config.validators import plain
from etl.config.views import View
from etl.database.connection import Database, open_database
from etl.database.dialects import CHECK_ADDRESS, LET_WRITE, READ_ONLY, file_of
from etl.database.migrations import found_schema, opened_if_current, require_schema
from etl.datadog.client import Client
from etl.datadog.responses import host_of
from etl.datadog.server_clock import ServerClock, skew_warning
from etl.datadog.wire.proxy import find_proxy
from etl.diagnose.background import Background
from etl.diagnose.self_test import Busy, create_refusal, find_faults
from etl.errors import (
    ConfigError,
    DatadogAuthError,
    EtlError,
    SchemaMismatch,
    SourceMismatch,
)
from etl.extract.api_state import ApiState
from etl.extract.completeness import COMPLETE, TRUNCATED
from etl.extract.fetch import HASTY_WAIT_S, Failed, Result, was_answered
from etl.extract.listing import Listing
from etl.formatting import LARGEST_SKEW_S, many, shortened
from etl.ledger.concerns import Concern, causes_of
from etl.ledger.evidence import read_concerns
from etl.pipeline.read_views import open_verifier, read_and_load, stored_in
from etl.pipeline.select_views import ViewSelection, select_stored, select_views, with_views
from etl.pipeline.side_questions import SideQuestions
from etl.source.identity import require_label
from etl.source.privacy_setting import read_privacy

OK, WARNING, PROBLEM = "ok", "warning", "PROBLEM"
DATABASE_WAIT_S = 12.0
"""Seconds in which the database has answered. Its drivers give up a connection after ten."""
_DATABASE_FIRST_S = 2.0
"""Seconds after which Datadog is asked though the database has not answered yet."""
_RUNS_A_DAY = 24
_PERMISSIONS = (
    f"listing needs {LIST_PERMISSION} (probably), discovery and names of applications need "
    f"{RUM_PERMISSION}"
)


@dataclass(frozen=True, slots=True)
class Point:
    """The verdict on one thing; `text` says what to do. `view` is set for a view's listing."""

    about: str
    verdict: str
    text: str
    view: View | None = None
    is_failed: bool = False  # the view could not be read
    listed: int = 0  # records of the view


def find_points(
    config: Config,
    *,
    stop: threading.Event,
    progress: Callable[[int, int], None] = lambda _views, _records: None,
    show: Callable[[Point], None] = lambda _point: None,
) -> list[Point]:
    """Every point, in the order in which a person would fix them.

    `show` is called with each as soon as it is known. When stopped, it ends with those so far.
    """
    points = []
    for point in _points(config, stop, progress):
        points.append(point)
        show(point)
    return points


def _points(
    config: Config, stop: threading.Event, progress: Callable[[int, int], None]
) -> Iterator[Point]:
    yield _configuration(config)
    yield from (Point("configuration", WARNING, warning) for warning in config.warnings)
    clock = ServerClock()
    # In a thread: a driver may wait without end, and notices no signal.
    database = Background(_database(config), stop)
    is_usable = True
    # What views were discovered is known to the database only.
    first_s = DATABASE_WAIT_S if config.discovers else _DATABASE_FIRST_S
    for point in database.taken_within(first_s):
        is_usable &= point.verdict != PROBLEM
        yield point
    if not stop.is_set():
        side_questions = SideQuestions(stop, server_clock=clock)  # also what runs leave alone
        # A wrong clock ends a run, but is only one point here.
        asked = replace(config, accept_wrong_clock=True)
        can_ask = is_usable and database.is_over
        asked_points = _views(asked, side_questions, stop, progress, is_usable=can_ask)
        yield from _with_clock(asked_points, clock, config)
    yield from database.taken_within(DATABASE_WAIT_S)
    if not database.is_over and not stop.is_set():
        yield Point("database", PROBLEM, _no_answer(config))


def _no_answer(config: Config) -> str:
    """What is said of a database that does not answer."""
    text = f"{config.database_label}: no answer within {DATABASE_WAIT_S:g} s"
    if file_of(config.database_url):
        return f"{text}; another program keeps it locked, or its disk does not answer"
    return f"{text}; {CHECK_ADDRESS}"


def _views(
    config: Config,
    side_questions: SideQuestions,
    stop: threading.Event,
    progress: Callable[[int, int], None],
    *,
    is_usable: bool,
) -> Iterator[Point]:
    """What Datadog says. `is_usable`: whether the database may be asked for discovered views."""
    if config.discovers and config.keys is not None:
        hasty = replace(_hasty(config), max_wait_s=min(HASTY_WAIT_S, config.max_wait_s))
        try:
            with ExitStack() as stack:
                database = None
                if is_usable:
                    database, _ = stack.enter_context(opened_if_current(config))
                selection = select_views(hasty, database, stop=stop, side_questions=side_questions)
        except EtlError as error:
            yield Point("views", PROBLEM, str(error))
            return
        yield from _discovered(selection)
        config = with_views(config, selection)
    yield from _datadog(config, side_questions, stop, progress)


def _with_clock(points: Iterator[Point], clock: ServerClock, config: Config) -> Iterator[Point]:
    """The points, and before the first that an answer has given what that says of the clock."""
    is_told = False
    for point in points:
        if clock.skew_s is not None and not is_told:
            yield from clock_points(clock, config)
            is_told = True
        yield point


def clock_points(clock: ServerClock, config: Config) -> Iterator[Point]:
    """How far this machine's clock is from Datadog's; none where no answer shows it."""
    skew_s, host = clock.skew_s, host_of(config.api_url)
    if skew_s is None:
        return
    if not (warning := skew_warning(skew_s, host)):
        yield Point("clock", OK, f"within {max(1.0, abs(skew_s)):.0f} s of that of {host}")
    elif skew_s <= LARGEST_SKEW_S or config.accept_wrong_clock:
        yield Point("clock", WARNING, warning)
    else:
        advice = "until then sync stores nothing, unless datadog.accept_wrong_clock = true"
        yield Point("clock", PROBLEM, f"{warning}; {advice}")


def _discovered(selection: ViewSelection) -> Iterator[Point]:
    text = f'"discover" means {many(len(selection.views), "view")} now'
    if daily := len(selection.asked_daily):
        text += f", of which {daily:,} are asked once a day: no snapshot so far"
    yield Point("views", OK, text)
    yield from (Point("views", WARNING, note) for note in selection.notes)


def listed_by_view(points: Sequence[Point]) -> list[tuple[View, int]]:
    """How many records each view has; -1 where it could not be read."""
    return [(p.view, -1 if p.is_failed else p.listed) for p in points if p.view]


def exit_code(points: Sequence[Point]) -> int:
    """0 all holds, 1 some views do not, 2 something must be fixed before a run makes sense."""
    views = [point for point in points if point.view]
    if any(point.verdict == PROBLEM and not point.view for point in points):
        return 2
    if views and all(point.is_failed for point in views):
        return 2
    return 1 if any(point.verdict == PROBLEM for point in views) else 0


def _configuration(config: Config) -> Point:
    origin = str(config.path) if config.path else "environment only"
    views = "views by discovery" if config.discovers else many(len(config.views), "view")
    return Point("configuration", OK, f"{origin}: {views}, source {config.source}")


# --- database -----------------------------------------------------------------------------


def _database(config: Config) -> Iterator[Point]:
    database = None
    try:
        database = open_database(
            config.database_url,
            label=config.database_label,
            schema_name=config.database_schema,
            file_mode=config.files_mode,
        )
        is_usable = True
        for point in _database_points(database, config.files_mode):
            is_usable &= point.verdict != PROBLEM
            yield point
        state = found_schema(database).state if is_usable else ""
        if state == "current":
            yield _privacy(config, database)
            yield from _label(config, database)
            yield from _writing(config, database, has_tables=True)
            yield from _concerns(config, database)
        elif state == "absent" and not database.file:
            yield from _writing(config, database, has_tables=False)
    except SchemaMismatch as error:
        yield Point("schema", PROBLEM, str(error))
    except EtlError as error:
        yield Point("database", PROBLEM, str(error))
    finally:
        if database:
            database.close()


def _database_points(database: Database, files_mode: int) -> Iterator[Point]:
    if database.file:
        points = list(_file_points(database.label, database.file))
        points += _open_to_others(database.file, files_mode)
        yield from points
        if any(point.verdict == PROBLEM for point in points):
            return
    state = found_schema(database)  # raises before a server is called ok
    if not database.file:
        is_read_only = database.read(database.dialect.is_read_only)
        advice = f": {READ_ONLY}" * is_read_only
        yield Point("database", PROBLEM if is_read_only else OK, database.label + advice)
    if state.state == "absent":
        if refusal := create_refusal(database):
            yield Point("schema", PROBLEM, f"not there yet, and {refusal}")
        else:
            yield Point("schema", OK, "not there yet; the first sync creates it")
        return
    require_schema(database)
    yield Point("schema", OK, f"current, revision {state.revision}")


def _privacy(config: Config, database: Database) -> Point:
    privacy = database.read(lambda connection: read_privacy(connection, config))
    text = privacy.problem or f"created_by: {privacy.configured}"
    return Point("privacy", PROBLEM if privacy.problem else OK, text)


def _label(config: Config, database: Database) -> Iterator[Point]:
    try:
        database.read(lambda connection: require_label(connection, config))
    except SourceMismatch as error:
        yield Point("source", PROBLEM, str(error))


def _writing(config: Config, database: Database, *, has_tables: bool) -> Iterator[Point]:
    try:
        faults = find_faults(database, config, has_tables=has_tables)
    except Busy:
        yield Point("writing", OK, "a run is under way; writing was not tried")
        return
    yield from (Point("writing", PROBLEM, str(fault)) for fault in faults)
    if has_tables and not faults:
        yield Point("writing", OK, "a test write was rolled back: a run can store what it reads")


def _concerns(config: Config, database: Database) -> Iterator[Point]:
    """What waits for a person in the tables; no reason not to run."""
    now = datetime.now(UTC)

    def read(connection: Connection) -> tuple[Concern, ...]:
        views = select_stored(connection, config, now).views
        return read_concerns(connection, config.source, views, now)

    yield from (Point(kind, WARNING, line) for kind, line in causes_of(database.read(read)))


def _file_points(label: str, file: Path) -> Iterator[Point]:
    from etl.database.dialects.sqlite import network_file_system  # no other database is a file

    folder = file.parent
    if not folder.is_dir():
        yield Point("database", PROBLEM, f"{label}: the folder {folder} does not exist; make it")
    elif not os.access(folder, os.W_OK) or (file.exists() and not os.access(file, os.W_OK)):
        yield Point("database", PROBLEM, f"{label} cannot be written; {LET_WRITE}")
    else:
        yield Point("database", OK, label + ("" if file.exists() else ", not there yet"))
    if kind := network_file_system(folder):
        advice = "SQLite's locks fail there; use a local disk, or a database server"
        yield Point("database", WARNING, f"{folder} is a network file system ({kind}): {advice}")


def _open_to_others(file: Path, files_mode: int) -> Iterator[Point]:
    """What others may do with the file and those next to it, though no setting lets them."""
    for beside in files_of_sqlite(file):
        with contextlib.suppress(OSError):  # it is not there
            mode = stat.S_IMODE(beside.stat().st_mode)
            if mode & 0o007 & ~files_mode:
                problem = f"{plain(beside)} can be read by others (mode {mode:04o})"
                advice = f"run: chmod o-rwx {plain(beside)}"
                yield Point("database", WARNING, f"{problem}, and so can persons in it; {advice}")


# --- Datadog ------------------------------------------------------------------------------


def _datadog(
    config: Config,
    side_questions: SideQuestions,
    stop: threading.Event,
    progress: Callable[[int, int], None],
) -> Iterator[Point]:
    if config.keys is None:
        text = f"{config.keys_problem}. No view was asked for. {' '.join(PERMISSIONS)}"
        yield Point("keys", PROBLEM, text)
        yield _requests(config, [])
        return
    try:
        proxy = find_proxy(config.api_url, os.environ)
    except ConfigError as error:
        yield Point("proxy", PROBLEM, f"{error}. No view was asked for.")
        return
    if proxy:
        yield Point("proxy", OK, f"requests go through {proxy.address} ({proxy.variable})")
    try:
        results = _read_views(config, stop, progress, side_questions)
    except EtlError as error:
        yield Point("keys", PROBLEM, str(error))
        return
    if stop.is_set():
        return
    listings = [r for r in results if isinstance(r, Listing)]
    failed = [r for r in results if isinstance(r, Failed)]
    if not listings and (common := _common_failure(config, failed)):
        yield common
        return
    if listings:
        yield Point("keys", OK, f"accepted by {config.api_url}; {_PERMISSIONS}")
    yield _requests(config, listings)
    order = {view: number for number, view in enumerate(config.views)}
    yield from map(_view, sorted(results, key=lambda r: order[r.view]))


class _ResultsOnly:
    """A loader that keeps the result of each view without its records, and writes nothing."""

    def __init__(self, progress: Callable[[int, int], None]) -> None:
        self.results: list[Result] = []
        self._progress = progress

    def load(self, results: Sequence[Result]) -> None:
        for result in results:
            if isinstance(result, Listing):
                result.records.close()  # frees their memory for the next views
        self.results += results
        self._progress(len(self.results), sum(map(_listed, self.results)))

    def load_deferred(self, _ask_organization: object) -> None:
        """Nothing was deferred."""


def _read_views(
    config: Config,
    stop: threading.Event,
    progress: Callable[[int, int], None],
    side_questions: SideQuestions | None = None,
) -> list[Result]:
    side = side_questions or SideQuestions(stop)
    sink, api_state, stored = _ResultsOnly(progress), ApiState(), stored_in(None, config.source)
    config = _hasty(config)
    with (
        Client(
            config,
            require_keys(config),
            stop=stop,
            validation=side.validation,
            server_clock=side.server_clock,
        ) as client,
        open_verifier(client, side, config, api_state, stop, stored, is_hasty=True) as verifier,
    ):
        read_and_load(client, side, verifier, config.views, sink)
    return sink.results


def _hasty(config: Config) -> Config:
    """The same with as much time for an answer as somebody has who waits for it."""
    return replace(config, timeout_s=min(HASTY_WAIT_S, config.timeout_s))


def _common_failure(config: Config, failed: Sequence[Failed]) -> Point | None:
    """The one point for views that all failed, where the cause is not theirs; else None."""
    asked = [f for f in failed if f.is_asked]
    if not asked:
        return None
    errors = [f.error for f in asked]
    # Where several views fail, an error of the server is not their own.
    is_common = len(asked) > 1 or errors[0].status is None
    if all(isinstance(error, DatadogAuthError) for error in errors):
        about = "keys"
    elif is_common and not any(was_answered(error) for error in errors):
        about = "Datadog"
    else:
        return None
    first = asked[0]
    text = str(first.error).removeprefix(f"view {first.view.label}: ")
    if others := len(failed) - len(asked):
        text += f"; {many(others, 'further view')} {'was' if others == 1 else 'were'} not asked"
    return Point(about, PROBLEM, text + _longer_wait(config, first))


def _longer_wait(config: Config, failed: Failed) -> str:
    """That a run waits longer, where that might help."""
    error = failed.error
    is_slow = "took too long" in str(error) or error.status == 429 or (error.status or 0) >= 500
    if not is_slow or max(config.timeout_s, config.max_wait_s) <= HASTY_WAIT_S:
        return ""
    return (
        f"; check waits {HASTY_WAIT_S:g} s, a run longer: timeout_s = {config.timeout_s:g},"
        f" max_wait_s = {config.max_wait_s:g}"
    )


def _requests(config: Config, listings: Sequence[Listing]) -> Point:
    views = len(config.views)
    requests = max(views, sum(listing.requests for listing in listings))
    text = f"{many(views, 'view')}: {many(requests, 'request')} a run, "
    text += f"{_RUNS_A_DAY * requests:,} a day when it runs hourly"
    limits = [item for item in listings if item.rate_limit_remaining is not None]
    if not limits:
        return Point("requests", OK, text)
    lowest = min(limits, key=lambda item: item.rate_limit_remaining or 0)
    name = lowest.rate_limit_name or "without a name"
    text += f"; rate limit {name}: {lowest.rate_limit_remaining:,} left"
    is_tight = (lowest.rate_limit_remaining or 0) < requests
    advice = ": a run must wait for it; fewer views or a higher limit make it faster"
    return Point("requests", WARNING if is_tight else OK, text + advice * is_tight)


def _view(result: Listing | Failed) -> Point:
    about = f"view {shortened(result.view.label)}"
    if isinstance(result, Failed):
        text = str(result.error).removeprefix(f"view {result.view.label}: ")
        return Point(about, PROBLEM, text, result.view, is_failed=True)
    text = f"{result.verdict}, {_listed(result):,} listed"
    if result.verdict != COMPLETE:
        text += f" ({result.reason})"
    if result.verdict == TRUNCATED:
        text += ": there may be more; narrow it down by device_type or application_id"
        verdict = WARNING if result.view.accept_truncated else PROBLEM
        return Point(about, verdict, text, result.view, listed=result.listed)
    if not _listed(result):
        text += ": is the name spelt exactly as RUM shows it?"
        return Point(about, WARNING, text, result.view)
    return Point(about, OK, text, result.view, listed=result.listed)


def _listed(result: Result) -> int:
    return result.listed if isinstance(result, Listing) else 0
