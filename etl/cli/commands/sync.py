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
  1        some view failed or is truncated, the others are stored; or the run hung, and was ended
  2        usage, configuration, keys refused, database or schema: no snapshot row was written
  75       another process works on this source
  130 143  ended by SIGINT, SIGTERM

\b
Examples:
  heatmap-etl sync
  heatmap-etl sync --plan --view /home
  17 * * * *  cd /etc/heatmap-etl && heatmap-etl sync --quiet      (crontab)

\b
In a crontab, a timer or a CronJob set HEATMAP_ETL_STARTED_BY=cron, which status
then shows of the run; without it a run is manual."""
)
@click.option(
    "--view", "views", type=TEXT, multiple=True, metavar="NAME", help="Only this one; repeatable."
)
@click.option("--plan", is_flag=True, help="Only say what would be written; exit code 0.")
@click.option("--full", is_flag=True, help="Decode and compare also what did not change.")
@click.option("--accept-removals", is_flag=True, help="Hold no removal, however many there are.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="One object on stdout, with --plan every row. An error that kept the run from starting, "
    "or ended it, stands on stderr only: the exit code tells.",
)
@click.option("--quiet", is_flag=True, help="Nothing when all is well, else a line for each cause.")
@click.option(
    "--metrics-file",
    type=PATH,
    metavar="PATH",
    help="Write metrics for Prometheus there, such as for the node exporter; counters go on.",
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
        raise click.UsageError("--plan runs nothing that --metrics-file could count")
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

    Raises ConfigError. Of `.env` it is not read: a run by hand reads the same file.
    """
    value = environ.get(STARTED_BY) or "manual"
    if value not in ("cron", "manual"):
        from etl.config.validators import plain

        raise ConfigError([f"{STARTED_BY}: expected cron or manual, found {plain(value)}"])
    return value
