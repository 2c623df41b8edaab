"""What an installation runs: its paths, its lines of a crontab, its commands."""

import re
from collections.abc import Sequence

import click

from etl.cli.app import cli

INSTALLED = "/opt/heatmap-etl/bin/heatmap-etl"
CONFIGURED = "/etc/heatmap-etl/heatmap-etl.toml"


def parse(arguments: Sequence[str]) -> str:
    """Walk the click tree as a call would, without calling; returns the name of the command."""
    context, rest = click.Context(cli, info_name="heatmap-etl"), list(arguments)
    while True:
        command = context.command
        _, rest, _ = command.make_parser(context).parse_args(rest)
        if not isinstance(command, click.Group):
            assert rest == [], f"superfluous: {rest}"
            return context.command_path.removeprefix("heatmap-etl ")
        name, found, rest = command.resolve_command(context, rest)
        assert found
        context = click.Context(found, info_name=name, parent=context)


def cron_lines(crontab: str) -> tuple[dict[str, str], list[tuple[list[str], str]]]:
    """Variables, and schedule with command; as cron reads them."""
    variables, jobs = {}, []
    for line in crontab.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if assigned := re.fullmatch(r"\s*(\w+)\s*=\s*(.*)", line):
            variables[assigned[1]] = assigned[2]
        else:
            *schedule, command = line.split(maxsplit=5)
            jobs.append((schedule, command))
    return variables, jobs
