"""The command line: arguments -> one call -> exit code. Prints, decides nothing.

Each command imports what it needs when it runs: `--help` and `--version` load
click and nothing else. Exit codes stand in `_EXIT_CODES`; a bug ends with its
traceback and 1.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import click

from etl import __version__
from etl.cli import dashboard as dashboard_command
from etl.cli import demo as demo_command
from etl.cli import export as export_command
from etl.cli import schedule as schedule_command
from etl.cli import status as status_command
from etl.cli import views as views_command
from etl.cli.options import CONSOLE, JSON, PATH, Commands, Shared, loaded_sources, shared_options
from etl.database.connection import opened
from etl.errors import ConfigError, EtlError, Stopped
from etl.runtime.console import PROGRAM, complain, is_terminal, prepare, say, unwritten

if TYPE_CHECKING:
    from pathlib import Path

    from etl.config.model import Config
    from etl.database.connection import Database

_EXIT_CODES = """\b
Exit codes:
  0        every view was read
  1        some view failed or is truncated, the others are stored
  2        usage, configuration, keys refused, database or schema: no snapshot row was written
  75       another process works on this source
  130 143  ended by SIGINT, SIGTERM"""


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\b
First time:
  heatmap-etl demo      see it work, without a Datadog account
  heatmap-etl init      then: check, sync""",
)
@shared_options
@click.version_option(__version__, prog_name=PROGRAM, message="%(prog)s %(version)s")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Keeps Datadog's replay heatmap snapshots in a database, with history."""
    shared = ctx.ensure_object(Shared)
    name = os.environ.get("HEATMAP_ETL_LOG_FORMAT") or CONSOLE
    if ctx.get_parameter_source("log_format") is click.core.ParameterSource.DEFAULT:
        shared.log_format = name
    if shared.log_format not in (CONSOLE, JSON):
        raise click.UsageError(f"HEATMAP_ETL_LOG_FORMAT: expected {CONSOLE} or {JSON}")


@cli.command(
    epilog="""\b
Examples:
  heatmap-etl init --view /home --view "/checkout/?"
  heatmap-etl init --database-url postgresql://heatmap@db.example.com/heatmap"""
)
@click.option("--view", "views", multiple=True, metavar="NAME", help="A view to copy; repeatable.")
@click.option("--database-url", default="", metavar="URL", help="Where to; without a password.")
@click.option("--force", is_flag=True, help="Overwrite a file that is there.")
@shared_options
@click.pass_obj
def init(shared: Shared, views: tuple[str, ...], database_url: str, force: bool) -> int:
    """Write a commented heatmap-etl.toml."""
    from pathlib import Path

    from etl.config.files import DEFAULT_FILE
    from etl.config.template import next_steps, write_template

    named = shared.config or os.environ.get("HEATMAP_ETL_CONFIG") or DEFAULT_FILE
    if Path(named).is_dir():
        raise EtlError(f"{named}: is a folder; name the file to write in it, such as acme.toml")
    write_template(Path(named).absolute(), database_url=database_url, views=views, is_forced=force)
    say(next_steps(Path(named), has_views=bool(views)))
    return 0


@cli.command(
    epilog="""\b
Exit codes:
  0  all holds: a run would work
  1  some views do not
  2  something must be mended first"""
)
@click.option(
    "--report",
    type=PATH,
    metavar="FILE",
    help="Also ask the API about 20 things that are not documented, and write the answers to a "
    "new FILE, without anything personal, to attach to a bug report.",
)
@shared_options
@click.pass_obj
def check(shared: Shared, report: Path | None) -> int:
    """Try everything a run needs, and write nothing.

    Configuration, database and schema, keys, one real list request for each view.
    """
    from etl.runtime.signals import stop_on_signals

    with stop_on_signals() as signals, loaded_sources(shared) as sources:
        from etl.cli.fan_out import Style, Told, gather, tell
        from etl.cli.progress import SharedProgress
        from etl.diagnose.check import check as find_points
        from etl.diagnose.check import check_lines, exit_code, listed_by_view
        from etl.diagnose.probe.report import report_path, write_report

        path = report_path(sources, report)
        with SharedProgress(sum(len(config.views) for config in sources.configs)) as bar:

            def work(config: Config) -> Told:
                show = partial(bar.show, config.source)
                points = find_points(config, stop=signals.stop, progress=show)
                lines = check_lines(points)
                if path:
                    lines += write_report(config, path, listed_by_view(points), signals.stop)
                return Told(exit_code(points), lines)

            outcomes = gather(sources, work)
        signals.raise_if_set()
        return tell(outcomes, Style(sources.is_folder))


@cli.command(
    epilog=f"""{_EXIT_CODES}

\b
Examples:
  heatmap-etl sync
  heatmap-etl sync --plan --view /home
  17 * * * *  cd /etc/heatmap-etl && heatmap-etl sync --quiet      (crontab)"""
)
@click.option("--view", "views", multiple=True, metavar="NAME", help="Only this one; repeatable.")
@click.option("--plan", is_flag=True, help="Only say what would be written; exit code 0.")
@click.option("--full", is_flag=True, help="Decode and compare also what did not change.")
@click.option("--accept-removals", is_flag=True, help="Hold no removal, however many there are.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="One object on stdout, with --plan every row. An error that kept the run from starting, "
    "or ended it, stands on stderr only: the exit code tells.",
)
@click.option("--quiet", is_flag=True, help="Nothing when all is well, else a line per bad view.")
@click.option(
    "--metrics-file",
    type=PATH,
    metavar="PATH",
    help="Write metrics for Prometheus there, such as for the node exporter; counters go on.",
)
@shared_options
@click.pass_obj
def sync(
    shared: Shared,
    *,
    views: tuple[str, ...],
    plan: bool,
    full: bool,
    accept_removals: bool,
    as_json: bool,
    quiet: bool,
    metrics_file: Path | None,
) -> int:
    """Read the configured views once and store what changed."""
    if plan and quiet:
        raise click.UsageError("--plan prints what a run would do, --quiet prints nothing; use one")
    if plan and metrics_file:
        raise click.UsageError("--plan runs nothing that --metrics-file could count")
    from etl.runtime.signals import stop_on_signals

    level = "ERROR" if quiet else "WARNING"
    with stop_on_signals() as signals, loaded_sources(shared, level) as sources:
        import logging

        for warning in sources.warnings:
            logging.getLogger(__name__).warning("%s", warning)
        from etl.cli.run import How, run
        from etl.pipeline.run import Options

        by = "manual" if is_terminal(sys.stdin) else "cron"
        options = Options(views, full, accept_removals, by)
        return run(sources, options, How(plan, as_json, quiet, metrics_file), signals)


cli.add_command(schedule_command.schedule)


cli.add_command(status_command.status)
cli.add_command(views_command.views)
cli.add_command(export_command.export)
cli.add_command(dashboard_command.dashboard)


@cli.group(cls=Commands)
@shared_options
def db() -> None:
    """The schema and the labels in it: db upgrade, db status, db rename-source."""


@db.command()
@shared_options
@click.pass_obj
def upgrade(shared: Shared) -> int:
    """Create the schema, or bring it up to date."""
    from etl.cli.output.schema import upgraded

    return _for_each_database(shared, lambda database: (upgraded(database), 0))


@db.command(
    "status",
    epilog="""\b
Exit codes:
  0  current
  1  must be upgraded: run heatmap-etl db upgrade
  2  newer than this program or not ours, or the database cannot be reached""",
)
@shared_options
@click.pass_obj
def db_status(shared: Shared) -> int:
    """Whether the schema is current, absent, outdated or newer."""
    from etl.cli.output.schema import schema_line

    return _for_each_database(shared, schema_line)


def _for_each_database(shared: Shared, work: Callable[[Database], tuple[str, int]]) -> int:
    """`work` once on every database that the configuration names; prints its lines."""
    with loaded_sources(shared) as sources:
        from etl.cli.fan_out import Style, Told, gather, tell

        def told(config: Config) -> Told:
            with opened(config) as database:
                line, code = work(database)
            return Told(code, [line])

        style = Style(sources.is_folder, has_headings=False)
        return tell(gather(sources.by_database(), told), style)


@db.command("rename-source")
@click.argument("old")
@click.argument("new")
@shared_options
@click.pass_obj
def rename_source(shared: Shared, old: str, new: str) -> int:
    """Give the rows of source OLD the label NEW, after datadog.source was changed."""
    with loaded_sources(shared) as sources:
        from etl.source.rename import renamed

        configs = sources.by_database().configs
        if len(configs) > 1:
            raise EtlError("the files of the folder name several databases; name one file")
        with opened(configs[0]) as database:
            say([renamed(database, old, new)])
        return 0


@cli.group(cls=Commands)
@shared_options
def privacy() -> None:
    """Who created a snapshot, in what is stored: privacy apply."""


@privacy.command(
    "apply",
    epilog="""\b
Exit codes:
  0        all that is stored stands under the configured setting
  2        configuration, database or schema
  75       another process works on this source
  130 143  ended by SIGINT, SIGTERM: run it again""",
)
@shared_options
@click.pass_obj
def privacy_apply(shared: Shared) -> int:
    """Rewrite what is stored under the configured privacy.created_by.

    In place, in batches; no version begins. Cut short, it goes on when it is run again. Hashing
    cannot be taken back, nor dropping.
    """
    import threading

    from etl.runtime.signals import stop_on_signals

    with stop_on_signals() as signals, loaded_sources(shared) as sources:
        from etl.cli.fan_out import Style, Told, gather, tell
        from etl.source.reapply_privacy import apply_privacy

        one_after_the_other = threading.Lock()  # they may share a SQLite file

        def work(config: Config) -> Told:
            with one_after_the_other, opened(config) as database:
                return Told(0, apply_privacy(config, database, signals.stop))

        outcomes = gather(sources, work)
        signals.raise_if_set()
        return tell(outcomes, Style(sources.is_folder, has_headings=False))


cli.add_command(demo_command.demo)


@cli.command("fake-datadog")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8321, show_default=True, type=click.IntRange(0, 65535))
@click.option(
    "--tick",
    type=click.FloatRange(0.01),
    metavar="SECONDS",
    help="Let six hours pass every so many seconds: snapshots come, change and go.",
)
@click.option("--seed", default=1, show_default=True, help="Another seed, another organization.")
@click.option("--latency", default=0.0, type=click.FloatRange(0), metavar="SECONDS")
def fake_datadog(host: str, port: int, tick: float | None, seed: int, latency: float) -> int:
    """Serve an invented Datadog until Ctrl-C."""
    from etl.fake_datadog import World, serve
    from etl.fake_datadog.greeting import greeting

    world = World(seed)
    try:
        serve(
            world,
            host=host,
            port=port,
            tick_every_s=tick,
            latency_s=latency,
            on_ready=lambda url: say(greeting(url, world.view_names)),
        )
    except OSError as error:
        raise EtlError(f"cannot listen on {host}:{port}: {error.strerror}") from None
    return 0


def main(args: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; every expected error is a line on stderr."""
    prepare()
    try:
        code = cli.main(args, prog_name=PROGRAM, standalone_mode=False)
    except click.Abort:
        return 130
    except (click.ClickException, EtlError) as error:
        complain(_told(error))
        return error.exit_code
    except Exception as error:
        if why := unwritten(error):
            complain([why])
            return 1
        import logging

        what = "a bug; please report it with what follows"
        logging.getLogger(__name__).critical(what, exc_info=True)
        return 1
    return code if isinstance(code, int) else 0


def _told(error: click.ClickException | EtlError) -> Sequence[str]:
    if isinstance(error, ConfigError):
        return error.problems
    if isinstance(error, Stopped):
        return [f"{error}; what was stored stays, the next run goes on"]
    if isinstance(error, EtlError):
        return [str(error)]
    # People paste URLs where none belongs: without what stands before the @.
    text = re.sub(r"//\S*@", "//***@", " ".join(error.format_message().split()))
    context = getattr(error, "ctx", None)
    return [f"{text} Try: {context.command_path} --help" if context else text]
