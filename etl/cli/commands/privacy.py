"""`privacy apply`: makes stored rows follow the configured privacy setting."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from etl.cli.options import CommandGroup, GlobalOptions, global_options, load_sources

if TYPE_CHECKING:
    from etl.cli.fan_out import CommandResult
    from etl.config.model import Config


@click.group(cls=CommandGroup)
@global_options
def privacy() -> None:
    """Hide in stored rows who created a snapshot."""


@privacy.command(
    "apply",
    epilog="""\b
Exit codes:
  0        all stored rows follow the configured setting
  2        configuration, database or schema
  75       another process works on this source
  130 143  ended by SIGINT, SIGTERM: run it again""",
)
@global_options
@click.pass_obj
def privacy_apply(options: GlobalOptions) -> int:
    """Make all stored rows follow the setting privacy.created_by.

    It rewrites them in place and in batches, and begins no new version. If it is interrupted, run
    it again: it continues. Hashed and dropped names cannot be brought back.
    """
    import threading

    from etl.runtime.signals import stop_on_signals

    with stop_on_signals() as signals:
        sources = load_sources(options)
        from etl.cli.fan_out import CommandResult, OutputStyle, print_outcomes, run_for_each
        from etl.cli.output.privacy import privacy_lines
        from etl.database.connection import opened
        from etl.source.reapply_privacy import apply_privacy

        one_at_a_time = threading.Lock()  # the sources may share a SQLite file

        def apply_to_one(config: Config) -> CommandResult:
            with one_at_a_time, opened(config) as database:
                rewriting = apply_privacy(config, database, signals.stop)
                return CommandResult(lines=privacy_lines(rewriting, config, database))

        outcomes = run_for_each(sources, apply_to_one)
        signals.raise_if_set()
        return print_outcomes(outcomes, OutputStyle(sources.is_folder, has_headings=False))
