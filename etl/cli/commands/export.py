"""`export SQL_VIEW`: the rows of a SQL view, into a file or on stdout."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from etl.cli.options import (
    PATH,
    TEXT,
    GlobalOptions,
    database_option,
    load_sources,
    looking_options,
    require_single_database,
)
from etl.formatting import many
from etl.runtime.console import print_results, result_stream

if TYPE_CHECKING:
    from pathlib import Path

_VIEWS = (
    "current_snapshots",
    "snapshot_versions",
    "snapshot_changes",
    "view_coverage",
    "sync_health",
)
"""A copy of the names in `database.sql_views`, which would load SQLAlchemy; a test compares."""


def _option_name(name: str) -> str:
    """`--view-name` is what `--view` was called before."""
    return "view" if name == "view-name" else name


@click.command(
    context_settings={"token_normalize_func": _option_name},
    epilog=f"""\b
SQL views: {", ".join(_VIEWS)}

\b
Examples:
  heatmap-etl export current_snapshots --output pinned.parquet
  heatmap-etl export snapshot_changes --since 30d --spreadsheet --output changes.csv
  heatmap-etl export snapshot_versions --view /home --format jsonl | gzip > home.jsonl.gz""",
)
@click.argument("view", type=click.Choice(_VIEWS), metavar="SQL_VIEW")
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["csv", "jsonl", "parquet"]),
    help="Default: the ending of the file name, else csv.",
)
@click.option(
    "--output",
    type=PATH,
    metavar="FILE",
    help="Write to this file, as a whole or not at all. Default: stdout.",
)
@click.option(
    "--view", "view_name", type=TEXT, metavar="NAME", help="Only rows of the view with this name."
)
@click.option(
    "--since",
    type=TEXT,
    metavar="INSTANT",
    help="Only rows from this time on, such as 2026-11-01 (UTC) or 30d. It compares valid_from; in "
    "snapshot_changes noticed_at, in sync_health last_run_at.",
)
@click.option("--spreadsheet", is_flag=True, help="CSV in which no text can act as a formula.")
@database_option
@looking_options
@click.pass_obj
def export(
    options: GlobalOptions,
    *,
    named: str | None,
    view: str,
    file_format: str | None,
    output: Path | None,
    view_name: str | None,
    since: str | None,
    spreadsheet: bool,
) -> int:
    """Write the rows of a SQL view as CSV, JSON Lines or Parquet."""
    from etl.runtime.signals import stop_on_signals

    with stop_on_signals() as signals:
        sources = load_sources(
            options, needs_keys=False, needs_views=False, finds_system=True, database=named
        )
        from etl.database.connection import opened
        from etl.serve.export import (
            Export,
            choose_format,
            output_path,
            parse_since,
            require_possible,
            write_file,
            write_rows,
        )

        config = require_single_database(sources)
        earliest = parse_since(since, datetime.now(UTC)) if since is not None else None
        path = output_path(output, sources) if output is not None else None
        wanted = Export(view, choose_format(file_format, output), view_name, earliest, spreadsheet)
        require_possible(wanted, output)
        with opened(config) as database:
            if path is None:
                with result_stream() as stream:
                    write_rows(database, wanted, stream, signals.raise_if_set)
                return 0
            new_mode = config.files_mode
            count = write_file(database, wanted, path, signals.raise_if_set, new_mode=new_mode)
        print_results([f"{view}: {many(count, 'row')} in {path}"])
        return 0
