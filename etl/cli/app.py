"""The program: its commands, and the exit code of every error.

An expected error ends a command with one line on stderr and the exit code of that error. A refusal
of the operating system is one line and 1. A bug is its traceback and 1.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

import click

from etl import DOCUMENTATION, __version__
from etl.cli.commands.check import check
from etl.cli.commands.dashboard import dashboard
from etl.cli.commands.db import db
from etl.cli.commands.demo import demo
from etl.cli.commands.export import export
from etl.cli.commands.fake_datadog import fake_datadog
from etl.cli.commands.init import init
from etl.cli.commands.privacy import privacy
from etl.cli.commands.schedule import schedule
from etl.cli.commands.status import status
from etl.cli.commands.sync import sync
from etl.cli.commands.views import views
from etl.cli.options import CONSOLE, JSON, CommandGroup, GlobalOptions, global_options
from etl.errors import ConfigError, EtlError, Stopped
from etl.runtime.console import PROGRAM, abandon_stdout, prepare_streams, print_errors

_ECHO = click.echo.__code__


@click.group(
    cls=CommandGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=f"""\b
First time:
  heatmap-etl demo      see it work, without a Datadog account
  heatmap-etl init      then: check, sync

\b
Documentation:
  {DOCUMENTATION}""",
)
@global_options
@click.version_option(__version__, prog_name=PROGRAM, message="%(prog)s %(version)s")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Keeps Datadog's replay heatmap snapshots in a database, with history."""
    options = ctx.ensure_object(GlobalOptions)
    name = os.environ.get("HEATMAP_ETL_LOG_FORMAT") or CONSOLE
    if ctx.get_parameter_source("log_format") is click.core.ParameterSource.DEFAULT:
        options.log_format = name
    if options.log_format not in (CONSOLE, JSON):
        raise click.UsageError(f"HEATMAP_ETL_LOG_FORMAT: expected {CONSOLE} or {JSON}")


# The help lists them in this order: that of use.
for command in (
    *(init, check, sync, schedule, status, views, db, demo),
    *(export, dashboard, privacy, fake_datadog),
):
    cli.add_command(command)


def main(args: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; every expected error is a line on stderr."""
    prepare_streams()
    try:
        code = cli.main(args, prog_name=PROGRAM, standalone_mode=False)
    except click.Abort:
        return 130
    except click.ClickException as error:
        print_errors([_usage_problem(error)])
        return error.exit_code
    except EtlError as error:
        print_errors(_problems(error))
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - told or logged there
        return _unexpected(error)
    return code if isinstance(code, int) else 0


def _unexpected(error: Exception) -> int:
    """Report what no command expected: a stream or the system that fails, or a bug."""
    import logging  # none of it for --help

    from etl.runtime.refusals import refusal_of

    if isinstance(error, OSError) and _is_raised_by_click(error):  # by help and version
        print_errors([reason] if (reason := abandon_stdout(error)) else [])
    elif refusal := refusal_of(error):
        print_errors([str(refusal)])
    else:
        logging.getLogger(__name__).critical(
            "a bug; please report it with what follows", exc_info=error
        )
    return 1


def _problems(error: EtlError) -> Sequence[str]:
    if isinstance(error, ConfigError):
        return error.problems
    if isinstance(error, Stopped):
        return [f"{error}; {error.rest}"]
    return [str(error)]


def _usage_problem(error: click.ClickException) -> str:
    # People paste URLs where none belongs: the password before the @ is masked.
    text = re.sub(r"//\S*@", "//***@", " ".join(error.format_message().split()))
    context = getattr(error, "ctx", None)
    return f"{text} Try: {context.command_path} --help" if context else text


def _is_raised_by_click(error: Exception) -> bool:
    """Whether click itself could not print, which it does only for help and version."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_code is _ECHO
