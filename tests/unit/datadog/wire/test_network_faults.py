"""Why no connection came about: a name that does not exist, and what may pass."""

import errno
import socket
from typing import Any

import httpcore
import pytest

from etl.config.credentials import Keys
from etl.config.views import View
from etl.datadog.client import Client
from etl.datadog.wire.network_faults import is_unknown_host, proxy_problem
from etl.datadog.wire.proxy import Proxy
from etl.errors import DatadogHostUnknown, DatadogUnavailable
from etl.extract.ask import ask
from tests.support.fake_time import FakeTime
from tests.support.project import make_config
from tests.support.raw_server import RawServer, reply

PROXY = Proxy("http://user:s3cret@proxy.internal:3128", "HTTPS_PROXY")
LABEL = "the proxy proxy.internal:3128 of HTTPS_PROXY"
AGAIN = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
NO_NAME = socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def raised(cause: BaseException, kind: type[Exception] = httpcore.ConnectError) -> Exception:
    """As it may be raised: from another error, which is raised from that of Python."""
    between, outside = OSError("in between"), kind("from outside")
    between.__cause__, outside.__context__ = cause, between
    return outside


@pytest.mark.parametrize(
    ("code", "is_unknown"),
    [
        (socket.EAI_NONAME, True),
        (socket.EAI_NODATA, True),
        (socket.EAI_AGAIN, False),
        (socket.EAI_FAIL, False),
        (socket.EAI_SYSTEM, False),
        (socket.EAI_MEMORY, False),
    ],
)
def test_only_a_name_that_does_not_exist_is_unknown(code: int, is_unknown: bool) -> None:
    assert is_unknown_host(raised(socket.gaierror(code, "said"))) is is_unknown


def test_what_is_no_matter_of_names_is_no_unknown_host() -> None:
    assert not is_unknown_host(raised(ConnectionRefusedError(errno.ECONNREFUSED, "refused")))
    assert not is_unknown_host(httpcore.ReadTimeout("late"))
    # A number of its own kind: EAI_NONAME is -2, and 2 is ENOENT.
    assert not is_unknown_host(raised(OSError(socket.EAI_NONAME, "of a file")))


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (raised(NO_NAME), f"{LABEL} does not resolve"),
        (raised(AGAIN), f"{LABEL} cannot be resolved for now"),
        (raised(ConnectionRefusedError(errno.ECONNREFUSED, "no")), f"{LABEL} cannot be reached"),
        (raised(OSError(errno.ENETUNREACH, "no")), f"{LABEL} cannot be reached"),
        (httpcore.ProxyError("407 Proxy Authentication Required"), f"{LABEL} refused"),
        (raised(ConnectionResetError(errno.ECONNRESET, "gone"), httpcore.ReadError), ""),
        (httpcore.ReadTimeout("late"), ""),
    ],
)
def test_a_proxy_that_is_the_cause_is_named(error: Exception, problem: str) -> None:
    assert proxy_problem(error, PROXY) == problem
    assert proxy_problem(error, None) == ""


# --- what the client makes of it ---------------------------------------------------------------


def failing(monkeypatch: pytest.MonkeyPatch, error: OSError, time: FakeTime, until: float) -> None:
    """Every name resolves so until the fake time is `until`."""
    real = socket.getaddrinfo

    def resolve(*where: Any, **how: Any) -> Any:
        if time.now < until:
            raise socket.gaierror(*error.args)
        return real(*where, **how)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


def asked(url: str, time: FakeTime) -> int:
    """How many requests it took."""
    config = make_config("sqlite:///x.db", url)
    settings = {"stop": time, "monotonic": time.monotonic, "jitter": lambda: 1.0}
    with Client(config, Keys("api", "app"), **settings) as client:  # type: ignore[arg-type]
        budget = client.retry_budget(120)
        _, requests = ask(lambda: (None, client.list_snapshots(View("/home"), 7)), budget)
        return requests


def test_a_resolver_that_is_away_has_the_whole_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    with RawServer(reply()) as server:
        time = FakeTime()
        failing(monkeypatch, AGAIN, time, until=time.now + 100)
        assert asked(server.url, time) > 20
        assert time.now >= 1100
        assert len(server.heads) == 1


def test_a_resolver_that_stays_away_is_no_matter_of_the_site(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    time = FakeTime()
    failing(monkeypatch, AGAIN, time, until=10_000)
    with pytest.raises(DatadogUnavailable) as caught:
        asked("https://api.datadoghq.com", time)
    assert type(caught.value) is DatadogUnavailable
    assert "Temporary failure in name resolution" in str(caught.value)
    assert "would exceed max_wait_s = 120" in str(caught.value)
    assert "check site" not in str(caught.value)
    assert time.now > 1100


def test_a_name_that_does_not_exist_is_given_up_early() -> None:
    time = FakeTime()
    with pytest.raises(DatadogHostUnknown, match=r"check site and api_url .*would exceed 10 s$"):
        asked("https://api.datadog.invalid", time)
    assert 1000 < time.now < 1011
