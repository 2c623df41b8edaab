"""`init`: a configuration file to begin with."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from etl.cli.options import TEXT, GlobalOptions, global_options
from etl.errors import EtlError
from etl.runtime.console import as_called, print_errors, print_results

if TYPE_CHECKING:
    from pathlib import Path


def _site(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> str:
    from etl.config.sites import site, site_warning
    from etl.config.validators import BadValue

    if value is None:
        return ""
    try:
        name = site(value)
    except BadValue as error:
        raise click.BadParameter(str(error)) from None
    if warning := site_warning(name):
        print_errors([f"--site: {warning}"])
    return name


@click.command(
    epilog="""\b
On a terminal and without options it asks for site, views and database.

\b
Examples:
  heatmap-etl init --site datadoghq.eu --view /home --view "/checkout/?"
  heatmap-etl init --database-url postgresql://heatmap@db.example.com/heatmap
  sudo heatmap-etl init --system --site us5.datadoghq.com"""
)
@click.option(
    "--site",
    type=TEXT,
    metavar="SITE",
    callback=_site,
    help="Datadog site of the keys, such as datadoghq.eu.",
)
@click.option(
    "--view",
    "views",
    type=TEXT,
    multiple=True,
    metavar="NAME",
    help="A view to copy; repeatable. The word discover alone: every view in RUM.",
)
@click.option(
    "--database-url",
    type=TEXT,
    default="",
    metavar="URL|FILE",
    help="Where to; without a password.",
)
@click.option("--force", is_flag=True, help="Overwrite a file that is there.")
@click.option(
    "--system",
    "is_system",
    is_flag=True,
    help="Set up this machine. Cron, systemd and status find settings and key files in "
    "/etc/heatmap-etl and the database in /var/lib/heatmap-etl. It overwrites nothing.",
)
@click.option(
    "--user",
    type=TEXT,
    default="",
    metavar="NAME",
    help="With --system: the user who runs it. Default: the user heatmap-etl if it exists, else "
    "who runs this command. Under sudo that is root.",
)
@global_options
@click.pass_context
def init(
    context: click.Context,
    *,
    site: str,
    views: tuple[str, ...],
    database_url: str,
    force: bool,
    is_system: bool,
    user: str,
) -> int:
    """Write a commented heatmap-etl.toml."""
    from pathlib import Path

    from etl.config.files import DEFAULT_FILE
    from etl.config.writing.template import (
        next_steps,
        require_absent,
        url_of,
        write_dotenv,
        write_template,
    )

    options: GlobalOptions = context.obj
    database_url = url_of(database_url)
    if is_system:
        return _init_system(options, site, views, database_url, user, is_forced=force)
    if user:
        raise click.UsageError("--user belongs to --system")
    target = Path(options.config or os.environ.get("HEATMAP_ETL_CONFIG") or DEFAULT_FILE)
    if target.is_dir():
        raise EtlError(f"{target}: is a folder; name the file to write in it, such as acme.toml")
    if _is_bare(context):
        from etl.cli.questions import ask, can_ask

        if can_ask():
            require_absent(target)
            site, views, database_url = ask(_folder(target))
    write_template(
        target.absolute(), database_url=database_url, views=views, site=site, is_forced=force
    )
    dotenv, is_new = write_dotenv(target.absolute(), os.environ)
    print_results(next_steps(target, views=views, dotenv=dotenv, is_new=is_new))
    return 0


def _init_system(
    options: GlobalOptions,
    site: str,
    views: tuple[str, ...],
    database_url: str,
    user: str,
    *,
    is_forced: bool,
) -> int:
    from etl.config.writing.install import install_system

    if options.config:
        raise click.UsageError("--system has a path of its own; leave --config out")
    if is_forced:
        raise click.UsageError("--system overwrites nothing; remove the file first, then run it")
    lines = install_system(
        database_url=database_url,
        views=views,
        site=site,
        user=user,
        program=as_called(is_anywhere=True),
    )
    print_results(lines)
    return 0


def _is_bare(context: click.Context) -> bool:
    """Whether no option was given, here or before the name of the command."""
    options: GlobalOptions = context.obj
    chosen = [context.get_parameter_source(name) for name in context.params]
    is_default = click.core.ParameterSource.DEFAULT
    named = options.config or options.verbose or options.is_format_chosen
    return not named and all(source is is_default for source in chosen)


def _folder(target: Path) -> Path:
    return target.absolute().parent
