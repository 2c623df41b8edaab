"""`dashboard`: a page in a browser."""

from __future__ import annotations

import os
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import click

from etl.cli.options import (
    GlobalOptions,
    PathType,
    address_options,
    allow_host_option,
    load_sources,
    looking_options,
    require_single_database,
)
from etl.runtime.console import is_terminal, print_results

if TYPE_CHECKING:
    from pathlib import Path


@click.command(
    epilog="""\b
Examples:
  heatmap-etl dashboard
  heatmap-etl dashboard --database heatmap-demo.db      the file of demo --large"""
)
@click.option(
    "--database",
    "file",
    type=PathType(of_sqlite=True, dir_okay=False),
    metavar="FILE",
    help="A SQLite file. Default: the configured database.",
)
@address_options(port=8001)
@allow_host_option
@click.option("--no-open", is_flag=True, help="Do not open a browser.")
@looking_options
@click.pass_obj
def dashboard(
    options: GlobalOptions,
    file: Path | None,
    host: str,
    port: int,
    allowed_names: tuple[str, ...],
    no_open: bool,
) -> int:
    """Show the dashboard in a browser, until Ctrl-C.

    Datasette serves it. It reads the SQLite file and never writes to it. Needs the extra
    [dashboard].
    """
    from etl.config.allowed_hosts import AllowedHosts
    from etl.serve.dashboard.server import PAGE, bind, require_datasette, serve

    require_datasette()
    path = _configured_file(options) if file is None else _named_file(options, file)
    listener = bind(host, port)
    url_host = f"[{host}]" if ":" in host else host
    url = f"http://{url_host}:{listener.getsockname()[1]}{PAGE}"

    def on_ready() -> None:
        print_results([f"{path} on {url} (Ctrl-C ends it)"])
        if not no_open and is_terminal(sys.stdout) and _has_screen():
            import webbrowser  # loads subprocess, too

            webbrowser.open(url)

    with listener:
        serve(path, listener, AllowedHosts.of(host, allowed_names), on_ready)
    return 0


def _configured_file(options: GlobalOptions) -> Path:
    from etl.database.connection import opened
    from etl.serve.dashboard.server import require_file

    sources = load_sources(options, needs_keys=False, needs_views=False, finds_system=True)
    config = require_single_database(sources, advice="name one with --database")
    with opened(config) as database:
        return require_file(database)


def _named_file(options: GlobalOptions, file: Path) -> Path:
    from sqlalchemy import URL

    from etl.database.connection import open_database
    from etl.runtime import logs
    from etl.serve.dashboard.server import require_file

    logs.set_up(options.log_format, "WARNING")
    url = URL.create("sqlite", database=str(file.absolute()))
    with closing(open_database(url.render_as_string(), label=str(file))) as database:
        return require_file(database)


def _has_screen() -> bool:
    """Whether a browser can open a window: one that runs in the terminal would take it over."""
    on_x = sys.platform.startswith(("linux", "freebsd"))
    return not on_x or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
