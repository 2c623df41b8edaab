"""The HTTP server of `--listen`; it knows only paths and responses.

It must neither keep the daemon from its work nor stop to answer, whoever connects. So it holds few
connections, each for a few seconds. When all are taken, the oldest that waits for no answer makes
room: a probe sends its whole request at once, and reads the answer at once.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import resource
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, TypeAlias

from etl.config.allowed_hosts import AllowedHosts
from etl.errors import EtlError
from etl.monitor.http_request import Refused, Request, end_of_head, read_head
from etl.runtime.refusals import refusal_of

log = logging.getLogger(__name__)

MOST_CONNECTIONS = 32
_REQUEST_S = 10.0  # from the connection to the last byte of the head
_RESPONSE_S = 60.0  # from there to the last byte of the response; a database may be slow
_FAREWELL_S = 1.0
_PAUSE_S = 0.5  # when the system gives no descriptor
_MOST_PAGES = 8  # that are made at once; each has a thread
_BACKLOG = 512
_BODY = re.compile(rb"^(content-length|transfer-encoding):", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Response:
    """Status, body and its type."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


def json_response(status: int, content: Any) -> Response:
    """`content` as one line of JSON."""
    return Response(status, json.dumps(content).encode() + b"\n", "application/json")


@dataclass(frozen=True, slots=True)
class Page:
    """Makes the response; `may_block`: in a thread of its own, as others must not wait for it."""

    respond: Callable[[], Response]
    may_block: bool = True


Pages: TypeAlias = "Mapping[str, Page]"
"""The pages by path."""


@contextmanager
def listening(
    address: tuple[str, int], pages: Pages, allowed: AllowedHosts | None = None
) -> Iterator[str]:
    """Serve in the background; yields the URL. Raises `EtlError` when it cannot listen."""
    host, port = address
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise EtlError(f"--listen: cannot listen on {host}:{port}: {reason}") from None
    with closing(listener):
        listener.setblocking(False)
        server = _Server(listener, pages, allowed or AllowedHosts.of(host), _most_connections())
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=_serve, args=(loop, server), name="listen", daemon=True)
        thread.start()
        try:
            url_host = f"[{host}]" if ":" in host else host
            yield f"http://{url_host}:{listener.getsockname()[1]}"
        finally:
            loop.call_soon_threadsafe(server.stop)
            thread.join()


def _most_connections() -> int:
    """A quarter of the descriptors that the process may have: the rest is for its work."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_CONNECTIONS if soft < 0 else max(4, min(MOST_CONNECTIONS, soft // 4))


def _serve(loop: asyncio.AbstractEventLoop, server: _Server) -> None:
    with closing(loop):
        loop.run_until_complete(server.serve())


@dataclass(eq=False, slots=True)
class _Connection:
    """`is_asked`: its request is there, and no answer yet."""

    socket: socket.socket
    task: asyncio.Task[None] | None = None
    is_asked: bool = False


@dataclass(slots=True)
class _Server:
    listener: socket.socket
    pages: Pages
    allowed: AllowedHosts
    most: int
    _connections: dict[_Connection, None] = field(default_factory=dict)  # the oldest first
    _pages_under_way: int = 0
    _accepting: asyncio.Task[None] | None = None

    def stop(self) -> None:
        """End the server: its thread ends soon."""
        if self._accepting:
            self._accepting.cancel()

    async def serve(self) -> None:
        self._accepting = asyncio.create_task(self._accept())
        with suppress(asyncio.CancelledError):
            await self._accepting
        for connection in [*self._connections]:
            self._drop(connection)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, _ = await loop.sock_accept(self.listener)
            except OSError as error:  # out of descriptors, or the client has gone
                log.debug("--listen cannot take a connection: %s", error)
                self._make_room()
                await asyncio.sleep(_PAUSE_S)
                continue
            if len(self._connections) >= self.most:
                self._make_room()
            connection = _Connection(client)
            self._connections[connection] = None
            connection.task = asyncio.create_task(self._converse(connection))
            await asyncio.sleep(0)  # what it has sent is read before another can take its place

    def _make_room(self) -> None:
        """Drop the oldest connection that waits for no answer; where each does, the oldest."""
        others = (c for c in self._connections if not c.is_asked)
        oldest = next(others, None) or next(iter(self._connections), None)
        if oldest:
            self._drop(oldest)

    def _drop(self, connection: _Connection) -> None:
        """Close it at once: its descriptor is needed now."""
        self._connections.pop(connection, None)
        if connection.task:
            connection.task.cancel()
        loop = asyncio.get_running_loop()
        loop.remove_reader(connection.socket)
        loop.remove_writer(connection.socket)
        connection.socket.close()

    async def _converse(self, connection: _Connection) -> None:
        """One request and one response, then the end."""
        try:
            await self._answer(connection)
        except (OSError, TimeoutError):
            log.debug("a client of --listen went away")
        finally:
            if connection in self._connections:
                self._drop(connection)

    async def _answer(self, connection: _Connection) -> None:
        loop = asyncio.get_running_loop()
        has_more = True  # it may go on to send: a body, or a second request
        method = ""
        try:
            async with asyncio.timeout(_REQUEST_S):
                head, has_more = await _receive_head(connection.socket)
            connection.is_asked = True
            request = read_head(head, self.allowed)
            method = request.method
            response = await self._response(request)
        except TimeoutError:
            response = Response(408, f"no request came within {_REQUEST_S:g} s\n".encode())
        except Refused as refused:
            has_more = True
            response = Response(refused.status, f"{refused}\n".encode())
        connection.is_asked = False
        async with asyncio.timeout(_RESPONSE_S):
            await loop.sock_sendall(connection.socket, _encoded(response, method))
        if has_more:
            await _say_farewell(connection.socket)

    async def _response(self, request: Request) -> Response:
        page = self.pages.get(request.path)
        if page is None:
            return Response(404, f"not found; there are {', '.join(self.pages)}\n".encode())
        if not page.may_block:
            return _made(request.path, page)
        if self._pages_under_way >= _MOST_PAGES:
            return Response(503, f"{_MOST_PAGES} requests wait already; ask later\n".encode())
        return await self._in_thread(request.path, page)

    async def _in_thread(self, path: str, page: Page) -> Response:
        """Not by `asyncio.to_thread`: its threads keep a process from ending while they hang."""
        loop = asyncio.get_running_loop()
        made: asyncio.Future[Response] = loop.create_future()

        def keep(response: Response) -> None:
            self._pages_under_way -= 1
            if not made.done():
                made.set_result(response)

        def make() -> None:
            response = _made(path, page)
            with suppress(RuntimeError):  # the server has ended meanwhile
                loop.call_soon_threadsafe(keep, response)

        try:
            threading.Thread(target=make, name="listen-page", daemon=True).start()
        except RuntimeError as error:  # no thread can be started
            return Response(503, f"{refusal_of(error) or error}\n".encode())
        self._pages_under_way += 1
        return await made


async def _receive_head(client: socket.socket) -> tuple[bytes, bool]:
    """The head, and whether more has come, or is announced to come, after it."""
    loop = asyncio.get_running_loop()
    received = bytearray()
    while not (end := end_of_head(received)):
        piece = await loop.sock_recv(client, 4096)
        if not piece:
            raise ConnectionResetError
        received += piece
    has_body = _BODY.search(received, 0, end) is not None
    return bytes(received[:end]), has_body or len(received) > end


async def _say_farewell(client: socket.socket) -> None:
    """Take what is still sent: closed before, the system would take back the response too."""
    client.shutdown(socket.SHUT_WR)
    with suppress(TimeoutError):
        async with asyncio.timeout(_FAREWELL_S):
            while await asyncio.get_running_loop().sock_recv(client, 65_536):  # noqa: ASYNC110
                await asyncio.sleep(0)  # lets the others go on


def _made(path: str, page: Page) -> Response:
    try:
        return page.respond()
    except Exception as error:
        if refusal := refusal_of(error):
            log.error("%s: %s", path, refusal)  # noqa: TRY400 - it is no bug
            return Response(500, f"{refusal}\n".encode())
        log.critical("a bug; please report it with what follows", exc_info=True)
        return Response(500, b"a bug, see the log\n")


def _encoded(response: Response, method: str) -> bytes:
    lines = [
        f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}",
        "Server: heatmap-etl",
        f"Content-Type: {response.content_type}",
        f"Content-Length: {len(response.body)}",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        "Content-Security-Policy: default-src 'none'; frame-ancestors 'none'",
        "Cross-Origin-Resource-Policy: same-origin",
        "Connection: close",
    ]
    if response.status == HTTPStatus.METHOD_NOT_ALLOWED:
        lines.append("Allow: GET, HEAD")
    head = "\r\n".join([*lines, "", ""]).encode()
    return head if method == "HEAD" else head + response.body
