"""`views list` and `views discover`: arguments -> one call -> lines. Imports click alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from etl.cli.options import Commands, Shared, loaded_sources, shared_options

if TYPE_CHECKING:
    from etl.cli.fan_out import Told
    from etl.config.model import Config
    from etl.monitor.views import Comparison


@click.group(cls=Commands)
@shared_options
def views() -> None:
    """Which views there are: views list, views discover."""


@views.command("list")
@click.option("--json", "as_json", is_flag=True, help="One object on stdout.")
@shared_options
@click.pass_obj
def list_(shared: Shared, as_json: bool) -> int:
    """The views that a run covers, and how they stand. Asks nobody."""
    with loaded_sources(shared) as sources:
        from etl.cli.fan_out import Style, Told, gather, tell
        from etl.monitor.views import list_lines, list_views

        def work(config: Config) -> Told:
            listed = list_views(config)
            return Told(0, list_lines(listed), listed.as_json())

        return tell(gather(sources, work), Style(sources.is_folder, as_json))


@views.command(
    epilog="""\b
Examples:
  heatmap-etl views discover
  heatmap-etl views discover --write      then: check, sync"""
)
@click.option("--write", is_flag=True, help="Add those that are missing to the file.")
@click.option("--toml", "as_toml", is_flag=True, help="Only the lines to paste into the file.")
@click.option("--json", "as_json", is_flag=True, help="One object on stdout.")
@shared_options
@click.pass_obj
def discover(shared: Shared, *, write: bool, as_toml: bool, as_json: bool) -> int:
    """Which views RUM saw in 30 days, beside those configured.

    The keys need the permission rum_apps_read. [discover] says which names --write and --toml
    take.
    """
    if as_toml and (write or as_json):
        raise click.UsageError("--toml stands alone: it prints nothing but lines to paste.")
    from etl.runtime.signals import stop_on_signals

    with stop_on_signals() as signals, loaded_sources(shared) as sources:
        from etl.cli.fan_out import Style, gather, tell
        from etl.monitor.views import added, compare_views

        def work(config: Config) -> Told:
            found = compare_views(config, stop=signals.stop)
            signals.raise_if_set()
            return _told(added(config, found) if write else found, as_toml=as_toml)

        outcomes = gather(sources, work)
        signals.raise_if_set()
        return tell(outcomes, Style(sources.is_folder, as_json, has_headings=not as_toml))


def _told(found: Comparison, *, as_toml: bool) -> Told:
    from etl.cli.fan_out import Told
    from etl.monitor.views import discover_lines, toml_lines

    if as_toml:
        return Told(0, toml_lines(found), complaints=found.warnings)
    return Told(0, discover_lines(found), found.as_json())
