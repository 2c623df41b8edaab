"""One exchange against servers that never end, answer too much, or stand behind bad proxies."""

import contextlib
import dataclasses
import gzip
import itertools
import logging
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from etl.config.credentials import Keys
from etl.config.views import View
from etl.datadog.client import Client
from etl.datadog.retry import Retryable
from etl.errors import DatadogError, DatadogHostUnknown, DatadogResponseError, DatadogUnavailable
from etl.transform.decode import decode
from tests.support.certificates import make_certificate, server_tls
from tests.support.project import make_config
from tests.support.raw_server import DATA, RawServer, Reply, chunked, reply, zipped
from tests.support.tunnel import (
    Behave,
    ConnectionServer,
    after_connect,
    dripping,
    read_head,
    relay_to,
    wait_for_the_end,
)

HOME = View("/home")
SLACK_S = 1.0
HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    return make_certificate(folder, "IP:127.0.0.1", "DNS:api.datadog.invalid")


@contextmanager
def client(url: str, stop: threading.Event | None = None, **changes: Any) -> Iterator[Client]:
    config = dataclasses.replace(make_config("sqlite:///unused.db", url), **changes)
    with Client(config, Keys("api-key", "app-key"), stop=stop) as it:
        yield it


def fault_of(it: Client, **how: Any) -> DatadogError:
    """Why one exchange brought no answer."""
    try:
        it.list_snapshots(HOME, 10, **how)
    except Retryable as fault:
        return fault.error
    except DatadogError as error:
        return error
    pytest.fail("it brought an answer")


def ask(it: Client, name: str = "/home") -> bytes:
    return it.list_snapshots(View(name), 10).body


def said_of(fault: DatadogError) -> str:
    """Its text without the ports of this machine."""
    return re.sub(r"(the proxy [\w.]+):\d+ of", r"\1 of", str(fault))


def named(name: str) -> bytes:
    return b'{"data": [], "of": "%s"}' % name.encode()


def bytes_of(answer: Reply) -> bytes:
    return b"".join(answer.parts)


# --- time ---------------------------------------------------------------------------------


def parts(*first: bytes, then: bytes) -> tuple[bytes, ...]:
    return (*first, *itertools.repeat(then, 500))


NO_HEAD = {
    "silence": Reply((b"",), wait_for=threading.Event()),
    "a head that drips": Reply(parts(HEAD, b"X: ", then=b"x"), pause_s=0.02),
    "102 Processing": Reply(parts(then=b"HTTP/1.1 102 Processing\r\n\r\n"), pause_s=0.02),
}
NO_END = {
    "a body that drips": Reply(
        parts(HEAD + b"Content-Length: 999\r\n\r\n", then=b" "), pause_s=0.02
    ),
    "a body without a length": Reply(parts(HEAD + b"\r\n", then=b" "), pause_s=0.02),
    "a chunk extension": Reply(parts(CHUNKED + b"1;x=", then=b"x"), pause_s=0.02),
    "a trailer": Reply(parts(CHUNKED + b"1\r\nx\r\n0\r\nT: ", then=b"x"), pause_s=0.02),
    "silence in the body": Reply((HEAD + b"Content-Length: 9\r\n\r\n", *[b""] * 500), pause_s=0.02),
}


@pytest.mark.parametrize("answer", NO_HEAD.values(), ids=NO_HEAD)
def test_a_head_that_does_not_end_is_given_up_in_time(answer: Reply) -> None:
    with RawServer(otherwise=answer) as server, client(server.url, timeout_s=0.3) as it:
        begun = time.monotonic()
        fault = fault_of(it)
        assert 0.29 <= time.monotonic() - begun < 0.3 + SLACK_S
        if answer.wait_for:
            answer.wait_for.set()
    assert "the head did not arrive within 0.3 s" in str(fault)
    assert isinstance(fault, DatadogUnavailable)


@pytest.mark.parametrize("answer", NO_END.values(), ids=NO_END)
@pytest.mark.parametrize("within_s", [None, 0.4])
def test_an_answer_that_does_not_end_is_given_up_in_time(
    answer: Reply, within_s: float | None
) -> None:
    bound = within_s or 0.6
    with (
        RawServer(otherwise=answer) as server,
        client(server.url, timeout_s=0.3, max_wait_s=0.6) as it,
    ):
        begun = time.monotonic()
        fault = fault_of(it, within_s=within_s)
        assert bound - 0.01 <= time.monotonic() - begun < bound + SLACK_S
    assert f"the answer did not end within {bound} s" in str(fault)


def test_an_answer_may_take_longer_than_its_head() -> None:
    slow = Reply((HEAD + b"Content-Length: 12\r\n\r\n", *[b'{"', b'data": []}']), pause_s=0.2)
    with RawServer(otherwise=slow) as server, client(server.url, timeout_s=0.3) as it:
        assert ask(it) == DATA


def test_waiting_for_room_of_ours_does_not_count() -> None:
    with (
        RawServer(otherwise=reply()) as server,
        client(server.url, timeout_s=0.1, max_wait_s=0.1) as it,
    ):
        answer = it.list_snapshots(HOME, 10, before_body=lambda: time.sleep(0.3))
    assert answer.body == DATA


SLOW_WAYS: dict[str, tuple[str, Behave, str]] = {
    "silence instead of TLS": ("direct", wait_for_the_end, "no TLS with 127.0.0.1 within 0.3 s"),
    "a handshake that drips": (
        "direct",
        dripping([b"\x16\x03\x03\x40\x00", *[b"\0"] * 500], 0.02),
        "no TLS with 127.0.0.1 within 0.3 s",
    ),
    "a proxy without a word": (
        "proxy",
        wait_for_the_end,
        "no way through the proxy 127.0.0.1 of HTTPS_PROXY within 0.3 s",
    ),
    "a proxy that drips": (
        "proxy",
        dripping([b"HTTP/1.1 200 OK\r\nX: ", *[b"x"] * 500], 0.02),
        "no way through the proxy 127.0.0.1 of HTTPS_PROXY within 0.3 s",
    ),
    "a tunnel without a word": (
        "proxy",
        after_connect(wait_for_the_end),
        "no TLS with api.datadog.invalid behind the proxy 127.0.0.1 of HTTPS_PROXY within 0.3 s",
    ),
}


@pytest.mark.parametrize(("way", "behave", "said"), SLOW_WAYS.values(), ids=SLOW_WAYS)
def test_the_way_to_the_api_has_the_time_of_a_head(
    way: str, behave: Behave, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ConnectionServer(behave) as server:
        url = f"https://127.0.0.1:{server.port}"
        if way == "proxy":
            monkeypatch.setenv("HTTPS_PROXY", server.url)
            url = "https://api.datadog.invalid"
        with client(url, timeout_s=0.3) as it:
            begun = time.monotonic()
            fault = fault_of(it)
            assert 0.29 <= time.monotonic() - begun < 0.3 + SLACK_S
    assert said in said_of(fault)


def test_a_resolver_that_does_not_answer_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    never = threading.Event()

    def hang(host: str, *_: object, flags: int = 0, **__: object) -> list[Any]:
        if not flags:
            never.wait(10)
        raise socket.gaierror(socket.EAI_NONAME, "not known")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    with client("http://api.datadog.invalid", timeout_s=0.3) as it:
        begun = time.monotonic()
        fault = fault_of(it)
        assert time.monotonic() - begun < 0.3 + SLACK_S
    never.set()
    assert "no connection to api.datadog.invalid within 0.3 s" in str(fault)
    assert not isinstance(fault, DatadogHostUnknown)


def test_all_addresses_of_a_host_share_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first two never answer: their listeners take no more connections."""
    with RawServer(otherwise=reply()) as server, full_listener() as deaf:
        ways = [("127.0.0.1", deaf), ("127.0.0.1", deaf), ("127.0.0.1", server.port)]
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", way) for way in ways]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        with client("http://api.datadog.invalid", timeout_s=3.0) as it:
            begun = time.monotonic()
            assert ask(it) == DATA
            assert time.monotonic() - begun < 3
        found.pop()
        with client("http://api.datadog.invalid", timeout_s=0.4) as it:
            begun = time.monotonic()
            fault = fault_of(it)
            assert time.monotonic() - begun < 0.4 + SLACK_S
    assert "no connection to api.datadog.invalid" in str(fault)


@contextmanager
def full_listener() -> Iterator[int]:
    """The port of a server that accepts nobody, and whose queue is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        waiting = []
        for _ in range(4):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
            waiting.append(one)
        yield port
        for one in waiting:
            one.close()


@pytest.mark.parametrize("way", ["connect", "look up", "TLS"])
def test_close_ends_also_what_has_not_begun(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    never = threading.Event()

    def hang(host: str, *_: object, flags: int = 0, **__: object) -> list[Any]:
        if not flags:
            never.wait(10)
        raise socket.gaierror(socket.EAI_NONAME, "not known")

    with full_listener() as deaf, ConnectionServer(wait_for_the_end) as silent:
        url = {
            "connect": f"http://127.0.0.1:{deaf}",
            "look up": "http://api.datadog.invalid",
            "TLS": f"https://127.0.0.1:{silent.port}",
        }[way]
        if way == "look up":
            monkeypatch.setattr(socket, "getaddrinfo", hang)
        with client(url, timeout_s=30.0) as it:
            threading.Timer(0.2, it.close).start()
            begun = time.monotonic()
            fault = fault_of(it)
            assert time.monotonic() - begun < 0.2 + 2
    never.set()
    assert "stopped" in str(fault)


# --- proxies ------------------------------------------------------------------------------


def _reset(connection: socket.socket) -> None:
    connection.recv(1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def _close_in_order(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_WR)
    wait_for_the_end(connection)


def _talk(connection: socket.socket) -> None:
    connection.recv(1)  # what comes before a question of ours, httpcore drops
    connection.sendall(b"220 mail.example.com ESMTP\r\n" * 9)
    wait_for_the_end(connection)


BAD_TUNNELS: dict[str, tuple[Behave, str]] = {
    "closed": (_close_in_order, "EOF"),
    "reset": (_reset, "reset"),
    "garbage": (_talk, "SSL"),
}


@pytest.mark.parametrize(("behave", "said"), BAD_TUNNELS.values(), ids=BAD_TUNNELS)
def test_a_tunnel_that_fails_names_its_proxy_and_keeps_no_room(
    behave: Behave, said: str, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with RawServer(otherwise=reply(), tls=server_tls(certificate)) as server:
        behaviours = [behave] * 5 + [relay_to(server.port)]
        with ConnectionServer(after_connect(*behaviours)) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("//", "//user:hidden@"))
            with client("https://api.datadog.invalid", concurrency=2) as it:
                faults = [said_of(fault_of(it)) for _ in range(5)]
                assert [ask(it) for _ in range(3)] == [DATA] * 3
            assert proxy.connections == 6
    stage = "no TLS with api.datadog.invalid behind the proxy 127.0.0.1 of HTTPS_PROXY: "
    for fault in faults:
        assert stage in fault
        assert said in fault
        assert "hidden" not in fault


def test_a_proxy_whose_certificate_is_not_trusted_is_a_matter_of_certificates(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        RawServer(otherwise=reply(), tls=server_tls(certificate)) as inspecting,
        ConnectionServer(after_connect(relay_to(inspecting.port))) as proxy,
    ):
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        with client("https://api.datadog.invalid", concurrency=1) as it:
            for _ in range(3):
                with pytest.raises(DatadogUnavailable) as caught:
                    it.list_snapshots(HOME, 10)
                assert "CERTIFICATE_VERIFY_FAILED" in str(caught.value)
                assert str(caught.value).endswith("; check SSL_CERT_FILE")
                assert "behind the proxy 127.0.0.1 of HTTPS_PROXY" in said_of(caught.value)
    assert inspecting.heads == []


def test_a_proxy_with_tls_of_its_own_opens_a_tunnel(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    tls = server_tls(certificate)
    large = zipped(b'{"data": [%s]}' % b",".join(b"%d" % n for n in range(100_000)))
    with RawServer(otherwise=large, tls=tls) as server:
        tunnel = after_connect(relay_to(server.port))

        def shake_hands(connection: socket.socket) -> None:
            with tls.wrap_socket(connection, server_side=True) as secured:
                tunnel(secured)

        with ConnectionServer(shake_hands) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", f"https://127.0.0.1:{proxy.port}")
            with client("https://api.datadog.invalid") as it:
                assert [len(ask(it)) for _ in range(3)] == [588901] * 3
            assert proxy.connections == 1


def test_a_proxy_whose_name_does_not_resolve_is_called_a_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unknown(*_: object, **__: object) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setenv("HTTPS_PROXY", "http://user:hidden@proxy.invalid:3128")
    with client("https://api.datadog.invalid") as it:
        fault = fault_of(it)
    assert isinstance(fault, DatadogHostUnknown)
    assert "the proxy proxy.invalid of HTTPS_PROXY does not resolve: " in said_of(fault)
    assert str(fault).endswith("; check that proxy, and the network")
    assert "api_url" not in str(fault)
    assert "hidden" not in str(fault)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_wants_a_password_is_named_and_not_asked_again(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable = f"{scheme.upper()}_PROXY"
    with RawServer(otherwise=reply(407, "<h1>who are you?</h1>", end="close")) as proxy:
        monkeypatch.setenv(variable, proxy.url.replace("//", "//user:hidden@"))
        api_url = f"{scheme}://api.datadog.invalid"
        with client(api_url) as it, pytest.raises(DatadogUnavailable) as caught:
            it.list_snapshots(HOME, 10)
        assert len(proxy.heads) == 1
    assert "the proxy 127.0.0.1 of " + variable in said_of(caught.value)
    assert "asks for a user and a password (407)" in str(caught.value)
    assert "hidden" not in str(caught.value)


def socks_to(port: int) -> Behave:
    """A SOCKS5 proxy without a password; whatever is asked for, it connects to this port."""

    def serve(connection: socket.socket) -> None:
        methods = connection.recv(2)[1]
        connection.recv(methods)
        connection.sendall(b"\x05\x00")
        kind, length = connection.recv(5)[3:]
        assert kind == 3, "a name, which the proxy looks up"
        assert connection.recv(length + 2)[:-2] == b"api.datadog.invalid"
        connection.sendall(b"\x05\x00\x00\x01\0\0\0\0\0\0")
        relay_to(port)(connection)

    return serve


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
@pytest.mark.parametrize("has_tls", [False, True], ids=["plain", "TLS"])
def test_a_socks_proxy_is_a_tunnel(
    scheme: str, has_tls: bool, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("socksio", reason="LOUD: SOCKS is not tested: there is no socksio")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    tls = server_tls(certificate) if has_tls else None
    with (
        RawServer(otherwise=reply(), tls=tls) as server,
        ConnectionServer(socks_to(server.port)) as proxy,
    ):
        monkeypatch.setenv("ALL_PROXY", f"{scheme}://127.0.0.1:{proxy.port}")
        with client(f"http{'s' * has_tls}://api.datadog.invalid") as it:
            assert [ask(it) for _ in range(3)] == [DATA] * 3
        assert proxy.connections == 1


def test_a_socks_proxy_may_send_its_replies_in_any_pieces(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("socksio", reason="LOUD: SOCKS is not tested: there is no socksio")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    replies = (b"\x05\x02", b"\x01\x00", b"\x05\x00\x00\x03\x09localhost\x04\x38")

    def serve(connection: socket.socket) -> None:
        for said in replies:
            connection.recv(300)
            for byte in said:
                connection.sendall(bytes([byte]))
                time.sleep(0.01)
        relay_to(server.port)(connection)

    with (
        RawServer(otherwise=reply(), tls=server_tls(certificate)) as server,
        ConnectionServer(serve) as proxy,
    ):
        monkeypatch.setenv("ALL_PROXY", f"socks5://user:password@127.0.0.1:{proxy.port}")
        with client("https://api.datadog.invalid") as it:
            assert [ask(it) for _ in range(3)] == [DATA] * 3
        assert proxy.connections == 1


def test_an_api_that_is_silent_behind_a_socks_proxy_is_not_called_that_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("socksio", reason="LOUD: SOCKS is not tested: there is no socksio")
    with ConnectionServer(wait_for_the_end) as api, ConnectionServer(socks_to(api.port)) as proxy:
        monkeypatch.setenv("ALL_PROXY", f"socks5://127.0.0.1:{proxy.port}")
        with client("http://api.datadog.invalid", timeout_s=0.3) as it:
            said = said_of(fault_of(it))
        assert said.endswith(": took too long: the head did not arrive within 0.3 s")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_an_ipv6_address_has_its_brackets_for_a_proxy(
    scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = make_certificate(tmp_path, "IP:::1")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    asked = []

    def serve(connection: socket.socket) -> None:
        asked.append(read_head(connection).split(b"?")[0].split(b"\r\n")[0])
        if scheme == "https":
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            relay_to(server.port)(connection)
        else:
            connection.sendall(bytes_of(reply()))

    with (
        RawServer(otherwise=reply(), tls=server_tls(certificate)) as server,
        ConnectionServer(serve) as proxy,
    ):
        monkeypatch.setenv(f"{scheme.upper()}_PROXY", proxy.url)
        with client(f"{scheme}://[::1]:4430") as it:
            assert ask(it) == DATA
    assert asked == [
        b"GET http://[::1]:4430/api/v2/replay/heatmap/snapshots"
        if scheme == "http"
        else b"CONNECT [::1]:4430 HTTP/1.1"
    ]


BAD_SOCKS: dict[str, tuple[Behave, str]] = {
    "silence": (wait_for_the_end, " within 0.3 s"),
    "HTTP": (lambda c: c.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"), " refused: "),
    "closed": (lambda c: c.shutdown(socket.SHUT_WR), " refused: "),
    "refused": (lambda c: c.sendall(b"\x05\xff"), " refused: "),
}


@pytest.mark.parametrize(("behave", "said"), BAD_SOCKS.values(), ids=BAD_SOCKS)
def test_a_socks_proxy_that_fails_is_a_fault_of_the_network(
    behave: Behave, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("socksio", reason="LOUD: SOCKS is not tested: there is no socksio")

    def serve(connection: socket.socket) -> None:
        connection.recv(64)
        behave(connection)
        wait_for_the_end(connection)

    with ConnectionServer(serve) as proxy:
        monkeypatch.setenv("ALL_PROXY", f"socks5://127.0.0.1:{proxy.port}")
        with client("https://api.datadog.invalid", timeout_s=0.3, concurrency=1) as it:
            for _ in range(3):
                fault = fault_of(it)
                assert isinstance(fault, DatadogUnavailable)
                assert f"the proxy 127.0.0.1 of ALL_PROXY{said}" in said_of(fault)
        assert proxy.connections == 3


# --- bytes that nobody asked for ----------------------------------------------------------


def surplus(kind: str) -> Reply:
    """An answer for /a, and more."""
    first, second = bytes_of(reply(body=named("/a"))), bytes_of(reply(body=named("/stray")))
    return {
        "in one packet": Reply((first + second,)),
        "right behind": Reply((first, second)),
        "50 ms later": Reply((first, second), pause_s=0.05),
        "half of it": Reply((first + second[:40],)),
        "half of it later": Reply((first, second[:40]), pause_s=0.05),
        "a line end": Reply((first + b"\r\n",)),
        "behind chunks": Reply((bytes_of(chunked(named("/a"))) + second,)),
    }[kind]


KINDS = (
    "in one packet",
    "right behind",
    "50 ms later",
    "half of it",
    "half of it later",
    "a line end",
    "behind chunks",
)


@pytest.mark.parametrize("has_tls", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("kind", KINDS)
def test_bytes_that_nobody_asked_for_answer_nothing(
    kind: str,
    has_tls: bool,
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    script = [surplus(kind), surplus(kind), *(reply(body=named(n)) for n in ("/c", "/d"))]
    tls = server_tls(certificate) if has_tls else None
    with RawServer(*script, tls=tls) as server, client(server.url) as it:
        got = []
        for name in ("/a", "/a", "/c", "/d"):
            got.append(ask(it, name))
            time.sleep(0.4 if "later" in kind else 0.1)
    assert got == [named("/a"), named("/a"), named("/c"), named("/d")]
    assert server.connections == 3
    assert [m for m in caplog.messages if "without a request" in m] == [
        "the server sent bytes without a request: this connection is not used again"
    ]


@pytest.mark.parametrize("has_tls", [False, True], ids=["plain", "TLS"])
def test_a_server_that_behaves_gets_one_connection(
    has_tls: bool, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    tls = server_tls(certificate) if has_tls else None
    script = [reply(), zipped(), chunked(DATA), reply(500, b"oops"), reply(404, b""), reply()] * 9
    with RawServer(*script, tls=tls) as server, client(server.url) as it:
        for _ in script:
            with contextlib.suppress(Retryable, DatadogError):
                it.list_snapshots(HOME, 10)
    assert (len(server.heads), server.connections) == (54, 1)


def test_a_server_that_behaves_gets_one_tunnel(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with (
        RawServer(otherwise=reply(), tls=server_tls(certificate)) as server,
        ConnectionServer(after_connect(relay_to(server.port))) as proxy,
    ):
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        with client("https://api.datadog.invalid") as it:
            assert [ask(it) for _ in range(9)] == [DATA] * 9
        assert proxy.connections == 1


def test_a_fresh_connection_is_another_one_and_the_old_one_is_closed() -> None:
    with RawServer(otherwise=reply()) as server, client(server.url) as it:
        ask(it)
        it.list_snapshots(HOME, 10, is_fresh=True)
        assert server.connections == 2
        ask(it)
        assert server.connections == 2


def test_a_connection_whose_parser_is_not_found_is_not_used_again() -> None:
    """The parser is no public part of httpcore: another version may keep it elsewhere."""
    with RawServer(otherwise=reply()) as server, client(server.url) as it:
        ask(it)
        (connection,) = it._transport._idle
        assert connection.is_reusable()
        (outer,) = connection._pool.connections
        del outer._connection._h11_state  # type: ignore[attr-defined]
        assert not connection.is_reusable()
        assert ask(it) == DATA
    assert server.connections == 2


# --- size ---------------------------------------------------------------------------------


def test_a_body_beyond_the_bound_fails_at_once_with_one_line() -> None:
    zeros = gzip.compress(bytes(3 << 20))
    bodies = {
        "plain": reply(body=b" " * (1 << 20) + b"x"),
        "chunks": chunked(*[b" " * 65536] * 17),
        "packed": reply(body=zeros, headers={"Content-Encoding": "gzip"}),
    }
    for kind, body in bodies.items():
        with (
            RawServer(otherwise=body) as server,
            client(server.url, max_body_mb=1) as it,
            pytest.raises(DatadogResponseError) as caught,
        ):
            it.list_snapshots(HOME, 10)
        assert str(caught.value) == (
            "view /home: 200: the answer is larger than datadog.max_body_mb = 1 MB"
        ), kind
        assert (caught.value.requests, caught.value.status) == (1, 200)


def test_a_large_body_that_is_no_json_is_not_brought_again() -> None:
    with RawServer(otherwise=reply(200, b"x" * (17 << 20))) as server, client(server.url) as it:
        answer = it.list_snapshots(HOME, 10, on_large=lambda _: True)
        with pytest.raises(DatadogResponseError, match="the answer is not") as caught:
            answer.decoded(decode)
    assert (caught.value.status, caught.value.requests) == (200, 1)
    assert len(str(caught.value)) < 300


def test_a_body_of_exactly_the_bound_is_read() -> None:
    with RawServer(reply(body=b" " * (1 << 20))) as server, client(server.url, max_body_mb=1) as it:
        assert len(ask(it)) == 1 << 20


def test_a_refusal_without_an_end_is_a_refusal() -> None:
    endless = Reply(itertools.chain([b"HTTP/1.1 403 No\r\n\r\n"], itertools.repeat(b"x" * 65536)))
    with RawServer(otherwise=endless) as server, client(server.url) as it:
        fault = fault_of(it)
    assert fault.status == 403


def test_large_bodies_take_turns() -> None:
    waits: list[float] = []

    def refuse(seconds: float) -> bool:
        waits.append(seconds)
        return False

    large = reply(body=b" " * (17 << 20))
    with RawServer(otherwise=large) as server, client(server.url, max_wait_s=60.0) as it:
        assert len(it.list_snapshots(HOME, 10, on_large=lambda _: True).body) == 17 << 20
        fault = fault_of(it, on_large=refuse)
        without = fault_of(it)
    assert "other large answers came first within 60 s" in str(fault)
    assert str(without) == "view /home: 200: the answer is larger than 16 MB"
    assert len(waits) == 1
    assert 50 < waits[0] <= 60
