"""`fake-datadog`: an invented Datadog to try things on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from etl.cli.options import TEXT, address_options
from etl.errors import EtlError
from etl.runtime.console import as_called, print_results

if TYPE_CHECKING:
    from etl.fake_datadog import Fault


class _FaultType(click.ParamType):  # type: ignore[type-arg]
    """`KIND` or `KIND:SHARE`."""

    name = "fault"

    def convert(self, value: Any, *args: Any) -> Fault:
        from etl.fake_datadog import Fault

        try:
            return Fault.parse(TEXT.convert(value, *args))
        except ValueError as error:
            self.fail(str(error), *args)


@click.command(
    "fake-datadog",
    epilog="""\b
Kinds of fault:
  429    the rate limit is used up
  500    a server error
  empty  every view lists nothing: removals are held
  cut    half of the answer, then the connection ends, as in a broken network
  slow   the answer comes 40 s late, longer than `datadog.timeout_s`
  auth   403, the keys are refused
  clock  the Date is two hours back, as if this machine's clock were ahead

\b
To see what a fault does (the same --seed gives the same snapshots and faults):
  heatmap-etl fake-datadog                  and elsewhere paste what it prints, then Ctrl-C
  heatmap-etl fake-datadog --fault 500:0.2  and paste the same lines again""",
)
@address_options(port=8321)
@click.option(
    "--tick",
    type=click.FloatRange(0.01),
    metavar="SECONDS",
    help="Every so many seconds, six hours pass in the invented Datadog: snapshots come, change "
    "and go.",
)
@click.option(
    "--seed", default=1, show_default=True, help="Another seed gives another organization."
)
@click.option(
    "--latency",
    default=0.0,
    type=click.FloatRange(0),
    metavar="SECONDS",
    help="Wait this long before each answer. Default: 0.",
)
@click.option(
    "--fault",
    "faults",
    type=_FaultType(),
    multiple=True,
    metavar="KIND[:SHARE]",
    help="Spoil this share of the answers, 0 to 1. Default: all of them. Repeatable.",
)
def fake_datadog(
    host: str, port: int, tick: float | None, seed: int, latency: float, faults: tuple[Fault, ...]
) -> int:
    """Serve an invented Datadog to try things on, until Ctrl-C."""
    from etl.fake_datadog import Faults, World, serve
    from etl.fake_datadog.greeting import greeting

    world = World(seed)
    try:
        serve(
            world,
            host=host,
            port=port,
            tick_every_s=tick,
            latency_s=latency,
            faults=Faults(faults, seed),
            on_ready=lambda url: print_results(
                greeting(url, world.view_names, faults, as_called(is_anywhere=True))
            ),
        )
    except OSError as error:
        raise EtlError(f"cannot listen on {host}:{port}: {error.strerror}") from None
    return 0
