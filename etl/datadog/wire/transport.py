"""One HTTP exchange -> its reply, network errors included.

Holds the connections, the keys in their headers, and the one deadline of each exchange. Knows no
endpoint and no meaning of a status.
"""

from __future__ import annotations

import logging
import os
import re
import ssl
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

import httpcore
import httpx
import msgspec

from etl import __version__
from etl.config.credentials import Keys
from etl.config.model import Config
from etl.datadog.wire.body import LARGE_BYTES, BadEncoding, Body, BodyTooLarge
from etl.datadog.wire.connection import NETWORK_FAULTS, Connection, Gateway
from etl.datadog.wire.deadline import Deadline
from etl.datadog.wire.network import CertificateError
from etl.datadog.wire.network_faults import is_unknown_host, network_text, proxy_problem
from etl.datadog.wire.proxy import Proxy, find_proxy
from etl.errors import ConfigError
from etl.library_faults import name_of, said_of

MB = 1024 * 1024
NO_ANSWER = "none"
API_KEY_ALONE = "api_key_alone"
"""The extension of a request that is sent without the application key."""
USER_AGENT = (
    f"heatmap-etl/{__version__} (Python {sys.version_info.major}.{sys.version_info.minor};"
    " Datadog heatmap snapshots to SQL)"
)
# At DEBUG these print response headers, in which a proxy may echo the keys, and at INFO the URL
# with any password in it. Filters of a parent do not apply to its children: all are named.
CHATTY_LOGGERS = ("httpx", *(f"httpcore.{p}" for p in ("connection", "http11", "proxy", "socks")))

log = logging.getLogger("etl.datadog.client")  # one logger for all that happens to a request


class Reply(msgspec.Struct):
    """What came of one HTTP exchange.

    `broken`: what went wrong on the network, in words that may quote the other side, "" for
    nothing; `kind`: the same in one word. `is_proxy_fault`: it went wrong at the proxy itself.
    `refused_by`: the proxy that wants to know who asks, "" for none.
    """

    arrived_at: datetime
    status: int | None = None  # None: no status line arrived
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    body: bytes = b""
    broken: str = ""
    kind: str = ""
    is_unknown_host: bool = False
    is_untrusted: bool = False  # the certificate
    is_too_large: bool = False  # the body
    is_proxy_fault: bool = False
    refused_by: str = ""
    is_old: bool = False  # a cache must have kept it: its `Date` is older than that of others


class Terms(msgspec.Struct, frozen=True):
    """How one exchange is made; the seconds count from its beginning.

    It ends within `within_s`; None: `max_wait_s`. Its head has `head_s`; None: `timeout_s`, and no
    more than `within_s`. `is_fresh`: on a new connection. `on_large` is called when the body of a
    200 has grown large, with the seconds that it may wait; False: it did not; None: no body may be
    large.
    """

    on_large: Callable[[float], bool] | None = None
    is_fresh: bool = False
    head_s: float | None = None
    within_s: float | None = None


USUAL = Terms()


class Transport:
    """The connections of all threads. Raises ConfigError as `Client` does.

    `codes` counts the exchanges by status code.
    """

    def __init__(
        self,
        config: Config,
        keys: Keys,
        stop: threading.Event,
        *,
        clock: Callable[[], datetime],
        codes: Counter[str] | None,
    ) -> None:
        self.is_closed = False
        self._timeout_s = config.timeout_s
        self._longest_s = max(config.timeout_s, config.max_wait_s)
        self._max_body_mb = config.max_body_mb
        self._stop = stop
        self._clock = clock
        self._codes = Counter() if codes is None else codes
        self._lock = threading.Lock()
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._has_told_surplus = False
        for name in CHATTY_LOGGERS:
            logging.getLogger(name).addFilter(_is_warning)
        self._headers = {
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
            "Cache-Control": "no-cache, no-store",
            "Connection": "keep-alive",
            "User-Agent": USER_AGENT,
            **_auth_headers(keys),
        }
        self._proxy = find_proxy(config.api_url, os.environ)
        self._gateway = _gateway(config, self._proxy)

    def close(self) -> None:
        """Close the connections; requests under way in other threads break at once."""
        with self._lock:
            self.is_closed = True
            for connection in self._open:
                connection.end()
            idle, self._idle = self._idle, []
        for connection in idle:
            self._drop(connection)

    def send(
        self,
        request: httpx.Request,
        on_head: Callable[[int, Mapping[str, str]], None],
        terms: Terms = USUAL,
    ) -> Reply:
        """One exchange. `on_head` gets status and headers before the body is read; the time that it
        takes does not count.
        """
        deadline, on_large = self._deadline(terms), terms.on_large
        reply = Reply(self._clock())
        connection = self._take(is_fresh=terms.is_fresh)
        try:
            response = connection.ask(self._core_request(request), deadline)
            with connection.body(response) as chunks:
                reply.status, reply.headers = response.status, httpx.Headers(response.headers)
                before = time.monotonic()
                on_head(reply.status, reply.headers)
                deadline.leave_out(time.monotonic() - before)
                deadline.wait_for_the_rest()
                reply.body = self._body(chunks, reply, deadline, on_large)
            if self._proxy and reply.status == 407:
                reply.refused_by = self._proxy.label
        except NETWORK_FAULTS as error:
            self._note_fault(reply, error, connection, deadline)
        except BadEncoding as error:
            reply.kind, reply.broken = "DecodingError", str(error)
        except BodyTooLarge:
            most_mb = self._most_mb(reply.status, can_wait=on_large is not None)
            name = "datadog.max_body_mb = " * (most_mb == self._max_body_mb)
            reply.kind, reply.is_too_large = "BodyTooLarge", True
            reply.broken = f"the answer is larger than {name}{most_mb} MB"
        finally:
            self._give_back(connection, is_well=not reply.kind)
        reply.arrived_at = self._clock()
        with self._lock:
            self._codes[str(reply.status or NO_ANSWER)] += 1
        return reply

    def _deadline(self, terms: Terms) -> Deadline:
        all_s = self._longest_s if terms.within_s is None else terms.within_s
        head_s = min(self._timeout_s, all_s) if terms.head_s is None else terms.head_s
        return Deadline(head_s, all_s)

    def _core_request(self, request: httpx.Request) -> httpcore.Request:
        own = ("host", "content-type", "content-length")
        headers = [(name, value) for name, value in request.headers.items() if name in own]
        left_out = "DD-APPLICATION-KEY" if request.extensions.get(API_KEY_ALONE) else ""
        headers += [(name, value) for name, value in self._headers.items() if name != left_out]
        return httpcore.Request(
            request.method,
            self._gateway.url(request.url),
            headers=headers,
            content=request.content or None,
        )

    def _body(
        self,
        chunks: Iterable[bytes],
        reply: Reply,
        deadline: Deadline,
        on_large: Callable[[float], bool] | None,
    ) -> bytes:
        """The body, unpacked. httpx would keep it twice, and take a cut gzip for a whole one."""

        def wait_for_turn() -> None:
            before = time.monotonic()
            if on_large and not on_large(deadline.all_s):
                deadline.stage = "other large answers came first"
                raise httpcore.ReadTimeout
            deadline.leave_out(time.monotonic() - before)

        most_bytes = MB * self._most_mb(reply.status, can_wait=on_large is not None)
        length = reply.headers.get("Content-Length", "")
        if length.isascii() and length.isdigit() and int(length[:20]) > most_bytes:
            raise BodyTooLarge
        body = Body(reply.headers.get("Content-Encoding", ""), most_bytes, wait_for_turn)
        for chunk in chunks:
            body.add(chunk)
        return body.whole()

    def _most_mb(self, status: int | None, *, can_wait: bool) -> int:
        """MB that a body may have: a refusal enough for its text, and large only who waits."""
        if status != 200:
            return 1
        return self._max_body_mb if can_wait else min(self._max_body_mb, LARGE_BYTES // MB)

    def _take(self, *, is_fresh: bool) -> Connection:
        """An idle connection that can be used again, or a new one."""
        while idle := self._pop_idle():
            if not is_fresh and idle.is_reusable():
                return idle
            self._drop(idle)
            if is_fresh:
                break
        connection = Connection(self._gateway, lambda: self.is_closed or self._stop.is_set())
        with self._lock:
            self._open.add(connection)
            if self.is_closed:
                connection.end()
        return connection

    def _pop_idle(self) -> Connection | None:
        with self._lock:
            return self._idle.pop() if self._idle else None

    def _give_back(self, connection: Connection, *, is_well: bool) -> None:
        """Keep a connection for the next exchange, or close it."""
        is_reusable = is_well and connection.is_reusable()
        with self._lock:
            if is_reusable and not self.is_closed:
                self._idle.append(connection)
                return
        self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        connection.close()
        with self._lock:
            self._open.discard(connection)
            if not connection.had_surplus or self._has_told_surplus:
                return
            self._has_told_surplus = True
        log.info("the server sent bytes without a request: this connection is not used again")

    def _note_fault(
        self, reply: Reply, error: Exception, connection: Connection, deadline: Deadline
    ) -> None:
        is_late = isinstance(error, httpcore.TimeoutException)
        reply.kind = type(error).__name__
        reply.is_proxy_fault = connection.is_at_proxy
        problem = proxy_problem(error, self._proxy) if reply.is_proxy_fault else ""
        reply.broken = (
            str(deadline) if is_late else (f"{problem or deadline.stage}: {network_text(error)}")
        )
        reply.is_unknown_host = is_unknown_host(error)
        reply.is_untrusted = isinstance(error, CertificateError)
        is_refusal = isinstance(error, httpcore.ProxyError) and said_of(error).startswith("407")
        if self._proxy and is_refusal:
            reply.refused_by = self._proxy.label


def _gateway(config: Config, proxy: Proxy | None) -> Gateway:
    is_tls = config.api_url.startswith("https://")
    try:
        certificates = _certificates(config, proxy)
    except Exception as error:  # noqa: BLE001 - ssl, certifi and the files that are named
        reason = said_of(error) if isinstance(error, OSError) else name_of(error)
        problem = f"SSL_CERT_FILE, SSL_CERT_DIR: no usable certificates ({reason})"
        raise ConfigError([problem]) from None
    return Gateway(certificates, proxy, is_tls=is_tls)


def default_certificates() -> ssl.SSLContext:
    """httpx's own choice: SSL_CERT_FILE, else SSL_CERT_DIR, else certifi's. Raises OSError."""
    return httpx.create_ssl_context()


def _certificates(config: Config, proxy: Proxy | None) -> ssl.SSLContext:
    """httpx's own certificates; none for plain http, as reading them all takes a tenth of a run.

    A context without certificates trusts no server.
    """
    is_chosen = os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR")
    urls = [config.api_url, *([proxy.url] if proxy else [])]
    if is_chosen or not all(url.startswith("http://") for url in urls):
        return default_certificates()
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _auth_headers(keys: Keys) -> dict[str, str]:
    headers = {"DD-API-KEY": keys.api_key, "DD-APPLICATION-KEY": keys.app_key}
    if keys.bearer_token:
        headers = {"Authorization": f"Bearer {keys.bearer_token}"}
    problem = "its key is missing or holds a character that no header can carry"
    bad = [n for n, key in headers.items() if not re.fullmatch(r"(Bearer )?[\x21-\x7e]+", key)]
    if bad:
        raise ConfigError([f"{name}: {problem}" for name in bad])
    return headers


def _is_warning(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING
