"""The head of a request: what is asked for, and what is refused without a word of it."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.config.allowed_hosts import AllowedHosts
from etl.monitor.http_request import MOST_BYTES, Refused, Request, end_of_head, read_head

ALLOWED = AllowedHosts.of("127.0.0.1")
HOST = "Host: localhost\r\n"


def read(head: str) -> Request:
    return read_head(head.encode("latin-1"), ALLOWED)


@pytest.mark.parametrize(
    ("head", "request_"),
    [
        (f"GET /healthz HTTP/1.1\r\n{HOST}\r\n", Request("GET", "/healthz")),
        (f"HEAD /status?x=1 HTTP/1.1\r\n{HOST}\r\n", Request("HEAD", "/status")),
        ("GET / HTTP/1.0\r\n\r\n", Request("GET", "/")),
        ("GET / HTTP/1.0\n\n", Request("GET", "/")),
        ("GET / HTTP/1.1\r\nhOST:\t127.0.0.1:9102 \r\n\r\n", Request("GET", "/")),
        (f"GET //evil/x HTTP/1.1\r\n{HOST}\r\n", Request("GET", "//evil/x")),
        (f"GET / HTTP/1.1\r\n{HOST}X-Forwarded-Host: evil\r\n\r\n", Request("GET", "/")),
    ],
)
def test_what_is_asked_for(head: str, request_: Request) -> None:
    assert end_of_head(head.encode()) == len(head)
    assert read(head) == request_


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("GET / HTTP/1.1\r\n\r\n", 421),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", 421),
        ("GET / HTTP/1.1\r\nHost: evil\r\n\r\n", 421),
        ("GET / HTTP/1.0\r\nHost: evil\r\n\r\n", 421),
        (f"GET / HTTP/1.1\r\n{HOST}Host: evil\r\n\r\n", 421),
        (f"GET / HTTP/1.1\r\n{HOST}{HOST}\r\n", 421),
        ("GET / HTTP/1.1\r\nHost: evil\r\nX-Forwarded-Host: localhost\r\n\r\n", 421),
        ("GET http://localhost/ HTTP/1.1\r\nHost: evil\r\n\r\n", 421),
        (f"GET http://evil/ HTTP/1.1\r\n{HOST}\r\n", 400),
        (f"GET * HTTP/1.1\r\n{HOST}\r\n", 400),
        (f"CONNECT evil:80 HTTP/1.1\r\n{HOST}\r\n", 400),
        (f"POST / HTTP/1.1\r\n{HOST}Content-Length: 9\r\n\r\n", 405),
        (f"TRACE / HTTP/1.1\r\n{HOST}\r\n", 405),
        ("GET /\r\n\r\n", 400),
        ("\r\n\r\n", 400),
        ("GET  / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/2.0\r\n\r\n", 400),
        ("\x16\x03\x01 TLS\r\n\r\n", 400),
        (f"GET / HTTP/1.1\r\n{HOST} folded: x\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost : localhost\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: localhost\rHost: evil\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (f"GET / HTTP/1.1\r\n{HOST}" + "a: b\r\n" * 100 + "\r\n", 431),
    ],
)
def test_what_is_refused(head: str, status: int) -> None:
    with pytest.raises(Refused) as caught:
        read(head)
    assert caught.value.status == status
    assert "evil" not in str(caught.value)
    assert ("--allow-host" in str(caught.value)) is (status == 421)


def test_a_head_without_an_end_is_bounded() -> None:
    assert end_of_head(b"GET / HTTP/1.1\r\n" + b"a" * 100) == 0
    with pytest.raises(Refused) as caught:
        end_of_head(b"a" * MOST_BYTES)
    assert caught.value.status == 431


@given(st.binary(max_size=60) | st.text("GET /HTP1.:host\r\n", max_size=60).map(str.encode))
def test_no_bytes_raise_anything_else(head: bytes) -> None:
    with suppress(Refused):
        assert read_head(head, ALLOWED).path.startswith("/")
