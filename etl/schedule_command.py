"""`schedule`: arguments -> the daemon, in the foreground. Imports click alone."""

from __future__ import annotations

import logging

import click

from etl.command import Shared, loaded_sources, shared_options
from etl.signals import stop_on_signals

log = logging.getLogger(__name__)


@click.command(
    epilog="""\b
Exit codes:
  0  ended by SIGINT or SIGTERM, in order
  2  usage, configuration, keys or schema: it did not start

\b
Example:
  heatmap-etl schedule --listen 127.0.0.1:9102"""
)
@shared_options
@click.pass_obj
def schedule(shared: Shared) -> int:
    """Run sync again and again, as [schedule] says. Stays in the foreground.

    What is due stands in the database: after downtime one run makes up for all missed slots, and
    of several daemons on one database only one runs a slot.
    """
    with stop_on_signals() as signals, loaded_sources(shared, logging.INFO) as sources:
        for warning in sources.warnings:
            log.warning("%s", warning)
        from etl.config import require_keys
        from etl.schedule import Daemon

        for config in sources.configs:
            require_keys(config)
        Daemon(sources, signals.stop).run()
    return 0
