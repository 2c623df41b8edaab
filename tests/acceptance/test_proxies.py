"""Proxies of the environment: real processes, a real proxy, and who gets the keys."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from etl.fake_datadog import FakeDatadog, World
from tests.support.command_line import PASSWORD, SECRETS, Cli
from tests.support.raw_server import RawServer, reply
from tests.support.socks_server import SocksServer


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


def test_the_proxy_of_the_environment_is_asked(cli: Cli, proxy: RawServer) -> None:
    done = cli("sync", HEATMAP_ETL_DATADOG_API_URL="http://api.invalid", HTTP_PROXY=proxy.url)
    assert done.code == 0
    assert proxy.targets[0].startswith("http://api.invalid/api/v2/")


@pytest.mark.parametrize(
    "no_proxy",
    [
        "127.0.0.0/8",
        "localhost, 127.0.0.0/8 ,::1",
        "::1 127.0.0.1",
        "127.0.0.1:{port}",
        "127.0.0.*",
        "::ffff:127.0.0.1",
        "*",
    ],
)
def test_the_keys_of_an_excluded_host_never_reach_the_proxy(
    cli: Cli, proxy: RawServer, datadog: FakeDatadog, no_proxy: str
) -> None:
    excluded = no_proxy.format(port=datadog.url.rpartition(":")[2])
    done = cli("sync", "--json", HTTP_PROXY=proxy.url, ALL_PROXY=proxy.url, NO_PROXY=excluded)
    assert done.code == 0
    assert done.json["views"][0]["listed"] > 0
    assert proxy.connections == 0


BAD = (
    "socks4://h:1",
    "ftp://h:1",
    "http://",
    "http://h:x",
    "http://a..b:1",
    f"http://user:{PASSWORD}@h:70000",
    "socks://h:1",
)


@pytest.mark.parametrize("value", BAD)
def test_a_proxy_that_no_request_needs_stops_nothing(
    cli: Cli, proxy: RawServer, value: str
) -> None:
    for irrelevant in (
        {"ALL_PROXY": value, "HTTP_PROXY": proxy.url},
        {"ALL_PROXY": value, "NO_PROXY": "127.0.0.0/8"},
        {"HTTPS_PROXY": value},
    ):
        assert cli("sync", **irrelevant).code == 0


@pytest.mark.parametrize("value", BAD)
def test_a_proxy_that_cannot_be_used_is_one_line_and_nothing_is_written(
    cli: Cli, value: str
) -> None:
    for name in ("HTTP_PROXY", "all_proxy"):
        done = cli("sync", **{name: value})
        assert (done.code, done.out, done.is_one_line()) == (2, "", True)
        assert f"{name}: " in done.err


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("nobody.invalid:1", "the proxy nobody.invalid:1 of HTTP_PROXY does not resolve"),
        ("http://127.0.0.1:9", "the proxy 127.0.0.1:9 of HTTP_PROXY cannot be reached"),
    ],
)
def test_a_proxy_that_is_not_there_is_called_a_proxy(cli: Cli, value: str, problem: str) -> None:
    done = cli("sync", "--quiet", HTTP_PROXY=value)
    assert problem in done.err
    assert "check site" not in done.err
    assert (done.code, done.err.count("\n")) in {(1, 1), (2, 1)}


def test_a_socks_proxy_is_used_where_its_library_is_installed(
    cli: Cli, datadog: FakeDatadog
) -> None:
    with SocksServer() as socks:
        done = cli("sync", "--json", ALL_PROXY=socks.url)
    assert (done.code, done.err) == (0, "")
    assert done.json["views"][0]["listed"] > 0
    assert socks.asked_for[0] == ("127.0.0.1", int(datadog.url.rpartition(":")[2]))
