"""`sync`: one run, or with --plan what it would write."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from etl.cli.options import PATH, TEXT, GlobalOptions, global_options, load_sources
from etl.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

STARTED_BY = "HEATMAP_ETL_STARTED_BY"


@click.command(
    epilog="""\b
Exit codes:
  0        every view was read
  1        a view failed or is truncated, the others are stored; or the run hung and was ended
  2        usage, configuration, keys, database, schema or a wrong clock: no snapshot row written
  75       another process works on this source
  130 143  ended by SIGINT, SIGTERM

\b
Examples:
  heatmap-etl sync
  heatmap-etl sync --plan --view /home
  heatmap-etl sync --quiet --config /etc/heatmap-etl/heatmap-etl.toml      (for cron)

\b
In a crontab, a timer or a CronJob set HEATMAP_ETL_STARTED_BY=cron. Then status shows
that cron started the run. Without it the run counts as manual."""
)
@click.option(
    "--view", "views", type=TEXT, multiple=True, metavar="NAME", help="Only this view; repeatable."
)
@click.option("--plan", is_flag=True, help="Only show what a run would write; exit code 0.")
@click.option("--full", is_flag=True, help="Decode and compare unchanged answers too.")
@click.option("--accept-removals", is_flag=True, help="Hold no removal, however many there are.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print one JSON object; with --plan it has every row. An error that stops the run is only "
    "on stderr and in the exit code.",
)
@click.option("--quiet", is_flag=True, help="Print only what is wrong, a line per cause.")
@click.option(
    "--metrics-file",
    type=PATH,
    metavar="PATH",
    help="Write metrics for Prometheus to this file, for the node exporter. Counters continue.",
)
@global_options
@click.pass_obj
def sync(
    options: GlobalOptions,
    *,
    views: tuple[str, ...],
    plan: bool,
    full: bool,
    accept_removals: bool,
    as_json: bool,
    quiet: bool,
    metrics_file: Path | None,
) -> int:
    """Read the configured views once and store what changed."""
    if plan and quiet:
        raise click.UsageError("--plan prints what a run would do, --quiet prints nothing; use one")
    if plan and metrics_file:
        raise click.UsageError("--plan runs nothing, --metrics-file counts runs; use one")
    from etl.runtime.signals import stop_on_signals

    with stop_on_signals() as signals:
        sources = load_sources(options, "ERROR" if quiet else "WARNING")
        import logging

        for warning in sources.warnings:
            logging.getLogger(__name__).warning("%s", warning)
        from etl.cli.commands.sync_sources import Output, plan_sources, sync_sources
        from etl.pipeline.run import Options

        run_options = Options(views, full, accept_removals, _started_by(os.environ))
        if plan:
            return plan_sources(sources, run_options, signals, as_json=as_json)
        return sync_sources(sources, run_options, signals, Output(as_json, quiet, metrics_file))


def _started_by(environ: Mapping[str, str]) -> str:
    """Who started the run, as the scheduler says; not guessed: a person may have no terminal.

    Raises ConfigError. It is not read from `.env`: a run by hand reads the same file.
    """
    value = environ.get(STARTED_BY) or "manual"
    if value not in ("cron", "manual"):
        from etl.config.validators import plain

        raise ConfigError([f"{STARTED_BY}: expected cron or manual, found {plain(value)}"])
    return value
