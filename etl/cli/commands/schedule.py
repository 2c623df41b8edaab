"""`schedule`: the daemon, in the foreground."""

from __future__ import annotations

from contextlib import ExitStack

import click

from etl.cli.options import (
    HOST,
    TEXT,
    GlobalOptions,
    allow_host_option,
    global_options,
    load_sources,
)


def _address(
    ctx: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[str, int] | None:
    if value is None:
        return None
    host, colon, port = value.rpartition(":")
    if not colon or not port.isdecimal() or len(port) > 5 or int(port) > 65535:
        raise click.BadParameter("expected HOST:PORT, such as 127.0.0.1:9102")
    return HOST.convert(host, parameter, ctx), int(port)


@click.command(
    epilog="""\b
Exit codes:
  0  ended by SIGINT or SIGTERM
  1  a run hung and could not be ended; start the daemon again, as systemd and Kubernetes do
  2  usage, configuration, keys or schema: it did not start

\b
Example:
  heatmap-etl schedule --listen 127.0.0.1:9102"""
)
@click.option(
    "--listen",
    type=TEXT,
    metavar="HOST:PORT",
    callback=_address,
    help="Serve /healthz, /readyz, /status and /metrics at this address.",
)
@allow_host_option
@global_options
@click.pass_obj
def schedule(
    options: GlobalOptions, listen: tuple[str, int] | None, allowed_names: tuple[str, ...]
) -> int:
    """Run sync at the times that [schedule] sets, until Ctrl-C.

    It stays in the foreground. The database knows what is due: after downtime one run makes up for
    all missed slots. When several daemons use one database, only one of them runs a slot.
    """
    import logging

    from etl.config.allowed_hosts import AllowedHosts
    from etl.runtime.signals import stop_on_signals

    log = logging.getLogger(__name__)
    with stop_on_signals() as signals:
        sources = load_sources(options, "INFO")
        for warning in sources.warnings:
            log.warning("%s", warning)
        from etl.monitor.http_endpoints import pages_of
        from etl.monitor.http_server import listening
        from etl.monitor.metrics_file import metrics_class
        from etl.schedule.daemon import Daemon, prepare

        if not options.verbose:  # a line for each wait helps only with --verbose
            logging.getLogger("etl.datadog.client").setLevel(logging.WARNING)
        prepare(sources)
        metrics_type = metrics_class() if listen else None
        names = [config.source for config in sources.configs]
        metrics = metrics_type(names) if metrics_type else None
        daemon = Daemon(sources, signals.stop, metrics.add if metrics else None)
        with ExitStack() as stack:
            if listen:
                allowed = AllowedHosts.of(listen[0], allowed_names)
                pages = pages_of(daemon, metrics)
                log.info("listening on %s", stack.enter_context(listening(listen, pages, allowed)))
            daemon.run()
    return 0
