"""Runs or plans every source for `sync`, and prints the results together."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from etl.causes import NAMES_SHOWN
from etl.cli.fan_out import (
    CommandResult,
    OutputStyle,
    code_of_runs,
    print_outcomes,
    run_for_each,
)
from etl.cli.output.run import complaints, lines_of_all_sources, refusal, run_lines
from etl.cli.progress import Progress
from etl.config.model import Config, Sources
from etl.database.connection import opened
from etl.errors import ConfigError, EtlError
from etl.ledger.results import CONTRACT, RunResult, exit_code
from etl.monitor.metrics_file import metrics_path, write_metrics
from etl.pipeline.notify import Heartbeat, begin_heartbeat, log_concerns, log_run
from etl.pipeline.run import Options
from etl.pipeline.select_views import expected_views
from etl.pipeline.sync import sync
from etl.runtime.signals import StopSignal

if TYPE_CHECKING:
    from etl.pipeline.plan import ViewPlan

log = logging.getLogger(__name__)


class Output(msgspec.Struct, frozen=True):
    """How a run is reported."""

    as_json: bool = False
    is_quiet: bool = False
    metrics_file: Path | None = None


def sync_sources(sources: Sources, options: Options, signals: StopSignal, output: Output) -> int:
    """Run every source that has a chosen view, and print all results; returns the exit code."""
    sources = _with_views(sources, options.views)
    total = _view_count(sources, options.views)
    metrics_file = output.metrics_file and metrics_path(sources, output.metrics_file)
    runs: list[RunResult] = []
    heartbeats: list[Heartbeat] = []

    def on_end(run: RunResult) -> None:
        runs.append(run)
        if log.isEnabledFor(logging.INFO):  # at other levels the printed result is enough
            log_run(run)
        else:
            log_concerns(run)

    def sync_one(config: Config) -> CommandResult:
        def show(run: RunResult) -> None:
            progress.show(config.source, len(run.views), run.total("listed"), run.total("requests"))

        with opened(config) as database:
            run = sync(
                config,
                database,
                _source_options(config, options, sources),
                stop=signals.stop,
                progress=show if progress.is_shown else None,
                on_end=on_end,
            )
        # The heartbeat means that the whole source was read; --view reads a part of it.
        if not options.views and (heartbeat := begin_heartbeat(config, run)):
            heartbeats.append(heartbeat)
        return _result(run, database.label, is_quiet=output.is_quiet)

    try:
        with Progress(total, is_wanted=not (output.as_json or output.is_quiet)) as progress:
            outcomes = run_for_each(sources, sync_one)
    finally:
        if metrics_file:
            write_metrics(metrics_file, sources, runs)
    for heartbeat in heartbeats:
        heartbeat.wait()
    results = [outcome.result for outcome in outcomes]
    closing: Sequence[str] = ()
    if sources.is_folder and any(result and result.lines for result in results):
        closing = lines_of_all_sources([result.as_json if result else None for result in results])
    style = _style(sources, as_json=output.as_json, is_quiet=output.is_quiet)
    code = print_outcomes(outcomes, style, closing)
    signals.raise_if_set()
    return code


def _result(run: RunResult, database: str, *, is_quiet: bool) -> CommandResult:
    code = exit_code(run)
    if code == 2 and run.status != "stopped":
        return CommandResult(code, as_json=run.as_json(), problems=[refusal(run)])
    if is_quiet:
        return CommandResult(code, as_json=run.as_json(), complaints=complaints(run))
    return CommandResult(code, run_lines(run, database, run.planned), run.as_json())


def plan_sources(sources: Sources, options: Options, signals: StopSignal, *, as_json: bool) -> int:
    """Print what a run would do to every source that has a chosen view; returns the exit code."""
    from etl.cli.output.plan import plan_json, plan_lines
    from etl.pipeline.plan import make_plan

    sources = _with_views(sources, options.views)
    total = _view_count(sources, options.views)

    def plan_one(config: Config) -> CommandResult:
        def show(plans: list[ViewPlan]) -> None:
            progress.show(config.source, len(plans), sum(plan.listed for plan in plans))

        chosen = _source_options(config, options, sources)
        with opened(config) as database:
            plans = make_plan(config, database, chosen, stop=signals.stop, progress=show)
        lines = plan_lines(plans, database.label)
        return CommandResult(0, lines, plan_json(config.source, plans))

    with Progress(total, is_wanted=not as_json) as progress:
        outcomes = run_for_each(sources, plan_one)
    signals.raise_if_set()
    return print_outcomes(outcomes, _style(sources, as_json=as_json))


def _style(sources: Sources, *, as_json: bool, is_quiet: bool = False) -> OutputStyle:
    return OutputStyle(
        sources.is_folder,
        as_json,
        lines_of_a_cause=1 if is_quiet else NAMES_SHOWN,
        common_code=code_of_runs,
        json_without_result=_json_without_run,
    )


def _json_without_run(config: Config) -> dict[str, Any]:
    """The object of a source whose run could not start."""
    return {
        "contract": CONTRACT,
        "run_id": None,
        "source": config.source,
        "status": "failed",
        "started_at": None,
        "finished_at": None,
        "views": [],
    }


# --- the chosen views ---------------------------------------------------------------------


def _with_views(sources: Sources, names: Sequence[str]) -> Sources:
    """The sources that have a view of these names; raises `ConfigError` for an unknown name.

    For a single file the run itself refuses unknown names.
    """
    if not sources.is_folder or not names:
        return sources
    unknown = [n for n in names if not any(_has_view(config, n) for config in sources.configs)]
    if unknown:
        raise ConfigError([f'--view "{name}" is not a view of any source' for name in unknown])
    chosen = [
        config for config in sources.configs if any(_has_view(config, name) for name in names)
    ]
    return sources._replace(configs=tuple(chosen))


def _source_options(config: Config, options: Options, sources: Sources) -> Options:
    """In a folder each source gets only the names that it has."""
    if not sources.is_folder:
        return options
    return replace(options, views=[name for name in options.views if _has_view(config, name)])


def _has_view(config: Config, name: str) -> bool:
    try:
        return any(view.name == name for view in expected_views(config))
    except EtlError:  # its own run reports it, and the other sources go on
        return True


def _view_count(sources: Sources, names: Sequence[str]) -> int:
    views = [view for config in sources.configs for view in expected_views(config)]
    return sum(not names or view.name in names for view in views)
