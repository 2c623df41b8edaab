"""`status` in colour: on a terminal, and nowhere else."""

import re
from pathlib import Path

import pytest

from tests.support.api import Api, record
from tests.support.command_line import Cli, on_terminal

ESCAPE = "\x1b["


@pytest.fixture
def cli(tmp_path: Path, api: Api) -> Cli:
    """One good view and one that fails."""
    cli = Cli(tmp_path / "project", {"HEATMAP_ETL_DATADOG_API_URL": api.url})
    cli.folder.mkdir()
    cli.configure('database_url = "sqlite:///x.db"\nviews = ["/home", "/bad"]\n')
    api.views |= {"/home": [record("1")], "/bad": (404, {}, b"{}")}
    assert cli("sync", "--quiet").code == 1
    return cli


def test_a_terminal_shows_verdicts_and_statuses_in_colour(cli: Cli) -> None:
    seen = on_terminal(cli, "status")
    painted = re.findall(r"\x1b\[(\d+)m(\w+)\x1b\[0m", seen)
    assert painted == [("32", "complete"), ("31", "failed"), ("33", "partial")]
    assert seen.replace("\r\n", "\n").count(ESCAPE) == 2 * len(painted)


@pytest.mark.parametrize("variable", ["NO_COLOR=1", "TERM=dumb"])
def test_who_wants_no_colours_gets_none(cli: Cli, variable: str) -> None:
    name, _, value = variable.partition("=")
    assert ESCAPE not in on_terminal(cli, "status", **{name: value})


def test_what_is_piped_has_no_colours(cli: Cli) -> None:
    for arguments in (("status",), ("status", "--json")):
        done = cli(*arguments, TERM="xterm", NO_COLOR=None)
        assert (done.code, ESCAPE in done.out + done.err) == (0, False)
