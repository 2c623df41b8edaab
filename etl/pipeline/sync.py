"""One run: the whole way from Datadog to rows with a history.

`sync` is what cron, the scheduler and the tests call:

    prepare_schema                        database/migrations
    open_run: lease, ledger, outcome      pipeline/run      source/lease  ledger/runs
    in a thread that is watched           pipeline/watchdog pipeline/progress_bound
      select the views                    pipeline/select_views
      one loop over them                  pipeline/read_views
      ask for each view                   extract/fetch     datadog/client
        decode its answer                 transform/decode  transform/privacy
        verify what it proves             extract/verify    extract/completeness
      load it, or wait for other views    load/loader
        look up, decide, write            load/writer       load/decide

One bad view never stops a run, and what is stored stays. A bug is recorded as
a failed run, and raised.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from etl.config.model import Config, require_keys
from etl.config.views import View
from etl.database.connection import Database
from etl.database.migrations import found_schema, prepare_schema
from etl.errors import ConfigError
from etl.ledger.results import RunResult
from etl.pipeline.run import OnRun, Options, Run, open_run
from etl.pipeline.select_views import select_views, with_views
from etl.pipeline.watchdog import Watchdog
from etl.runtime.refusals import refusals_told
from etl.runtime.signals import ChildEvent

log = logging.getLogger(__name__)


def sync(
    config: Config,
    database: Database,
    options: Options,
    *,
    stop: threading.Event,
    progress: OnRun | None = None,
    on_end: OnRun | None = None,
    on_stuck: Callable[[str], None] | None = None,
) -> RunResult:
    """One run over the configured views; returns what the ledger holds of it.

    `on_end` is called with it once the ledger has it closed, also when this raises.
    Raises `EtlError` when nothing could be done at all: schema, lease, database,
    usage. Failures of views are part of the result. Raises `RunStuck` when the run made no
    progress and was ended; `on_stuck` is called with the reason before.
    """
    views = () if config.discovers else chosen_views(config, options.views)
    if config.keys is None and found_schema(database).state != "current":
        require_keys(config)
    prepare_schema(database)
    watchdog = Watchdog(config, on_stuck)

    def work() -> RunResult:
        opening = open_run(
            config,
            database,
            options,
            ChildEvent(stop),  # a lost lease ends this run, and no other one
            watchdog=watchdog,
            planned=len(views),
            progress=progress,
            on_end=on_end,
        )
        with opening as run, refusals_told():
            run.load(_discover(run, options) if config.discovers else views, options)
        return run.result

    return watchdog.guard(work)


def _discover(run: Run, options: Options) -> tuple[View, ...]:
    """The views to read with `views = "discover"`; from here on they count as configured."""
    selection = select_views(
        run.config,
        run.database,
        stop=run.stop,
        side_questions=run.side_questions,
        guard=run.lease.guard,
        codes=run.result.codes,
    )
    for note in selection.notes:
        log.warning("%s", note)
    run.result.notes = selection.all_notes
    run.config = with_views(run.config, selection)
    views = chosen_views(run.config, options.views) if options.views else selection.due
    run.result.planned = len(views)
    return views


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
