"""`fake-datadog`: an invented Datadog to try things on."""

from __future__ import annotations

import click

from etl.cli.options import HOST
from etl.errors import EtlError
from etl.runtime.console import print_results


@click.command("fake-datadog")
@click.option("--host", type=HOST, default="127.0.0.1", show_default=True)
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
            on_ready=lambda url: print_results(greeting(url, world.view_names)),
        )
    except OSError as error:
        raise EtlError(f"cannot listen on {host}:{port}: {error.strerror}") from None
    return 0
