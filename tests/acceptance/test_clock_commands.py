"""A wrong clock, at the command line: the server's Date is moved, which is the same."""

from pathlib import Path

import pytest

from tests.support.api import Api, record
from tests.support.command_line import Cli

ACCEPT = "HEATMAP_ETL_DATADOG_ACCEPT_WRONG_CLOCK"


@pytest.fixture
def cli(tmp_path: Path, api: Api) -> Cli:
    api.views["/home"] = [record("1")]
    it = Cli(tmp_path)
    it.configure(
        'database_url = "sqlite:///heatmap-etl.db"\nviews = ["/home"]\n'
        f'[datadog]\napi_url = "{api.url}"\n'
    )
    return it


@pytest.mark.parametrize(("behind_s", "said"), [(7300, "2 h"), (315_360_000, "3650 days")])
def test_a_clock_that_is_ahead_is_refused_in_one_line(
    cli: Cli, api: Api, behind_s: float, said: str
) -> None:
    api.clock_s = -behind_s
    for arguments in (("sync",), ("sync", "--plan")):
        refused = cli(*arguments)
        assert (refused.code, refused.is_one_line()) == (2, True)
        assert f"clock is {said} ahead of the Date of 127.0.0.1" in refused.err
        assert "datadog.accept_wrong_clock = true" in refused.err
    assert cli.database.exists()
    assert not any(cli.stored())
    check = cli("check")
    assert check.code == 2
    assert f"PROBLEM  clock          this machine's clock is {said} ahead" in check.out
    accepted = cli("sync", **{ACCEPT: "true"})
    assert accepted.code == 0
    assert "is " + said + " ahead" in accepted.err


def test_a_repair_without_need_says_so(cli: Cli) -> None:
    missing = cli("db", "repair-clock", "datadoghq.com")
    assert (missing.code, missing.is_one_line()) == (2, True)
    assert cli("sync").code == 0
    for arguments in ((), ("--plan",)):
        done = cli("db", "repair-clock", "datadoghq.com", *arguments)
        assert (done.code, "nothing to repair" in done.out) == (0, True)
    unknown = cli("db", "repair-clock", "nowhere")
    assert (unknown.code, unknown.is_one_line()) == (2, True)
