"""`db`: the schema, a copy of everything, and the labels and instants in the tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from etl.cli.options import (
    TEXT,
    CommandGroup,
    GlobalOptions,
    global_options,
    load_sources,
    require_single_database,
)
from etl.runtime.console import print_results

if TYPE_CHECKING:
    from etl.cli.fan_out import CommandResult
    from etl.config.model import Config
    from etl.database.connection import Database


@click.group(cls=CommandGroup)
@global_options
def db() -> None:
    """Create and upgrade the tables, and look after them."""


@db.command()
@global_options
@click.pass_obj
def upgrade(options: GlobalOptions) -> int:
    """Create the schema, or bring it up to date."""
    return _for_each_database(options, lambda database: (upgrade_schema(database), 0))


@db.command(
    "status",
    epilog="""\b
Exit codes:
  0  current
  1  must be upgraded: run heatmap-etl db upgrade
  2  newer than this program, not ours, or the database cannot be reached""",
)
@global_options
@click.pass_obj
def db_status(options: GlobalOptions) -> int:
    """Show whether the schema is absent, outdated or current."""
    return _for_each_database(options, schema_status)


@db.command("rename-source")
@click.argument("old", type=TEXT)
@click.argument("new", type=TEXT)
@global_options
@click.pass_obj
def rename_source(options: GlobalOptions, old: str, new: str) -> int:
    """Give the rows of source OLD the label NEW.

    Run it after you changed datadog.source.
    """
    sources = load_sources(options, needs_keys=False, needs_views=False)
    from etl.database.connection import opened
    from etl.source.rename import rename_source

    with opened(require_single_database(sources)) as database:
        print_results([rename_source(database, old, new)])
    return 0


@db.command("repair-clock")
@click.argument("source", type=TEXT)
@click.option("--plan", "is_plan", is_flag=True, help="Only show what it would do.")
@global_options
@click.pass_obj
def repair_clock(options: GlobalOptions, source: str, *, is_plan: bool) -> int:
    """Correct the instants of SOURCE that lie in the future.

    A run leaves them when the clock of its machine is ahead. First set the clock of this machine
    right: the command compares with it.
    """
    sources = load_sources(options, needs_keys=False, needs_views=False)
    from etl.database.connection import opened
    from etl.source.repair_clock import repair_clock

    with opened(require_single_database(sources)) as database:
        print_results(repair_clock(database, source, is_plan=is_plan))
    return 0


@db.command(
    epilog="""\b
Exit codes:
  0        copied, and compared
  2        configuration, one of the databases or its schema; or the two differ
  75       another process works on a source of the database
  130 143  ended by SIGINT, SIGTERM: run it again, it goes on

\b
Examples:
  heatmap-etl db copy postgresql://etl@db.example.com/heatmaps
  heatmap-etl db copy /var/backups/heatmap-etl-copy.db

A URL with a password is better set as HEATMAP_ETL_COPY_TO_URL, or in a file that
HEATMAP_ETL_COPY_TO_URL_FILE names, without TO: other users see arguments. Tables and columns that
others have added, and rights, are not copied."""
)
@click.argument("to", type=TEXT, required=False)
@click.option(
    "--schema",
    type=TEXT,
    metavar="NAME",
    help="The schema of TO, on PostgreSQL. Default: database_schema of the configuration.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@global_options
@click.pass_obj
def copy(options: GlobalOptions, to: str | None, *, schema: str | None, as_json: bool) -> int:
    """Copy everything to an empty database.

    TO is a URL, or a SQLite file. It gets the schema, if it has none. The configured database
    stays as it is, and no run starts on it meanwhile. At the end both databases are read and
    compared; until then no command works on TO. A copy that was cut short goes on when the command
    is run again.
    """
    from etl.runtime.signals import stop_on_signals

    with stop_on_signals() as signals:
        sources = load_sources(options, needs_keys=False, needs_views=False)
        from contextlib import closing

        from etl.cli.output.copy import copied_json, copied_lines
        from etl.cli.progress import RowProgress
        from etl.config.copy_target import copy_target
        from etl.database.connection import SettingNames, open_database, opened
        from etl.errors import Stopped
        from etl.source.copy_database import STAYS, copy_database, total_rows

        config = require_single_database(sources, "name one of its files with --config")
        named = copy_target(to, schema, config.database_schema)
        url, label = named.database.url, named.database.label
        names = SettingNames(named.name, "--schema")
        with (
            opened(config) as source,
            closing(
                open_database(
                    url,
                    label=label,
                    schema_name=named.schema_name,
                    names=names,
                    file_mode=config.files_mode,
                )
            ) as target,
            RowProgress(total_rows(source)) as progress,
        ):

            def on_rows(what: str, rows: int) -> None:
                if signals.number:
                    raise Stopped(signals.number, STAYS)
                progress.add(what, rows)

            copied = copy_database(source, target, lease_s=config.lease_s, on_rows=on_rows)
        lines = copied_json(copied) if as_json else copied_lines(copied, config.database_schema)
        print_results(lines)
    return 0


def _for_each_database(
    options: GlobalOptions, action: Callable[[Database], tuple[str, int]]
) -> int:
    """Run `action`, which gives a line and an exit code, once on every configured database."""
    sources = load_sources(options, needs_keys=False, needs_views=False)
    from etl.cli.fan_out import CommandResult, OutputStyle, print_outcomes, run_for_each
    from etl.database.connection import opened

    def act_on(config: Config) -> CommandResult:
        with opened(config) as database:
            line, code = action(database)
        return CommandResult(code, [line])

    outcomes = run_for_each(sources.by_database(), act_on)
    return print_outcomes(outcomes, OutputStyle(sources.is_folder, has_headings=False))


def upgrade_schema(database: Database) -> str:
    """Upgrade the schema; returns the line that names both revisions."""
    from etl.cli.output.schema import upgrade_line
    from etl.database import comments
    from etl.database.migrations import UNUSABLE, found_schema, require_schema, upgrade

    before, updated = found_schema(database), 0
    if before.state in UNUSABLE:
        require_schema(database)  # raises
    if before.state != "current":
        upgrade(database)
    else:
        updated = comments.bring_up_to_date(database)
    return upgrade_line(database.label, before, updated)


def schema_status(database: Database) -> tuple[str, int]:
    """A line about the schema, and the exit code: 0 current, 1 to be upgraded, 2 unusable."""
    from etl.cli.output.schema import status_line
    from etl.database.connection import is_there
    from etl.database.migrations import UNUSABLE, found_schema, require_schema
    from etl.errors import SchemaMismatch

    schema, detail = found_schema(database), ""
    if schema.state == "absent":
        _require_folder(database)
        detail = "no tables of heatmap-etl" if is_there(database) else "no such file yet"
        detail += f" ({database.origin})" * bool(database.origin)
    elif schema.state != "current":
        try:
            require_schema(database)
        except SchemaMismatch as error:
            detail = str(error)
        else:  # upgraded meanwhile by another process
            schema = found_schema(database)
    code = 2 if schema.state in UNUSABLE else int(schema.state != "current")
    return status_line(database.label, schema, detail), code


def _require_folder(database: Database) -> None:
    """A missing SQLite file can be created only in a folder that exists."""
    from etl.errors import DatabaseUnreachable

    if database.file and not database.file.parent.is_dir():
        advice = f"the folder {database.file.parent} does not exist; make it"
        raise DatabaseUnreachable(f"cannot open the database {database.label}: {advice}")
