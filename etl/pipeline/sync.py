"""One run: the whole way from Datadog to rows with a history.

`sync` is what cron, the scheduler and the tests call:

    prepare the schema | take the lease, open the run in the ledger
    | with `views = "discover"`: which views there are
    | ask for each configured view | decode | decide | load each view atomically
    | close the run, give the lease back

One bad view never stops a run, and what is stored stays. A bug is recorded as
a failed run, and raised.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from etl.config.load import Config, View, require_keys
from etl.database.connection import Database, found_schema, prepare_schema
from etl.errors import (
    ConfigError,
    DatadogAuthError,
    DatadogHostUnknown,
    EtlError,
    LeaseLost,
)
from etl.extract.completeness import FAILED
from etl.ledger import runs as ledger
from etl.ledger.runs import RunResult
from etl.load.diff import Brake, OtherViews
from etl.pipeline.run import Progress, Work
from etl.pipeline.select_views import select_views, with_views
from etl.runtime.run_context import work_for
from etl.runtime.signals import Branch
from etl.source.identity import require_label
from etl.source.lease import Lease
from etl.source.privacy_setting import PrivacyState, adopt_privacy

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    """What one run does differently. `views`: names; empty: all that are configured.

    `is_full`: no answer is skipped. `accepts_removals`: nothing is held. `slot_at`: the slot of
    the schedule that it fulfils, `missed_slots`: how many earlier ones it makes up for.
    """

    views: Sequence[str] = ()
    is_full: bool = False
    accepts_removals: bool = False
    started_by: str = "manual"
    slot_at: datetime | None = None
    missed_slots: int = 0
    job: str = ledger.JOB


def sync(
    config: Config,
    database: Database,
    options: Options,
    *,
    stop: threading.Event,
    progress: Progress | None = None,
    on_end: Progress | None = None,
) -> RunResult:
    """One run over the configured views; returns what the ledger holds of it.

    `on_end` is called with it once the ledger has it closed, also when this raises.
    Raises `EtlError` when nothing could be done at all: schema, lease, database,
    usage. Failures of views are part of the result.
    """
    stop = Branch(stop)  # a lost lease ends this run, and no other one
    views = () if config.discovers else chosen_views(config, options.views)
    if config.keys is None and found_schema(database).state != "current":
        require_keys(config)
    prepare_schema(database)
    run, lease = ledger.new_run(config.source), Lease(config.source, config.lease_s)
    work_for(source=run.source, run_id=run.run_id)
    run.job, run.started_by, run.planned = options.job, options.started_by, len(views)
    run.slot_at, run.missed_slots = options.slot_at, options.missed_slots

    def start(connection: Connection) -> PrivacyState:
        require_label(connection, config)
        lease.take(connection, config)
        ledger.start_run(connection, run)
        return adopt_privacy(connection, config)

    privacy = database.transaction(start)
    others = OtherViews(configured_keys(config), set(), brake=brake_of(config, options))
    work = Work(config, database, run, lease, others, stop, progress, on_end)
    lease.keep(database, on_loss=stop.set)
    try:
        privacy.require_same()
        if config.discovers:
            views = _discovered(work, options)
            run.planned = len(views)
        work.read_and_load(views, is_full=options.is_full)
        if exit_code(run) == 2:
            run.error = run.views[0].error
        run.status = "stopped" if stop.is_set() and not lease.is_lost else _status(run)
    except LeaseLost:
        raise
    except EtlError as error:
        run.error, run.status = str(error), "failed"
        if not _has_stored(run):
            raise
        run.status = "partial"
    except BaseException as bug:
        run.error, run.status = f"a bug: {type(bug).__name__}: {bug}", "failed"
        raise
    finally:
        work.finish(views)
    if lease.is_lost and not work.is_closed:
        raise LeaseLost(f"another process took the lease of {config.source} during the run")
    return run


def _discovered(work: Work, options: Options) -> tuple[View, ...]:
    """The views to ask with `views = "discover"`; from here on they count as configured."""
    scope = select_views(
        work.config,
        work.database,
        stop=work.stop,
        guard=work.lease.guard,
        codes=work.run.codes,
    )
    for note in scope.notes:
        log.warning("%s", note)
    work.run.notes = scope.all_notes
    work.config = with_views(work.config, scope)
    work.others.configured = configured_keys(work.config)
    return chosen_views(work.config, options.views) if options.views else scope.due


def chosen_views(config: Config, names: Sequence[str]) -> tuple[View, ...]:
    """The configured views of these names; all when there are none. Raises `ConfigError`."""
    known = {view.name for view in config.views}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigError([_unknown_view(name, known) for name in unknown])
    return tuple(view for view in config.views if not names or view.name in names)


def _unknown_view(name: str, known: set[str]) -> str:
    import difflib  # not before there is a mistake

    near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)
    hint = f'; did you mean "{near[0]}"?' if near else ""
    return f'--view "{name}" is not a configured view{hint}'


def brake_of(config: Config, options: Options) -> Brake:
    """When removals are held."""
    return Brake(config.hold_above, config.hold_min, is_off=options.accepts_removals)


def configured_keys(config: Config) -> frozenset[str]:
    """Keys of every configured view."""
    return frozenset(view.key(config.source) for view in config.views)


def _status(run: RunResult) -> str:
    if not any(view.is_bad for view in run.views):
        return "ok"
    return "partial" if _has_stored(run) else "failed"


def _has_stored(run: RunResult) -> bool:
    return any(view.verdict != FAILED for view in run.views)


def exit_code(run: RunResult) -> int:
    """0 all views read, 1 some failed or truncated, 2 no view could be: wrong keys or site."""
    classes = {view.error_class for view in run.views}
    if classes and classes <= {DatadogAuthError.__name__, DatadogHostUnknown.__name__}:
        return 2
    return 1 if run.error or any(view.is_bad for view in run.views) else 0
