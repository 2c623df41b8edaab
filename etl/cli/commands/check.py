"""`check`: whether a run would work."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click

from etl.cli.options import PATH, GlobalOptions, load_sources, looking_options

if TYPE_CHECKING:
    from pathlib import Path

    from etl.cli.fan_out import CommandResult
    from etl.config.model import Config
    from etl.diagnose.check import Point


@click.command(
    epilog="""\b
Exit codes:
  0  everything is in order: a run would work
  1  some views cannot be read
  2  something must be fixed first"""
)
@click.option(
    "--report",
    type=PATH,
    metavar="FILE",
    help="Also ask the API about 20 things that its documentation leaves open. Write the answers "
    "to a new FILE for a bug report. The file holds nothing personal.",
)
@looking_options
@click.pass_obj
def check(options: GlobalOptions, report: Path | None) -> int:
    """Try everything a run needs, and change nothing.

    It tests the configuration, the database, its schema, the right to write, and the keys. It
    sends one real list request for each view. It ends soon if a server does not answer.
    """
    from etl.runtime.signals import stop_on_signals

    with stop_on_signals() as signals:
        sources = load_sources(options, finds_system=True)
        from etl.cli.fan_out import CommandResult, OutputStyle, print_outcomes, run_for_each
        from etl.cli.output.check import check_lines, closing_lines, point_line
        from etl.cli.progress import Progress
        from etl.diagnose.check import exit_code, find_points, listed_by_view
        from etl.diagnose.probe.report import report_path, write_report
        from etl.runtime.console import print_results

        path = report_path(sources, report)
        with Progress(sum(len(config.views) for config in sources.configs)) as progress:

            def check_one(config: Config) -> CommandResult:
                def show(point: Point) -> None:
                    if not point.view and not sources.is_folder:
                        progress.hide()
                        print_results([point_line(point)])

                done = partial(progress.show, config.source)
                points = find_points(config, stop=signals.stop, progress=done, show=show)
                lines = check_lines(points) if sources.is_folder else closing_lines(points)
                if path:
                    lines += write_report(config, path, listed_by_view(points), signals.stop)
                return CommandResult(exit_code(points), lines)

            outcomes = run_for_each(sources, check_one)
        signals.raise_if_set()
        return print_outcomes(outcomes, OutputStyle(sources.is_folder))
