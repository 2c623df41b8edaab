"""`status`: arguments -> one call -> lines. Imports click alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from etl.cli.options import Shared, loaded_sources, shared_options
from etl.database.connection import opened

if TYPE_CHECKING:
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
  1  with --max-age: a configured view is staler, or was never read
  2  there is no database or schema to read

\b
Example:
  heatmap-etl status --max-age 2h      for a monitor"""
)
@click.option("--max-age", metavar="AGE", callback=_max_age, help="Such as 30m, 2h or 1d.")
@click.option("--json", "as_json", is_flag=True, help="One object on stdout.")
@shared_options
@click.pass_obj
def status(shared: Shared, max_age: float | None, as_json: bool) -> int:
    """How fresh each view is, what is wrong, the last runs. Needs no keys."""
    with loaded_sources(shared) as sources:
        from etl.cli.fan_out import Style, Told, gather, tell
        from etl.monitor.status import read_status, status_lines

        def work(config: Config) -> Told:
            with opened(config) as database:
                found = read_status(config, database, max_age_s=max_age)
            return Told(int(found.is_stale), status_lines(found), found.as_json())

        return tell(gather(sources, work), Style(sources.is_folder, as_json))
