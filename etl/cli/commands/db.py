"""`db`: the schema, and the labels and instants in the tables."""

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
    from etl.database.migrations import found_schema, require_schema, upgrade

    before = found_schema(database)
    if before.state in ("newer", "foreign"):
        require_schema(database)  # raises
    if before.state != "current":
        upgrade(database)
    return upgrade_line(database.label, before)


def schema_status(database: Database) -> tuple[str, int]:
    """A line about the schema, and the exit code: 0 current, 1 to be upgraded, 2 unusable."""
    from etl.cli.output.schema import status_line
    from etl.database.connection import is_there
    from etl.database.migrations import found_schema, require_schema
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
    code = {"current": 0, "newer": 2, "foreign": 2}.get(schema.state, 1)
    return status_line(database.label, schema, detail), code


def _require_folder(database: Database) -> None:
    """A missing SQLite file can be created only in a folder that exists."""
    from etl.errors import DatabaseUnreachable

    if database.file and not database.file.parent.is_dir():
        advice = f"the folder {database.file.parent} does not exist; make it"
        raise DatabaseUnreachable(f"cannot open the database {database.label}: {advice}")
