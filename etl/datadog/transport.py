"""One HTTP exchange -> its reply, network errors included.

Holds the connection pool, the keys in its headers, and the sockets, so that
requests under way can be ended. Knows no endpoint and no meaning of a status.
"""

from __future__ import annotations

import contextlib
import gzip
import logging
import os
import re
import socket
import ssl
import sys
import threading
import weakref
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any
from urllib.request import getproxies

import httpx
import msgspec

from etl import __version__
from etl.config.credentials import Keys
from etl.config.model import Config
from etl.errors import ConfigError

CONNECT_S = 10.0
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


class Reply(msgspec.Struct):
    """What came of one HTTP exchange. `broken`: the network error, "" for none."""

    arrived_at: datetime
    status: int | None = None  # None: no status line arrived
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    body: bytes = b""
    broken: str = ""
    is_unknown_host: bool = False


class Transport:
    """One connection pool for all threads. Raises ConfigError as `Client` does.

    `codes` counts the exchanges by status code.
    """

    def __init__(
        self,
        config: Config,
        keys: Keys,
        stop: threading.Event,
        *,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float],
        codes: Counter[str] | None,
    ) -> None:
        self.is_closed = False
        self._longest_body_s = max(config.timeout_s, config.max_wait_s)
        self._stop = stop
        self._clock = clock
        self._monotonic = monotonic
        self._codes = Counter() if codes is None else codes
        self._lock = threading.Lock()
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        for name in CHATTY_LOGGERS:
            logging.getLogger(name).addFilter(_is_warning)
        self._client = _client(config, keys)

    def close(self) -> None:
        """Close the connections; requests under way in other threads break at once."""
        with self._lock:
            self.is_closed = True
            for connection in self._sockets:
                _shut(connection)
        self._client.close()

    def send(
        self,
        request: httpx.Request,
        on_head: Callable[[int, Mapping[str, str]], None],
        *,
        is_fresh: bool = False,  # noqa: ARG002 - not yet
        within_s: float | None = None,  # noqa: ARG002 - not yet
    ) -> Reply:
        """One exchange; `on_head` gets status and headers before the body is read."""
        reply, started = Reply(self._clock()), self._monotonic()
        try:
            with self._open(request) as response:
                reply.status, reply.headers = response.status_code, response.headers
                on_head(response.status_code, response.headers)
                reply.body = _unpack(b"".join(self._chunks(response, started)), response.headers)
        except httpx.HTTPError as error:
            reply.broken = f"{type(error).__name__}: {error}"
            reply.is_unknown_host = _is_unknown_host(error)
        reply.arrived_at = self._clock()
        with self._lock:
            self._codes[str(reply.status or NO_ANSWER)] += 1
        return reply

    def _open(self, request: httpx.Request) -> contextlib.AbstractContextManager[httpx.Response]:
        sent = self._client.build_request(
            request.method,
            request.url,
            content=request.content or None,
            headers={n: v for n, v in request.headers.items() if n == "content-type"},
            extensions={"trace": self._trace},
        )
        if request.extensions.get(API_KEY_ALONE):
            sent.headers.pop("DD-APPLICATION-KEY", None)
        return contextlib.closing(self._client.send(sent, stream=True))

    def _chunks(self, response: httpx.Response, started: float) -> Iterator[bytes]:
        """The body as sent. httpx's timeout is for each read: a byte now and then passes it."""
        end = started + self._longest_body_s
        for chunk in response.iter_raw():
            if self._stop.is_set() or self.is_closed:
                raise httpx.ReadError("stopped while reading")
            if self._monotonic() > end:
                raise httpx.ReadTimeout("the body takes too long")
            yield chunk

    def _trace(self, event: str, info: Mapping[str, Any]) -> None:
        """httpcore's hook: keep the sockets, so that `close` can end requests under way."""
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            connection = info["return_value"].get_extra_info("socket")
            with self._lock:
                self._sockets.add(connection)
                if self.is_closed:
                    _shut(connection)


def _is_unknown_host(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, socket.gaierror):
            return True
        error = error.__cause__ or error.__context__
    return False


def _unpack(body: bytes, headers: Mapping[str, str]) -> bytes:
    """The body without its gzip. httpx's own decoder takes a cut stream for a whole one."""
    encoding = headers.get("Content-Encoding", "").strip().lower()
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "x-gzip"):
        raise httpx.DecodingError(f"Content-Encoding {encoding}, which was not asked for")
    try:
        return gzip.decompress(body)
    except (OSError, EOFError, zlib.error) as error:
        raise httpx.DecodingError(f"bad gzip: {error}") from None


def _client(config: Config, keys: Keys) -> httpx.Client:
    try:
        return httpx.Client(
            headers={
                "Accept": "application/json",
                "Accept-Encoding": "gzip",
                "User-Agent": USER_AGENT,
                **_auth_headers(keys),
            },
            # None would let a user name in the URL become an Authorization header.
            auth=httpx.Auth(),
            timeout=httpx.Timeout(
                config.timeout_s, connect=min(CONNECT_S, config.timeout_s), pool=None
            ),
            limits=httpx.Limits(
                max_connections=config.concurrency, max_keepalive_connections=config.concurrency
            ),
            follow_redirects=False,
            verify=_certificates(config),
        )
    except OSError as error:
        problem = f"SSL_CERT_FILE, SSL_CERT_DIR: no usable certificates ({error})"
    except (ValueError, ImportError, httpx.InvalidURL):
        # Their texts quote the proxy's URL, which may hold a password.
        problem = "HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY: not a proxy that can be used"
    raise ConfigError([problem])


def default_certificates() -> ssl.SSLContext:
    """httpx's own choice: SSL_CERT_FILE, else SSL_CERT_DIR, else certifi's. Raises OSError."""
    return httpx.create_ssl_context()


def _certificates(config: Config) -> ssl.SSLContext | bool:
    """httpx's own certificates; none for plain http, as reading them all takes a tenth of a run.

    A context without certificates trusts no server.
    """
    is_chosen = os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR")
    if is_chosen or getproxies() or not config.api_url.startswith("http://"):
        return True
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _auth_headers(keys: Keys) -> dict[str, str]:
    headers = {"DD-API-KEY": keys.api_key, "DD-APPLICATION-KEY": keys.app_key}
    if keys.bearer_token:
        headers = {"Authorization": f"Bearer {keys.bearer_token}"}
    problem = "the key for it is missing or holds a character that no header can carry"
    bad = [n for n, key in headers.items() if not re.fullmatch(r"(Bearer )?[\x21-\x7e]+", key)]
    if bad:
        raise ConfigError([f"{name}: {problem}" for name in bad])
    return headers


def _is_warning(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING


def _shut(connection: socket.socket) -> None:
    """Wake the thread that reads from it, which closing does not do."""
    with contextlib.suppress(OSError):
        # Not SSLSocket's own, which drops the TLS state under the reading thread.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
