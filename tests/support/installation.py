"""What an installation runs: its paths, its lines of a crontab, its commands."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import click

from etl.cli.app import cli
from tests.support.paths import ROOT

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


def unit_values(name: str, setting: str) -> list[str]:
    """The values of a setting of a systemd unit, in the order of the file."""
    text = (ROOT / "deploy" / "systemd" / name).read_text(encoding="utf-8")
    return re.findall(rf"^{setting}=(.*)$", text, re.MULTILINE)


def unit_environment(name: str, *, credentials: Path, state: Path) -> dict[str, str]:
    """Of the process that the unit starts."""
    words = [word for value in unit_values(name, "Environment") for word in shlex.split(value)]
    filled = [word.replace("%d", str(credentials)).replace("%S", str(state)) for word in words]
    return dict(word.split("=", 1) for word in filled)
