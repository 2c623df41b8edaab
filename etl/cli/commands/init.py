"""`init`: a configuration file to begin with."""

from __future__ import annotations

import os

import click

from etl.cli.options import TEXT, GlobalOptions, global_options
from etl.errors import EtlError
from etl.runtime.console import print_results


@click.command(
    epilog="""\b
Examples:
  heatmap-etl init --view /home --view "/checkout/?"
  heatmap-etl init --database-url postgresql://heatmap@db.example.com/heatmap"""
)
@click.option(
    "--view", "views", type=TEXT, multiple=True, metavar="NAME", help="A view to copy; repeatable."
)
@click.option(
    "--database-url", type=TEXT, default="", metavar="URL", help="Where to; without a password."
)
@click.option("--force", is_flag=True, help="Overwrite a file that is there.")
@global_options
@click.pass_obj
def init(options: GlobalOptions, views: tuple[str, ...], database_url: str, force: bool) -> int:
    """Write a commented heatmap-etl.toml."""
    from pathlib import Path

    from etl.config.files import DEFAULT_FILE
    from etl.config.template import next_steps, write_template

    target = options.config or os.environ.get("HEATMAP_ETL_CONFIG") or DEFAULT_FILE
    if Path(target).is_dir():
        raise EtlError(f"{target}: is a folder; name the file to write in it, such as acme.toml")
    write_template(Path(target).absolute(), database_url=database_url, views=views, is_forced=force)
    print_results(next_steps(Path(target), has_views=bool(views)))
    return 0
