"""An HTTP server on bare sockets that can misbehave: each reply is bytes and what to do then.

It answers requests in the order of its script, whichever connection they come on; `otherwise`,
a reply or what makes one of a request's head, follows when the script is used up. `heads` holds
each request as it came.
"""

import contextlib
import gzip
import json
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from tests.support.api import record

DATA = b'{"data": []}'


@dataclass(frozen=True)
class Reply:
    """What to send. `end`: `keep` the connection, `close` it, or `reset` it."""

    parts: Iterable[bytes] = ()
    end: str = "keep"
    pause_s: float = 0.0  # before each part
    wait_for: threading.Event | None = None  # before the first part
    meet: threading.Barrier | None = None  # before the first part


def reply(
    status: int = 200,
    body: bytes | str | dict[str, object] = DATA,
    headers: Mapping[str, object] | None = None,
    **how: object,
) -> Reply:
    """A well-formed answer with a Content-Length, unless `headers` says otherwise."""
    content = json.dumps(body) if isinstance(body, dict) else body
    content = content.encode() if isinstance(content, str) else content
    lines = {"Content-Length": len(content), **(headers or {})}
    if "Transfer-Encoding" in lines:
        del lines["Content-Length"]
    head = f"HTTP/1.1 {status} Said\r\n" + "".join(f"{k}: {v}\r\n" for k, v in lines.items())
    return Reply((head.encode() + b"\r\n", content), **how)  # type: ignore[arg-type]


def view_of(head: bytes) -> str:
    target = head.split(b" ")[1].decode()
    return parse_qs(urlsplit(target).query).get("filter[view_name]", [""])[0]


def answer(view: str, count: int, **how: Any) -> Reply:
    """A listing of a view; an odd number of records comes zipped."""
    body = json.dumps({"data": [record(f"{view} {n}", view_name=view) for n in range(count)]})
    if count % 2:
        zipped = gzip.compress(body.encode())
        return reply(200, zipped, {"Content-Encoding": "gzip"}, **how)
    return reply(200, body, **how)


def zipped(body: bytes = DATA, **how: object) -> Reply:
    return reply(200, gzip.compress(body), {"Content-Encoding": "gzip"}, **how)


def chunked(*chunks: bytes, whole: bool = True) -> Reply:
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    end = b"0\r\n\r\n" if whole else b""
    how = {} if whole else {"end": "close"}
    return reply(200, body + end, {"Transfer-Encoding": "chunked"}, **how)


CUT = reply(body=b'{"data": [', headers={"Content-Length": 100}, end="close")
RESET = Reply(end="reset")
RESET_IN_BODY = reply(body=b'{"data": [', headers={"Content-Length": 100}, end="reset")
HUNG_UP = Reply(end="close")
NO_HTTP = Reply((b"220 mail.example.com ESMTP\r\n",), end="close")
BAD_GZIP = reply(200, b"not gzip", {"Content-Encoding": "gzip"})
CUT_GZIP = reply(200, gzip.compress(DATA)[:-5], {"Content-Encoding": "gzip"})
SPOILT_GZIP = reply(200, gzip.compress(DATA)[:-8] + bytes(8), {"Content-Encoding": "gzip"})
UNASKED_CODING = reply(200, DATA, {"Content-Encoding": "br"})


class RawServer:
    """Context manager; `url` is where it listens."""

    def __init__(
        self,
        *script: Reply,
        otherwise: Reply | Callable[[bytes], Reply] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._script = list(script)
        self._otherwise = otherwise
        self._tls = tls
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._open: set[socket.socket] = set()
        self._in_flight = 0
        self.heads: list[bytes] = []
        self.connections = 0
        self.most_in_flight = 0
        self.asked = threading.Event()  # a request has come
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            for connection in (self._listener, *self._open):
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        self._listener.close()

    @property
    def targets(self) -> list[str]:
        """What stood between the method and the version, as sent."""
        return [head.split(b" ")[1].decode() for head in self.heads]

    def header(self, name: str, request: int = 0) -> str | None:
        for line in self.heads[request].decode().split("\r\n")[1:]:
            if line.lower().startswith(name.lower() + ":"):
                return line.partition(":")[2].strip()
        return None

    def _start(self, work: object, *args: object) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections += 1
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        try:
            if self._tls:
                connection = self._tls.wrap_socket(connection, server_side=True)
            with self._lock:
                self._open.add(connection)
            while head := self._head(connection):
                if not self._answer(connection, head):
                    break
        except OSError:
            pass
        finally:
            with self._lock:
                self._open.discard(connection)
            connection.close()

    def _head(self, connection: socket.socket) -> bytes:
        """The head of the next request. Its body, which may come with it, is read and dropped."""
        received, end = b"", -1
        while end < 0:
            if not (got := connection.recv(65536)):
                return b""
            received += got
            end = received.find(b"\r\n\r\n")
        head, body = received[: end + 4], received[end + 4 :]
        length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
        while length and len(body) < int(length[1]):
            if not (got := connection.recv(65536)):
                break
            body += got
        return head

    def _answer(self, connection: socket.socket, head: bytes) -> bool:
        """Whether the connection stays open."""
        with self._lock:
            self.heads.append(head)
            self._in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self._in_flight)
            answer = self._script.pop(0) if self._script else self._otherwise
        if callable(answer):
            answer = answer(head)
        self.asked.set()
        assert answer, "the script is used up"
        if answer.wait_for:
            answer.wait_for.wait(10)
        if answer.meet:
            answer.meet.wait(10)
        # Before it is sent: the client may ask again as soon as it has read the end.
        with self._lock:
            self._in_flight -= 1
        for part in answer.parts:
            time.sleep(answer.pause_s)
            connection.sendall(part)
        if answer.end == "reset":
            no_linger = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_linger)
        return answer.end == "keep"
