"""`views list` and `views discover`: which views are covered, and which RUM sees."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from etl.cli.options import (
    CommandGroup,
    GlobalOptions,
    global_options,
    load_sources,
    looking_options,
)

if TYPE_CHECKING:
    from etl.cli.fan_out import CommandResult
    from etl.config.model import Config


@click.group(cls=CommandGroup)
@global_options
def views() -> None:
    """List the configured views, or find more of them in RUM."""


@views.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@looking_options
@click.pass_obj
def list_(options: GlobalOptions, as_json: bool) -> int:
    """List the views that a run reads, and their state.

    It sends no request.
    """
    sources = load_sources(options, needs_keys=False, finds_system=True)
    from etl.cli.fan_out import CommandResult, OutputStyle, print_outcomes, run_for_each
    from etl.cli.output.views import list_lines
    from etl.monitor.views import list_views

    def list_one(config: Config) -> CommandResult:
        covered = list_views(config)
        return CommandResult(0, list_lines(covered), covered.as_json())

    outcomes = run_for_each(sources, list_one)
    return print_outcomes(outcomes, OutputStyle(sources.is_folder, as_json))


@views.command(
    epilog="""\b
Examples:
  heatmap-etl views discover
  heatmap-etl views discover --write      then: check, sync"""
)
@click.option("--write", is_flag=True, help="Add the missing views to the file.")
@click.option(
    "--toml", "as_toml", is_flag=True, help="Print only the lines to paste into the file."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@global_options
@click.pass_obj
def discover(options: GlobalOptions, *, write: bool, as_toml: bool, as_json: bool) -> int:
    """Compare what RUM saw in 30 days with the configured views.

    The keys need the permission rum_apps_read. [discover] says which names --write and --toml
    add.
    """
    if as_toml and (write or as_json):
        raise click.UsageError(
            "--toml prints only lines to paste; use it without --write and --json."
        )
    from etl.runtime.signals import stop_on_signals

    with stop_on_signals() as signals:
        sources = load_sources(options)
        from etl.cli.fan_out import CommandResult, OutputStyle, print_outcomes, run_for_each
        from etl.cli.output.views import discover_lines, toml_lines
        from etl.monitor.views import add_missing, compare_views

        def discover_one(config: Config) -> CommandResult:
            comparison = compare_views(config, stop=signals.stop)
            signals.raise_if_set()
            if write:
                comparison = add_missing(config, comparison)
            if as_toml:
                return CommandResult(0, toml_lines(comparison), problems=comparison.warnings)
            return CommandResult(0, discover_lines(comparison), comparison.as_json())

        outcomes = run_for_each(sources, discover_one)
        signals.raise_if_set()
        style = OutputStyle(sources.is_folder, as_json, has_headings=not as_toml)
        return print_outcomes(outcomes, style)
