"""Proxies of the environment: real processes, a real proxy, and who gets the keys."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from etl.fake_datadog import FakeDatadog, World
from tests.support.command_line import PASSWORD, SECRETS, Cli
from tests.support.raw_server import RawServer, reply


@pytest.fixture
def datadog() -> Iterator[FakeDatadog]:
    api_key, app_key = SECRETS.values()
    with FakeDatadog(World(views=["/home"]), api_key=api_key, app_key=app_key) as server:
        yield server


@pytest.fixture
def proxy() -> Iterator[RawServer]:
    """It answers by itself, with a listing of nothing."""
    with RawServer(otherwise=reply()) as server:
        yield server


@pytest.fixture
def cli(tmp_path: Path, datadog: FakeDatadog) -> Cli:
    cli = Cli(tmp_path, {"HEATMAP_ETL_DATADOG_API_URL": datadog.url})
    cli.configure(
        'database_url = "sqlite:///heatmap-etl.db"\nviews = ["/home"]\n'
        "[datadog]\nmax_wait_s = 0.3\n"
    )
    return cli


def test_check_says_which_proxy_requests_take(cli: Cli, proxy: RawServer) -> None:
    url = proxy.url.replace("//", f"//user:{PASSWORD}@")
    done = cli("check", HTTP_PROXY=url)
    said = rf"^ok +proxy +requests go through 127\.0\.0\.1:{proxy.port} \(HTTP_PROXY\)$"
    assert re.search(said, done.out, re.MULTILINE)
    for irrelevant in ({"HTTPS_PROXY": url}, {"HTTP_PROXY": url, "NO_PROXY": "*"}):
        assert "requests go through" not in cli("check", **irrelevant).out


def test_check_says_that_a_proxy_cannot_be_used(cli: Cli) -> None:
    done = cli("check", HTTP_PROXY=f"ftp://user:{PASSWORD}@h")
    assert done.code == 2
    assert "HTTP_PROXY: ftp:// is not supported for a proxy" in done.out
