"""`status`: how fresh the stored data is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from etl.cli.options import TEXT, GlobalOptions, database_option, load_sources, looking_options

if TYPE_CHECKING:
    from etl.cli.fan_out import CommandResult
    from etl.config.model import Config


def _max_age(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> float | None:
    from etl.config.validators import BadValue, duration

    try:
        return None if value is None else float(duration("1s", "520w")(value))
    except BadValue as error:
        raise click.BadParameter(str(error)) from None


@click.command(
    epilog="""\b
Exit codes:
  0  the ledger could be read
  1  with --max-age: a configured view is older or was never read, a clock was wrong, or
     something waits for a person (see "Look at:")
  2  there is no database or schema to read, or the source had another name before

\b
Examples:
  heatmap-etl status --max-age 2h              for a monitor
  heatmap-etl status --quiet --max-age 3h      for cron: no mail while all is well
  heatmap-etl status --database /var/lib/heatmap-etl/heatmap-etl.db

Without a configuration, or without views in it, status shows what the last runs read. It then
does not know the schedule, nor which views accept truncated answers."""
)
@click.option(
    "--max-age",
    type=TEXT,
    metavar="AGE",
    callback=_max_age,
    help="Exit with 1 when a view is older, such as 30m, 2h or 1d.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--quiet", is_flag=True, help="Print only what is wrong, a line per cause.")
@database_option
@looking_options
@click.pass_obj
def status(
    options: GlobalOptions, *, max_age: float | None, as_json: bool, quiet: bool, named: str | None
) -> int:
    """Show how fresh each view is, what is wrong, the last runs.

    It needs no keys.
    """
    if quiet and as_json:
        raise click.UsageError("--json prints an object, --quiet prints nothing; use one")
    level = "ERROR" if quiet else "WARNING"
    sources = load_sources(
        options, level, needs_keys=False, needs_views=False, finds_system=True, database=named
    )
    from etl.cli.fan_out import CommandResult, OutputStyle, print_outcomes, run_for_each
    from etl.cli.output.status import quiet_status_lines, status_lines
    from etl.database.connection import opened
    from etl.monitor.status import read_status
    from etl.monitor.stored_sources import spelt_out
    from etl.runtime.console import shows_colours

    def read_one(config: Config) -> CommandResult:
        with opened(config) as database:
            current = read_status(config, database, max_age_s=max_age)
        code = int(current.needs_attention)
        if quiet:
            return CommandResult(code, problems=quiet_status_lines(current))
        lines = status_lines(current, has_colours=shows_colours())
        if options.is_system:
            lines = [f"Configuration of this machine: {config.path}", "", *lines]
        return CommandResult(code, lines, current.as_json())

    sources = spelt_out(sources)
    outcomes = run_for_each(sources, read_one)
    return print_outcomes(outcomes, OutputStyle(sources.is_folder, as_json))
