"""The HTTP/1.1 server around the endpoints: connections, rate limit, compression, request log."""

from __future__ import annotations

import contextlib
import gzip
import signal
import socket
import socketserver
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import FrameType, TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl

from etl.fake_datadog.api import API_KEY, APP_KEY, BEARER_TOKEN, Api, Keys, Reply, Request
from etl.fake_datadog.faults import SLOW_S, Faults, refusal, spoiled
from etl.fake_datadog.rate_limit import RateLimit
from etl.fake_datadog.world import World

# Far above what one machine asks: nothing waits unless a limit is set on purpose.
DEFAULT_RATE_LIMIT = (100_000, 10)
KEPT_REQUESTS = 10_000
GZIP_FROM_BYTES = 1024
KEY_HEADERS = ("dd-api-key", "dd-application-key", "authorization")


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """A request that came in; header names in lower case, the keys removed."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]


class FakeDatadog:
    """A server for one world, a context manager: it answers between enter and exit.

    `port` 0 takes any free one. `page_default` and `page_max` apply to `page[limit]`;
    `rate_limit` is (requests, seconds); `latency_s` is added to every answer;
    `faults` spoil some.
    """

    def __init__(
        self,
        world: World,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        api_key: str = API_KEY,
        app_key: str = APP_KEY,
        bearer_token: str = BEARER_TOKEN,
        page_default: int = 10,
        page_max: int = 1000,
        rate_limit: tuple[int, int] | None = None,
        latency_s: float = 0.0,
        faults: Faults | None = None,
    ) -> None:
        self.world = world
        self.faults = faults or Faults()
        self._requests: deque[RecordedRequest] = deque(maxlen=KEPT_REQUESTS)
        self._request_count = 0
        self._api = Api(world, Keys(api_key, app_key, bearer_token), page_default, page_max)
        self._rate_limit = RateLimit(*(rate_limit or DEFAULT_RATE_LIMIT), clock=time.time)
        self._latency_s = latency_s
        self._lock = threading.Lock()
        self._has_ended = threading.Event()
        self._server = _Server((host, port), self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.daemon = True

    @property
    def url(self) -> str:
        """Where it answers, without a slash at the end."""
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    @property
    def request_count(self) -> int:
        """How many requests came in, including refused ones."""
        return self._request_count

    @property
    def requests(self) -> list[RecordedRequest]:
        """The last `KEPT_REQUESTS` requests, oldest first."""
        with self._lock:
            return list(self._requests)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._has_ended.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._server.close_connections()

    def answer(self, request: Request) -> tuple[Reply, dict[str, str]]:
        """The reply and its rate-limit headers."""
        headers = {name: v for name, v in request.headers.items() if name not in KEY_HEADERS}
        recorded = RecordedRequest(request.method, request.path, dict(request.query), headers)
        with self._lock:
            self._request_count += 1
            self._requests.append(recorded)
        kinds = self.faults.draw(request)
        if wait_s := self._latency_s + SLOW_S * ("slow" in kinds):
            self._has_ended.wait(wait_s)
        permit = self._rate_limit.take(_limit_name(request.path))
        limits = permit.headers
        if "429" in kinds:
            limits |= {"X-RateLimit-Remaining": "0", "Retry-After": limits["X-RateLimit-Reset"]}
        reply = refusal(kinds) or (self._api.answer(request) if permit.allowed else Reply(429))
        return spoiled(reply, kinds, request), limits


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], datadog: FakeDatadog) -> None:
        self.datadog = datadog
        self._connections: set[Any] = set()
        self._changed = threading.Condition()
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        # HTTPServer.server_bind looks up the name of the host, which can take seconds.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._changed:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        with self._changed:
            self._connections.discard(request)
            self._changed.notify_all()

    def close_connections(self) -> None:
        """End kept-alive connections: a stopped server would go on answering them."""
        with self._changed:
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            self._changed.wait_for(lambda: not self._connections, timeout=2.0)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that disconnect; print any other error, which is a bug."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "fake-datadog"
    sys_version = ""
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body leave in one write
    server: _Server

    def do_GET(self) -> None:
        try:
            length = int(self.headers.get("Content-Length") or 0)
        except ValueError:
            length = -1
        if length < 0 or "Transfer-Encoding" in self.headers:
            self.send_error(411)  # closes the connection: where the body ends is unknown
            return
        path, _, query = self.path.partition("?")
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(
            method=self.command,
            path=path,
            query=dict(parse_qsl(query, keep_blank_values=True)),
            headers=headers,
            body=self.rfile.read(length) if length else b"",
        )
        reply, limits = self.server.datadog.answer(request)
        self._send(reply, limits, is_gzip_wanted="gzip" in headers.get("accept-encoding", ""))

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815 - named by the base class

    def _send(self, reply: Reply, limits: dict[str, str], *, is_gzip_wanted: bool) -> None:
        body = reply.body
        self.send_response_only(reply.status)
        self.send_header("Server", self.version_string())
        self.send_header("Date", self.date_time_string(time.time() + reply.clock_offset_s))
        if reply.status != 204:
            self.send_header("Content-Type", reply.content_type)
        if is_gzip_wanted and len(body) > GZIP_FROM_BYTES:
            body = _compressed(body)
            self.send_header("Content-Encoding", "gzip")
        if reply.status != 204:
            self.send_header("Content-Length", str(len(body)))
        for name, value in limits.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if reply.is_cut else body)
        self.close_connection |= reply.is_cut

    def log_message(self, *_: object) -> None:
        """No log lines: the client logs its requests."""


@lru_cache(maxsize=32)
def _compressed(body: bytes) -> bytes:
    # Cached: most responses are requested again unchanged, and this is the slowest step.
    return gzip.compress(body, compresslevel=1, mtime=0)


def _limit_name(path: str) -> str:
    if path.startswith("/api/v2/replay/heatmap/"):
        return "rum_replay_heatmap_snapshots"
    return "rum_public_api" if path.startswith("/api/v2/rum/") else "public_api"


def serve(
    world: World,
    *,
    host: str,
    port: int,
    tick_every_s: float | None,
    latency_s: float = 0.0,
    faults: Faults | None = None,
    on_ready: Callable[[str], None],
) -> None:
    """Serve in the foreground until SIGINT or SIGTERM, then return.

    `on_ready` gets the URL. Every `tick_every_s` seconds the world ticks. Call it in the main
    thread, where signals arrive. Raises OSError when the port is taken.
    """
    never = threading.Event()
    with (
        _sigterm_as_interrupt(),
        contextlib.suppress(KeyboardInterrupt),
        FakeDatadog(world, host=host, port=port, latency_s=latency_s, faults=faults) as datadog,
    ):
        on_ready(datadog.url)
        while not never.wait(tick_every_s):
            world.tick()


@contextlib.contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous_handler = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous_handler)
