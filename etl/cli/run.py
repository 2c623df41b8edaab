"""`sync` and `sync --plan`, of one source or of a folder: run them, then say what happened."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from etl.cli.fan_out import Outcome, Style, Told, gather, run_code, tell
from etl.cli.output import report
from etl.cli.progress import SharedProgress
from etl.config.model import Config, Sources
from etl.database.connection import opened
from etl.errors import ConfigError, EtlError
from etl.formatting import many
from etl.ledger.results import CONTRACT, RunResult, exit_code
from etl.monitor.metrics_file import metrics_path, write_metrics
from etl.pipeline.notify import log_run, ping
from etl.pipeline.run import Options
from etl.pipeline.select_views import expected_views
from etl.pipeline.sync import sync
from etl.runtime.signals import StopSignal

if TYPE_CHECKING:
    from etl.pipeline.plan import ViewPlan

log = logging.getLogger(__name__)


class How(msgspec.Struct, frozen=True):
    """What the command line asked for, beside the options of the run."""

    is_plan: bool = False
    as_json: bool = False
    is_quiet: bool = False
    metrics_file: Path | None = None


def run(sources: Sources, options: Options, how: How, signals: StopSignal) -> int:
    """Run every source that has one of the chosen views; the exit code."""
    chosen = _having(sources, options.views)
    planned = _planned(chosen, options.views)
    metrics_file = how.metrics_file and metrics_path(sources, how.metrics_file)
    ended: list[RunResult] = []
    try:
        with SharedProgress(planned, is_wanted=not (how.as_json or how.is_quiet)) as steps:
            work = _Work(chosen, options, how, signals, steps, ended)
            outcomes = gather(chosen, work.plan if how.is_plan else work.sync)
    finally:
        if metrics_file:
            write_metrics(metrics_file, sources, ended)
    if how.is_plan:
        signals.raise_if_set()
    style = Style(chosen.is_folder, how.as_json, worst=run_code, not_told=_no_run)
    has_closing = chosen.is_folder and not how.is_plan
    code = tell(outcomes, style, _closing(outcomes) if has_closing else ())
    signals.raise_if_set()
    return code


def _having(sources: Sources, names: Sequence[str]) -> Sources:
    """The sources that have a view of these names. For one file the run itself refuses names."""
    if not sources.is_folder or not names:
        return sources
    unknown = [n for n in names if not any(_has(config, n) for config in sources.configs)]
    if unknown:
        raise ConfigError([f'--view "{name}" is not a view of any source' for name in unknown])
    having = [config for config in sources.configs if any(_has(config, name) for name in names)]
    return sources._replace(configs=tuple(having))


def _has(config: Config, name: str) -> bool:
    try:
        return any(view.name == name for view in expected_views(config))
    except EtlError:  # its run will say so, and stops no other
        return True


class _Work(msgspec.Struct, frozen=True):
    """What is done for each source, in a thread of its own when there are several."""

    sources: Sources
    options: Options
    how: How
    signals: StopSignal
    steps: SharedProgress
    ended: list[RunResult]

    def sync(self, config: Config) -> Told:
        """One run."""
        options = self._options(config)

        def show(run: RunResult) -> None:
            self.steps.show(
                config.source, len(run.views), run.total("listed"), run.total("requests")
            )

        with opened(config) as database:
            run = sync(
                config,
                database,
                options,
                stop=self.signals.stop,
                progress=show if self.steps.is_shown else None,
                on_end=self._on_end,
            )
        # Some views alone are not what somebody waits for.
        if run.status == "ok" and config.heartbeat_url and not options.views:
            ping(config.heartbeat_url, config.source)
        return self._told(run, database.label)

    def _on_end(self, run: RunResult) -> None:
        self.ended.append(run)
        if log.isEnabledFor(logging.INFO):  # else what is printed would say it twice
            log_run(run)

    def _told(self, run: RunResult, database: str) -> Told:
        code = exit_code(run)
        if code == 2 and run.status != "stopped":
            return Told(code, as_json=run.as_json(), complaints=[report.refusal(run)])
        if self.how.is_quiet:
            return Told(code, as_json=run.as_json(), complaints=report.quiet_lines(run))
        return Told(code, report.run_lines(run, database, run.planned), run.as_json())

    def plan(self, config: Config) -> Told:
        """What a run would do."""
        from etl.pipeline.plan import make_plan

        options = self._options(config)

        def show(plans: list[ViewPlan]) -> None:
            self.steps.show(config.source, len(plans), sum(plan.listed for plan in plans))

        with opened(config) as database:
            plans = make_plan(config, database, options, stop=self.signals.stop, progress=show)
        lines = report.plan_lines(plans, database.label)
        return Told(0, lines, report.plan_json(config.source, plans))

    def _options(self, config: Config) -> Options:
        if not self.sources.is_folder:
            return self.options
        mine = [name for name in self.options.views if _has(config, name)]
        return replace(self.options, views=mine)


def _planned(sources: Sources, names: Sequence[str]) -> int:
    views = [view for config in sources.configs for view in expected_views(config)]
    return sum(not names or view.name in names for view in views)


def _closing(outcomes: Sequence[Outcome]) -> list[str]:
    """One line for all sources, when any has something to say."""
    if not any(outcome.told and outcome.told.lines for outcome in outcomes):
        return []
    ended = [o.told.as_json["status"] if o.told else "not run" for o in outcomes]
    kinds = ", ".join(f"{ended.count(kind)} {kind}" for kind in sorted(set(ended)))
    runs = [o.told.as_json["views"] for o in outcomes if o.told]
    views = [view for run in runs for view in run]
    names = ("listed", "new", "changed", "vanished", "returned", "requests")
    counts = ", ".join(f"{sum(view[name] for view in views):,} {name}" for name in names)
    return ["", f"{many(len(outcomes), 'source')}: {kinds}; {many(len(views), 'view')}: {counts}"]


def _no_run(config: Config) -> dict[str, Any]:
    """The object of a source that could not even start."""
    return {
        "contract": CONTRACT,
        "run_id": None,
        "source": config.source,
        "status": "failed",
        "started_at": None,
        "finished_at": None,
        "views": [],
    }
