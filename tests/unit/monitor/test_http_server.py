"""The server of `--listen` among clients that are slow, many, rude or foreign."""

import http.client
import logging
import resource
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from urllib.parse import urlsplit

import pytest

from etl.config.allowed_hosts import AllowedHosts
from etl.monitor import http_server
from etl.monitor.http_server import MOST_CONNECTIONS, Page, Pages, Response, listening

WAIT_S = 30
HEALTHZ = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
def blocked() -> Iterator[threading.Event]:
    """Until it is set, /status is not answered."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def address(blocked: threading.Event) -> Iterator[tuple[str, int]]:
    def status() -> Response:
        blocked.wait(WAIT_S)
        return Response(200, b"s")

    pages: Pages = {
        "/healthz": Page(lambda: Response(200, b"ok"), may_block=False),
        "/status": Page(status),
        "/large": Page(lambda: Response(200, b"x" * 8_000_000), may_block=False),
        "/bug": Page(lambda: Response(1 // 0, b"")),
    }
    with listening(("127.0.0.1", 0), pages, AllowedHosts.of("127.0.0.1", ["etl"])) as url:
        yield "127.0.0.1", urlsplit(url).port or 0


def connected(address: tuple[str, int], sent: bytes = b"") -> socket.socket:
    client = socket.create_connection(address, timeout=WAIT_S)
    client.sendall(sent)
    return client


def everything(client: socket.socket) -> bytes:
    pieces = []
    while piece := client.recv(65_536):
        pieces.append(piece)
    return b"".join(pieces)


def said(address: tuple[str, int], sent: bytes) -> tuple[int, bytes, bytes]:
    """Status, head and body of the only response."""
    with closing(connected(address, sent)) as client:
        head, _, body = everything(client).partition(b"\r\n\r\n")
    assert body.count(b"HTTP/1.1") == 0
    return int(head.split(b" ")[1]), head, body


def is_dropped(client: socket.socket) -> bool:
    try:
        return not client.recv(1)
    except ConnectionError:
        return True


def test_one_connection_is_one_response(address: tuple[str, int]) -> None:
    status, head, body = said(address, HEALTHZ * 3)
    assert (status, body) == (200, b"ok")
    assert b"Connection: close" in head
    assert b"Access-Control" not in head
    assert b"frame-ancestors 'none'" in head
    assert said(address, HEALTHZ.replace(b"GET", b"HEAD"))[::2] == (200, b"")
    assert said(address, b"GET /healthz HTTP/1.0\r\n\r\n")[::2] == (200, b"ok")
    status, head, _ = said(address, b"BREW /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (status, b"Allow: GET, HEAD" in head) == (405, True)


@pytest.mark.parametrize("path", ["/healthz", "/status", "/bug", "/nowhere"])
def test_a_foreign_host_is_refused_on_every_path(address: tuple[str, int], path: str) -> None:
    client = http.client.HTTPConnection(*address, timeout=WAIT_S)
    with closing(client):
        client.request("GET", path, headers={"Host": "evil.example", "X-Forwarded-Host": "etl"})
        response = client.getresponse()
        assert response.status == 421
        text = response.read().decode()
    assert "--allow-host" in text
    assert "evil" not in text
    assert text.count("\n") == 1


def test_a_name_that_was_allowed_is_answered(address: tuple[str, int]) -> None:
    assert said(address, HEALTHZ.replace(b"localhost", b"etl:9102"))[0] == 200


def test_a_body_is_neither_kept_nor_takes_the_response_back(address: tuple[str, int]) -> None:
    head = b"POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900000\r\n\r\n"
    assert said(address, head + b"x" * 900_000)[0] == 405
    assert said(address, b"x" * 900_000)[0] == 431


def test_a_request_that_drips_has_one_deadline(
    address: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "_REQUEST_S", 0.5)
    with closing(connected(address)) as client:
        client.settimeout(0.01)
        answer = b""
        for byte in HEALTHZ[:-1] + b"X-Slow: " + b"x" * 10_000:  # 100 s of it
            try:
                client.sendall(bytes([byte]))
                answer = client.recv(4096)
            except TimeoutError:
                continue
            except ConnectionError:
                break
            break
        assert answer.startswith(b"HTTP/1.1 408 ")


def test_the_oldest_without_a_request_makes_room(address: tuple[str, int]) -> None:
    with ExitStack() as stack:
        clients = [
            stack.enter_context(closing(connected(address, b"GET /")))
            for _ in range(MOST_CONNECTIONS)
        ]
        assert said(address, HEALTHZ)[0] == 200
        assert is_dropped(clients[0])
        clients[-1].sendall(HEALTHZ.removeprefix(b"GET /"))
        assert everything(clients[-1]).startswith(b"HTTP/1.1 200 ")


def test_under_a_thousand_slow_clients_a_probe_is_answered(address: tuple[str, int]) -> None:
    threads = threading.active_count()
    with ExitStack() as stack:
        for number in range(1000):
            stack.enter_context(closing(connected(address, b"GET /healthz HTTP/1.1\r\nX: ")))
            if number % 100 == 99:
                assert said(address, HEALTHZ)[0] == 200
        assert threading.active_count() == threads


def test_pages_that_hang_keep_no_other_from_its_answer(
    address: tuple[str, int], blocked: threading.Event
) -> None:
    status = HEALTHZ.replace(b"healthz", b"status")
    with ExitStack() as stack:
        clients = [stack.enter_context(closing(connected(address, status))) for _ in range(60)]
        code, _, text = said(address, status)
        assert (code, b"ask later" in text) == (503, True)
        assert said(address, HEALTHZ)[0] == 200
        blocked.set()
        codes = [everything(client)[9:12] for client in clients]
    assert codes == [b"200"] * 8 + [b"503"] * 52
    assert said(address, status)[0] == 200


def test_clients_that_do_not_read_make_room(address: tuple[str, int]) -> None:
    large = HEALTHZ.replace(b"healthz", b"large")
    with ExitStack() as stack:
        for _ in range(MOST_CONNECTIONS * 2):
            stack.enter_context(closing(connected(address, large)))
        assert said(address, HEALTHZ)[0] == 200


@pytest.mark.parametrize("other", [HEALTHZ + b"X", HEALTHZ.replace(b"healthz", b"large")])
def test_who_waits_for_an_answer_does_not_make_room_for_those_that_have_one(
    address: tuple[str, int], blocked: threading.Event, other: bytes
) -> None:
    with ExitStack() as stack:
        status = HEALTHZ.replace(b"healthz", b"status")
        waiting = stack.enter_context(closing(connected(address, status)))
        assert said(address, HEALTHZ)[0] == 200  # so the server has the request
        for _ in range(MOST_CONNECTIONS + 8):
            client = stack.enter_context(closing(connected(address, other)))
            assert client.recv(12) == b"HTTP/1.1 200"
        blocked.set()
        assert everything(waiting).startswith(b"HTTP/1.1 200 ")


def test_a_bug_is_told_in_the_log_only(
    address: tuple[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    assert said(address, HEALTHZ.replace(b"healthz", b"bug"))[::2] == (500, b"a bug, see the log\n")
    assert "ZeroDivisionError" in caplog.text


def test_without_a_descriptor_it_waits_and_goes_on(
    address: tuple[str, int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    accept = socket.socket.accept
    refused: list[float] = []

    def without(self: socket.socket) -> tuple[socket.socket, object]:
        if len(refused) < 3:
            refused.append(time.monotonic())
            raise OSError(24, "Too many open files")
        return accept(self)

    monkeypatch.setattr(http_server, "_PAUSE_S", 0.05)
    monkeypatch.setattr(socket.socket, "accept", without)
    with closing(connected(address)):  # ends the accept that waited with the real one
        assert said(address, HEALTHZ)[0] == 200
    assert len(refused) == 3
    assert refused[2] - refused[0] >= 0.1
    assert "cannot take a connection" in caplog.text


@pytest.mark.parametrize(("limit", "most"), [(64, 16), (1024, 32), (-1, 32), (8, 4)])
def test_three_quarters_of_the_descriptors_are_left(
    limit: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    assert http_server._most_connections() == most


def test_it_ends_though_a_page_hangs(blocked: threading.Event) -> None:
    begun = threading.Event()

    def hang() -> Response:
        begun.set()
        blocked.wait(WAIT_S)
        return Response(200, b"")

    with listening(("127.0.0.1", 0), {"/": Page(hang)}) as url:
        port = urlsplit(url).port or 0
        client = connected(("127.0.0.1", port), b"GET / HTTP/1.0\r\n\r\n")
        assert begun.wait(WAIT_S)
    with closing(client):
        assert is_dropped(client)
