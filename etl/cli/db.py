"""`db upgrade`, `db status`, `db rename-source`: the schema, and the labels in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from etl.cli.options import (
    CommandGroup,
    GlobalOptions,
    global_options,
    load_sources,
    the_only_database,
)
from etl.runtime.console import print_results

if TYPE_CHECKING:
    from etl.cli.fan_out import CommandResult
    from etl.config.model import Config
    from etl.database.connection import Database


@click.group(cls=CommandGroup)
@global_options
def db() -> None:
    """The schema and the labels in it: db upgrade, db status, db rename-source."""


@db.command()
@global_options
@click.pass_obj
def upgrade(given: GlobalOptions) -> int:
    """Create the schema, or bring it up to date."""
    return _for_each_database(given, lambda database: (upgrade_schema(database), 0))


@db.command(
    "status",
    epilog="""\b
Exit codes:
  0  current
  1  must be upgraded: run heatmap-etl db upgrade
  2  newer than this program or not ours, or the database cannot be reached""",
)
@global_options
@click.pass_obj
def db_status(given: GlobalOptions) -> int:
    """Whether the schema is current, absent, outdated or newer."""
    return _for_each_database(given, schema_status)


@db.command("rename-source")
@click.argument("old")
@click.argument("new")
@global_options
@click.pass_obj
def rename_source(given: GlobalOptions, old: str, new: str) -> int:
    """Give the rows of source OLD the label NEW, after datadog.source was changed."""
    sources = load_sources(given)
    from etl.database.connection import opened
    from etl.source.rename import rename_source

    with opened(the_only_database(sources)) as database:
        print_results([rename_source(database, old, new)])
    return 0


def _for_each_database(given: GlobalOptions, work: Callable[[Database], tuple[str, int]]) -> int:
    """`work` once on every database that the configuration names; prints its lines."""
    sources = load_sources(given)
    from etl.cli.fan_out import CommandResult, OutputStyle, print_outcomes, run_for_each
    from etl.database.connection import opened

    def work_on(config: Config) -> CommandResult:
        with opened(config) as database:
            line, code = work(database)
        return CommandResult(code, [line])

    outcomes = run_for_each(sources.by_database(), work_on)
    return print_outcomes(outcomes, OutputStyle(sources.is_folder, has_headings=False))


def upgrade_schema(database: Database) -> str:
    """Upgrade the schema; returns the line that says from which revision to which."""
    from etl.cli.output.schema import upgrade_line
    from etl.database.migrations import found_schema, require_schema, upgrade

    before = found_schema(database)
    if before.state in ("newer", "foreign"):
        require_schema(database)  # raises
    if before.state != "current":
        upgrade(database)
    return upgrade_line(database.label, before)


def schema_status(database: Database) -> tuple[str, int]:
    """A line on the schema, and 0 (current), 1 (to be upgraded) or 2 (not to be used)."""
    from etl.cli.output.schema import status_line
    from etl.database.connection import is_there
    from etl.database.migrations import found_schema, require_schema
    from etl.errors import SchemaMismatch

    found, detail = found_schema(database), ""
    if found.state == "absent":
        _require_folder(database)
        detail = "no tables of ours" if is_there(database) else "no such file yet"
    elif found.state != "current":
        try:
            require_schema(database)
        except SchemaMismatch as error:
            detail = str(error)
        else:  # somebody has upgraded it meanwhile
            found = found_schema(database)
    code = {"current": 0, "newer": 2, "foreign": 2}.get(found.state, 1)
    return status_line(database.label, found, detail), code


def _require_folder(database: Database) -> None:
    """A SQLite file that is not there can be made only in a folder that is."""
    from etl.errors import DatabaseUnreachable

    if database.file and not database.file.parent.is_dir():
        advice = f"the folder {database.file.parent} does not exist; make it"
        raise DatabaseUnreachable(f"cannot open the database {database.label}: {advice}")
